# SPDX-License-Identifier: Apache-2.0
"""Checkpoints with real QEMU and the guest that verifies itself.

Promises under test: memory, devices and disks are those of one instant, though
the guest writes on; what did not change is stored once; a restore, in place or
as a new machine, is what was there, or nothing happens; whatever dies in
between, the guest goes on and nothing of ours is left in its QEMU.

    NC_BUILD=build pytest-3 tests/integration/test_checkpoint.py
"""
import glob
import json
import os
import subprocess
import time

import pytest

from nctest.checkpoints import (DISK_MIB, MIB, boot, console_length, create, disk_sha256, forget, guest_is_well, guest_write, make_disk,
                                nothing_of_ours_is_left, observer_of, refused, restore, settle, use_store)
from nctest.cluster import Cluster, Refused, guest_spec
from nctest.net import wait_for


@pytest.fixture(scope="module")
def cluster():
    with Cluster(emulated=False, gates=True) as c:
        yield c


# --- one instant -----------------------------------------------------------------------------------------------------


def test_memory_and_disk_are_of_one_instant_and_come_back(cluster):
    node, vm = cluster.a, "web1"
    disk = boot(cluster, vm)
    guest_write(node, vm, 0x5a, 1, 3)
    guest_write(node, vm, 0x77, 40, 2)
    as_of_first = disk_sha256(disk)
    first = create(node, vm, label="first")
    assert first["mode"] == "background" and first["memory"]["data_bytes"] > 20 * MIB
    assert first["disks"][0]["data_bytes"] == 5 * MIB and first["pause_ms"] > 0
    assert nothing_of_ours_is_left(node, vm)

    guest_write(node, vm, 0x11, 2, 1)  # over a part of the pattern
    as_of_second = disk_sha256(disk)
    second = create(node, vm)
    assert second["new_bytes"] < first["new_bytes"] / 2
    assert second["disks"][0]["new_bytes"] in (4096, 8192)  # one block, 256 times; put twice at the same moment it is new twice
    guest_is_well(node, vm)
    listed = json.loads(node.cli("--json", "checkpoint", "list", vm).stdout)["items"]
    assert [c["id"] for c in listed] == [first["id"], second["id"]]
    assert "first" in node.cli("checkpoint", "show", first["id"]).stdout

    # As a new machine, by the command line; the original runs on and has what it had.
    out = node.cli("checkpoint", "restore", first["id"], "--as", "copy")
    assert "copy is as web1 was" in out.stdout
    copy = node.call("machine.get", name="copy")
    [made, *_], [restored, *_] = (node.call("audit.list", kind=f"checkpoint.{what}") for what in ("made", "restored"))
    assert (made["subject"], made["vm"], made["detail"]["ok"]) == (second["id"], vm, True)
    assert (restored["subject"], restored["vm"], restored["detail"]) == (first["id"], "copy", {"ok": True, "new": True})
    assert copy["state"] == "running" and copy["spec"]["uuid"] != node.call("machine.get", name=vm)["spec"]["uuid"]
    assert disk_sha256(copy["spec"]["disks"][0]["path"]) == as_of_first
    guest_is_well(node, "copy")
    assert node.state(vm) == "running" and disk_sha256(disk) == as_of_second
    forget(node, "copy")

    # No room for its disk.
    small = os.path.join(cluster.bed.dir, "small")
    os.mkdir(small)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "small", small], check=True)
    cluster.bed.on_close(lambda: subprocess.run(["umount", small]))
    node.stop()
    node.start()  # in a namespace that knows of it
    activity = restore(node, first["id"], **{"as": "copy2", "disk_dir": small})
    assert activity["state"] == "failed" and activity["error"]["code"] == "resource" and small in activity["error"]["message"]
    assert os.listdir(small) == [] and node.state("copy2") is None

    # In place: not while it runs, unless that is meant.
    activity = restore(node, first["id"])
    assert activity["state"] == "failed" and activity["error"]["code"] == "conflict" and "--force" in activity["error"]["message"]
    assert node.state(vm) == "running"
    seen = console_length(node, vm)
    activity = restore(node, first["id"], force=True)
    assert activity["state"] == "done", activity
    assert disk_sha256(disk) == as_of_first
    guest_is_well(node, vm, after=seen)
    assert sorted(glob.glob(disk + "*")) == [disk]

    # Stopped, and to the later one, which needs nothing of the first.
    node.call("checkpoint.delete", id=first["id"])
    node.call("machine.stop", name=vm, force=True)
    assert restore(node, second["id"], paused=True)["state"] == "done"
    assert node.state(vm) == "paused" and disk_sha256(disk) == as_of_second
    node.call("machine.start", name=vm)
    guest_is_well(node, vm, after=console_length(node, vm))
    forget(node, vm)


def test_what_the_guest_writes_while_it_is_saved_is_not_in_it(cluster):
    node, vm = cluster.a, "writer"
    disk = boot(cluster, vm, disk="raw")
    guest_write(node, vm, 0x5a, 0, 8)
    before = disk_sha256(disk)
    node.stop()
    node.start(fault="checkpoint-reading:sleep=1500")
    id = node.call("checkpoint.create", name=vm)["id"]
    time.sleep(0.7)  # memory is being read; the disks come later
    guest_write(node, vm, 0xee, 0, 8)
    assert settle(node, id)["state"] == "ready"
    after = disk_sha256(disk)
    assert restore(node, id, **{"as": "writer2", "paused": True})["state"] == "done"
    assert disk_sha256(node.call("machine.get", name="writer2")["spec"]["disks"][0]["path"]) == before != after
    guest_is_well(node, vm)
    forget(node, "writer2")

    # The other way: stopped for it.
    stopped = create(node, vm, mode="stop")
    assert stopped["mode"] == "stop" and nothing_of_ours_is_left(node, vm)
    seen = console_length(node, vm)
    assert restore(node, stopped["id"], force=True)["state"] == "done"
    guest_is_well(node, vm, after=seen)
    forget(node, vm)


def test_a_missing_backing_file_is_not_needed(cluster):
    node, vm = cluster.a, "chained"
    base = make_disk(cluster, "chained-base")
    subprocess.run(["qemu-io", "-f", "qcow2", "-c", "write -P 0x42 0 2M", base], check=True, stdout=subprocess.DEVNULL)
    disk = os.path.join(cluster.bed.dir, f"{vm}.qcow2")
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", base, "-F", "qcow2", disk], check=True)
    spec = guest_spec(vm, memory_mib=160, ws=24, rate=5, nic=False,
                      disks=[{"name": "root", "path": disk, "format": "qcow2", "cache": "writeback", "interface": "scsi"}])
    cluster.boot(node, spec)
    cp = create(node, vm)
    before = disk_sha256(disk)
    node.call("machine.stop", name=vm, force=True)
    os.unlink(base)
    assert os.path.basename(base) in refused(node, "machine.start", name=vm).message
    seen = console_length(node, vm)
    assert restore(node, cp["id"])["state"] == "done"
    assert disk_sha256(disk) == before
    guest_is_well(node, vm, after=seen)
    forget(node, vm)


def restored_sha256(node, id, vm):
    """Of the disk of ${vm}, which the checkpoint becomes for a moment."""
    activity = restore(node, id, **{"as": vm, "paused": True})
    assert activity["state"] == "done", activity
    path = node.call("machine.get", name=vm)["spec"]["disks"][0]["path"]
    digest = disk_sha256(path)
    forget(node, vm)
    os.unlink(path)
    return digest


def bitmap(node, vm, what, id):
    qmp = observer_of(node, vm)
    try:
        qmp.command(f"block-dirty-bitmap-{what}", node="d-root", name=f"nc-cp-since-{id}")
    finally:
        qmp.close()


def test_of_disks_only_what_has_changed_is_read(cluster):
    node, vm = cluster.a, "changed"
    disk = boot(cluster, vm)
    guest_write(node, vm, 0x5a, 1, 3)
    guest_write(node, vm, 0x77, 40, 2)
    first = create(node, vm)
    assert first["disks"][0]["read_bytes"] == DISK_MIB * MIB
    guest_write(node, vm, 0x91, 2, 1)   # over what was there
    guest_write(node, vm, 0x92, 50, 1)  # where nothing was
    guest_write(node, vm, 0, 40, 1)     # and nothing any more
    as_of_second = disk_sha256(disk)
    second = create(node, vm)
    assert second["disks"][0]["read_bytes"] == 3 * MIB
    # Two contents are new, 256 blocks each; two put at the same moment are both new.
    assert second["disks"][0]["data_bytes"] == 5 * MIB and 2 * 4096 <= second["disks"][0]["new_bytes"] <= 4 * 4096
    guest_write(node, vm, 0x93, 63, 1)  # the last of it
    as_of_third = disk_sha256(disk)
    third = create(node, vm, mode="stop")
    assert third["mode"] == "stop" and third["disks"][0]["read_bytes"] == 1 * MIB and nothing_of_ours_is_left(node, vm)
    fourth = create(node, vm)
    assert fourth["disks"][0]["read_bytes"] == 0 and fourth["disks"][0]["data_bytes"] == 6 * MIB

    # Each stands for itself.
    for cp in (first, third):
        node.call("checkpoint.delete", id=cp["id"])
    node.cli("store", "gc")
    for cp, expected in ((second, as_of_second), (fourth, as_of_third)):
        assert node.cli("checkpoint", "verify", cp["id"]).returncode == 0
        assert restored_sha256(node, cp["id"], "changed2") == expected
    guest_is_well(node, vm)
    forget(node, vm)


def test_what_was_written_while_no_bitmap_recorded_is_captured(cluster):
    """It was stopped by somebody; it is gone; QEMU did not run; a checkpoint was cancelled; novacrond died: all of it is read."""
    node, vm = cluster.a, "gaps"
    disk = boot(cluster, vm)
    guest_write(node, vm, 0x10, 0, 2)
    last = create(node, vm)
    pattern = iter(range(0x20, 0x80))

    def captured(whole=True):
        as_of_now = disk_sha256(disk)
        cp = create(node, vm)
        assert (cp["disks"][0]["read_bytes"] == DISK_MIB * MIB) == whole, cp["disks"]
        assert restored_sha256(node, cp["id"], "gaps2") == as_of_now
        return cp

    for what in ("disable", "remove"):
        bitmap(node, vm, what, last["id"])
        guest_write(node, vm, next(pattern), 1, 1)
        last = captured()
    node.call("machine.stop", name=vm, force=True)
    subprocess.run(["qemu-io", "-f", "qcow2", "-c", f"write -P {next(pattern)} 1M 1M", disk], check=True, stdout=subprocess.DEVNULL)
    node.call("machine.start", name=vm)
    last = captured()
    node.call("checkpoint.delete", id=last["id"])  # what its bitmap is to be added to
    guest_write(node, vm, next(pattern), 1, 1)
    last = captured()

    node.stop()
    node.start(fault="checkpoint-reading:sleep=1500")
    begun = node.call("checkpoint.create", name=vm)
    time.sleep(0.5)
    guest_write(node, vm, next(pattern), 1, 1)
    node.call("checkpoint.delete", id=begun["id"])
    assert settle(node, begun["id"])["state"] == "cancelled"
    last = captured()

    for point in ("checkpoint-stopped", "checkpoint-commit"):
        guest_write(node, vm, next(pattern), 1, 1)
        node.stop()
        node.start(fault=f"{point}:kill")
        node.call("checkpoint.create", name=vm)
        node.wait_dead()
        guest_write(node, vm, next(pattern), 2, 1)
        node.start()
        last = captured(whole=point == "checkpoint-commit")
    guest_write(node, vm, next(pattern), 1, 1)
    captured(whole=False)
    forget(node, vm)


def test_by_the_clock_the_last_ones_are_kept(cluster):
    node, vm = cluster.a, "clock"
    boot(cluster, vm, disk=None)
    by_hand = create(node, vm)
    node.cli("checkpoint", "schedule", vm, "--every", "1h", "--keep", "2")
    node.cli("checkpoint", "schedule", vm, "--every", "1s")  # how many are kept stays as it was
    made = set()

    def enough():
        made.update(c["id"] for c in node.call("checkpoint.list", name=vm) if c["scheduled"] and c["state"] == "ready")
        return len(made) >= 3
    wait_for(enough, 40, "three checkpoints")
    node.cli("checkpoint", "schedule", vm, "--off")
    wait_for(lambda: all(c["state"] != "making" for c in node.call("checkpoint.list", name=vm)), 20, "the last one")
    time.sleep(0.5)
    left = node.call("checkpoint.list", name=vm)
    assert [c["id"] for c in left][0] == by_hand["id"] and len(left) == 3
    guest_is_well(node, vm)
    forget(node, vm)


# --- what goes wrong -------------------------------------------------------------------------------------------------


def test_what_can_not_be_is_refused_and_changes_nothing(cluster):
    node, other, vm = cluster.a, cluster.b, "plain"
    boot(cluster, vm, disk=None)
    assert refused(node, "checkpoint.create", name="nobody").code == "not_found"
    assert refused(node, "checkpoint.get", id="c-none").code == "not_found"

    node.stop()
    node.start(fault="checkpoint-reading:sleep=1500")
    begun = node.call("checkpoint.create", name=vm)
    again = refused(node, "checkpoint.create", name=vm)
    assert again.code == "conflict" and begun["id"] in again.message
    assert refused(node, "checkpoint.restore", id=begun["id"]).code == "conflict"
    cp = settle(node, begun["id"])
    assert cp["state"] == "ready"

    # Cancelled by deleting it.
    node.stop()
    node.start(fault="checkpoint-reading:sleep=1500")
    begun = node.call("checkpoint.create", name=vm)
    time.sleep(0.5)
    node.call("checkpoint.delete", id=begun["id"])
    assert settle(node, begun["id"])["state"] == "cancelled"
    assert nothing_of_ours_is_left(node, vm)

    # Restored under a name that is taken; deleted meanwhile.
    assert restore(node, cp["id"], **{"as": vm, "force": False})["error"]["code"] == "conflict"
    node.stop()
    node.start(fault="restore-loaded:sleep=1500")
    node.call("checkpoint.restore", id=cp["id"], **{"as": "plain2", "paused": True})
    assert refused(node, "checkpoint.delete", id=cp["id"]).code == "conflict"
    assert settle(node, cp["id"])["activity"]["state"] == "done"
    forget(node, "plain2")

    # It has moved: here it can only become another machine.
    m = cluster.migrate(vm, node)
    assert m["outcome"] == "completed"
    activity = restore(node, cp["id"], force=True)
    assert activity["state"] == "failed" and activity["error"]["code"] == "conflict" and other.name in activity["error"]["message"]
    assert other.state(vm) == "running" and node.state(vm) == "moved"
    guest_is_well(other, vm)
    assert restore(node, cp["id"], **{"as": "plain3", "paused": True})["state"] == "done"
    forget(node, "plain3")
    forget(other, vm)


def test_a_damaged_checkpoint_names_what_is_lost_and_is_not_restored(cluster):
    node, vm = cluster.b, "hurt"
    store = use_store(cluster, node, "hurt-store")
    disk = boot(cluster, vm, node=node)
    guest_write(node, vm, 0x5a, 0, 4)
    cp = create(node, vm)
    node.stop()
    # In the middle of the largest pack: that is memory.
    pack = max((f for f in glob.glob(os.path.join(store, "**"), recursive=True) if os.path.isfile(f)), key=os.path.getsize)
    with open(pack, "r+b") as f:
        f.seek(os.path.getsize(pack) // 2)
        byte = f.read(1)
        f.seek(-1, 1)
        f.write(bytes([byte[0] ^ 0x40]))
    node.start()
    out = node.cli("checkpoint", "verify", cp["id"], check=False)
    assert out.returncode != 0 and "lost" in out.stderr and "memory ram0 at 0x" in out.stderr
    out = node.cli("store", "verify", check=False)
    assert out.returncode == 10 and f"{cp['id']} of {vm}" in out.stderr and f"checkpoint {cp['id']} of {vm}" in out.stdout
    assert os.path.relpath(pack, store) in out.stdout
    before = disk_sha256(disk)

    def is_refused_and_named(lost):
        activity = restore(node, cp["id"], force=True)
        assert activity["state"] == "failed" and activity["error"]["code"] == "corrupt" and lost in activity["error"]["message"], activity
        assert node.state(vm) == "running" and disk_sha256(disk) == before and glob.glob(disk + "*") == [disk]
    is_refused_and_named("memory ram0 at 0x")
    with open(pack, "r+b") as f:
        f.seek(os.path.getsize(pack) // 2)
        f.write(byte)
        f.seek(0)
        whole = f.read()
    # Cut short, with what says where its pages are: the store opens, the checkpoint is in the list, and what it has lost is named.
    node.stop()
    os.truncate(pack, len(whole) // 2)
    node.start()
    assert [c["state"] for c in node.call("checkpoint.list", name=vm)] == ["ready"]
    out = node.cli("checkpoint", "verify", cp["id"], check=False)
    assert out.returncode == 10 and "lost: " in out.stderr and "the pack has been cut short" in out.stderr, out.stderr
    out = node.cli("store", "verify", check=False)
    assert out.returncode == 10 and os.path.relpath(pack, store) in out.stdout and f"{cp['id']} of {vm}" in out.stderr
    is_refused_and_named("the pack has been cut short")
    # Its list of pages: it can't even say whose it is, and is shown all the same.
    node.stop()
    with open(pack, "wb") as f:
        f.write(whole)
    [manifest] = [f for f in glob.glob(os.path.join(store, "manifests", "*")) if cp["id"] in f]
    with open(manifest, "rb") as f:
        described = f.read()
    with open(manifest, "wb") as f:
        f.write(bytes(64) + described[64:])
    node.start()
    for args in ((), (vm,)):
        assert f"{cp['id']}" in (listed := node.cli("checkpoint", "list", *args).stdout) and "damaged" in listed, listed
    node.stop()
    with open(manifest, "wb") as f:
        f.write(described)
    # Whole again, in a store that can only be read.
    subprocess.run(["mount", "--bind", store, store], check=True)
    subprocess.run(["mount", "-o", "remount,ro,bind", store], check=True)
    try:
        node.start()
        assert node.cli("checkpoint", "verify", cp["id"]).returncode == 0
        assert "is whole" in node.cli("store", "verify").stdout
        assert "READ-ONLY" in node.cli("store", "status").stdout
        out = node.cli("store", "gc", check=False)
        assert out.returncode == 3 and "for reading only" in out.stderr, out.stderr
        failed = settle(node, node.call("checkpoint.create", name=vm)["id"])
        assert failed["state"] == "failed" and failed["error"]["code"] == "forbidden", failed
        assert refused(node, "checkpoint.delete", id=cp["id"]).code == "forbidden"
        node.stop()
    finally:
        subprocess.run(["umount", store], check=True)
    node.start()
    assert json.loads(node.cli("--json", "store", "gc", "--dry-run").stdout)["activity"]["garbage_bytes"] < 1 * MIB
    before = node.call("store.status")
    assert before["manifests"] == 1 and before["ratio"] > 1 and not before["encrypted"] and before["garbage_bytes"] is not None
    node.call("checkpoint.delete", id=cp["id"])
    node.cli("store", "gc")
    after = node.call("store.status")
    assert after["manifests"] == 0 and after["pages"] < before["pages"] and after["used_bytes"] < before["used_bytes"] / 4
    kinds = [(e["detail"]["op"], e["actor"].split(":")[0]) for e in node.call("audit.list", kind="request", limit=20)]
    assert ("store.gc", "uid") in kinds and not [op for op, _ in kinds if op == "store.status"]
    forget(node, vm)


def test_a_full_store_costs_the_checkpoint_only(cluster):
    node, vm = cluster.b, "full"
    boot(cluster, vm, node=node)
    use_store(cluster, node, "full-store", budget_mib=4)
    cp = settle(node, node.call("checkpoint.create", name=vm)["id"])
    assert cp["state"] == "failed" and cp["error"]["code"] == "resource", cp
    assert nothing_of_ours_is_left(node, vm)
    guest_is_well(node, vm, after=console_length(node, vm))
    assert [c for c in node.call("checkpoint.list") if c["state"] == "ready"] == []
    forget(node, vm)


@pytest.mark.parametrize("point", ["checkpoint-stopped", "checkpoint-reading", "checkpoint-commit"])
def test_a_killed_novacrond_leaves_the_guest_running_and_nothing_else(cluster, point):
    node, vm = cluster.a, "killed"
    if node.state(vm) is None:
        boot(cluster, vm)
    node.stop()
    node.start(fault=f"{point}:kill")
    before = {c["id"] for c in node.call("checkpoint.list")}
    node.call("checkpoint.create", name=vm)
    node.wait_dead()
    node.start()
    assert nothing_of_ours_is_left(node, vm), "the guest stands still"
    assert {c["id"] for c in node.call("checkpoint.list")} == before
    guest_is_well(node, vm, after=console_length(node, vm))
    if point == "checkpoint-commit":
        create(node, vm)
        forget(node, vm)


def test_a_qemu_that_does_not_let_go_is_asked_again(cluster):
    """It has not answered at the end: the guest stands behind our filter until it does, and nobody has to restart novacrond for that."""
    node, vm = cluster.a, "held"
    boot(cluster, vm)
    node.stop()
    node.start(fault="checkpoint-leave:refuse")
    cp = settle(node, node.call("checkpoint.create", name=vm)["id"])
    assert cp["state"] == "failed" and "can't be brought back" in cp["error"]["message"]

    def is_as_before():
        try:
            return nothing_of_ours_is_left(node, vm)
        except AssertionError:
            return False
    assert not is_as_before()
    for problem in (refused(node, "migration.create", vm=vm, to=cluster.b.name), refused(node, "checkpoint.create", name=vm)):
        assert problem.code == "resource" and cp["id"] in problem.message and "by itself" in problem.message, problem
    wait_for(is_as_before, 60, "QEMU to be as it was")
    guest_is_well(node, vm, after=console_length(node, vm))

    def is_free():
        try:
            return create(node, vm)
        except Refused as refused:
            assert refused.code == "resource", refused
            return None
    wait_for(is_free, 30, "the record of it to be closed")
    forget(node, vm)


def test_a_restore_that_can_not_be_recorded_did_not_happen(cluster):
    """The journal refuses the last word of a restore: disks and machine are as before, and the next one succeeds."""
    node, vm = cluster.a, "unsaid"
    disk = boot(cluster, vm)
    guest_write(node, vm, 0x5a, 0, 4)
    as_of_then = disk_sha256(disk)
    cp = create(node, vm)
    guest_write(node, vm, 0x33, 0, 1)
    before = disk_sha256(disk)
    node.call("machine.stop", name=vm, force=True)
    spec = node.call("machine.get", name=vm)["spec"]
    others = node.qemu_pids()

    def refused_restore(**args):
        node.stop()
        node.start(fault="restore-record-done:refuse")
        error = restore(node, cp["id"], **args)["error"]
        assert error["code"] == "io" and node.qemu_pids() == others, error
        for word in (node.name, node.data_dir, "read-only", "restore it once more"):
            assert word in error["message"], error

    refused_restore()
    assert disk_sha256(disk) == before and glob.glob(disk + "*") == [disk]
    machine = node.call("machine.get", name=vm)
    assert machine["state"] == "stopped" and machine["spec"] == spec
    refused_restore(**{"as": "unsaid2"})
    assert node.state("unsaid2") is None and glob.glob(os.path.join(cluster.bed.dir, "unsaid2*")) == []
    node.stop()
    node.start()  # finds nothing to undo
    assert disk_sha256(disk) == before and node.state(vm) == "stopped"
    seen = console_length(node, vm)
    assert restore(node, cp["id"], paused=True)["state"] == "done"
    assert disk_sha256(disk) == as_of_then
    node.call("machine.start", name=vm)
    guest_is_well(node, vm, after=seen)
    forget(node, vm)


@pytest.mark.parametrize("point", ["restore-claimed", "restore-written", "restore-exchange", "restore-loaded"])
def test_a_restore_under_another_name_cut_short_did_not_happen(cluster, point):
    """Wherever the power goes: there is no machine of that name, without disks or with some, and the name is free."""
    node, vm = cluster.a, "model"
    if node.state(vm) is None:
        boot(cluster, vm)
        create(node, vm)
    [cp] = node.call("checkpoint.list", name=vm)
    others = node.qemu_pids()
    node.stop()
    node.start(fault=f"{point}:kill")
    node.call("checkpoint.restore", id=cp["id"], paused=True, **{"as": "likeness"})
    node.wait_dead()
    node.start()
    assert node.state("likeness") is None and node.qemu_pids() == others
    assert glob.glob(os.path.join(cluster.bed.dir, "likeness*")) == []
    if point == "restore-loaded":
        assert restore(node, cp["id"], paused=True, **{"as": "likeness"})["state"] == "done"
        node.stop()
        node.start()
        assert node.state("likeness") == "paused"
        forget(node, "likeness")
        forget(node, vm)


def test_a_name_that_is_taken_stays_its_owners(cluster):
    """The restore dies between its claim and hearing that there is such a machine: what is undone is not that one."""
    node, vm, owner = cluster.a, "model2", "likeness2"
    boot(cluster, vm)
    cp = create(node, vm)
    disk = os.path.join(cluster.bed.dir, f"{owner}-root.qcow2")
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", disk, "16M"], check=True)
    spec = {"name": owner, "vcpus": 1, "memory_mib": 64, "memory_extra_kib": 8, "machine": "pc", "cpu": "qemu64", "accel": "tcg",
            "disks": [{"name": "root", "path": disk, "format": "qcow2"}]}
    node.call("machine.define", spec=spec)
    before = disk_sha256(disk)
    node.stop()
    node.start(fault="restore-claiming:kill")
    node.call("checkpoint.restore", id=cp["id"], paused=True, **{"as": owner})
    node.wait_dead()
    node.start()
    node.call("machine.start", name=owner)
    assert node.state(owner) == "running" and disk_sha256(disk) == before
    node.call("machine.stop", name=owner, force=True)
    assert "already" in restore(node, cp["id"], **{"as": owner})["error"]["message"]
    assert node.state(owner) == "stopped" and disk_sha256(disk) == before and glob.glob(disk + "*") == [disk]
    # One that has failed and could not be taken off the record is undone again when the name is somebody's: theirs stays as it is.
    node.call("machine.destroy", name=owner)
    node.stop()
    node.start(fault="restore-undone:refuse")
    nowhere = os.path.join(cluster.bed.dir, "nowhere")
    failed = restore(node, cp["id"], disk_dir=nowhere, **{"as": owner})
    assert failed["state"] == "failed" and "tries again" in failed["error"]["message"], failed
    assert "there is no directory" in failed["error"]["message"] and node.state(owner) is None, failed
    node.call("machine.define", spec=spec)
    node.call("machine.start", name=owner)

    def is_closed():
        try:
            return restore(node, cp["id"], disk_dir=nowhere, **{"as": "third"})
        except Refused as refused:
            assert refused.code == "conflict", refused
            return None
    wait_for(is_closed, 30, "the record of it to be closed")
    assert node.state(owner) == "running" and disk_sha256(disk) == before and glob.glob(disk + "*") == [disk]
    node.call("machine.stop", name=owner, force=True)
    node.call("machine.destroy", name=owner)
    os.unlink(disk)
    forget(node, vm)


@pytest.mark.parametrize("point,state", [("restore-exchange", "before"), ("restore-loaded", "before"), ("restore-decided", "restored")])
def test_a_restore_cut_short_happened_or_did_not(cluster, point, state):
    node, vm = cluster.a, "torn"
    if node.state(vm) is None:
        disk = boot(cluster, vm)
        guest_write(node, vm, 0x5a, 0, 4)
        create(node, vm)
        node.call("machine.stop", name=vm, force=True)
    disk = os.path.join(cluster.bed.dir, f"{vm}.qcow2")
    cp = node.call("checkpoint.list", name=vm)[0]
    subprocess.run(["qemu-io", "-f", "qcow2", "-c", "write -P 0x33 0 1M", disk], check=True, stdout=subprocess.DEVNULL)
    before = disk_sha256(disk)
    node.stop()
    node.start(fault=f"{point}:kill")
    node.call("checkpoint.restore", id=cp["id"])
    node.wait_dead()
    node.start()
    assert glob.glob(disk + "*") == [disk]
    if state == "before":
        assert node.state(vm) == "stopped" and disk_sha256(disk) == before
        return
    assert disk_sha256(disk) != before and node.state(vm) in ("paused", "running")
    seen = console_length(node, vm)
    if node.state(vm) == "paused":
        node.call("machine.start", name=vm)
    guest_is_well(node, vm, after=seen)
    forget(node, vm)
