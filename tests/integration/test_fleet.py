# SPDX-License-Identifier: Apache-2.0
"""The fleet's controller in novacrond: it looks at nodes, moves machines by their agents, and goes on after it was killed."""

import re

import pytest
from nctest.cluster import Cluster, Refused, guest_spec
from nctest.net import wait_for

MACHINES = ("web1", "web2", "web3")
SLOW = 2_000_000  # bytes per second


def restart(node, **settings):
    node.settings.update(settings)
    node.write_config()
    node.stop()
    node.start()


def names(answer):
    return sorted(item["name"] for item in answer["items"])


def seen(c):
    """Where the controller takes each machine to be."""
    return {m["name"]: m["node"] for m in c.a.call("fleet.machines")["items"]}


def wait_leads(c):
    """What it hears of nodes, it hears when it leads; a lease that was not given back runs out first."""
    wait_for(lambda: c.a.call("fleet.status")["leads"], 30, "the controller to lead")


def wait_seen(c, where):
    wait_for(lambda: seen(c) == where, 60, lambda: f"the controller to see {where}; it sees {seen(c)}")


def wait_end(c, id):
    def has_ended():
        record = c.a.call("fleet.get", id=id)
        return record if record["is_finished"] else None
    wait_for(has_ended, 150, lambda: f"the end of {c.a.call('fleet.get', id=id)}")
    return has_ended()


def wait_copying(c, id):
    """By what the source's agent says: the controller hears that some seconds later."""
    def is_copying():
        try:
            return c.a.call("migration.get", id=id + ".1")["phase"] == "memory_copy"
        except Refused:
            return False
    wait_for(is_copying, 60, "memory to be copied")


def refused(code, node, op, **args):
    with pytest.raises(Refused) as caught:
        node.call(op, **args)
    assert caught.value.code == code, caught.value
    return caught.value.message


@pytest.fixture(scope="module")
def shared():
    with Cluster(rate="1gbit", delay="2ms", connect_timeout_ms="1500", fleet_memory_mib="4096", fleet_vcpus="64") as c:
        c.boot(spec=guest_spec(memory_mib=96, ws=8, rate=1))
        for name in MACHINES[1:]:
            c.boot(spec=guest_spec(name=name, memory_mib=96, ws=8, rate=1, nic=False))
        c.watch_runners("web1")
        restart(c.a, controller="yes")
        yield c


@pytest.fixture()
def cluster(shared):
    """A fleet of both nodes, and all machines on host-a."""
    c = shared
    if "controllers" not in c.b.settings:
        restart(c.b, controllers="host-a")
    for node in (c.a, c.b):
        if node.is_dead():
            node.start()
    wait_leads(c)
    wait_for(lambda: names(c.a.call("fleet.nodes")) == ["host-a", "host-b"], 30, "both nodes to be seen")
    c.a.call("fleet.uncordon", node="host-a")
    c.cancel_all()
    for name in MACHINES:
        if c.a.state(name) != "running":
            assert c.b.wait_migration(c.b.call("migration.create", vm=name, to="host-a")["id"])["outcome"] == "completed"
    wait_seen(c, dict.fromkeys(MACHINES, "host-a"))
    return c


def all_moved(c):
    for name in MACHINES:
        assert c.b.state(name) == "running" and c.a.state(name) != "running", name
        assert not c.complaints(name)
    wait_seen(c, dict.fromkeys(MACHINES, "host-b"))
    c.assert_healthy("web1", c.b)
    assert c.observer.double == 0, "two runners were seen"


def test_a_node_that_does_not_heed_it_is_left_alone(shared):
    c = shared
    wait_leads(c)
    wait_for(lambda: re.search(r"node host-b takes no orders of node host-a: `controllers`", open(c.a.log).read()), 30, "the refusal")
    wait_seen(c, dict.fromkeys(MACHINES, "host-a"))
    assert names(c.a.call("fleet.nodes")) == ["host-a"]
    assert "no controller on this node" in refused("conflict", c.b, "fleet.nodes")


def test_a_machine_is_moved_to_where_it_fits(cluster):
    c = cluster
    node = next(n for n in c.a.call("fleet.nodes")["items"] if n["name"] == "host-b")
    assert node["memory_bytes"] == 4096 << 20 and node["cpus"] == 64
    made = c.a.call("fleet.migrate", machine="web1", key="k1")
    assert c.a.call("fleet.migrate", machine="web1", key="k1") == made
    refused("conflict", c.a, "fleet.migrate", machine="web2", key="k1")
    done = wait_end(c, made["id"])
    assert done["state"] == "completed" and done["destination"] == "host-b" and done["attempts"] == 1, done
    assert done["result"]["wire_bytes"] > 0
    m = c.a.call("migration.get", id=made["id"] + ".1")
    assert m["outcome"] == "completed"
    wait_seen(c, {"web1": "host-b", "web2": "host-a", "web3": "host-a"})
    c.assert_healthy("web1", c.b)
    back = c.a.call("fleet.migrate", machine="web1", destination="host-a")
    assert wait_end(c, back["id"])["state"] == "completed"  # by an order to the other node
    assert any(e["subject"] == back["id"] + ".1" and e["actor"] == "node:host-a"
               for e in c.b.call("audit.list", kind="request", limit=100)), "the order is not in the transaction log"
    c.assert_healthy("web1", c.a)


def test_one_under_way_is_cancelled(cluster):
    c = cluster
    id = c.a.call("fleet.migrate", machine="web1", bandwidth_limit_bps=SLOW // 2, algorithm="pre-copy")["id"]
    wait_copying(c, id)
    assert c.a.call("migration.get", id=id + ".1")["bandwidth_limit_bps"] == SLOW // 2
    assert c.a.call("fleet.cancel", id=id, reason="enough")["state"] == "cancelling"
    done = wait_end(c, id)
    assert done["state"] == "cancelled" and done["reason"] == "enough", done
    c.assert_healthy("web1", c.a)


def test_what_fails_and_may_pass_is_tried_again(cluster):
    c = cluster
    id = c.a.call("fleet.migrate", machine="web2", bandwidth_limit_bps=SLOW)["id"]
    wait_copying(c, id)
    c.b.kill()
    c.b.start()
    done = wait_end(c, id)
    assert done["state"] == "completed" and c.b.state("web2") == "running", done
    assert c.a.call("migration.get", id=f"{id}.{done['attempts']}")["outcome"] == "completed"


def test_a_node_is_evacuated(cluster):
    c = cluster
    plan = c.a.call("fleet.plan", nodes=["host-a"])
    assert sorted(m["machine"] for m in plan["moves"]) == list(MACHINES) and plan["empties"], plan
    evacuation = c.a.call("fleet.evacuate", nodes=["host-a"])
    done = wait_end(c, evacuation["id"])
    assert done["state"] == "completed" and done["migrations"]["completed"] == 3, done
    all_moved(c)
    node = next(n for n in c.a.call("fleet.nodes")["items"] if n["name"] == "host-a")
    assert node["is_cordoned"]
    assert "host-a" in refused("unsuitable", c.a, "fleet.migrate", machine="web1", destination="host-a")


def test_killed_in_the_middle_an_evacuation_goes_on(cluster):
    """With it dies the source's agent, which is the same process: what it had begun ends there and is tried again."""
    c = cluster
    id = c.a.call("fleet.evacuate", nodes=["host-a"], bandwidth_limit_bps=2 * SLOW)["id"]
    wait_for(lambda: any(m["state"] == "running" for m in c.a.call("fleet.list", evacuation=id)["items"]), 60, "one to be under way")
    epoch = c.a.call("fleet.status")["epoch"]
    c.a.kill()
    c.a.start()
    wait_leads(c)
    assert c.a.call("fleet.status")["epoch"] > epoch
    done = wait_end(c, id)
    assert done["state"] == "completed" and done["migrations"]["completed"] == 3, done
    all_moved(c)


def test_what_is_malformed_is_refused(cluster):
    a = cluster.a
    refused("invalid", a, "fleet.migrate", machine="web1", no_such_member=1)
    refused("invalid", a, "fleet.migrate", machine="web1", key=5)
    refused("protocol", a, "fleet.nodes", limit=0)
    refused("invalid", a, "fleet.nodes", cursor="???")
    refused("not_found", a, "fleet.get", id="mig-0000000000000000")
    refused("not_found", a, "fleet.get", id="eva-0000000000000000")
    refused("not_found", a, "fleet.migrate", machine="nobody")
