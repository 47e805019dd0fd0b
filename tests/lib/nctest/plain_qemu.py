# SPDX-License-Identifier: Apache-2.0
"""The control: the same guest, moved by QEMU alone, without a byte of ours.

Whenever a guest is hurt by a move, this run is the judge. By hand, as root:
    PYTHONPATH=tests/lib /usr/bin/python3 -m nctest.plain_qemu --rate 100mbit --delay 25ms --multifd
"""

import argparse
import json
import os
import subprocess
import time

from .cluster import guest_spec
from .guest import Heartbeat, QmpObserver, RunnerObserver, TcpClient, console_errors
from .net import Bed, Topology, wait_for

MAC = "52:54:00:77:00:02"
URI = "tcp:10.99.0.2:4444"
ENDED = ("completed", "failed", "cancelled")


XBZRLE_CACHE = 512 << 20  # what is dirtied in the tests and benches fits, with room for its collisions


def disk_options(spec):
    """QEMU's options for the read-only disks of ${spec}."""
    for disk in spec.get("disks", []):
        yield from ("-drive", f"if=none,id={disk['name']},file={disk['path']},format={disk['format']},readonly=on",
                    "-device", f"virtio-blk-pci,drive={disk['name']}")


def balloon_options(spec):
    """As NovaCron's machine files add it."""
    if spec.get("balloon") == "free-page-hint":
        yield from ("-object", "iothread,id=balloon-io", "-device", "virtio-balloon-pci,id=balloon0,free-page-hint=on,iothread=balloon-io")


class PlainQemu:
    """One QEMU with the machine of ${spec}, in a host's namespace; its memory in `memory_file`, if given."""

    def __init__(self, bed, netns, name, spec, *more, memory_file=None):
        self.name = name
        base = os.path.join(bed.dir, name)
        self.console, self.log = f"{base}.console", f"{base}.log"
        self.qmp_path, self.observer_path, self.beat_path = f"{base}.qmp", f"{base}.observer", f"{base}.beat"
        netns.ip("tuntap", "add", "tap0", "mode", "tap")
        netns.ip("link", "set", "tap0", "master", "br0", "up")
        kib = spec["memory_mib"] * 1024 + spec["memory_extra_kib"]
        backend = f"memory-backend-file,mem-path={memory_file},share=on" if memory_file else "memory-backend-ram"
        command = [
            "qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-accel", "tcg", "-cpu", spec["cpu"],
            "-machine", f"{spec['machine']},memory-backend=ram0", "-m", f"size={kib}K", "-smp", str(spec["vcpus"]),
            "-object", f"{backend},id=ram0,size={kib}K", "-kernel", spec["kernel"],
            "-initrd", spec["initrd"], "-append", spec["cmdline"],
            "-chardev", f"file,id=c0,path={self.console}", "-serial", "chardev:c0",
            "-chardev", f"socket,id=c1,path={self.beat_path},server=on,wait=off", "-serial", "chardev:c1",
            "-netdev", "tap,id=n0,ifname=tap0,script=no,downscript=no", "-device", f"virtio-net-pci,netdev=n0,mac={MAC}",
            "-qmp", f"unix:{self.qmp_path},server=on,wait=off", "-qmp", f"unix:{self.observer_path},server=on,wait=off",
            *disk_options(spec), *more, *balloon_options(spec)]
        with open(self.log, "wb") as log:
            self.process = bed.popen(command, netns, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        self.qmp = wait_for(self._connect, 20, f"QMP of {name}")
        bed.on_close(self.qmp.close)

    def _connect(self):
        if self.process.poll() is not None:
            raise RuntimeError(f"QEMU {self.name} ended: {open(self.log, errors='replace').read()}")
        try:
            return QmpObserver(self.qmp_path, timeout=60)
        except OSError:
            return None

    def command(self, name, /, **arguments):
        return self.qmp.command(name, **arguments)

    def wait_ready(self, timeout=120):
        wait_for(lambda: "NCLOAD READY" in open(self.console, errors="replace").read(), timeout, "the guest to boot")


class PlainPair:
    """Two QEMUs in two namespaces; the first runs the guest, the second waits for it (unless it is to be started later)."""

    def __init__(self, link, spec, start_destination=True):
        self.bed = Bed()
        self.client = None
        try:
            self.net = Topology(self.bed, **link)
            self.spec = spec
            self.heartbeat = Heartbeat()
            self.bed.on_close(self.heartbeat.close)
            self.source = self._start("a", self.net.a)
            self.source.wait_ready()
            self.destination = None
            if start_destination:
                self.start_destination()
        except BaseException:
            self.bed.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.bed.close()

    def _start(self, name, netns, *more):
        qemu = PlainQemu(self.bed, netns, name, self.spec, *more)
        self.heartbeat.add(qemu.beat_path)
        return qemu

    def start_destination(self):
        self.destination = self._start("b", self.net.b, "-incoming", "defer")

    def connect(self):
        """A client on the LAN that keeps its connection to the guest."""
        self.client = TcpClient(self.net.client)
        self.bed.on_close(self.client.close)
        return self.client

    def watch_runners(self):
        """An observer of both QEMUs' status; costs them some CPU, so the benchmarks do without."""
        observer = RunnerObserver()
        self.bed.on_close(observer.close)
        for qemu in (self.source, self.destination):
            observer.watch(qemu.observer_path)
        return observer

    def migrate(self, limit_ms, multifd=False, timeout=300, channels=8, xbzrle=False, postcopy=False, preempt=False):
        """True if it completed in time. ${postcopy}: switched to after the first round, as its management tools do."""
        ways = {"multifd": multifd, "xbzrle": xbzrle, "postcopy-ram": postcopy, "postcopy-preempt": preempt}
        on = ["return-path", "late-block-activate"] + [name for name, wanted in ways.items() if wanted]
        capabilities = [{"capability": c, "state": True} for c in on]
        parameters = {"max-bandwidth": 1 << 40, "downtime-limit": limit_ms}
        if multifd:
            parameters.update({"multifd-channels": channels, "multifd-compression": "zstd"})
        if xbzrle:
            parameters["xbzrle-cache-size"] = XBZRLE_CACHE
        for qemu in (self.destination, self.source):
            qemu.command("migrate-set-capabilities", capabilities=capabilities)
            qemu.command("migrate-set-parameters", **parameters)
        self.destination.command("migrate-incoming", uri=URI)
        self.source.command("migrate", uri=URI)
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            info = self.source.command("query-migrate")
            status = info.get("status")
            if status in ENDED:
                return status == "completed"
            if postcopy and info.get("ram", {}).get("dirty-sync-count", 0) > 1:
                self.source.command("migrate-start-postcopy")
                postcopy = False
            time.sleep(0.02)
        self.source.command("migrate_cancel")
        return False

    def wire_bytes(self):
        stats = self.net.wan.stats()
        return stats["ab"]["wire_bytes"] + stats["ba"]["wire_bytes"]

    def measure(self, limit_ms=300, multifd=False, timeout=300, channels=8):
        """Moves the guest and tells what it cost, as seen from outside and as QEMU says."""
        before, begin = self.wire_bytes(), time.monotonic()
        completed = self.migrate(limit_ms, multifd, timeout, channels)
        total, info = (time.monotonic() - begin) * 1000, self.source.command("query-migrate")
        result = {"completed": completed, "total_ms": total, "wire_bytes": self.wire_bytes() - before, "pause_ms": None,
                  "says_total_ms": info.get("total-time"), "says_pause_ms": info.get("downtime"),
                  "rounds": info.get("ram", {}).get("dirty-sync-count"), "error": info.get("error-desc")}
        if completed:
            result["pause_ms"] = wait_for(lambda: self.heartbeat.pause_ms(self.source.beat_path, self.destination.beat_path), 30,
                                          "a beat at the destination")
            result["longest_gap_ms"] = self.heartbeat.longest_gap_ms(begin)
        return result

    def guest_errors(self):
        """(errors counted on the console, what the kernel complained of) at the destination; both None or 0 if all is well."""
        return console_errors(self.destination.console)


def main():
    parser = argparse.ArgumentParser(prog="nctest.plain_qemu", description="Moves the test guest with plain QEMU, prints JSON.")
    parser.add_argument("--rate", default="1gbit", help="of the link (1gbit; 0: no limit)")
    parser.add_argument("--delay", default="10ms", help="one way (10ms)")
    parser.add_argument("--loss", type=float, default=0.0, help="percent")
    parser.add_argument("--veth", action="store_true", help="plain veth instead of the emulated link")
    parser.add_argument("--multifd", action="store_true", help="multifd with zstd")
    parser.add_argument("--limit", type=int, default=300, help="downtime limit, ms (300)")
    parser.add_argument("--memory", type=int, default=256, help="of the guest, MiB (256)")
    parser.add_argument("--ws", type=int, default=32, help="working set, MiB (32)")
    parser.add_argument("--dirty", type=float, default=5, help="MiB/s that the guest dirties (5)")
    parser.add_argument("--pattern", choices=("text", "random", "sparse"), default="text")
    parser.add_argument("--fill", type=int, default=0, help="MiB written once")
    o = parser.parse_args()
    link = {"emulated": False} if o.veth else {"rate": o.rate, "delay": o.delay, "loss": o.loss}
    spec = guest_spec(memory_mib=o.memory, ws=o.ws, rate=o.dirty, pattern=o.pattern, fill=o.fill)
    with PlainPair(link, spec) as pair:
        client = pair.connect()
        result = pair.measure(o.limit, o.multifd)
        alive = client.is_moving(20)
        stat = client.ask() if alive else None
        print(json.dumps({**result, "tcp_survived": alive and client.broken is None, "tcp_gap_ms": client.longest_gap_ms(),
                          "guest": stat}, indent=1))


if __name__ == "__main__":
    main()
