#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What free-page hints save, on and off in one run: NovaCron's pre-copy, and QEMU's with them.

A guest that has given most of what it once wrote back to its kernel: random data, which nothing
compresses. With a balloon device that hints, and without. What counts is what the link carried.

    NC_BUILD=build bench/hints_bench.py [--rounds 3] [--json FILE]

Ends with status 1 if a target was missed.
"""

import argparse
import os
import statistics
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "tests/lib"))

from claims import Claims  # noqa: E402
from contestants import brief, run_novacron, run_qemu  # noqa: E402
from nctest.cluster import guest_spec  # noqa: E402

LINK = {"rate": "200mbit", "delay": "10ms"}
GUEST = {"memory_mib": 512, "ws": 64, "rate": 4, "pattern": "text", "freed": 256}
TARGET = 0.5  # of the wire bytes without hints: most of the guest's content is free
OFF, ON = {"balloon": "none"}, {"balloon": "free-page-hint"}
CONTESTANTS = {
    "qemu, on": (run_qemu, ON, {}),
    "novacron, off": (run_novacron, OFF, {"algorithm": "pre-copy"}),
    "novacron, on": (run_novacron, ON, {"algorithm": "pre-copy"}),
}


def median(runs, key):
    values = [run[key] for run in runs if run["ended"]]
    return statistics.median(values) if values else None


def run_all(options):
    runs = {name: [] for name in CONTESTANTS}
    for number in range(options.rounds):
        for name, mine in runs.items():
            move, balloon, ways = CONTESTANTS[name]
            mine.append(move(LINK, guest_spec(**GUEST, **balloon), options.cap, **ways))
            print(f"  round {number + 1}, {name}: {brief(mine[-1])}", file=sys.stderr, flush=True)
    return runs


def show(runs):
    print(f"  {'':<16}{'runs':>5}{'on the wire':>14}{'total':>10}{'pause':>11}{'errors':>8}")
    for name, mine in runs.items():
        good = [run for run in mine if run["ended"]]
        if not good:
            print(f"  {name:<16}{0:>5}  {mine[-1]['why']}")
            continue
        print(f"  {name:<16}{len(good):>5}{median(mine, 'wire_bytes') / (1 << 20):>10.1f} MiB{median(mine, 'total_ms') / 1000:>8.2f} s"
              f"{median(mine, 'pause_ms'):>8.0f} ms{sum(run['errors'] or 0 for run in good):>8}")


def judge(claims, runs):
    title = f"free pages, {GUEST['freed']} MiB of random data freed"
    off, on = (median(runs[f"novacron, {way}"], "wire_bytes") for way in ("off", "on"))
    claims.most(f"{title}: wire bytes with hints / without", off and on and on / off, TARGET)
    asked = [run["counters"]["free_page_hints"] for run in runs["novacron, on"] if run["ended"]]
    claims.add(f"{title}: the guest was asked", f"{sum(a is True for a in asked)} of {len(runs['novacron, on'])}", "all",
               asked == [True] * len(runs["novacron, on"]))
    ours = runs["novacron, off"] + runs["novacron, on"]
    sound = all(run["ended"] and run["errors"] == 0 and not run["complaint"] for run in ours)
    claims.add(f"{title}: guest's memory errors", str(sum(run["errors"] or 0 for run in ours if run["ended"])), "0", sound)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cap", type=int, default=150, help="seconds after which a move counts as one that never ends (150)")
    parser.add_argument("--json", help="write runs and claims to this file")
    options = parser.parse_args()
    claims = Claims()
    runs = run_all(options)
    print(f"\n200 Mbit/s, 20 ms; guest of {GUEST['memory_mib']} MiB, {GUEST['freed']} MiB of random data freed, {GUEST['ws']} MiB of text "
          f"rewritten at {GUEST['rate']} MB/s; median of {options.rounds}")
    show(runs)
    judge(claims, runs)
    return claims.conclude(options.json, rows=runs)


if __name__ == "__main__":
    sys.exit(main())
