#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Side by side, in one run: QEMU plain, with XBZRLE, with multifd+zstd, and NovaCron.

The standard guest (tests/lib/nctest/standard_guest.py) on the same link for each;
max-bandwidth unlimited, a limit of 300 ms on the pause. What is measured:
bench/contestants.py. Machines are noisy: what counts is the ratio of medians within
one run, so each contestant takes its turn, round after round. Those that no target
is compared with run in the first round only, and whoever does not end within the cap
is not asked again.

    NC_BUILD=build bench/bench.py [--rows NAME,...] [--rounds 3] [--guest-mib N] [--only NAME,...] [--busy N] [--json FILE]

--busy: hosts that have other work: so many loops compete for the processors all the time.

Ends with status 1 if a target was missed.
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "tests/lib"))

from claims import Claims  # noqa: E402
from contestants import LIMIT_MS, brief, run_novacron, run_qemu  # noqa: E402
from nctest.standard_guest import describe, standard_guest  # noqa: E402
from stage_times import show  # noqa: E402

# Each with what it is told beyond the limit on the pause; NovaCron: nothing, but see --order.
CONTESTANTS = {
    "plain": (run_qemu, {}),
    "xbzrle": (run_qemu, {"xbzrle": True}),
    "multifd+zstd x2": (run_qemu, {"multifd": True, "channels": 2}),
    "multifd+zstd x8": (run_qemu, {"multifd": True, "channels": 8}),
    "novacron": (run_novacron, {}),
}
ZSTD = ("multifd+zstd x2", "multifd+zstd x8")
ANY = ("plain", "xbzrle") + ZSTD
SLOW = {"rate": "100mbit", "delay": "25ms"}

# `targets`: (NovaCron's total time, at most so many times, the fastest of these).
ROWS = {
    "100mbit": {"title": "100 Mbit/s, 50 ms, 4 MB/s dirtied", "link": SLOW, "guest": {"dirty_mb": 4},
                "targets": [(0.85, ZSTD), (0.25, ("xbzrle",))]},
    "hot": {"title": "100 Mbit/s, 50 ms, 25 MB/s dirtied on hot pages", "link": SLOW, "guest": {"dirty_mb": 25, "hot_mib": 64},
            "targets": [(0.9, ZSTD)]},
    "1gbit": {"title": "1 Gbit/s, 20 ms, 20 MB/s dirtied", "link": {"rate": "1gbit", "delay": "10ms"}, "guest": {"dirty_mb": 20},
              "targets": [(1.0, ANY)]},
    # Filled, so that there is something to carry: what is measured here is the price of what we do to each byte.
    "veth": {"title": "veth, nothing limits, 4 MB/s dirtied", "link": {"emulated": False},
             "guest": {"dirty_mb": 4, "memory_mib": 2048, "fill": 1280}, "targets": [(1.25, ("plain",))]},
}
COSTS = {"delta": 0.10, "ratio": 3.5}


def median(runs, key):
    values = [run[key] for run in runs if run["ended"]]
    return statistics.median(values) if values else None


def may_skip(row, contestant, runs, number):
    """Nothing is compared with it, or it has shown that it does not end."""
    compared = {name for _, names in row["targets"] for name in names} | {"novacron"}
    return number > 0 and (contestant not in compared or not runs[-1]["ended"])


def run_row(row, spec, options):
    """{contestant: its runs}, one turn after the other."""
    runs = {name: [] for name in CONTESTANTS if name in options.only}
    for number in range(options.rounds):
        for name, mine in runs.items():
            if not may_skip(row, name, mine, number):
                move, ways = CONTESTANTS[name]
                mine.append(move(row["link"], spec, options.cap, **(options.order if name == "novacron" else ways)))
                print(f"  round {number + 1}, {name}: {brief(mine[-1])}", file=sys.stderr, flush=True)
    return runs


def show_runs(runs):
    print(f"  {'':<17}{'runs':>5}{'total':>10}{'move':>10}{'pause':>10}{'worst':>10}{'stall':>10}{'wire':>12}{'dirtied':>11}{'errors':>8}")
    for name, mine in runs.items():
        good = [run for run in mine if run["ended"]]
        if not good:
            print(f"  {name:<17}{len(mine):>5}  did not end: {mine[-1]['why']}")
            continue
        print(f"  {name:<17}{len(good):>5}{median(mine, 'total_ms') / 1000:>8.2f} s{median(mine, 'move_ms') / 1000:>8.2f} s"
              f"{median(mine, 'pause_ms'):>7.0f} ms{max(run['pause_ms'] for run in good):>7.0f} ms{median(mine, 'stall_ms'):>7.0f} ms"
              f"{median(mine, 'wire_bytes') / (1 << 20):>8.1f} MiB{median(mine, 'dirtied_mb') or 0:>6.1f} MB/s"
              f"{sum(run['errors'] or 0 for run in good):>8}", flush=True)


def costs(counters):
    """What re-sent pages cost that went as a delta, and what non-zero pages were compressed to."""
    delta, pages = counters["delta_bytes"], counters["delta_pages"]
    return {"delta": delta / (pages * 4096) if pages else None,
            "ratio": counters["page_bytes_in"] / counters["page_bytes_out"] if counters["page_bytes_out"] else None}


def show_novacron(run):
    """Where its bytes and its time went, of one run."""
    c = run["counters"]
    cost = costs(c)
    print(f"  novacron, last run: {c['pages']} pages and {c['zero_pages']} zero ones in {c['rounds']} rounds; "
          f"{c['delta_pages']} as deltas of {(cost['delta'] or 0) * 100:.1f} %, {c['reference_pages']} as references; {c['ahead_pages'] or 0} went ahead; "
          f"{cost['ratio'] or 0:.2f} : 1 over non-zero pages; stop to resume {run['stopped_ms']} ms")
    show(run["stages"])


def fastest(runs, names):
    """(median total, name) of the fastest that ended; None if none did."""
    times = [(median(runs[name], "total_ms"), name) for name in names if name in runs]
    return min((t for t in times if t[0]), default=None)


def judge_time(claims, row, runs):
    ours = median(runs["novacron"], "total_ms")
    for limit, names in row["targets"]:
        best = fastest(runs, names)
        if best:
            claims.most(f"{row['title']}: total / {best[1]}'s", ours and ours / best[0], limit)


def judge(claims, row, runs):
    ours = [run for run in runs["novacron"] if run["ended"]]
    title = row["title"]
    claims.add(f"{title}: completes", f"{len(ours)} of {len(runs['novacron'])}", "all", len(ours) == len(runs["novacron"]))
    judge_time(claims, row, runs)
    claims.most(f"{title}: pause by heartbeat, median", median(ours, "pause_ms"), LIMIT_MS, " ms", 0)
    claims.most(f"{title}: pause from stop to resume, median", median(ours, "stopped_ms"), LIMIT_MS, " ms", 0)
    sound = all(run["errors"] == 0 and not run["complaint"] for run in ours)
    claims.add(f"{title}: guest's memory errors", str(sum(run["errors"] or 0 for run in ours)), "0", sound)


def judge_costs(claims, runs):
    """Of the standard guest as it is, on the slow link: there its pages are sent again."""
    found = [costs(run["counters"]) for run in runs["novacron"] if run["ended"]]
    deltas, ratios = [c["delta"] for c in found if c["delta"]], [c["ratio"] for c in found if c["ratio"]]
    claims.most("standard guest: deltas of re-sent pages, of their size", statistics.median(deltas) * 100 if deltas else None,
                COSTS["delta"] * 100, " %", 1)
    claims.least("standard guest: compression over non-zero pages", statistics.median(ratios) if ratios else None, COSTS["ratio"], " : 1")


@contextlib.contextmanager
def busy_loops(count):
    loops = [subprocess.Popen(["sh", "-c", "while :; do :; done"]) for _ in range(count)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def bench_row(claims, name, options):
    row = ROWS[name]
    guest = {**row["guest"], **({"memory_mib": options.guest_mib} if options.guest_mib else {})}
    spec = standard_guest(**guest)
    runs = run_row(row, spec, options)
    beside = f"; {options.busy} busy loops beside" if options.busy else ""
    print(f"\n{row['title']}{beside}\n{describe(spec)}; limit {LIMIT_MS} ms; median of {options.rounds}")
    show_runs(runs)
    ours = [run for run in runs.get("novacron", []) if run["ended"]]
    if ours:
        show_novacron(ours[-1])
    if "novacron" in runs:
        judge(claims, row, runs)
        if name == "100mbit":
            judge_costs(claims, runs)
    return runs


def chosen(known):
    """A comma-separated choice of ${known}, for argparse."""
    def parse(text):
        names = text.split(",")
        if unknown := [n for n in names if n not in known]:
            raise argparse.ArgumentTypeError(f"{unknown[0]}: not of {', '.join(known)}")
        return names
    return parse


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=chosen(ROWS), default=list(ROWS), help="comma-separated, of: " + ", ".join(ROWS))
    parser.add_argument("--only", type=chosen(CONTESTANTS), default=list(CONTESTANTS), help="of: " + ", ".join(CONTESTANTS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--guest-mib", type=int, help="memory of the guest instead of the row's")
    parser.add_argument("--cap", type=int, default=150, help="seconds after which a move counts as one that never ends (150)")
    parser.add_argument("--order", type=json.loads, default={},
                        help="JSON for NovaCron's order, to try things: {\"compression\": \"zstd\"}")
    parser.add_argument("--busy", type=int, default=0, help="busy loops beside (0)")
    parser.add_argument("--json", help="write runs and claims to this file")
    options = parser.parse_args()
    claims = Claims()
    with busy_loops(options.busy):
        runs = {name: bench_row(claims, name, options) for name in options.rows}
    return claims.conclude(options.json, rows=runs)


if __name__ == "__main__":
    sys.exit(main())
