# SPDX-License-Identifier: Apache-2.0
"""The machine first, the rest of its memory after it: what arrives is whole, and what dies in between is one of two things,
taken up again or said to be lost; never run twice.

The guest writes pages that nothing compresses, so that after the switch there are seconds
in which pages are missing, time enough to strike.
"""

import os
import signal
import time

import pytest
from nctest.cluster import Cluster, Refused, guest_spec
from nctest.guest import QmpObserver
from nctest.net import wait_for

VM = "web1"
LINK = 10_000_000  # bytes per second


@pytest.fixture()
def cluster():
    with Cluster(rate="1gbit", delay="2ms") as c:
        c.boot(spec=guest_spec(memory_mib=192, ws=64, rate=20, pattern="random"))
        c.watch_runners(VM)
        yield c


def judge(c, node):
    c.assert_healthy(VM, node)
    assert c.observer.double == 0, "two runners were seen"


def begin(c, **args):
    """A migration in post-copy whose missing pages take some seconds more."""
    m = c.a.call("migration.create", vm=VM, to="host-b", algorithm="post-copy", bandwidth_limit_bps=LINK, **args)
    c.a.wait_state(m["id"], ("serving",))
    c.b.wait_state(m["id"], ("fetching",))
    return m["id"]


def kill(pids):
    assert pids
    for pid in pids:
        os.kill(pid, signal.SIGKILL)


def expect_arrival(c, id):
    m = c.a.wait_migration(id, 120)
    assert m["outcome"] == "completed", m
    judge(c, c.b)
    return m


def events(m):
    return [e["event"] for e in m["events"]]


# --- good days ---

def test_auto_switches_when_rounds_do_not_shrink(cluster):
    c = cluster
    m = c.migrate(VM, c.a, bandwidth_limit_bps=LINK)
    assert m["outcome"] == "completed" and m["postcopy"] is True, m["error"]
    assert [f["decision"] for f in m["forecasts"]][-1] == "post-copy"
    assert any(e["event"] == "post-copy" and "would not converge" in e["detail"] for e in m["events"])
    assert m["throttle"] == 0, "post-copy comes before slowing the guest down"
    assert m["sha256_equal"] is True and m["pause_ms"] > 0
    judge(c, c.b)
    back = c.migrate(VM, c.b)
    assert back["outcome"] == "completed", back["error"]
    judge(c, c.a)


def test_at_once_if_asked_for(cluster):
    c = cluster
    m = c.migrate(VM, c.a, algorithm="post-copy")
    assert m["outcome"] == "completed" and m["postcopy"] is True and m["rounds"] <= 2, m
    judge(c, c.b)
    c.observer.close()  # a monitor has one reader
    preempt_only_where_it_is_sound(c.b)


def preempt_only_where_it_is_sound(node):
    """Not with a QEMU before 8.0, which can put a page into another RAM block (decision 083)."""
    qmp = QmpObserver(os.path.join(node.machine_dir(VM), "observer.sock"))
    try:
        version = qmp.command("query-version")["qemu"]["major"]
        on = {c["capability"]: c["state"] for c in qmp.command("query-migrate-capabilities")}
    finally:
        qmp.close()
    assert on["postcopy-ram"] and on["postcopy-preempt"] == (version >= 8), on


def test_never_if_forbidden(cluster):
    c = cluster
    m = c.migrate(VM, c.a, algorithm="pre-copy", bandwidth_limit_bps=LINK, max_throttle=0, convergence_timeout_ms=3000)
    assert m["outcome"] == "failed" and m["error"]["code"] == "convergence" and m["postcopy"] is False
    judge(c, c.a)
    c.a.stop()
    c.a.settings["algorithm"] = "pre-copy"
    c.a.write_config()
    c.a.start()
    assert c.a.call("migration.get", id=m["id"])["algorithm"] == "pre-copy"
    m = c.a.call("migration.create", vm=VM, to="host-b", bandwidth_limit_bps=LINK)
    assert m["algorithm"] == "pre-copy", "the node's setting counts where the request is silent"
    c.a.call("migration.cancel", id=m["id"])
    assert c.a.wait_migration(m["id"])["outcome"] == "cancelled"
    with pytest.raises(Refused, match="auto, pre-copy or post-copy"):
        c.a.call("migration.create", vm=VM, to="host-b", algorithm="teleport")


def test_it_can_not_be_cancelled_any_more(cluster):
    c = cluster
    id = begin(c)
    with pytest.raises(Refused, match="handed to host-b already"):
        c.a.call("migration.cancel", id=id)
    expect_arrival(c, id)


def test_the_right_moves_at_the_switch(cluster):
    """Not at the end: with pages still missing, the source must not be able to start it."""
    c = cluster
    id = begin(c)
    assert c.a.call("machine.get", name=VM)["right"] == "released"
    assert c.b.call("machine.get", name=VM)["right"] == "held"
    assert c.runs_where(VM) == ["host-b"]
    with pytest.raises(Refused):
        c.a.call("machine.start", name=VM)
    expect_arrival(c, id)


# --- taken up again ---

@pytest.mark.parametrize("side", ["source", "destination"])
def test_mover_killed(cluster, side):
    c = cluster
    id = begin(c)
    kill((c.a if side == "source" else c.b).mover_pids())
    m = expect_arrival(c, id)
    assert "recovered" in events(m)


def test_both_movers_killed_again_and_again(cluster):
    c = cluster
    id = begin(c)
    for _ in range(3):
        kill(c.a.mover_pids())
        kill(c.b.mover_pids())
        before = events(c.a.call("migration.get", id=id)).count("recovered")
        wait_for(lambda: events(c.a.call("migration.get", id=id)).count("recovered") > before, 60, "the flow to go on")
        if c.a.call("migration.get", id=id)["state"] != "serving":
            break
        time.sleep(0.3)
    expect_arrival(c, id)


@pytest.mark.parametrize("who", ["source", "destination", "both"])
def test_novacrond_killed(cluster, who):
    c = cluster
    id = begin(c)
    nodes = {"source": [c.a], "destination": [c.b], "both": [c.a, c.b]}[who]
    for node in nodes:
        node.kill()
    time.sleep(0.5)
    for node in nodes:
        node.start()
    expect_arrival(c, id)
    assert c.b.wait_migration(id)["outcome"] == "completed"


def test_link_cut(cluster):
    """Longer than path_timeout_ms, which ends what can be undone, and nothing that has been released."""
    c = cluster
    id = begin(c)
    c.net.wan.tell("down")
    told = wait_for(lambda: c.b.call("migration.get", id=id)["attention"], 60, "people to be told")
    assert "lacks" in told and "Do not power host-a off" in told
    c.net.wan.tell("up")
    m = expect_arrival(c, id)
    assert m["attention"] is None


POINTS = [("a", "source-recover"), ("b", "destination-recover"), ("b", "destination-fetched"), ("a", "source-served")]


@pytest.mark.parametrize("where,point", POINTS)
def test_novacrond_dies_in_a_recovery_and_at_the_end(cluster, where, point):
    c = cluster
    node = c.a if where == "a" else c.b
    node.stop()
    node.start(fault=f"{point}:kill")
    id = begin(c)
    if "recover" in point:
        kill(c.b.mover_pids())
    node.wait_dead()
    node.start()
    expect_arrival(c, id)


# --- before it has run there ---

BEFORE = [("a", "source-switching", "a"), ("a", "source-before-release", "a"), ("a", "source-after-release", "a"), ("a", "source-after-grant", "any"),
          ("a", "source-started", "b"), ("b", "destination-granted", "a"), ("b", "destination-before-take", "a"),
          ("b", "destination-after-take", "b"), ("b", "destination-after-cont", "b")]


@pytest.mark.parametrize("where,point,place", BEFORE)
def test_novacrond_dies_at_the_switch(cluster, where, point, place):
    c = cluster
    node = c.a if where == "a" else c.b
    node.stop()
    node.start(fault=f"{point}:kill")
    id = c.a.call("migration.create", vm=VM, to="host-b", algorithm="post-copy")["id"]
    node.wait_dead()
    node.start()
    m = c.a.wait_migration(id, 120)
    if place == "any":
        place = "b" if m["outcome"] == "completed" else "a"
    assert m["outcome"] == ("completed" if place == "b" else "failed"), m
    judge(c, c.a if place == "a" else c.b)


def test_destination_qemu_dies_before_its_start(cluster):
    """Then the source, whose QEMU still has everything, takes it back by itself, in post-copy too."""
    c = cluster
    c.b.stop()
    c.b.start(fault="destination-before-take:stop")
    id = c.a.call("migration.create", vm=VM, to="host-b", algorithm="post-copy")["id"]
    wait_for(c.b.is_stopped_by_fault, 60, "the destination to reach the take")
    kill(c.b.qemu_pids())
    c.b.go_on()
    m = c.a.wait_migration(id)
    assert m["outcome"] == "failed"
    judge(c, c.a)
    again = c.migrate(VM, c.a)
    assert again["outcome"] == "completed", again["error"]
    judge(c, c.b)


# --- lost, and said so ---

def test_destination_qemu_killed(cluster):
    c = cluster
    id = begin(c)
    kill(c.b.qemu_pids())
    told = wait_for(lambda: c.a.call("migration.get", id=id)["attention"], 60, "attention")
    assert "died in post-copy" in told and "as it was at the switch" in told and f"novacron resolve {id} --run-here" in told
    assert c.runs_where(VM) == []
    c.a.call("migration.resolve", id=id, action="run_here")
    m = c.a.wait_migration(id)
    assert m["outcome"] == "failed"
    judge(c, c.a)


def test_source_qemu_killed(cluster):
    c = cluster
    id = begin(c)
    kill(c.a.qemu_pids())
    m = c.a.wait_migration(id)
    assert m["outcome"] == "failed" and "was lost in post-copy" in m["error"]["message"] and "QEMU on the source" in m["error"]["message"]
    assert c.b.wait_migration(id)["outcome"] == "failed"
    assert c.runs_where(VM) == []
    wait_for(lambda: c.b.state(VM) == "stopped", 10, "the machine to be known as stopped")
    c.b.call("machine.start", name=VM)
    wait_for(lambda: c.runs_where(VM) == ["host-b"], 20, "the machine to start anew")
