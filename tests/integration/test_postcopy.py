# SPDX-License-Identifier: Apache-2.0
"""The machine first, the rest of its memory after it: what arrives is whole, and what dies in between is one of two things,
taken up again or said to be lost; never run twice.

The guest writes pages that nothing compresses, so that after the switch there are seconds
in which pages are missing, time enough to strike. It is one guest for most: each
test meets it where the one before has left it, and must leave it so that the next can.
"""

import os
import signal
import time

import pytest
from nctest.cluster import Cluster, Refused, guest_spec
from nctest.guest import QmpObserver
from nctest.net import wait_for
from nctest.standing import Standing

VM = "web1"
LINK = 10_000_000  # bytes per second
SPEC = guest_spec(name=VM, memory_mib=192, ws=64, rate=20, pattern="random")


@pytest.fixture(scope="module")
def machine():
    with Standing(SPEC, rate="1gbit", delay="2ms") as standing:
        yield standing


@pytest.fixture()
def standing(machine, request):
    """(cluster, source, destination): the guest runs on the source."""
    yield machine.take()
    machine.give_back(request.node)


@pytest.fixture()
def cluster(machine):
    """A new one with a guest, for what ends with a machine that is lost; those tests are the last ones here."""
    machine.drop()
    with Cluster(rate="1gbit", delay="2ms") as c:
        c.boot(spec=SPEC)
        c.watch_runners(VM)
        yield c


def judge(c, node):
    c.assert_healthy(VM, node)
    assert c.observer.double == 0, "two runners were seen"


def create(source, destination, **args):
    return source.call("migration.create", vm=VM, to=destination.name, **args)["id"]


def begin(source, destination):
    """A migration in post-copy whose missing pages take some seconds more."""
    id = create(source, destination, algorithm="post-copy", bandwidth_limit_bps=LINK)
    source.wait_state(id, ("serving",))
    destination.wait_state(id, ("fetching",))
    return id


def kill(pids):
    assert pids
    for pid in pids:
        os.kill(pid, signal.SIGKILL)


def restart(node, fault):
    node.stop()
    node.start(fault=fault)


def hurry(source, id):
    """What was to happen while pages are missing has happened: the rest of them may come as fast as it can."""
    try:
        source.call("migration.limit", id=id, bandwidth_limit_bps=0)
    except Refused:
        pass  # it has arrived meanwhile


def expect_arrival(c, source, id):
    hurry(source, id)
    m = source.wait_migration(id, 120)
    assert m["outcome"] == "completed", m
    judge(c, c.other(source))
    return m


def events(m):
    return [e["event"] for e in m["events"]]


# --- good days ---

def test_auto_switches_when_rounds_do_not_shrink(standing):
    c, source, destination = standing
    m = c.migrate(VM, source, bandwidth_limit_bps=LINK)
    assert m["outcome"] == "completed" and m["postcopy"] is True, m["error"]
    assert [f["decision"] for f in m["forecasts"]][-1] == "post-copy"
    assert any(e["event"] == "post-copy" and "would not converge" in e["detail"] for e in m["events"])
    assert m["throttle"] == 0, "post-copy comes before slowing the guest down"
    assert m["sha256_equal"] is True and m["sha256"] == m["destination_sha256"] != "" and m["pause_ms"] > 0
    judge(c, destination)
    back = c.migrate(VM, destination)
    assert back["outcome"] == "completed", back["error"]
    judge(c, source)


def test_at_once_if_asked_for(standing):
    c, source, destination = standing
    m = c.migrate(VM, source, algorithm="post-copy")
    assert m["outcome"] == "completed" and m["postcopy"] is True and m["rounds"] <= 2, m
    judge(c, destination)
    c.observer.close()  # a monitor has one reader
    preempt_only_where_it_is_sound(destination)


def preempt_only_where_it_is_sound(node):
    """Not with a QEMU before 8.0, which can put a page into another RAM block (decision 083)."""
    qmp = QmpObserver(os.path.join(node.machine_dir(VM), "observer.sock"))
    try:
        version = qmp.command("query-version")["qemu"]["major"]
        on = {c["capability"]: c["state"] for c in qmp.command("query-migrate-capabilities")}
    finally:
        qmp.close()
    assert on["postcopy-ram"] and on["postcopy-preempt"] == (version >= 8), on


def test_never_if_forbidden(standing):
    c, source, destination = standing
    m = c.migrate(VM, source, algorithm="pre-copy", bandwidth_limit_bps=LINK, max_throttle=0, convergence_timeout_ms=3000)
    assert m["outcome"] == "failed" and m["error"]["code"] == "convergence" and m["postcopy"] is False
    judge(c, source)
    source.stop()
    source.settings["algorithm"] = "pre-copy"
    source.write_config()
    source.start()
    assert source.call("migration.get", id=m["id"])["algorithm"] == "pre-copy"
    m = source.call("migration.create", vm=VM, to=destination.name, bandwidth_limit_bps=LINK)
    assert m["algorithm"] == "pre-copy", "the node's setting counts where the request is silent"
    source.call("migration.cancel", id=m["id"])
    assert source.wait_migration(m["id"])["outcome"] == "cancelled"
    with pytest.raises(Refused, match="auto, pre-copy or post-copy"):
        create(source, destination, algorithm="teleport")


def test_it_can_not_be_cancelled_any_more(standing):
    c, source, destination = standing
    id = begin(source, destination)
    with pytest.raises(Refused, match=f"handed to {destination.name} already"):
        source.call("migration.cancel", id=id)
    expect_arrival(c, source, id)


def test_the_right_moves_at_the_switch(standing):
    """Not at the end: with pages still missing, the source must not be able to start it."""
    c, source, destination = standing
    id = begin(source, destination)
    assert source.call("machine.get", name=VM)["right"] == "released"
    assert destination.call("machine.get", name=VM)["right"] == "held"
    assert c.runs_where(VM) == [destination.name]
    with pytest.raises(Refused):
        source.call("machine.start", name=VM)
    expect_arrival(c, source, id)


# --- taken up again ---

@pytest.mark.parametrize("side", ["source", "destination"])
def test_mover_killed(standing, side):
    c, source, destination = standing
    id = begin(source, destination)
    kill((source if side == "source" else destination).mover_pids())
    m = expect_arrival(c, source, id)
    assert "recovered" in events(m)


def test_mover_killed_before_its_start_is_known(standing):
    """The machine runs there already, and the source has not heard of it when its mover dies."""
    c, source, destination = standing
    restart(destination, "tell-mig_started:sleep=2000")
    id = create(source, destination, algorithm="post-copy", bandwidth_limit_bps=LINK)
    source.wait_state(id, ("released",))
    destination.wait_state(id, ("fetching",))
    assert source.call("migration.get", id=id)["state"] == "released"
    kill(source.mover_pids())
    m = expect_arrival(c, source, id)
    assert "recovered" in events(m)
    destination.stop()
    destination.start()


def test_mover_killed_near_the_end(standing):
    """A QEMU (7.2) that sends its last pages, as many as it believes to send in its downtime limit, can't be resumed if its connection breaks there:
    so that must not be many."""
    c, source, destination = standing
    id = create(source, destination, algorithm="post-copy", bandwidth_limit_bps=LINK, max_downtime_ms=8000)
    source.wait_state(id, ("serving",))
    wait_for(lambda: source.call("migration.get", id=id)["ram_remaining_bytes"] < 12_000_000, 60, "the last pages")
    kill(source.mover_pids())
    m = expect_arrival(c, source, id)
    assert "recovered" in events(m)


def test_both_movers_killed_again_and_again(standing):
    c, source, destination = standing
    id = begin(source, destination)
    for _ in range(3):
        kill(source.mover_pids())
        kill(destination.mover_pids())
        before = events(source.call("migration.get", id=id)).count("recovered")
        wait_for(lambda: events(source.call("migration.get", id=id)).count("recovered") > before, 60, "the flow to go on")
        if source.call("migration.get", id=id)["state"] != "serving":
            break
        time.sleep(0.3)
    expect_arrival(c, source, id)


@pytest.mark.parametrize("who", ["source", "destination", "both"])
def test_novacrond_killed(standing, who):
    c, source, destination = standing
    id = begin(source, destination)
    nodes = {"source": [source], "destination": [destination], "both": [source, destination]}[who]
    for node in nodes:
        node.kill()
    time.sleep(0.5)
    for node in nodes:
        node.start()
    expect_arrival(c, source, id)
    assert destination.wait_migration(id)["outcome"] == "completed"


def test_link_cut(standing):
    """Longer than path_timeout_ms, which ends what can be undone, and nothing that has been released."""
    c, source, destination = standing
    id = begin(source, destination)
    c.net.wan.tell("down")
    told = wait_for(lambda: destination.call("migration.get", id=id)["attention"], 60, "people to be told")
    assert "lacks" in told and f"Do not power {source.name} off" in told
    c.net.wan.tell("up")
    m = expect_arrival(c, source, id)
    assert m["attention"] is None


POINTS = ["source-recover", "destination-recover", "destination-fetched", "source-served"]


@pytest.mark.parametrize("point", POINTS)
def test_novacrond_dies_in_a_recovery_and_at_the_end(standing, point):
    c, source, destination = standing
    node = source if point.startswith("source-") else destination
    restart(node, f"{point}:kill")
    id = begin(source, destination)
    if "recover" in point:
        kill(destination.mover_pids())
    else:
        hurry(source, id)
    node.wait_dead()
    node.start()
    expect_arrival(c, source, id)


# --- before it has run there ---

BEFORE = [  # point, where the guest must run when that novacrond is back
    ("source-switching", "source"),
    ("source-before-release", "source"),
    ("source-after-release", "source"),
    ("source-after-grant", "any"),
    ("source-started", "destination"),
    ("destination-granted", "source"),
    ("destination-before-take", "source"),
    ("destination-after-take", "destination"),
    ("destination-after-cont", "destination"),
]


@pytest.mark.parametrize("point,place", BEFORE)
def test_novacrond_dies_at_the_switch(standing, point, place):
    c, source, destination = standing
    node = source if point.startswith("source-") else destination
    restart(node, f"{point}:kill")
    id = create(source, destination, algorithm="post-copy")
    node.wait_dead()
    node.start()
    m = source.wait_migration(id, 120)
    if place == "any":
        place = "destination" if m["outcome"] == "completed" else "source"
    assert m["outcome"] == ("completed" if place == "destination" else "failed"), m
    judge(c, source if place == "source" else destination)


def test_destination_qemu_dies_before_its_start(standing):
    """Then the source, whose QEMU still has everything, takes it back by itself, in post-copy too."""
    c, source, destination = standing
    restart(destination, "destination-before-take:stop")
    id = create(source, destination, algorithm="post-copy")
    wait_for(destination.is_stopped_by_fault, 60, "the destination to reach the take")
    kill(destination.qemu_pids())
    destination.go_on()
    m = source.wait_migration(id)
    assert m["outcome"] == "failed"
    judge(c, source)
    again = c.migrate(VM, source)
    assert again["outcome"] == "completed", again["error"]
    judge(c, destination)


# --- lost, and said so ---

def test_destination_qemu_killed(cluster):
    c = cluster
    id = begin(c.a, c.b)
    kill(c.b.qemu_pids())
    told = wait_for(lambda: c.a.call("migration.get", id=id)["attention"], 60, "attention")
    assert "died in post-copy" in told and "as it was at the switch" in told and f"novacron resolve {id} --run-here" in told
    assert c.runs_where(VM) == []
    c.a.call("migration.resolve", id=id, action="run_here")
    m = c.a.wait_migration(id)
    assert m["outcome"] == "failed"
    judge(c, c.a)


def test_source_qemu_killed_before_the_start(cluster):
    """The destination's QEMU waits for a page before it can start: nothing was taken, and nobody may wait for ever."""
    c = cluster
    c.net.wan.tell("delay 300ms")  # what it asks for is not answered before QEMU is dead
    id = create(c.a, c.b, algorithm="post-copy")
    c.a.wait_state(id, ("released",))
    kill(c.a.qemu_pids())
    m = c.a.wait_migration(id, 120)
    assert m["outcome"] == "failed" and "QEMU on the source" in m["error"]["message"], m["error"]
    assert "waits for a page" in c.b.wait_migration(id)["error"]["message"]
    assert c.runs_where(VM) == []
    wait_for(lambda: c.a.state(VM) == "stopped", 10, "the machine to be known as stopped")
    c.a.call("machine.start", name=VM)
    wait_for(lambda: c.runs_where(VM) == ["host-a"], 20, "the machine to start anew")


def test_source_qemu_killed(cluster):
    c = cluster
    id = begin(c.a, c.b)
    kill(c.a.qemu_pids())
    m = c.a.wait_migration(id)
    assert m["outcome"] == "failed" and "was lost in post-copy" in m["error"]["message"] and "QEMU on the source" in m["error"]["message"]
    assert c.b.wait_migration(id)["outcome"] == "failed"
    assert c.runs_where(VM) == []
    wait_for(lambda: c.b.state(VM) == "stopped", 10, "the machine to be known as stopped")
    c.b.call("machine.start", name=VM)
    wait_for(lambda: c.runs_where(VM) == ["host-b"], 20, "the machine to start anew")
