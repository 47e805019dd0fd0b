#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A machine and its disk side by side, in one run: QEMU's mirror over NBD and TCP as its management tools do it, and NovaCron.

A guest of 256 MiB whose qcow2 of 4 GiB holds 300 MiB of text and 64 MiB of records, which it goes on writing as a database
does, each synced: 50 a second. QEMU: blockdev-mirror into an export at the destination, the memory when the mirror
is ready (or as good as), the mirror ended while the guest stands still; nothing encrypted. NovaCron: `migrate`. Time
from the order to the end, and what the link carried; then the guest's own word for its records, and the image's.

    NC_BUILD=build bench/disk_bench.py [--rows NAME,...] [--rounds 3] [--json FILE]

Ends with status 1 if a target was missed.
"""

import argparse
import os
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "tests/lib"))

import rounds  # noqa: E402
from bench import chosen  # noqa: E402
from claims import Claims  # noqa: E402
from contestants import LIMIT_MS, settle, wire_total  # noqa: E402
from nctest.cluster import Cluster, guest_spec  # noqa: E402
from nctest.disks import LocalDisks, check_image, make_image  # noqa: E402
from nctest.guest import TcpClient  # noqa: E402
from nctest.net import wait_for  # noqa: E402
from nctest.plain_qemu import ENDED, URI, PlainPair  # noqa: E402

SIZE, RECORDS, TEXT, RATE = "4G", 64, 300, 50
ROWS = {  # link; NovaCron's time and bytes, at most so many times QEMU's (None: no target)
    "1gbit": ({"rate": "1gbit", "delay": "10ms"}, "1 Gbit/s, 20 ms", 1.0, 1.0),
    "100mbit": ({"rate": "100mbit", "delay": "25ms"}, "100 Mbit/s, 50 ms", 1.0, 0.7),
}
NBD = ("10.99.0.2", "10809")
NEAR_BYTES = 4 << 20  # a mirror under load need not come nearer by itself
COLUMNS = [
    ("total", 11, lambda runs: f"{rounds.median(runs, 'total_ms') / 1000:.2f} s"),
    ("pause", 11, lambda runs: f"{rounds.median(runs, 'pause_ms'):.0f} ms"),
    ("wire", 13, lambda runs: f"{rounds.median(runs, 'wire_bytes') / (1 << 20):.1f} MiB"),
    ("records", 10, lambda runs: sum(run["records"] for run in runs)),
    ("bad", 6, rounds.errors),
]


def machine(path=None):
    spec = guest_spec("bench1", memory_mib=256, ws=32, rate=2)
    spec["cmdline"] += f" nc.records={RECORDS} nc.record_rate={RATE} nc.disk_text={TEXT}"
    if path:
        spec["disks"] = [{"name": "root", "path": path, "format": "qcow2"}]
    return spec


def guest_said(client):
    """After a while, in which it reads its records again."""
    first = client.ask()
    wait_for(lambda: (client.ask() or first)["records_verified"] > first["records_verified"] + 200, 60, "the guest to read records")
    stat = client.ask()
    return stat["records"], stat["errors"] + stat["records_lost"] + stat["records_torn"]


def verdict(client, end, image):
    """What the guest says, then ${end}(), then what the image says."""
    records, bad = guest_said(client)
    client.close()
    end()
    lost, torn = check_image(image, "qcow2", RECORDS, records)
    return {"records": records, "errors": bad + lost + torn, "complaint": None}


class DiskPair(PlainPair):
    def image(self, name):
        return os.path.join(self.bed.dir, f"{name}.qcow2")

    def _start(self, name, netns, *more):
        make_image(self.image(name), SIZE)
        return super()._start(name, netns, *more, "-blockdev", f"driver=file,node-name=f0,filename={self.image(name)},cache.direct=on",
                              "-blockdev", "driver=qcow2,node-name=d0,file=f0,cache.direct=on", "-device", "virtio-blk-pci,id=v0,drive=d0")

    def begin_mirror(self):
        server = {"type": "inet", "host": NBD[0], "port": NBD[1]}
        self.destination.command("nbd-server-start", addr={"type": "inet", "data": {"host": NBD[0], "port": NBD[1]}})
        self.destination.command("block-export-add", type="nbd", id="e0", name="d0", writable=True, **{"node-name": "d0"})
        self.source.command("blockdev-add", driver="nbd", server=server, export="d0", **{"node-name": "t0"})
        self.source.command("blockdev-mirror", device="d0", target="t0", sync="full", **{"job-id": "m0", "auto-dismiss": False})

    def mirror(self):
        return self.source.command("query-jobs")[0]

    def wait_mirror(self, cap_s):
        def near():
            job = self.mirror()
            left = job["total-progress"] - job["current-progress"]
            return job["status"] == "ready" or (left < NEAR_BYTES and job["total-progress"] > 0)
        wait_for(near, cap_s, "the mirror")

    def end_mirror(self):
        wait_for(lambda: self.mirror()["status"] == "ready", 60, "the mirror to be ready")
        self.source.command("block-job-cancel", device="m0")
        wait_for(lambda: self.mirror()["status"] == "concluded", 60, "the mirror to end")
        if self.mirror().get("error"):
            raise RuntimeError(self.mirror()["error"])
        self.source.command("job-dismiss", id="m0")
        self.source.command("blockdev-del", **{"node-name": "t0"})
        self.destination.command("nbd-server-stop")

    def migrate_memory(self, cap_s):
        on = [{"capability": c, "state": True} for c in ("return-path", "late-block-activate", "pause-before-switchover")]
        for qemu in (self.destination, self.source):
            qemu.command("migrate-set-capabilities", capabilities=on)
            qemu.command("migrate-set-parameters", **{"max-bandwidth": 1 << 40, "downtime-limit": LIMIT_MS})
        self.destination.command("migrate-incoming", uri=URI)
        self.source.command("migrate", uri=URI)

        def status():
            return self.source.command("query-migrate").get("status")
        wait_for(lambda: status() == "pre-switchover" or status() in ENDED, cap_s, "the switchover")
        self.end_mirror()
        self.source.command("migrate-continue", state="pre-switchover")
        wait_for(lambda: status() in ENDED, cap_s, "the end")
        return status() == "completed"


def run_qemu(link, cap_s):
    with DiskPair(link, machine(), start_destination=False) as pair:
        settle()
        client = pair.connect()
        before, begin = wire_total(pair.net), time.monotonic()
        pair.start_destination()
        pair.begin_mirror()
        pair.wait_mirror(cap_s)
        if not pair.migrate_memory(cap_s):
            return {"ended": False, "why": "the migration failed"}
        end = time.monotonic()
        wire = wire_total(pair.net) - before
        pause = wait_for(lambda: pair.heartbeat.pause_ms(pair.source.beat_path, pair.destination.beat_path), 30, "a beat at the destination")

        def stop():
            pair.destination.process.kill()
            pair.destination.process.wait()
        return {"ended": True, "total_ms": (end - begin) * 1000, "pause_ms": pause, "wire_bytes": wire,
                **verdict(client, stop, pair.image("b"))}


def run_novacron(link, cap_s):
    with Cluster(**link) as c:
        disks = LocalDisks(c.bed, c.a, c.b)
        vm = c.boot(spec=machine(disks.make(c.a, size=SIZE)))
        beat = c.watch_heartbeat(vm)
        settle()
        client = TcpClient(c.net.client)
        before, begin = wire_total(c.net), time.monotonic()
        m = c.migrate(vm, c.a, timeout=cap_s, max_downtime_ms=LIMIT_MS)
        end = time.monotonic()
        wire = wire_total(c.net) - before
        if m["outcome"] != "completed":
            return {"ended": False, "why": m["error"]["message"]}
        paths = [os.path.join(node.machine_dir(vm), "beat.sock") for node in (c.a, c.b)]
        pause = wait_for(lambda: beat.pause_ms(*paths), 30, "a beat at the destination")

        def stop():
            c.b.call("machine.stop", name=vm, force=True)
            wait_for(lambda: c.b.state(vm) == "stopped", 20, "the machine to stop")
        return {"ended": True, "total_ms": (end - begin) * 1000, "pause_ms": pause, "wire_bytes": wire, "record": m,
                **verdict(client, stop, disks.image(c.b))}


CONTESTANTS = {"qemu mirror": run_qemu, "novacron": run_novacron}


def judge(claims, title, runs, time_limit, bytes_limit):
    ours, theirs = runs["novacron"], runs["qemu mirror"]
    claims.add(f"disk, {title}: completes", f"{sum(run['ended'] for run in ours)} of {len(ours)}", "all", all(run["ended"] for run in ours))
    for what, key, limit in (("total time", "total_ms", time_limit), ("bytes on the wire", "wire_bytes", bytes_limit)):
        mine, other = rounds.median(ours, key), rounds.median(theirs, key)
        claims.most(f"disk, {title}: {what} / QEMU's mirror's", mine / other if mine and other else None, limit)
    claims.most(f"disk, {title}: pause by heartbeat, median", rounds.median(ours, "pause_ms"), LIMIT_MS, " ms", 0)
    claims.add(f"disk, {title}: records lost or torn", str(rounds.errors(ours)), "0", rounds.all_sound(ours))


def row(claims, name, options):
    link, title, time_limit, bytes_limit = ROWS[name]
    runs = {name: [] for name in CONTESTANTS}
    for number in range(options.rounds):
        for contestant, mine in runs.items():
            mine.append(CONTESTANTS[contestant](link, options.cap))
            run = mine[-1]
            said = f"{run['total_ms'] / 1000:.2f} s, {run['wire_bytes'] / (1 << 20):.1f} MiB, bad {run['errors']}" if run["ended"] else run["why"]
            print(f"  round {number + 1}, {contestant}: {said}", file=sys.stderr, flush=True)
    print(f"\n{title}; disk of {SIZE}B with {TEXT} MiB of text and {RECORDS} MiB of records, {RATE} of 8 KiB a second; median of {options.rounds}")
    rounds.show(runs, COLUMNS)
    judge(claims, title, runs, time_limit, bytes_limit)
    return runs


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=chosen(ROWS), default=list(ROWS), help="comma-separated, of: " + ", ".join(ROWS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cap", type=int, default=240, help="seconds after which a move counts as one that never ends (240)")
    parser.add_argument("--json", help="write runs and claims to this file")
    options = parser.parse_args()
    claims = Claims()
    runs = {name: row(claims, name, options) for name in options.rows}
    return claims.conclude(options.json, rows=runs)


if __name__ == "__main__":
    sys.exit(main())
