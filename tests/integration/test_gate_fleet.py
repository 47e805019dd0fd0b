# SPDX-License-Identifier: Apache-2.0
"""The fleet's endpoints of the gate: what novacrond is asked, what is refused before, and what the OpenAPI document says of them."""

import json
import shutil
import time
from http.client import HTTPSConnection

import jsonschema
import pytest

from fake_novacrond import Refusal
from gate_bed import FLEET_BATCH, FLEET_EVACUATION, FLEET_MIGRATION, PROGRESS, Bed, Keys, exchange, free_port, tls_context, bed, document  # noqa: F401
from nctest import websocket
from nctest.net import wait_for
from nctest.websocket import Closed, Refused, WebSocket

MIGRATION, BATCH, EVACUATION = FLEET_MIGRATION["id"], FLEET_BATCH["id"], FLEET_EVACUATION["id"]
SETTINGS = {"priority": "high", "qos": "background", "bandwidth_limit_bps": 5, "retry_attempts": 2, "max_downtime_ms": 100, "algorithm": "pre-copy",
            "compression": "zstd:3", "streams": 4, "max_cpu": 50, "max_throttle": 0, "convergence_timeout_ms": 9000, "checkpoint": True,
            "checkpoint_keep_s": 60, "paths": "10.0.0.2:7450", "disk_chain": "keep"}
# method, path, body, status, operation in the document, novacrond's, its arguments, Location
ENDPOINTS = [
    ("GET", "fleet", None, 200, "fleet.status", "fleet.status", {}, None),
    ("GET", "fleet/nodes", None, 200, "fleet.nodes", "fleet.nodes", {}, None),
    ("GET", "fleet/nodes?limit=1&cursor=node:host-a", None, 200, "fleet.nodes", "fleet.nodes", {"limit": 1, "cursor": "node:host-a"}, None),
    ("POST", "fleet/nodes/host-a/cordon", None, 200, "fleet.cordon", "fleet.cordon", {"node": "host-a"}, None),
    ("POST", "fleet/nodes/host-a/uncordon", {}, 200, "fleet.uncordon", "fleet.uncordon", {"node": "host-a"}, None),
    ("GET", "fleet/machines?node=host-a", None, 200, "fleet.machines", "fleet.machines", {"node": "host-a"}, None),
    ("GET", "fleet/machines/web1/placement", None, 200, "fleet.explain", "fleet.explain", {"name": "web1"}, None),
    ("GET", "fleet/events", None, 200, "fleet.events", "fleet.events", {}, None),
    ("GET", f"fleet/events?after=0&limit=5&migration={MIGRATION}", None, 200, "fleet.events", "fleet.events",
     {"after": 0, "limit": 5, "migration": MIGRATION}, None),
    ("GET", "fleet/migrations", None, 200, "fleet.list", "fleet.list", {}, None),
    ("GET", "fleet/migrations?finished=true", None, 200, "fleet.list", "fleet.list", {"finished": True}, None),
    ("GET", f"fleet/migrations?unfinished=true&machine=web1&node=host-b&batch={BATCH}&evacuation={EVACUATION}&limit=7&cursor=migration:17", None,
     200, "fleet.list", "fleet.list", {"unfinished": True, "machine": "web1", "node": "host-b", "batch": BATCH, "evacuation": EVACUATION,
                                       "limit": 7, "cursor": "migration:17"}, None),
    ("POST", "fleet/migrations", {"machine": "web1"}, 201, "fleet.migrate", "fleet.migrate", {"machine": "web1"},
     f"/api/v2/fleet/migrations/{MIGRATION}"),
    ("POST", "fleet/migrations", {"machine": "web1", "destination": "host-b", "destination_is_wish": True, **SETTINGS}, 201, "fleet.migrate",
     "fleet.migrate", {"machine": "web1", "destination": "host-b", "destination_is_wish": True, **SETTINGS}, f"/api/v2/fleet/migrations/{MIGRATION}"),
    ("GET", f"fleet/migrations/{MIGRATION}", None, 200, "fleet.migration.get", "fleet.get", {"id": MIGRATION}, None),
    ("GET", f"migrations/{MIGRATION}", None, 200, "migration.get", "fleet.get", {"id": MIGRATION}, None),
    ("GET", f"migrations/{MIGRATION}/status", None, 200, "migration.status", "fleet.move_status", {"id": MIGRATION}, None),
    ("POST", f"migrations/{MIGRATION}/cancel", None, 202, "migration.cancel", "fleet.cancel", {"id": MIGRATION}, None),
    ("GET", "fleet/batches?limit=2", None, 200, "fleet.batches", "fleet.batches", {"limit": 2}, None),
    ("GET", "fleet/evacuations?unfinished=true", None, 200, "fleet.evacuations", "fleet.evacuations", {"unfinished": True}, None),
    ("POST", f"fleet/migrations/{MIGRATION}/cancel", None, 202, "fleet.migration.cancel", "fleet.cancel", {"id": MIGRATION}, None),
    ("POST", f"fleet/migrations/{MIGRATION}/cancel", {"reason": "enough"}, 202, "fleet.migration.cancel", "fleet.cancel",
     {"id": MIGRATION, "reason": "enough"}, None),
    ("POST", "migrations/batch", {"policy": "all", "migrations": [{"machine": "web1", **SETTINGS}, {"machine": "web2", "destination": "host-b"}]}, 201,
     "fleet.batch", "fleet.batch", {"policy": "all", "migrations": [{"machine": "web1", **SETTINGS}, {"machine": "web2", "destination": "host-b"}]},
     f"/api/v2/fleet/batches/{BATCH}"),
    ("GET", f"fleet/batches/{BATCH}", None, 200, "fleet.batch.get", "fleet.get", {"id": BATCH}, None),
    ("POST", f"fleet/batches/{BATCH}/cancel", {"also_running": True}, 202, "fleet.batch.cancel", "fleet.cancel", {"id": BATCH, "also_running": True}, None),
    ("POST", "migrations/evacuate", {"nodes": ["host-a", "host-b"], "allow_partial": True, **SETTINGS}, 201, "fleet.evacuate", "fleet.evacuate",
     {"nodes": ["host-a", "host-b"], "allow_partial": True, **SETTINGS}, f"/api/v2/fleet/evacuations/{EVACUATION}"),
    ("POST", "fleet/evacuations/plan", {"nodes": ["host-a"]}, 200, "fleet.plan", "fleet.plan", {"nodes": ["host-a"]}, None),
    ("GET", f"fleet/evacuations/{EVACUATION}", None, 200, "fleet.evacuation.get", "fleet.get", {"id": EVACUATION}, None),
    ("GET", f"fleet/evacuations/{EVACUATION}/items?limit=2&cursor=item:1", None, 200, "fleet.items", "fleet.items",
     {"id": EVACUATION, "limit": 2, "cursor": "item:1"}, None),
    ("POST", f"fleet/evacuations/{EVACUATION}/cancel", {"also_running": False, "reason": "not now"}, 202, "fleet.evacuation.cancel", "fleet.cancel",
     {"id": EVACUATION, "also_running": False, "reason": "not now"}, None),
]
# path, operation in the document, the id that novacrond is asked for, the messages' schema
WATCHES = [
    (f"migrations/{MIGRATION}/ws", "migration.watch", MIGRATION, "WatchMessage"),
    (f"fleet/migrations/{MIGRATION}/ws", "fleet.migration.watch", MIGRATION, "WatchMessage"),
    (f"fleet/batches/{BATCH}/ws", "fleet.batch.watch", BATCH, "FleetWatchMessage"),
    (f"fleet/evacuations/{EVACUATION}/ws", "fleet.evacuation.watch", EVACUATION, "FleetWatchMessage"),
    ("fleet/events/ws", "fleet.events.watch", None, "FleetWatchMessage"),
]
CHANGES = [e for e in ENDPOINTS if e[0] == "POST" and e[4] != "fleet.plan"]


def ids(endpoints):
    return [f"{number}-{e[0]} {e[1][:40]}" for number, e in enumerate(endpoints)]


def operation(document, operation_id):
    return next(o for item in document["paths"].values() for o in item.values() if o["operationId"] == operation_id)


def validate(document, value, described):
    jsonschema.validate(value, {**described, "components": document["components"]})


def is_problem(document, answer, status, code):
    assert answer.status == status, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    validate(document, answer.json, {"$ref": "#/components/schemas/Problem"})
    assert answer.json["code"] == code
    return answer.json["detail"]


@pytest.mark.parametrize("method,path,body,status,operation_id,op,args,location", ENDPOINTS, ids=ids(ENDPOINTS))
def test_endpoint(bed, document, method, path, body, status, operation_id, op, args, location):
    described = operation(document, operation_id)
    if body:
        validate(document, body, described["requestBody"]["content"]["application/json"]["schema"])
    answer = bed.call(method, "/api/v2/" + path, body)
    assert answer.status == status, answer.text
    assert answer.headers["Location"] == location
    assert bed.daemon.last(op)["args"] == args
    validate(document, answer.json, described["responses"][str(status)]["content"]["application/json"]["schema"])


def test_every_operation_of_the_document_is_exercised(document):
    documented = {o["operationId"] for item in document["paths"].values() for o in item.values() if o["operationId"].startswith("fleet.")}
    assert {e[4] for e in ENDPOINTS} | {w[1] for w in WATCHES} == documented | {f"migration.{what}" for what in ("watch", "get", "status", "cancel")}


# --- watching ---

def watch(bed, path, since=None):
    return WebSocket(websocket.unix(bed.socket), f"/api/v2/{path}" + ("" if since is None else f"?since={since}"))


@pytest.mark.parametrize("path,operation_id,id,schema", WATCHES, ids=[w[1] for w in WATCHES])
def test_watching(bed, document, path, operation_id, id, schema):
    """What novacrond tells is passed on as it is, from where the client was on; and is what the document describes."""
    assert schema in operation(document, operation_id)["responses"]["101"]["description"]
    ws = watch(bed, path)
    messages = [ws.next()] if id is None else [ws.next(), ws.next()]
    assert messages[0]["id"] == 9 and [m["type"] for m in messages[1:]] == ["progress"] * (id is not None)
    for message in messages:
        validate(document, message, {"$ref": f"#/components/schemas/{schema}"})
    args = bed.daemon.last("fleet.watch")["args"]
    assert args.get("id") == id
    ws.close()
    ws = watch(bed, path, since=9)
    if id is not None:
        assert ws.next()["type"] == "progress", "told again"
    wait_for(lambda: bed.daemon.last("fleet.watch")["identity"]["role"] == "viewer" and bed.daemon.last("fleet.watch")["args"].get("since") == 9, 10,
             "the question behind it")
    ws.close()


def test_an_attempt_is_its_nodes(bed):
    """mig-ID.N is a migration of the node that makes it."""
    ws = watch(bed, f"migrations/{MIGRATION}.1/ws")
    assert ws.next()["data"] == PROGRESS
    ws.close()
    assert bed.daemon.last("migration.watch")["args"]["id"] == MIGRATION + ".1"


class Story:
    """Events of an evacuation that a test makes up."""

    def __init__(self):
        self.events, self.refusal, self.ended = [], None, False

    def happens(self, type="event", **data):
        self.events.append({"id": 100 + len(self.events), "type": type, "at": "2026-01-02T03:04:05.678Z", "data": data})
        return self.events[-1]["id"]

    def answer(self, args):
        if self.refusal:
            raise Refusal(*self.refusal)
        events = [e for e in self.events if e["id"] > args.get("since", 0)]
        return {"id": args["id"], "events": events, "last": 0, "more": False, "ended": self.ended, "progress": {"n": len(self.events)}}


def test_watching_goes_on_over_a_change_of_the_leader(tmp_path):
    """While nobody can be asked the connection stays; then what has happened meanwhile comes, once; and at the end it is closed."""
    story = Story()
    bed = Bed(tmp_path, "--no-https", handlers={"fleet.watch": story.answer})
    try:
        ids = [story.happens(event="migration.state", detail="running", subject=MIGRATION)]
        ws = watch(bed, f"fleet/evacuations/{EVACUATION}/ws")
        assert ws.next()["id"] == ids[0]
        story.refusal = ("unavailable", "no controller leads at the moment")
        asked = len(bed.daemon.requests)
        wait_for(lambda: len(bed.daemon.requests) > asked, 20, "a question in vain")
        with pytest.raises(Refused) as refused:
            watch(bed, f"fleet/batches/{BATCH}/ws")
        assert refused.value.status == 503 and refused.value.problem["code"] == "unavailable" and "Retry-After" in refused.value.head
        ids += [story.happens(event="x", detail=""), story.happens("completed", outcome="completed", error=None)]
        story.ended, story.refusal = True, None
        told = [m["id"] for m in ws.events() if m["type"] != "progress"]
        assert told == ids[1:]
        out = bed.cli("status", EVACUATION, "--follow")
        assert out.returncode == 0, out.stderr
        assert [line.split("  ", 1)[1] for line in out.stdout.splitlines()] == [f"migration.state {MIGRATION}: running", "x", "completed"]
        with pytest.raises(Refused) as refused:
            watch(bed, f"fleet/evacuations/{MIGRATION}/ws")
        assert refused.value.status == 404
    finally:
        bed.close()


def test_as_many_of_the_fleet_as_its_controllers_bear(tmp_path):
    """Sixteen; of the node's own there may be more."""
    story = Story()
    bed = Bed(tmp_path, "--no-https", handlers={"fleet.watch": story.answer})
    try:
        watching = [watch(bed, f"fleet/batches/bat-{n}/ws") for n in range(16)]
        with pytest.raises(Refused) as refused:
            watch(bed, "fleet/batches/bat-16/ws")
        assert refused.value.status == 503 and "16 of them of the fleet" in refused.value.problem["detail"]
        watching += [watch(bed, "fleet/batches/bat-1/ws"), watch(bed, "migrations/m-1/ws")]
        watching.pop(0).close()
        wait_for(lambda: room(bed), 10, "the place of one that nobody watches any more")
    finally:
        bed.close()


def room(bed):
    try:
        return watch(bed, "fleet/batches/bat-16/ws")
    except (Refused, Closed):
        return None


# --- idempotency ---

@pytest.mark.parametrize("method,path,body,status,operation_id,op,args,location", CHANGES, ids=ids(CHANGES))
def test_key_is_handed_on(bed, document, method, path, body, status, operation_id, op, args, location):
    assert {"$ref": "#/components/parameters/idempotencyKey"} in operation(document, operation_id)["parameters"]
    assert bed.call(method, "/api/v2/" + path, body, {"Idempotency-Key": "a key/1~"}).status == status
    assert bed.daemon.last(op)["args"] == {**args, "key": "a key/1~"}


@pytest.mark.parametrize("key", ["", "k" * 65, "\xe4"])
def test_odd_keys(bed, document, key):
    asked = len(bed.daemon.requests)
    detail = is_problem(document, bed.call("POST", "/api/v2/fleet/migrations", {"machine": "web1"}, {"Idempotency-Key": key}), 400, "invalid")
    assert "Idempotency-Key" in detail and "64" in detail
    assert len(bed.daemon.requests) == asked


def test_two_keys(bed, document):
    raw = bed.raw(b"POST /api/v2/fleet/nodes/host-a/cordon HTTP/1.1\r\nHost: x\r\nIdempotency-Key: a\r\nIdempotency-Key: a\r\n"
                  b"Connection: close\r\n\r\n")
    assert raw.startswith(b"HTTP/1.1 400 ") and b"must be given once" in raw


def test_no_key_where_nothing_changes(bed):
    """It is not looked at there."""
    assert bed.call("GET", "/api/v2/fleet", headers={"Idempotency-Key": "k"}).status == 200
    assert bed.daemon.last("fleet.status")["args"] == {}
    assert bed.call("POST", "/api/v2/fleet/evacuations/plan", {"nodes": ["host-a"]}, {"Idempotency-Key": "k"}).status == 200
    assert bed.daemon.last("fleet.plan")["args"] == {"nodes": ["host-a"]}


# --- refusals ---

MALFORMED = [
    ("fleet/migrations", None, "needs a JSON body"),
    ("fleet/migrations", {}, '"machine" is missing'),
    ("fleet/migrations", {"machine": "a b"}, '"machine" must be a name'),
    ("fleet/migrations", {"machine": "web1", "key": "k"}, 'unknown key "key"'),
    ("fleet/migrations", {"machine": "web1", "vm": "web1"}, 'unknown key "vm"'),
    ("fleet/migrations", {"machine": "web1", "priority": "urgent"}, '"priority" must be'),
    ("fleet/migrations", {"machine": "web1", "bandwidth_limit_bps": 10**12 + 1}, '"bandwidth_limit_bps"'),
    ("fleet/migrations", {"machine": "web1", "retry_attempts": 101}, '"retry_attempts"'),
    (f"fleet/migrations/{MIGRATION}/cancel", {"also_running": True}, 'unknown key "also_running"'),
    (f"fleet/batches/{BATCH}/cancel", {"also_running": 1}, '"also_running" must be true or false'),
    (f"fleet/batches/{BATCH}/cancel", {"reason": "r" * 513}, '"reason" must have 1 to 512 bytes'),
    ("migrations/batch", {}, '"migrations" is missing'),
    ("migrations/batch", {"migrations": []}, '"migrations" must be an array of 1 to 1000 items'),
    ("migrations/batch", {"migrations": [{"machine": "a"}] * 1001}, '"migrations" must be an array of 1 to 1000 items'),
    ("migrations/batch", {"migrations": [{"machine": "a"}, "b"]}, "migrations[1]: it must be an object"),
    ("migrations/batch", {"migrations": [{"machine": "a"}, {"machine": "b", "streams": 0}]}, 'migrations[1]: "streams"'),
    ("migrations/batch", {"policy": "some", "migrations": [{"machine": "a"}]}, '"policy" must be'),
    ("migrations/evacuate", {"nodes": []}, '"nodes" must be an array of 1 to 100 items'),
    ("migrations/evacuate", {"nodes": [f"n{i}" for i in range(101)]}, '"nodes" must be an array of 1 to 100 items'),
    ("migrations/evacuate", {"nodes": ["host-a", "../x"]}, 'nodes[1]: "node" must be a name'),
    ("migrations/evacuate", {"nodes": ["host-a"], "destination": "host-b"}, 'unknown key "destination"'),
    ("fleet/evacuations/plan", {"nodes": "host-a"}, '"nodes" must be an array'),
    ("fleet/nodes/host-a/cordon", {"a": 1}, "takes no body"),
]


@pytest.mark.parametrize("path,body,word", MALFORMED, ids=[f"{number}-{m[0][:30]}" for number, m in enumerate(MALFORMED)])
def test_malformed(bed, document, path, body, word):
    asked = len(bed.daemon.requests)
    assert word in is_problem(document, bed.call("POST", "/api/v2/" + path, body), 400, "invalid")
    assert len(bed.daemon.requests) == asked
    if body:
        item = document["paths"]["/api/v2/" + path.replace(MIGRATION, "{id}").replace(BATCH, "{id}").replace("host-a", "{name}")]["post"]
        if "requestBody" in item:  # the document says so, too
            with pytest.raises(jsonschema.ValidationError):
                validate(document, body, item["requestBody"]["content"]["application/json"]["schema"])


@pytest.mark.parametrize("query", ["nodes?limit=0", "nodes?limit=1001", "nodes?cursor=17", "nodes?cursor=node:a%20b", "nodes?node=host-a",
                                   "machines?unfinished=true", "migrations?unfinished=1", "migrations?batch=a/b", "migrations?state=active"])
def test_bad_queries(bed, document, query):
    is_problem(document, bed.call("GET", "/api/v2/fleet/" + query), 400, "invalid")


@pytest.mark.parametrize("path", [f"migrations/{BATCH}", f"batches/{EVACUATION}", f"evacuations/{MIGRATION}", "migrations/m-0t7bd31dsw67hqqr"])
def test_an_id_of_another_kind_is_not_found(bed, document, path):
    asked = len(bed.daemon.requests)
    assert "ids begin with" in is_problem(document, bed.call("GET", "/api/v2/fleet/" + path), 404, "not_found")
    is_problem(document, bed.call("POST", f"/api/v2/fleet/{path}/cancel"), 404, "not_found")
    assert len(bed.daemon.requests) == asked


def test_unknown_ids(bed, document):
    is_problem(document, bed.call("GET", "/api/v2/fleet/migrations/mig-none"), 404, "not_found")


@pytest.mark.parametrize("code,status,text", [
    ("conflict", 409, "there is no controller on this node: ask a node that has one"),
    ("unavailable", 503, "no controller leads at the moment: ask again in some seconds"), ("unsuitable", 422, "no room")])
def test_what_novacrond_refuses_is_told(bed, document, code, status, text):
    def refuse(args):
        raise Refusal(code, text)
    bed.daemon.handlers["fleet.migrate"], before = refuse, bed.daemon.handlers["fleet.migrate"]
    try:
        answer = bed.call("POST", "/api/v2/fleet/migrations", {"machine": "web1"})
        assert text == is_problem(document, answer, status, code)
        assert str(status) in operation(document, "fleet.migrate")["responses"]
    finally:
        bed.daemon.handlers["fleet.migrate"] = before


# --- roles ---

@pytest.mark.skipif(not shutil.which("openssl"), reason="openssl is not installed")
def test_roles(tmp_path, document):
    """A viewer looks and plans; an operator's name, as an admin's, is handed on."""
    keys = Keys(tmp_path)
    alice, bob, carol = (keys.issue("ca", name) for name in ("alice", "bob", "carol"))
    port = free_port()
    bed = Bed(tmp_path, "--listen", f"127.0.0.1:{port}", "--tls-cert", keys.server[0], "--tls-key", keys.server[1], "--client-ca", keys.ca,
              "--admins", "alice", "--operators", "carol")

    def ask(who, method, path, body):
        return exchange(HTTPSConnection("127.0.0.1", port, context=tls_context(keys, who), timeout=30), method, "/api/v2/" + path, body)
    try:
        for method, path, body, status, operation_id, op, _, _ in ENDPOINTS:
            role = operation(document, operation_id)["x-novacron-role"]
            assert (role == "operator") == (method == "POST" and op != "fleet.plan")
            asked = len(bed.daemon.requests)
            answer = ask(bob, method, path, body)
            if role == "operator":
                is_problem(document, answer, 403, "forbidden")
                assert len(bed.daemon.requests) == asked
            else:
                assert answer.status == status, answer.text
            for who, name, role in ((alice, "alice", "admin"), (carol, "carol", "operator")):
                assert ask(who, method, path, body).status == status
                assert bed.daemon.last(op)["identity"] == {"kind": "certificate", "name": name, "role": role, "from": "127.0.0.1"}
    finally:
        bed.close()
