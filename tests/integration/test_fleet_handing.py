# SPDX-License-Identifier: Apache-2.0
"""Two controllers on one PostgreSQL and a node without one: whatever is asked of the fleet is done, wherever; and who may not hand it on.

No machines: nodes are cordoned. What becomes of migrations when a leader dies is in test_fleet.py.
"""

import os
import pathlib
import re
import select
import shutil
import signal
import subprocess
import tempfile
import time

import pytest
from gate_bed import GATE, UnixConnection, exchange
from nctest.peer import Peer
from nctest.websocket import Follower
from test_daemon import MAKE_PKI, NOVACROND, Connection, Node, Refused, join, wait_for
from with_postgres import Cluster as Postgres
from with_postgres import find_programs

CLI = NOVACROND.parent.parent / "cli/novacron"
pytestmark = [pytest.mark.skipif(not NOVACROND.exists() or not MAKE_PKI.exists(), reason=f"{NOVACROND} is not built"),
              pytest.mark.skipif(not find_programs(), reason="PostgreSQL is not installed (scripts/setup-debian.sh --all installs it)")]
ALICE = {"kind": "certificate", "name": "alice", "role": "admin", "from": "192.0.2.9"}
ROOT = {"kind": "uid", "name": "0", "role": "admin", "from": "control socket"}


class Fleet:
    """host-a and host-b have controllers, host-c has none."""

    def __init__(self, directory, postgres):
        self.postgres = postgres
        self.a = Node(directory, "host-a", controller="yes", controllers="host-b", fleet_gates="host-c", database=postgres.url)
        self.b = Node(directory, "host-b", pki=False, controller="yes", controllers="host-a", fleet_gates="host-c", database=postgres.url)
        self.c = Node(directory, "host-c", pki=False, controllers="host-a, host-b")
        self.nodes = (self.a, self.b, self.c)
        self.gates = []
        self.a.start()
        for node in (self.b, self.c):
            out = join(node, self.a.call("node.token")["token"], self.a)
            assert out.returncode == 0, out.stderr
            node.start()
        for node in self.nodes:
            node.api = node.dir / "api.sock"
            with open(node.log, "ab") as log:
                self.gates.append(subprocess.Popen([GATE, "--control", node.control, "--socket", node.api, "--no-https"], stdout=log, stderr=log))
            wait_for(node.api.exists, 10, "the gate")

    def close(self):
        for gate in self.gates:
            gate.kill()
            gate.wait()
        for node in self.nodes:
            node.close()

    def roles(self):
        """The one that leads and the other; None while none does."""
        for leader, other in ((self.a, self.b), (self.b, self.a)):
            try:
                if leader.call("fleet.status")["leads"]:
                    return leader, other
            except (OSError, ConnectionError, Refused):
                pass
        return None

    def ready(self):
        """All run as they were configured, one leads and has seen all nodes, none is cordoned."""
        for node in self.nodes:
            if not node.process:
                node.start()
        leader, other = wait_for(self.roles, 40, "one to lead")
        wait_for(lambda: sorted(n["name"] for n in leader.call("fleet.nodes")["items"]) == ["host-a", "host-b", "host-c"], 30, "all nodes to be seen")
        for name in cordoned(leader):
            wait_for(lambda: try_ask(leader, "fleet.uncordon", node=name), 20, "it to be uncordoned")
        wait_for(lambda: try_ask(other, "fleet.plan", nodes=["host-c"]), 20, "the other to know who leads")
        return leader, other


def ask(at, op, who=ALICE, /, **args):
    c = Connection(at.control)
    try:
        c.send({"id": 1, "op": op, "identity": who, "args": args})
        answer = c.receive()
    finally:
        c.close()
    if not answer["ok"]:
        raise Refused(answer["error"])
    return answer["result"]


def try_ask(at, op, /, **args):
    try:
        return ask(at, op, **args)
    except Refused as refusal:
        if refusal.code not in ("unavailable", "unreachable", "timeout"):
            raise
        return None


def refused(at, code, op, who=ALICE, /, **args):
    with pytest.raises(Refused) as caught:
        ask(at, op, who, **args)
    assert caught.value.code == code, caught.value
    return caught.value.message


def cordoned(node):
    return [n["name"] for n in node.call("fleet.nodes")["items"] if n["is_cordoned"]]


def requests(node, op):
    return [e for e in node.call("audit.list", kind="request", limit=200) if e["detail"]["op"] == op]


@pytest.fixture(scope="module")
def bed():
    postgres = Postgres(find_programs())
    directory = pathlib.Path(tempfile.mkdtemp(prefix="ncf-", dir="/tmp"))
    fleet = None
    try:
        postgres.create()
        postgres.start()
        fleet = Fleet(directory, postgres)
        yield fleet
    finally:
        if fleet:
            fleet.close()
        postgres.stop()
        shutil.rmtree(postgres.dir, ignore_errors=True)
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def fleet(bed):
    bed.leader, bed.other = bed.ready()
    return bed


def test_questions_are_answered_everywhere(fleet):
    nodes = fleet.leader.call("fleet.nodes")["items"]
    for node in (fleet.other, fleet.c):
        assert [n["name"] for n in node.call("fleet.nodes", role="viewer")["items"]] == [n["name"] for n in nodes]
        assert node.call("fleet.plan", role="viewer", nodes=["host-c"])["empties"]  # which only the leader can tell
        events = node.call("fleet.events", limit=1000)
        assert {"host-a", "host-b", "host-c"} <= {e["subject"] for e in events["items"] if e["kind"] == "node.joined"}, events
        refused(node, "not_found", "fleet.get", id="mig-0000000000000000")
    assert fleet.other.call("fleet.status")["controller"] == fleet.other.name and not fleet.other.call("fleet.status")["leads"]
    status = fleet.c.call("fleet.status")
    assert status["controller"] in ("host-a", "host-b") and status["holder"].startswith(fleet.leader.name), status


def follow_events(fleet):
    """At each gate, from now on."""
    newest = fleet.other.call("fleet.events", limit=1)["newest"]
    return [Follower(node.api, f"/api/v2/fleet/events/ws?since={newest}") for node in fleet.nodes]


def wait_told(followers, kind, subject):
    """The id of that event, which is the same at every gate; then nobody follows any more."""
    def ids():
        found = [[m["id"] for m in f.messages if m["data"].get("event") == kind and m["data"]["subject"] == subject] for f in followers]
        return found if all(found) else None
    try:
        found = wait_for(ids, 40, f"{kind} of {subject} to be told at every gate")
        for follower in followers:
            all_ids = [m["id"] for m in follower.messages]
            assert all_ids == sorted(set(all_ids)) and not any(m["type"] == "gap" for m in follower.messages), follower.messages
    finally:
        for follower in followers:
            follower.close()
    assert len({f[0] for f in found}) == 1, found
    return found[0][0]


def test_events_are_told_at_every_gate(fleet):
    """Also at one whose node has no controller, with the same ids, which are good at each."""
    followers = follow_events(fleet)
    ask(fleet.c, "fleet.cordon", node="host-a")
    id = wait_told(followers, "node.cordoned", "host-a")
    event = fleet.leader.call("fleet.events", after=id - 1, limit=1)["items"][0]
    assert event["id"] == id and event["kind"] == "node.cordoned"
    ask(fleet.other, "fleet.uncordon", node="host-a")
    again = [Follower(node.api, f"/api/v2/fleet/events/ws?since={id}") for node in reversed(fleet.nodes)]
    assert wait_told(again, "node.uncordoned", "host-a") > id
    evacuation = ask(fleet.c, "fleet.evacuate", nodes=["host-c"])["id"]  # which has no machines
    told = [Follower(node.api, f"/api/v2/fleet/evacuations/{evacuation}/ws") for node in fleet.nodes]
    for follower in told:
        assert follower.wait_end()[-1]["type"] == "completed"
        assert [m["type"] for m in follower.events()] == ["phase", "phase", "completed"]
    assert len({tuple(m["id"] for m in follower.events()) for follower in told}) == 1


def test_a_change_is_done_wherever_it_is_asked_for(fleet):
    for node in (fleet.other, fleet.c):
        assert ask(node, "fleet.cordon", node="host-a") == {"node": "host-a", "is_cordoned": True}
        assert cordoned(fleet.leader) == ["host-a"]
        entry = requests(fleet.leader, "fleet.cordon")[0]
        assert entry["actor"] == f"certificate:alice via {node.name}" and entry["subject"] == "host-a", entry
        assert entry["detail"]["from"] == f"node {node.name}" and entry["detail"]["role"] == "operator", entry
        assert requests(node, "fleet.cordon")[0]["actor"] == "certificate:alice"
        result = next(e for e in fleet.leader.call("audit.list", kind="request.result", limit=10) if e["detail"]["op"] == "fleet.cordon")
        assert result["detail"]["ok"] and result["detail"]["request"] == entry["seq"]
        assert ask(node, "fleet.uncordon", node="host-a") == {"node": "host-a", "is_cordoned": False}
        assert "the fleet has no node" in refused(node, "not_found", "fleet.cordon", node="host-x")  # its own words


def test_a_key_is_the_same_persons_at_every_gate(fleet):
    answer = ask(fleet.c, "fleet.cordon", node="host-b", key="once")
    ask(fleet.c, "fleet.uncordon", node="host-b")
    for node in (fleet.leader, fleet.other, fleet.c):
        assert ask(node, "fleet.cordon", node="host-b", key="once") == answer
        assert cordoned(fleet.leader) == [], f"done twice, by {node.name}"
        assert "key" in refused(node, "conflict", "fleet.cordon", node="host-a", key="once")


def test_a_user_id_is_somebody_on_its_node_only(fleet):
    for node in (fleet.c, fleet.other, fleet.leader):
        ask(node, "fleet.cordon", ROOT, node="host-b", key="mine")
        assert cordoned(fleet.leader) == ["host-b"], f"{node.name}'s root was taken for another one"
        ask(node, "fleet.uncordon", ROOT, node="host-b")
        ask(node, "fleet.cordon", ROOT, node="host-b", key="mine")
        assert cordoned(fleet.leader) == []


def test_a_node_that_is_not_named_may_only_ask(fleet):
    """One that was broken into can claim to be anybody."""
    try:
        for node in (fleet.a, fleet.b):
            node.settings["fleet_gates"] = ""
            node.write_config()
            node.process.send_signal(signal.SIGHUP)
        wait_for(lambda: refusal(fleet.c, "fleet.cordon", node="host-a") == "forbidden", 10, "the new configuration")
        message = refused(fleet.c, "forbidden", "fleet.cordon", node="host-a")
        assert "fleet_gates" in message and fleet.leader.name in message and "host-c" in message, message
        refused(fleet.c, "forbidden", "fleet.plan", nodes=["host-c"])
        assert len(fleet.c.call("fleet.nodes")["items"]) == 3
        assert cordoned(fleet.leader) == []
        assert ask(fleet.other, "fleet.cordon", node="host-a")["is_cordoned"]  # controllers take it of each other
        assert re.search(r"fleet.cordon, which node host-c hands on for certificate:alice, is refused", fleet.leader.log_text())
    finally:
        for node in (fleet.a, fleet.b):
            node.settings["fleet_gates"] = "host-c"
            node.write_config()
            node.process.send_signal(signal.SIGHUP)
        wait_for(lambda: refusal(fleet.c, "fleet.uncordon", node="host-a") is None, 10, "the old configuration")


def refusal(at, op, /, **args):
    try:
        ask(at, op, **args)
    except Refused as refused_:
        return refused_.code
    return None


class Intruder(Peer):
    """What somebody can do who has broken into `node`: its certificate, and any message."""

    def __init__(self, node, to):
        host, port = to.address.split(":")
        super().__init__((host, int(port)), node.data / "pki", node.name)

    def ask(self, **message):
        return super().ask({"type": "fl_ask", "op": "fleet.cordon", "actor": "certificate:alice", "role": "admin", "args": {"node": "host-a"},
                            **message})


@pytest.mark.parametrize("message,code", [
    ({"role": "viewer"}, "forbidden"), ({"role": "root"}, "forbidden"), ({"role": None}, "forbidden"), ({"op": "fleet.nodes", "role": ""}, "forbidden"),
    ({"op": "machine.destroy"}, "protocol"), ({"op": 7}, "protocol"), ({"actor": ""}, "protocol"), ({"actor": "alice"}, "protocol"),
    ({"actor": "certificate:" + "a" * 300}, "protocol"), ({"args": []}, "protocol"), ({"args": {"node": 5}}, "protocol"),
    ({"op": "fleet.migrate", "args": {"machine": "web1", "no_such_member": 1}}, "invalid"),
])
def test_forged_messages_do_nothing(fleet, message, code):
    peer = Intruder(fleet.c, fleet.leader)
    try:
        answer = peer.ask(**message)
        assert answer["type"] == "refused" and answer["error"]["code"] == code, answer
    finally:
        peer.close()
    assert cordoned(fleet.leader) == []


def test_nothing_is_handed_on_twice(fleet):
    """Who does not lead says who does, however it is asked."""
    peer = Intruder(fleet.c, fleet.other)
    try:
        assert peer.ask() == {"type": "fl_elsewhere", "leader": fleet.leader.name}
        assert peer.ask(op="fleet.nodes", role="viewer", args={})["type"] == "fl_answer"
    finally:
        peer.close()
    assert cordoned(fleet.leader) == []


def test_a_node_has_so_many_under_way(fleet):
    """Sixteen, so that one that floods leaves the leader time for others."""
    server = fleet.postgres.server.pid
    frozen = [server, *map(int, subprocess.run(["pgrep", "-P", str(server)], stdout=subprocess.PIPE, text=True, check=False).stdout.split())]
    peers = [Intruder(fleet.c, fleet.leader) for _ in range(20)]
    try:
        for pid in frozen:  # so that they stay under way
            os.kill(pid, signal.SIGSTOP)
        for peer in peers:
            peer.say({"type": "fl_ask", "op": "fleet.nodes", "actor": "uid:0", "role": "viewer", "args": {}})
        wait_for(lambda: len(select.select([p.s for p in peers], [], [], 0.1)[0]) >= 4, 10, "some to be refused")
    finally:
        for pid in frozen:
            os.kill(pid, signal.SIGCONT)
    answers = [peer.hear() for peer in peers]
    for peer in peers:
        peer.close()
    assert [a["error"]["code"] for a in answers if a["type"] == "refused"].count("resource") == 4, answers


def http(node, path, body=None):
    return exchange(UnixConnection(str(node.api)), "POST", "/api/v2/" + path, body)


def test_the_leader_is_killed(fleet):
    """Until the other leads it is said what is missing; then everything goes on, also for who has asked meanwhile."""
    epoch = fleet.leader.call("fleet.status")["epoch"]
    followers = follow_events(fleet)
    fleet.leader.terminate(signal.SIGKILL)
    began = time.monotonic()
    answer = http(fleet.other, "fleet/nodes/host-c/cordon")
    if answer.status != 200:  # it takes longer than a request, unless this machine stood still
        assert answer.status == 503 and answer.json["code"] == "unavailable" and answer.headers["Retry-After"], answer.text
        assert fleet.leader.name in answer.json["detail"] and "ask again" in answer.json["detail"], answer.json
    away = http(fleet.c, "fleet/nodes/host-c/cordon")
    if away.status != 200:
        assert away.status == 503 and "host-a" in away.json["detail"] and "host-b" in away.json["detail"], away.json
    assert len(fleet.c.call("fleet.nodes")["items"]) == 3  # the other one can read
    out = subprocess.run([CLI, "--socket", fleet.c.api, "node", "cordon", "host-c"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=60)
    assert out.returncode == 0, out.stderr
    print(f"the other one leads {time.monotonic() - began:.1f} s after the kill, at most")
    status = fleet.other.call("fleet.status")
    assert status["leads"] and status["epoch"] == epoch + 1, status
    assert cordoned(fleet.other) == ["host-c"]
    fleet.leader.start()
    wait_for(lambda: not fleet.leader.call("fleet.status")["leads"] and try_ask(fleet.leader, "fleet.uncordon", node="host-c"), 20,
             "the one that was killed to hand on")
    assert cordoned(fleet.other) == [] and fleet.other.call("fleet.status")["epoch"] == epoch + 1
    wait_told(followers, "node.cordoned", "host-c")  # also at the gate whose node was killed


def test_postgresql_is_restarted(fleet):
    fleet.postgres.stop()
    assert try_ask(fleet.c, "fleet.cordon", node="host-a", key="over the restart") is None
    fleet.postgres.start()
    wait_for(lambda: try_ask(fleet.c, "fleet.cordon", node="host-a", key="over the restart"), 40, "a controller to lead")
    assert cordoned(fleet.c) == ["host-a"]


def test_a_controller_without_its_database_asks_the_others(fleet):
    other = fleet.other
    url = other.settings["database"]
    try:
        other.terminate()
        other.settings["database"] = url.replace(fleet.postgres.dir, "/nonexistent")
        other.write_config()
        other.start()
        assert len(other.call("fleet.nodes")["items"]) == 3 and ask(other, "fleet.cordon", node="host-a")["is_cordoned"]
        assert other.call("fleet.status")["controller"] == fleet.leader.name
        assert ask(other, "fleet.uncordon", node="host-a") == {"node": "host-a", "is_cordoned": False}
        assert "the fleet has no node" in refused(other, "not_found", "fleet.cordon", node="host-x")
    finally:
        other.terminate()
        other.settings["database"] = url
        other.write_config()


def test_nobody_to_hand_on_to(fleet):
    """Configured wrongly, it says what to correct."""
    c = fleet.c
    before = c.settings["controllers"]
    try:
        for names, code, words in (("", "conflict", ("no controller on this node", "controllers = ", "controller = yes")),
                                   ("host-x", "unavailable", ("host-x", "ask again", "host-c"))):
            c.settings["controllers"] = names
            c.write_config()
            c.process.send_signal(signal.SIGHUP)
            wait_for(lambda code=code: refusal(c, "fleet.nodes") == code, 10, "the new configuration")
            message = refused(c, code, "fleet.nodes")
            assert all(word in message for word in words), message
    finally:
        c.settings["controllers"] = before
        c.write_config()
        c.process.send_signal(signal.SIGHUP)
        wait_for(lambda: refusal(c, "fleet.nodes") is None, 10, "the old configuration")
    peer = Intruder(fleet.a, c)
    try:
        answer = peer.ask()
        assert answer["error"]["code"] == "conflict" and "has no controller" in answer["error"]["message"], answer
    finally:
        peer.close()
