# SPDX-License-Identifier: Apache-2.0
"""The fleet's controller in novacrond: it looks at nodes, moves machines by their agents, and goes on after it was killed."""

import json
import random
import re
import shutil
import signal
import subprocess
import time

import jsonschema
import pytest
from gate_bed import UnixConnection, exchange
from nctest.cluster import Cluster, Refused, guest_spec
from nctest.disks import LocalDisks, in_mounts_of
from nctest.net import wait_for
from nctest.websocket import Follower
from with_postgres import Cluster as Postgres
from with_postgres import find_programs

MACHINES = ("web1", "web2", "web3")
SLOW = 2_000_000  # bytes per second


def restart(node, **settings):
    node.settings.update(settings)
    node.write_config()
    node.stop()
    node.start()


def names(answer):
    return sorted(item["name"] for item in answer["items"])


def seen(c, by=None):
    """Where the controller takes each machine to be."""
    return {m["name"]: m["node"] for m in (by or c.a).call("fleet.machines")["items"]}


def wait_leads(node):
    """What it hears of nodes, it hears when it leads; a lease that was not given back runs out first."""
    wait_for(lambda: node.call("fleet.status")["leads"], 30, "the controller to lead")


def wait_seen(c, where, by=None):
    """And that they run: it hears of that up to two seconds later, and what is stopped can't move."""
    def is_seen():
        machines = (by or c.a).call("fleet.machines")["items"]
        return {m["name"]: m["node"] for m in machines} == where and all(m["state"] == "running" for m in machines)
    wait_for(is_seen, 60, lambda: f"the controller to see {where}; it sees {seen(c, by)}")


def asked(node, op, **args):
    """None while nobody can answer."""
    try:
        return node.call(op, **args)
    except Refused as refusal:
        if refusal.code not in ("unavailable", "unreachable", "timeout"):
            raise
        return None


def wait_end(c, id, by=None):
    def has_ended():
        record = asked(by or c.a, "fleet.get", id=id)
        return record if record and record["is_finished"] else None
    wait_for(has_ended, 150, lambda: f"the end of {(by or c.a).call('fleet.get', id=id)}")
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


class Rest:
    """The API of a node's gate. Every answer has to be one that its document describes."""

    def __init__(self, node):
        self.node = node
        self.document = None

    def call(self, method, path, body=None, key=None):
        return exchange(UnixConnection(self.node.api), method, "/api/v2/" + path, body, {"Idempotency-Key": key} if key else None)

    def ask(self, status, method, pattern, body=None, key=None, id="", query=""):
        self.document = self.document or self.call("GET", "openapi.json").json
        answer = self.call(method, pattern.replace("{id}", id).replace("{name}", id) + query, body, key)
        assert answer.status == status, answer.text
        responses = self.document["paths"]["/api/v2/" + pattern][method.lower()]["responses"]
        described = responses[str(status)]
        if "$ref" in described:
            described = self.document["components"]["responses"]["Problem"]
            assert answer.headers["Content-Type"] == "application/problem+json"
        content = next(iter(described["content"].values()))
        jsonschema.validate(answer.json, {**content["schema"], "components": self.document["components"]})
        if "Location" in described.get("headers", {}):
            assert answer.headers["Location"].endswith("/" + answer.json["id"])
        return answer.json

    def check_messages(self, messages, schema):
        """Each is what the document says, ids ascend, and of events none comes twice; nothing is missing."""
        self.document = self.document or self.call("GET", "openapi.json").json
        described = {"$ref": f"#/components/schemas/{schema}", "components": self.document["components"]}
        for message in messages:
            jsonschema.validate(message, described)
        ids = [message["id"] for message in messages]
        own = [message["id"] for message in messages if message["type"] != "progress"]
        assert ids == sorted(ids) and len(set(own)) == len(own) and not any(message["type"] == "gap" for message in messages), messages
        return own

    def wait_end(self, pattern, id):
        wait_for(lambda: self.ask(200, "GET", pattern, id=id)["is_finished"], 150, lambda: f"the end of {self.ask(200, 'GET', pattern, id=id)}")
        return self.ask(200, "GET", pattern, id=id)

    def pages(self, pattern, query="", id=""):
        """The whole list, by two items on a page; and how many pages that were."""
        items, pages, cursor = [], 0, ""
        while cursor is not None:
            page = self.ask(200, "GET", pattern, id=id, query=f"?limit=2{query}{cursor}")
            items, pages = items + page["items"], pages + 1
            cursor = page["next"] and f"&cursor={page['next']}"
        return items, pages

    def cordoned(self):
        return [n["name"] for n in self.ask(200, "GET", "fleet/nodes")["items"] if n["is_cordoned"]]


@pytest.fixture(scope="module")
def shared():
    with Cluster(rate="1gbit", delay="2ms", connect_timeout_ms="1500", fleet_memory_mib="4096", fleet_vcpus="64") as c:
        c.boot(spec=guest_spec(memory_mib=96, ws=8, rate=1))
        for name in MACHINES[1:]:
            c.boot(spec=guest_spec(name=name, memory_mib=96, ws=8, rate=1, nic=False))
        c.watch_runners("web1")
        restart(c.a, controller="yes")
        for node in (c.a, c.b):
            node.start_gate()
        c.rest = Rest(c.a)
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
    wait_leads(c.a)
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
    wait_leads(c.a)
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


def test_a_node_that_can_not_be_called_calls(cluster):
    """As behind NAT: nothing reaches its port, and it is asked, and given orders, over the connection that it made itself."""
    c = cluster
    assert wait_end(c, c.a.call("fleet.migrate", machine="web2", destination="host-b")["id"])["state"] == "completed"
    listen = c.b.settings["listen"]
    restart(c.b, listen="127.0.0.1:7450")
    try:
        direct = c.a.wait_migration(c.a.call("migration.create", vm="web1", to="host-b", retry_attempts=0)["id"])
        assert direct["error"]["code"] == "unreachable", direct["error"]
        id = c.a.call("fleet.migrate", machine="web2", destination="host-a")["id"]
        assert wait_end(c, id)["state"] == "completed"
        wait_seen(c, dict.fromkeys(MACHINES, "host-a"))
    finally:
        restart(c.b, listen=listen)


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


def test_killed_in_the_middle_an_evacuation_goes_on(cluster):
    """With it dies the source's agent, which is the same process: what it had begun ends there and is tried again. Then once more, anywhere."""
    c = cluster
    id = c.a.call("fleet.evacuate", nodes=["host-a"], bandwidth_limit_bps=2 * SLOW)["id"]
    wait_for(lambda: any(m["state"] == "running" for m in c.a.call("fleet.list", evacuation=id)["items"]), 60, "one to be under way")
    epoch = c.a.call("fleet.status")["epoch"]
    for moment in (0, random.uniform(0, 5)):
        print(f"killed {moment:.3f} s after it led")
        time.sleep(moment)
        c.a.kill()
        c.a.start()
        wait_leads(c.a)
    assert c.a.call("fleet.status")["epoch"] >= epoch + 2
    done = wait_end(c, id)
    assert done["state"] == "completed" and done["migrations"]["completed"] == 3, done
    all_moved(c)


def told_of_disks(c, node, directory):
    """What ${node} has said of the file system ${directory} is on; None: nothing."""
    row, = [n for n in c.a.call("fleet.nodes")["items"] if n["name"] == node.name]
    return next((fs for fs in row["file_systems"] if directory in fs["directories"]), None)


@pytest.mark.skipif(not shutil.which("qemu-img"), reason="qemu-img is not installed")
def test_a_machine_goes_where_its_disks_have_room(cluster):
    """host-b has too little for it, and says so; when there is enough, it goes there, and what it has taken is not free any more."""
    c = cluster
    disks = LocalDisks(c.bed, c.a, c.b, tmpfs={"host-b": "40m"})
    wait_leads(c.a)
    path = disks.make(c.a, format="raw")
    with open(disks.image(c.a), "r+b") as image:
        image.write(random.Random(5).randbytes(64 << 20))
    try:
        c.boot(spec=guest_spec(name="db1", memory_mib=96, ws=8, rate=1, nic=False, disks=[{"name": "root", "path": path, "format": "raw"}]))
        wait_for(lambda: told_of_disks(c, c.b, disks.path), 60, "host-b to tell of its file system")
        plan = c.a.call("fleet.plan", nodes=["host-a"])
        assert sorted(m["machine"] for m in plan["moves"]) == sorted(MACHINES), plan
        stays, = plan["cannot_move"]
        lack = rf"host-b: (6[4-9]|[78]\d) MiB of disk needed in {re.escape(disks.path)}, (3\d|40) free; a disk that both nodes see needs none, with `shared = yes` in the machine's file"
        assert stays["machine"] == "db1" and re.search(rf"1 lacks disk \({lack}\)", stays["reason"]), stays
        shown = c.a.cli("fleet", "evacuate", "host-a", "--plan", check=False)
        assert shown.returncode == 6 and re.search(lack, " ".join(shown.stdout.split())), shown
        told = c.rest.ask(200, "GET", "fleet/machines/{name}/placement", id="db1")
        assert told["chosen"] is None and {n["node"]: n["refused"] for n in told["nodes"]} == {"host-a": "own_node", "host-b": "disk"}, told
        assert any(re.fullmatch(lack, f"{n['node']}: {n['detail']}") for n in told["nodes"]), told
        shown = c.a.cli("fleet", "migrate", "db1", "--explain", check=False)
        assert shown.returncode == 6 and re.search(lack, " ".join(shown.stdout.split())), shown
        c.rest.ask(200, "GET", "fleet/nodes")
        c.rest.ask(200, "GET", "fleet/machines")
        id = c.a.call("fleet.migrate", machine="db1")["id"]
        wait_for(lambda: re.search(lack, c.a.call("fleet.get", id=id)["live"]["waits"]), 30, "it to wait for room")
        in_mounts_of(c.b, "mount", "-o", "remount,size=250m", disks.path)
        done = wait_end(c, id)
        assert done["state"] == "completed" and c.b.state("db1") == "running", done
        wait_for(lambda: told_of_disks(c, c.b, disks.path)["free_bytes"] < 190 << 20, 30, "host-b to tell that it has less")
        assert 100 << 20 < told_of_disks(c, c.b, disks.path)["free_bytes"]
    finally:
        c.cancel_all()
        for node in (c.a, c.b):
            if node.state("db1") == "running":
                node.call("machine.stop", name="db1", force=True)
                wait_for(lambda: node.state("db1") == "stopped", 20, "the machine to stop")
            if node.state("db1") is not None:
                node.call("machine.destroy", name="db1")
    wait_seen(c, dict.fromkeys(MACHINES, "host-a"))


def say_uplinks(c, node, text):
    """A node says what links are behind it, and the controller has heard it."""
    node.settings["uplinks"] = text
    node.write_config()
    node.process.send_signal(signal.SIGHUP)

    def heard():
        row, = [n for n in c.a.call("fleet.nodes")["items"] if n["name"] == node.name]
        return ", ".join(f"{link['name']}:{link['rate_bps']}" for link in row["detail"].get("links", [])) == text
    wait_for(heard, 30, f"the controller to hear of {text or 'no links'}")


def test_a_link_that_nodes_share_is_divided(cluster):
    """Two migrations go over the uplink of host-a's site: together they get what it has."""
    c = cluster
    wait_leads(c.a)
    wait_seen(c, dict.fromkeys(MACHINES, "host-a"))
    say_uplinks(c, c.a, f"rack-1:{10 * SLOW}, site-a:{SLOW}")
    try:
        plan = c.a.call("fleet.plan", nodes=["host-a"])
        assert not plan["is_at_least"] and plan["seconds"] > 5, plan
        ids = [c.a.call("fleet.migrate", machine=name, destination="host-b")["id"] for name in ("web1", "web2")]

        def rates():
            lives = [c.a.call("fleet.get", id=id).get("live") or {} for id in ids]
            rates = [live.get("rate_bps", 0) for live in lives]
            return rates if all(rates) else None
        assert sum(wait_for(rates, 60, "both to run")) == SLOW
        for id in ids:
            wait_for(lambda: c.a.call("migration.get", id=id + ".1")["rate_limit_bps"] == SLOW // 2, 60, "its mover to be told")
            c.a.call("fleet.cancel", id=id)
        assert {wait_end(c, id)["state"] for id in ids} == {"cancelled"}
    finally:
        c.cancel_all()
        say_uplinks(c, c.a, "")
    wait_seen(c, dict.fromkeys(MACHINES, "host-a"))


# --- the same by the command line, over the gate ---

def fleet_json(c, *arguments, check=True):
    return json.loads(c.a.cli("fleet", *arguments, "--json", check=check).stdout)


def test_the_command_line_moves_a_machine_and_looks(cluster):
    c = cluster
    out = c.a.cli("fleet", "migrate", "web1", "--to", "host-b", "--priority", "high", "--wait")
    id = re.search(r"^mig-\w+", out.stdout).group()
    assert "web1, host-a -> host-b" in out.stdout and "completed" in out.stdout, out.stdout
    shown = fleet_json(c, "show", id)
    assert shown["state"] == "completed" and shown["priority"] == "high" and shown["actor"] == "uid:0", shown
    assert id in [m["id"] for m in fleet_json(c, "list", "--machine", "web1", "--all")["items"]]
    assert fleet_json(c, "list", "--unfinished")["items"] == []
    assert fleet_json(c, "status")["leads"] is True
    wait_for(lambda: names(fleet_json(c, "machines", "--node", "host-b")) == ["web1"], 60, "the machine to be seen there")
    c.assert_healthy("web1", c.b)
    assert "completed" in c.a.cli("status", id).stdout and json.loads(c.a.cli("status", id, "--json").stdout) == shown
    told = c.a.cli("report", id, check=False)
    assert told.returncode == 2 and f"{id}.1 and so on, on the node that it leaves (novacron fleet show {id})" in told.stderr, told
    batch = fleet_json(c, "batch", "web1:host-a", "nobody", "--bandwidth", str(SLOW), check=False)
    assert [i["machine"] for i in batch["items"] if i["migration"]] == ["web1"] and "nobody" in batch["items"][1]["reason"], batch
    out = c.a.cli("fleet", "migrate", "web1", check=False)
    assert out.returncode == 5 and "web1" in out.stderr, out
    wait_for(lambda: fleet_json(c, "show", batch["id"])["migrations"]["completed"] == 1, 150, "the batch to end")
    c.assert_healthy("web1", c.a)


def test_the_command_line_evacuates_a_node(cluster):
    c = cluster
    out = c.a.cli("fleet", "evacuate", "host-a", "--plan")
    assert "3 to move" in out.stdout and all(name in out.stdout for name in MACHINES), out.stdout
    assert fleet_json(c, "list", "--unfinished")["items"] == []
    out = c.a.cli("fleet", "evacuate", "host-a", "--yes", "--wait", "--json")
    done = json.loads(out.stdout)
    assert done["state"] == "completed" and done["migrations"]["completed"] == 3 and done["not_moved"] == [], done
    assert " done, 0 failed, " in out.stderr, out.stderr
    all_moved(c)
    out = c.a.cli("fleet", "migrate", "web1", "--to", "host-a", "--wait", check=False)
    assert out.returncode == 6 and "host-a" in out.stderr, out
    c.a.cli("fleet", "uncordon", "host-a")
    assert not any(n["is_cordoned"] for n in fleet_json(c, "nodes")["items"])


def test_an_evacuation_is_left_running_and_then_cancelled(cluster):
    c = cluster
    process = subprocess.Popen([c.a.program("cli", "novacron"), "--socket", c.a.api, "fleet", "evacuate", "host-a", "--yes", "--wait",
                                "--bandwidth", str(SLOW // 4)], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        wait_for(lambda: any(m["state"] == "running" for m in fleet_json(c, "list", "--unfinished")["items"]), 60, "one to be under way")
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130, err
    id = re.search(r"novacron fleet cancel (eva-\w+)", err).group(1)
    assert fleet_json(c, "show", id)["state"] == "running"
    out = c.a.cli("fleet", "cancel", id, "--also-running", "--reason", "enough")
    assert "being cancelled" in out.stdout, out.stdout
    done = wait_end(c, id)
    assert done["state"] == "cancelled" and done["migrations"]["cancelled"] == 3, done
    out = c.a.cli("fleet", "cancel", id, check=False)
    assert out.returncode == 5 and "cancelled already" in out.stderr, out
    assert {name: c.a.state(name) for name in MACHINES} == dict.fromkeys(MACHINES, "running")
    c.assert_healthy("web1", c.a)


def test_what_is_malformed_is_refused(cluster):
    a = cluster.a
    refused("invalid", a, "fleet.migrate", machine="web1", no_such_member=1)
    refused("invalid", a, "fleet.migrate", machine="web1", key=5)
    refused("protocol", a, "fleet.nodes", limit=0)
    refused("invalid", a, "fleet.nodes", cursor="???")
    refused("not_found", a, "fleet.get", id="mig-0000000000000000")
    refused("not_found", a, "fleet.get", id="eva-0000000000000000")
    refused("not_found", a, "fleet.migrate", machine="nobody")


# --- over REST ---

def test_rest_says_who_leads(cluster):
    c = cluster
    assert c.rest.ask(200, "GET", "fleet")["leads"]
    machines, pages = c.rest.pages("fleet/machines", "&node=host-a")
    assert [m["name"] for m in machines] == list(MACHINES) and pages == 2
    assert Rest(c.b).ask(200, "GET", "fleet")["controller"] == "host-a"  # handed on
    assert names(Rest(c.b).ask(200, "GET", "fleet/nodes")) == ["host-a", "host-b"]
    problem = Rest(c.b).ask(403, "POST", "migrations/evacuate", {"nodes": ["host-a"]})
    assert "fleet_gates" in problem["detail"] and "host-b" in problem["detail"], problem
    for pattern, id in (("fleet/migrations/{id}", "mig-none"), ("fleet/batches/{id}", "bat-none"), ("fleet/evacuations/{id}", "eva-none")):
        c.rest.ask(404, "GET", pattern, id=id)
        c.rest.ask(404, "POST", pattern + "/cancel", id=id)


def test_rest_moves_a_machine_once(cluster):
    c, wish = cluster, {"machine": "web1", "bandwidth_limit_bps": 2 * SLOW, "priority": "high"}
    made = c.rest.ask(201, "POST", "fleet/migrations", wish, key="move web1")
    assert c.rest.ask(201, "POST", "fleet/migrations", wish, key="move web1") == made
    path = f"/api/v2/migrations/{made['id']}/ws"
    watching = [Follower(node.api, path) for node in (c.a, c.b)]  # at the leader's gate, and at one whose node has no controller
    c.rest.ask(409, "POST", "fleet/migrations", {"machine": "web2"}, key="move web1")
    c.rest.ask(409, "POST", "fleet/migrations", wish)  # it has one that has not ended
    under_way = c.rest.ask(200, "GET", "fleet/migrations", query="?unfinished=true")["items"]
    assert [m["id"] for m in under_way] == [made["id"]]
    assert c.rest.ask(200, "GET", "migrations/{id}", id=made["id"])["state"] in ("queued", "starting", "running")
    status = c.rest.ask(200, "GET", "migrations/{id}/status", id=made["id"])
    assert status["vm"] == "web1" and status["source"] == "host-a" and status["outcome"] is None and status["phase"] != "completed", status
    done = c.rest.wait_end("fleet/migrations/{id}", made["id"])
    assert done["state"] == "completed" and done["destination"] == "host-b" and done["attempts"] == 1 and done["priority"] == "high", done
    c.assert_healthy("web1", c.b)
    check_watched_move(c, path, watching, done)
    assert c.rest.ask(201, "POST", "fleet/migrations", wish, key="move web1") == made  # also when it has ended
    for pattern in ("fleet/migrations/{id}/cancel", "migrations/{id}/cancel"):
        assert "completed already" in c.rest.ask(409, "POST", pattern, id=made["id"])["detail"]
    status = c.rest.ask(200, "GET", "migrations/{id}/status", id=made["id"])
    assert status["outcome"] == "completed" and status["progress"] == 100 and status["pause_ms"] == done["result"]["pause_ms"], status
    assert f"{made['id']}.1" in c.rest.ask(404, "GET", "migrations/{id}/metrics", id=made["id"])["detail"]
    c.rest.ask(200, "GET", "migrations/{id}/metrics", id=made["id"] + ".1")
    page = c.rest.ask(200, "GET", "fleet/migrations", query="?machine=web1&limit=1")
    assert [m["id"] for m in page["items"]] == [made["id"]]
    assert done["actor"] == "uid:0"
    entry = next(e for e in c.a.call("audit.list", kind="request", limit=100) if e["detail"].get("args", {}).get("key") == "move web1")
    assert entry["actor"] == "uid:0" and entry["subject"] == "web1" and entry["detail"]["op"] == "fleet.migrate"
    # The same word of somebody else is another key.
    assert c.a.call("fleet.uncordon", node="host-b", key="move web1") == {"node": "host-b", "is_cordoned": False}


def check_watched_move(c, path, watching, done):
    told = []
    for follower in watching:
        told.append(c.rest.check_messages(follower.wait_end(), "WatchMessage"))
        events, samples = follower.events(), follower.samples()
        phases = [m["data"]["phase"] for m in events if m["type"] == "phase"]
        assert phases[0] == "queued" and "memory_copy" in phases, phases
        assert events[-1]["type"] == "completed" and events[-1]["data"]["wire_bytes"] == done["result"]["wire_bytes"], events[-1]
        assert any(s["phase"] == "memory_copy" and s["transfer_rate"] > 0 and s["progress"] > 0 for s in samples), samples
    assert told[0] == told[1] == [e["id"] for e in c.rest.ask(200, "GET", "fleet/events", query=f"?after=0&migration={done['id']}")["items"]]
    middle = told[0][len(told[0]) // 2]
    rest = Follower(c.b.api, f"{path}?since={middle}").wait_end()
    assert [m["id"] for m in rest if m["type"] != "progress"] == [id for id in told[0] if id > middle]


def test_rest_evacuates_a_node(cluster):
    c, wish = cluster, {"nodes": ["host-a"], "bandwidth_limit_bps": 4 * SLOW}
    plan = c.rest.ask(200, "POST", "fleet/evacuations/plan", wish)
    assert sorted(m["machine"] for m in plan["moves"]) == list(MACHINES) and plan["empties"] and plan["seconds"] > 0, plan
    assert not c.rest.cordoned()  # nothing is changed
    made = c.rest.ask(201, "POST", "migrations/evacuate", wish, key="empty a")
    assert made["id"] in [e["id"] for e in c.rest.ask(200, "GET", "fleet/evacuations", query="?limit=5")["items"]]
    assert made["state"] == "planned" and sorted(m["machine"] for m in made["plan"]["moves"]) == list(MACHINES)
    assert c.rest.ask(201, "POST", "migrations/evacuate", wish, key="empty a") == made
    watching = [Follower(node.api, f"/api/v2/fleet/evacuations/{made['id']}/ws") for node in (c.a, c.b)]
    assert made["id"] in c.rest.ask(409, "POST", "migrations/evacuate", wish, key="empty it again")["detail"]
    assert made["id"] in c.rest.ask(409, "POST", "fleet/nodes/{name}/uncordon", id="host-a")["detail"]
    done = c.rest.wait_end("fleet/evacuations/{id}", made["id"])
    assert done["state"] == "completed" and done["migrations"]["completed"] == 3 and done["actor"] == "uid:0", done
    check_watched_evacuation(c, watching)
    items, pages = c.rest.pages("fleet/evacuations/{id}/items", id=made["id"])
    assert sorted((i["machine"], i["state"], i["destination"]) for i in items) == [(name, "completed", "host-b") for name in MACHINES] and pages == 2, items
    events = c.rest.ask(200, "GET", "fleet/events", query="?limit=1000")
    told = [e["detail"]["state"] for e in events["items"] if e["subject"] == made["id"]]
    assert told == ["planned", "running", "completed"] and events["items"][-1]["id"] == events["newest"], told
    moved, pages = c.rest.pages("fleet/migrations", f"&finished=true&evacuation={made['id']}")
    assert sorted(m["machine"] for m in moved) == list(MACHINES) and pages == 2 and {m["actor"] for m in moved} == {f"evacuation:{made['id']}"}
    all_moved(c)
    assert c.rest.cordoned() == ["host-a"]
    unfit = c.rest.ask(422, "POST", "fleet/migrations", {"machine": "web1", "destination": "host-a"})
    assert "host-a" in unfit["detail"], unfit
    c.rest.ask(409, "POST", "fleet/evacuations/{id}/cancel", id=made["id"])
    assert not c.rest.ask(200, "POST", "fleet/nodes/{name}/uncordon", id="host-a")["is_cordoned"]
    assert not c.rest.cordoned()


def check_watched_evacuation(c, watching):
    told = [c.rest.check_messages(follower.wait_end(), "FleetWatchMessage") for follower in watching]
    assert told[0] == told[1]
    for follower in watching:
        events, samples = follower.events(), follower.samples()
        assert [m["data"]["phase"] for m in events if m["type"] == "phase"] == ["planned", "running"]
        assert events[-1]["type"] == "completed" and events[-1]["data"] == {"outcome": "completed", "error": None}
        ended = [m["data"]["migration"] for m in events if m["data"].get("facts", {}).get("state") == "completed"]
        assert len(ended) == len(set(ended)) == 3
        known = [s for s in samples if s["progress"] is not None]
        assert all(s["total"] == 3 for s in known) and [s["done"] for s in known] == sorted(s["done"] for s in known), known
        assert any(part["phase"] == "memory_copy" and part["progress"] > 0 for s in known for part in s["running"]), known
        assert any(s["eta_basis"] for s in known), known


def test_rest_takes_a_batch_whole_or_not(cluster):
    c = cluster
    before = c.rest.ask(200, "GET", "fleet/migrations")
    slow = {"bandwidth_limit_bps": SLOW // 2, "algorithm": "pre-copy"}
    malformed = [{"machine": "web1"}, {"machine": "web2", "streams": 0}]
    assert "migrations[1]" in c.rest.ask(400, "POST", "migrations/batch", {"migrations": malformed})["detail"]
    refused_batch = c.rest.ask(201, "POST", "migrations/batch", {"policy": "all", "migrations": [{"machine": "web1"}, {"machine": "nobody"}]})
    assert refused_batch["submitted"] == 0 and "nobody" in refused_batch["items"][1]["reason"], refused_batch
    assert c.rest.ask(200, "GET", "fleet/migrations") == before
    made = c.rest.ask(201, "POST", "migrations/batch", {"migrations": [{"machine": "web2", **slow}, {"machine": "nobody"}, {"machine": "web3", **slow}]},
                      key="two of three")
    assert made["submitted"] == 2 and [bool(i["migration"]) for i in made["items"]] == [True, False, True], made
    assert c.rest.ask(202, "POST", "fleet/batches/{id}/cancel", {"also_running": True, "reason": "enough"}, id=made["id"])["id"] == made["id"]
    for item in (made["items"][0], made["items"][2]):
        done = c.rest.wait_end("fleet/migrations/{id}", item["migration"])
        assert done["state"] == "cancelled" and done["reason"] == "enough" and done["batch"] == made["id"], done
    batch = c.rest.ask(200, "GET", "fleet/batches/{id}", id=made["id"])
    assert batch["migrations"]["cancelled"] == 2 and batch["actor"] == "uid:0", batch


# --- two controllers, on PostgreSQL ---

@pytest.fixture(scope="module")
def postgres(shared):
    if not find_programs():
        pytest.skip("PostgreSQL is not installed (scripts/setup-debian.sh --all installs it)")
    server = Postgres(find_programs())
    try:
        server.create()
        server.start()
        yield server
    finally:
        for node in (shared.a, shared.b):  # which would wait for it
            node.kill()
        server.stop()
        shutil.rmtree(server.dir, ignore_errors=True)


@pytest.fixture()
def pair(shared, postgres):
    """Both nodes have a controller; host-b's leads. The machines are together on one of them, `source`."""
    c = shared
    for node, other in ((c.a, c.b), (c.b, c.a)):
        if node.is_dead():
            node.start()
        if "database" not in node.settings:
            node.stop()
            node.settings.update(controller="yes", controllers=other.name, database=postgres.url)
            node.write_config()
            node.start()
    if c.a.call("fleet.status")["leads"]:
        c.a.stop()
        wait_leads(c.b)
        c.a.start()
    wait_leads(c.b)
    c.source = c.a if c.a.state("web1") == "running" else c.b
    c.target = c.other(c.source)
    for name in MACHINES:
        if c.source.state(name) != "running":
            assert c.target.wait_migration(c.target.call("migration.create", vm=name, to=c.source.name)["id"])["outcome"] == "completed"
    wait_seen(c, dict.fromkeys(MACHINES, c.source.name), c.b)
    for node in (c.a, c.b):
        c.b.call("fleet.uncordon", node=node.name)
    return c


def check_moved(c, id):
    """All have moved, each by one migration, and what the agents have begun are its attempts, each once."""
    moves = c.b.call("fleet.list", **{"evacuation" if id.startswith("eva") else "batch": id})["items"]
    assert sorted(m["machine"] for m in moves) == list(MACHINES) and {m["state"] for m in moves} == {"completed"}, moves
    begun = [x["id"] for node in (c.a, c.b) for x in node.call("migration.list", limit=1000)["items"] if x["role"] == "source"]
    for move in moves:
        mine = sorted(x for x in begun if x.startswith(move["id"]))
        assert set(mine) <= {f"{move['id']}.{n}" for n in range(1, move["attempts"] + 1)} and len(mine) == len(set(mine)), (move, mine)
        assert f"{move['id']}.{move['attempts']}" in mine, (move, mine)
    for name in MACHINES:
        assert c.target.state(name) == "running" and c.source.state(name) != "running", name
        assert not c.complaints(name)
    c.assert_healthy("web1", c.target)
    assert c.observer.double == 0, "two runners were seen"
    return moves


def test_the_leader_is_killed_in_the_middle_of_an_evacuation(pair):
    """The other one leads, and goes on. It was asked while it did not lead; the agent of one side died with the leader."""
    c = pair
    id = c.a.call("fleet.evacuate", nodes=[c.source.name], bandwidth_limit_bps=2 * SLOW)["id"]
    assert c.b.call("fleet.get", id=id)["actor"] == "uid:root via host-a"
    follower = Follower(c.a.api, f"/api/v2/fleet/evacuations/{id}/ws")
    wait_for(lambda: any(m["state"] == "running" for m in c.a.call("fleet.list", evacuation=id)["items"]), 60, "one to be under way")
    epoch, before = c.b.call("fleet.status")["epoch"], {m["id"] for m in c.a.call("fleet.list", evacuation=id)["items"]}
    c.b.kill()
    killed = time.monotonic()
    wait_leads(c.a)
    print(f"the other one leads {time.monotonic() - killed:.1f} s after the kill")
    assert c.a.call("fleet.status")["epoch"] == epoch + 1
    assert {m["id"] for m in c.a.call("fleet.list", evacuation=id)["items"]} >= before, "some were lost"
    c.b.start()
    done = wait_end(c, id)
    assert done["state"] == "completed" and done["migrations"]["completed"] == 3, done
    check_moved(c, id)
    c.rest.check_messages(follower.wait_end(), "FleetWatchMessage")  # nobody was cut off, and nothing is missing
    assert follower.events()[-1]["type"] == "completed"
    ended = [m["data"]["migration"] for m in follower.events() if m["data"].get("facts", {}).get("state") == "completed"]
    assert set(ended) == {m["id"] for m in c.b.call("fleet.list", evacuation=id)["items"]}


def test_postgresql_is_restarted_in_the_middle_of_a_batch(pair, postgres):
    c = pair
    id = c.a.call("fleet.batch", migrations=[{"machine": name, "destination": c.target.name, "bandwidth_limit_bps": 2 * SLOW} for name in MACHINES])["id"]
    wait_for(lambda: any(m["state"] == "running" for m in c.a.call("fleet.list", batch=id)["items"]), 60, "one to be under way")
    postgres.stop()
    postgres.start()
    wait_for(lambda: (asked(c.a, "fleet.get", id=id) or {"migrations": {}})["migrations"].get("completed") == 3, 150,
             lambda: f"the end of {c.a.call('fleet.list', batch=id)}")
    assert {m["attempts"] for m in check_moved(c, id)} == {1}
