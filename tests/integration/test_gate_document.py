# SPDX-License-Identifier: Apache-2.0
"""The OpenAPI document: by the official schema, whole, answered for, and of one mind with the gate about each request."""

import collections
import json
import os
import random
import re
import shutil
import subprocess
import time

import jsonschema
import pytest

from gate_bed import FLEET_BATCH, FLEET_EVACUATION, FLEET_MIGRATION, bed, document  # noqa: F401
from nctest.net import ROOT

CHECK = os.path.join(ROOT, "tests/openapi")
SETTINGS = {"priority": "high", "qos": "background", "bandwidth_limit_bps": 5, "retry_attempts": 2, "max_downtime_ms": 100, "algorithm": "pre-copy",
            "compression": "zstd:3", "streams": 4, "max_cpu": 50, "max_throttle": 0, "convergence_timeout_ms": 9000, "checkpoint": True,
            "checkpoint_keep_s": 60, "paths": "10.0.0.2:7450", "disk_chain": "keep"}
# A request of each kind that has a body, by the name of its schema: what is made a little different.
BODIES = {
    "AdoptRequest": {"name": "a", "qmp": "/q"},
    "BatchRequest": {"policy": "all", "migrations": [{"machine": "web1", **SETTINGS}]},
    "BearerRequest": {"subject": "a", "role": "viewer", "expires_s": 60, "scope": "node"},
    "CheckRequest": {"vm": "a", "to": "b", "disk_chain": "keep"},
    "CheckpointRequest": {"mode": "stop", "label": "before"},
    "CopyRequest": {"to": "b"},
    "EvacuationRequest": {"nodes": ["host-a"], "allow_partial": True, **SETTINGS},
    "FleetCancelRequest": {"reason": "enough"},
    "FleetMigrationRequest": {"machine": "web1", "destination": "host-b", "destination_is_wish": True, **SETTINGS},
    "GroupCancelRequest": {"also_running": True, "reason": "enough"},
    "LimitRequest": {"bandwidth_limit_bps": 5, "qos": "high"},
    "MachineSpec": {"name": "web1", "vcpus": 2, "memory_mib": 2048},
    "MigrationRequest": {"vm": "a", "to": "b", **{key: value for key, value in SETTINGS.items() if key != "priority"}},
    "PlanRequest": {"vm": "a", "to": "b", "max_downtime_ms": 100, "bandwidth_limit_bps": 5, "algorithm": "auto", "compression": "lz4", "disk_chain": "trust"},
    "RenewRequest": {"days": 30, "from": "host-a"},
    "ResolveRequest": {"action": "run_here"},
    "RestoreRequest": {"as": "web2", "disk_dir": "/srv", "force": False, "paused": True, "take": False},
    "RollbackRequest": {"back": True},
    "ScheduleRequest": {"every_s": 60, "keep": 3},
    "StartRequest": {"take": False},
    "StopRequest": {"force": True},
    "StoreGcRequest": {"dry_run": True},
    "StoreVerifyRequest": {"rebuild_index": False},
    "TokenRequest": {"ttl_s": 60, "name": "host-c"},
    "VerifyRequest": {"expect": "17:" + "ab" * 32},
}


def schema(document, name):
    return {"$ref": f"#/components/schemas/{name}", "components": document["components"]}


def body_of(operation):
    """The name of its schema; None: it takes none."""
    if "requestBody" not in operation:
        return None
    return operation["requestBody"]["content"]["application/json"]["schema"]["$ref"].rsplit("/", 1)[1]


def operations(document):
    return [(method, path, operation) for path, item in document["paths"].items() for method, operation in item.items()]


IDS = {"fleet/migrations": FLEET_MIGRATION["id"], "fleet/batches": FLEET_BATCH["id"], "fleet/evacuations": FLEET_EVACUATION["id"]}


def ask(bed, method, path, data, headers=None):
    id = next((id for what, id in IDS.items() if what in path), "x")
    path = path.replace("{name}", "x").replace("{id}", id)
    answer = bed.call(method.upper(), path, data, headers or {})
    while answer.status == 429:
        time.sleep(0.2)
        answer = bed.call(method.upper(), path, data, headers or {})
    return answer


# --- the document ---

@pytest.fixture(scope="module")
def official(tmp_path_factory):
    """A validator that has the official schema of OpenAPI 3.1, as the lock file says."""
    if not shutil.which("npm"):
        pytest.skip("npm is not installed")
    directory = tmp_path_factory.mktemp("openapi")
    for name in os.listdir(CHECK):
        if os.path.isfile(os.path.join(CHECK, name)):
            shutil.copy(os.path.join(CHECK, name), directory)
    subprocess.run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline"], cwd=directory, check=True, stdin=subprocess.DEVNULL,
                   stdout=subprocess.DEVNULL, timeout=300)

    def validate(document):
        with open(directory / "document.json", "w", encoding="utf-8") as f:
            json.dump(document, f)
        return subprocess.run(["node", "validate.mjs", "document.json"], cwd=directory, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              timeout=100)
    return validate


def test_it_is_valid_by_the_official_schema(official, document):
    out = official(document)
    assert out.returncode == 0 and "OpenAPI 3.1" in out.stdout, out.stdout


@pytest.mark.parametrize("where,what", [(("paths", "/api/v2/node", "get", "responses"), []), (("info",), {"title": "no version"}),
                                        (("components", "parameters", "id", "in"), "nowhere"), (("paths", "/api/v2/node", "fetch"), {})])
def test_the_official_schema_refuses(official, document, where, what):
    document = json.loads(json.dumps(document))
    place = document
    for key in where[:-1]:
        place = place[key]
    place[where[-1]] = what
    out = official(document)
    assert out.returncode == 3 and json.loads(out.stdout), out.stdout


def test_openapi_document(document):
    assert document["openapi"].startswith("3.1")
    jsonschema.Draft202012Validator.check_schema({"$defs": document["components"]["schemas"]})
    operations = [o for item in document["paths"].values() for o in item.values()]
    assert len({o["operationId"] for o in operations}) == len(operations)
    for operation in operations:
        assert operation["summary"] and "default" in operation["responses"]
        assert any(status.startswith("2") or status == "101" for status in operation["responses"])
    text = json.dumps(document)
    for reference in {part.split('"')[0] for part in text.split('"$ref": "#/')[1:]}:
        node = document
        for key in reference.split("/"):
            node = node[key]
    for name, described in document["components"]["schemas"].items():
        for key, value in described.get("properties", {}).items():
            assert "description" in value or "$ref" in value or "items" in value or "oneOf" in value, f"{name}.{key}"
    for key in ("id vm source destination role state phase outcome progress created started finished total_ms pause_ms qemu_downtime_ms "
                "ram_bytes ram_total_bytes ram_remaining_bytes wire_bytes rate_bps ratio eta_ms rounds dirty_rate_bps "
                "compression max_cpu coding coding_switches coded_batches "
                "expected_downtime_ms sha256 sha256_equal max_downtime_ms attention error events").split():
        assert key in document["components"]["schemas"]["Migration"]["properties"], key


def test_every_documented_route_is_answered(bed, document):
    for path, item in document["paths"].items():
        for method, operation in item.items():
            name = body_of(operation)
            body = BODIES[name] if name else None
            if name:
                jsonschema.validate(body, schema(document, name))
            answer = bed.call(method.upper(), path.replace("{name}", "x").replace("{id}", "x"), body)
            assert str(answer.status) in operation["responses"], f"{method} {path}: {answer.status}"


# --- the gate and the document ---

def mutate(rng, value, described, components):
    """A little of it becomes something else, at a place that the document describes: mostly at or just behind a bound."""
    described = components["schemas"][described["$ref"].rsplit("/", 1)[1]] if "$ref" in described else described
    kind = described.get("type")
    if rng.random() < 0.15 or not isinstance(kind, str):
        return rng.choice([None, True, 7, 1.5, "", "x", [], {}, [[]]])
    if kind == "object":
        value = value if isinstance(value, dict) else {}
        key = rng.choice([*described.get("properties", {}), "unknown"])
        if rng.random() < 0.1:
            return {name: item for name, item in value.items() if name != key}
        return {**value, key: mutate(rng, value.get(key), described.get("properties", {}).get(key, {"type": "boolean"}), components)}
    if kind == "array":
        few = value or [{"machine": "a"} if "$ref" in described["items"] else "node-a"]
        if rng.random() < 0.5 or "maxItems" not in described:
            return [*few, mutate(rng, few[0], described["items"], components)]
        count = rng.choice([0, 1, described["maxItems"], described["maxItems"] + 1])
        return [f"n{i}" for i in range(count)] if isinstance(few[0], str) else [few[0]] * count
    if kind == "integer":
        low, high = described.get("minimum", 0), described.get("maximum", 1000)
        return rng.choice([low - 1, low, (low + high) // 2, high, high + 1, -high])
    if kind == "string":
        least, most = described.get("minLength", 0), described.get("maxLength", 100)
        return rng.choice([*described.get("enum", ["zstd:9", "zstd:10", "web1"]), "a" * rng.choice([0, 1, least, most, most + 1]), "a/b", "-a"])
    return rng.choice([True, False, 0])


def says_more_than_the_document(wish):
    """`paths` has a form that no pattern says."""
    return '"paths": "' in json.dumps(wish).replace(f'"paths": "{SETTINGS["paths"]}"', "")


@pytest.mark.parametrize("name", sorted(BODIES))
def test_gate_and_document_agree(bed, document, name):
    """What one refuses the other does; but novacrond alone looks at a machine's hardware."""
    components = document["components"]
    validator = jsonschema.Draft202012Validator(schema(document, name))
    used = [(method, path) for method, path, operation in operations(document) if body_of(operation) == name]
    assert used
    verdicts = set()
    for method, path in used:
        rng = random.Random(path)
        for _ in range(60):
            wish = mutate(rng, BODIES[name], {"$ref": f"#/components/schemas/{name}"}, components)
            if says_more_than_the_document(wish):
                continue
            says, answer = validator.is_valid(wish), ask(bed, method, path, json.dumps(wish).encode())
            if name == "MachineSpec" and not says:
                assert answer.status in (201, 400), answer.text
            else:
                assert answer.status == 400 if not says else answer.status in (200, 201, 202), \
                    f"{method} {path} {json.dumps(wish)[:500]}: {answer.status} {answer.text}"
            verdicts.add(says)
    assert verdicts == {True, False}


def test_every_kind_of_body_is_tried(document):
    assert {body_of(operation) for _, _, operation in operations(document)} - {None} == set(BODIES)


GOOD_QUERY = {"cursor": ["m17", "node:host-a", "after:web1"], "since": ["2026-01-02T03:04:05Z", "2026-01-02T03:04:05.678901Z"], "state": ["ended", "completed"],
              "kind": ["request"], "about": ["web1"]}


def any_value(rng, name, described):
    """As text; at a bound, of another form, or good."""
    if described["type"] == "integer":
        low, high = described["minimum"], described["maximum"]
        return rng.choice([str(n) for n in (low - 1, low, low + 1, high, high + 1)] + ["x", "1.5", "+1", "0x1", ""])
    if described["type"] == "boolean":
        return rng.choice(["true", "false", "True", "1", ""])
    most = described["maxLength"]
    return rng.choice([*described.get("enum", []), *GOOD_QUERY.get(name, ["web1"]), "a" * rng.choice([0, 1, most, most + 1]), "-a", "a/b", "m", "n:"])


def query_is_valid(text, described):
    if described["type"] == "integer":
        return re.fullmatch("-?[0-9]+", text) is not None and jsonschema.Draft202012Validator(described).is_valid(int(text))
    return text in ("true", "false") if described["type"] == "boolean" else jsonschema.Draft202012Validator(described).is_valid(text)


def test_queries_and_document_agree(bed, document):
    """Of each list: what the document has no place for is refused before novacrond hears of it."""
    verdicts = collections.Counter()
    for method, path, operation in operations(document):
        described = {p["name"]: p["schema"] for p in operation.get("parameters", []) if p.get("in") == "query"}
        if method != "get" or path.endswith("/ws") or not described:
            continue
        rng = random.Random(path)
        for _ in range(60):
            chosen = {name: any_value(rng, name, described[name]) for name in rng.sample(sorted(described), rng.randint(1, len(described)))}
            if rng.random() < 0.1:
                chosen["no_such"] = "1"
            says = all(name in described and query_is_valid(text, described[name]) for name, text in chosen.items())
            asked = len(bed.daemon.requests)
            answer = ask(bed, method, f"{path}?{'&'.join(f'{name}={text}' for name, text in chosen.items())}", None)
            assert answer.status == (200 if says else 400), f"{path} {chosen}: {answer.status} {answer.text}"
            assert (len(bed.daemon.requests) > asked) == says
            verdicts[path, says] += 1
    assert len(verdicts) >= 2 * 13 and min(verdicts.values()) > 0, verdicts


def test_idempotency_keys(bed, document):
    """Whatever changes something hands the client's name for it on, but what answers with a secret; and the document says so."""
    looks = {"migration.check", "migration.plan", "fleet.plan", "node.checks", "audit.verify"}
    for method, path, operation in operations(document):
        if method == "get":
            continue
        takes_key = operation["operationId"] not in looks | {"node.token", "token.create"}
        assert ({"$ref": "#/components/parameters/idempotencyKey"} in operation.get("parameters", [])) == takes_key, operation["operationId"]
        name = body_of(operation)
        answer = ask(bed, method, path, json.dumps(BODIES[name]).encode() if name else None, {"Idempotency-Key": "monday"})
        assert answer.status in (200, 201, 202), f"{method} {path}: {answer.text}"
        assert bed.daemon.requests[-1]["args"].get("key") == ("monday" if takes_key else None), operation["operationId"]
