# SPDX-License-Identifier: Apache-2.0
"""Five nodes and ten guests: a node is emptied by priority, within its bandwidth, one last round at a time.

How exactly the bandwidth is used is measured by bench/fleet_five_bench.py; here, that it is not exceeded.
"""

import time

import pytest
from nctest.fleet import BUDGET_BPS, FULL, PRIORITIES, Fleet, endgames, most_at_once, overlaps, seconds
from nctest.net import wait_for

MOST = 5  # migrations at a time
ROOMS = {"host-1": 3, "host-3": 3, "host-4": 3, "host-5": 0}  # machines that each of the others has memory for, at first
MIB = 96
RANKS = ("critical", "high", "normal", "low")
SLOW_BPS = 3_000_000
TOLD_BPS = 50_000  # what novacronds say to each other


@pytest.fixture(scope="module")
def fleet():
    each = {name: {"fleet_memory_mib": str(MIB * room + MIB // 2)} for name, room in ROOMS.items()}
    each[FULL] = {"bandwidth_total": str(BUDGET_BPS), "bandwidth_reserve": "0"}
    with Fleet(each=each, connect_timeout_ms="3000", fleet_vcpus="64") as f:
        f.names = f.boot(memory_mib=MIB)
        f.wait_seen(dict.fromkeys(f.names, FULL))
        yield f


def test_what_fits_nowhere_is_said_before_anything_moves(fleet):
    f = fleet
    plan = f.ask("plan", nodes=[FULL])
    assert not plan["empties"] and len(plan["moves"]) == 9, plan
    stays, = plan["cannot_move"]
    assert "memory" in stays["reason"], stays
    made = f.ask("evacuate", nodes=[FULL])
    assert made["state"] == "failed" and made["plan"]["cannot_move"] == [stays], made
    assert f.left() == [] and f.ask("list", evacuation=made["id"])["items"] == []
    assert not any(node["is_cordoned"] for node in f.ask("nodes")["items"])
    for name in f.names:
        assert f.nodes[FULL].state(name) == "running"


def check_order(f, records):
    priorities = dict(zip(f.names, PRIORITIES))
    order = [priorities[m["vm"]] for m in records]
    assert order == sorted(order, key=RANKS.index), [(m["vm"], priorities[m["vm"]], m["started"]) for m in records]


def test_a_node_is_emptied(fleet):
    f = fleet
    f.reload("host-5", fleet_memory_mib="1024")
    wait_for(lambda: f.ask("plan", nodes=[FULL])["empties"], 30, "the room to be seen")
    wire, began = f.star.wan.stats()["ab"]["wire_bytes"], time.monotonic()
    done = f.wait_end(f.ask("evacuate", nodes=[FULL])["id"])
    wire, took = f.star.wan.stats()["ab"]["wire_bytes"] - wire, time.monotonic() - began
    assert done["state"] == "completed" and done["migrations"]["completed"] == len(f.names), done
    assert wire <= (1.05 * BUDGET_BPS + TOLD_BPS) * took, f"{wire} bytes in {took} s"
    records = f.left()
    assert most_at_once([(seconds(m["started"]), seconds(m["finished"])) for m in records]) == MOST
    check_order(f, records)
    alone = endgames(records)
    assert alone and overlaps(alone) == [], alone
    for name in f.names:
        assert f.assert_alive(name).name != FULL
    f.wait_seen({name: f.assert_alive(name).name for name in f.names})


def test_by_hand_last_rounds_take_turns(fleet):
    """Without the controller, which is not asked: a node's own."""
    f = fleet
    node = max(f.nodes.values(), key=lambda n: sum(m["state"] == "running" for m in n.call("machine.list")))
    to = f.others(node.name)[0].name
    names = [m["name"] for m in node.call("machine.list") if m["state"] == "running"][:3]
    assert len(names) >= 2, names
    # So slow that not all of a guest goes ahead while its QEMU gets ready: then there would be no last round to speak of.
    ids = [node.call("migration.create", vm=name, to=to, bandwidth_limit_bps=SLOW_BPS)["id"] for name in names]
    for id in ids:
        m = node.wait_migration(id)
        assert m["outcome"] == "completed", m
    alone = endgames([node.call("migration.get", id=id) for id in ids])
    assert alone and overlaps(alone) == [], alone
    for name in names:
        assert f.assert_alive(name).name == to
