#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""One path of 100 Mbit/s against two of them, for the same machine: how much faster is the move?

Pages go as they are (compression none), so that it is the paths that limit. Rounds alternate;
what counts is the ratio of medians of what was carried per second while memory was copied.

    NC_BUILD=build bench/paths_bench.py [--rounds 3] [--json FILE]
"""

import argparse
import os
import statistics
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "tests/lib"))

from claims import Claims  # noqa: E402
from contestants import event_s  # noqa: E402
from nctest.cluster import Cluster, guest_spec, second_path  # noqa: E402

LINK = {"rate": "100mbit", "delay": "5ms"}
VM = "web1"


def goodput(paths):
    """Wire bytes per second from the first round's begin to the guest's stop."""
    with Cluster(**LINK) as c:
        if paths == 2:
            second_path(c, **LINK)
        c.boot(spec=guest_spec(memory_mib=256, ws=16, rate=1, fill=128))
        m = c.migrate(VM, c.a, compression="none", streams=2)
        assert m["outcome"] == "completed", m["error"]
        seconds = event_s(m, "guest-stopped") - event_s(m, "round")
        rate = m["wire_bytes"] / seconds
        print(f"  {paths} path{'s' * (paths > 1)}: {m['wire_bytes'] / 1e6:.0f} MB in {seconds:.2f} s, {rate / 1e6:.2f} MB/s, "
              f"total {m['total_ms'] / 1000:.2f} s", flush=True)
        return rate


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json")
    options = parser.parse_args()
    rates = {1: [], 2: []}
    for _ in range(options.rounds):
        for paths in rates:
            rates[paths].append(goodput(paths))
    claims = Claims()
    claims.least("two paths of 100 Mbit/s: times one", statistics.median(rates[2]) / statistics.median(rates[1]), 1.8)
    return claims.conclude(options.json)


if __name__ == "__main__":
    sys.exit(main())
