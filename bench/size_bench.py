#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What a GiB of guest costs, from small machines to large ones.

Over veth, so that nothing but our own work limits. Each machine holds text in a quarter
of its memory and is nearly idle; the rest was never touched, so that the large ones fit.
  move/GiB       seconds from QEMU's `migrate` to the end (the setting up of dirty tracking by TCG included)
  processor/GiB  seconds, of both movers
  rss            of the source's mover at its end: mostly its shadow
What is fixed (processes, handoff) weighs on the small ones; the claim is that nothing
grows faster than the guest.

    NC_BUILD=build bench/size_bench.py [--sizes 256,512,1024,2048,4096,8192] [--rounds 1] [--json FILE]

Ends with status 1 if a target was missed. Sizes that this machine's memory can't hold are left out, and named.
"""

import argparse
import os
import statistics
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "tests/lib"))

from claims import Claims  # noqa: E402
from contestants import brief, run_novacron  # noqa: E402
from nctest.cluster import guest_spec  # noqa: E402

HELD = 4  # a part in so many is text
GROWTH = 1.25
CAP_S = 300


def available_mib():
    with open("/proc/meminfo") as f:
        return next(int(line.split()[1]) // 1024 for line in f if line.startswith("MemAvailable"))


def fits(mib):
    """Both QEMUs and both shadows hold what was touched; novacrond wants the whole of it to be free at the destination."""
    return available_mib() > max(mib + 1024, 4 * (mib // HELD + 256)) + 1024


def measure(mib, rounds):
    spec = guest_spec(memory_mib=mib, ws=16, rate=1, fill=mib // HELD)
    runs = [run_novacron({"emulated": False}, spec, CAP_S) for _ in range(rounds)]
    for run in runs:
        print(f"  {mib} MiB: {brief(run)}", file=sys.stderr, flush=True)
    good = [run for run in runs if run["ended"] and run["errors"] == 0]
    if len(good) < len(runs):
        return None
    gib = mib / 1024
    return {"mib": mib, "move_s_per_gib": statistics.median(run["move_ms"] for run in good) / 1000 / gib,
            "cpu_s_per_gib": statistics.median(run["cpu_s"] for run in good) / gib,
            "rss_mib": good[-1]["counters"]["mover_rss_bytes"] >> 20, "pause_ms": statistics.median(run["pause_ms"] for run in good)}


def judge(claims, curve, key, what):
    """The worst of the larger ones against the smallest."""
    first = curve[0][key]
    claims.most(f"size: {what}, worst / that of {curve[0]['mib']} MiB", max(point[key] for point in curve) / first, GROWTH)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="256,512,1024,2048,4096,8192", help="MiB, comma-separated")
    parser.add_argument("--rounds", type=int, default=1, help="median of (1)")
    parser.add_argument("--json", help="write the curve and claims to this file")
    options = parser.parse_args()
    claims, curve = Claims(), []
    print(f"{'MiB':>6} {'of it text':>10} {'move/GiB':>10} {'processor/GiB':>14} {'rss':>10} {'pause':>8}")
    for mib in map(int, options.sizes.split(",")):
        if not fits(mib):
            print(f"{mib:>6}  left out: {available_mib()} MiB are available")
            continue
        point = measure(mib, options.rounds)
        claims.add(f"size: {mib} MiB moved, no error in its memory", "yes" if point else "no", "yes", point)
        if point:
            curve.append(point)
            print(f"{mib:>6} {mib // HELD:>6} MiB {point['move_s_per_gib']:>8.2f} s {point['cpu_s_per_gib']:>12.2f} s "
                  f"{point['rss_mib']:>6} MiB {point['pause_ms']:>5.0f} ms", flush=True)
    if curve:
        judge(claims, curve, "move_s_per_gib", "seconds per GiB")
        judge(claims, curve, "cpu_s_per_gib", "movers' processor time per GiB")
    return claims.conclude(options.json, curve=curve)


if __name__ == "__main__":
    sys.exit(main())
