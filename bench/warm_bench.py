#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A machine goes there and back: what the way back costs, of what the way there has cost.

The standard guest (real files in its page cache, memory written sparsely), idle and busy.

    NC_BUILD=build bench/warm_bench.py [--rounds 1] [--json FILE]

Ends with status 1 if a target was missed.
"""

import argparse
import os
import statistics
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "tests/lib"))

from claims import Claims  # noqa: E402
from contestants import guest_verdict  # noqa: E402
from nctest.cluster import Cluster  # noqa: E402
from nctest.standard_guest import describe, standard_guest  # noqa: E402

LINK = {"rate": "100mbit", "delay": "25ms"}
AWAY_S = 10  # the machine runs at the other node for so long
GUESTS = {"idle": (0.05, 0.05), "busy": (4, 0.10)}  # 10^6 bytes dirtied per second, and the most that the way back may cost
CAP_S = 150


def there_and_back(spec):
    with Cluster(**LINK, kept_shadow_mib="4096") as c:
        vm = c.boot(spec=spec)
        ways = []
        for source in (c.a, c.b):
            ways.append(c.migrate(vm, source, timeout=CAP_S))
            if ways[-1]["outcome"] != "completed":
                raise RuntimeError(f"{vm} did not move: {ways[-1]['error']}")
            time.sleep(AWAY_S)
        keys = ("wire_bytes", "total_ms", "pause_ms", "kept_shadow")
        there, back = ({k: m[k] for k in keys} for m in ways)
        return {"there": there, "back": back, **guest_verdict(os.path.join(c.a.machine_dir(vm), "console.log"))}


def row(name, runs):
    cells = [name]
    for way in ("there", "back"):
        cells += [f"{statistics.median(r[way]['wire_bytes'] for r in runs) / (1 << 20):.1f} MiB",
                  f"{statistics.median(r[way]['total_ms'] for r in runs) / 1000:.1f} s",
                  f"{statistics.median(r[way]['pause_ms'] for r in runs):.0f} ms"]
    return cells


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--json", help="write runs and claims to this file")
    options = parser.parse_args()
    claims, rows = Claims(), {}
    for name, (dirty_mb, most) in GUESTS.items():
        spec = standard_guest(dirty_mb=dirty_mb)
        rows[name] = [there_and_back(spec) for _ in range(options.rounds)]
        print(f"{name}: {LINK['rate']}, {LINK['delay']} each way; {describe(spec)}; {AWAY_S} s away")
        print("  " + "".join(f"{cell:>12}" for cell in ("", "there", "total", "pause", "back", "total", "pause")))
        print("  " + "".join(f"{cell:>12}" for cell in row("", rows[name])))
        share = max(r["back"]["wire_bytes"] / r["there"]["wire_bytes"] for r in rows[name])
        claims.most(f"warm return, {name}: wire bytes back / there", share, most)
        claims.add(f"warm return, {name}: guest's memory errors", str(sum(r["errors"] for r in rows[name])), "0",
                   all(r["errors"] == 0 and not r["complaint"] for r in rows[name]))
    return claims.conclude(options.json, rows=rows)


if __name__ == "__main__":
    sys.exit(main())
