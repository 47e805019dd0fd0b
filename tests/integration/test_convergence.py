# SPDX-License-Identifier: Apache-2.0
"""Guests that dirty more than the link carries: foreseen, slowed down if that is allowed, given up if not; never lost."""

import pytest
from nctest.cluster import Cluster, guest_spec

VM = "web1"
WORKING_SET_MIB = 64
DIRTY_MB = 25  # per second, of pages that nothing compresses
LINK = 10_000_000  # bytes per second


@pytest.fixture(scope="module")
def cluster():
    with Cluster(rate="1gbit", delay="2ms") as c:
        c.boot(spec=guest_spec(memory_mib=192, ws=WORKING_SET_MIB, rate=DIRTY_MB, pattern="random"))
        c.watch_runners(VM)
        yield c


def where(cluster):
    return next(node for node in (cluster.a, cluster.b) if node.state(VM) == "running")


def test_what_does_not_converge_is_given_up_and_runs_on(cluster):
    source = where(cluster)
    m = cluster.migrate(VM, source, bandwidth_limit_bps=LINK, algorithm="pre-copy", max_throttle=0, convergence_timeout_ms=6000)
    assert m["outcome"] == "failed" and m["error"]["code"] == "convergence"
    for part in ("will not converge", "dirty rate", "effective rate", "it would need", "runs on on the source", "--max-throttle"):
        assert part in m["error"]["message"], m["error"]["message"]
    decisions = [f["decision"] for f in m["forecasts"]]
    assert decisions[-1] == "stop" and set(decisions) <= {"go-on", "wait", "stop"}, decisions
    last = m["forecasts"][-1]
    assert not last["converges"] and last["dirty_rate_bps"] > last["effective_rate_bps"]
    cluster.assert_healthy(VM, source)


def test_a_guest_is_slowed_down_as_far_as_allowed_and_then_arrives(cluster):
    source = where(cluster)
    m = cluster.migrate(VM, source, bandwidth_limit_bps=LINK, algorithm="pre-copy", max_throttle=95)
    assert m["outcome"] == "completed", m["error"]
    throttled = [f for f in m["forecasts"] if f["decision"] == "throttle"]
    assert throttled and all(f["throttle"] <= 95 for f in throttled) and m["throttle"] == throttled[-1]["throttle"]
    assert any(e["event"] == "throttle" and "would not converge" in e["detail"] for e in m["events"])
    cluster.assert_healthy(VM, cluster.other(source))
    assert cluster.observer.double == 0


def test_what_converges_is_left_alone(cluster):
    """Also on a machine so busy that the programs with their sanitizers carry little: hence a guest that dirties next to nothing."""
    calm = cluster.boot(spec=guest_spec("calm1", memory_mib=128, ws=16, rate=1, nic=False))
    m = cluster.migrate(calm, cluster.a)
    assert m["outcome"] == "completed" and m["throttle"] == 0 and m["postcopy"] is False
    assert {f["decision"] for f in m["forecasts"]} <= {"go-on"}
    assert cluster.b.state(calm) == "running"
