# SPDX-License-Identifier: Apache-2.0
"""Machines move with their disks: the guest writes records to its disk as a database does, and not one is lost or torn.

Each node has a file system of its own under the same path. Whatever happens, the machine ends up running in one place, with
the records that it synced on the disk that it has there; a copy that is not wanted any more is gone.
"""

import os
import random
import shutil
import signal
import subprocess

import pytest
from nctest.checkpoints import create, restore
from nctest.cluster import Cluster, guest_spec
from nctest.disks import LocalDisks, check_image, in_mounts_of, info
from nctest.guest import QmpObserver, TcpClient
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

    def __init__(self, c, format="qcow2", tmpfs=None, backed=False, template=False, **more):
        self.c, self.format = c, format
        self.disks = LocalDisks(c.bed, c.a, c.b, tmpfs=tmpfs)
        if backed:  # an overlay, whose base is at the source only
            base = self.disks.make(c.a, "base.img")
            self.disks.make(c.a, "root.img", "256M", format, "-b", base, "-F", "qcow2", "-u")
        if template:  # a chain of two, with something in it that the guest does not touch
            self.disks.make(c.a, "ground.img", "256M", "raw")
            subprocess.run(["qemu-io", "-f", "raw", "-c", "write -P 0x42 200M 4M", self.disks.image(c.a, "ground.img")], check=True,
                           stdout=subprocess.DEVNULL)
            base = self.disks.make(c.a, "base.img", "256M", "qcow2", "-b", os.path.join(self.disks.path, "ground.img"), "-F", "raw", "-u")
            self.disks.make(c.a, "root.img", "256M", format, "-b", base, "-F", "qcow2", "-u")
        self.path = os.path.join(self.disks.path, "root.img") if backed or template else self.disks.make(c.a, format=format)
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
    """The disk goes along, sparse, with the permissions it had, and comes back; the one left behind is set aside. A backing chain
    (that of the qcow2) becomes part of the copy."""
    c, backed = cluster, format == "qcow2"
    bench = Bench(c, format, backed=backed)
    os.chmod(bench.disks.image(c.a), 0o640)
    plan = c.a.call("migration.plan", vm=VM, to="host-b")
    m = c.migrate(VM, c.a)
    assert m["outcome"] == "completed", m["error"]
    disk, = m["disks"]
    assert (disk["name"], disk["state"], disk["flattened"]) == ("root", "copied", backed)
    assert disk["copied_bytes"] == disk["total_bytes"] >= (RECORDS + TEXT) // 2 << 20
    assert 0 < disk["wire_bytes"] < disk["total_bytes"] and disk["iops"] > 0
    planned, = plan["disks"]
    assert planned["name"] == "root" and planned["flattened"] == backed and planned["write_rate_bps"] > 0 and planned["eta_ms"] > 0
    assert (RECORDS + TEXT) // 2 << 20 < planned["bytes"] <= disk["used_bytes"] < (RECORDS + TEXT + 24) << 20
    assert plan["disk_wire_bytes"] >= planned["bytes"] and plan["wire_bytes"] > plan["disk_wire_bytes"] and plan["eta_ms"] > plan["disk_eta_ms"]
    bench.judge(c.b)
    copy = bench.disks.image(c.b)
    assert os.stat(copy).st_mode & 0o777 == 0o640
    assert info(copy)["virtual-size"] == 256 << 20 and info(copy)["format"] == format
    assert info(copy)["actual-size"] < (RECORDS + TEXT + 24) << 20
    assert "backing-filename" not in info(copy)
    assert bench.left_at(c.a) == ["base.img"] * backed + [f"root.img.moved-{m['id']}"]
    if not backed:  # one way back is enough
        bench.end(c.b)
        return
    m = c.migrate(VM, c.b)
    assert m["outcome"] == "completed", m["error"]
    bench.judge(c.a)
    bench.end(c.a)


# --- one machine, many faults: it stays where it is, or goes; nothing is lost, and no copy stays behind ---

@pytest.fixture(scope="module")
def moving():
    with Cluster(rate="1gbit", delay="2ms") as c:
        yield Bench(c)


def place(bench):
    return bench.c.a if bench.c.a.state(VM) == "running" else bench.c.b


def tidy(bench, node):
    """What a successful move leaves for its operator."""
    for name in bench.left_at(node):
        if ".moved-" in name:
            os.unlink(os.path.join(bench.disks.of(node), name))


def judge_stayed(bench, node):
    bench.judge(node)
    other = bench.c.other(node)
    wait_for(lambda: other.state(VM) in (None, "moved"), 20, "the destination to let go")
    assert bench.left_at(other) == [], "a copy was left behind"
    assert bench.left_at(node) == ["root.img"]


def judge_moved(bench, node):
    bench.judge(node)
    tidy(bench, bench.c.other(node))
    assert bench.left_at(bench.c.other(node)) == []
    assert bench.left_at(node) == ["root.img"]


def judge(bench, source, m):
    if m["outcome"] == "completed":
        judge_moved(bench, bench.c.other(source))
    else:
        assert m["error"]["message"]
        judge_stayed(bench, source)


SOURCE_DIES = [  # point, where the machine must run then
    ("source-disks-begun", "stays"),
    ("source-switching", "stays"),      # the guest stands still, the mirrors still run
    ("source-disks-ended", "stays"),    # the copies are complete, the right is not released
    ("source-after-release", "stays"),  # no grant was sent: it comes back, to its own disk
    ("source-after-grant", "any"),
]


@pytest.mark.parametrize("point,what", SOURCE_DIES)
def test_source_novacrond_dies(moving, point, what):
    c, source = moving.c, place(moving)
    source.stop()
    source.start(f"{point}:kill")
    m = source.call("migration.create", vm=VM, to=c.other(source).name)
    source.wait_dead()
    source.start()
    m = source.wait_migration(m["id"])
    assert what == "any" or m["outcome"] == {"stays": "failed", "moves": "completed"}[what], m["error"]
    judge(moving, source, m)


DESTINATION_DIES = [
    ("destination-disk-noted", "stays"),
    ("destination-disk-published", "stays"),
    ("destination-before-take", "stays"),
    ("destination-after-take", "moves"),
]


@pytest.mark.parametrize("point,what", DESTINATION_DIES)
def test_destination_novacrond_dies(moving, point, what):
    c, source = moving.c, place(moving)
    destination = c.other(source)
    destination.stop()
    destination.start(f"{point}:kill")
    m = source.call("migration.create", vm=VM, to=destination.name)
    destination.wait_dead()
    destination.start()
    m = source.wait_migration(m["id"])
    assert m["outcome"] == {"stays": "failed", "moves": "completed"}[what], m["error"]
    judge(moving, source, m)


def test_a_refusal_is_on_disk_before_the_copy_is_removed(moving):
    """The destination dies between the two, after its mover was killed: the next novacrond removes the copy."""
    c, source = moving.c, place(moving)
    destination = c.other(source)
    destination.stop()
    destination.start("destination-after-refuse:kill")
    m = c.migrate(VM, source, wait=False, bandwidth_limit_bps=SLOW)
    wait_for(lambda: "root.img" in moving.left_at(destination), 30, "the copy to begin")
    source.call("migration.cancel", id=m["id"])
    destination.wait_dead()
    assert moving.left_at(destination) == ["root.img"]
    destination.start()
    assert source.wait_migration(m["id"])["outcome"] == "cancelled"
    judge_stayed(moving, source)


@pytest.mark.parametrize("side", ["source", "destination"])
def test_a_mover_dies(moving, side):
    c, source = moving.c, place(moving)
    m = c.migrate(VM, source, wait=False, bandwidth_limit_bps=SLOW)
    wait_for(lambda: any(d["copied_bytes"] > 1 << 20 for d in source.call("migration.get", id=m["id"]).get("disks") or []), 30,
             "the copy to be under way")
    mover, = (source if side == "source" else c.other(source)).mover_pids()
    os.kill(mover, signal.SIGKILL)
    m = source.wait_migration(m["id"])
    assert m["outcome"] == "failed" and "mover" in m["error"]["message"]
    judge_stayed(moving, source)


def test_cancel_leaves_nothing(moving):
    c, source = moving.c, place(moving)
    m = c.migrate(VM, source, wait=False, bandwidth_limit_bps=SLOW)
    wait_for(lambda: source.call("migration.get", id=m["id"])["phase"] == "disk_copy", 30, "the disks to be copied")
    source.call("migration.cancel", id=m["id"])
    assert source.wait_migration(m["id"])["outcome"] == "cancelled"
    judge_stayed(moving, source)


def test_a_file_that_is_in_the_way_is_refused_and_kept(moving):
    c, source = moving.c, place(moving)
    other = c.other(source)
    theirs = moving.disks.image(other)
    with open(theirs, "w") as f:
        f.write("somebody's")
    checks = source.call("migration.check", vm=VM, to=other.name)
    assert checks["verdict"] == "failed" and any("not overwritten" in k["value"] for k in checks["checks"])
    m = c.migrate(VM, source)
    assert m["outcome"] == "failed" and "not overwritten" in m["error"]["message"]
    assert open(theirs).read() == "somebody's"
    os.unlink(theirs)
    checks = source.call("migration.check", vm=VM, to=other.name)
    assert [k["verdict"] for k in checks["checks"] if k["check"] == "disk"] == ["ok"]
    judge_stayed(moving, source)


def limit_of_writes(node):
    qmp = QmpObserver(os.path.join(node.machine_dir(VM), "observer.sock"))
    try:
        return qmp.command("query-block")[0]["inserted"]["bps_wr"]
    finally:
        qmp.close()


@pytest.mark.parametrize("end", ["cancelled", "killed"])
def test_a_guest_that_writes_too_fast_is_slowed_down_and_let_go(moving, end):
    """The link is too slow for what it writes: its writes get a limit (QEMU 7.2), which goes when the move does not go on."""
    c, source = moving.c, place(moving)
    m = c.migrate(VM, source, wait=False, bandwidth_limit_bps=4 << 20, retry_attempts=0)

    def disk():
        disks = source.call("migration.get", id=m["id"]).get("disks") or [None]
        return disks[0] or {"copied_bytes": 0, "total_bytes": 1, "write_limit_bps": 0}
    wait_for(lambda: disk()["copied_bytes"] > disk()["total_bytes"] * 0.95, 60, "most of the disk to be copied")
    source.call("migration.limit", id=m["id"], bandwidth_limit_bps=120 << 10)
    wait_for(lambda: disk()["write_limit_bps"] > 0, 90, "the guest's writes to be limited")
    assert c.observer.double == 0
    c.observer.close()  # a QMP socket serves one client at a time
    assert limit_of_writes(source) == disk()["write_limit_bps"]
    if end == "killed":
        source.kill()
        source.start()
    else:
        source.call("migration.cancel", id=m["id"])
    assert source.wait_migration(m["id"])["outcome"] == ("failed" if end == "killed" else "cancelled")
    assert limit_of_writes(source) == 0
    c.watch_runners(VM)
    judge_stayed(moving, source)


def test_post_copy_takes_the_disks_along(moving):
    """The mirrors end before the switch, while the guest stands still; the memory comes later."""
    c, source = moving.c, place(moving)
    m = c.migrate(VM, source, algorithm="post-copy")
    assert m["outcome"] == "completed", m["error"]
    judge_moved(moving, c.other(source))


def test_after_all_that_the_image_is_whole(moving):
    moving.end(place(moving))


# --- as of an instant ---

def test_a_checkpoint_is_of_one_instant_of_a_guest_that_writes(cluster):
    """What its memory believes to have synced is on its disk, though it writes all the while: in the checkpoint as in life."""
    c = cluster
    bench = Bench(c, text=8)
    wait_for(lambda: bench.records()["records"] > 100, 60, "the guest to write records")
    cp = create(c.a, VM)
    assert cp["mode"] == "background"
    later = bench.records()["records"]
    wait_for(lambda: bench.records()["records"] > later + 400, 60, "the guest to write more")
    c.observer.close()
    activity = restore(c.a, cp["id"], force=True)
    assert activity["state"] == "done", activity
    c.watch_runners(VM)
    bench.client = TcpClient(c.net.client)
    assert bench.records()["records"] < later + 400  # it is as it was then
    bench.judge(c.a)
    bench.end(c.a)


# --- other file systems ---

def test_a_full_disk_at_the_destination(cluster):
    """Too little room is found before; room that goes away meanwhile costs the attempt and nothing else."""
    c = cluster
    bench = Bench(c, tmpfs={"host-b": "40m"})
    checks = c.a.call("migration.check", vm=VM, to="host-b")
    assert any(k["check"] == "disk" and k["verdict"] == "failed" and "not enough space" in k["value"] for k in checks["checks"])
    m = c.migrate(VM, c.a)
    assert m["outcome"] == "failed" and "not enough space" in m["error"]["message"], m["error"]
    in_mounts_of(c.b, "mount", "-o", "remount,size=160m", bench.disks.path)
    m = c.migrate(VM, c.a, wait=False, bandwidth_limit_bps=SLOW)
    wait_for(lambda: any(d["copied_bytes"] > 1 << 20 for d in c.a.call("migration.get", id=m["id"]).get("disks") or []), 30,
             "the copy to be under way")
    in_mounts_of(c.b, "sh", "-c", f"cat /dev/zero >{bench.disks.path}/filler 2>/dev/null || true")
    m = c.a.wait_migration(m["id"])
    assert m["outcome"] == "failed" and "is full" in m["error"]["message"] and "host-b" in m["error"]["message"], m["error"]
    bench.judge(c.a)
    wait_for(lambda: c.b.state(VM) is None, 20, "the destination to let go")
    left = subprocess.run(["nsenter", "-t", str(c.b.process.pid), "-m", "ls", "-A", bench.disks.path], stdout=subprocess.PIPE, text=True)
    assert left.stdout.split() == ["filler"]
    in_mounts_of(c.b, "rm", f"{bench.disks.path}/filler")
    m = c.migrate(VM, c.a)
    assert m["outcome"] == "completed", m["error"]
    bench.judge(c.b)


def backing_checks(c, **args):
    checks = c.a.call("migration.check", vm=VM, to="host-b", **args)
    return {k["verdict"] for k in checks["checks"] if k["check"] == "backing file"}, " ".join(k["value"] for k in checks["checks"])


def test_a_backing_chain_is_kept_where_it_is_the_same(cluster):
    """Not where a file of it is missing or another; and back again by the operator's word."""
    c = cluster
    bench = Bench(c, template=True)
    plans = [c.a.call("migration.plan", vm=VM, to="host-b", disk_chain=how)["disks"][0] for how in ("keep", "flatten")]
    assert [(d["chain_kept"], d["flattened"]) for d in plans] == [(True, False), (False, True)]
    assert plans[1]["bytes"] >= plans[0]["bytes"] + (4 << 20)
    for missing in ({"base.img", "ground.img"}, {"ground.img"}):
        verdicts, text = backing_checks(c, disk_chain="keep")
        assert verdicts >= {"failed"} and all(f"{name} is missing at the destination" in text for name in missing), text
        m = c.migrate(VM, c.a, disk_chain="keep")
        assert m["outcome"] == "failed" and m["error"]["code"] == "unsuitable", m["error"]
        assert "missing at the destination" in m["error"]["message"] and "without --keep-chain" in m["error"]["message"]
        shutil.copy(bench.disks.image(c.a, "base.img"), bench.disks.of(c.b))
    ground = bench.disks.image(c.b, "ground.img")
    subprocess.run(["cp", "--sparse=always", bench.disks.image(c.a, "ground.img"), ground], check=True)
    subprocess.run(["qemu-io", "-f", "raw", "-c", "write -P 0x43 201M 512", ground], check=True, stdout=subprocess.DEVNULL)
    verdicts, text = backing_checks(c, disk_chain="keep")
    assert verdicts == {"ok", "failed"} and "other content" in text
    assert "other content" in c.migrate(VM, c.a, disk_chain="keep")["error"]["message"]
    assert bench.left_at(c.b) == ["base.img", "ground.img"]
    subprocess.run(["qemu-io", "-f", "raw", "-c", "write -P 0x42 201M 512", ground], check=True, stdout=subprocess.DEVNULL)
    assert backing_checks(c, disk_chain="keep")[0] == {"ok"}

    m = c.migrate(VM, c.a, disk_chain="keep")
    assert m["outcome"] == "completed", m["error"]
    disk, = m["disks"]
    assert disk["chain_kept"] and not disk["flattened"] and m["disk_chain"] == "keep"
    bench.judge(c.b)
    copy = bench.disks.image(c.b)
    assert info(copy)["backing-filename"] == os.path.join(bench.disks.path, "base.img")
    assert info(copy)["actual-size"] < (RECORDS + TEXT + 24) << 20
    assert bench.left_at(c.b) == ["base.img", "ground.img", "root.img"]

    m = c.migrate(VM, c.b, disk_chain="trust")
    assert m["outcome"] == "completed", m["error"]
    bench.judge(c.a)
    last = bench.records()["records"]
    c.a.call("machine.stop", name=VM, force=True)
    wait_for(lambda: c.a.state(VM) == "stopped", 20, "the machine to stop")
    flat = os.path.join(bench.disks.path, "flat.raw")
    in_mounts_of(c.a, "qemu-img", "convert", "-f", "qcow2", "-O", "raw", bench.path, flat)
    assert check_image(bench.disks.image(c.a, "flat.raw"), "raw", RECORDS, last) == (0, 0)
    with open(bench.disks.image(c.a, "flat.raw"), "rb") as raw:
        raw.seek(200 << 20)
        assert raw.read(4 << 20) == b"\x42" * (4 << 20)


def test_the_same_file_on_both_nodes_is_not_copied(cluster):
    """Nobody has said that it is shared: the nodes find out."""
    c = cluster
    bench = Bench(c)
    for node in (c.b,):
        node.mounts = [f"mount --bind {bench.disks.of(c.a)} {bench.disks.path}"]
        node.stop()
        node.start()
    m = c.migrate(VM, c.a)
    assert m["outcome"] == "completed" and not m.get("disks"), m["error"]
    bench.judge(c.b)
    assert bench.left_at(c.a) == ["root.img"]
    c.b.call("machine.stop", name=VM, force=True)
    assert check_image(bench.disks.image(c.a), "qcow2", RECORDS, 50) == (0, 0)


# --- what is on the disk and in the page cache ---

UNIQUE, TWICE = 32, 16  # MiB of the disk that no compressor makes smaller, and of them that are on it once more, behind


def set_dedup(node, mib):
    node.settings["wire_dedup_mib"] = str(mib)
    node.write_config()
    node.stop()
    node.start()


def test_what_the_guest_has_read_from_its_disk_crosses_once():
    """There with, and back without: the same machine, whose page cache holds its disk."""
    with Cluster(rate="1gbit", delay="2ms", kept_shadow_mib="0") as c:
        disks = LocalDisks(c.bed, c.a, c.b)
        path = disks.make(c.a, size="64M", format="raw")
        content = random.Random(9).randbytes(UNIQUE << 20)
        content += content[:TWICE << 20]
        with open(disks.image(c.a), "r+b") as f:
            f.write(content)
        spec = guest_spec(VM, ws=16, rate=1)
        spec["disks"] = [{"name": "root", "path": path, "format": "raw"}]
        c.boot(spec=spec)
        c.watch_runners(VM)
        client = TcpClient(c.net.client)
        there = c.migrate(VM, c.a)
        assert there["outcome"] == "completed" and there["sha256_equal"], there["error"]
        with open(disks.image(c.b), "rb") as f:
            assert f.read(len(content)) == content
        os.unlink(disks.image(c.a, f"root.img.moved-{there['id']}"))
        set_dedup(c.b, 0)
        back = c.migrate(VM, c.b)
        assert back["outcome"] == "completed" and back["sha256_equal"], back["error"]
        counts = "; ".join(f"{m['block_pages']} pages and {m['repeated_blocks']} blocks as references to blocks, {m['wire_bytes'] >> 10} KiB on the wire "
                           f"({m['disks'][0]['wire_bytes'] >> 10} of the disk)" for m in (there, back))
        print(counts)
        assert there["block_pages"] > (UNIQUE << 20) // 4096 * 0.95, counts
        assert there["repeated_blocks"] > (TWICE << 20) // 4096 * 0.95, counts
        assert there["disks"][0]["wire_bytes"] < (UNIQUE + 2) << 20, counts
        assert back["block_pages"] == back["repeated_blocks"] == 0, counts
        assert back["wire_bytes"] - there["wire_bytes"] > (UNIQUE + TWICE) * 0.95 * (1 << 20), counts
        stat = client.ask()
        assert stat and stat["errors"] == 0 and c.observer.double == 0
        assert c.runs_where(VM) == ["host-a"]
