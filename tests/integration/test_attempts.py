# SPDX-License-Identifier: Apache-2.0
"""What a controller has begun by name is begun once, and what it has cancelled never, whatever comes late and whoever dies."""

import pytest
from nctest.cluster import Cluster, Refused, guest_spec
from nctest.net import wait_for

VM = "web1"
NUMBERS = iter(range(1, 1000))


@pytest.fixture(scope="module")
def shared():
    with Cluster(rate="1gbit", delay="2ms", connect_timeout_ms="1500") as c:
        c.boot(spec=guest_spec(memory_mib=96, ws=8, rate=1))
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
        c.moves(VM, c.b)
    return c


@pytest.fixture()
def name():
    return f"mig-0000000000000att.{next(NUMBERS)}"


def begin(c, name, **args):
    return c.a.call("attempt.begin", name=name, **{"vm": VM, "to": "host-b", "retry_attempts": 0, **args})


def ask(c, name):
    return c.a.call("attempt.ask", name=name)


def refused(node, op, **args):
    with pytest.raises(Refused) as caught:
        node.call(op, **args)
    assert caught.value.code == "invalid", caught.value


def kill_and_start(node):
    node.kill()
    node.start()


def has_ended(c, name):
    wait_for(lambda: ask(c, name)["state"] not in ("running", "unknown"), 100, f"the end of {name}")
    return ask(c, name)


def test_a_cancelled_name_never_begins(cluster, name):
    c = cluster
    assert ask(c, name)["state"] == "unknown"
    answer = c.a.call("attempt.cancel", name=name, reason="not today")
    assert answer["state"] == "cancelled" and answer["reason"] == "not today" and answer["result"] is None
    kill_and_start(c.a)
    assert begin(c, name) == answer == ask(c, name)  # the late message
    assert c.a.call("attempt.cancel", name=name, reason="once more") == answer
    assert name not in [m["id"] for m in c.a.call("migration.list")["items"]]
    c.assert_healthy(VM, c.a)


def test_a_name_begins_once(cluster, name):
    c = cluster
    assert begin(c, name)["state"] == "running"
    assert begin(c, name)["state"] in ("running", "completed")
    done = has_ended(c, name)
    assert done["state"] == "completed" and done["percent"] == 100 and done["phase"] == "completed", done
    assert done["run_epoch"] == c.b.call("machine.get", name=VM)["epoch"]
    assert done["result"]["wire_bytes"] > 0 and done["result"]["pause_ms"] is not None
    c.assert_healthy(VM, c.b)
    c.moves(VM, c.b)
    kill_and_start(c.a)
    assert begin(c, name) == done  # once more, when the machine is back
    assert c.a.call("attempt.cancel", name=name, reason="too late") == done
    assert [m["id"] for m in c.a.call("migration.list")["items"]].count(name) == 1
    c.assert_healthy(VM, c.a)


def test_one_that_runs_is_cancelled(cluster, name):
    c = cluster
    begin(c, name, bandwidth_limit_bps=1_000_000, algorithm="pre-copy")
    wait_for(lambda: ask(c, name)["phase"] == "memory_copy", 60, "memory to be copied")
    assert c.a.call("attempt.cancel", name=name, reason="enough")["state"] in ("running", "cancelled")
    assert has_ended(c, name)["state"] == "cancelled"
    assert begin(c, name)["state"] == "cancelled"
    c.assert_healthy(VM, c.a)


def test_an_operators_limit_stays_beside_the_controllers(cluster, name):
    """Somebody at the node finds a link too full: what the controller says every other second does not undo it."""
    c = cluster
    begin(c, name, bandwidth_limit_bps=1_000_000, algorithm="pre-copy")
    wait_for(lambda: ask(c, name)["phase"] == "memory_copy", 60, "memory to be copied")

    def limit():
        return c.a.call("migration.get", id=name)["bandwidth_limit_bps"]
    assert limit() == 1_000_000
    assert c.a.call("migration.limit", id=name, bandwidth_limit_bps=300_000)["bandwidth_limit_bps"] == 300_000
    for allotted, counts in ((2_000_000, 300_000), (200_000, 200_000), (0, 300_000), (1_500_000, 300_000)):
        c.a.call("attempt.limit", name=name, rate_bps=allotted)
        assert limit() == counts
    assert c.a.call("migration.limit", id=name, qos="high")["bandwidth_limit_bps"] == 300_000
    assert c.a.call("migration.limit", id=name, bandwidth_limit_bps=0)["bandwidth_limit_bps"] == 1_500_000
    c.a.call("attempt.cancel", name=name, reason="enough")
    assert has_ended(c, name)["state"] == "cancelled"
    c.assert_healthy(VM, c.a)


def test_one_that_was_killed_with_its_node_does_not_begin_again(cluster, name):
    c = cluster
    begin(c, name, bandwidth_limit_bps=1_000_000, algorithm="pre-copy")
    wait_for(lambda: ask(c, name)["phase"] == "memory_copy", 60, "memory to be copied")
    kill_and_start(c.a)
    failed = has_ended(c, name)
    assert failed["state"] == "failed" and failed["may_pass"], failed
    assert begin(c, name) == failed
    c.assert_healthy(VM, c.a)


def test_what_can_not_begin_has_failed_for_good(cluster, name):
    c = cluster
    failed = begin(c, name, vm="nobody")
    assert failed["state"] == "failed" and "nobody" in failed["reason"] and not failed["may_pass"]
    kill_and_start(c.a)
    assert begin(c, name) == failed == ask(c, name)
    assert c.a.call("attempt.cancel", name=name, reason="no") == failed
    c.assert_healthy(VM, c.a)


def test_what_may_pass_is_said_and_not_tried_again_here(cluster, name):
    c = cluster
    c.b.stop()
    begin(c, name)
    failed = has_ended(c, name)
    assert failed["state"] == "failed" and failed["may_pass"] and "host-b" in failed["reason"], failed
    c.b.start()
    assert begin(c, name)["state"] == "failed"
    c.assert_healthy(VM, c.a)


def test_what_is_no_attempt_is_refused(cluster, name):
    a = cluster.a
    for bad in (None, 5, "", "m-0000000000000att.1", "mig-0000000000000att", name + "x", "mig-0000000000000att.0"):
        for op in ("attempt.begin", "attempt.cancel", "attempt.ask"):
            refused(a, op, name=bad, reason="x")
    for reason in (None, "", "x" * 513):
        refused(a, "attempt.cancel", name=name, reason=reason)
    assert ask(cluster, name)["state"] == "unknown"
