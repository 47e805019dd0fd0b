#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Is the promise of the pause kept? Three promises over ten loads and links, measured from outside.

Each guest moves with max_downtime_ms of 100, 300 and 1000, by pre-copy: the last beat of its heart at
the source to the first at the destination may take that long, one round trip and 20 ms
more. A migration that says that it can't keep the promise, and leaves the machine where it is, has kept it.

    NC_BUILD=build bench/pause_bench.py [--rows NAME,...] [--json FILE]

Ends with status 1 if a promise was broken.
"""

import argparse
import os
import statistics
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "tests/lib"))

from bench import chosen  # noqa: E402
from claims import Claims  # noqa: E402
from nctest.cluster import Cluster, guest_spec  # noqa: E402
from nctest.net import wait_for  # noqa: E402

VM = "web1"
PROMISES_MS = (100, 300, 1000)
MARGIN_MS = 20
ROWS = {  # link; round trip in ms; load
    "50mbit-quiet": ({"rate": "50mbit", "delay": "20ms"}, 40, {"ws": 16, "rate": 1}),
    "50mbit-text": ({"rate": "50mbit", "delay": "50ms"}, 100, {"ws": 32, "rate": 5}),
    "100mbit-text": ({"rate": "100mbit", "delay": "25ms"}, 50, {"ws": 64, "rate": 5, "fill": 64}),
    "100mbit-random": ({"rate": "100mbit", "delay": "25ms"}, 50, {"ws": 32, "rate": 5, "pattern": "random"}),
    "100mbit-hot": ({"rate": "100mbit", "delay": "25ms"}, 50, {"ws": 8, "rate": 20}),
    "100mbit-flood": ({"rate": "100mbit", "delay": "25ms"}, 50, {"ws": 64, "rate": 20, "pattern": "random"}),
    "300mbit-sparse": ({"rate": "300mbit", "delay": "10ms"}, 20, {"ws": 128, "rate": 10, "pattern": "sparse"}),
    "300mbit-random": ({"rate": "300mbit", "delay": "10ms"}, 20, {"ws": 64, "rate": 10, "pattern": "random"}),
    "1gbit-text": ({"rate": "1gbit", "delay": "1ms"}, 2, {"ws": 64, "rate": 20}),
    "1gbit-random": ({"rate": "1gbit", "delay": "5ms"}, 10, {"ws": 64, "rate": 20, "pattern": "random"}),
}


def one(c, here, promise_ms):
    c.heartbeat.forget()
    record = c.migrate(VM, here, max_downtime_ms=promise_ms, algorithm="pre-copy", convergence_timeout_ms=60000)
    if record["outcome"] != "completed":
        return {"promise_ms": promise_ms, "outcome": record["outcome"], "code": record["error"]["code"], "why": record["error"]["message"]}
    paths = [os.path.join(node.machine_dir(VM), "beat.sock") for node in (here, c.other(here))]
    outside_ms = wait_for(lambda: c.heartbeat.pause_ms(*paths), 30, "a beat at the destination")
    return {"promise_ms": promise_ms, "outcome": "completed", "outside_ms": outside_ms, "said_ms": record["pause_ms"],
            "expected_ms": record["forecast_pause_ms"], "total_ms": record["total_ms"], "throttle": record["throttle"]}


def row(name):
    link, rtt_ms, load = ROWS[name]
    runs = []
    with Cluster(**link) as c:
        c.boot(spec=guest_spec(memory_mib=256, **load))
        c.watch_heartbeat(VM)
        here = c.a
        for promise_ms in PROMISES_MS:
            time.sleep(2)
            run = {"row": name, "rtt_ms": rtt_ms, **one(c, here, promise_ms)}
            runs.append(run)
            if run["outcome"] == "completed":
                here = c.other(here)
                print(f"  {name:<15} {promise_ms:>5} ms: {run['total_ms'] / 1000:6.1f} s, pause {run['outside_ms']:6.0f} ms from outside, "
                      f"{run['said_ms']:6.0f} said, {run['expected_ms'] or 0:6.0f} expected, throttled by {run['throttle']} %", flush=True)
            else:
                print(f"  {name:<15} {promise_ms:>5} ms: {run['code']}: {run['why']}", flush=True)
    return runs


def is_kept(run):
    if run["outcome"] != "completed":
        return run["code"] == "convergence"
    return run["outside_ms"] <= run["promise_ms"] + run["rtt_ms"] + MARGIN_MS


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=chosen(ROWS), default=list(ROWS))
    parser.add_argument("--json", help="write runs and claims to this file")
    options = parser.parse_args()
    claims = Claims()
    runs = [run for name in options.rows for run in row(name)]
    for promise_ms in PROMISES_MS:
        mine = [run for run in runs if run["promise_ms"] == promise_ms]
        moved = [run["outside_ms"] for run in mine if run["outcome"] == "completed"]
        kept = sum(map(is_kept, mine))
        print(f"{promise_ms} ms: {len(moved)} moved, {len(mine) - len(moved)} refused; pause from outside, median "
              f"{statistics.median(moved) if moved else 0:.0f}, longest {max(moved, default=0):.0f} ms")
        claims.add(f"pause: promise of {promise_ms} ms kept, + round trip + {MARGIN_MS} ms", f"{kept} of {len(mine)}", "all", kept == len(mine))
    return claims.conclude(options.json, runs=runs)


if __name__ == "__main__":
    sys.exit(main())
