# SPDX-License-Identifier: Apache-2.0
"""`novacron plan`: what a move would be like is said before it, and nothing is touched. Bytes are compared with what comes, times never."""

import json
import os

import pytest
from nctest.cluster import Cluster, Refused, guest_spec
from nctest.guest import QmpObserver

KEYS = {"vm", "from", "to", "algorithm", "converges", "reason", "eta_ms", "eta_error_ms", "pause_ms", "pause_error_ms", "wire_bytes",
        "ram_total_bytes", "content_bytes", "dirty_rate_bps", "link_rate_bps", "link_rtt_us", "effective_rate_bps", "ratio", "basis",
        "disks", "disk_eta_ms", "disk_wire_bytes"}
IDLE, BUSY = "idle", "busy"
LINK = 6_000_000  # bytes per second, far less than the busy guest dirties


@pytest.fixture(scope="module")
def cluster():
    with Cluster(rate="1gbit", delay="5ms", gates=True) as c:
        c.boot(spec=guest_spec(name=IDLE, memory_mib=128, ws=16, rate=1, nic=False))
        c.boot(spec=guest_spec(name=BUSY, memory_mib=192, ws=64, rate=25, pattern="random", nic=False))
        yield c


def plan(cluster, vm=IDLE, to="host-b", node=None, **args):
    result = (node or cluster.a).call("migration.plan", vm=vm, to=to, **args)
    assert set(result) == KEYS
    assert result["ram_total_bytes"] > 0 and result["link_rate_bps"] > 0 and result["link_rtt_us"] >= 10_000
    ends = [result[key] is not None for key in ("eta_ms", "eta_error_ms", "pause_ms", "pause_error_ms", "wire_bytes")]
    assert all(ends) if result["converges"] else not any(ends), result
    return result


def refused(cluster, **args):
    with pytest.raises(Refused) as refusal:
        cluster.a.call("migration.plan", **{"vm": IDLE, "to": "host-b", **args})
    return refusal.value


def there_and_back(cluster):
    """The way there of a move that its forecast has learned from: one that is over before its sample is ready teaches nothing, so
    each has more time for it than the one before."""
    for limit in (0, 8_000_000, 4_000_000, 2_000_000):
        m, back = cluster.migrate(IDLE, cluster.a, bandwidth_limit_bps=limit), cluster.migrate(IDLE, cluster.b)
        assert m["outcome"] == back["outcome"] == "completed", m["error"] or back["error"]
        if m.get("coding_factor"):
            return m
    raise AssertionError(f"no move taught anything: {m}")


def test_an_idle_machine_converges_and_costs_what_was_said(cluster):
    result = plan(cluster)
    assert (result["vm"], result["from"], result["to"]) == (IDLE, "host-a", "host-b")
    assert result["converges"] is True and result["algorithm"] == "pre-copy" and result["basis"] == "defaults"
    assert 128 << 20 < result["ram_total_bytes"] < 129 << 20
    assert 10 << 20 < result["content_bytes"] <= result["ram_total_bytes"]
    m = there_and_back(cluster)
    assert m["wire_bytes"] / 4 < result["wire_bytes"] < m["wire_bytes"] * 4


def test_earlier_migrations_are_taken_into_account(cluster):
    if not cluster.a.call("migration.list")["items"]:
        cluster.moves(IDLE, cluster.a)
        cluster.moves(IDLE, cluster.b)
    assert plan(cluster)["basis"] == "vm"
    assert plan(cluster, BUSY, algorithm="post-copy")["basis"] == "nodes"
    assert plan(cluster, compression="none")["basis"] == "defaults", "none was coded like that"


def test_coding_shows(cluster):
    assert plan(cluster, compression="none")["ratio"] == pytest.approx(1, abs=0.1)
    assert plan(cluster)["ratio"] > 1.5


def test_a_limit_shows(cluster):
    free, limited = plan(cluster), plan(cluster, bandwidth_limit_bps=2_000_000)
    assert limited["eta_ms"] > free["eta_ms"] and limited["effective_rate_bps"] < free["effective_rate_bps"]


def test_what_dirties_too_much_does_not_converge(cluster):
    result = plan(cluster, BUSY, algorithm="pre-copy", bandwidth_limit_bps=LINK)
    assert result["converges"] is False and result["algorithm"] == "pre-copy"
    assert result["dirty_rate_bps"] > result["effective_rate_bps"]
    for part in ("the guest dirties", "can be sent", "it would need", "slowed down by"):
        assert part in result["reason"]
    out = cluster.a.cli("plan", BUSY, "--to", "host-b", "--algorithm", "pre-copy", "--bandwidth", str(LINK), check=False)
    assert out.returncode == 12 and "would not come to an end" in out.stdout, out.stdout + out.stderr
    assert max(map(len, out.stdout.splitlines())) <= 80, out.stdout


def test_auto_then_ends_in_post_copy(cluster):
    result = plan(cluster, BUSY, bandwidth_limit_bps=LINK)
    assert result["converges"] is True and result["algorithm"] == "post-copy"
    assert "the machine goes first and the rest of its memory after it" in result["reason"]
    assert plan(cluster, BUSY, algorithm="post-copy")["algorithm"] == "post-copy"
    out = cluster.a.cli("plan", BUSY, "--to", "host-b", "--bandwidth", str(LINK), "--json")
    assert json.loads(out.stdout)["algorithm"] == "post-copy"
    out = cluster.a.cli("plan", BUSY, "--to", "host-b", "--bandwidth", str(LINK))
    assert "post-copy" in out.stdout and max(map(len, out.stdout.splitlines())) <= 80, out.stdout


def test_it_leaves_nothing_behind(cluster):
    before = [node.call("machine.list") for node in (cluster.a, cluster.b)]
    records = [node.call("migration.list") for node in (cluster.a, cluster.b)]
    plan(cluster, BUSY)
    assert [node.call("machine.list") for node in (cluster.a, cluster.b)] == before
    assert [node.call("migration.list") for node in (cluster.a, cluster.b)] == records
    assert cluster.b.qemu_pids() == [] and cluster.a.mover_pids() == cluster.b.mover_pids() == []
    m = cluster.migrate(BUSY, cluster.a, wait=False, bandwidth_limit_bps=LINK)
    cluster.a.wait_state(m["id"], ("copying",))
    problem = refused(cluster, vm=BUSY)
    assert problem.code == "conflict" and m["id"] in problem.message
    cluster.a.call("migration.cancel", id=m["id"])
    assert cluster.a.wait_migration(m["id"])["outcome"] == "cancelled"


@pytest.mark.parametrize("args,words", [
    ({"vm": "a b"}, "must be names"), ({"to": "a b"}, "must be names"), ({"to": "host-a"}, "is on host-a already"),
    ({"max_downtime_ms": 0}, "max_downtime_ms"), ({"max_downtime_ms": "long"}, "max_downtime_ms"),
    ({"bandwidth_limit_bps": -1}, "bandwidth_limit_bps"), ({"compression": "zip"}, "compression is"),
    ({"algorithm": "teleport"}, "auto, pre-copy or post-copy")])
def test_nonsense_is_refused(cluster, args, words):
    problem = refused(cluster, **args)
    assert problem.code == "invalid" and words in problem.message


def test_a_paused_machine_has_no_plan(cluster):
    observer = QmpObserver(os.path.join(cluster.a.machine_dir(IDLE), "observer.sock"))
    try:
        observer.command("stop")
        problem = refused(cluster)
        assert problem.code == "conflict" and "paused" in problem.message
    finally:
        observer.command("cont")
        observer.close()


def test_what_is_not_there_or_does_not_run(cluster):
    assert refused(cluster, vm="nobody").code == "not_found"
    assert refused(cluster, to="host-z").code == "not_found"
    cluster.a.call("machine.define", spec=guest_spec(name="off", memory_mib=64))
    try:
        assert refused(cluster, vm="off").code == "conflict"
    finally:
        cluster.a.call("machine.destroy", name="off")
    cluster.b.stop()
    try:
        problem = refused(cluster)
        assert problem.code == "unreachable" and "host-b can't be reached from host-a" in problem.message
    finally:
        cluster.b.start()
