#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""How long the same stream takes with fixed codings and with `auto`, per link.

Two movers over the emulated link (tests/net/ncwan.c) or veth; a stream of pages of several kinds (zero,
pattern, text, tables, executable code of this system, random), the same for all. Per link a row of seconds, the median
of the runs, and how far auto is from the best fixed choice. Runs of all codings alternate, so that what
else happens on this machine happens to all.

    NC_BUILD=build bench/adaptive_bench.py [--mb 256] [--runs 3] [--links 50mbit,100mbit,1gbit,veth]
"""
import argparse
import os
import pathlib
import random
import socket
import statistics
import struct
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../tests/lib"))
from nctest.movers import PAGE, Pair, page_content, page_record, stream_head  # noqa: E402
from nctest.net import Bed, VethLink, Wan  # noqa: E402

PORT = 7480
POOL = 3000  # different pages of each kind: many batches apart
KINDS = {"zero": 20, "fill": 2, "text": 20, "table": 20, "code": 23, "random": 15}


def code_pages(rng):
    libraries = sorted(pathlib.Path("/usr/lib/x86_64-linux-gnu").glob("lib[a-h]*.so.*"), key=lambda p: p.name)
    data = b"".join(p.read_bytes() for p in libraries[:60] if p.is_file())
    return [data[at:at + PAGE] for at in (PAGE * rng.randrange(len(data) // PAGE - 1) for _ in range(POOL))]


def table_page(rng):
    word, step = rng.getrandbits(40), rng.randrange(2, 5000)
    return b"".join(struct.pack("<QII", word + i * step + rng.randrange(step), rng.randrange(1000), i) for i in range(PAGE // 16))


def pools(rng):
    out = {kind: [page_content(kind, rng) for _ in range(POOL)] for kind in ("fill", "text", "random")}
    out.update(zero=[None], table=[table_page(rng) for _ in range(POOL)], code=code_pages(rng))
    return out


def make_stream(megabytes):
    """Pages come in runs of a kind, as they do in memory."""
    rng = random.Random(11)
    pages, out, number = pools(rng), [stream_head(), b"\x02" + struct.pack(">I", 2)], 0
    while number < megabytes * 256:
        kind = rng.choices(list(KINDS), list(KINDS.values()))[0]
        for _ in range(min(rng.randrange(1, 60), megabytes * 256 - number)):
            out.append(page_record(number, rng.choice(pages[kind]), b"pc.ram" if number == 0 else None))
            number += 1
    return b"".join(out)


class Link:
    def __init__(self, bed, name, delay):
        self.bed, self.a, self.b = bed, bed.netns("a"), bed.netns("b")
        self.wan = VethLink(bed, self.a, self.b) if name == "veth" else Wan(bed, self.a, self.b, name, delay)
        self.server = self.b.within(lambda: socket.create_server(("10.99.0.2", PORT)))
        bed.on_close(self.server.close)

    def connect(self):
        a = self.a.connect(("10.99.0.2", PORT))
        return a, self.server.accept()[0]


def receive(sock, length):
    buffer = bytearray(1 << 20)
    sock.settimeout(600)
    while length > 0:
        n = sock.recv_into(buffer)
        if n == 0:
            raise RuntimeError("the destination's mover has closed")
        length -= n


def measure(link_name, delay, compression, stream, streams):
    """Seconds, and the source's last progress."""
    with Bed() as bed:
        link = Link(bed, link_name, delay)
        pair = Pair(pathlib.Path(bed.dir), streams=streams, compression=compression, connect=link.connect)
        bed.on_close(pair.close)
        pair.ready()
        began = time.monotonic()
        feeder = threading.Thread(target=pair.qemu_source.sendall, args=(stream,), daemon=True)
        feeder.start()
        receive(pair.qemu_destination, len(stream))
        seconds = time.monotonic() - began
        feeder.join()
        time.sleep(0.1)
        return seconds, pair.source.got("progress")[-1]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mb", type=int, default=256)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--streams", type=int, default=2)
    parser.add_argument("--delay", default="5ms", help="one way, of emulated links")
    parser.add_argument("--links", default="50mbit,100mbit,1gbit,veth")
    parser.add_argument("--codings", default="none,lz4,zstd:1,zstd:5,auto")
    parser.add_argument("--verbose", action="store_true", help="what auto has chosen")
    args = parser.parse_args()
    codings = args.codings.split(",")
    stream = make_stream(args.mb)
    print(f"{len(stream) / 1e6:.0f} MB, {args.streams} connections, {args.delay} one way, median of {args.runs}, seconds")
    print(f"{'link':>8} " + " ".join(f"{c:>8}" for c in codings) + f" {'auto/best':>9}", flush=True)
    for link in args.links.split(","):
        seconds = {c: [] for c in codings}
        for _ in range(args.runs):
            for coding in codings:
                s, last = measure(link, args.delay, coding, stream, args.streams)
                seconds[coding].append(s)
                if args.verbose:
                    print(f"{coding} {s:.2f} s, {last['wire_bytes'] / 1e6:.0f} MB, {last['cpu_ms']} ms: {last['coding']} {last['coded_batches']}")
        median = {c: statistics.median(s) for c, s in seconds.items()}
        fixed = [median[c] for c in codings if c != "auto"]
        share = f"{median['auto'] / min(fixed):9.2f}" if "auto" in median and fixed else ""
        print(f"{link:>8} " + " ".join(f"{median[c]:8.2f}" for c in codings) + f" {share}", flush=True)


if __name__ == "__main__":
    main()
