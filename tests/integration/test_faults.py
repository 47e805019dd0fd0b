# SPDX-License-Identifier: Apache-2.0
"""If the power goes here, who runs? Each fault, and the one place where the guest must be afterwards.

A fault is a point in novacrond's code (src/base/fault.h), a process killed in
the middle, or something missing. After each the guest runs in exactly one
place, its self-check has found nothing, and the error names cause and side.
"""

import os
import signal
import time

import pytest
from nctest.cluster import Cluster, Refused, guest_spec
from nctest.net import wait_for

VM = "web1"
SLOW = 6 << 20  # bytes/s: long enough to strike in the middle of the copy


@pytest.fixture()
def cluster():
    with Cluster(rate="1gbit", delay="2ms") as c:
        yield c


def boot(c, **spec):
    c.boot(spec=guest_spec(memory_mib=128, ws=16, rate=2, **spec))
    c.watch_runners(VM)


def judge(c, node):
    """The verdict of every scenario."""
    c.assert_healthy(VM, node)
    assert c.observer.double == 0, "two runners were seen"


def restart(node, fault=None):
    node.start(fault=fault)


# --- novacrond killed at every dangerous line ---

SOURCE_DIES = [
    # point, where the guest must run when the source's novacrond is back
    ("source-prepare", "a"),
    ("source-keeper", "a"),
    ("source-switching", "a"),
    ("source-before-release", "a"),
    ("source-after-release", "a"),  # no grant was sent: the destination refuses, the right comes back
    ("source-after-grant", "any"),  # the grant may or may not have left: the destination's word decides
    ("source-started", "b"),
    ("source-before-end", "b"),
    ("source-after-end", "b"),
]


@pytest.mark.parametrize("point,place", SOURCE_DIES)
def test_source_novacrond_dies(cluster, point, place):
    c = cluster
    boot(c)
    c.a.stop()
    restart(c.a, f"{point}:kill")
    m = c.a.call("migration.create", vm=VM, to="host-b")
    c.a.wait_dead()
    restart(c.a)
    m = c.a.wait_migration(m["id"])
    if place == "any":
        place = "b" if m["outcome"] == "completed" else "a"
    node = c.a if place == "a" else c.b
    assert m["outcome"] == ("completed" if place == "b" else "failed")
    if place == "a":
        assert m["error"]["message"]
    judge(c, node)
    again = c.migrate(VM, node)
    assert again["outcome"] == "completed", f"the fault left an obstacle: {again['error']}"
    judge(c, c.other(node))


DESTINATION_DIES = [
    ("destination-prepare", "a"),
    ("destination-granted", "a"),
    ("destination-before-take", "a"),
    ("destination-after-take", "b"),
    ("destination-after-cont", "b"),
]


@pytest.mark.parametrize("point,place", DESTINATION_DIES)
def test_destination_novacrond_dies(cluster, point, place):
    c = cluster
    boot(c)
    c.b.stop()
    restart(c.b, f"{point}:kill")
    m = c.a.call("migration.create", vm=VM, to="host-b")
    c.b.wait_dead()
    restart(c.b)
    m = c.a.wait_migration(m["id"])
    assert m["outcome"] == ("completed" if place == "b" else "failed"), m
    if place == "a":
        assert "destination" in m["error"]["message"]
    judge(c, c.a if place == "a" else c.b)


@pytest.mark.parametrize("point", ["destination-before-refuse", "destination-after-refuse"])
def test_destination_dies_while_refusing(cluster, point):
    c = cluster
    boot(c)
    c.b.stop()
    restart(c.b, f"{point}:kill")
    m = c.a.call("migration.create", vm=VM, to="host-b", bandwidth_limit_bps=SLOW)
    c.a.wait_state(m["id"], ("copying",))
    c.a.call("migration.cancel", id=m["id"])
    c.b.wait_dead()
    restart(c.b)
    assert c.a.wait_migration(m["id"])["outcome"] == "cancelled"
    judge(c, c.a)
    c.moves(VM, c.a)
    judge(c, c.b)


@pytest.mark.parametrize("point", ["source-before-reclaim", "source-after-reclaim"])
def test_source_dies_while_taking_the_right_back(cluster, point):
    """The destination loses its QEMU after the release, so it refuses; the source dies in the reclaim."""
    c = cluster
    boot(c)
    c.a.stop()
    c.b.stop()
    restart(c.a, f"{point}:kill")
    restart(c.b, "destination-before-take:stop")
    m = c.a.call("migration.create", vm=VM, to="host-b")
    wait_for(c.b.is_stopped_by_fault, 60, "the destination to reach the take")
    for pid in c.b.qemu_pids():
        os.kill(pid, signal.SIGKILL)
    c.b.go_on()
    c.a.wait_dead()
    restart(c.a)
    m = c.a.wait_migration(m["id"])
    assert m["outcome"] == "failed"
    judge(c, c.a)
    c.moves(VM, c.a)
    judge(c, c.b)


def test_mover_and_novacrond_of_the_source_die_between_release_and_acknowledgement(cluster):
    """The keeper: nothing of ours lives at the source, and QEMU still does not resume by itself."""
    c = cluster
    boot(c)
    c.b.stop()
    restart(c.b, "destination-before-take:stop")
    m = c.a.call("migration.create", vm=VM, to="host-b")
    wait_for(c.b.is_stopped_by_fault, 60, "the destination to hold state and grant")
    c.a.wait_state(m["id"], ("released",))
    for pid in c.a.mover_pids():
        os.kill(pid, signal.SIGKILL)
    c.a.kill()
    end = time.monotonic() + 4
    while time.monotonic() < end:  # long enough for any reflex of QEMU's
        assert c.runs_where(VM) == []
        time.sleep(0.1)
    c.b.go_on()
    wait_for(lambda: c.runs_where(VM) == ["host-b"], 30, "the destination to start it")
    restart(c.a)
    assert c.a.wait_migration(m["id"])["outcome"] == "completed"
    judge(c, c.b)


def test_cut_off_after_release_needs_attention_and_an_operator_can_decide(cluster):
    c = cluster
    boot(c)
    c.b.stop()
    restart(c.b, "destination-granted:stop")
    m = c.a.call("migration.create", vm=VM, to="host-b")
    wait_for(c.b.is_stopped_by_fault, 60, "the destination to have the grant")
    c.a.wait_state(m["id"], ("released",))
    c.b.kill()  # fenced: its QEMU, its mover and its novacrond are gone for good
    for pid in c.b.qemu_pids() + c.b.mover_pids():
        os.kill(pid, signal.SIGKILL)
    m = wait_for(lambda: (lambda r: r if r["attention"] else None)(c.a.call("migration.get", id=m["id"])), 60, "attention")
    assert m["phase"] == "needs_attention" and f"novacron resolve {m['id']} --run-here" in m["attention"]
    assert c.runs_where(VM) == []
    c.a.call("migration.resolve", id=m["id"], action="run_here")
    assert c.a.wait_migration(m["id"])["outcome"] == "failed"
    judge(c, c.a)
    restart(c.b)  # it comes back, and does not start what it was granted
    time.sleep(1)
    judge(c, c.a)
    c.moves(VM, c.a)
    judge(c, c.b)


def test_destination_qemu_dies_in_the_moment_of_its_start(cluster):
    """Nobody knows whether it ran: the source does not take it back by itself, an operator may."""
    c = cluster
    boot(c)
    c.b.stop()
    restart(c.b, "destination-before-cont:stop")
    m = c.a.call("migration.create", vm=VM, to="host-b")
    wait_for(c.b.is_stopped_by_fault, 60, "the destination to be about to start it")
    for pid in c.b.qemu_pids():
        os.kill(pid, signal.SIGKILL)
    c.b.go_on()
    m = wait_for(lambda: (lambda r: r if r["attention"] else None)(c.a.call("migration.get", id=m["id"])), 60, "attention")
    assert "may have run" in m["attention"] and f"novacron resolve {m['id']} --run-here" in m["attention"]
    assert c.runs_where(VM) == []
    c.a.call("migration.resolve", id=m["id"], action="run_here")
    assert c.a.wait_migration(m["id"])["outcome"] == "failed"
    judge(c, c.a)


# --- processes killed in the middle of the copy ---


@pytest.mark.parametrize("side", ["source", "destination"])
def test_mover_killed(cluster, side):
    c = cluster
    boot(c)
    m = c.a.call("migration.create", vm=VM, to="host-b", bandwidth_limit_bps=SLOW)
    c.a.wait_state(m["id"], ("copying",))
    node = c.a if side == "source" else c.b
    for pid in wait_for(node.mover_pids, 10, "the mover"):
        os.kill(pid, signal.SIGKILL)
    m = c.a.wait_migration(m["id"])
    assert m["outcome"] == "failed" and "mover" in m["error"]["message"]
    judge(c, c.a)
    c.moves(VM, c.a)
    judge(c, c.b)


def test_destination_qemu_killed(cluster):
    c = cluster
    boot(c)
    m = c.a.call("migration.create", vm=VM, to="host-b", bandwidth_limit_bps=SLOW)
    c.a.wait_state(m["id"], ("copying",))
    for pid in wait_for(c.b.qemu_pids, 10, "the destination's QEMU"):
        os.kill(pid, signal.SIGKILL)
    m = c.a.wait_migration(m["id"])
    assert m["outcome"] == "failed" and "destination" in m["error"]["message"]
    judge(c, c.a)


def test_source_qemu_killed(cluster):
    """The only copy dies: that is what the report says, and nothing runs anywhere."""
    c = cluster
    boot(c)
    m = c.a.call("migration.create", vm=VM, to="host-b", bandwidth_limit_bps=SLOW)
    c.a.wait_state(m["id"], ("copying",))
    for pid in c.a.qemu_pids():
        os.kill(pid, signal.SIGKILL)
    m = c.a.wait_migration(m["id"])
    assert m["outcome"] == "failed" and "QEMU on the source" in m["error"]["message"]
    assert c.runs_where(VM) == []
    wait_for(lambda: c.a.state(VM) == "stopped", 10, "the machine to be known as stopped")
    c.a.call("machine.start", name=VM)
    wait_for(lambda: c.runs_where(VM) == ["host-a"], 20, "the machine to start anew")
    wait_for(lambda: c.b.qemu_pids() == [], 20, "the destination to clean up")


@pytest.mark.parametrize("side", ["source", "destination"])
def test_novacrond_killed_while_copying(cluster, side):
    c = cluster
    boot(c)
    m = c.a.call("migration.create", vm=VM, to="host-b", bandwidth_limit_bps=SLOW)
    c.a.wait_state(m["id"], ("copying",))
    node = c.a if side == "source" else c.b
    node.kill()
    time.sleep(0.5)
    assert c.runs_where(VM) == ["host-a"]
    restart(node)
    m = c.a.wait_migration(m["id"])
    assert m["outcome"] == "failed" and m["error"]["message"]
    judge(c, c.a)
    c.moves(VM, c.a)
    judge(c, c.b)


def test_novacrond_stopped_politely_while_copying(cluster):
    c = cluster
    boot(c)
    m = c.a.call("migration.create", vm=VM, to="host-b", bandwidth_limit_bps=SLOW)
    c.a.wait_state(m["id"], ("copying",))
    c.a.stop()
    assert c.runs_where(VM) == ["host-a"]
    restart(c.a)
    assert c.a.wait_migration(m["id"])["outcome"] == "failed"
    judge(c, c.a)


def test_link_down_while_copying(cluster):
    c = cluster
    boot(c)
    m = c.a.call("migration.create", vm=VM, to="host-b", bandwidth_limit_bps=SLOW)
    c.a.wait_state(m["id"], ("copying",))
    c.net.wan.tell("down")
    m = c.a.wait_migration(m["id"], timeout=120)
    c.net.wan.tell("up")
    assert m["outcome"] == "failed"
    judge(c, c.a)
    wait_for(lambda: c.b.state(VM) is None, 60, "the destination to give up")
    c.moves(VM, c.a)
    judge(c, c.b)


# --- what is missing at the destination ---


def failed_at_once(c, code, *words, spec=None):
    c.boot(spec=spec) if spec else boot(c)
    m = c.a.call("migration.create", vm=spec["name"] if spec else VM, to="host-b")
    m = c.a.wait_migration(m["id"])
    assert m["outcome"] == "failed"
    assert m["error"]["code"] == code, m["error"]
    for word in words:
        assert word in m["error"]["message"], m["error"]["message"]
    assert c.runs_where(m["vm"]) == ["host-a"]
    assert c.b.qemu_pids() == []


def test_destination_unreachable(cluster):
    cluster.b.stop()
    failed_at_once(cluster, "unreachable", "host-b", "destination")


def test_not_enough_memory_at_the_destination(cluster):
    c = cluster
    c.b.stop()
    c.b.settings["memory_reserve_mib"] = "1000000"
    c.b.write_config()
    c.b.start()
    failed_at_once(c, "unsuitable", "host-b", "memory")


def test_qemu_missing_at_the_destination(cluster):
    c = cluster
    c.b.stop()
    c.b.settings["qemu_binary"] = "/nonexistent/qemu"
    c.b.write_config()
    c.b.start()
    failed_at_once(c, "unsuitable", "host-b", "/nonexistent/qemu")


def lesser_qemu(c, text):
    """The destination gets another QEMU: a script that may refuse before it becomes the real one."""
    path = os.path.join(c.bed.dir, "lesser-qemu")
    with open(path, "w") as f:
        f.write(f"#!/bin/sh\n{text}\nexec qemu-system-x86_64 \"$@\"\n")
    os.chmod(path, 0o755)
    c.b.stop()
    c.b.settings["qemu_binary"] = path
    c.b.write_config()
    c.b.start()


@pytest.mark.parametrize("option,name,words", [("-machine", "pc-i440fx-7.2", "machine type pc-i440fx-7.2"), ("-cpu", "qemu64", "CPU model qemu64")])
def test_machine_type_or_cpu_model_unknown_at_the_destination(cluster, option, name, words):
    lesser_qemu(cluster, f'[ "$1 $2" = "{option} help" ] && {{ qemu-system-x86_64 {option} help | grep -v "{name} "; exit; }}')
    failed_at_once(cluster, "unsuitable", "host-b", "does not know", words)


def test_cpu_flag_unknown_at_the_destination(cluster):
    """Which flags there are only QEMU itself can say, when it is started; what it says has to arrive."""
    lesser_qemu(cluster, 'case "$*" in *+avx2*) echo "qemu: Property \'qemu64-x86_64-cpu.avx2\' not found" >&2; exit 1;; esac')
    spec = guest_spec(memory_mib=128, ws=8, rate=1, cpu="qemu64,+avx2")
    failed_at_once(cluster, "qemu", "host-b", "destination", "avx2", "not found", spec=spec)


def test_destination_of_another_ca(cluster):
    c = cluster
    c.b.stop()
    c.b.data_dir = c.b.settings["data_dir"] = os.path.join(c.b.dir, "other")
    os.makedirs(c.b.data_dir)
    c.b.write_config()
    c.b.pki_init()
    c.b.start()
    failed_at_once(c, "trust", "host-b", "certificate", "CA")
    wait_for(lambda: "refused" in c.b.log_tail(20) and "certificate" in c.b.log_tail(20), 10, "the refusal in the destination's log")
    judge(c, c.a)


def test_disk_missing_at_the_destination(cluster):
    c = cluster
    disk = os.path.join(c.bed.dir, "only-at-a.raw")
    with open(disk, "wb") as f:
        f.truncate(1 << 20)
    c.boot(spec=guest_spec(memory_mib=128, ws=8, rate=1, disks=[{"name": "d0", "path": disk, "format": "raw"}]))
    os.rename(disk, disk + ".gone")
    m = c.a.wait_migration(c.a.call("migration.create", vm=VM, to="host-b")["id"])
    assert m["outcome"] == "failed" and disk in m["error"]["message"] and "host-b" in m["error"]["message"]
    assert c.runs_where(VM) == ["host-a"]


def test_machine_of_that_name_at_the_destination(cluster):
    cluster.b.call("machine.define", spec=guest_spec(memory_mib=128))
    failed_at_once(cluster, "conflict", "host-b", VM)


def test_node_removed_is_refused_with_reasons_on_both_sides(cluster):
    c = cluster
    boot(c)
    c.a.call("node.remove", name="host-b")
    with pytest.raises(Refused) as refused:
        c.a.call("migration.create", vm=VM, to="host-b")
    assert "host-b" in refused.value.message and "removed" in refused.value.message
    judge(c, c.a)


def test_journal_disk_full(cluster):
    """No space for the journal: the migration is not begun, the guest runs on, the error says which disk."""
    c = cluster
    boot(c)
    c.a.stop()
    small = os.path.join(c.bed.dir, "small")
    os.makedirs(small)
    assert os.system(f"mount -t tmpfs -o size=2m tmpfs {small}") == 0
    c.bed.on_close(lambda: os.system(f"umount -l {small}"))
    assert os.system(f"cp -a {c.a.data_dir}/. {small}/") == 0
    c.a.settings["data_dir"] = small
    c.a.write_config()
    c.a.start()
    filler = os.open(os.path.join(small, "filler"), os.O_WRONLY | os.O_CREAT)
    try:
        while os.write(filler, b"x" * 4096):
            pass
    except OSError:
        pass
    os.close(filler)
    outcome = None
    try:
        m = c.a.wait_migration(c.a.call("migration.create", vm=VM, to="host-b")["id"])
        outcome = m["error"]
    except Refused as refused:
        outcome = {"code": refused.code, "message": refused.message}
    assert outcome["code"] == "resource" and "space" in outcome["message"], outcome
    os.unlink(os.path.join(small, "filler"))
    judge(c, c.a)
