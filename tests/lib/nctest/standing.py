# SPDX-License-Identifier: Apache-2.0
"""One guest between two nodes that tests hand on to each other, because most of what a short test takes is a guest's boot.

Each test gets it whole and gives it back whole, or is the one that fails; what a test has broken goes no further.
"""

import signal

from .cluster import FINAL, Cluster
from .guest import TcpClient
from .net import wait_for


class Standing:
    """Made when it is first asked for, and anew after a test that failed or left harm; `with Standing(...) as s`."""

    def __init__(self, spec, **cluster):
        self.spec, self.how = spec, cluster
        self.vm = spec["name"]
        self.c = None
        self.settings = {}  # of each node, by its name, as it was made
        self.written = 0    # pages, by the guest's own count

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.drop()

    def take(self):
        """(cluster, node that the guest runs on, the other one): nothing is under way, both nodes live and have no faults."""
        if not self.c:
            self._make()
        try:
            return self._sides()
        except BaseException:
            self.drop(told=True)
            raise

    def _sides(self):
        c = self.c
        wait_for(lambda: len(c.runs_where(self.vm)) == 1, 20, lambda: f"{self.vm} to run on one node: {c._states(self.vm)}")
        where, = c.runs_where(self.vm)
        source = c.a if where == c.a.name else c.b
        return c, source, c.other(source)

    def _make(self):
        self.c = Cluster(**self.how)
        self.written = 0
        self.settings = {node.name: dict(node.settings) for node in (self.c.a, self.c.b)}
        try:
            self.c.boot(spec=self.spec)
            self.c.watch_runners(self.vm)
        except BaseException:
            self.drop(told=True)
            raise

    def give_back(self, test):
        """After each test, pytest's item ${test}: if it has failed, or if this fails, the next one gets another guest."""
        if not self.c:
            return
        whole = False
        try:
            if not test.went_wrong:
                self._mend()
                self._check()
                whole = True
        finally:
            if not whole:
                self.drop(told=True)

    def drop(self, told=False):
        """Its end; ${told}: with what the nodes have to say, for a test that failed."""
        c, self.c = self.c, None
        if c:
            c.__exit__(told or None)

    def _mend(self):
        """What a test may leave: a node that is down, has an unstruck fault, or other settings; the link as it is."""
        self.c.net.wan.tell("up")
        for node in (self.c.a, self.c.b):
            before = self.settings[node.name]
            down = node.is_dead()
            if down:
                ended = node.process.returncode
                assert ended in (0, -signal.SIGKILL), f"novacrond on {node.name} ended with {ended}: {node.log_tail()}"
            if not (down or node.fault or node.settings != before):
                continue
            node.stop()
            node.settings, node.data_dir = dict(before), before["data_dir"]
            node.write_config()
            node.start()

    def _check(self):
        """It is still the guest that was booted, it runs once and finds nothing wrong with its memory; nothing else is left of any migration."""
        c = self.c
        for node in (c.a, c.b):
            wait_for(lambda: self._under_way(node) == [], 20, lambda: f"migrations to end on {node.name}: {self._under_way(node)}")
        if c.observer.stopping:
            c.watch_runners(self.vm)
        _, place, other = self._sides()
        c.assert_healthy(self.vm, place)
        self._check_that_it_is_the_same()
        assert c.observer.double == 0, "two runners were seen"
        wait_for(lambda: other.state(self.vm) in (None, "moved"), 20, lambda: f"{other.name} to have let go: {c._states(self.vm)}")
        wait_for(lambda: len(place.qemu_pids()) == 1 and other.qemu_pids() == [], 20, lambda: f"one QEMU to be left: {c._states(self.vm)}")
        wait_for(lambda: place.mover_pids() + other.mover_pids() == [], 20, lambda: f"the movers to end: {c._states(self.vm)}")

    def _check_that_it_is_the_same(self):
        """One that was started anew has forgotten what it had done, and knows of no error."""
        client = TcpClient(self.c.net.client)
        try:
            stat = client.ask()
        finally:
            client.close()
        assert stat and stat["pages_written"] > self.written, f"the guest had written {self.written} pages before: {stat}"
        self.written = stat["pages_written"]

    @staticmethod
    def _under_way(node):
        return [m["id"] for m in node.call("migration.list")["items"] if m["outcome"] not in FINAL]
