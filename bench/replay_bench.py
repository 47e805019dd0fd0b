#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The stream of the standard guest, recorded and replayed through two movers over loopback.

No guest and no QEMU runs meanwhile: what is measured is what the movers do to each
byte, with TLS, SHA-256, shadow and lz4 on, and where their time goes. Then at 100 Mbit/s with
adaptive coding, as novacrond would, the whole of it and its first round: the difference is
what pages cost that are sent again.

    NC_BUILD=build bench/replay_bench.py [--rounds 3] [--streams 2] [--compression lz4] [--stream FILE] [--json FILE]

With --stream the recording is kept there, and used again if it is there already.
Ends with status 1 if a target was missed.
"""

import argparse
import os
import pathlib
import statistics
import sys
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "tests/lib"))

from claims import Claims  # noqa: E402
from nctest.net import Bed  # noqa: E402
from nctest.shaped_pair import Pair  # noqa: E402  (two movers, and this program as QEMU and novacrond)
from recording import pages_of, record  # noqa: E402
from stage_times import StageTimes, show  # noqa: E402

PAGE = 4096
FRAMES = (1024 * 1024 + 8) // 4 + 4096  # the standard guest's memory, its video memory and firmware
TARGETS = {"mb_per_s": 333, "resent": 10, "ratio": 3.5}
SLOW_BPS = 12500000
STALLED_S = 60
PROGRESS_S = 0.05  # what the movers' harness asks for


def feed(sock, path, length):
    with open(path, "rb") as file:
        sock.setblocking(True)
        sent = 0
        while sent < length:
            sent += os.sendfile(sock.fileno(), file.fileno(), sent, length - sent)


def drain(sock, length):
    sock.settimeout(STALLED_S)
    buffer = bytearray(1 << 20)
    while length > 0:
        n = sock.recv_into(buffer, min(len(buffer), length))
        if n == 0:
            raise RuntimeError("the destination's mover closed early")
        length -= n


def totals(mover):
    """Its counters, once they stand still."""
    time.sleep(4 * PROGRESS_S)
    return mover.got("progress")[-1]


def replay(path, length, options, compression, rate_bps=0):
    """Moves the first ${length} bytes of ${path}, at that rate: seconds, both movers' totals, stages."""
    with Bed() as bed:
        pair = Pair(pathlib.Path(bed.dir), streams=options.streams, compression=compression, frames=FRAMES)
        bed.on_close(pair.close)
        pair.ready()
        pair.source.send({"op": "rate", "bps": rate_bps})
        stages = StageTimes(lambda: {"source": pair.source.process.pid, "destination": pair.destination.process.pid})
        began = time.monotonic()
        feeder = threading.Thread(target=feed, args=(pair.qemu_source, path, length), daemon=True)
        feeder.start()
        drain(pair.qemu_destination, length)
        seconds = time.monotonic() - began
        times = stages.take()
        if length == os.path.getsize(path):  # a whole stream: its end is only recognised as such
            pair.source.send({"op": "grant", "epoch": 1})
            if pair.destination.wait("grant")["offset"] != length:
                raise RuntimeError("the destination's mover counted other bytes")
        return {"seconds": seconds, "source": totals(pair.source), "destination": totals(pair.destination), "stages": times}


def show_stages(run, stream_bytes):
    busy = sum(sum(times) for side in run["stages"].values() for times in side.values())
    print(f"  both movers: {busy:.2f} processor s in {run['seconds']:.2f} s, {busy / stream_bytes * (1 << 30):.2f} s per GiB of stream; "
          f"two cores to themselves would carry {2 * stream_bytes / busy / 1e6:.0f} MB/s of stream at most")
    show(run["stages"])


def judge_rate(claims, runs, info):
    """Guest memory that was moved: every page record, zero ones too, and those alone that carry a page."""
    seconds = statistics.median(run["seconds"] for run in runs)
    whole, carried = (info["pages"] + info["zero_pages"]) * PAGE, info["pages"] * PAGE
    each = ", ".join(f"{run['seconds']:.2f}" for run in runs)
    print(f"  {info['bytes'] / 1e6:.0f} MB of stream in {seconds:.2f} s, median of {each}")
    claims.least("replay: guest memory per second, TLS and SHA-256 on", whole / seconds / 1e6, TARGETS["mb_per_s"], " MB/s", 0)
    claims.add("replay: the same, of pages that are not zero (reported)", f"{carried / seconds / 1e6:.0f} MB/s", "-", True)


def judge_costs(claims, whole, first_round):
    """By the source's counters; re-sent pages: all that the stream holds behind its first round."""
    later = {key: whole[key] - first_round[key] for key in ("pages", "delta_pages", "reference_pages", "page_bytes_in", "page_bytes_out")}
    claims.most("replay, 100 Mbit/s: pages sent again, coded, of their size",
                later["page_bytes_out"] / later["page_bytes_in"] * 100 if later["pages"] else None, TARGETS["resent"], " %", 1)
    claims.least("replay, 100 Mbit/s: compression over non-zero pages", ratio(whole), TARGETS["ratio"], " : 1")
    print(f"  first round {ratio(first_round):.2f} : 1; then {later['pages']} pages, {later['delta_pages']} as deltas, "
          f"{later['reference_pages']} as references, the rest whole")


def ratio(totals):
    return totals["page_bytes_in"] / max(1, totals["page_bytes_out"])


def measure_costs(claims, path, info, options):
    """On a slow link: what is worth coding depends on what is scarce."""
    whole, first_round = (replay(path, length, options, options.slow_compression, SLOW_BPS)["source"] for length in (info["bytes"], info["resent_from"]))
    judge_costs(claims, whole, first_round)


def bench(path, options):
    if not os.path.exists(path) or os.path.getsize(path) == 0:
        record(path)
    info = pages_of(path)
    claims = Claims()
    print(f"replay: {info['pages']} pages ({info['resent_pages']} sent again) and {info['zero_pages']} zero ones; "
          f"{options.compression}, {options.streams} connections")
    runs = [replay(path, info["bytes"], options, options.compression) for _ in range(options.rounds)]
    judge_rate(claims, runs, info)
    show_stages(sorted(runs, key=lambda run: run["seconds"])[len(runs) // 2], info["bytes"])
    if info["resent_from"]:
        measure_costs(claims, path, info, options)
    return claims.conclude(options.json, runs=runs, stream=info)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--streams", type=int, default=2)
    parser.add_argument("--compression", default="lz4")
    parser.add_argument("--slow-compression", default="auto", help="at 100 Mbit/s")
    parser.add_argument("--stream", help="where the recording is, or is to be kept")
    parser.add_argument("--json", help="write runs and claims to this file")
    options = parser.parse_args()
    with Bed() as bed:
        return bench(os.path.abspath(options.stream) if options.stream else os.path.join(bed.dir, "stream"), options)


if __name__ == "__main__":
    sys.exit(main())
