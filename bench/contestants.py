# SPDX-License-Identifier: Apache-2.0
"""Those who move the guest: QEMU in its ways, and NovaCron. Each on its own link and its own guest.

A run is a dictionary. `ended`: did it complete before the cap; if so
  total_ms  from the order to the end, starting the destination's QEMU included
  move_ms   of that, from QEMU's own `migrate` on
  pause_ms  from the last beat of the guest's heartbeat at the source to its first
            at the destination, read from outside
  stall_ms  the longest gap between two beats anywhere in that time: with TCG the
            guest also stands still while QEMU sets up its dirty tracking
  dirtied_mb   what the guest wrote per second before the move, 10^6 bytes
  wire_bytes   what the link carried, both ways
  errors, complaint   what the guest found wrong with its memory afterwards
and for NovaCron `stopped_ms`, from stop to resume as it says itself, `counters` and `stages`.
"""

import datetime
import os
import re
import time

from nctest.cluster import Cluster
from nctest.guest import console_errors
from nctest.net import wait_for
from nctest.plain_qemu import PlainPair
from stage_times import StageTimes

LIMIT_MS = 300
CHECKED_PAGES = 20000  # after the move, before the guest is asked for errors
COUNTERS = ("ahead_pages", "block_pages", "repeated_blocks", "page_blocks", "stored_pages", "stream_bytes", "pages", "zero_pages", "fill_pages", "reference_pages", "delta_pages", "delta_bytes", "page_bytes_in",
            "page_bytes_out", "mover_cpu_ms", "mover_rss_bytes", "rounds", "ram_total_bytes", "shadow_bytes", "free_page_hints")


def brief(run):
    if not run["ended"]:
        return f"did not end ({run['why']})"
    return f"{run['total_ms'] / 1000:.2f} s, pause {run['pause_ms']:.0f} ms, guest's errors {run['errors']} {run['complaint'] or ''}"


def wire_total(net):
    stats = net.wan.stats()
    return stats["ab"]["wire_bytes"] + stats["ba"]["wire_bytes"]


def settle(seconds=3):
    """So long that the guest has said at least twice how it is."""
    time.sleep(seconds)


def dirtied_mb(console):
    """What the guest has dirtied in its last second, 10^6 bytes: does it do what it was told?"""
    counts = re.findall(r"written=(\d+)", open(console, errors="replace").read())
    return (int(counts[-1]) - int(counts[-2])) * 4096 / 1e6 if len(counts) > 1 else None


def verified(console):
    counts = re.findall(r"verified=(\d+)", open(console, errors="replace").read()) if os.path.exists(console) else []
    return int(counts[-1]) if counts else None


def guest_verdict(console):
    """Lets the guest check its memory for a while; errors, and what its kernel complained of."""
    try:
        first = wait_for(lambda: verified(console), 20, "the guest's console")
        wait_for(lambda: verified(console) >= first + CHECKED_PAGES, 30, "the guest to check its pages")
    except TimeoutError as problem:
        return {"errors": console_errors(console)[0], "complaint": str(problem)}
    errors, complaint = console_errors(console)
    return {"errors": errors, "complaint": complaint}


def measured(net, before, begin, migrate, end, beat, paths):
    """What every contestant is asked for; ${begin}, ${migrate} and ${end} monotonic."""
    return {"ended": True, "total_ms": (end - begin) * 1000, "move_ms": (end - migrate) * 1000,
            "pause_ms": wait_for(lambda: beat.pause_ms(*paths), 30, "a beat at the destination"),
            "stall_ms": beat.longest_gap_ms(begin, end + 1), "wire_bytes": wire_total(net) - before}


def run_qemu(link, spec, cap_s, **ways):
    """${ways}: of PlainPair.migrate()."""
    with PlainPair(link, spec, start_destination=False) as pair:
        settle()
        dirtied = dirtied_mb(pair.source.console)
        before, begin = wire_total(pair.net), time.monotonic()
        pair.start_destination()
        migrate = time.monotonic()
        completed = pair.migrate(LIMIT_MS, timeout=cap_s, **ways)
        end = time.monotonic()
        if not completed:
            return {"ended": False, "why": f"not within {cap_s} s"}
        paths = (pair.source.beat_path, pair.destination.beat_path)
        run = measured(pair.net, before, begin, migrate, end, pair.heartbeat, paths)
        return {**run, "dirtied_mb": dirtied, **guest_verdict(pair.destination.console)}


def event_s(record, name):
    """When ${name} happened, in seconds from the migration's creation."""
    at = [e["at"] for e in record["events"] if e["event"] == name][0]
    return (moment(at) - moment(record["created"])).total_seconds()


def moment(text):
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))


def movers(cluster):
    found = {"source": cluster.a.mover_pids(), "destination": cluster.b.mover_pids()}
    return {side: pids[0] for side, pids in found.items() if pids}


def novacron_moves(c, vm, cap_s, **order):
    """The migration's record, or None if it had to be cancelled."""
    m = c.migrate(vm, c.a, wait=False, max_downtime_ms=LIMIT_MS, **order)
    try:
        return c.a.wait_migration(m["id"], cap_s, patience=1)
    except TimeoutError:
        c.a.call("migration.cancel", id=m["id"])
        return None


def run_novacron(link, spec, cap_s, **order):
    """${order}: of migration.create; the defaults otherwise."""
    vm = spec["name"]
    with Cluster(**link) as c:
        c.boot(spec=spec)
        beat = c.watch_heartbeat(vm)
        settle()
        dirtied = dirtied_mb(os.path.join(c.a.machine_dir(vm), "console.log"))
        stages = StageTimes(lambda: movers(c))
        before, begin = wire_total(c.net), time.monotonic()
        m = novacron_moves(c, vm, cap_s, **order)
        end = time.monotonic()
        if not m or m["outcome"] != "completed":
            return {"ended": False, "why": m["error"]["message"] if m else f"not within {cap_s} s"}
        paths = [os.path.join(node.machine_dir(vm), "beat.sock") for node in (c.a, c.b)]
        run = measured(c.net, before, begin, begin + event_s(m, "qemu-migrates"), end, beat, paths)
        run.update(stopped_ms=m["pause_ms"], counters={k: m.get(k) for k in COUNTERS}, stages=stages.take())
        # Of both movers: the record is the source's.
        run["cpu_s"] = sum(sum(times) for side in run["stages"].values() for times in side.values())
        return {**run, "dirtied_mb": dirtied, **guest_verdict(os.path.join(c.b.machine_dir(vm), "console.log"))}
