# SPDX-License-Identifier: Apache-2.0
"""Rate limits: of a mover, of a node, and while they change.

What is asserted here is that it is never more; how exactly a rate is reached and kept in every
second, and what urgent messages lose by it, is measured by bench/shaping_bench.py.
"""
import signal
import time

import pytest
from nctest.cluster import Cluster, Refused, guest_spec
from nctest.movers import finish, hand_over, make_stream, push, read_exactly
from nctest.net import Bed, Topology, wait_for
from nctest.shaped_pair import ShapedPair, undisturbed_wire

SECONDS = 4


@pytest.fixture
def bed():
    with Bed() as b:
        yield b


def mean(rates):
    return sum(rates) / len(rates)


@pytest.mark.parametrize("streams,rate", [(1, 3_000_000), (2, 12_500_000), (4, 25_000_000)])
def test_the_wire_carries_the_rate_and_not_more(bed, streams, rate):
    topology = Topology(bed, rate="1gbit", delay="5ms")
    pair = ShapedPair(bed, topology, 7460, streams=streams)
    pair.rate(rate)
    pair.load()
    time.sleep(1)
    assert 0.1 * rate <= mean(undisturbed_wire(topology.wan, SECONDS)) <= 1.05 * rate


def test_the_rate_changes_while_running(bed):
    topology = Topology(bed, rate="200mbit", delay="5ms")
    pair = ShapedPair(bed, topology, 7461)
    pair.load()
    for rate in (4_000_000, 12_000_000, 2_000_000):
        pair.rate(rate)
        time.sleep(1)
        assert 0.1 * rate <= mean(undisturbed_wire(topology.wan, SECONDS)) <= 1.05 * rate
        assert pair.progress()["shaped_rate_bps"] == rate
    pair.rate(0)
    time.sleep(1)
    assert mean(undisturbed_wire(topology.wan, SECONDS)) > 2_000_000 * 1.05
    assert pair.progress()["shaped_rate_bps"] == 0


def test_a_limited_stream_arrives_whole_and_the_grant_behind_it(pairs):  # noqa: F811
    pair = pairs(streams=2, compression="lz4").ready()
    pair.source.send({"op": "rate", "bps": 2_000_000})
    stream = make_stream(seed=11)
    pusher = push(pair.qemu_source, stream)
    assert read_exactly(pair.qemu_destination, len(stream)) == stream
    pusher.join()
    pair.source.send({"op": "rate", "bps": 1})  # nothing is left that may wait for it
    hand_over(pair, stream)
    list(finish(pair, stream))


def test_the_return_path_does_not_wait(bed):
    topology = Topology(bed, rate="1gbit", delay="1ms")
    pair = ShapedPair(bed, topology, 7462, streams=1)
    pair.rate(300_000)
    pair.load()
    time.sleep(1)
    for _ in range(20):
        pair.round_trip_s()


def test_a_rate_that_is_none_is_refused(pairs):  # noqa: F811
    pair = pairs().ready()
    pair.source.send({"op": "rate", "bps": -1})
    assert pair.source.wait("error")["code"] == "protocol"


def test_background_gives_way(bed):
    """Two pairs on one link of 5 MB/s; one of them yields."""
    topology = Topology(bed, rate="40mbit", delay="10ms")
    polite, other = ShapedPair(bed, topology, 7463), ShapedPair(bed, topology, 7464)
    polite.pair.source.send({"op": "rate", "bps": 0, "yield": True})
    polite.load()
    time.sleep(3)
    other.load()
    time.sleep(6)
    before = polite.received, other.received
    time.sleep(SECONDS)
    took = polite.received - before[0], other.received - before[1]
    assert took[1] > 2 * took[0], took


def wire_of(node, ids, total):
    """How many wire bytes each of these migrations sent, from when all do until they were ${total} together."""
    def sent():
        return [node.call("migration.get", id=i)["wire_bytes"] for i in ids]
    wait_for(lambda: min(sent()) > 200_000, 60, "bulk of each of them")
    before = sent()
    wait_for(lambda: sum(sent()) - sum(before) >= total, 60, f"{total} bytes of bulk")
    return [now - b for now, b in zip(sent(), before)]


def allotted(node, ids):
    return [node.call("migration.get", id=i)["rate_limit_bps"] for i in ids]


@pytest.fixture(scope="module")
def two_machines():
    with Cluster(rate="1gbit", delay="2ms", bandwidth_total="4000000", bandwidth_reserve="0") as c:
        for name in ("web1", "web2"):
            c.boot(spec=guest_spec(name, memory_mib=128, ws=40, rate=0, nic=False))
        yield c


@pytest.fixture
def cluster(two_machines):
    """Of the two machines none migrates, whatever the test before left."""
    yield two_machines
    two_machines.cancel_all()


def test_two_migrations_share_the_node(cluster):
    """1:4, then 1:8, then limits of their own, then another total: always what is allotted, and about that on the wire."""
    node = cluster.a
    ids = [node.call("migration.create", vm=vm, to="host-b", compression="none", qos=qos)["id"]
           for vm, qos in (("web1", "background"), ("web2", "high"))]
    node.wait_state(ids[0], ("copying",))
    node.wait_state(ids[1], ("copying",))
    assert allotted(node, ids) == [800_000, 3_200_000]
    slow, fast = wire_of(node, ids, 12_000_000)
    assert 2 * slow < fast < 8 * slow, (slow, fast)
    assert mean(undisturbed_wire(cluster.net.wan, SECONDS)) <= 4_000_000 * 1.05

    m = node.call("migration.limit", id=ids[1], qos="critical")
    assert m["qos"] == "critical" and "limits" in [e["event"] for e in m["events"]]
    assert allotted(node, ids) == [444_444, 3_555_555]
    node.call("migration.limit", id=ids[1], bandwidth_limit_bps=1_000_000)
    assert allotted(node, ids) == [3_000_000, 1_000_000]

    node.settings["bandwidth_total"] = "2000000"
    node.write_config()
    node.process.send_signal(signal.SIGHUP)
    wait_for(lambda: allotted(node, ids) == [1_000_000, 1_000_000], 10, "the new total to be divided")

    node.call("migration.cancel", id=ids[0])
    assert node.wait_migration(ids[0])["outcome"] == "cancelled"
    node.call("migration.limit", id=ids[1], bandwidth_limit_bps=0, qos="normal")
    wait_for(lambda: allotted(node, ids[1:]) == [2_000_000], 10, "the rest to go to the other one")
    node.settings["bandwidth_total"] = "0"
    node.write_config()
    node.process.send_signal(signal.SIGHUP)
    m = node.wait_migration(ids[1])
    assert m["outcome"] == "completed" and m["sha256_equal"] and m["rate_limit_bps"] == 0
    with pytest.raises(Refused) as refused:
        node.call("migration.limit", id=ids[1], qos="high")
    assert refused.value.code == "conflict"


def test_a_limit_is_one_of_wire_bytes(cluster):
    """Whatever the compression saves is not counted; QEMU has no limit of its own."""
    rate = 5_000_000
    before = cluster.net.wan.stats()["ab"]["wire_bytes"]
    m = cluster.migrate("web1", cluster.a, bandwidth_limit_bps=rate, compression="lz4")
    assert m["outcome"] == "completed" and m["sha256_equal"], m["error"]
    sent = cluster.net.wan.stats()["ab"]["wire_bytes"] - before
    assert sent <= rate * (m["total_ms"] / 1000) * 1.05
    assert m["stream_bytes"] > 1.3 * m["wire_bytes"]


def test_what_is_no_limit_is_refused(cluster):
    node = next(n for n in (cluster.a, cluster.b) if n.state("web1") == "running")
    m = node.call("migration.create", vm="web1", to=cluster.other(node).name, bandwidth_limit_bps=100_000)
    for args in ({}, {"qos": "urgent"}, {"bandwidth_limit_bps": -1}, {"bandwidth_limit_bps": "fast"}):
        with pytest.raises(Refused) as refused:
            node.call("migration.limit", id=m["id"], **args)
        assert refused.value.code == "invalid", refused.value
    with pytest.raises(Refused) as refused:
        node.call("migration.limit", id="m-unknown", qos="high")
    assert refused.value.code == "not_found"
    node.call("migration.cancel", id=m["id"])
    assert node.wait_migration(m["id"])["outcome"] == "cancelled"
