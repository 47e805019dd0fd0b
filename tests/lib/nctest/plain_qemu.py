# SPDX-License-Identifier: Apache-2.0
"""The control: the same guest, moved by QEMU alone, without a byte of ours."""

import os
import subprocess
import time

from .guest import Heartbeat, QmpObserver
from .net import BUILD, Bed, Topology, wait_for


class PlainPair:
    """Two QEMUs in two namespaces; the first runs the guest, the second waits for it."""

    def __init__(self, link, spec):
        self.bed = Bed()
        try:
            self.net = Topology(self.bed, **link)
            self.spec = spec
            self.heartbeat = Heartbeat()
            self.source = self._start("a", self.net.a, [])
            console = os.path.join(self.bed.dir, "a.console")
            wait_for(lambda: os.path.exists(console) and "NCLOAD READY" in open(console, errors="replace").read(), 60,
                     "the guest to boot")
            self.destination = self._start("b", self.net.b, ["-incoming", "defer"])
        except BaseException:
            self.bed.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.heartbeat.close()
        self.source.close()
        self.destination.close()
        self.bed.close()

    def _start(self, name, netns, more):
        d, s = self.bed.dir, self.spec
        kib = s["memory_mib"] * 1024 + s["memory_extra_kib"]
        netns.ip("tuntap", "add", "tap0", "mode", "tap")
        netns.ip("link", "set", "tap0", "master", "br0", "up")
        command = [
            "qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-accel", "tcg", "-cpu", s["cpu"],
            "-machine", f"{s['machine']},memory-backend=ram0", "-m", f"size={kib}K",
            "-object", f"memory-backend-ram,id=ram0,size={kib}K", "-kernel", s["kernel"], "-initrd", s["initrd"],
            "-append", s["cmdline"],
            "-chardev", f"file,id=c0,path={d}/{name}.console", "-serial", "chardev:c0",
            "-chardev", f"socket,id=c1,path={d}/{name}.beat,server=on,wait=off", "-serial", "chardev:c1",
            "-netdev", "tap,id=n0,ifname=tap0,script=no,downscript=no",
            "-device", "virtio-net-pci,netdev=n0,mac=52:54:00:77:00:02",
            "-qmp", f"unix:{d}/{name}.qmp,server=on,wait=off", *more]
        log = open(os.path.join(d, f"{name}.log"), "wb")
        self.bed.popen(command, netns, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        path = os.path.join(d, f"{name}.qmp")
        wait_for(lambda: os.path.exists(path), 20, "QEMU")
        self.heartbeat.add(os.path.join(d, f"{name}.beat"))
        return QmpObserver(path, timeout=30)

    def migrate(self, limit_ms, multifd=False, timeout=300, channels=8):
        """True if it completed in time."""
        on = ["return-path", "late-block-activate"] + (["multifd"] if multifd else [])
        capabilities = [{"capability": c, "state": True} for c in on]
        parameters = {"max-bandwidth": 1 << 40, "downtime-limit": limit_ms}
        if multifd:
            parameters.update({"multifd-channels": channels, "multifd-compression": "zstd"})
        for qmp in (self.destination, self.source):
            qmp.command("migrate-set-capabilities", capabilities=capabilities)
            qmp.command("migrate-set-parameters", **parameters)
        self.destination.command("migrate-incoming", uri="tcp:10.99.0.2:4444")
        self.source.command("migrate", uri="tcp:10.99.0.2:4444")
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            status = self.source.command("query-migrate").get("status")
            if status in ("completed", "failed", "cancelled"):
                return status == "completed"
            time.sleep(0.02)
        self.source.command("migrate_cancel")
        return False
