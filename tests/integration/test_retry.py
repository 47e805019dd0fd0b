# SPDX-License-Identifier: Apache-2.0
"""What may pass is tried again by itself, under the next epoch each time, and the record tells of each attempt."""

import os
import signal
import time
from datetime import datetime

import pytest
from nctest.cluster import Cluster, guest_spec
from nctest.net import wait_for

VM = "web1"
LINK = 10_000_000  # bytes per second


@pytest.fixture(scope="module")
def shared():
    with Cluster(rate="1gbit", delay="2ms", retry_pause_ms="500", connect_timeout_ms="1500") as c:
        c.boot(spec=guest_spec(memory_mib=192, ws=48, rate=10, pattern="random"))
        c.watch_runners(VM)
        yield c


@pytest.fixture()
def cluster(shared):
    """The machine runs on host-a, and both nodes do."""
    c = shared
    for node in (c.a, c.b):
        if node.is_dead():
            node.start()
    if c.a.state(VM) != "running":
        c.moves(VM, c.b, retry_attempts=3)
    return c


def begin(c, **args):
    return c.a.call("migration.create", vm=VM, to="host-b", **args)["id"]


def kill(pids):
    assert pids
    for pid in pids:
        os.kill(pid, signal.SIGKILL)


def span_ms(begin, end):
    at = [datetime.fromisoformat(text.replace("Z", "+00:00")) for text in (begin, end)]
    return (at[1] - at[0]).total_seconds() * 1000


def get(node, id):
    return node.call("migration.get", id=id)


def expect_arrival(c, id, attempts):
    m = c.a.wait_migration(id, 120)
    assert m["outcome"] == "completed", m
    assert m["attempt"] == attempts and [a["attempt"] for a in m["attempts"]] == list(range(1, attempts)), m["attempts"]
    assert m["error"] is None
    c.assert_healthy(VM, c.b)
    assert c.observer.double == 0, "two runners were seen"
    return m


def wait_waiting(c, id):
    c.a.wait_state(id, ("waiting",))
    assert get(c.a, id)["phase"] == "queued"
    assert c.runs_where(VM) == ["host-a"]


def test_the_destination_is_away_and_comes_back(cluster):
    c = cluster
    c.b.stop()
    id = begin(c, retry_attempts=8)
    wait_for(lambda: get(c.a, id)["attempt"] >= 2, 60, "the second attempt")
    c.b.start()
    m = c.a.wait_migration(id, 120)
    assert m["outcome"] == "completed", m
    assert m["attempt"] >= 2 and len(m["attempts"]) == m["attempt"] - 1
    assert m["total_ms"] == pytest.approx(span_ms(m["started"], m["finished"]), abs=1000), "its first attempts are part of it"
    assert 0 < m["attempt_ms"] <= span_ms(m["attempts"][-1]["ended"], m["finished"]) < m["total_ms"]
    assert all(a["error"]["code"] == "unreachable" and "host-b" in a["error"]["message"] for a in m["attempts"]), m["attempts"]
    c.assert_healthy(VM, c.b)


@pytest.mark.parametrize("side", ["source", "destination"])
def test_mover_killed(cluster, side):
    c = cluster
    epoch = c.a.call("machine.get", name=VM)["epoch"]
    id = begin(c, retry_attempts=2, bandwidth_limit_bps=LINK, algorithm="pre-copy")
    c.a.wait_state(id, ("copying",))
    wait_for(lambda: get(c.a, id)["ram_bytes"] > 8 << 20, 60, "some memory to have gone")
    kill((c.a if side == "source" else c.b).mover_pids())
    c.a.call("migration.limit", id=id, bandwidth_limit_bps=0)
    expect_arrival(c, id, 2)
    assert c.b.call("machine.get", name=VM)["epoch"] > epoch


def test_the_destination_dies_at_the_package(cluster):
    """Its novacrond dies with the grant not yet taken: it says no when it is back, and that is tried again, too."""
    c = cluster
    c.b.stop()
    c.b.start(fault="destination-granted:kill")
    id = begin(c, retry_attempts=3)
    c.b.wait_dead()
    c.b.start()
    m = c.a.wait_migration(id, 120)
    assert m["outcome"] == "completed", m
    assert c.runs_where(VM) == ["host-b"] and c.observer.double == 0


def test_cancelled_between_two_attempts(cluster):
    c = cluster
    c.b.stop()
    id = begin(c, retry_attempts=8)
    wait_waiting(c, id)
    c.a.call("migration.cancel", id=id)
    m = c.a.wait_migration(id, 20)
    assert m["outcome"] == "cancelled" and len(m["attempts"]) >= 1
    assert c.runs_where(VM) == ["host-a"]
    c.b.start()


def test_novacrond_restarted_between_two_attempts(cluster):
    c = cluster
    c.b.stop()
    id = begin(c, retry_attempts=20)
    wait_waiting(c, id)
    c.a.kill()
    c.a.start()
    c.b.start()
    m = c.a.wait_migration(id, 120)
    assert m["outcome"] == "completed" and len(m["attempts"]) >= 1, m
    c.assert_healthy(VM, c.b)


def test_it_gives_up_after_the_last_and_says_so(cluster):
    c = cluster
    c.b.stop()
    id = begin(c, retry_attempts=1)
    m = c.a.wait_migration(id, 60)
    assert m["outcome"] == "failed" and m["attempt"] == 2 and len(m["attempts"]) == 1
    assert m["error"]["code"] == "unreachable" and "2 attempts" in m["error"]["message"], m["error"]
    assert c.runs_where(VM) == ["host-a"]
    c.b.start()


def test_what_will_not_pass_is_not_tried_again(cluster):
    c = cluster
    id = begin(c, retry_attempts=5, algorithm="pre-copy", bandwidth_limit_bps=2_000_000, max_throttle=0, convergence_timeout_ms=2000)
    m = c.a.wait_migration(id, 60)
    assert m["outcome"] == "failed" and m["error"]["code"] == "convergence" and m["attempts"] == []
    time.sleep(1)
    assert get(c.a, id)["outcome"] == "failed" and c.runs_where(VM) == ["host-a"]
