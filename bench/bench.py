#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Side by side, in one run: plain QEMU, QEMU multifd+zstd, NovaCron.

The same guest and the same links for each. From the order on, each has to start
the destination's QEMU and to move the guest:
  total  from the order to the end, as whoever gave it sees it
  move   of that, from QEMU's own `migrate` to the end
  pause  from the last beat of the guest's heartbeat at the source to its first
         at the destination, read from outside
  stall  the longest gap between two beats anywhere in that time: with TCG the
         guest also stands still while QEMU sets up its dirty tracking
  wire   bytes that the link carried, both ways
Machines are noisy: what counts is the ratio of medians within one run, so each
contestant takes its turn, round after round.
"""

import argparse
import datetime
import json
import os
import statistics
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "tests/lib"))

from nctest.cluster import Cluster, guest_spec  # noqa: E402
from nctest.net import wait_for  # noqa: E402
from nctest.plain_qemu import PlainPair  # noqa: E402

LINKS = {
    "1gbit-20ms": {"rate": "1gbit", "delay": "10ms"},
    "100mbit-50ms": {"rate": "100mbit", "delay": "25ms"},
    "veth": {"emulated": False},
}
LIMIT_MS = 300
VM = "bench1"


def guest(memory_mib, rate):
    return guest_spec(VM, memory_mib=memory_mib, ws=32, rate=rate, fill=64)


def wire_total(net):
    stats = net.wan.stats()
    return stats["ab"]["wire_bytes"] + stats["ba"]["wire_bytes"]


def settle(seconds=2):
    time.sleep(seconds)


def result(net, before, begin, migrate, end, beat, paths):
    """What every contestant is asked for; ${begin}, ${migrate} and ${end} monotonic."""
    return {"total_ms": (end - begin) * 1000, "move_ms": (end - migrate) * 1000,
            "pause_ms": wait_for(lambda: beat.pause_ms(*paths), 30, "a beat at the destination"),
            "stall_ms": beat.longest_gap_ms(begin), "wire_bytes": wire_total(net) - before}


def event_s(record, name):
    """When ${name} happened, in seconds from the migration's creation."""
    at = [e["at"] for e in record["events"] if e["event"] == name][0]
    return (moment(at) - moment(record["created"])).total_seconds()


def moment(text):
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))


def run_novacron(link, spec):
    with Cluster(**link) as c:
        c.boot(spec=spec)
        beat = c.watch_heartbeat(VM)
        settle()
        before, begin = wire_total(c.net), time.monotonic()
        m = c.migrate(VM, c.a, max_downtime_ms=LIMIT_MS, timeout=300)
        end = time.monotonic()
        settle(1)
        if m["outcome"] != "completed":
            return None
        paths = [os.path.join(node.machine_dir(VM), "beat.sock") for node in (c.a, c.b)]
        measured = result(c.net, before, begin, begin + event_s(m, "qemu-migrates"), end, beat, paths)
        return {**measured, "says_pause_ms": m["pause_ms"]}


def run_plain(link, spec, multifd):
    with PlainPair(link, spec, start_destination=False) as pair:
        settle()
        before, begin = wire_total(pair.net), time.monotonic()
        pair.start_destination()
        migrate = time.monotonic()
        ok = pair.migrate(LIMIT_MS, multifd=multifd, timeout=300)
        end = time.monotonic()
        settle(1)
        if not ok:
            return None
        return result(pair.net, before, begin, migrate, end, pair.heartbeat, (pair.source.beat_path, pair.destination.beat_path))


CONTESTANTS = {
    "plain QEMU": lambda link, spec: run_plain(link, spec, False),
    "multifd+zstd": lambda link, spec: run_plain(link, spec, True),
    "NovaCron": run_novacron,
}


def medians(results):
    good = [r for r in results if r]
    if not good:
        return None
    return {k: statistics.median(r[k] for r in good) for k in good[0]}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--links", default=",".join(LINKS), help="comma-separated, of: " + ", ".join(LINKS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--memory", type=int, default=512, help="MiB of the guest")
    parser.add_argument("--rate", type=float, default=10, help="MiB/s that the guest dirties")
    parser.add_argument("--json", help="write the medians to this file")
    options = parser.parse_args()
    table = {}
    for name in options.links.split(","):
        rate = options.rate if name != "100mbit-50ms" else min(options.rate, 4)
        spec = guest(options.memory, rate)
        runs = {c: [] for c in CONTESTANTS}
        for _ in range(options.rounds):
            for contestant, run in CONTESTANTS.items():
                runs[contestant].append(run(LINKS[name], spec))
        table[name] = {c: medians(r) for c, r in runs.items()}
        print(f"\n{name}: guest {options.memory} MiB, {rate:g} MiB/s dirtied, limit {LIMIT_MS} ms, median of {options.rounds}")
        print(f"  {'':<14}{'total':>9}{'move':>9}{'pause':>10}{'stall':>10}{'wire':>12}{'total/plain':>13}{'move/plain':>12}")
        plain = table[name]["plain QEMU"]
        for contestant, m in table[name].items():
            if not m:
                print(f"  {contestant:<14}  did not finish")
                continue
            ratios = [f"{m[k] / plain[k]:.2f}" if plain else "-" for k in ("total_ms", "move_ms")]
            print(f"  {contestant:<14}{m['total_ms'] / 1000:>7.2f} s{m['move_ms'] / 1000:>7.2f} s{m['pause_ms']:>7.0f} ms"
                  f"{m['stall_ms']:>7.0f} ms{m['wire_bytes'] / (1 << 20):>8.1f} MiB{ratios[0]:>13}{ratios[1]:>12}", flush=True)
    if options.json:
        with open(options.json, "w") as f:
            json.dump(table, f, indent=1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
