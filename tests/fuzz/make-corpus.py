#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the seeds of fuzz_stream and fuzz_return_path: tests/fuzz/make-corpus.py

The seeds are made of byte tables, never of recordings, which would hold pages
of somebody's firmware. They are committed; this script is how they came to be.
"""
import pathlib
import struct

CORPUS = pathlib.Path(__file__).resolve().parent / "corpus"


def name(text):
    return bytes([len(text)]) + text.encode()


def u16(n):
    return struct.pack(">H", n)


def u32(n):
    return struct.pack(">I", n)


def u64(n):
    return struct.pack(">Q", n)


HEADER = b"QEVM" + u32(3)
MACHINE = HEADER + b"\x07" + u32(13) + b"pc-i440fx-7.2"


def command(number, payload=b""):
    return b"\x08" + u16(number) + u16(len(payload)) + payload


RETURN_PATH = command(1) + command(2, u32(1))
ADVISE = command(3, u64(4096) + u64(4096))


def start(section, idstr, version):
    return b"\x01" + u32(section) + name(idstr) + u32(0) + u32(version)


def footer(section=2):
    return b"\x7e" + u32(section)


END_OF_RAM = u64(0x10)
RAM_BLOCKS = u64(0x5000 | 4) + name("m0") + u64(0x3000) + name("b") + u64(0x2000)
RAM_START = start(2, "ram", 4) + RAM_BLOCKS + END_OF_RAM


def record(offset, flags, block=None, body=b""):
    word = u64(offset | flags | (0 if block else 0x20))
    return word + (name(block) if block else b"") + body


def page(offset, block=None):
    return record(offset, 8, block, bytes([offset >> 12 & 0xff]) * 4096)


def zero(offset, block=None):
    return record(offset, 2, block, b"\0")


def part(*records, kind=2, section=2, foot=True):
    return bytes([kind]) + u32(section) + b"".join(records) + END_OF_RAM + (footer(section) if foot else b"")


DEVICE = b"\x04" + u32(0) + name("timer") + u32(0) + u32(2) + bytes(24) + footer(0)
JSON = b'{"devices":[]}'
TAIL = b"\x00\x06" + u32(len(JSON)) + JSON
SETUP = MACHINE + RETURN_PATH + RAM_START + footer()
PACKAGE = command(4) + DEVICE + command(2, u32(3)) + command(5)
DISCARD = command(6, b"\0" + name("m0") + b"\0" + u64(0x1000) + u64(0x1000))
BITMAP = (start(3, "dirty-bitmap", 1) + b"\x1c" + name("d0") + name("b0") + u32(65536) + b"\x01\x01" + footer(3),
          b"\x03" + u32(3) + b"\x4c" + name("d0") + name("b0") + u64(0) + u32(128) + u64(8) + bytes(8) + b"\x20\x01"
          + footer(3))
VIRTIO_MEM = (b"\x04" + u32(9) + name("virtio-mem-device-early") + u32(0) + u32(1) + u64(1 << 32) + u64(1 << 28)
              + u64(1 << 21) + u32(0) + u64(1 << 22) + bytes(16) + footer(9))
SHARED = (b"\x05" + name("configuration/capabilities") + u32(1) + u32(1) + name("x-ignore-shared")
          + b"\x05" + name("configuration/uuid") + u32(1) + bytes(16))

STREAMS = {
    "precopy": SETUP + part(zero(0, "m0"), page(0x1000), zero(0, "b")) + part(kind=3) + DEVICE + TAIL,
    "postcopy": MACHINE + RETURN_PATH + ADVISE + RAM_START + footer() + part(zero(0, "m0")) + DISCARD
    + command(2, u32(2)) + command(7, u32(len(PACKAGE))) + PACKAGE + command(2, u32(4)) + part(page(0x1000, "m0"))
    + part(kind=3) + b"\0",
    "recovery": command(10, name("m0")) + command(9) + part(zero(0x1000, "m0")),
    "no-footers": HEADER + RAM_START + part(zero(0, "m0"), foot=False) + part(kind=3, foot=False) + DEVICE,
    "deltas": SETUP + part(zero(0, "m0"), record(0, 0x40, None, b"\x01" + u16(3) + b"\0\1\1"),
                           record(0, 0x100, None, u32(5) + b"\x78\x9c\1\2\3"), u64(0x200), zero(0x2000)),
    "bitmaps": SETUP + BITMAP[0] + part(kind=3) + BITMAP[1] + DEVICE,
    "virtio-mem": MACHINE + RAM_START + footer() + VIRTIO_MEM + part(zero(0, "m0")),
    "shared": MACHINE + SHARED + start(2, "ram", 4) + u64(0x3004) + name("m0") + u64(0x3000) + u64(1 << 32)
    + END_OF_RAM + footer() + part(zero(0x2000, "m0")),
    "huge-pages": MACHINE + command(3, u64(0x201000) + u64(4096)) + start(2, "ram", 4) + u64(0x203004) + name("d")
    + u64(0x200000) + u64(0x200000) + name("m0") + u64(0x3000) + END_OF_RAM + footer() + part(zero(0x2000, "m0")),
    "snapshot": MACHINE + RAM_START + footer() + part(zero(0, "m0")) + DEVICE + TAIL,
    "unknown-section": MACHINE + start(1, "block", 1) + bytes(32),
    "multifd-channel": u32(0x11223344) + u32(1) + bytes(56),
}
PREEMPT = {"preempt": page(0x1000, "m0") + zero(0x2000) + zero(0, "m1") + END_OF_RAM}


def message(number, payload=b""):
    return u16(number) + u16(len(payload)) + payload


RECEIVED = message(5, name("m0")) + u64(8) + bytes(8) + u64(0x0123456789abcdef)
REVERSE = {
    "precopy": message(2, u32(1)) + message(1, u32(0)),
    "postcopy": message(2, u32(1)) + message(3, u64(0x1000) + u32(4096) + name("m0"))
    + message(4, u64(0x2000) + u32(4096)) + message(1, u32(0)),
    "recovery": RECEIVED + message(6, u32(1)) + message(1, u32(0)),
    "switchover": message(2, u32(1)) + message(7) + message(1, u32(1)),
    "unknown": message(2, u32(1)) + message(9, b"1234"),
    "cut": RECEIVED[:-3],
}


def write(target, seeds, prefix):
    folder = CORPUS / target
    folder.mkdir(parents=True, exist_ok=True)
    for title, data in seeds.items():
        (folder / title).write_bytes(prefix + data)


def main():
    write("fuzz_stream", STREAMS, b"\x00\x06")
    write("fuzz_stream", PREEMPT, b"\x01\x06")
    write("fuzz_return_path", REVERSE, b"\x02")


if __name__ == "__main__":
    main()
