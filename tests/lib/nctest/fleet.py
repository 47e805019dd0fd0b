# SPDX-License-Identifier: Apache-2.0
"""Five nodes, one of which is emptied, and ten small guests on it.

        host-1 (controller) --+
        host-3 ---------------+-- router ==== ncwan ==== host-2, where the guests are
        host-4 ---------------+
        host-5 ---------------+

All that leaves host-2 crosses the emulated link, which counts it.
"""

import os
import re
import signal
from datetime import datetime

from .cluster import Node, guest_spec
from .net import Bed, Wan, veth, wait_for

FULL = "host-2"
PRIORITIES = ("low", "normal", "critical", "normal", "high", "low", "normal", "critical", "normal", "high")
BUDGET_BPS = 25_000_000  # of host-2, on the wire
STATISTICS = re.compile(r"NCLOAD errors=(\d+) verified=(\d+)")


class Star:
    """The hosts' namespaces, and how they reach each other."""

    def __init__(self, bed, count, rate, delay):
        self.router = bed.netns("r")
        self.router.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
        self.router.ip("link", "add", "br0", "type", "bridge")
        self.router.ip("link", "set", "br0", "up")
        self.router.ip("addr", "add", "10.99.0.254/24", "dev", "br0")
        self.hosts = {}
        for number in range(1, count + 1):
            name = f"host-{number}"
            host = self.hosts[name] = bed.netns(f"h{number}")
            if name == FULL:
                self.wan = Wan(bed, host, self.router, rate, delay, number=1)
                host.ip("route", "add", "10.99.0.0/24", "via", "10.100.0.2")
                continue
            veth(host, "wan0", self.router, f"p{number}")
            self.router.ip("link", "set", f"p{number}", "master", "br0")
            host.ip("addr", "add", f"10.99.0.{number}/24", "dev", "wan0")
            host.ip("route", "add", "10.100.0.0/24", "via", "10.99.0.254")

    @staticmethod
    def address(name):
        return "10.100.0.1" if name == FULL else f"10.99.0.{name.rsplit('-', 1)[1]}"


class Fleet:
    """Nodes that run and have joined, host-1 with the controller; `with Fleet() as f`, then f.boot()."""

    def __init__(self, count=5, rate="1gbit", delay="2ms", each={}, **settings):
        self.bed = Bed()
        try:
            self.star = Star(self.bed, count, rate, delay)
            self.nodes = {name: Node(self.bed, name, host, Star.address(name), controllers="host-1", **settings, **each.get(name, {}))
                          for name, host in self.star.hosts.items()}
            self.controller = self.nodes["host-1"]
            self.controller.settings["controller"] = "yes"
            self.controller.write_config()
            self.controller.pki_init()
            self.controller.start()
            for node in self.others("host-1"):
                node.join(self.controller.call("node.token", ttl_s=600)["token"], self.controller)
                node.start()
        except BaseException:
            self.close()
            raise

    def close(self):
        self.bed.close()

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind and not os.environ.get("NC_QUIET"):
            for node in self.nodes.values():
                print(f"--- {node.name}\n{node.log_tail(40)}")
        self.close()

    def others(self, name):
        return [node for node in self.nodes.values() if node.name != name]

    def ask(self, op, **args):
        return self.controller.call(f"fleet.{op}", **args)

    def boot(self, memory_mib=96, ws=8, rate=1, **more):
        """Ten guests on host-2, by priority; the names of all."""
        names = [f"vm{number:02}" for number in range(len(PRIORITIES))]
        specs = [guest_spec(name=name, memory_mib=memory_mib, ws=ws, rate=rate, nic=False, priority=priority, observer_qmp=False, **more)
                 for name, priority in zip(names, PRIORITIES)]
        self.start_guests([(FULL, spec) for spec in specs])
        return names

    def start_guests(self, places):
        """Boots all of [(node's name, spec)] at once. Who has many guests has no processors for their heartbeats."""
        for where, spec in places:
            spec["cmdline"] = re.sub(r"nc\.beat_ms=\d+", "nc.beat_ms=100", spec["cmdline"])
            self.nodes[where].call("machine.define", spec=spec)
            self.nodes[where].call("machine.start", name=spec["name"])
        for where, spec in places:
            wait_for(lambda: "NCLOAD READY" in self.console(self.nodes[where], spec["name"]), 40, f"{spec['name']} to boot")

    def console(self, node, vm):
        path = os.path.join(node.machine_dir(vm), "console.log")
        return open(path, errors="replace").read() if os.path.exists(path) else ""

    def holders(self, vm):
        """The nodes that say that it runs there."""
        return [node for node in self.nodes.values() if node.state(vm) == "running"]

    def assert_alive(self, vm):
        """It runs on one node, gets somewhere, and has found nothing wrong. The node."""
        node, = self.holders(vm)

        def said():
            return [(int(errors), int(verified)) for errors, verified in STATISTICS.findall(self.console(node, vm))]
        before = len(said())
        wait_for(lambda: len(said()) >= before + 2, 60, f"{vm} to go on on {node.name}")
        (_, earlier), (errors, verified) = said()[-2:]
        assert errors == 0 and verified > earlier, f"{vm} on {node.name}: {said()[-2:]}"
        return node

    def reload(self, name, **settings):
        node = self.nodes[name]
        node.settings.update(settings)
        node.write_config()
        node.process.send_signal(signal.SIGHUP)

    def seen(self):
        """Where the controller takes each machine to be."""
        return {m["name"]: m["node"] for m in self.ask("machines")["items"]}

    def wait_seen(self, where):
        """And that they run: it hears of that up to two seconds later, and what is stopped can't move."""
        def runs():
            return all(m["state"] == "running" for m in self.ask("machines")["items"])
        wait_for(lambda: self.seen() == where and runs() and len(self.ask("nodes")["items"]) == len(self.nodes), 60,
                 lambda: f"the controller to see {where}; it sees {self.seen()}")

    def left(self):
        """The records of what has left host-2, with their histories, oldest first."""
        node = self.nodes[FULL]
        records = [node.call("migration.get", id=m["id"]) for m in node.call("migration.list", limit=100)["items"] if m["role"] == "source"]
        return sorted(records, key=lambda m: m["started"])

    def errors(self, vm):
        """What the guest has counted where it runs now; at least once."""
        return int(STATISTICS.findall(self.console(self.assert_alive(vm), vm))[-1][0])

    def wait_end(self, id, timeout=150):
        wait_for(lambda: self.ask("get", id=id)["is_finished"], timeout, lambda: f"the end of {self.ask('get', id=id)}")
        return self.ask("get", id=id)


def seconds(text):
    """A record's time."""
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def endgames(records):
    """(begin, end) of each last round that was alone by its node's word, from then until the machine ran at the destination."""
    spans = []
    for m in records:
        began = None
        for entry in m["events"]:
            if entry["event"].startswith("endgame"):
                began = seconds(entry["at"]) if entry["event"] == "endgame" else None
            elif entry["event"] == "started" and began:
                spans.append((began, seconds(entry["at"])))
    return spans


def overlaps(spans):
    """Of (begin, end), those that begin before an earlier one has ended."""
    ordered = sorted(spans)
    return [(a, b) for a, b in zip(ordered, ordered[1:]) if b[0] < a[1]]


def most_at_once(spans):
    edges = sorted([(begin, 1) for begin, _ in spans] + [(end, -1) for _, end in spans])
    most = now = 0
    for _, step in edges:
        now += step
        most = max(most, now)
    return most
