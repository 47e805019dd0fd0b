#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A node with ten guests is emptied by the fleet's controller: is its bandwidth used, and never exceeded?

Five nodes (tests/lib/nctest/fleet.py); all that leaves the one that is emptied crosses an emulated link, which counts wire bytes
second by second. The bandwidth is judged over the time in which more migrations wait than may run: after it, fewer and fewer send.

  sum of all movers  wire bytes per second over that time, of bandwidth_total
  worst second       the most of one second
  at once            migrations between their start and their end
  pause              of each guest, by its node's record, and how long last rounds have waited for each other

    NC_BUILD=build bench/fleet_five_bench.py [--budget 10] [--json FILE]

Ends with status 1 if a target was missed.
"""

import argparse
import os
import statistics
import sys
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "tests/lib"))

from claims import Claims  # noqa: E402
from nctest.fleet import FULL, Fleet, endgames, most_at_once, overlaps, seconds  # noqa: E402

TARGET = 0.05
MOST = 5


class Counter(threading.Thread):
    """(time, wire bytes that have left the node), four times a second."""

    def __init__(self, wan):
        super().__init__(daemon=True)
        self.wan, self.samples, self.stopping = wan, [], False
        self.start()

    def run(self):
        while not self.stopping:
            self.samples.append((time.time(), self.wan.stats()["ab"]["wire_bytes"]))
            time.sleep(0.25)

    def rates(self, begin, end):
        """Of each second in between."""
        inside = [s for s in self.samples if begin <= s[0] <= end]
        return [(b[1] - a[1]) / (b[0] - a[0]) for a, b in zip(inside[::4], inside[4::4])]


def evacuate(budget_bps):
    each = {FULL: {"bandwidth_total": str(budget_bps), "bandwidth_reserve": "0"}}
    with Fleet(each=each, fleet_vcpus="64", fleet_memory_mib="4096") as f:
        names = f.boot(memory_mib=128, rate=0.3, fill=32, pattern="random")
        f.wait_seen(dict.fromkeys(names, FULL))
        counter = Counter(f.star.wan)
        began = time.time()
        done = f.wait_end(f.ask("evacuate", nodes=[FULL])["id"], 600)
        took, counter.stopping = time.time() - began, True
        records = f.left()
        errors = sum(f.errors(name) for name in names)
    return done, took, records, counter, errors


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--budget", type=float, default=10, help="of the node, 10^6 bytes per second")
    parser.add_argument("--json", help="write records and claims to this file")
    options = parser.parse_args()
    budget = int(options.budget * 1e6)
    claims = Claims()

    done, took, records, counter, errors = evacuate(budget)
    spans = [(seconds(m["started"]), seconds(m["finished"])) for m in records]
    full_until = sorted(end for _, end in spans)[len(spans) - MOST - 1]  # then the last one begins, about
    rates = counter.rates(max(begin for begin, _ in sorted(spans)[:MOST]) + 2, full_until)
    mean = statistics.mean(rates) if rates else None
    pauses = ", ".join(f"{m['pause_ms']:.0f}" for m in records)
    waits = sum(h["event"] == "endgame-waits" for m in records for h in m["events"])
    print(f"{len(records)} machines in {took:.0f} s; wire {sum(m['wire_bytes'] for m in records) / 1e6:.0f} MB; pauses {pauses} ms; "
          f"last rounds that waited: {waits}")
    claims.add("every machine has moved, memory errors", f"{done['migrations']['completed']}, {errors}", "10, 0",
               done["state"] == "completed" and done["migrations"]["completed"] == 10 and errors == 0)
    claims.most("migrations at once", most_at_once(spans), MOST, places=0)
    claims.most("last rounds that met", len(overlaps(endgames(records))), 0, places=0)
    claims.least("sum of all movers / bandwidth_total", mean and mean / budget, 1 - TARGET)
    claims.most("sum of all movers / bandwidth_total", mean and mean / budget, 1 + TARGET)
    claims.most("the same in its worst second", rates and max(rates) / budget or None, 1 + TARGET)
    return claims.conclude(options.json, records=records, rates=rates)


if __name__ == "__main__":
    sys.exit(main())
