#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What free-page hints save, on and off in one run: NovaCron's pre-copy, and QEMU's with them.

A guest that has given most of what it once wrote back to its kernel: random data, which nothing
compresses. With a balloon device that hints, and without. What counts is what the link carried.

    NC_BUILD=build bench/hints_bench.py [--rounds 3] [--json FILE]

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

LINK = {"rate": "200mbit", "delay": "10ms"}
GUEST = {"memory_mib": 512, "ws": 64, "rate": 4, "pattern": "text", "freed": 256}
TARGET = 0.5  # of the wire bytes without hints: most of the guest's content is free
OFF, ON = (guest_spec(**GUEST, balloon=kind) for kind in ("none", "free-page-hint"))
CONTESTANTS = {
    "qemu, on": (run_qemu, ON, {}),
    "novacron, off": (run_novacron, OFF, {"algorithm": "pre-copy"}),
    "novacron, on": (run_novacron, ON, {"algorithm": "pre-copy"}),
}
TITLE = (f"200 Mbit/s, 20 ms; guest of {GUEST['memory_mib']} MiB, {GUEST['freed']} MiB of random data freed, {GUEST['ws']} MiB of text "
         f"rewritten at {GUEST['rate']} MB/s")
COLUMNS = [
    ("on the wire", 16, lambda runs: f"{median(runs, 'wire_bytes') / (1 << 20):.1f} MiB"),
    ("total", 10, lambda runs: f"{median(runs, 'total_ms') / 1000:.2f} s"),
    ("pause", 11, lambda runs: f"{median(runs, 'pause_ms'):.0f} ms"),
    ("errors", 8, rounds.errors),
]


def judge(claims, runs):
    title = f"free pages, {GUEST['freed']} MiB of random data freed"
    off, on = (median(runs[f"novacron, {way}"], "wire_bytes") for way in ("off", "on"))
    claims.most(f"{title}: wire bytes with hints / without", off and on and on / off, TARGET)
    asked = [run["counters"]["free_page_hints"] for run in runs["novacron, on"] if run["ended"]]
    claims.add(f"{title}: the guest was asked", f"{sum(a is True for a in asked)} of {len(runs['novacron, on'])}", "all",
               asked == [True] * len(runs["novacron, on"]))
    ours = runs["novacron, off"] + runs["novacron, on"]
    claims.add(f"{title}: guest's memory errors", str(rounds.errors(ours)), "0", rounds.all_sound(ours))


if __name__ == "__main__":
    sys.exit(rounds.main(__doc__, CONTESTANTS, LINK, TITLE, COLUMNS, judge))
