#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the seeds of fuzz_page_store: a pack, a run and a manifest, built from the formats' descriptions in
src/store/page_store_{format,run,sections}.h. Checksums are left zero: the target makes them right."""

import hashlib
import os
import struct

OUT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "corpus", "fuzz_page_store")
PACK, RUN, MANIFEST, SHARED = b"\x00", b"\x01", b"\x02", b"\x03"


def pad(data, to):
    return data + bytes(-len(data) % to)


def header(magic, middle, salt=bytes(range(32)), version=1):
    """The 96 bytes that packs and manifests begin with."""
    return magic + struct.pack(">HH", version, 0) + middle + bytes(16) + salt + bytes(24)


def record(kind, coding, blocks, payload):
    table = b"".join(hashlib.sha256(b).digest() + struct.pack(">I", len(b)) for b in blocks)
    raw = sum(len(b) for b in blocks)
    total = len(pad(bytes(64) + table + payload, 16))
    head = b"NCR1" + struct.pack(">BBHIIII", kind, coding, len(blocks), total, raw, len(payload), 0) + bytes(40)
    return pad(head + table + payload, 16)


def zstd(data):
    """A frame of one raw block."""
    return b"\x28\xb5\x2f\xfd\x20" + bytes([len(data)]) + struct.pack("<I", len(data) << 3 | 1)[:3] + data


def pack(records, sealed=True):
    out = header(b"NCPACK01", struct.pack(">III", 0, 0, 1))
    offsets = []
    for one in records:
        offsets.append(len(out))
        out += one
    if sealed:
        payload = pad(b"".join(struct.pack(">I", o) for o in offsets), 16) + header(b"NCPACK01", struct.pack(">III", 0, 0, 1))
        payload += b"NCSEALED" + struct.pack(">IIQQ", len(out), 3, 99, len(offsets))
        out += record(3, 0, [], payload)
    return out


def page(kind, number, rows):
    body = struct.pack(">HHI", kind, len(rows), number) + b"".join(rows)
    return body + bytes(4096 - len(body))


def run(addresses):
    entry_pages = [addresses[i:i + 92] for i in range(0, len(addresses), 92)]
    pages = [page(1, 1 + i, [a + struct.pack(">IIHH", 1, 96, 0, 4095) for a in rows]) for i, rows in enumerate(entry_pages)]
    pages.append(page(2, 1 + len(entry_pages), [struct.pack(">IIIIQ", 1, 4096, 3, 0, 99)]))
    first = b"NCINDEX1" + struct.pack(">HHIIIQII", 1, 0, 1, 1, len(entry_pages), len(addresses), 1, 1) + bytes(16) + bytes(range(8))
    return first + bytes(4096 - len(first)) + b"".join(pages)


def varint(value):
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def section(kind, number, count, payload):
    return b"NCMS" + struct.pack(">BBBBIIII", kind, 0, 0, 0, number, count, len(payload), 0) + bytes(24) + payload


def encode(entries):
    return b"".join(varint(length << 1 | (h is None)) + (h or b"") for h, length in entries)


def manifest(entries, blob, version=1, shared=None):
    """${shared}: the payload of a SHARED section, which then stands for the entries."""
    out = header(b"NCMANIF1", struct.pack(">IQ", 0, 1), version=version)
    out += section(4, 0, len(entries), shared) if shared else section(1, 0, len(entries), encode(entries))
    first = len(out)
    out += section(2, 1, 0, blob)
    end = struct.pack(">QQQQQQ", len(entries), sum(h is not None for h, _ in entries),
                      sum(l for h, l in entries if h is not None), len(blob), first, 1)
    return out + section(3, 2, 0, end)


def shared(parts, payload):
    """What is in the parts, then the payload that names them."""
    return struct.pack(">H", len(parts)) + parts + payload


def main():
    blocks = [b"one" * 20, b"two" * 10, b"x"]
    addresses = sorted(hashlib.sha256(bytes([i])).digest() for i in range(100))
    plain = record(1, 0, blocks, b"".join(blocks))
    coded = record(1, 1, blocks, zstd(b"".join(blocks)))
    void = record(2, 0, [], bytes(100))
    entries = [(a, 4096) for a in addresses[:20]] + [(None, 1 << 30)]
    difference = zstd(encode(entries[:3]))
    seeds = {
        "pack_sealed": PACK + pack([plain, coded, void]),
        "pack_open": PACK + pack([plain, coded], sealed=False),
        "pack_torn": PACK + pack([plain, coded], sealed=False)[:-40],
        "pack_hole": PACK + pack([plain, bytes(208), coded]),
        "pack_empty": PACK + pack([]),
        "run": RUN + run(addresses),
        "run_unsorted": RUN + run(addresses[50:] + addresses[:50]),
        "run_empty": RUN + run([]),
        "manifest": MANIFEST + manifest([(addresses[0], 4096), (None, 1 << 30), (addresses[1], 65536)], b"header"),
        "manifest_cut": MANIFEST + manifest([(addresses[0], 4096)], b"")[:-1],
        "manifest_shared": MANIFEST + manifest(entries, b"header", version=2, shared=b"\x01" + addresses[3]),
        "manifest_difference": MANIFEST + manifest(entries[:3], b"", version=2, shared=b"\x01" + addresses[3] + difference),
        "manifest_later": MANIFEST + manifest(entries, b"", version=3),
        "shared_whole": SHARED + shared(encode(entries), b"\x01" + addresses[3]),
        "shared_difference": SHARED + shared(encode(entries), b"\x02" + addresses[3] + addresses[4] + difference),
        "shared_bomb": SHARED + shared(b"", b"\x01" + addresses[3] + b"\x28\xb5\x2f\xfd\xa0\x00\x00\x00\x7f\x03\x00\x00"),
        "shared_cut": SHARED + shared(encode(entries), b"\x02" + addresses[3] + addresses[4] + difference)[:-9],
        "format": PACK + header(b"NCSTORE1", bytes(4)) + bytes(40),
    }
    os.makedirs(OUT, exist_ok=True)
    for name, data in seeds.items():
        with open(os.path.join(OUT, name), "wb") as file:
            file.write(data)


if __name__ == "__main__":
    main()
