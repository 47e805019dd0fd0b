#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""1000 WebSocket watchers of one migration: what they cost the node that is asked.

A real guest moves, slowly; novacrond and its gate are real, and so are the watchers, who all read what they get. What gate and
novacrond take of the processors is measured with none and with 1000 of them in the same migration, and what memory both have.

    NC_BUILD=build bench/watch_bench.py [--watchers 1000] [--seconds 20] [--json FILE]

Ends with status 1 if a target was missed.
"""

import argparse
import os
import resource
import selectors
import sys
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "tests/lib"))

from claims import Claims  # noqa: E402
from nctest import websocket  # noqa: E402
from nctest.cluster import Cluster, guest_spec  # noqa: E402
from nctest.net import wait_for  # noqa: E402

RATE = 500_000   # bytes per second: it must last
MOST_CORES, MOST_MIB = 1.0, 200
TICK = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def memory_mib(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        return next(int(line.split()[1]) / 1024 for line in f if line.startswith("VmRSS"))


class Readers:
    """Reads what all watchers get, in one thread."""

    def __init__(self):
        self.selector, self.bytes, self.ended = selectors.DefaultSelector(), {}, False
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def add(self, ws):
        ws.socket.setblocking(False)
        self.bytes[ws.socket] = len(ws.buffer)
        self.selector.register(ws.socket, selectors.EVENT_READ)

    def run(self):
        while not self.ended:
            for key, _ in self.selector.select(0.2):
                part = key.fileobj.recv(65536)
                if part:
                    self.bytes[key.fileobj] += len(part)
                else:
                    self.selector.unregister(key.fileobj)

    def stop(self):
        self.ended = True
        self.thread.join()


def one_more(node, id):
    """The rate limit of local users is waited out."""
    def attempt():
        try:
            return websocket.WebSocket(websocket.unix(node.api), f"/api/v2/migrations/{id}/ws")
        except websocket.Refused as refused:
            if refused.status != 429:
                raise
            return None
    return wait_for(attempt, 30, "a handshake")


def cores(pids, seconds):
    """How many processors these take together."""
    begin, before = time.monotonic(), sum(map(cpu_seconds, pids))
    time.sleep(seconds)
    return (sum(map(cpu_seconds, pids)) - before) / (time.monotonic() - begin)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--watchers", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--json")
    options = parser.parse_args()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(options.watchers * 4 + 1024, hard), hard))
    claims = Claims()
    with Cluster(rate="100mbit", delay="1ms", gates=True) as c:
        c.boot(spec=guest_spec(memory_mib=192, fill=96, ws=8, rate=1, pattern="random"))
        id = c.a.call("migration.create", vm="web1", to="host-b", algorithm="pre-copy", bandwidth_limit_bps=RATE)["id"]
        c.a.wait_state(id, ("copying",))
        pids = {"gate": c.a.gate.pid, "novacrond": c.a.process.pid}
        alone = cores(pids.values(), options.seconds)
        readers = Readers()
        watching = [one_more(c.a, id) for _ in range(options.watchers)]
        for ws in watching:
            readers.add(ws)
        time.sleep(3)  # what there was before them is told
        before = dict(readers.bytes)
        watched = cores(pids.values(), options.seconds)
        memory = {name: memory_mib(pid) for name, pid in pids.items()}
        heard = sum(readers.bytes[s] > n for s, n in before.items())
        running = c.a.call("migration.get", id=id)["outcome"] is None
        c.a.call("migration.cancel", id=id)
        c.a.wait_migration(id)
        readers.stop()
    print(f"cores: {alone:.2f} with none, {watched:.2f} with {options.watchers}; memory: "
          + ", ".join(f"{name} {mib:.0f} MiB" for name, mib in memory.items()))
    claims.add("watchers: it ran all the while, and all were told", f"{heard} of {len(before)}", "all", running and heard == len(before) == options.watchers)
    claims.most(f"watchers: {options.watchers} of one migration, processors of gate and novacrond", watched, MOST_CORES)
    claims.most(f"watchers: {options.watchers} of one migration, memory of gate and novacrond", sum(memory.values()), MOST_MIB, " MiB", 0)
    return claims.conclude(options.json, alone=alone, watched=watched, memory=memory)


if __name__ == "__main__":
    sys.exit(main())
