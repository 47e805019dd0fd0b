#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Migrations of a busy guest, one after the other, each with a random fault at a random moment.

    NC_BUILD=build tests/soak/soak.py [--count 300] [--seed S] [--json FILE]        (or: make soak N=300)

After each one the machine must run in exactly one place with no error in its memory, or, where the
fault killed the only copy of it (its QEMU), that is what the report must say. An observer asks
both QEMUs all the time whether they run: it must never see two. What a run did is printed, a line each,
so that a seed and a number lead back to what went wrong.

Ends with status 1 if anything was violated. The success rate counts the migrations whose fault
did not kill the machine: did they, after whatever retries, arrive?
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests/lib"))

from nctest.cluster import FAKETIME, Cluster, Refused, guest_spec  # noqa: E402
from nctest.guest import TcpClient  # noqa: E402
from nctest.net import wait_for  # noqa: E402

VM = "web1"
ALGORITHMS = ("auto", "pre-copy", "post-copy")
POINTS = {
    "source": ("source-prepare", "source-keeper", "source-switching", "source-before-release", "source-after-release", "source-after-grant",
               "source-started", "source-recover", "source-served", "source-before-end", "source-after-end"),
    "destination": ("destination-prepare", "destination-granted", "destination-before-take", "destination-after-take", "destination-before-cont",
                    "destination-after-cont", "destination-recover", "destination-fetched"),
}
MESSAGES = {
    "source": ("mig_prepare", "mig_query", "mig_finished", "mig_recover"),
    "destination": ("mig_accepted", "mig_prepared", "mig_started", "mig_alive", "mig_recovering", "mig_done"),
}
LINK = 12_000_000  # bytes per second: a few seconds for each, so that faults meet every phase
SETTLE_S = 180
GOOD_SHARE = 0.999


class Violation(Exception):
    pass


def kill(pids):
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


class Soak:
    def __init__(self, cluster, rng):
        self.c, self.rng = cluster, rng
        self.faults = [self.none, self.kill_mover, self.kill_novacrond, self.kill_gate, self.kill_qemu, self.cut_link, self.die_at_a_point,
                       self.slow_journal, self.odd_message, self.step_clock]
        self.wanted = 0  # migrations whose fault did not kill the machine,
        self.arrived = 0  # and of those, which arrived
        self.kinds = {}

    # --- faults: each returns what it did; `self.source` and `self.destination` are nodes ---

    def side(self):
        return self.rng.choice(("source", "destination"))

    def node(self, side):
        return self.source if side == "source" else self.destination

    def later(self):
        """Somewhere in the course of a migration of some seconds, or after it."""
        time.sleep(self.rng.random() * self.span_s)

    def none(self):
        return "nothing"

    def kill_mover(self):
        side = self.side()
        self.later()
        kill(self.node(side).mover_pids())
        return f"mover of the {side} killed"

    def kill_novacrond(self):
        sides = self.rng.choice((("source",), ("destination",), ("source", "destination")))
        self.later()
        for side in sides:
            self.node(side).kill()
        time.sleep(self.rng.random() * 2)
        for side in sides:
            self.node(side).start()
        return f"novacrond of the {' and the '.join(sides)} killed"

    def kill_gate(self):
        side = self.side()
        self.later()
        self.node(side).gate.kill()
        self.node(side).gate.wait()
        self.node(side).start_gate()
        return f"gate of the {side} killed"

    def kill_qemu(self):
        side = self.side()
        self.later()
        kill(self.node(side).qemu_pids())
        return f"QEMU of the {side} killed"

    def cut_link(self):
        seconds = self.rng.choice((0.5, 2, 8))
        self.later()
        self.c.net.wan.tell("down")
        time.sleep(seconds)
        self.c.net.wan.tell("up")
        return f"link cut for {seconds} s"

    def with_fault(self, side, fault):
        """For the next one: the fault is in the environment that novacrond is started with."""
        self.node(side).stop()
        self.node(side).start(fault=fault)

    def prepare_point(self):
        side = self.side()
        self.armed = (side, self.rng.choice(POINTS[side]), "kill")

    def prepare_slow(self):
        self.armed = (self.side(), "journal-write", f"sleep={self.rng.choice((300, 1500, 6000))}")

    def prepare_message(self):
        side = self.side()
        self.armed = (side, "tell-" + self.rng.choice(MESSAGES[side]), self.rng.choice(("twice", "sleep=2000")))

    def die_at_a_point(self):
        side, point, _ = self.armed
        node = self.node(side)
        end = time.monotonic() + self.span_s + 20
        while time.monotonic() < end and not node.is_dead() and not self.is_over():
            time.sleep(0.05)
        if not node.is_dead():
            return f"novacrond of the {side} never came to {point}"
        node.start()
        return f"novacrond of the {side} died at {point}"

    def slow_journal(self):
        return "journal of the %s: %s %s" % self.armed

    def odd_message(self):
        return "message of the %s: %s %s" % self.armed

    def step_clock(self):
        side, seconds = self.side(), self.rng.choice((-200, -5, 5, 3600))  # what is older than a certificate's backdating, nobody believes
        self.later()
        self.node(side).step_clock(seconds)
        return f"clock of the {side}'s novacrond stepped by {seconds} s"

    # --- one migration ---

    def is_over(self):
        try:
            m = self.source.call("migration.get", id=self.id)
        except (OSError, Refused):
            return False
        return m["outcome"] is not None or m["attention"] is not None

    def arm(self, fault):
        {self.die_at_a_point: self.prepare_point, self.slow_journal: self.prepare_slow, self.odd_message: self.prepare_message}.get(
            fault, lambda: setattr(self, "armed", None))()
        if self.armed:
            self.with_fault(self.armed[0], "%s:%s" % self.armed[1:])

    def disarm(self):
        if self.armed:
            for node in (self.source, self.destination):
                if not node.is_dead():
                    node.stop()
                node.start()

    def settled(self):
        """The record, when the migration has ended or people are asked."""
        try:
            m = self.source.call("migration.get", id=self.id)
        except (OSError, Refused):
            return None
        return m if m["outcome"] or (m["attention"] and (self.machine_was_killed(m) or self.was_lost_with_the_flow(m))) else None

    def machine_was_killed(self, m):
        return self.did.startswith("QEMU")

    def was_lost_with_the_flow(self, m):
        """A known limit (post-copy, the window): QEMU 7.2 can't always begin anew when a mover dies just before the end. It counts as not arrived."""
        return m["postcopy"] and "died in post-copy" in (m["attention"] or "")

    def run(self, number):
        self.source = self.c.a if self.c.a.state(VM) in ("running", "paused") else self.c.b
        self.destination = self.c.other(self.source)
        fault, algorithm = self.rng.choice(self.faults), self.rng.choice(ALGORITHMS)
        self.span_s, self.did = self.rng.choice((1, 4, 10)), ""
        self.arm(fault)
        begin = time.monotonic()
        self.id = self.source.call("migration.create", vm=VM, to=self.destination.name, algorithm=algorithm, bandwidth_limit_bps=LINK)["id"]
        self.did = fault()
        m = wait_for(self.settled, SETTLE_S, f"migration {number} ({algorithm}, {self.did}) to settle")
        self.judge(m)
        self.disarm()
        print(f"{number:5} {algorithm:9} {time.monotonic() - begin:6.1f} s  {m['outcome'] or 'needs attention':10} {self.did}"
              f"{'; ' + m['error']['message'] if m['error'] else ''}", flush=True)

    def judge(self, m):
        if self.c.observer.double:
            raise Violation("two runners were seen")
        lost = self.machine_was_killed(m) and m["outcome"] != "completed"
        where = self.c.runs_where(VM)
        if len(where) == 1:
            self.c.assert_healthy(VM, self.c.a if where == [self.c.a.name] else self.c.b)
        elif not self.machine_was_killed(m) and not self.was_lost_with_the_flow(m):
            raise Violation(f"it runs on {where or 'no node'}")
        else:
            self.check_report(m)
            self.boot_again(m)
        if not lost:
            self.wanted += 1
            self.arrived += m["outcome"] == "completed"
        self.kinds[m["outcome"] or "attention"] = self.kinds.get(m["outcome"] or "attention", 0) + 1

    def check_report(self, m):
        text = (m["error"] or {}).get("message", "") + (m["attention"] or "")
        if m["outcome"] != "completed" and "QEMU" not in text:
            raise Violation(f"its QEMU was killed, and the report does not say so: {text}")

    def boot_again(self, m):
        """An operator's part: the machine is lost, and starts anew where its right is."""
        if m["attention"]:
            self.source.call("migration.resolve", id=self.id, action="run_here")
            self.source.wait_migration(self.id)
            if self.c.runs_where(VM) == [self.source.name]:
                return
        for node in (self.c.a, self.c.b):
            node_state = wait_for(lambda: node.state(VM) if node.state(VM) not in ("migrating", "incoming") else None, 60, "the machine's state") \
                if node.state(VM) else None
            if node_state == "stopped" and node.call("machine.get", name=VM)["right"] == "held":
                node.call("machine.start", name=VM)
                wait_for(lambda: self.c.runs_where(VM) == [node.name], 60, "the machine to start anew")
                self.await_guest()
                return
        raise Violation(f"nobody may start it: {[(n.name, n.state(VM)) for n in (self.c.a, self.c.b)]}")

    def await_guest(self):
        client = wait_for(self.new_client, 240, "the guest to answer again")
        try:
            wait_for(lambda: client.is_moving(5), 120, "the guest to boot again")
        finally:
            client.close()

    def new_client(self):
        try:
            return TcpClient(self.c.net.client)
        except OSError:  # it has not come so far
            return None


def has_faketime():
    return os.path.exists(FAKETIME)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--json", help="write the summary to this file")
    options = parser.parse_args()
    print(f"seed {options.seed}")
    with Cluster(rate="1gbit", delay="5ms", gates=True, clock=has_faketime(), retry_attempts="5", retry_pause_ms="500") as c:
        c.boot(spec=guest_spec(memory_mib=160, ws=32, rate=5, pattern="random"))
        c.watch_runners(VM)
        soak = Soak(c, random.Random(options.seed))
        if not has_faketime():
            soak.faults.remove(soak.step_clock)
            print("libfaketime is not installed: clocks are not stepped")
        for number in range(options.count):
            try:
                soak.run(number)
            except (Violation, AssertionError, TimeoutError, OSError, Refused, RuntimeError) as problem:
                print(f"VIOLATED in number {number} of seed {options.seed}: {problem} ({soak.did})", flush=True)
                raise SystemExit(1) from problem
        for node in (c.a, c.b):
            report = node.call("audit.verify")
            if not report["ok"]:
                print(f"VIOLATED: the transaction log of {node.name}: {report['problem']}")
                raise SystemExit(1)
        rate = soak.arrived / soak.wanted if soak.wanted else 1
        summary = {"count": options.count, "seed": options.seed, "samples": c.observer.samples, "double": c.observer.double,
                   "outcomes": soak.kinds, "counted": soak.wanted, "arrived": soak.arrived, "success": rate}
    print(f"{options.count} migrations, {summary['samples']} samples, {summary['double']} with two runners; {soak.kinds}; of "
          f"{soak.wanted} whose fault did not kill the machine {soak.arrived} arrived: {rate * 100:.2f} % (goal {GOOD_SHARE * 100} %)")
    if options.json:
        with open(options.json, "w") as f:
            json.dump(summary, f, indent=1)
    return 0 if rate >= GOOD_SHARE else 1


if __name__ == "__main__":
    sys.exit(main())
