# SPDX-License-Identifier: Apache-2.0
"""Real machines over paths that go away: resets, outages, another address, several paths.

Promises under test: the migration goes on by itself, sends again what was in flight and no
more, and the guest notices a pause at most; what can still be undone is undone after
`path_timeout_ms`, not before.
"""
import time

import pytest
from nctest.cluster import Cluster, guest_spec, second_path
from nctest.net import Wan, wait_for

VM = "web1"
SLOW = 5_000_000  # bytes per second: the copying lasts long enough for what is done to it


@pytest.fixture()
def cluster():
    with Cluster(rate="200mbit", delay="5ms", path_timeout_ms="100000") as c:
        yield c


def begin(c, **arguments):
    c.boot(spec=guest_spec(memory_mib=128, ws=48, rate=2))
    c.watch_runners(VM)
    m = c.a.call("migration.create", vm=VM, to="host-b", **{"bandwidth_limit_bps": SLOW, "compression": "none", **arguments})
    c.a.wait_state(m["id"], ("copying",))
    return m["id"]


def judge(c, m, node):
    assert m["outcome"] == "completed", m["error"]
    assert m["sha256_equal"] is True
    c.assert_healthy(VM, node)
    assert c.observer.double == 0, "two runners were seen"


def reset_all(netns):
    """Kills every TCP connection of ${netns}, as a NAT or a firewall that was restarted does."""
    netns.run("ss", "-K", "-t", "state", "established")


def test_twenty_resets_of_all_connections(cluster):
    c = cluster
    id = begin(c, streams=3)
    windows, resets = [], 0
    while resets < 20:
        time.sleep(0.5)
        record = c.a.call("migration.get", id=id)
        assert record["state"] == "copying", f"it was over after {resets} resets: {record['outcome']} {record['error']}"
        windows.append(record.get("window_bytes", 0))
        reset_all(c.net.a if resets % 2 else c.net.b)
        resets += 1
    c.a.call("migration.limit", id=id, bandwidth_limit_bps=0)
    m = c.a.wait_migration(id)
    judge(c, m, c.b)
    assert m["reconnects"] >= 20
    assert m["resent_bytes"] <= 20 * (max(windows) + (1 << 20)), (m["resent_bytes"], max(windows))
    events = [e["event"] for e in c.a.call("migration.get", id=id)["events"]]
    assert "connection-lost" in events and "session-back" in events


def test_a_path_that_loses_segments_by_accident(cluster):
    """The first connection would take each of them for a full queue: another one takes its place."""
    c = cluster
    id = begin(c)
    c.net.wan.tell("loss 2")
    lost = wait_for(lambda: [e for e in c.a.call("migration.get", id=id)["events"] if e["event"] == "connection-lost"], 60, "a new connection")
    assert "loses segments" in lost[0]["detail"], lost
    c.a.call("migration.limit", id=id, bandwidth_limit_bps=0)
    m = c.a.wait_migration(id)
    judge(c, m, c.b)
    assert m["reconnects"] == 1, "once is enough"


def test_the_link_is_down_for_a_minute(cluster):
    c = cluster
    id = begin(c)
    c.net.wan.tell("down")
    time.sleep(20)
    assert "no connection to host-b for" in (c.a.call("migration.get", id=id)["path"] or "")
    time.sleep(40)
    c.net.wan.tell("up")
    wait_for(lambda: c.a.call("migration.get", id=id)["path"] is None, 30, "the path to be back")
    c.a.call("migration.limit", id=id, bandwidth_limit_bps=0)
    judge(c, c.a.wait_migration(id), c.b)


def test_the_source_gets_another_address(cluster):
    c = cluster
    id = begin(c)
    device = c.net.a.run("ip", "-o", "-4", "addr", "show", "to", "10.99.0.1").split()[1]
    c.net.a.run("ip", "addr", "del", "10.99.0.1/24", "dev", device)
    c.net.a.run("ip", "addr", "add", "10.99.0.7/24", "dev", device)
    wait_for(lambda: c.a.call("migration.get", id=id)["reconnects"] > 0, 60, "a connection from the new address")
    c.a.call("migration.limit", id=id, bandwidth_limit_bps=0)
    judge(c, c.a.wait_migration(id), c.b)


def test_cancelling_while_the_path_is_away(cluster):
    c = cluster
    id = begin(c)
    c.net.wan.tell("down")
    wait_for(lambda: c.a.call("migration.get", id=id)["path"], 30, "the loss to be noticed")
    c.a.call("migration.cancel", id=id)
    assert c.a.wait_migration(id, timeout=30)["outcome"] == "cancelled"
    c.net.wan.tell("up")
    c.assert_healthy(VM, c.a)
    assert c.observer.double == 0
    c.moves(VM, c.a)  # a new attempt takes the place of what the destination still waits for


# --- several paths ---


def carried(wan):
    return wan.stats()["ab"]["wire_bytes"]


def test_two_paths_carry_together(cluster):
    c = cluster
    second = second_path(c, "200mbit", "5ms")
    id = begin(c, streams=2, bandwidth_limit_bps=0)
    m = c.a.wait_migration(id)
    judge(c, m, c.b)
    both = [carried(c.net.wan), carried(second)]
    assert min(both) > 0.25 * sum(both), both
    assert m["paths"] == "10.99.0.2:7450, 10.100.0.2:7450"


@pytest.mark.parametrize("which", [0, 1])
def test_one_of_two_paths_dies(cluster, which):
    """With the first one the session and the carrier of what is urgent die, too."""
    c = cluster
    wans = [c.net.wan, second_path(c, "200mbit", "5ms")]
    id = begin(c, streams=2)
    wait_for(lambda: carried(wans[which]) > 2_000_000, 30, "traffic on the path that will die")
    wans[which].tell("down")
    before = carried(wans[1 - which])
    wait_for(lambda: carried(wans[1 - which]) > before + 30_000_000, 60, "the other one to carry everything")
    assert c.a.call("migration.get", id=id)["path"] is None
    if which == 0:  # agents have one address: the verdict needs it
        wans[0].tell("up")
    c.a.call("migration.limit", id=id, bandwidth_limit_bps=0)
    judge(c, c.a.wait_migration(id), c.b)


def test_paths_of_a_request_name_both_ends(cluster):
    c = cluster
    second = Wan(c.bed, c.net.a, c.net.b, "200mbit", "5ms", number=1)
    id = begin(c, streams=2, bandwidth_limit_bps=0, paths="10.100.0.1>10.100.0.2:7450")
    judge(c, c.a.wait_migration(id), c.b)
    assert carried(second) > 10 * carried(c.net.wan)
