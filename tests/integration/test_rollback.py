# SPDX-License-Identifier: Apache-2.0
"""Rollbacks: killed (-9) before and after each of the eight steps, the machine runs once and the journal tells the story.

One guest for all: every scenario ends with the machine healthy on one node, its transaction log proved, and the
next one begins there. Nothing here depends on how fast anything is.
"""

import json
import os
import signal

import pytest
from nctest.cluster import Cluster, Refused, guest_spec
from nctest.net import wait_for
from nctest.rollbacks import (NAMES, POINTS, assert_told, assert_told_of_every_death, kill_at_every_point, last_rollback, order, restart,
                              steps_of, wait_rollback)

VM = "web1"
SLOW = 6 << 20  # bytes/s: long enough to strike in the middle of the copy


@pytest.fixture(scope="module")
def cluster():
    with Cluster(rate="1gbit", delay="1ms", gates=True) as c:
        c.boot(spec=guest_spec(memory_mib=128, ws=8, rate=1))
        c.watch_runners(VM)
        yield c


def home(c):
    """The node that the machine is on."""
    return c.a if c.a.state(VM) in ("running", "paused") else c.b


def begun_twice_at(point):
    return lambda step: 2 if step == int(point.split("-")[1]) else 1


LIVE = [(n, "nothing-to-do" if n in ("restore-disks", "restore-memory") else "done") for n in NAMES]


def verify(c):
    """Both logs are whole: as novacrond says and as the file says."""
    for node in (c.a, c.b):
        report = node.call("audit.verify")
        assert report["ok"], report
        out = node.cli("audit", "verify", "--file", os.path.join(node.data_dir, "journal.db"), check=False)
        assert out.returncode == 0 and "is whole" in out.stdout, out.stdout + out.stderr


def judge(c, node):
    wait_for(lambda: c.runs_where(VM) == [node.name], 20, lambda: f"{VM} to run on {node.name} only: {c._states(VM)}")
    assert c.observer.double == 0, "two runners were seen"
    verify(c)


# --- under way: back to the running source ---


@pytest.mark.parametrize("point", POINTS)
def test_killed_at_each_step_of_a_rollback_to_the_source(cluster, point):
    c = cluster
    node = home(c)
    restart(node, f"{point}:kill")
    m = node.call("migration.create", vm=VM, to=c.other(node).name, bandwidth_limit_bps=SLOW)
    node.wait_state(m["id"], ("copying",))
    order(node, id=m["id"])
    node.wait_dead()
    assert c.observer.double == 0
    node.start()
    m = node.wait_migration(m["id"])
    assert m["outcome"] == "cancelled", m
    rollback = last_rollback(node, m["id"])
    assert len(node.call("migration.get", id=m["id"])["rollbacks"]) == 1
    assert rollback["state"] == "completed" and rollback["mode"] == "source" and steps_of(rollback) == LIVE, rollback
    assert_told(node, m["id"], begun_twice_at(point))
    judge(c, node)


def test_a_destination_that_fails_is_rolled_back_by_itself(cluster):
    c = cluster
    node, other = home(c), c.other(home(c))
    m = node.call("migration.create", vm=VM, to=other.name, bandwidth_limit_bps=SLOW)
    node.wait_state(m["id"], ("copying",))
    for pid in wait_for(other.qemu_pids, 10, "the destination's QEMU"):
        os.kill(pid, signal.SIGKILL)
    m = node.wait_migration(m["id"])
    assert m["outcome"] == "failed"
    rollback = last_rollback(node, m["id"])
    assert rollback["state"] == "completed" and steps_of(rollback) == LIVE
    assert "destination" in rollback["cause"]["message"]
    assert_told(node, m["id"])
    judge(c, node)


def test_killed_at_each_step_of_the_way_back_from_after_the_release(cluster):
    """The destination has refused; what fences it is that the right comes back under the next epoch."""
    c = cluster
    node, other = home(c), c.other(home(c))
    restart(other, "destination-before-take:stop")
    begun = []

    def refused_at_the_take():
        begun.append(node.call("migration.create", vm=VM, to=other.name)["id"])
        wait_for(other.is_stopped_by_fault, 60, "the destination to reach the take")
        for pid in other.qemu_pids():
            os.kill(pid, signal.SIGKILL)
        other.go_on()
    kill_at_every_point(c, VM, node, refused_at_the_take)
    m = node.wait_migration(begun[0])
    assert m["outcome"] == "failed"
    rollback = last_rollback(node, m["id"])
    assert rollback["state"] == "completed" and steps_of(rollback) == LIVE, rollback
    assert_told_of_every_death(node, m["id"])
    judge(c, node)


def test_after_the_release_the_answer_says_what_is_possible(cluster):
    c = cluster
    node, other = home(c), c.other(home(c))
    restart(other, "destination-before-take:stop")
    m = node.call("migration.create", vm=VM, to=other.name)
    wait_for(other.is_stopped_by_fault, 60, "the destination to reach the take")
    node.wait_state(m["id"], ("released",))
    with pytest.raises(Refused) as refused:
        node.call("migration.rollback", id=m["id"])
    assert refused.value.code == "conflict" and f"novacron rollback {m['id']} --back" in refused.value.message
    other.go_on()
    assert node.wait_migration(m["id"])["outcome"] == "completed"
    judge(c, other)


# --- completed: back to where it came from ---


def move(c):
    node = home(c)
    m = c.migrate(VM, node)
    assert m["outcome"] == "completed", m
    return m, node, c.other(node)


def test_a_completed_migration_moves_back(cluster):
    c = cluster
    m, origin, node = move(c)
    with pytest.raises(Refused) as refused:
        origin.call("migration.rollback", id=m["id"], back=True)
    assert node.name in refused.value.message and "--back" in refused.value.message
    out = node.cli("rollback", m["id"], check=False)
    assert out.returncode == 2 and "--back" in out.stderr and "--checkpoint" in out.stderr
    out = node.cli("rollback", m["id"], "--checkpoint", "c-1", check=False)
    assert out.returncode == 4 and "there is no checkpoint c-1" in out.stderr and "--back" in out.stderr, out.stderr
    out = node.cli("rollback", m["id"], "--back", "--wait")
    assert "completed" in out.stdout and "8" in out.stdout and "clean-up: done" in out.stdout, out.stdout
    rollback = last_rollback(node, m["id"])
    assert [s["state"] for s in rollback["steps"]] == ["nothing-to-do", "done", "done", "nothing-to-do", "done", "done", "done", "done"]
    assert node.call("migration.get", id=rollback["move"])["outcome"] == "completed"
    assert "rollback " + rollback["id"] in node.cli("status", m["id"]).stdout
    c.assert_healthy(VM, origin)
    judge(c, origin)
    with pytest.raises(Refused) as refused:
        node.call("migration.rollback", id=m["id"], back=True)
    assert "moved since" in refused.value.message


@pytest.mark.parametrize("point", POINTS)
def test_killed_at_each_step_of_moving_back(cluster, point):
    c = cluster
    m, origin, node = move(c)
    restart(node, f"{point}:kill")
    order(node, id=m["id"], back=True)
    node.wait_dead()
    node.start()
    rollback = wait_rollback(node, m["id"])
    assert rollback["state"] == "completed", rollback
    assert_told(node, m["id"], begun_twice_at(point))
    judge(c, origin)


def test_killed_in_the_middle_of_the_move_back(cluster):
    """The move is undone by the handoff's own rules, and made again under another id."""
    c = cluster
    m, origin, node = move(c)
    restart(node, "source-before-release:kill")
    order(node, id=m["id"], back=True)
    node.wait_dead()
    first = json.loads(node_value(node, m["id"]))["move"]
    node.start()
    rollback = wait_rollback(node, m["id"])
    assert rollback["state"] == "completed" and rollback["move"] != first, rollback
    assert node.call("migration.get", id=first)["outcome"] == "failed"
    judge(c, origin)


# --- completed: back to a checkpoint ---


def checkpoint(node):
    id = node.call("checkpoint.create", name=VM)["id"]
    made = wait_for(lambda: next((cp for cp in [node.call("checkpoint.get", id=id)] if cp["state"] != "making"), None), 60, "the checkpoint")
    assert made["state"] == "ready", made["error"]
    return id


def test_a_completed_migration_is_set_back_to_a_checkpoint(cluster):
    c = cluster
    m, _, node = move(c)
    id = checkpoint(node)
    out = node.cli("rollback", m["id"], "--checkpoint", id, "--wait")
    assert "completed" in out.stdout and "restore-memory: done" in out.stdout, out.stdout
    rollback = last_rollback(node, m["id"])
    assert rollback["mode"] == "checkpoint" and rollback["checkpoint"] == id
    assert_told(node, m["id"])
    c.assert_healthy(VM, node)
    judge(c, node)
    node.call("checkpoint.delete", id=id)


def test_killed_at_each_step_while_set_back_to_a_checkpoint(cluster):
    c = cluster
    m, _, node = move(c)
    id = checkpoint(node)
    kill_at_every_point(c, VM, node, lambda: order(node, id=m["id"], checkpoint=id))
    assert wait_rollback(node, m["id"])["state"] == "completed"
    assert_told_of_every_death(node, m["id"])
    c.assert_healthy(VM, node)
    judge(c, node)
    node.call("checkpoint.delete", id=id)


def node_value(node, id):
    """The rollback's record as it lies on the disk of a dead novacrond."""
    import sqlite3
    db = sqlite3.connect(os.path.join(node.data_dir, "journal.db"))
    try:
        return db.execute("SELECT record FROM rollback WHERE migration=?", (id,)).fetchone()[0]
    finally:
        db.close()


def test_what_can_not_be_undone_asks_for_people(cluster):
    """The other node is away: three tries, then the exact commands; the machine runs on meanwhile."""
    c = cluster
    m, origin, node = move(c)
    origin.stop()
    node.call("migration.rollback", id=m["id"], back=True)
    rollback = wait_rollback(node, m["id"])
    assert rollback["state"] == "needs_attention"
    for word in (f"novacron rollback {m['id']} --back", f"novacron check {VM} --to {origin.name}", origin.name):
        assert word in rollback["attention"], rollback["attention"]
    origin.start()
    assert c.runs_where(VM) == [node.name]
    node.call("migration.rollback", id=m["id"], back=True)
    assert wait_rollback(node, m["id"])["state"] == "completed"
    judge(c, origin)


# --- the transaction log ---


def test_requests_and_heads_are_in_the_log(cluster):
    c = cluster
    m, origin, node = move(c)
    created = [e for e in origin.call("audit.list", kind="request", limit=1000) if e["detail"]["op"] == "migration.create"]
    assert created[0]["actor"] == "uid:root" and created[0]["detail"]["args"]["vm"] == VM
    results = [e for e in origin.call("audit.list", kind="request.result", about=m["id"])]
    assert results[-1]["detail"]["request"] == created[0]["seq"] and results[-1]["detail"]["ok"]
    assert origin.cli("cancel", "m-nobody", check=False).returncode == 4
    result, request = origin.call("audit.list", about="m-nobody")
    assert request["actor"] == "uid:0" and request["detail"]["from"] == "UNIX socket" and request["detail"]["op"] == "migration.cancel"
    assert result["detail"]["request"] == request["seq"] and result["detail"]["error"]["code"] == "not_found"
    for one, other in ((c.a, c.b), (c.b, c.a)):
        wait_for(lambda: one.call("audit.list", kind="audit.peer-head", about=other.name), 10, "the other's head")
        report = one.call("audit.verify")
        assert report["ok"] and [p["node"] for p in report["peers"]] == [other.name] and report["peers"][0]["seq"] > 0, report
    out = origin.cli("audit", "list", "--about", m["id"])
    assert "migration.state" in out.stdout and "right" in out.stdout
    assert "is whole" in origin.cli("audit", "verify").stdout


def tamper(node, *statements):
    import sqlite3
    db = sqlite3.connect(os.path.join(node.data_dir, "journal.db"))
    db.execute("DROP TRIGGER audit_update")
    db.execute("DROP TRIGGER audit_delete")
    for s in statements:
        db.execute(s)
    db.execute("CREATE TRIGGER audit_update BEFORE UPDATE ON audit BEGIN SELECT RAISE(ABORT, 'x'); END")
    db.execute("CREATE TRIGGER audit_delete BEFORE DELETE ON audit BEGIN SELECT RAISE(ABORT, 'x'); END")
    db.commit()
    db.close()


@pytest.mark.parametrize("how", ["cut-with-seal", "cut", "altered"])
def test_tampering_is_seen(cluster, how):
    """The last tests here: the logs stay broken. Even with a seal made anew by who has the key, the other node remembers."""
    c = cluster
    node = c.a if how != "cut-with-seal" else c.b
    kept = c.other(node).call("audit.list", kind="audit.peer-head", about=node.name)[0]["detail"]
    node.stop()
    journal = os.path.join(node.data_dir, "journal.db")
    before = node.cli("--json", "audit", "verify", "--file", journal, check=False)  # after an earlier case its chain is whole, and says so
    last = json.loads(before.stdout)["seq"]
    if how == "altered":
        tamper(node, f"UPDATE audit SET actor='uid:0' WHERE seq={last - 5}")
        bad = last - 5
    else:
        bad = kept["seq"] - 2
        tamper(node, f"DELETE FROM audit WHERE seq>={bad}")
    if how == "cut-with-seal":
        os.unlink(os.path.join(node.data_dir, "audit.seal"))
    out = node.cli("--json", "audit", "verify", "--file", journal, check=False)
    report = json.loads(out.stdout)
    assert out.returncode == 10 and not report["ok"], report
    if how == "cut-with-seal":
        assert "audit.seal" in report["problem"]
        out = node.cli("audit", "verify", "--file", journal, "--expect", f"{kept['seq']}:{kept['hash']}", check=False)
        assert out.returncode == 10 and "was cut" in out.stdout, out.stdout
    else:
        assert report["first_bad"] == bad
    node.start()
    report = node.call("audit.verify")
    assert not report["ok"], report
    if how == "altered":
        assert report["first_bad"] == bad
    else:
        assert node.call("audit.list", kind="audit.broken"), "novacrond says at its start what it found"
