# SPDX-License-Identifier: Apache-2.0
"""If the power goes here, who runs? Each fault, and the one place where the guest must be afterwards.

A fault is a point in novacrond's code (src/base/fault.h), a process killed in
the middle, or something missing. After each the guest runs in exactly one
place, its self-check has found nothing, and the error names cause and side.

One guest for most: each fault meets it where the one before has left it, in
either direction, and must leave it so that the next can.
"""

import os
import signal
import threading
import time

import pytest
from nctest.cluster import Cluster, Refused, guest_spec
from nctest.net import wait_for
from nctest.standing import Standing

VM = "web1"
SLOW = 6 << 20  # bytes/s: long enough to strike in the middle of the copy


LINK = {"rate": "1gbit", "delay": "2ms"}
SPEC = guest_spec(name=VM, memory_mib=128, ws=16, rate=2)


@pytest.fixture(scope="module")
def machine():
    with Standing(SPEC, **LINK) as standing:
        yield standing


@pytest.fixture()
def standing(machine, request):
    """(cluster, source, destination): the guest runs on the source."""
    yield machine.take()
    machine.give_back(request.node)


@pytest.fixture()
def cluster(machine):
    """A new one, for what the standing one can't take; those tests are the last ones here."""
    machine.drop()
    with Cluster(**LINK) as c:
        yield c


def begin(source, destination, **args):
    return source.call("migration.create", vm=VM, to=destination.name, **args)


def begin_slowly(source, destination):
    """A migration that is in the middle of its copy."""
    m = begin(source, destination, bandwidth_limit_bps=SLOW)
    source.wait_state(m["id"], ("copying",))
    return m


def judge(c, node):
    """The verdict of every scenario."""
    c.assert_healthy(VM, node)
    assert c.observer.double == 0, "two runners were seen"


def let_go(c, node):
    """${node} has nothing of the machine any more, but that it may have had it once."""
    wait_for(lambda: node.state(VM) in (None, "moved") and node.qemu_pids() == [], 60, lambda: f"{node.name} to let go: {c._states(VM)}")


def kill(pids):
    assert pids
    for pid in pids:
        os.kill(pid, signal.SIGKILL)


def restart(node, fault=None):
    node.stop()
    node.start(fault=fault)


# --- novacrond killed at every dangerous line ---

SOURCE_DIES = [
    # point, where the guest must run when the source's novacrond is back
    ("source-prepare", "source"),
    ("source-keeper", "source"),
    ("source-switching", "source"),
    ("source-before-release", "source"),
    ("source-after-release", "source"),  # no grant was sent: the destination refuses, the right comes back
    ("source-after-grant", "any"),  # the grant may or may not have left: the destination's word decides
    ("source-started", "destination"),
    ("source-before-end", "destination"),
    ("source-after-end", "destination"),
]


@pytest.mark.parametrize("point,place", SOURCE_DIES)
def test_source_novacrond_dies(standing, point, place):
    c, source, destination = standing
    restart(source, f"{point}:kill")
    m = begin(source, destination)
    source.wait_dead()
    source.start()
    m = source.wait_migration(m["id"])
    if place == "any":
        place = "destination" if m["outcome"] == "completed" else "source"
    node = source if place == "source" else destination
    assert m["outcome"] == ("completed" if place == "destination" else "failed"), m
    if place == "source":
        assert m["error"]["message"]
    judge(c, node)
    again = c.migrate(VM, node)
    assert again["outcome"] == "completed", f"the fault left an obstacle: {again['error']}"
    judge(c, c.other(node))


DESTINATION_DIES = [
    ("destination-prepare", "source"),
    ("destination-granted", "source"),
    ("destination-before-take", "source"),
    ("destination-after-take", "destination"),
    ("destination-after-cont", "destination"),
]


@pytest.mark.parametrize("point,place", DESTINATION_DIES)
def test_destination_novacrond_dies(standing, point, place):
    c, source, destination = standing
    restart(destination, f"{point}:kill")
    m = begin(source, destination)
    destination.wait_dead()
    destination.start()
    m = source.wait_migration(m["id"])
    assert m["outcome"] == ("completed" if place == "destination" else "failed"), m
    if place == "source":
        assert "destination" in m["error"]["message"]
    judge(c, source if place == "source" else destination)


@pytest.mark.parametrize("point", ["destination-before-refuse", "destination-after-refuse"])
def test_destination_dies_while_refusing(standing, point):
    c, source, destination = standing
    restart(destination, f"{point}:kill")
    m = begin_slowly(source, destination)
    source.call("migration.cancel", id=m["id"])
    destination.wait_dead()
    destination.start()
    assert source.wait_migration(m["id"])["outcome"] == "cancelled"
    judge(c, source)
    c.moves(VM, source)
    judge(c, destination)


@pytest.mark.parametrize("point", ["source-before-reclaim", "source-after-reclaim"])
def test_source_dies_while_taking_the_right_back(standing, point):
    """The destination loses its QEMU after the release, so it refuses; the source dies in the reclaim."""
    c, source, destination = standing
    restart(source, f"{point}:kill")
    restart(destination, "destination-before-take:stop")
    m = begin(source, destination)
    wait_for(destination.is_stopped_by_fault, 60, "the destination to reach the take")
    kill(destination.qemu_pids())
    destination.go_on()
    source.wait_dead()
    source.start()
    m = source.wait_migration(m["id"])
    assert m["outcome"] == "failed"
    judge(c, source)
    c.moves(VM, source)
    judge(c, destination)


def test_mover_and_novacrond_of_the_source_die_between_release_and_acknowledgement(standing):
    """The keeper: nothing of ours lives at the source, and QEMU still does not resume by itself."""
    c, source, destination = standing
    restart(destination, "destination-before-take:stop")
    m = begin(source, destination)
    wait_for(destination.is_stopped_by_fault, 60, "the destination to hold state and grant")
    source.wait_state(m["id"], ("released",))
    for pid in source.mover_pids():
        os.kill(pid, signal.SIGKILL)
    source.kill()
    end = time.monotonic() + 4
    while time.monotonic() < end:  # long enough for any reflex of QEMU's
        assert c.runs_where(VM) == []
        time.sleep(0.1)
    destination.go_on()
    wait_for(lambda: c.runs_where(VM) == [destination.name], 30, "the destination to start it")
    source.start()
    assert source.wait_migration(m["id"])["outcome"] == "completed"
    judge(c, destination)


def attention(node, m):
    return wait_for(lambda: (lambda r: r if r["attention"] else None)(node.call("migration.get", id=m["id"])), 60, "attention")


def test_cut_off_after_release_needs_attention_and_an_operator_can_decide(standing):
    c, source, destination = standing
    restart(destination, "destination-granted:stop")
    m = begin(source, destination)
    wait_for(destination.is_stopped_by_fault, 60, "the destination to have the grant")
    source.wait_state(m["id"], ("released",))
    destination.kill()  # fenced: its QEMU, its mover and its novacrond are gone for good
    for pid in destination.qemu_pids() + destination.mover_pids():
        os.kill(pid, signal.SIGKILL)
    m = attention(source, m)
    assert m["phase"] == "needs_attention" and f"novacron resolve {m['id']} --run-here" in m["attention"]
    assert c.runs_where(VM) == []
    source.call("migration.resolve", id=m["id"], action="run_here")
    assert source.wait_migration(m["id"])["outcome"] == "failed"
    judge(c, source)
    destination.start()  # it comes back, and does not start what it was granted
    time.sleep(1)
    judge(c, source)
    c.moves(VM, source)
    judge(c, destination)


# --- processes killed in the middle of the copy ---


@pytest.mark.parametrize("side", ["source", "destination"])
def test_mover_killed(standing, side):
    c, source, destination = standing
    m = begin_slowly(source, destination)
    kill(wait_for((source if side == "source" else destination).mover_pids, 10, "the mover"))
    m = source.wait_migration(m["id"])
    assert m["outcome"] == "failed" and "mover" in m["error"]["message"]
    judge(c, source)
    c.moves(VM, source)
    judge(c, destination)


def test_destination_qemu_killed(standing):
    c, source, destination = standing
    m = begin_slowly(source, destination)
    kill(wait_for(destination.qemu_pids, 10, "the destination's QEMU"))
    m = source.wait_migration(m["id"])
    assert m["outcome"] == "failed" and "destination" in m["error"]["message"]
    judge(c, source)


@pytest.mark.parametrize("side", ["source", "destination"])
def test_novacrond_killed_while_copying(standing, side):
    c, source, destination = standing
    m = begin_slowly(source, destination)
    node = source if side == "source" else destination
    node.kill()
    time.sleep(0.5)
    assert c.runs_where(VM) == [source.name]
    node.start()
    m = source.wait_migration(m["id"])
    assert m["outcome"] == "failed" and m["error"]["message"]
    judge(c, source)
    c.moves(VM, source)
    judge(c, destination)


def test_novacrond_stopped_politely_while_copying(standing):
    c, source, destination = standing
    m = begin_slowly(source, destination)
    source.stop()
    assert c.runs_where(VM) == [source.name]
    source.start()
    assert source.wait_migration(m["id"])["outcome"] == "failed"
    judge(c, source)


def test_link_down_while_copying(standing):
    c, source, destination = standing
    m = begin_slowly(source, destination)
    c.net.wan.tell("down")
    m = source.wait_migration(m["id"], timeout=120)
    c.net.wan.tell("up")
    assert m["outcome"] == "failed"
    judge(c, source)
    let_go(c, destination)
    c.moves(VM, source)
    judge(c, destination)


# --- what is missing at the destination ---


def expect_failed_at_once(c, source, destination, code, *words):
    m = source.wait_migration(begin(source, destination)["id"])
    assert m["outcome"] == "failed"
    assert m["error"]["code"] == code, m["error"]
    for word in (destination.name, *words):
        assert word in m["error"]["message"], m["error"]["message"]
    assert destination.qemu_pids() == []
    assert c.runs_where(VM) == [source.name]


def restart_with(node, **settings):
    node.stop()
    node.settings.update(settings)
    node.write_config()
    node.start()


def test_destination_unreachable(standing):
    c, source, destination = standing
    destination.stop()
    expect_failed_at_once(c, source, destination, "unreachable", "destination")
    judge(c, source)


def test_not_enough_memory_at_the_destination(standing):
    c, source, destination = standing
    restart_with(destination, memory_reserve_mib="1000000")
    expect_failed_at_once(c, source, destination, "unsuitable", "memory")
    judge(c, source)


def test_qemu_missing_at_the_destination(standing):
    c, source, destination = standing
    restart_with(destination, qemu_binary="/nonexistent/qemu")
    expect_failed_at_once(c, source, destination, "unsuitable", "/nonexistent/qemu")
    judge(c, source)


def restart_with_lesser_qemu(c, node, text):
    """The node gets another QEMU: a script that may refuse before it becomes the real one."""
    path = os.path.join(c.bed.dir, "lesser-qemu")
    with open(path, "w") as f:
        f.write(f"#!/bin/sh\n{text}\nexec qemu-system-x86_64 \"$@\"\n")
    os.chmod(path, 0o755)
    restart_with(node, qemu_binary=path)


@pytest.mark.parametrize("option,name,words", [("-machine", "pc-i440fx-7.2", "machine type pc-i440fx-7.2"), ("-cpu", "qemu64", "CPU model qemu64")])
def test_machine_type_or_cpu_model_unknown_at_the_destination(standing, option, name, words):
    c, source, destination = standing
    restart_with_lesser_qemu(c, destination,
                             f'[ "$1 $2" = "{option} help" ] && {{ qemu-system-x86_64 {option} help | grep -v "{name} "; exit; }}')
    expect_failed_at_once(c, source, destination, "unsuitable", "does not know", words)
    judge(c, source)


def test_destination_of_another_ca(standing):
    c, source, destination = standing
    destination.stop()
    destination.data_dir = os.path.join(destination.dir, "other")
    os.makedirs(destination.data_dir)
    destination.pki_init()
    restart_with(destination, data_dir=destination.data_dir)
    expect_failed_at_once(c, source, destination, "trust", "certificate", "CA")
    wait_for(lambda: "refused" in destination.log_tail(20) and "certificate" in destination.log_tail(20), 10, "the refusal in the destination's log")
    judge(c, source)


# --- what leaves other guests or other nodes: each with its own ---


def boot(c, **spec):
    c.boot(spec={**SPEC, **spec})
    c.watch_runners(VM)


def test_destination_qemu_dies_in_the_moment_of_its_start(cluster):
    """Nobody knows whether it ran: the source does not take it back by itself, an operator may."""
    c = cluster
    boot(c)
    restart(c.b, "destination-before-cont:stop")
    m = begin(c.a, c.b)
    wait_for(c.b.is_stopped_by_fault, 60, "the destination to be about to start it")
    kill(c.b.qemu_pids())
    c.b.go_on()
    m = attention(c.a, m)
    assert "may have run" in m["attention"] and f"novacron resolve {m['id']} --run-here" in m["attention"]
    assert c.runs_where(VM) == []
    c.a.call("migration.resolve", id=m["id"], action="run_here")
    assert c.a.wait_migration(m["id"])["outcome"] == "failed"
    judge(c, c.a)
    with pytest.raises(Refused, match="there is no machine"):  # it was told, and has let go
        c.b.call("machine.start", name=VM)
    c.moves(VM, c.a)
    judge(c, c.b)


def lose_at_the_start(c):
    """The destination has taken the right, and is switched off before the machine runs; the migration, which waits for a word."""
    restart(c.b, "destination-before-cont:stop")
    m = begin(c.a, c.b)
    wait_for(c.b.is_stopped_by_fault, 60, "the destination to be about to start it")
    c.b.kill()
    kill(c.b.qemu_pids() + c.b.mover_pids())
    return attention(c.a, m)


def comes_back_without_it(node):
    node.start()
    wait_for(lambda: node.state(VM) == "stopped", 30, "the destination to see that its machine is gone")


def test_run_here_while_the_destination_is_away(cluster):
    """It could not be told; so it asks before it starts what was never confirmed."""
    c = cluster
    boot(c)
    m = lose_at_the_start(c)
    c.a.call("migration.resolve", id=m["id"], action="run_here")
    assert "could not be asked" in c.a.wait_migration(m["id"])["error"]["message"]
    judge(c, c.a)
    comes_back_without_it(c.b)
    for why in ("took the right to run it back to host-a", "manage it there"):  # it asks, and knows it from then on
        with pytest.raises(Refused, match=why):
            c.b.call("machine.start", name=VM)
    judge(c, c.a)
    c.b.call("machine.destroy", name=VM)
    c.moves(VM, c.a)
    judge(c, c.b)


def test_run_here_as_the_destination_comes_back(cluster):
    """It can ask before it can be asked: what the operator said at the source came first."""
    c = cluster
    boot(c)
    m = lose_at_the_start(c)
    listen = c.b.settings["listen"]
    restart_with(c.b, listen="0.0.0.0:7499")  # where nobody looks for it
    wait_for(lambda: c.b.state(VM) == "stopped", 30, "the destination to see that its machine is gone")
    c.a.call("migration.resolve", id=m["id"], action="run_here")
    with pytest.raises(Refused, match="an operator"):
        c.b.call("machine.start", name=VM)
    assert "could not be asked" in c.a.wait_migration(m["id"])["error"]["message"]
    judge(c, c.a)
    with pytest.raises(Refused, match="took the right to run it back to host-a"):
        c.b.call("machine.start", name=VM)
    c.b.call("machine.destroy", name=VM)
    restart_with(c.b, listen=listen)
    c.moves(VM, c.a)
    judge(c, c.b)


def test_run_here_as_the_destination_starts_it(cluster):
    """It was told that it may, and is not as far as to say that it does: that takes it some of the ten seconds it is given."""
    c = cluster
    boot(c)
    m = lose_at_the_start(c)
    c.b.start(fault="start-permitted:stop")
    wait_for(lambda: "session-back" in [e["event"] for e in c.a.call("migration.get", id=m["id"])["events"]], 30, "the source to be there again")
    start = threading.Thread(target=c.b.call, args=("machine.start",), kwargs={"name": VM})
    start.start()
    wait_for(c.b.is_stopped_by_fault, 30, "the destination to be told that it may start it")
    c.a.call("migration.resolve", id=m["id"], action="run_here")
    time.sleep(5.5)  # longer than a silent destination is waited for else
    assert c.runs_where(VM) == [] and c.a.call("migration.get", id=m["id"])["state"] == "released"
    c.b.go_on()
    start.join()
    assert c.runs_where(VM) == ["host-b"]
    assert c.a.wait_migration(m["id"])["outcome"] == "completed"
    assert c.runs_where(VM) == ["host-b"] and c.observer.double == 0


def test_run_here_where_it_runs_there(cluster):
    """An operator who errs is told so: the destination can be asked, and knows better."""
    c = cluster
    boot(c)
    m = lose_at_the_start(c)
    comes_back_without_it(c.b)
    wait_for(lambda: "session-back" in [e["event"] for e in c.a.call("migration.get", id=m["id"])["events"]], 30, "the source to be there again")
    c.b.call("machine.start", name=VM)  # the source lives, and has not taken it back
    wait_for(lambda: c.runs_where(VM) == ["host-b"], 30, "the machine to start anew")
    with pytest.raises(Refused):
        c.a.call("machine.start", name=VM)
    assert c.a.wait_migration(m["id"])["outcome"] == "completed"  # since it hears that it runs there
    assert c.runs_where(VM) == ["host-b"] and c.observer.double == 0


def test_not_started_where_nobody_can_be_asked(cluster):
    c = cluster
    boot(c)
    lose_at_the_start(c)
    c.a.kill()
    comes_back_without_it(c.b)
    with pytest.raises(Refused, match="vm start web1 --take"):
        c.b.call("machine.start", name=VM)
    assert c.runs_where(VM) == []
    c.b.call("machine.start", name=VM, take=True)
    wait_for(lambda: c.runs_where(VM) == ["host-b"], 30, "the machine to start anew")
    c.a.start()
    wait_for(lambda: c.a.qemu_pids() == [], 60, "the source to let its copy go")
    assert c.runs_where(VM) == ["host-b"] and c.observer.double == 0


def test_a_destroyed_machine_leaves_its_name(cluster):
    c = cluster
    boot(c)
    c.b.call("machine.define", spec=SPEC)
    assert "destroy or rename" in c.migrate(VM, c.a)["error"]["message"]
    c.b.call("machine.destroy", name=VM)
    c.moves(VM, c.a)
    judge(c, c.b)


def test_source_qemu_killed(cluster):
    """The only copy dies: that is what the report says, and nothing runs anywhere."""
    c = cluster
    boot(c)
    m = begin_slowly(c.a, c.b)
    kill(c.a.qemu_pids())
    m = c.a.wait_migration(m["id"])
    assert m["outcome"] == "failed" and "QEMU on the source" in m["error"]["message"]
    assert c.runs_where(VM) == []
    wait_for(lambda: c.a.state(VM) == "stopped", 10, "the machine to be known as stopped")
    c.a.call("machine.start", name=VM)
    wait_for(lambda: c.runs_where(VM) == ["host-a"], 20, "the machine to start anew")
    wait_for(lambda: c.b.qemu_pids() == [], 20, "the destination to clean up")
    assert c.observer.double == 0, "two runners were seen"


def test_cpu_flag_unknown_at_the_destination(cluster):
    """Which flags there are only QEMU itself can say, when it is started; what it says has to arrive."""
    c = cluster
    restart_with_lesser_qemu(c, c.b, 'case "$*" in *+avx2*) echo "qemu: Property \'qemu64-x86_64-cpu.avx2\' not found" >&2; exit 1;; esac')
    boot(c, cpu="qemu64,+avx2")
    expect_failed_at_once(c, c.a, c.b, "qemu", "destination", "avx2", "not found")
    judge(c, c.a)


def test_disk_missing_at_the_destination(cluster):
    c = cluster
    disk = os.path.join(c.bed.dir, "only-at-a.raw")
    with open(disk, "wb") as f:
        f.truncate(1 << 20)
    boot(c, disks=[{"name": "d0", "path": disk, "format": "raw"}])
    os.rename(disk, disk + ".gone")
    m = c.a.wait_migration(begin(c.a, c.b)["id"])
    assert m["outcome"] == "failed" and disk in m["error"]["message"] and "host-b" in m["error"]["message"]
    judge(c, c.a)


def test_machine_of_that_name_at_the_destination(cluster):
    c = cluster
    c.b.call("machine.define", spec=guest_spec(memory_mib=128))
    boot(c)
    expect_failed_at_once(c, c.a, c.b, "conflict", VM)
    judge(c, c.a)


def test_node_removed_is_refused_with_reasons_on_both_sides(cluster):
    c = cluster
    boot(c)
    c.a.call("node.remove", name="host-b")
    with pytest.raises(Refused) as refused:
        begin(c.a, c.b)
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
        m = c.a.wait_migration(begin(c.a, c.b)["id"])
        outcome = m["error"]
    except Refused as refused:
        outcome = {"code": refused.code, "message": refused.message}
    assert outcome["code"] == "resource" and "space" in outcome["message"], outcome
    os.unlink(os.path.join(small, "filler"))
    judge(c, c.a)
