# SPDX-License-Identifier: Apache-2.0
"""Checkpoints that go to other nodes, and those that are taken before a migration, with real QEMU.

Promises under test: what arrives at another node's store, which is encrypted with a key of its own, restores to the same machine;
a second copy sends what differs; who dies, is cancelled or finds damage in between leaves no checkpoint there; a migration with a
checkpoint can be undone on both of its nodes, with the machine in one place throughout.

    NC_BUILD=build pytest-3 tests/integration/test_checkpoint_copy.py
"""
import contextlib
import glob
import json
import os
import sqlite3
import time

import pytest

from nctest.checkpoints import (MIB, boot, console_length, create, disk_sha256, forget, guest_is_well, guest_write, refused, restore, settle,
                                use_store)
from nctest.cluster import Cluster
from nctest.net import wait_for
from nctest.rollbacks import (assert_told, assert_told_of_every_death, kill_at_every_point, last_rollback, order, restart, steps_of,
                              wait_rollback)


@pytest.fixture(scope="module")
def cluster():
    with Cluster(emulated=False, gates=True) as c:
        key = os.path.join(c.b.dir, "store.key")
        with open(key, "wb") as f:
            os.fchmod(f.fileno(), 0o600)
            f.write(os.urandom(32))
        c.b.settings["store_key_file"] = key
        use_store(c, c.b, "store-b")
        yield c


def copy(node, id, to):
    node.call("checkpoint.copy", id=id, to=to.name)
    return settle(node, id)["activity"]


def has(node, id):
    return any(cp["id"] == id and cp["state"] == "ready" for cp in node.call("checkpoint.list"))


def arrivals(node, id):
    """What the transaction log tells of it, oldest first."""
    return [e["detail"] for e in reversed(node.call("audit.list", about=id, limit=100)) if e["kind"] == "checkpoint.arrived"]


def test_a_checkpoint_goes_to_another_node_and_is_restored_there(cluster):
    a, b, vm = cluster.a, cluster.b, "web1"
    use_store(cluster, a, "store-first")
    disk = boot(cluster, vm)
    guest_write(a, vm, 0x5a, 1, 3)
    as_of_first = disk_sha256(disk)
    first = create(a, vm)
    out = a.cli("checkpoint", "copy", first["id"], "--to", b.name)
    assert f"{first['id']} is on node {b.name}" in out.stdout
    there = b.call("checkpoint.get", id=first["id"])
    assert there["state"] == "ready" and there["copied"]["from"] == a.name and there["machine"] == vm
    told = arrivals(b, first["id"])
    assert len(told) == 1 and told[0]["ok"] and told[0]["sent_bytes"] > 20 * MIB
    b.call("checkpoint.verify", id=first["id"])
    assert settle(b, first["id"])["activity"]["lost"] == []
    assert copy(a, first["id"], b)["was_there"]

    # The next one: what differs, and the names of all of it.
    guest_write(a, vm, 0x11, 2, 1)
    second = create(a, vm)
    done = copy(a, second["id"], b)
    assert done["state"] == "done" and 0 < done["sent_bytes"] <= second["new_bytes"] + MIB and done["sent_bytes"] < told[0]["sent_bytes"] / 2, done

    # Restored there, by the command line, and by what has gone over before.
    out = a.cli("checkpoint", "restore", first["id"], "--on", b.name, "--as", "copy")
    assert f"copy on node {b.name} is as {vm} was" in out.stdout
    spec = b.call("machine.get", name="copy")["spec"]
    assert b.state("copy") == "running" and a.state("copy") is None
    assert disk_sha256(spec["disks"][0]["path"]) == as_of_first
    guest_is_well(b, "copy")
    forget(b, "copy")

    # Under its own name it would run twice.
    activity = restore(a, first["id"], on=b.name, force=True)
    assert activity["state"] == "failed" and activity["error"]["code"] == "conflict" and "--take" in activity["error"]["message"], activity
    assert b.state(vm) is None and a.state(vm) == "running"
    guest_is_well(a, vm)

    # Nowhere, to itself, and to a node that is not there.
    assert refused(a, "checkpoint.copy", id=first["id"], to="nowhere").code == "not_found"
    assert refused(a, "checkpoint.copy", id=first["id"], to=a.name).code == "invalid"
    b.stop()
    activity = copy(a, second["id"], b)
    assert activity["state"] == "failed" and b.name in activity["error"]["message"]
    b.start()

    # After the original is gone for certain, an operator may take it. What comes to nothing leaves no right behind.
    forget(a, vm)
    os.mkdir(disk + ".nc-restore")  # where the new disk is to be written
    assert restore(a, second["id"], on=b.name, take=True)["state"] == "failed"
    os.rmdir(disk + ".nc-restore")
    activity = restore(a, second["id"], on=b.name)
    assert activity["state"] == "failed" and "--take" in activity["error"]["message"] and b.state(vm) is None, activity
    activity = restore(a, second["id"], on=b.name, take=True)
    assert activity["state"] == "done", activity
    assert b.state(vm) == "running"
    guest_is_well(b, vm)
    forget(b, vm)
    for id in (first["id"], second["id"]):
        b.call("checkpoint.delete", id=id)


def test_interrupted_copies_go_on_and_damage_does_not_travel(cluster):
    a, b, vm = cluster.a, cluster.b, "web2"
    store = use_store(cluster, a, "store-second")
    boot(cluster, vm, disk=None)
    cp = create(a, vm)

    # The sender dies when some of it has gone over.
    a.stop()
    a.start(fault="checkpoint-copy-turn:kill")
    try:
        a.call("checkpoint.copy", id=cp["id"], to=b.name)
    except OSError:
        pass
    a.wait_dead()
    wait_for(lambda: b.call("checkpoint.get", id=cp["id"])["state"] == "failed", 30, "the receiver to notice")
    assert not has(b, cp["id"])
    a.start(fault="checkpoint-copy-turn:sleep=4000")

    # Somebody cancels it.
    a.call("checkpoint.copy", id=cp["id"], to=b.name)
    wait_for(lambda: b.call("checkpoint.get", id=cp["id"])["state"] == "making", 30, "the copy to begin")
    out = a.cli("checkpoint", "cancel", cp["id"])
    assert "being cancelled" in out.stdout
    activity = settle(a, cp["id"])["activity"]
    assert activity["state"] == "failed" and activity["error"]["code"] == "cancelled", activity
    assert refused(a, "checkpoint.cancel", id=cp["id"]).code == "conflict"
    wait_for(lambda: b.call("checkpoint.get", id=cp["id"])["state"] != "making", 30, "the receiver to notice")
    assert not has(b, cp["id"])

    # And goes on: nothing that has arrived is sent again.
    done = copy(a, cp["id"], b)
    assert done["state"] == "done" and has(b, cp["id"]), done
    told = arrivals(b, cp["id"])
    assert [t["ok"] for t in told] == [False, False, True] and told[0]["sent_blocks"] > 0
    assert sum(t["sent_bytes"] for t in told) <= cp["new_bytes"] + MIB, told
    assert restore(b, cp["id"], **{"as": "back", "paused": True})["state"] == "done"
    forget(b, "back")
    b.call("checkpoint.delete", id=cp["id"])

    # Where there is no room: whoever tries again at once hears that again, and not that it is arriving.
    use_store(cluster, b, "store-small", budget_mib=1)
    for _ in range(3):
        activity = copy(a, cp["id"], b)
        assert activity["state"] == "failed" and activity["error"]["code"] == "resource" and b.name in activity["error"]["message"], activity
    use_store(cluster, b, "store-empty")

    # Damage at rest: the sender finds it, names it, and the receiver has nothing.
    pack = max(glob.glob(os.path.join(store, "packs", "*")), key=os.path.getsize)
    a.stop()
    with open(pack, "r+b") as f:
        f.seek(os.path.getsize(pack) // 2)
        f.write(b"\xff\xfe\xfd" * 1000)
    a.start()
    activity = copy(a, cp["id"], b)
    assert activity["state"] == "failed" and activity["error"]["code"] == "corrupt" and os.path.basename(pack) in activity["error"]["message"]
    assert not has(b, cp["id"])
    guest_is_well(a, vm)
    forget(a, vm)


@contextlib.contextmanager
def one_runner(c, vm):
    """Watched meanwhile from outside; QMP sockets serve one client, so nobody else asks them."""
    observer = c.watch_runners(vm)
    try:
        yield
    finally:
        observer.close()
        c.observer = None
    assert observer.double == 0, "two runners were seen"
    assert len(c.runs_where(vm)) == 1


def undone(node, m, as_of, disk):
    out = node.cli("--json", "rollback", m["id"], "--to-checkpoint", "--wait")
    rollback = json.loads(out.stdout)["rollbacks"][-1]
    assert rollback["state"] == "completed" and rollback["mode"] == "checkpoint" and rollback["checkpoint"] == m["checkpoint"], rollback
    assert disk_sha256(disk) == as_of
    return rollback


def test_a_migration_is_undone_to_the_checkpoint_before_it(cluster):
    c, a, b, vm = cluster, cluster.a, cluster.b, "web3"
    use_store(cluster, a, "store-third")
    disk = boot(cluster, vm)
    guest_write(a, vm, 0x5a, 1, 3)
    as_of = disk_sha256(disk)

    # On the destination, which fetches it.
    with one_runner(c, vm):
        m = c.migrate(vm, a, checkpoint=True)
    assert m["outcome"] == "completed" and has(a, m["checkpoint"]), m
    assert a.call("checkpoint.get", id=m["checkpoint"])["migration"] == m["id"]
    assert b.call("migration.get", id=m["id"])["checkpoint"] == m["checkpoint"] and not has(b, m["checkpoint"])
    guest_write(b, vm, 0xee, 0, 8)
    assert disk_sha256(disk) != as_of
    seen = console_length(b, vm)
    with one_runner(c, vm):
        rollback = undone(b, m, as_of, disk)
    assert f"fetched from {a.name}" in rollback["steps"][2]["detail"], rollback
    assert b.state(vm) == "running" and a.state(vm) == "moved"
    guest_is_well(b, vm, after=seen)

    # On the source, which calls the machine back; the checkpoint goes soon after its migration.
    m = json.loads(b.cli("--json", "migrate", vm, "--to", a.name, "--checkpoint", "--wait").stdout)
    assert m["outcome"] == "completed" and has(b, m["checkpoint"]), m
    guest_write(a, vm, 0xdd, 4, 8)
    with one_runner(c, vm):
        rollback = undone(b, m, as_of, disk)
    assert rollback["call_from"] == a.name
    assert b.state(vm) == "running" and a.state(vm) == "moved"
    guest_is_well(b, vm)

    # Not taken: not moved.
    use_store(cluster, b, "store-none", budget_mib=1)
    m = c.migrate(vm, b, checkpoint=True)
    assert m["outcome"] == "failed" and m["error"]["code"] == "resource" and m["checkpoint"] is None, m
    assert b.name in m["error"]["message"] and "nothing was moved" in m["error"]["message"] and "--no-checkpoint" in m["error"]["message"]
    assert b.state(vm) == "running"

    # Kept for so long, and no longer.
    use_store(cluster, b, "store-fourth")
    m = c.migrate(vm, b, checkpoint=True, checkpoint_keep_s=1)
    assert m["outcome"] == "completed", m
    wait_for(lambda: not has(b, m["checkpoint"]), 30, "the checkpoint to go")
    out = a.cli("rollback", m["id"], "--to-checkpoint", "--wait", check=False)
    assert out.returncode != 0 and a.state(vm) == "running"

    # Also if the migration is so long ago that its record is gone.
    c.migrate(vm, a)
    m = c.migrate(vm, b, checkpoint=True, checkpoint_keep_s=10)
    assert m["outcome"] == "completed", m
    b.stop()
    with sqlite3.connect(os.path.join(b.data_dir, "journal.db")) as db:
        assert db.execute("DELETE FROM migration WHERE id=?", (m["id"],)).rowcount == 1
    b.use_own_clock()
    b.start()
    time.sleep(12)  # it looks every five seconds
    assert has(b, m["checkpoint"])  # a day more, since a journal from a backup would look the same
    b.step_clock(86410)
    wait_for(lambda: not has(b, m["checkpoint"]), 30, "the checkpoint to go")
    b.stop()
    b.clock = None
    b.start()
    guest_is_well(a, vm)
    forget(a, vm)


def test_killed_or_cancelled_while_it_is_taken_nothing_has_moved(cluster):
    c, a, b, vm = cluster, cluster.a, cluster.b, "web4"
    use_store(cluster, a, "store-fifth")
    use_store(cluster, b, "store-sixth")
    boot(cluster, vm, disk=None)

    # While the checkpoint before it is taken: nothing has moved.
    restart(a, "checkpoint-reading:kill")
    m = a.call("migration.create", vm=vm, to=b.name, checkpoint=True)
    a.wait_dead()
    a.start()
    m = a.wait_migration(m["id"])
    assert m["outcome"] == "failed" and "nothing was moved" in m["error"]["message"] and "restarted" in m["error"]["message"], m
    assert c.runs_where(vm) == [a.name] and a.call("checkpoint.list") == []

    # Cancelled meanwhile.
    restart(a, "checkpoint-reading:sleep=3000")
    m = a.call("migration.create", vm=vm, to=b.name, checkpoint=True)
    wait_for(lambda: a.call("migration.get", id=m["id"])["phase"] == "checkpoint", 30, "the checkpoint to begin")
    a.call("migration.cancel", id=m["id"])
    m = a.wait_migration(m["id"])
    assert m["outcome"] == "cancelled" and m["checkpoint"] is None and c.runs_where(vm) == [a.name], m
    restart(a)
    guest_is_well(a, vm)
    forget(a, vm)


@pytest.fixture(scope="module")
def moved(cluster):
    """A machine with a disk, and stores; and a function that moves it to the other node, with a checkpoint before."""
    c, vm = cluster, "web5"
    use_store(c, c.a, "store-seventh")
    use_store(c, c.b, "store-eighth")
    disk = boot(c, vm)
    guest_write(c.a, vm, 0x5a, 1, 3)

    def move():
        source = c.a if c.runs_where(vm) == [c.a.name] else c.b
        as_of = disk_sha256(disk)
        m = c.migrate(vm, source, checkpoint=True)
        assert m["outcome"] == "completed", m
        return m, source, c.other(source), as_of
    yield vm, disk, move
    for node in (c.a, c.b):
        forget(node, vm)


@pytest.mark.parametrize("asked,killed", [("source", "source"), ("source", "destination"), ("destination", "destination")])
def test_killed_at_each_step_of_going_back_to_the_checkpoint_before(cluster, moved, asked, killed):
    """Asked at its source, which calls the machine back, or at its destination, which fetches the checkpoint; killed is either that walks."""
    c, (vm, disk, move) = cluster, moved
    m, source, destination, as_of = move()
    guest_write(destination, vm, 0xee, 0, 8)
    assert disk_sha256(disk) != as_of
    where, victim = (source if asked == "source" else destination), (source if killed == "source" else destination)
    with one_runner(c, vm):
        kill_at_every_point(c, vm, victim, lambda: order(where, id=m["id"], to_checkpoint=True))
        rollback = wait_rollback(where, m["id"])
    assert rollback["state"] == "completed" and rollback["checkpoint"] == m["checkpoint"], rollback
    assert_told_of_every_death(victim, m["id"])
    if asked == "source":
        other = last_rollback(destination, m["id"])
        assert other["state"] == "completed" and other["mode"] == "back", other
        if victim is destination:
            assert_told(source, m["id"])
    assert c.runs_where(vm) == [where.name]
    assert disk_sha256(disk) == as_of
    guest_is_well(where, vm, after=console_length(where, vm))
    for node in (c.a, c.b):
        assert node.call("audit.verify")["ok"]


def test_a_destination_that_is_away_after_it_was_called_is_waited_for(cluster, moved):
    """Both have died since: the source, which asked, does not know whether it was heard, and goes on asking longer than one try takes."""
    c, (vm, disk, move) = cluster, moved
    m, source, destination, as_of = move()
    guest_write(destination, vm, 0xee, 0, 8)
    with one_runner(c, vm):
        restart(destination, "rollback-1-before:kill")
        order(source, id=m["id"], to_checkpoint=True)
        destination.wait_dead()
        restart(source)
        time.sleep(4)
        rollback = last_rollback(source, m["id"])
        assert rollback["state"] == "running" and rollback["called"] and steps_of(rollback)[1] == ("fence-destination", "begun"), rollback
        destination.start()
        rollback = wait_rollback(source, m["id"])
    assert rollback["state"] == "completed" and c.runs_where(vm) == [source.name], rollback
    assert disk_sha256(disk) == as_of
    guest_is_well(source, vm, after=console_length(source, vm))
