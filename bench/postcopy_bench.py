#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Post-copy side by side, in one run: QEMU's own, the same with its preempt channel, and NovaCron's, encrypted.

A guest that rewrites whole pages with random data, faster than the link carries them; nothing
compresses, so no number of rounds comes to an end. QEMU is told to switch after its first round;
NovaCron is told nothing and has to find out. What counts is what the guest feels: the longest
stall between two beats of its heart, from the order to one second after the end.

    NC_BUILD=build bench/postcopy_bench.py [--rounds 3] [--json FILE]

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

LINK = {"rate": "100mbit", "delay": "25ms"}
GUEST = {"memory_mib": 512, "ws": 128, "rate": 20, "pattern": "random"}
TARGET = 0.5  # of QEMU's own longest stall
CONTESTANTS = {
    "qemu post-copy": (run_qemu, {"postcopy": True}),
    "qemu with preempt": (run_qemu, {"postcopy": True, "preempt": True}),
    "novacron": (run_novacron, {}),
}


def median(runs, key):
    values = [run[key] for run in runs if run["ended"]]
    return statistics.median(values) if values else None


def run_all(options):
    runs = {name: [] for name in CONTESTANTS}
    for number in range(options.rounds):
        for name, mine in runs.items():
            move, ways = CONTESTANTS[name]
            mine.append(move(LINK, guest_spec(**GUEST), options.cap, **ways))
            print(f"  round {number + 1}, {name}: {brief(mine[-1])}", file=sys.stderr, flush=True)
    return runs


def show(runs):
    print(f"  {'':<18}{'runs':>5}{'total':>10}{'pause':>11}{'longest stall':>15}{'worst':>11}{'errors':>8}")
    for name, mine in runs.items():
        good = [run for run in mine if run["ended"]]
        if not good:
            print(f"  {name:<18}{0:>5}  {mine[-1]['why']}")
            continue
        print(f"  {name:<18}{len(good):>5}{median(mine, 'total_ms') / 1000:>8.2f} s{median(mine, 'pause_ms'):>8.0f} ms"
              f"{median(mine, 'stall_ms'):>12.0f} ms{max(run['stall_ms'] for run in good):>8.0f} ms{sum(run['errors'] or 0 for run in good):>8}")


def judge(claims, runs):
    ours = [run for run in runs["novacron"] if run["ended"]]
    title = "post-copy, 100 Mbit/s, 50 ms, 20 MB/s of random data"
    claims.add(f"{title}: completes", f"{len(ours)} of {len(runs['novacron'])}", "all", len(ours) == len(runs["novacron"]))
    mine = median(runs["novacron"], "stall_ms")
    for name in list(CONTESTANTS)[:2]:
        theirs = median(runs[name], "stall_ms")
        if theirs:
            claims.most(f"{title}: longest stall / {name}'s", mine and mine / theirs, TARGET)
    sound = all(run["errors"] == 0 and not run["complaint"] for run in ours)
    claims.add(f"{title}: guest's memory errors", str(sum(run["errors"] or 0 for run in ours)), "0", sound)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cap", type=int, default=150, help="seconds after which a move counts as one that never ends (150)")
    parser.add_argument("--json", help="write runs and claims to this file")
    options = parser.parse_args()
    claims = Claims()
    runs = run_all(options)
    print(f"\n100 Mbit/s, 50 ms; guest of {GUEST['memory_mib']} MiB, {GUEST['ws']} MiB rewritten with random data at {GUEST['rate']} MB/s; "
          f"median of {options.rounds}")
    show(runs)
    judge(claims, runs)
    return claims.conclude(options.json, rows=runs)


if __name__ == "__main__":
    sys.exit(main())
