#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the seeds of fuzz_frame, fuzz_batch, fuzz_history and fuzz_blocks: one of each thing that is accepted, and some that are not.

Deterministic; run it again after a change of the formats (src/wire/frame.h, src/wire/batch.h)."""
import hashlib
import pathlib
import struct

HERE = pathlib.Path(__file__).parent / "corpus"
PAGE = 4096


def piece_digest(raw):
    """src/crypto/piece_digest.h"""
    leaves = (raw[at:at + PAGE] for at in range(0, len(raw), PAGE))
    return hashlib.sha256(b"".join(hashlib.sha256(leaf).digest() for leaf in leaves)).digest()


def frame(kind, channel, argument, payload=b"", flags=0):
    return struct.pack(">IBBHQ", len(payload), kind, channel, flags, argument) + payload


def hello(version=1, lowest=1, index=0, streams=4, role=1, extra=b""):
    return frame(1, 0, 0, struct.pack(">4sHHHHBBHIIQ", b"NCW1", version, lowest, index, streams, role, 0, 0, 512 << 10, 512,
                                      64 << 20) + extra)


def frames():
    sha = hashlib.sha256(b"").digest()
    batch = struct.pack(">QI32sBBHIII", 0, 3, piece_digest(b"abc"), 0, 0, 0, 5, 5, 0) + b"\x01\x03abc"
    session = [hello(), frame(2, 1, 0, batch), frame(3, 1, 0, struct.pack(">Q", 3)), frame(4, 0, 123456), frame(5, 0, 123456),
               frame(6, 1, 7, struct.pack(">Q", 3) + sha), frame(7, 1, 3, sha), frame(8, 1, 3, sha),
               frame(9, 0, 0, b"\x07timeoutnobody answered"), frame(10, 0, 0)]
    names = ["hello", "batch", "ack", "ping", "pong", "grant", "digest", "end", "error", "bye"]
    yield from zip(names, session)
    yield "session", b"".join(session)
    yield "hello_destination", hello(index=3, role=2)
    yield "hello_later", hello(version=3, extra=b"more to come")
    yield "hello_too_new", hello(version=3, lowest=2)
    yield "error_unknown_code", frame(9, 0, 0, b"\x03newsomething new")
    yield "ack_return", frame(3, 2, 99, struct.pack(">Q", 1 << 40))
    yield "bad_flags", frame(4, 0, 1, flags=1)
    yield "bad_long_ping", frame(4, 0, 1, b"x" * 100)
    yield "cut", frame(6, 1, 7, struct.pack(">Q", 3) + sha)[:40]


def payload(raw, meta, bulk=b"", codec=0, level=0, meta_coded=None, bulk_coded=None):
    flags = (1 if meta_coded else 0) | (2 if bulk_coded else 0)
    here = meta_coded or meta
    head = struct.pack(">QI32sBbHIII", 4096, len(raw), piece_digest(raw), codec, level, flags, len(here), len(meta),
                       len(bulk))
    return b"\0" + head + here + (bulk_coded or bulk)


def varint(n):
    out = b""
    while n >= 0x80:
        out += bytes([n & 0x7f | 0x80])
        n >>= 7
    return out + bytes([n])


def literal(data):
    return b"\x01" + varint(len(data)) + data


def lz4_run(head, byte, n):
    """An LZ4 block: head and one byte as literals, a match of distance 1, five literals at the end; n bytes behind head."""
    rest = n - 6 - 4 - 15
    return (bytes([(len(head) + 1) << 4 | 15]) + head + byte + b"\x01\x00" + b"\xff" * (rest // 255) + bytes([rest % 255]) +
            b"\x50" + byte * 5)


def zstd_run(head, byte, n):
    """A Zstandard frame: single segment, size in four bytes, a plain block if there is a head, a block of repeated bytes."""
    plain = struct.pack("<I", len(head) << 3)[:3] + head if head else b""
    return (struct.pack("<IBI", 0xFD2FB528, 0xA0, len(head) + n) + plain +
            struct.pack("<I", 1 | 1 << 1 | n << 3)[:3] + byte)


def words(first, n):
    return [struct.pack(">Q", first + i * PAGE) for i in range(n)]


def payloads():
    page = bytes(range(256)) * 16
    named = struct.pack(">Q", 0x08) + b"\x06pc.ram"
    yield "literal", payload(b"abc", literal(b"abc"))
    yield "pages", payload(b"".join(w + page for w in words(0x28, 2)), b"\x02" + words(0x28, 1)[0] + b"\x02\x01\x02", page * 2)
    yield "fill", payload(b"".join(w + b"\x2a" * PAGE for w in words(0x28, 3)),
                          b"\x02" + words(0x28, 1)[0] + b"\x03\x02\x03" + b"\x2a" * 8)
    yield "mixed", payload(words(0x28, 1)[0] + page + words(0x1028, 1)[0] + b"\x07" * PAGE,
                           b"\x02" + words(0x28, 1)[0] + b"\x02\x01\x01\x02\x01" + b"\x07" * 8, page)
    yield "zeros", payload(b"".join(w + b"\0" for w in words(0x22, 200)), b"\x03" + words(0x22, 1)[0] + varint(200))
    yield "named", payload(named + page, literal(named) + b"\x04\x01", page)
    yield "named_fill", payload(named + b"\0" * PAGE, literal(named) + b"\x04\x02" + b"\0" * 8)
    for codec, level, run in ((1, 0, lz4_run), (2, 1, zstd_run)):
        name = ("lz4", "zstd")[codec - 1]
        page_of_ones = b"\x01" * PAGE
        yield name + "_bulk", payload(named + page_of_ones, literal(named) + b"\x04\x01", page_of_ones, codec, level,
                                      bulk_coded=run(b"", b"\x01", PAGE))
        ones = b"\x01" * 300
        yield name + "_meta", payload(ones, literal(ones), b"", codec, level, meta_coded=run(literal(ones)[:3], b"\x01", 300))
    yield "bad_class", payload(b"\0" * 4104, b"\x02" + b"\0" * 8 + b"\x01\x03\x01")
    yield "bad_count", payload(b"\0" * 27, b"\x03" + b"\0" * 8 + b"\xff\xff\xff\xff\xff\xff\xff\xff\x7f")
    yield "bad_length", payload(b"", literal(b"abc"))
    # Mode 2: with stored pages, 300 of them, each filled with its number; each seventh can't be had.
    for number in (8, 299, 14, 300, 1 << 40):
        yield f"stored_{number}", b"\x02" + payload(bytes([number & 0xff]) * PAGE, b"\x04\x07" + varint(number))[1:]
    yield "stored_run", b"\x02" + payload(b"".join(w + bytes([8 + i]) * PAGE for i, w in enumerate(words(0x28, 3))),
                                          b"\x02" + words(0x28, 1)[0] + b"\x03\x07\x03\x08\x09\x0a")[1:]
    yield "stored_blocks", b"\x02" + payload(b"\x08" * PAGE, b"\x07\x01\x07\x01\x08")[1:]
    yield "stored_without_a_list", payload(b"\x08" * PAGE, b"\x04\x07\x08")


def round_trips():
    """Mode 1, and 3, with stored pages: how, where and what to damage, records, bytes that are stretched."""
    for how, name in enumerate(("none", "lz4", "zstd", "zstd_fast")):
        records = b"".join(struct.pack(">BHB", kind, start, lie)
                           for kind, start, lie in ((0, 0, 0), (0, 4104, 0), (1, 8208, 0), (0x87, 8217, 0), (0, 100, 0), (0, 12400, 255)))
        for mode, stored in ((b"\x01", ""), (b"\x03", "stored_")):
            yield "stream_" + stored + name, mode + bytes([how | 63 << 2]) + b"\x00\x50\x01\x06" + records + bytes(range(256))
    yield "stream_short", b"\x01\x00\x00\x2c\xff\x00x"


def histories():
    """Mode 0: a delta; 1 and 2: a payload with kept pages, in order and not; 3: a guest's doings."""
    page = bytes(range(256)) * 16
    word = words(0x28, 1)[0]
    yield "delta", b"\x00\x05\x03abc\xff\x01\x01z"
    yield "delta_too_far", b"\x00\xff\x1f\x02ab"
    kept = b"\x05" + word + b"\x02\x03\x01\x02"
    both = b"".join(w + page for w in words(0x28, 2))
    for mode in (1, 2):
        yield f"kept_{mode}", bytes([mode]) + payload(both, kept, page * 2)[1:]
        yield f"single_{mode}", bytes([mode]) + payload(page, b"\x06\x0b\x01", page)[1:]
        yield f"no_such_frame_{mode}", bytes([mode]) + payload(page, b"\x06\x0c\x01", page)[1:]
        flagged = bytearray(payload(b"\0" * PAGE, b"\x06\x02\x03\x05")[1:])  # a reference to a frame of zeros
        flagged[47] |= 4
        yield f"reference_{mode}", bytes([mode]) + bytes(flagged)
        changed = bytearray(payload(b"\1" + b"\0" * (PAGE - 1), b"\x06\x02\x04\x03\x00\x01\x01")[1:])
        changed[47] |= 4
        yield f"difference_{mode}", bytes([mode]) + bytes(changed)
    yield "guest", b"\x03" + bytes(range(1, 255)) * 2
    yield "guest_again", b"\x03" + b"\x07\x01\x05\x02\x01\x05\x03\x02\x81\x01\x03\x41\x07\x03\x00\x00" * 20


def nbd(kind, offset, length, data=b"", flags=0):
    return struct.pack(">IHHQQI", 0x25609513, flags, kind, 1, offset, length) + data


def blocks():
    """Mode 0: an NBD client, in pieces; 1: a payload, with or without a shadow; 2: three channels."""
    page = bytes(range(256)) * 16
    hello = struct.pack(">I", 3) + b"IHAVEOPT" + struct.pack(">II", 7, 6) + b"\0\0\0\0\0\0"
    words = hello + nbd(1, 0, 2 * PAGE, page * 2) + nbd(6, 8 * PAGE, PAGE) + nbd(1, 512, PAGE + 3584, b"x" * (PAGE + 3584)) + nbd(3, 0, 0)
    yield "client", b"\x00\xff" + words
    yield "client_in_pieces", b"\x00\x05" + words + nbd(2, 0, 0)
    extended = struct.pack(">IHHQQQ", 0x21e41c71, 0, 1, 1, 4096, PAGE) + page
    yield "client_extended", b"\x00\x30" + hello + extended + struct.pack(">IHHQQQ", 0x21e41c71, 32, 7, 1, 0, 8) + b"contexts"
    yield "client_stranger", b"\x00\x30" + hello + b"GET / HTTP/1.1"
    for how in (0, 1, 3):
        mode = b"\x01" + bytes([how])
        yield f"blocks_{how}", mode + payload(page * 2, b"\x07\x02\x01\x02", page * 2)[1:]
        yield f"kept_{how}", mode + payload(b"req" + page * 2, literal(b"req") + b"\x08\x02\x03\x01\x02", page * 2)[1:]
        yield f"no_such_frame_{how}", mode + payload(page * 2, b"\x08\x02\x04\x01\x02", page * 2)[1:]
        yield f"reference_{how}", mode + payload(b"\0" * PAGE * 2, b"\x07\x02\x05\x02\x00\x04")[1:]
        yield f"page_reference_{how}", mode + payload(b"\0" * PAGE, b"\x04\x05\x04")[1:]
        yield f"no_such_reference_{how}", mode + payload(b"\0" * PAGE, b"\x04\x05\x05")[1:]
        yield f"held_{how}", mode + payload(b"\0" * PAGE * 2, b"\x07\x02\x06\x02\x00\x04")[1:]
        yield f"no_such_page_{how}", mode + payload(b"\0" * PAGE, b"\x07\x01\x06\x01\x05")[1:]
        yield f"held_by_a_page_{how}", mode + payload(b"\0" * PAGE, b"\x04\x06\x04")[1:]
        yield f"delta_{how}", mode + payload(b"\0" * PAGE, b"\x08\x01\x00\x04\x01\x00")[1:]
    disk = b"\x31\x01\x02\x03" + b"\x34\x37"  # a disk's batch of three blocks, taken, acknowledged
    memory = b"\x30\x13\x1d\x27" + b"\x09\x33\x36"  # pages like them, decoded, taken, acknowledged
    yield "channels", b"\x02" + disk + memory + disk + memory
    yield "channels_mixed", b"\x02" + bytes(range(256)) * 3
    yield "channels_forget", b"\x02" + disk + b"\xf9" + memory + disk + memory


def main():
    for target, seeds in (("fuzz_blocks", blocks()), ("fuzz_history", histories()), ("fuzz_frame", frames()), ("fuzz_batch", [*payloads(), *round_trips()])):
        (HERE / target).mkdir(parents=True, exist_ok=True)
        for name, data in seeds:
            (HERE / target / name).write_bytes(data)


if __name__ == "__main__":
    main()
