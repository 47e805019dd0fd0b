# SPDX-License-Identifier: Apache-2.0
"""The gate over HTTP: endpoints, hostile requests, problems, and the OpenAPI document."""

import grp
import json
import os
import pwd
import socket
import subprocess
import sys
import threading
import time

import jsonschema
import pytest

from fake_novacrond import FakeNovacrond, Refusal
from gate_bed import COMPLETED, GATE, HANDLERS, MACHINE, MIGRATION, STORE_ALERT, Bed, UnixConnection, exchange, bed, document  # noqa: F401
from nctest import websocket
from nctest.net import wait_for
from nctest.websocket import WebSocket

SPEC = {"name": "web1", "vcpus": 2, "memory_mib": 2048}
HEAD = b"GET /api/v2/node HTTP/1.1\r\n"


def schema(document, name):
    return {"$ref": f"#/components/schemas/{name}", "components": document["components"]}


def is_problem(document, answer, status, code):
    assert answer.status == status, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    jsonschema.validate(answer.json, schema(document, "Problem"))
    assert answer.json["status"] == status and answer.json["code"] == code
    assert answer.json["instance"].endswith(answer.headers["X-Request-Id"])
    return answer.json["detail"]


def raw_status(answer):
    return int(answer.split(b" ", 2)[1]) if answer else 0


def test_pages_of_others(bed, document):
    """A form without fields, on any page, could cancel: no preflight, and the browser shows its certificate by itself."""
    cancel = ("POST", "/api/v2/migrations/m-1/cancel", None)
    before = len(bed.daemon.requests)
    for origin in ("https://evil.example", "null", "http://localhost.evil.example", "https://localhost", ""):
        form = {"Origin": origin, "Content-Type": "application/x-www-form-urlencoded", "Content-Length": "0"}
        assert "origin" in is_problem(document, bed.call(*cancel, headers=form), 403, "forbidden")
    for host in ("evil.example", "evil.example:8080", "localhost.evil.example"):
        for method, path, body in (cancel, ("GET", "/api/v2/node", None)):
            assert "localhost" in is_problem(document, bed.call(method, path, body, headers={"Host": host}), 403, "forbidden")
    assert len(bed.daemon.requests) == before
    assert bed.call(*cancel, headers={"Origin": "http://localhost"}).status == 202
    assert bed.call(*cancel, headers={"Host": "[::1]:8080", "Origin": "http://[::1]:8080"}).status == 202
    assert bed.call("GET", "/api/v2/node", headers={"Origin": "https://evil.example"}).status == 200, "which that page can't read"


# method, path, body, status, operation, args novacrond must get, Location
ENDPOINTS = [
    ("GET", "/api/v2/node", None, 200, "node.info", {}, None),
    ("POST", "/api/v2/node/checks", None, 200, "node.checks", {}, None),
    ("POST", "/api/v2/node/certificate", None, 200, "node.renew", {}, None),
    ("POST", "/api/v2/node/certificate", {"days": 365, "from": "host-a"}, 200, "node.renew", {"days": 365, "from": "host-a"}, None),
    ("GET", "/api/v2/nodes", None, 200, "node.list", {}, None),
    ("POST", "/api/v2/nodes/tokens", None, 201, "node.token", {}, None),
    ("POST", "/api/v2/nodes/tokens", {"ttl_s": 60, "name": "host-c"}, 201, "node.token", {"ttl_s": 60, "name": "host-c"}, None),
    ("DELETE", "/api/v2/nodes/host-b", None, 200, "node.remove", {"name": "host-b"}, None),
    ("GET", "/api/v2/tokens", None, 200, "token.list", {}, None),
    ("POST", "/api/v2/tokens", {"subject": "ci", "role": "operator"}, 201, "token.create", {"subject": "ci", "role": "operator"}, None),
    ("POST", "/api/v2/tokens", {"subject": "ci", "role": "admin", "expires_s": 0, "scope": "fleet"}, 201, "token.create",
     {"subject": "ci", "role": "admin", "expires_s": 0, "scope": "fleet"}, None),
    ("DELETE", "/api/v2/tokens/tok-0t7bd31dsw67hqqr", None, 200, "token.revoke", {"id": "tok-0t7bd31dsw67hqqr"}, None),
    ("GET", "/api/v2/machines", None, 200, "machine.list", {}, None),
    ("POST", "/api/v2/machines", SPEC, 201, "machine.define", {"spec": SPEC}, "/api/v2/machines/web1"),
    ("POST", "/api/v2/machines/adopt", {"name": "a", "qmp": "/q"}, 201, "machine.adopt", {"name": "a", "qmp": "/q"}, "/api/v2/machines/a"),
    ("GET", "/api/v2/machines/web1", None, 200, "machine.get", {"name": "web1"}, None),
    ("DELETE", "/api/v2/machines/web1", None, 200, "machine.destroy", {"name": "web1"}, None),
    ("POST", "/api/v2/machines/web1/start", None, 200, "machine.start", {"name": "web1"}, None),
    ("POST", "/api/v2/machines/web1/start", {"take": True}, 200, "machine.start", {"name": "web1", "take": True}, None),
    ("POST", "/api/v2/machines/web1/stop", None, 200, "machine.stop", {"name": "web1"}, None),
    ("POST", "/api/v2/machines/web1/stop", {"force": True}, 200, "machine.stop", {"name": "web1", "force": True}, None),
    ("GET", "/api/v2/checkpoints", None, 200, "checkpoint.list", {}, None),
    ("GET", "/api/v2/checkpoints/c-1", None, 200, "checkpoint.get", {"id": "c-1"}, None),
    ("DELETE", "/api/v2/checkpoints/c-1", None, 200, "checkpoint.delete", {"id": "c-1"}, None),
    ("POST", "/api/v2/checkpoints/c-1/verify", None, 202, "checkpoint.verify", {"id": "c-1"}, None),
    ("POST", "/api/v2/checkpoints/c-1/restore", None, 202, "checkpoint.restore", {"id": "c-1"}, None),
    ("POST", "/api/v2/checkpoints/c-1/restore", {"as": "web2", "disk_dir": "/srv", "force": False, "paused": True}, 202, "checkpoint.restore",
     {"id": "c-1", "as": "web2", "disk_dir": "/srv", "force": False, "paused": True}, None),
    ("POST", "/api/v2/checkpoints/c-1/restore", {"as": "web2", "on": "host-b", "take": False}, 202, "checkpoint.restore",
     {"id": "c-1", "as": "web2", "on": "host-b", "take": False}, None),
    ("POST", "/api/v2/checkpoints/c-1/copy", {"to": "host-b"}, 202, "checkpoint.copy", {"id": "c-1", "to": "host-b"}, None),
    ("POST", "/api/v2/checkpoints/c-1/cancel", None, 202, "checkpoint.cancel", {"id": "c-1"}, None),
    ("GET", "/api/v2/store", None, 200, "store.status", {}, None),
    ("POST", "/api/v2/store/verify", None, 202, "store.verify", {}, None),
    ("POST", "/api/v2/store/verify", {"rebuild_index": True}, 202, "store.verify", {"rebuild_index": True}, None),
    ("POST", "/api/v2/store/gc", {"dry_run": True}, 202, "store.gc", {"dry_run": True}, None),
    ("POST", "/api/v2/store/cancel", None, 202, "store.cancel", {}, None),
    ("GET", "/api/v2/machines/web1/checkpoints", None, 200, "machine.checkpoints", {"name": "web1"}, None),
    ("POST", "/api/v2/machines/web1/checkpoints", {"mode": "stop", "label": "x"}, 201, "checkpoint.create",
     {"name": "web1", "mode": "stop", "label": "x"}, "/api/v2/checkpoints/c-0tnpya6pejb5gsgd"),
    ("POST", "/api/v2/machines/web1/checkpoint-schedule", {"every_s": 3600, "keep": 24}, 200, "checkpoint.schedule",
     {"name": "web1", "every_s": 3600, "keep": 24}, None),
    ("POST", "/api/v2/checks", {"vm": "web1", "to": "host-b"}, 200, "migration.check", {"vm": "web1", "to": "host-b"}, None),
    ("POST", "/api/v2/plans", {"vm": "web1", "to": "host-b", "max_downtime_ms": 100, "bandwidth_limit_bps": 5, "algorithm": "hybrid", "compression": "lz4"},
     200, "migration.plan",
     {"vm": "web1", "to": "host-b", "max_downtime_ms": 100, "bandwidth_limit_bps": 5, "algorithm": "hybrid", "compression": "lz4"}, None),
    ("POST", "/api/v2/plans", {"vm": "busy", "to": "host-b"}, 200, "migration.plan", {"vm": "busy", "to": "host-b"}, None),
    ("GET", "/api/v2/migrations", None, 200, "migration.list", {}, None),
    ("GET", "/api/v2/migrations?limit=1", None, 200, "migration.list", {"limit": 1}, None),
    ("GET", "/api/v2/migrations?machine=web1&node=host-b&state=active&since=2026-01-02T03:04:05Z&cursor=m17", None, 200, "migration.list",
     {"machine": "web1", "node": "host-b", "state": "active", "since": "2026-01-02T03:04:05Z", "cursor": "m17"}, None),
    ("GET", "/api/v2/migrations/dashboard", None, 200, "migration.dashboard", {}, None),
    ("GET", "/api/v2/migrations/m-1/status", None, 200, "migration.status", {"id": "m-1"}, None),
    ("GET", "/api/v2/migrations/m-1/metrics", None, 200, "migration.metrics", {"id": "m-1"}, None),
    ("POST", "/api/v2/migrations", {"vm": "web1", "to": "host-b", "streams": 4, "compression": "auto", "algorithm": "post-copy", "max_cpu": 50, "max_downtime_ms": 100,
                                    "max_throttle": 0, "convergence_timeout_ms": 9000, "bandwidth_limit_bps": 5}, 201, "migration.create",
     {"vm": "web1", "to": "host-b", "streams": 4, "compression": "auto", "algorithm": "post-copy", "max_cpu": 50, "max_downtime_ms": 100, "max_throttle": 0,
      "convergence_timeout_ms": 9000, "bandwidth_limit_bps": 5},
     "/api/v2/migrations/" + MIGRATION["id"]),
    ("GET", "/api/v2/migrations/m-1", None, 200, "migration.get", {"id": "m-1"}, None),
    ("POST", "/api/v2/migrations/m-1/cancel", None, 202, "migration.cancel", {"id": "m-1"}, None),
    ("POST", "/api/v2/migrations", {"vm": "web1", "to": "host-b", "checkpoint": True, "checkpoint_keep_s": 0}, 201, "migration.create",
     {"vm": "web1", "to": "host-b", "checkpoint": True, "checkpoint_keep_s": 0}, "/api/v2/migrations/" + MIGRATION["id"]),
    ("POST", "/api/v2/migrations/m-1/rollback", {"to_checkpoint": True}, 202, "migration.rollback", {"id": "m-1", "to_checkpoint": True}, None),
    ("POST", "/api/v2/migrations/m-1/limits", {"bandwidth_limit_bps": 7, "qos": "high"}, 200, "migration.limit",
     {"id": "m-1", "bandwidth_limit_bps": 7, "qos": "high"}, None),
    ("POST", "/api/v2/migrations/m-1/resolve", {"action": "run_here"}, 202, "migration.resolve", {"id": "m-1", "action": "run_here"}, None),
]


@pytest.mark.parametrize("method,path,body,status,op,args,location", ENDPOINTS, ids=[f"{e[0]} {e[1]}" for e in ENDPOINTS])
def test_endpoint(bed, document, method, path, body, status, op, args, location):
    answer = bed.call(method, path, body)
    assert answer.status == status, answer.text
    assert answer.headers["Location"] == location
    request = bed.daemon.last(op)
    assert request["args"] == args
    assert request["identity"] == {"kind": "uid", "name": str(os.getuid()), "role": "admin", "from": "UNIX socket"}
    pattern = next(p for p in document["paths"] if method.lower() in document["paths"][p] and
                   document["paths"][p][method.lower()]["operationId"] == op)
    content = document["paths"][pattern][method.lower()]["responses"][str(status)]["content"]["application/json"]
    jsonschema.validate(answer.json, {**content["schema"], "components": document["components"]})


def test_limit_cuts_the_list(bed):
    assert bed.call("GET", "/api/v2/migrations?limit=1").json == {"items": [COMPLETED], "next": None}
    assert len(bed.call("GET", "/api/v2/migrations").json["items"]) == 2


def test_lists_have_etags(bed, document):
    """What a client has already is not sent again, whoever asks for it; what has changed is."""
    lists = [path for path, item in document["paths"].items() if "304" in item.get("get", {"responses": {}})["responses"]]
    assert len(lists) == 14
    for path in lists:
        path = path.replace("{name}", "web1").replace("{id}", "eva-0000000000000001")
        first = bed.call("GET", path)
        assert first.status == 200 and first.headers["Cache-Control"] == "private, no-cache"
        etag = first.headers["ETag"]
        assert bed.call("HEAD", path).headers["ETag"] == etag
        for value in (etag, f'"x", W/{etag}', "*"):
            again = bed.call("GET", path, headers={"If-None-Match": value})
            assert (again.status, again.text, again.headers["ETag"]) == (304, "", etag)
        for value in (etag[:-3] + 'zz"', etag.strip('"'), "", '"x"'):
            assert bed.call("GET", path, headers={"If-None-Match": value}).json == first.json
    before, bed.daemon.handlers["machine.list"] = bed.daemon.handlers["machine.list"], lambda args: [{**MACHINE, "state": "paused"}]
    try:
        etag = bed.call("GET", "/api/v2/machines", headers={"If-None-Match": '"x"'}).headers["ETag"]
        changed = bed.call("GET", "/api/v2/machines", headers={"If-None-Match": etag})
        assert changed.status == 304
        bed.daemon.handlers["machine.list"] = before
        changed = bed.call("GET", "/api/v2/machines", headers={"If-None-Match": etag})
        assert changed.status == 200 and changed.json["items"] == [MACHINE] and changed.headers["ETag"] != etag
        bed.daemon.handlers["machine.list"] = lambda args: {"not": "a list"}
        is_problem(document, bed.call("GET", "/api/v2/machines", headers={"If-None-Match": "*"}), 502, "protocol")
    finally:
        bed.daemon.handlers["machine.list"] = before
    one = bed.call("GET", "/api/v2/node", headers={"If-None-Match": "*"})
    assert one.status == 200 and one.headers["ETag"] is None


def test_pages_pass_as_novacrond_made_them(bed, document):
    page = {"items": [MIGRATION], "next": "m4711"}
    before, bed.daemon.handlers["migration.list"] = bed.daemon.handlers["migration.list"], lambda args: page
    try:
        assert bed.call("GET", "/api/v2/migrations?limit=1&cursor=m5000").json == page
        bed.daemon.handlers["migration.list"] = lambda args: {"items": [], "next": 7}
        is_problem(document, bed.call("GET", "/api/v2/migrations"), 502, "protocol")
    finally:
        bed.daemon.handlers["migration.list"] = before


def test_head_is_get_without_body(bed):
    answer = bed.call("HEAD", "/api/v2/node")
    assert answer.status == 200 and answer.text == "" and int(answer.headers["Content-Length"]) > 10


def test_headers_of_every_answer(bed):
    answer = bed.call("GET", "/api/v2/node")
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Cache-Control"] == "no-store" and answer.headers["X-Content-Type-Options"] == "nosniff"


def test_whoami(bed, document):
    answer = bed.call("GET", "/api/v2/whoami")
    assert answer.status == 200 and answer.json == {"kind": "uid", "name": str(os.getuid()), "role": "admin"}
    jsonschema.validate(answer.json, schema(document, "Identity"))
    assert bed.call("GET", "/api/v2/whoami?x=1").status == 400


def test_metrics_are_passed_on_as_they_are(bed, document):
    for accept, text in (("*/*", "x 1\n"), ("application/openmetrics-text; version=1.0.0", "# EOF\n")):
        answer = bed.call("GET", "/metrics", headers={"Accept": accept})
        assert (answer.status, answer.headers["Content-Type"], answer.text) == (200, "text/x-metrics; version=7", text)
    is_problem(document, bed.call("GET", "/metrics?a=b"), 400, "invalid")


# --- refusals ---

def test_errors_of_novacrond_keep_their_code(bed, document):
    assert "no such thing" in is_problem(document, bed.call("GET", "/api/v2/machines/nobody"), 404, "not_found")


@pytest.mark.parametrize("code,status", [("conflict", 409), ("exists", 409), ("unsuitable", 422), ("resource", 503), ("unreachable", 502),
                                         ("timeout", 504), ("trust", 502), ("internal", 500), ("qemu", 500), ("needs_attention", 409)])
def test_statuses(bed, document, code, status):
    def refuse(args):
        raise Refusal(code, "because \u00e4 \u0007")
    bed.daemon.handlers["machine.start"], before = refuse, bed.daemon.handlers["machine.start"]
    try:
        is_problem(document, bed.call("POST", "/api/v2/machines/web1/start"), status, code)
    finally:
        bed.daemon.handlers["machine.start"] = before


def test_no_path_no_method(bed, document):
    is_problem(document, bed.call("GET", "/nothing"), 404, "not_found")
    is_problem(document, bed.call("GET", "/api/v2/nothing"), 404, "not_found")
    answer = bed.call("PUT", "/api/v2/machines", {})
    is_problem(document, answer, 405, "method_not_allowed")
    assert answer.headers["Allow"] == "GET, HEAD, POST"
    is_problem(document, bed.call("BREW", "/api/v2/node"), 501, "not_implemented")


@pytest.mark.parametrize("body,word", [
    (b"", "needs a JSON body"), (b"{", "not valid JSON"), (b"[1]", "must be a JSON object"), (b'{"vm":"a"}', '"to" is missing'),
    (b'{"vm":"a","to":"b","x":1}', 'unknown key "x"'), (b'{"vm":7,"to":"b"}', '"vm" must be a string'),
    (b'{"vm":"a/b","to":"b"}', '"vm" must be a name'), (b'{"vm":"a","to":"b","streams":"4"}', '"streams"'),
    (b'{"vm":"a","to":"b","streams":1e9}', '"streams"'), (b'{"vm":"a","to":"b","max_downtime_ms":-1}', '"max_downtime_ms"'),
    (b'{"vm":"a","vm":"b","to":"b"}', "duplicate"), (b'{"vm":"\xff","to":"b"}', "not valid JSON"),
    (b'{"a":' + b"[" * 500000 + b"]" * 500000 + b"}", "nested more than 16"), (b'{"a":[' + b"0," * 200000 + b"0]}", "more than 20000 values"),
    (b'{"vm":"a\\u0000","to":"b"}', "not valid JSON"),
])
def test_bad_bodies_name_what_is_wrong(bed, document, body, word):
    detail = is_problem(document, bed.call("POST", "/api/v2/migrations", body), 400, "invalid")
    assert word in detail


def test_body_where_none_belongs(bed, document):
    assert "takes no body" in is_problem(document, bed.call("POST", "/api/v2/checkpoints/c-1/verify", {"a": 1}), 400, "invalid")


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "limit=x", "limit", "limit=", "limit=1&limit=2", "cursor=1", "cursor=m", "since=now",
                                   "since=2026-01-02T03:04:05+01:00", "state=A", "machine=a/b", "%6cimit=1"])
def test_bad_queries(bed, document, query):
    is_problem(document, bed.call("GET", "/api/v2/migrations?" + query), 400, "invalid")


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "application/jsonp"])
def test_only_json_bodies(bed, document, kind):
    answer = bed.call("POST", "/api/v2/migrations", b'{"vm":"a","to":"b"}', {"Content-Type": kind})
    is_problem(document, answer, 415, "unsupported_media_type")


@pytest.mark.parametrize("path", ["/api/v2/machines/../node", "/api/v2/machines/%2e%2e/node", "/api/v2/machines/a%2Fb", "/api/v2//node",
                                  "/api/v2/./node", "/api/v2/machines/a%00b", "/api/v2/machines/\\..\\x"])
def test_path_tricks(bed, document, path):
    is_problem(document, bed.call("GET", path), 400, "bad_request")


def test_long_path(bed, document):
    is_problem(document, bed.call("GET", "/" + "a" * 600), 414, "uri_too_long")


HOSTILE = {
    "two_hosts": HEAD + b"Host: a\r\nHost: b\r\n\r\n",
    "no_host": HEAD + b"\r\n",
    "nul_in_value": HEAD + b"Host: a\0b\r\n\r\n",
    "nul_hides_a_header": HEAD + b"Host: a\r\nX: y\0Content-Length: 5\r\n\r\n",
    "nul_in_name": HEAD + b"Host: a\r\nX\0Y: z\r\n\r\n",
    "nul_in_path": b"GET /api/v2/node\0x HTTP/1.1\r\nHost: a\r\n\r\n",
    "folded_line": HEAD + b"Host: a\r\nX: y\r\n z\r\n\r\n",
    "blank_before_colon": HEAD + b"Host: a\r\nX : y\r\n\r\n",
    "no_colon": HEAD + b"Host: a\r\nX\r\n\r\n",
    "control_character": HEAD + b"Host: a\r\nX: \x01\r\n\r\n",
    "length_and_chunked": b"POST /api/v2/migrations HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 5\r\n"
                          b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "two_tokens": HEAD + b"Host: a\r\nAuthorization: Bearer a.b\r\nAuthorization: Bearer c.d\r\n\r\n",
    "two_lengths": b"POST /api/v2/migrations HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    "negative_length": b"POST /api/v2/migrations HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n{}",
    "gzip_coding": b"POST /api/v2/migrations HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n{}",
    "two_codings": b"POST /api/v2/migrations HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "bad_chunk": b"POST /api/v2/migrations HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "version": b"GET /api/v2/node HTTP/3.7\r\nHost: a\r\n\r\n",
    "no_version": b"GET /api/v2/node\r\n\r\n",
    "garbage": bytes(range(256)) * 8,
    "tls_on_http": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 200,
    "too_many_headers": HEAD + b"Host: a\r\n" + b"X: y\r\n" * 100 + b"\r\n",
    "huge_header": HEAD + b"Host: a\r\nX: " + b"y" * 200000 + b"\r\n\r\n",
    "huge_request_line": b"GET /" + b"a" * 200000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_http_gets_nowhere(bed, name):
    before = len(bed.daemon.requests)
    status = raw_status(bed.raw(HOSTILE[name]))
    assert status == 0 or 400 <= status < 506, status
    assert len(bed.daemon.requests) == before
    assert bed.call("GET", "/api/v2/node").status == 200


def test_refused_request_does_not_leave_a_second_one_behind(bed):
    """What follows a contradictory request on the same connection must not be taken for another request."""
    before = len(bed.daemon.requests)
    answer = bed.raw(HOSTILE["length_and_chunked"] + b"POST /api/v2/machines/web1/start HTTP/1.1\r\nHost: a\r\n\r\n")
    assert answer.count(b"HTTP/1.1 ") == 1 and len(bed.daemon.requests) == before


def test_body_too_large(bed, document):
    is_problem(document, bed.call("POST", "/api/v2/machines", b"{" + b" " * (1 << 20) + b"}"), 413, "too_large")


def test_chunked_body_too_large(bed):
    chunk = b"10000\r\n" + b" " * 65536 + b"\r\n"
    head = b"POST /api/v2/machines HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert raw_status(bed.raw(head + chunk * 20 + b"0\r\n\r\n")) == 413
    assert raw_status(bed.raw(head + chunk * 200)) in (0, 413)
    assert bed.call("GET", "/api/v2/node").status == 200


def test_chunked_body_is_read(bed):
    body = b'{"vm":"a","to":"b"}'
    answer = bed.raw(b"POST /api/v2/migrations HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nConnection: close\r\n"
                     b"Transfer-Encoding: chunked\r\n\r\n5\r\n" + body[:5] + b"\r\n%x\r\n" % len(body[5:]) + body[5:] + b"\r\n0\r\n\r\n")
    assert raw_status(answer) == 201


def test_keep_alive_and_pipelining(bed):
    answer = bed.raw((HEAD + b"Host: a\r\n\r\n") * 5)
    assert answer.count(b"HTTP/1.1 200") == 5


def test_slow_client_is_cut_off(bed):
    """One byte a second keeps libmicrohttpd's time-out happy for ever, but not ours."""
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(1)
        s.connect(bed.socket)
        begin = time.monotonic()
        s.sendall(HEAD + b"Host: a\r\nX: ")
        cut = None
        while time.monotonic() - begin < 40:
            try:
                s.sendall(b"y")
                if s.recv(1000) == b"":
                    cut = time.monotonic() - begin
                    break
            except socket.timeout:
                continue
            except OSError:
                cut = time.monotonic() - begin
                break
        assert cut is not None and 5 < cut < 25, cut
    assert bed.call("GET", "/api/v2/node").status == 200


# --- many, slow, broken ---

@pytest.fixture
def own_bed(tmp_path):
    beds = []

    def make(*options, **more):
        beds.append(Bed(tmp_path, "--no-https", *options, **more))
        return beds[-1]
    yield make
    for b in beds:
        b.close()


def test_one_slow_answer_holds_nobody_up(own_bed):
    release = threading.Event()

    def wait(args):
        release.wait(20)
        return MACHINE
    bed = own_bed(handlers={"machine.start": wait})
    answers = []
    thread = threading.Thread(target=lambda: answers.append(bed.call("POST", "/api/v2/machines/web1/start").status))
    thread.start()
    time.sleep(0.3)
    begin = time.monotonic()
    assert bed.call("GET", "/api/v2/node").status == 200
    assert time.monotonic() - begin < 2
    release.set()
    thread.join(20)
    assert answers == [200]


def test_client_that_leaves_while_waiting(own_bed):
    release = threading.Event()

    def wait(args):
        release.wait(20)
        return MACHINE
    bed = own_bed(handlers={"machine.start": wait})
    for _ in range(10):
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(bed.socket)
            s.sendall(b"POST /api/v2/machines/web1/start HTTP/1.1\r\nHost: a\r\n\r\n")
            time.sleep(0.05)
    release.set()
    time.sleep(0.5)
    assert bed.call("GET", "/api/v2/node").status == 200


def test_stopping_with_requests_under_way(own_bed):
    bed = own_bed(handlers={"machine.start": lambda args: time.sleep(30) or MACHINE})
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(bed.call("POST", "/api/v2/machines/web1/start").status)) for _ in range(5)]
    for t in threads:
        t.start()
    time.sleep(0.5)
    bed.gate.terminate()
    assert bed.gate.wait(10) == 0
    for t in threads:
        t.join(10)
    assert answers == [502] * 5


def test_novacrond_away_and_back(own_bed, document, tmp_path):
    bed = own_bed()
    assert bed.call("GET", "/api/v2/node").status == 200
    bed.daemon.stop()
    detail = is_problem(document, bed.call("GET", "/api/v2/node"), 502, "unreachable")
    assert "is it running?" in detail
    os.unlink(bed.control)
    bed.daemon.start()
    assert bed.call("GET", "/api/v2/node").status == 200


@pytest.mark.parametrize("answer", [b"[]", b"{", b'{"id":1}', b"\xff\xfe", b'{"id":"x","ok":true}'])
def test_novacrond_talks_nonsense(own_bed, document, answer):
    bed = own_bed(handlers={"node.info": lambda args: answer})
    result = bed.call("GET", "/api/v2/node")
    assert result.status in (500, 502), result.text
    assert bed.call("GET", "/api/v2/nodes").status == 200


def test_wrong_shape_of_result(own_bed, document):
    bed = own_bed(handlers={"machine.list": lambda args: {"not": "a list"}, "machine.get": lambda args: ["a", "list"]})
    is_problem(document, bed.call("GET", "/api/v2/machines"), 502, "protocol")
    is_problem(document, bed.call("GET", "/api/v2/machines/web1"), 502, "protocol")


def test_too_many_requests(own_bed, document):
    bed = own_bed()
    got = bed.raw((HEAD + b"Host: a\r\n\r\n") * 3000, timeout=60)
    assert got.count(b"HTTP/1.1 200") >= 1000 and got.count(b"HTTP/1.1 429") > 100
    assert b"Retry-After: 1" in got
    time.sleep(1)
    assert bed.call("GET", "/api/v2/node").status == 200


def test_many_connections(own_bed):
    bed = own_bed()
    connections = []
    for _ in range(400):
        s = socket.socket(socket.AF_UNIX)
        s.settimeout(5)
        try:
            s.connect(bed.socket)
        except OSError:
            break
        connections.append(s)
    for s in connections:
        s.close()
    time.sleep(0.5)
    assert bed.call("GET", "/api/v2/node").status == 200


def test_stranger_is_refused(own_bed, document, tmp_path):
    """Another user who gets at the socket in spite of its mode."""
    if os.getuid() != 0:
        pytest.skip("needs root to be somebody else")
    bed = own_bed()
    os.chmod(bed.socket, 0o777)
    os.chmod(tmp_path, 0o755)
    for parent in tmp_path.parents:
        if str(parent).startswith("/tmp/"):
            os.chmod(parent, 0o755)
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups([])
            os.setresgid(65534, 65534, 65534)
            os.setresuid(65534, 65534, 65534)
            answer = bed.call("GET", "/api/v2/node")
            os._exit(0 if answer.status == 403 and answer.json["code"] == "forbidden" else 1)
        except BaseException:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert [r for r in bed.daemon.requests if r["identity"]["name"] == "65534"] == []


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to become somebody else")
def test_root_becomes_the_user_it_is_told(tmp_path):
    os.chmod(tmp_path, 0o755)
    b = Bed(tmp_path, "--no-https", "--user", "nobody", "--socket-group", "nogroup")
    try:
        os.chmod(b.control, 0o666)
        for parent in tmp_path.parents:
            if str(parent).startswith("/tmp/"):
                os.chmod(parent, 0o755)
        assert b.call("GET", "/api/v2/node").status == 200
        status = open(f"/proc/{b.gate.pid}/status", encoding="ascii").read()
        uid = str(pwd.getpwnam("nobody").pw_uid)
        assert status.split("Uid:")[1].split()[:4] == [uid] * 4
        assert int(status.split("CapEff:")[1].split()[0], 16) == 0 and int(status.split("CapPrm:")[1].split()[0], 16) == 0
        assert grp.getgrgid(os.stat(b.socket).st_gid).gr_name == "nogroup"
    finally:
        b.close()


def test_socket_from_systemd(tmp_path):
    """As systemd does it: descriptor 3 listens, LISTEN_FDS says so; --socket is not opened."""
    config = tmp_path / "gate.conf"
    config.write_text(f"[gate]\nsocket = {tmp_path}/other.sock\ncontrol = {tmp_path}/control.sock\n")
    daemon = FakeNovacrond(tmp_path / "control.sock", HANDLERS).start()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "api.sock"))
    listener.listen()
    start = ("import os, sys; os.dup2(int(sys.argv[1]), 3); os.environ.update(LISTEN_FDS='1', LISTEN_PID=str(os.getpid())); "
             "os.execv(sys.argv[2], sys.argv[2:])")
    gate = subprocess.Popen([sys.executable, "-c", start, str(listener.fileno()), GATE, "--config", str(config)],
                            pass_fds=[listener.fileno()], stderr=subprocess.DEVNULL)
    try:
        assert exchange(UnixConnection(str(tmp_path / "api.sock")), "GET", "/api/v2/node").status == 200
        assert not (tmp_path / "other.sock").exists()
    finally:
        gate.terminate()
        assert gate.wait(20) == 0
        daemon.stop()


def test_second_gate_does_not_take_the_socket(bed):
    out = subprocess.run([GATE, "--config", bed.config, "--no-https", "--socket", bed.socket, "--control", bed.control],
                         stderr=subprocess.PIPE, text=True, timeout=20)
    assert out.returncode == 5 and "second novacron-gate" in out.stderr
    assert bed.call("GET", "/api/v2/node").status == 200


def test_socket_mode(bed):
    assert os.stat(bed.socket).st_mode & 0o777 == 0o660


def test_sandbox_is_on(bed):
    status = open(f"/proc/{bed.gate.pid}/status", encoding="ascii").read()
    assert "NoNewPrivs:\t1" in status and "Seccomp:\t2" in status


def test_message_of_the_maximum_size(own_bed):
    """A list close to the limit of the conversation arrives whole."""
    machines = [{**MACHINE, "name": f"m{i}", "spec": {"pad": "x" * 3000}} for i in range(1000)]
    bed = own_bed(handlers={"machine.list": lambda args: machines})
    assert len(bed.call("GET", "/api/v2/machines").json["items"]) == 1000


def test_alerts_are_watched(bed, document):
    """Those of the node, too; novacrond is asked for what is behind the client's last one."""
    ws = WebSocket(websocket.unix(bed.socket), "/api/v2/alerts/ws")
    message = ws.next()
    assert message["data"] == STORE_ALERT and "migration" not in message["data"]
    jsonschema.validate(message, schema(document, "AlertMessage"))
    wait_for(lambda: bed.daemon.last("alert.watch")["args"].get("since") == 9, 10, "the question behind it")
    assert bed.daemon.last("alert.watch")["identity"]["role"] == "viewer"
    ws.close()
