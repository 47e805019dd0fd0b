#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What is left of a link's rate when something on the way stands still now and then, as hosts do whose processors are taken.

Two movers over the emulated link (tests/net/ncwan.c), bulk without end. The emulator, and with it all that is under way,
is stopped for --stop-ms about every --every-ms (both at random), nothing is lost by it. Per congestion control:

  share      of what the link could have carried while it ran (from --warm-up on)
  slow       seconds with less than a quarter of that
  longest    of them in a row

    NC_BUILD=build bench/stall_bench.py [--seconds 60] [--stop-ms 300] [--every-ms 1000] [--link 100mbit] [--delay 25ms]
"""
import argparse
import os
import random
import signal
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../tests/lib"))
from claims import Claims  # noqa: E402
from nctest.net import Bed, Topology  # noqa: E402
from nctest.shaped_pair import ShapedPair  # noqa: E402

LEAST_SHARE = 0.5
SLOW = 0.25


class Stopper:
    """Stops process ${pid} again and again; knows for how long, all in all, in the middle of a stop, too."""

    def __init__(self, pid, stop_s, every_s, seed):
        self.pid, self.stop_s, self.every_s = pid, stop_s, every_s
        self.over, self.lock = threading.Event(), threading.Lock()
        self.ended_s, self.since = 0.0, None
        self.rng = random.Random(seed)
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        while not self.over.wait(self.rng.expovariate(1 / (self.every_s - self.stop_s))):
            with self.lock:
                os.kill(self.pid, signal.SIGSTOP)
                self.since = time.monotonic()
            time.sleep(self.stop_s * self.rng.uniform(0.5, 1.5))
            with self.lock:
                os.kill(self.pid, signal.SIGCONT)
                self.ended_s, self.since = self.ended_s + time.monotonic() - self.since, None

    def stopped_s(self):
        with self.lock:
            return self.ended_s + (time.monotonic() - self.since if self.since else 0)

    def close(self):
        self.over.set()
        self.thread.join()


def longest_run(flags):
    longest = run = 0
    for flag in flags:
        run = run + 1 if flag else 0
        longest = max(longest, run)
    return longest


def measure(args, congestion, rate):
    """(share of all the time, slow seconds, the longest run of them, each second's rate)."""
    with Bed() as bed:
        topology = Topology(bed, rate=args.link, delay=args.delay)
        pair = ShapedPair(bed, topology, 7470, streams=1, congestion=congestion)
        pair.load()
        time.sleep(args.warm_up)
        stopper = Stopper(topology.wan.process.pid, args.stop_ms / 1e3, args.every_ms / 1e3, args.seed)
        bed.on_close(stopper.close)
        marks = [(time.monotonic(), stopper.stopped_s(), pair.received)]
        for _ in range(args.seconds):
            time.sleep(1)
            marks.append((time.monotonic(), stopper.stopped_s(), pair.received))
    slow = [share_between(a, b, rate) < SLOW for a, b in zip(marks, marks[1:])]
    rates = [(b[2] - a[2]) / (b[0] - a[0]) for a, b in zip(marks, marks[1:])]
    return share_between(marks[0], marks[-1], rate), sum(slow), longest_run(slow), rates


def share_between(a, b, rate):
    """Of what the link could carry while it ran, how much was received between two marks?"""
    return (b[2] - a[2]) / (rate * max(b[0] - a[0] - (b[1] - a[1]), 0.1))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--warm-up", type=float, default=5)
    parser.add_argument("--stop-ms", type=float, default=300)
    parser.add_argument("--every-ms", type=float, default=1000)
    parser.add_argument("--link", default="100mbit")
    parser.add_argument("--delay", default="25ms", help="one way")
    parser.add_argument("--congestion", default="bbr,cubic")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", help="write the claims to this file")
    args = parser.parse_args()
    rate = float(args.link.replace("mbit", "e6").replace("gbit", "e9")) / 8
    claims = Claims()
    for congestion in args.congestion.split(","):
        share, slow, longest, rates = measure(args, congestion, rate)
        print(f"{congestion:6} share {share * 100:5.1f} %   slow {slow:3} s   longest {longest:3} s   MB/s: "
              + " ".join(f"{r / 1e6:.1f}" for r in rates), flush=True)
        claims.least(f"link that stands still {args.stop_ms:.0f} ms in {args.every_ms:.0f}, {congestion}: of what it could carry",
                     share * 100, LEAST_SHARE * 100, " %", 0)
    return claims.conclude(args.json)


if __name__ == "__main__":
    sys.exit(main())
