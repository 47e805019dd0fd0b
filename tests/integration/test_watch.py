# SPDX-License-Identifier: Apache-2.0
"""Watching migrations over WebSockets: what is told, to whom, to how many, and what strangers can't do."""

import http.client
import json
import os
import resource
import shutil
import socket
import struct
import subprocess
import threading

import jsonschema
import pytest

from fake_novacrond import Refusal
from gate_bed import CLI, PROGRESS, Bed, Keys, UnixConnection, exchange, free_port, tls_context
from nctest import websocket
from nctest.cluster import Cluster, guest_spec
from nctest.net import wait_for
from nctest.websocket import CLOSE, PING, PONG, TEXT, Closed, Refused, WebSocket

PATH = "/api/v2/migrations/{}/ws"
ORIGIN = "https://ops.example"


class Story:
    """A migration whose events a test makes up; a handler of migration.watch."""

    def __init__(self):
        self.events, self.asked, self.ended, self.lock = [], 0, False, threading.Lock()

    def happens(self, type="event", **data):
        with self.lock:
            id = 100 + 10 * len(self.events)
            self.events.append({"id": id, "type": type, "at": "2026-01-02T03:04:05.678Z", "data": data or {"event": "x", "detail": ""}})
            self.ended = type == "completed"
            return id

    def answer(self, args):
        if args["id"] == "m-nobody":
            raise Refusal("not_found", "there is no migration m-nobody on this node")
        with self.lock:
            self.asked += 1
            events = [e for e in self.events if e["id"] > args["since"]] if "since" in args else self.events
            return {"id": args["id"], "events": events[:200], "last": 0, "more": len(events) > 200, "ended": self.ended and len(events) <= 200,
                    "progress": {**PROGRESS, "wire_bytes": self.asked}}


@pytest.fixture
def story():
    return Story()


@pytest.fixture
def make_bed(tmp_path, story):
    beds = []

    def make(*options, **more):
        beds.append(Bed(tmp_path, "--no-https", *options, handlers={"migration.watch": story.answer}, **more))
        return beds[-1]
    yield make
    for b in beds:
        b.close()


def watch(bed, id="m-1", since=None, **headers):
    return WebSocket(websocket.unix(bed.socket), PATH.format(id) + (f"?since={since}" if since is not None else ""), **headers)


def event_ids(ws, count):
    got = []
    while len(got) < count:
        message = ws.next()
        if message["type"] != "progress":
            got.append(message["id"])
    return got


def refusal(bed, **more):
    with pytest.raises(Refused) as refused:
        watch(bed, **more)
    return refused.value


def test_what_is_told_and_resuming(make_bed, story):
    bed = make_bed()
    document = bed.call("GET", "/api/v2/openapi.json").json
    schema = {"$ref": "#/components/schemas/WatchMessage", "components": document["components"]}
    first = [story.happens(), story.happens("phase", phase="memory_copy", event="destination-ready", detail="")]
    ws = watch(bed)
    assert event_ids(ws, 2) == first
    sample = ws.next()
    assert sample["type"] == "progress" and sample["id"] == first[-1]
    assert sample["data"]["phase"] == "memory_copy" and sample["data"]["transfer_rate"] == 112300000 and sample["data"]["eta"] == "12s"
    jsonschema.validate(sample, schema)
    ws.close()
    second = [story.happens(), story.happens("completed", outcome="completed", pause_ms=12.5)]
    again = watch(bed, since=sample["id"])
    messages = list(again.events())
    assert [m["id"] for m in messages if m["type"] != "progress"] == second
    assert messages[-1]["type"] == "completed" and messages[-1]["data"]["pause_ms"] == 12.5
    for message in messages:
        jsonschema.validate(message, schema)
    late = watch(bed, since=second[0])
    assert [m["type"] for m in late.events()] == ["completed"]


def test_an_id_that_is_not_yet(make_bed, story):
    """As from another node, or from before a power cut: all is told again, and it is said."""
    bed = make_bed()
    ids = [story.happens(), story.happens()]
    ws = watch(bed, since=ids[-1] + 1000)
    told = []
    while len(told) < 3:
        message = ws.next()
        if message["type"] != "progress":
            told.append((message["type"], message["id"]))
    assert told == [("gap", 0)] + [("event", id) for id in ids]
    story.happens("completed", outcome="completed")
    assert [m["type"] for m in ws.events() if m["type"] != "progress"] == ["completed"]


def told_while_one_is_slow(bed, story, detail_bytes):
    """600 events, of which one reads none while another reads all: what the slow one gets in the end, its samples, all ids."""
    slow, quick, ids = watch(bed), watch(bed), []
    for _ in range(30):
        ids += [story.happens(event="x", detail="y" * detail_bytes) for _ in range(20)]
        assert event_ids(quick, 20) == ids[-20:]
    got, samples = [], 0
    while not got or got[-1]["id"] < ids[-1]:
        message = slow.next()
        if message["type"] == "progress":
            samples += 1
        else:
            got.append(message)
    return got, samples, ids


def test_slow_reader_misses_no_event(make_bed, story):
    got, samples, ids = told_while_one_is_slow(make_bed(), story, 200)
    assert [m["id"] for m in got] == ids and samples < story.asked


def test_who_is_too_slow_is_told_of_the_gap(make_bed, story):
    """The gate keeps 256 KiB: where the rest was, a gap is told, once, and what is kept follows whole."""
    got, _, ids = told_while_one_is_slow(make_bed(), story, 2000)
    gaps = [n for n, m in enumerate(got) if m["type"] == "gap"]
    assert len(gaps) == 1, gaps
    before, gap, behind = got[:gaps[0]], got[gaps[0]], got[gaps[0] + 1:]
    assert [m["id"] for m in before] == ids[:len(before)] and [m["id"] for m in behind] == [id for id in ids if id > gap["id"]]


def test_a_history_of_many_pages(make_bed, story):
    bed = make_bed()
    ids = [story.happens() for _ in range(750)]
    assert event_ids(watch(bed), 750) == ids
    assert event_ids(watch(bed, since=ids[-2]), 1) == ids[-1:]


def test_who_may_not(make_bed, story):
    bed = make_bed("--watchers", "2", "--origins", f"{ORIGIN}, https://other.example")
    assert refusal(bed, id="m-nobody").status == 404
    assert refusal(bed, Origin="https://evil.example").problem["code"] == "forbidden"
    assert refusal(bed, Origin="null").status == 403
    assert refusal(bed, since="x").status == 400
    for headers in ({"Upgrade": None}, {"Connection": "keep-alive"}, {"Sec_WebSocket_Version": "8"}):
        refused = refusal(bed, **headers)
        assert refused.status == 426 and "Sec-WebSocket-Version: 13" in refused.head and refused.problem["code"] == "upgrade_required"
    assert refusal(bed, Sec_WebSocket_Key="short").status == 400
    watching = [watch(bed, Origin=ORIGIN), watch(bed, Origin="http://localhost")]
    refused = refusal(bed)
    assert refused.status == 503 and "Retry-After" in refused.head and "watchers" in refused.problem["detail"]
    watching[0].close()
    assert wait_for(lambda: try_to(lambda: watch(bed)), 10, "the place of one who left")


def try_to(watch):
    try:
        return watch()
    except Refused:
        return None


def test_origins_are_closed_by_default(make_bed, story):
    assert refusal(make_bed(), Origin=ORIGIN).status == 403


def test_watching_can_be_off(make_bed, story):
    assert refusal(make_bed("--watchers", "0")).status == 503


def closed_by(ws):
    with pytest.raises(Closed) as closed:
        while True:
            ws.next()
    return closed.value.code


def test_what_clients_say(make_bed, story):
    bed = make_bed()
    story.happens()
    ws = watch(bed)
    ws.send(PING, b"are you there")
    while True:
        opcode, payload = ws.frame()
        if opcode == PONG:
            break
    assert payload == b"are you there"
    ws.send(CLOSE, struct.pack(">H", 1000))
    assert closed_by(ws) == 1000
    for code, frame in ((1003, (TEXT, b"hello")), (1003, (2, b"\0\xff")), (1002, (PING, b"", False)), (1002, (PING, b"", True, False)), (1002, (3, b"")),
                        (1002, (CLOSE, b"\x03")), (1007, (CLOSE, b"\x03\xe8\xff\xfe"))):
        ws = watch(bed)
        ws.send(*frame)
        assert closed_by(ws) == code, frame
    for _ in range(20):
        ws = watch(bed)
        ws.socket.sendall(os.urandom(4000))
        try:
            closed_by(ws)
        except (OSError, AssertionError):
            pass  # a reset, since we were still sending
    assert event_ids(watch(bed), 1) == [100] and bed.gate.poll() is None


def test_novacrond_restarts_and_watchers_stay(make_bed, story):
    bed = make_bed()
    ids = [story.happens()]
    ws = watch(bed)
    assert event_ids(ws, 1) == ids
    bed.daemon.stop()
    os.unlink(bed.control)
    ids.append(story.happens())
    bed.daemon.start()
    assert event_ids(ws, 1) == ids[1:]


def test_stopping_tells_watchers(make_bed, story):
    bed = make_bed()
    story.happens()
    ws = watch(bed)
    assert event_ids(ws, 1) == [100]
    bed.gate.terminate()
    assert closed_by(ws) == 1001
    assert bed.gate.wait(10) == 0


def memory_bytes(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        return next(int(line.split()[1]) * 1024 for line in f if line.startswith("VmRSS"))


def test_a_thousand_watchers(make_bed, story):
    """novacrond hears of one; what they cost the gate is bounded."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(8192, hard), hard))
    try:
        bed = make_bed()
        story.happens()
        watching = []
        for _ in range(1000):
            watching.append(patient(bed))
        assert event_ids(watching[0], 1) == [100]
        before = len([r for r in bed.daemon.requests if r["op"] == "migration.watch"])
        id = story.happens()
        for ws in watching[1:]:
            assert event_ids(ws, 2) == [100, id]
        asked = len([r for r in bed.daemon.requests if r["op"] == "migration.watch"]) - before
        assert asked < 100, f"{asked} questions for a thousand watchers"
        assert memory_bytes(bed.gate.pid) < 200 << 20
        assert refusal_after(bed, watching, 1024).status == 503
        for ws in watching:
            ws.close()
        assert bed.call("GET", "/api/v2/node").status == 200
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def patient(bed):
    """One more watcher; the rate limit of local users is waited out."""
    def attempt():
        try:
            return watch(bed)
        except Refused as refused:
            assert refused.status == 429, refused
            return None
    return wait_for(attempt, 20, "a handshake")


def refusal_after(bed, watching, limit):
    while len(watching) < limit:
        watching.append(patient(bed))
    return refusal(bed)


def test_few_files_are_few_watchers(make_bed, story):
    """With too few descriptors for all who may watch there are fewer places, and the API goes on."""
    bed = make_bed(under=("prlimit", "--nofile=600:600"))
    assert "only 6 of 1024 may watch" in bed.log_text() and "LimitNOFILE" in bed.log_text()
    watching = [watch(bed) for _ in range(6)]
    refused = refusal(bed)
    assert refused.status == 503 and refused.problem["code"] == "resource", refused.problem
    assert bed.call("GET", "/api/v2/node").status == 200
    for ws in watching:
        ws.close()


class TlsBed:
    """A gate with HTTPS, and one client that may look."""

    def __init__(self, directory, story):
        self.keys, self.port = Keys(directory), free_port()
        self.bed = Bed(directory, "--listen", f"127.0.0.1:{self.port}", "--tls-cert", self.keys.server[0], "--tls-key", self.keys.server[1],
                       "--client-ca", self.keys.ca, handlers={"migration.watch": story.answer})
        self.bob = self.keys.issue("ca", "bob")

    def connect(self, client):
        connection = http.client.HTTPSConnection("127.0.0.1", self.port, context=tls_context(self.keys, client), timeout=20)
        connection.connect()
        return connection

    def watch(self, client):
        return WebSocket(self.connect(client).sock, PATH.format("m-1"))


@pytest.fixture
def tls(tmp_path, story):
    if not shutil.which("openssl"):
        pytest.skip("openssl is not installed")
    bed = TlsBed(tmp_path, story)
    yield bed
    bed.bed.close()


def test_over_tls(tls, story):
    ids = [story.happens(event="x", detail="y" * 70000)]
    with pytest.raises(Refused) as refused:
        tls.watch(None)
    assert refused.value.status == 401
    ws = tls.watch(tls.bob)
    assert event_ids(ws, 1) == ids
    ws.send(PING, b"x")
    ids.append(story.happens("completed", outcome="completed"))
    assert [m["id"] for m in ws.events() if m["type"] != "progress"] == ids[1:]


def test_watchers_of_one_address_leave_it_room(tls, story):
    """Its connections are bounded, too: those who watch must not shut out those who ask."""
    story.happens()
    watching = [tls.watch(tls.bob) for _ in range(24)]
    with pytest.raises(Refused) as refused:
        tls.watch(tls.bob)
    assert refused.value.status == 503 and "127.0.0.1" in refused.value.problem["detail"]
    assert exchange(tls.connect(tls.bob), "GET", "/api/v2/node").status == 200
    watching.pop().close()
    assert wait_for(lambda: try_to(lambda: tls.watch(tls.bob)), 10, "the place of one who left")


def test_stopping_with_those_who_do_not_read(tls, story):
    story.happens()
    stuck, local = [tls.watch(tls.bob) for _ in range(3)], watch(tls.bed)
    for _ in range(50):
        last = [story.happens(event="x", detail="y" * 3000) for _ in range(20)][-1]
    while event_ids(local, 1) != [last]:
        pass
    tls.bed.gate.terminate()
    assert closed_by(local) == 1001
    assert tls.bed.gate.wait(10) == 0
    for ws in stuck:
        ws.socket.close()


# --- novacron status --follow ---

def test_follow(make_bed, story):
    bed = make_bed()
    story.happens("phase", phase="memory_copy", event="destination-ready", detail="")
    story.happens("warning", event="warning", detail="a hook failed")
    story.happens("completed", outcome="completed", pause_ms=12.5, wire_bytes=61000000, error=None)
    out = bed.cli("status", "m-1", "--follow")
    assert out.returncode == 0, out.stderr
    lines = [line.split("  ", 1)[1] for line in out.stdout.splitlines()]
    assert lines == ["memory_copy", "warning: a hook failed", "completed: pause 12.5 ms, 61.0 MB on the wire"]
    messages = [json.loads(line) for line in bed.cli("status", "m-1", "--follow", "--json").stdout.splitlines()]
    assert [m["id"] for m in messages if m["type"] != "progress"] == [100, 110, 120]
    assert bed.cli("status", "--follow").returncode == 2
    out = bed.cli("status", "m-nobody", "--follow")
    assert out.returncode == 4 and "there is no" in out.stderr


def test_follow_survives_a_gate_that_restarts(make_bed, story):
    bed = make_bed()
    story.happens(detail="first", event="x")
    process = subprocess.Popen([CLI, "--socket", bed.socket, "status", "m-1", "--follow", "--json"], stdout=subprocess.PIPE, text=True)
    try:
        assert json.loads(process.stdout.readline())["id"] == 100
        bed.gate.kill()
        bed.gate.wait()
        story.happens(detail="while it was away", event="x")
        bed.gate = subprocess.Popen(bed.gate.args, stderr=bed.log)
        bed.wait_up()
        story.happens("completed", outcome="completed")
        ids = [m["id"] for m in map(json.loads, process.stdout) if m["type"] != "progress"]
        assert ids == [110, 120] and process.wait(20) == 0
    finally:
        process.kill()


# --- the real thing ---

@pytest.fixture(scope="module")
def cluster():
    with Cluster(rate="100mbit", delay="1ms", gates=True) as c:
        c.boot(spec=guest_spec(memory_mib=128, fill=24, ws=8, rate=2))
        yield c


def test_a_migration_from_beginning_to_end(cluster):
    m = cluster.migrate("web1", cluster.a, wait=False, algorithm="pre-copy")
    ws = WebSocket(websocket.unix(cluster.a.api, 60), PATH.format(m["id"]))
    messages = list(ws.events())
    ids = [message["id"] for message in messages]
    assert ids == sorted(ids)
    own = [message["id"] for message in messages if message["type"] != "progress"]
    assert len(set(own)) == len(own)
    phases = [message["data"]["phase"] for message in messages if message["type"] == "phase"]
    assert phases == ["memory_copy", "switchover", "handoff", "verify", "completed"], phases
    end = messages[-1]
    assert end["type"] == "completed" and end["data"]["pause_ms"] > 0 and end["data"]["wire_bytes"] > 1 << 20
    samples = [message["data"] for message in messages if message["type"] == "progress"]
    assert any(s["phase"] == "memory_copy" and s["transfer_rate"] > 0 for s in samples), samples
    assert [s["progress"] for s in samples] == sorted(s["progress"] for s in samples)

    for node, told in ((cluster.a, phases), (cluster.b, ["handoff", "verify", "completed"])):
        node.wait_migration(m["id"])
        there = list(WebSocket(websocket.unix(node.api, 20), PATH.format(m["id"])).events())
        assert there[-1]["type"] == "completed"
        assert [message["data"]["phase"] for message in there if message["type"] == "phase"] == told
        assert_same_wherever_it_is_asked_from(node, m["id"])
    middle = own[len(own) // 2]
    rest = list(WebSocket(websocket.unix(cluster.a.api), PATH.format(m["id"]) + f"?since={middle}").events())
    assert [message["id"] for message in rest] == [id for id in own if id > middle]
    cluster.assert_healthy("web1", cluster.b)


def assert_same_wherever_it_is_asked_from(node, id):
    """What changed a phase is known from what came before, which need not be in the same answer."""
    everything = node.call("migration.watch", id=id)["events"]
    for n, event in enumerate(everything):
        assert node.call("migration.watch", id=id, since=event["id"])["events"] == everything[n + 1:]


def call(node, path):
    answer = exchange(UnixConnection(node.api), "GET", "/api/v2/migrations" + path)
    assert answer.status == 200, answer.text
    return answer.json


def test_numbers_and_pages_of_real_migrations(cluster):
    document = call_document(cluster.a)
    for _ in range(2):
        source = cluster.a if cluster.runs_where("web1") == [cluster.a.name] else cluster.b
        assert cluster.migrate("web1", source)["outcome"] == "completed"
    everything = call(cluster.a, "?limit=1000")["items"]
    pages, path = [], "?limit=1"
    while path:
        page = call(cluster.a, path)
        jsonschema.validate(page, schema_of(document, "MigrationList"))
        pages += page["items"]
        path = f"?limit=1&cursor={page['next']}" if page["next"] else None
    assert [m["id"] for m in pages] == [m["id"] for m in everything] and len(pages) >= 2
    assert call(cluster.a, "?state=ended&machine=web1&node=host-b")["items"] == everything
    assert call(cluster.a, "?state=active")["items"] == call(cluster.a, "?machine=other")["items"] == []
    assert call(cluster.a, f"?since={everything[0]['created']}")["items"] == everything[:1]
    for m in everything:
        for view, name in (("status", "MigrationStatus"), ("metrics", "MigrationMetrics")):
            answer = call(cluster.a, f"/{m['id']}/{view}")
            jsonschema.validate(answer, schema_of(document, name))
            assert answer["id"] == m["id"] and answer["outcome"] == "completed"
    dashboard = call(cluster.a, "/dashboard")
    jsonschema.validate(dashboard, schema_of(document, "MigrationDashboard"))
    assert dashboard["migrations"] == len(everything) == dashboard["by_outcome"]["completed"] and dashboard["success_rate"] == 1
    assert dashboard["pause_ms"]["median"] <= dashboard["pause_ms"]["p95"] <= dashboard["pause_ms"]["max"]
    assert dashboard["running"] == [] and dashboard["transfer_rate"] == 0


def call_document(node):
    return exchange(UnixConnection(node.api), "GET", "/api/v2/openapi.json").json


def schema_of(document, name):
    return {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
