# SPDX-License-Identifier: Apache-2.0
"""Machines move with their disks: the guest writes records to its disk as a database does, and not one is lost or torn.

Each node has a file system of its own under the same path. Whatever happens, the machine ends up running in one place, with
the records that it synced on the disk that it has there; a copy that is not wanted any more is gone.
"""

import os
import shutil
import signal
import time

import pytest
from nctest.cluster import Cluster, Refused, guest_spec
from nctest.disks import LocalDisks, check_image, info
from nctest.guest import TcpClient
from nctest.net import wait_for

VM = "web1"
RECORDS = 16  # MiB of the disk
TEXT = 48     # MiB behind them
SLOW = 5 << 20

pytestmark = pytest.mark.skipif(not shutil.which("qemu-img"), reason="qemu-img is not installed")


def spec_of(path, format="qcow2", records=RECORDS, rate=60, text=TEXT, **more):
    spec = guest_spec(VM, memory_mib=128, ws=16, rate=2)
    spec["cmdline"] += f" nc.records={records} nc.record_rate={rate} nc.disk_text={text}"
    spec["disks"] = [{"name": "root", "path": path, "format": format, **more}]
    return spec


class Bench:
    """A cluster whose guest is on host-a, with its disk."""

    def __init__(self, c, format="qcow2", tmpfs=None, **more):
        self.c, self.format = c, format
        self.disks = LocalDisks(c.bed, c.a, c.b, tmpfs=tmpfs)
        self.path = self.disks.make(c.a, format=format)
        c.boot(spec=spec_of(self.path, format, **more))
        c.watch_runners(VM)
        self.client = TcpClient(c.net.client)

    def records(self):
        stat = self.client.ask()
        assert stat and stat["records_lost"] == 0 and stat["records_torn"] == 0 and stat["errors"] == 0, stat
        return stat

    def judge(self, node, more=100):
        """It runs on ${node}, writes on, and everything that it wrote is there: by its own word, and in the image."""
        c = self.c
        before = self.records()
        wait_for(lambda: self.records()["records"] > before["records"] + more, 60, "the guest to write records")
        wait_for(lambda: self.records()["records_verified"] > before["records_verified"] + more, 60, "the guest to read records")
        assert c.observer.double == 0, "two runners were seen"
        assert c.runs_where(VM) == [node.name]

    def end(self, node):
        """The machine ends; its image holds what it synced."""
        last = self.records()["records"]
        node.call("machine.stop", name=VM, force=True)
        wait_for(lambda: node.state(VM) == "stopped", 20, "the machine to stop")
        assert check_image(self.disks.image(node), self.format, RECORDS, last) == (0, 0)
        assert last > 50

    def left_at(self, node):
        return sorted(os.listdir(self.disks.of(node)))


@pytest.fixture()
def cluster():
    with Cluster(rate="1gbit", delay="2ms") as c:
        yield c


@pytest.mark.parametrize("format", ["qcow2", "raw"])
def test_there_and_back(cluster, format):
    """The disk goes along, sparse, with the permissions it had, and comes back; the one left behind is set aside."""
    c = cluster
    bench = Bench(c, format)
    os.chmod(bench.disks.image(c.a), 0o640)
    m = c.migrate(VM, c.a)
    assert m["outcome"] == "completed", m["error"]
    disk, = m["disks"]
    assert (disk["name"], disk["state"], disk["flattened"]) == ("root", "copied", False)
    assert disk["copied_bytes"] == disk["total_bytes"] >= (RECORDS + TEXT) // 2 << 20
    assert 0 < disk["wire_bytes"] < disk["total_bytes"] and disk["iops"] > 0
    bench.judge(c.b)
    copy = bench.disks.image(c.b)
    assert os.stat(copy).st_mode & 0o777 == 0o640
    assert info(copy)["virtual-size"] == 256 << 20 and info(copy)["format"] == format
    assert info(copy)["actual-size"] < (RECORDS + TEXT + 24) << 20
    assert bench.left_at(c.a) == [f"root.img.moved-{m['id']}"]
    m = c.migrate(VM, c.b)
    assert m["outcome"] == "completed", m["error"]
    bench.judge(c.a)
    bench.end(c.a)
