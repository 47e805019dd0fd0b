#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""How right are the forecasts? Expected end and pause against what came, over loads and links.

Each guest moves there and back on each link; twice a second its record is asked for ETA and
expected pause. What counts: from the first quarter of a migration on, how far the expected
end was from the real one, as a share of the whole; and how far the last pause expected
before the guest was stopped was from the one measured.

    NC_BUILD=build bench/forecast_bench.py [--trips 2] [--links NAME,...] [--loads NAME,...] [--json FILE]

The file has all that was forecast, and when, for whoever asks which part of it was wrong.

Ends with status 1 if a target was missed.
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

VM = "web1"
LINKS = {
    "50mbit": {"rate": "50mbit", "delay": "20ms"},
    "100mbit": {"rate": "100mbit", "delay": "25ms"},
    "300mbit": {"rate": "300mbit", "delay": "10ms"},
    "1gbit": {"rate": "1gbit", "delay": "2ms"},
}
MEMORY_MIB = {"50mbit": 384, "100mbit": 512, "300mbit": 768, "1gbit": 1024}  # ten to thirty seconds each: what one would ask about
FILL_SHARE = 0.5  # of it, more than the load itself uses; but so much is left for the guest's kernel:
KERNEL_MIB = 112
LOADS = {
    "quiet": {"ws": 16, "rate": 1},
    "text": {"ws": 64, "rate": 5, "fill": 64},
    "random": {"ws": 32, "rate": 3, "pattern": "random", "fill": 64},
    "hot": {"ws": 8, "rate": 20},
    "sparse": {"ws": 128, "rate": 10, "pattern": "sparse"},
}
ETA_SHARE = 0.20
BAND_SHARE = 0.68  # of the ends, what is to lie within the error that is said with them
PAUSE_SHARE, PAUSE_MS = 0.25, 50
EVERY_S = 0.25


def watch(node, migration):
    """[(seconds since the order, ETA in seconds or None, its error, expected pause in ms or None)], and the record at the end."""
    begin, seen = time.monotonic(), []
    while True:
        record = node.call("migration.get", id=migration["id"])
        if record["outcome"]:
            return seen, record
        if record["phase"] == "memory_copy":
            eta, error = record.get("eta_ms"), record.get("eta_error_ms")
            seen.append((time.monotonic() - begin, None if eta is None else eta / 1000, (error or 0) / 1000, record.get("forecast_pause_ms")))
        time.sleep(EVERY_S)


def errors(seen, record):
    """Of the ETA, each sample from the first quarter on as a share of the whole, and whether it is within its band; of the pause (error, allowed), in ms."""
    total = record["total_ms"] / 1000
    etas = [abs(at + eta - total) / total if eta is not None else 1.0 for at, eta, _, _ in seen if at >= total / 4]
    bands = [abs(at + eta - total) <= error for at, eta, error, _ in seen if at >= total / 4 and eta is not None]
    pauses = [pause for _, _, _, pause in seen if pause is not None]
    real = record["pause_ms"]
    return etas, bands, (pauses[-1] - real, max(PAUSE_SHARE * real, PAUSE_MS)) if pauses else None


def measure(link, load, trips, results):
    with Cluster(**LINKS[link]) as c:
        memory_mib, wanted = MEMORY_MIB[link], LOADS[load]
        fill = max(wanted.get("fill", 0), min(int(memory_mib * FILL_SHARE), memory_mib - wanted["ws"] - KERNEL_MIB))
        c.boot(spec=guest_spec(memory_mib=memory_mib, **{**wanted, "fill": fill}))
        here = c.a
        for _ in range(trips):
            time.sleep(1)
            seen, record = watch(here, c.migrate(VM, here, wait=False))
            if record["outcome"] != "completed":
                print(f"  {link}, {load}: {record['outcome']}: {record['error']['message']}", flush=True)
                results.append({"link": link, "load": load, "outcome": record["outcome"], "etas": [], "bands": [], "pause": None})
                continue
            etas, bands, pause = errors(seen, record)
            results.append({"link": link, "load": load, "outcome": "completed", "etas": etas, "bands": bands, "pause": pause, "total_ms": record["total_ms"],
                            "seen": seen, "forecasts": record["forecasts"]})
            shown = f"{100 * statistics.median(etas):.0f} % (worst {100 * max(etas):.0f} %)" if etas else "too short to be asked"
            said = f"{pause[0]:+.0f} ms" if pause else "none"
            print(f"  {link}, {load}: {record['total_ms'] / 1000:.1f} s, pause {record['pause_ms']:.0f} ms; ETA wrong by {shown}, pause by {said}",
                  flush=True)
            here = c.other(here)


def distribution(values):
    ordered = sorted(values)
    return ", ".join(f"{name} {100 * ordered[min(int(share * len(ordered)), len(ordered) - 1)]:.0f} %"
                     for name, share in (("median", 0.5), ("p75", 0.75), ("p90", 0.9), ("worst", 1.0)))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trips", type=int, default=2)
    parser.add_argument("--links", type=chosen(LINKS), default=list(LINKS))
    parser.add_argument("--loads", type=chosen(LOADS), default=list(LOADS))
    parser.add_argument("--json")
    options = parser.parse_args()
    results, claims = [], Claims()
    for link in options.links:
        for load in options.loads:
            measure(link, load, options.trips, results)
    etas = [e for r in results for e in r["etas"]]
    pauses = [r["pause"] for r in results if r["pause"]]
    if not etas or not pauses:
        print("nothing was measured")
        return 1
    print(f"{len(results)} migrations, {len(etas)} forecasts of the end from the first quarter on: wrong by {distribution(etas)}")
    claims.least("forecast: migrations measured", len(results), 30, places=0)
    claims.least("forecast: of the expected ends, within 20 %", 100 * statistics.mean(e <= ETA_SHARE for e in etas), 100, " %", 1)
    claims.least("forecast: of the expected ends, within the error that was said with them",
                 100 * statistics.mean(b for r in results for b in r["bands"]), 100 * BAND_SHARE, " %", 1)
    claims.least("forecast: of the expected pauses, within 25 % or 50 ms",
                 100 * statistics.mean(abs(wrong) <= allowed for wrong, allowed in pauses), 100, " %", 1)
    return claims.conclude(options.json, results=results)


if __name__ == "__main__":
    sys.exit(main())
