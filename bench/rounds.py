# SPDX-License-Identifier: Apache-2.0
"""Contestants take turns on the same link with the same guest, some rounds long: what such a measurement needs."""

import argparse
import statistics
import sys

from claims import Claims
from contestants import brief


def median(runs, key):
    """Of the runs that came to their end; None if none did."""
    values = [run[key] for run in runs if run["ended"]]
    return statistics.median(values) if values else None


def errors(runs):
    """What the guests found wrong with their memory, together."""
    return sum(run["errors"] or 0 for run in runs if run["ended"])


def all_sound(runs):
    return all(run["ended"] and run["errors"] == 0 and not run["complaint"] for run in runs)


def play(contestants, link, options):
    """contestants: {name: (function of contestants.py, machine, its keywords)}; {name: [run, ...]}."""
    runs = {name: [] for name in contestants}
    for number in range(options.rounds):
        for name, mine in runs.items():
            move, machine, ways = contestants[name]
            mine.append(move(link, machine, options.cap, **ways))
            print(f"  round {number + 1}, {name}: {brief(mine[-1])}", file=sys.stderr, flush=True)
    return runs


def show(runs, columns):
    """columns: [(title, width, text of the runs that ended)]."""
    width = max(map(len, runs)) + 2
    print(f"  {'':<{width}}{'runs':>5}" + "".join(f"{title:>{w}}" for title, w, _ in columns))
    for name, mine in runs.items():
        good = [run for run in mine if run["ended"]]
        cells = "".join(f"{text(good):>{w}}" for _, w, text in columns) if good else f"  {mine[-1]['why']}"
        print(f"  {name:<{width}}{len(good):>5}{cells}")


def main(doc, contestants, link, title, columns, judge):
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cap", type=int, default=150, help="seconds after which a move counts as one that never ends (150)")
    parser.add_argument("--json", help="write runs and claims to this file")
    options = parser.parse_args()
    claims = Claims()
    runs = play(contestants, link, options)
    print(f"\n{title}; median of {options.rounds}")
    show(runs, columns)
    judge(claims, runs)
    return claims.conclude(options.json, rows=runs)
