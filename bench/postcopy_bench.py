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

import os
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "tests/lib"))

import rounds  # noqa: E402
from contestants import run_novacron, run_qemu  # noqa: E402
from nctest.cluster import guest_spec  # noqa: E402
from rounds import median  # noqa: E402

LINK = {"rate": "100mbit", "delay": "25ms"}
GUEST = {"memory_mib": 512, "ws": 128, "rate": 20, "pattern": "random"}
TARGET = 0.5  # of QEMU's own longest stall
MACHINE = guest_spec(**GUEST)
CONTESTANTS = {
    "qemu post-copy": (run_qemu, MACHINE, {"postcopy": True}),
    "qemu with preempt": (run_qemu, MACHINE, {"postcopy": True, "preempt": True}),
    "novacron": (run_novacron, MACHINE, {}),
}
TITLE = f"100 Mbit/s, 50 ms; guest of {GUEST['memory_mib']} MiB, {GUEST['ws']} MiB rewritten with random data at {GUEST['rate']} MB/s"
COLUMNS = [
    ("total", 10, lambda runs: f"{median(runs, 'total_ms') / 1000:.2f} s"),
    ("pause", 11, lambda runs: f"{median(runs, 'pause_ms'):.0f} ms"),
    ("longest stall", 15, lambda runs: f"{median(runs, 'stall_ms'):.0f} ms"),
    ("worst", 11, lambda runs: f"{max(run['stall_ms'] for run in runs):.0f} ms"),
    ("errors", 8, rounds.errors),
]


def judge(claims, runs):
    ours = [run for run in runs["novacron"] if run["ended"]]
    title = "post-copy, 100 Mbit/s, 50 ms, 20 MB/s of random data"
    claims.add(f"{title}: completes", f"{len(ours)} of {len(runs['novacron'])}", "all", len(ours) == len(runs["novacron"]))
    mine = median(ours, "stall_ms")
    for name in list(CONTESTANTS)[:2]:
        theirs = median(runs[name], "stall_ms")
        if theirs:
            claims.most(f"{title}: longest stall / {name}'s", mine and mine / theirs, TARGET)
    claims.add(f"{title}: guest's memory errors", str(rounds.errors(ours)), "0", rounds.all_sound(ours))


if __name__ == "__main__":
    sys.exit(rounds.main(__doc__, CONTESTANTS, LINK, TITLE, COLUMNS, judge))
