#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""How exactly a rate limit is kept, and what urgent messages lose by it.

Two movers over the emulated link (tests/net/ncwan.c), bulk without end. Per row:

  worst, mean  deviation of single seconds from the rate set, in wire bytes as the link
               counts them (Ethernet frames with preamble and gap)
  within 3 %   seconds that were, of all
  stall        the longest time this machine did not run a thread that wanted to: seconds with long ones
               can't be kept by anybody
  idle, p50, p99  one way of the return path, without bulk and under full bulk; the target is p99 - idle
  cpu          of the source's mover

    NC_BUILD=build bench/shaping_bench.py [--seconds 10] [--rates 2,12.5,50] [--streams 2] [--congestion cubic]
"""
import argparse
import os
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../tests/lib"))
from nctest.net import Bed, Topology  # noqa: E402
from nctest.shaped_pair import ShapedPair, wire_per_second  # noqa: E402

TARGET = 0.03


class Stalls:
    """How late a thread that sleeps 2 ms at a time wakes up."""

    def __init__(self):
        self.longest = 0.0
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self):
        last = time.monotonic()
        while True:
            time.sleep(0.002)
            now = time.monotonic()
            self.longest = max(self.longest, now - last)
            last = now

    def take(self):
        longest, self.longest = self.longest, 0.0
        return longest


def percentile(sorted_values, share):
    return sorted_values[min(len(sorted_values) - 1, int(share * len(sorted_values)))]


def latencies(pair, count, gap_s=0.01):
    out = []
    for _ in range(count):
        out.append(pair.round_trip_s() * 1000)
        time.sleep(gap_s)
    return sorted(out)


def measure(args, streams, rate, stalls):
    with Bed() as bed:
        topology = Topology(bed, rate=args.link, delay=args.delay)
        pair = ShapedPair(bed, topology, 7470, streams=streams, compression=args.compression, pattern=args.pattern,
                          congestion=args.congestion)
        idle = latencies(pair, 100)
        pair.rate(rate)
        pair.load()
        time.sleep(args.warm_up)
        stalls.take()
        cpu = pair.progress()["cpu_ms"]
        rates = wire_per_second(topology.wan, args.seconds)
        stall = stalls.take()
        cpu = (pair.progress()["cpu_ms"] - cpu) / args.seconds / 10
        busy = latencies(pair, args.messages)
    nominal = rate or sum(rates) / len(rates)
    off = [r / nominal - 1 for r in rates]
    within = sum(abs(o) <= TARGET for o in off)
    print(f"{rate / 1e6:8.1f} {streams:7} {sum(rates) / len(rates) / 1e6:8.2f} {max(off, key=abs) * 100:+7.2f}% "
          f"{sum(off) / len(off) * 100:+7.2f}% {within:4}/{len(off):<4} {stall * 1000:5.0f} {percentile(idle, 0.5):7.2f} "
          f"{percentile(busy, 0.5):7.2f} {percentile(busy, 0.99):7.2f} {percentile(busy, 0.99) - percentile(idle, 0.5):+8.2f} "
          f"{cpu:4.0f}%", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rates", default="1,4,12.5,50,0", help="MB/s, comma-separated; 0: no limit")
    parser.add_argument("--streams", default="1,2")
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--messages", type=int, default=300, help="of the return path, per row")
    parser.add_argument("--warm-up", type=float, default=4, help="seconds before the first measured one")
    parser.add_argument("--link", default="1gbit")
    parser.add_argument("--delay", default="5ms")
    parser.add_argument("--compression", default="none")
    parser.add_argument("--pattern", default="random", help="of pages: random, text, zero, fill")
    parser.add_argument("--congestion", default="cubic", help="bbr stops for 0.2 s every 10 s to measure the round trip")
    args = parser.parse_args()
    stalls = Stalls()
    print(f"link {args.link}, {args.delay} one way, {args.congestion}, {args.compression}, {args.pattern} pages")
    print(f"{'MB/s':>8} {'streams':>7} {'wire':>8} {'worst':>8} {'mean':>8} {'within 3%':>9} {'stall':>5} {'idle ms':>7} "
          f"{'p50':>7} {'p99':>7} {'p99-idle':>8} {'cpu':>5}")
    for streams in map(int, args.streams.split(",")):
        for rate in args.rates.split(","):
            measure(args, streams, int(float(rate) * 1e6), stalls)


if __name__ == "__main__":
    main()
