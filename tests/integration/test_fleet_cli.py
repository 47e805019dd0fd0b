# SPDX-License-Identifier: Apache-2.0
"""`novacron fleet` over a scripted gate: what is asked, what is printed, exit statuses, and what happens when a connection breaks."""

import json
import os
import pty
import re
import select
import signal
import subprocess
import time

import pytest

from fake_gate import FakeGate, Lost, Problem
from gate_bed import CLI

MIG, BAT, EVA = "mig-0t7bgtw5nn95j48m", "bat-0t7bgtw5nn95j48n", "eva-0t7bgtw5nn95j48p"
AT = 1_767_323_045_678_000  # 2026-01-02T03:04:05.678Z
NODE = {"name": "host-a", "address": "192.0.2.1:7450", "memory_bytes": 64 << 30, "disk_bytes": 0, "cpus": 16, "rate_bps": 0, "in_limit": 0,
        "out_limit": 0, "labels": [], "is_cordoned": False, "evacuation": "", "joined_us": AT, "seen_us": AT, "detail": {}, "file_systems": []}
MACHINE = {"name": "web1", "node": "host-a", "epoch": 3, "state": "running", "memory_bytes": 2 << 30, "disk_bytes": 0, "cpus": 2,
           "priority": "normal", "requires": [], "seen_us": AT, "detail": {}, "disks": []}
MOVE = {"seq": 7, "id": MIG, "machine": "web1", "source": "host-a", "destination": "host-b", "state": "running", "is_finished": False,
        "priority": "high", "attempts": 1, "epoch": 4, "batch": "", "evacuation": EVA, "actor": "uid:0", "submitted_us": AT,
        "started_us": AT, "finished_us": 0, "not_before_us": 0, "reason": "", "cancel_reason": "",
        "request": {"qos": "normal", "bandwidth_limit_bps": 50000000, "settings": {}}, "result": {}}
LIVE = {"waits": "", "phase": "memory_copy", "percent": 43.4, "rate_bps": 50000000, "endgame": "none", "silence": ""}
MOVED = {**MOVE, "state": "completed", "is_finished": True, "finished_us": AT + 9_000_000,
         "result": {"total_ms": 8400, "pause_ms": 212, "wire_bytes": 61 << 20}}
NONE = dict.fromkeys(("queued", "backoff", "starting", "running", "completed", "failed", "refused", "cancelled"), 0)
BATCH = {"seq": 1, "id": BAT, "policy": "any", "actor": "uid:0", "created_us": AT, "detail": {"not_submitted": []},
         "migrations": {**NONE, "running": 2, "completed": 1}}
EVACUATION = {"seq": 1, "id": EVA, "nodes": ["host-a"], "state": "running", "is_finished": False, "actor": "uid:0", "created_us": AT,
              "changed_us": AT, "reason": "", "detail": {"request": {}, "allow_partial": False, "planned_seconds": 125.0},
              "migrations": {**NONE, "running": 1, "queued": 1, "completed": 1}}
EMPTIED = {**EVACUATION, "state": "completed", "is_finished": True, "migrations": {**NONE, "completed": 3}}
ITEMS = [{"position": 0, "machine": "web1", "source": "host-a", "destination": "host-b", "goes_to": "host-d", "wave": 0, "migration": MIG, "state": "completed",
          "reason": ""},
         {"position": 1, "machine": "web2", "source": "host-a", "destination": "host-b", "wave": 1, "migration": MIG[:-1] + "q", "state": "failed",
          "reason": "the disk of host-b is full"},
         {"position": 2, "machine": "db1", "source": "host-a", "destination": "", "wave": 0, "migration": "", "state": "",
          "reason": "no node has 512.0 GiB of memory left"},
         {"position": 3, "machine": "web3", "source": "host-a", "destination": "host-b", "wave": 1, "migration": "", "state": "", "reason": ""}]
GONE = {"position": 4, "machine": "web5", "source": "host-a", "destination": "host-b", "goes_to": "host-b", "wave": 1, "migration": "", "state": "gone",
        "reason": 'it is on node "host-c" already'}
EVENTS = [{"id": 11, "at_us": AT, "kind": "node.joined", "subject": "host-a", "migration": "", "detail": {}},
          {"id": 12, "at_us": AT, "kind": "migration.state", "subject": MIG, "migration": MIG,
           "detail": {"state": "failed", "attempt": 1, "reason": "a\x1b[31m link"}}]
PLACEMENT = {"machine": "web1", "chosen": "host-b", "nodes_left_out": 0, "nodes": [
    {"node": "host-b", "score": 81.5}, {"node": "host-a", "refused": "own_node", "detail": "the machine is there"},
    {"node": "host-c", "refused": "disk", "detail": "80 MiB of disk needed in /srv/machines/of/the/laboratory, 40 free"}]}
PLAN = {"nodes": ["host-a"], "moves": [{"machine": f"web{i}", "source": "host-a", "destination": "host-b", "wave": i // 3, "seconds": 12.5,
                                        "pause_s": 0.212, "wire_bytes": 1e9, "postcopy": i == 2} for i in (1, 2, 3)],
        "cannot_move": [], "waves": [{"moves": 2, "seconds": 12.5, "memory_bytes": 4e9, "wire_bytes": 2e9, "pause_s": 0.2},
                                     {"moves": 1, "seconds": 112.5, "memory_bytes": 2e9, "wire_bytes": 1e9, "pause_s": 0.2}],
        "seconds": 125.0, "is_at_least": False, "empties": True}
STUCK = {**PLAN, "cannot_move": [{"machine": "db1", "reason": "no node has 512.0 GiB of memory left: " + "and so on " * 9}], "empties": False}
BEGUN = {"id": EVA, "state": "planned", "plan": PLAN}


@pytest.fixture
def gate(tmp_path):
    g = FakeGate(tmp_path / "api.sock")
    g.on("GET", "/api/v2/fleet", {"controller": "host-a", "leads": True, "epoch": 4, "holder": "host-a-1f", "address": "192.0.2.1:7450"})
    g.on("GET", "/api/v2/fleet/nodes", {"items": [NODE, {**NODE, "name": "host-b", "is_cordoned": True, "heard_s": 3, "is_silent": False},
                                                  {**NODE, "name": "host-c", "is_cordoned": True, "evacuation": EVA}], "next": None})
    g.on("GET", "/api/v2/fleet/machines", {"items": [MACHINE], "next": None})
    g.on("GET", "/api/v2/fleet/migrations", {"items": [MOVE, MOVED], "next": None})
    g.on("GET", "/api/v2/fleet/machines/web1/placement", PLACEMENT)
    g.on("POST", "/api/v2/fleet/migrations", {"id": MIG, "machine": "web1", "state": "queued"})
    g.on("GET", f"/api/v2/fleet/migrations/{MIG}", {**MOVE, "live": LIVE})
    g.on("GET", f"/api/v2/fleet/batches/{BAT}", BATCH)
    g.on("GET", f"/api/v2/fleet/evacuations/{EVA}", EVACUATION)
    g.on("GET", f"/api/v2/fleet/evacuations/{EVA}/items", {"items": ITEMS, "next": None})
    g.on("GET", "/api/v2/fleet/events", {"items": EVENTS, "oldest": 1, "newest": 12})
    g.on("POST", "/api/v2/fleet/evacuations/plan", PLAN)
    g.on("POST", "/api/v2/migrations/evacuate", BEGUN)
    g.on("POST", "/api/v2/migrations/batch", {"id": BAT, "policy": "any", "submitted": 2, "items": [
        {"machine": "web1", "migration": MIG, "reason": ""}, {"machine": "web2", "migration": MIG[:-1] + "q", "reason": ""}]})
    g.on("POST", f"/api/v2/fleet/migrations/{MIG}/cancel", {"id": MIG, "state": "cancelling"})
    for group, id in (("batches", BAT), ("evacuations", EVA)):
        g.on("POST", f"/api/v2/fleet/{group}/{id}/cancel", {"id": id, "cancelled": 2, "under_way": 1})
    for verb in ("cordon", "uncordon"):
        g.on("POST", f"/api/v2/fleet/nodes/host-a/{verb}", {"node": "host-a", "is_cordoned": verb == "cordon"})
    yield g
    g.close()


def course(gate, path, *states):
    """Shows one state after the other, the last for ever."""
    states = list(states)

    def get(_):
        state = states.pop(0) if len(states) > 1 else states[0]
        if isinstance(state, Exception):
            raise state
        return state
    gate.on("GET", path, get)


def fleet(gate, *arguments, **more):
    return subprocess.run([CLI, "--socket", gate.path, "fleet", *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, timeout=60, **more)


def fits(text):
    return all(len(line) <= 80 for line in text.splitlines())


def body(gate, path):
    return gate.asked("POST", path)[-1].body


@pytest.mark.parametrize("arguments,words", [
    (["status"], ["node host-a: its controller leads", "host-a-1f (192.0.2.1:7450)", "epoch        4"]),
    (["nodes"], ["host-a  open", "host-b  cordoned", "evacuating", "64.0 GiB", "3.0 s ago", "-\n"]),
    (["machines"], ["web1  host-a  running", "2.0 GiB"]), (["list"], [MIG, "running", "completed"]),
    (["show", MIG], ["web1, host-a -> host-b", "running: memory_copy, 43 %", "high, class normal", "50.0 MB/s", EVA, f"novacron status {MIG}.1"]),
    (["show", BAT], ["1 completed, 2 running", "policy       any", MIG]),
    (["show", EVA], ["host-a", "1 completed, 1 running, 1 queued", "2 min 05 s", f"--evacuation {EVA}", f"web1     host-a  host-d     1  completed  {MIG}",
                     "not moved", "waits", "web2: failed: the disk of host-b is full", "db1: no node has 512.0 GiB"]),
    (["migrate", "web1", "--explain"], ["web1 would go to host-b.", "host-b: fits, 81.5 points", "Not to", "host-c: 80 MiB of disk needed"]),
    (["migrate", "web1"], [f"novacron fleet show {MIG}"]), (["batch", "web1", "web2"], [f"web1     {MIG}", f"fleet show {BAT}"]),
    (["evacuate", "host-a", "--plan"], ["3 to move in 2 min 05 s, 0 can't move", "WAVE", "1 min 53 s", "post-copy"]),
    (["evacuate", "host-a", "--yes"], [f"{EVA} has begun", f"novacron fleet cancel {EVA}"]),
    (["cancel", MIG], ["being cancelled"]), (["cancel", BAT], ["2 cancelled, 1 under way"]), (["cancel", EVA], ["1 under way go on"]),
    (["cordon", "host-a"], ["nothing more comes"]), (["uncordon", "host-a"], ["again"]),
])
def test_text_and_json(gate, arguments, words):
    out = fleet(gate, *arguments)
    assert out.returncode == 0, out.stderr
    for word in words:
        assert word in out.stdout, out.stdout
    assert fits(out.stdout), out.stdout
    out = fleet(gate, *arguments, "--json")
    assert out.returncode == 0 and len(out.stdout.splitlines()) == 1 and isinstance(json.loads(out.stdout), dict)


def novacron(gate, *arguments):
    return subprocess.run([CLI, "--socket", gate.path, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          timeout=60)


@pytest.mark.parametrize("arguments,same", [
    (["evacuate", "host-a", "--plan"], ["evacuate", "host-a", "--plan"]), (["batch", "web1", "web2"], ["batch", "web1", "web2"]),
    (["node", "cordon", "host-a"], ["cordon", "host-a"]), (["node", "uncordon", "host-a"], ["uncordon", "host-a"]),
    (["queue"], ["list", "--unfinished"]), (["queue", "--machine", "web1", "--json"], ["list", "--unfinished", "--machine", "web1", "--json"])])
def test_short_names_are_the_same_commands(gate, arguments, same):
    out, expected = novacron(gate, *arguments), fleet(gate, *same)
    assert out.returncode == expected.returncode == 0 and out.stdout == expected.stdout, (out, expected)


def test_history_is_of_those_that_have_ended(gate):
    gate.on("GET", "/api/v2/fleet/migrations", {"items": [MOVED], "next": None})
    out = novacron(gate, "history", "--machine", "web1", "--limit", "5")
    assert out.returncode == 0 and "2026-01-02T03:04:14Z" in out.stdout and fits(out.stdout), out
    asked = gate.asked("GET", "/api/v2/fleet/migrations")[-1].query
    assert asked == {"finished": "true", "machine": "web1", "limit": "5"}, asked


def test_all_items_are_shown_when_asked_for(gate):
    def page(request):
        first = int(request.query.get("cursor", "item:0").split(":")[1])
        items = [{**ITEMS[0], "machine": f"vm-{n}", "position": n} for n in range(first, min(first + int(request.query["limit"]), 45))]
        return {"items": items, "next": f"item:{first + len(items)}" if first + len(items) < 45 else None}
    gate.on("GET", f"/api/v2/fleet/evacuations/{EVA}/items", page)
    out = fleet(gate, "show", EVA)
    assert "vm-19 " in out.stdout and "vm-20 " not in out.stdout and "--all" in out.stdout, out.stdout
    out = fleet(gate, "show", EVA, "--all")
    assert "vm-44 " in out.stdout and "--all" not in out.stdout, out.stdout
    assert len(json.loads(fleet(gate, "show", EVA, "--json").stdout)["items"]) == 45


def test_events_are_followed(gate):
    out = novacron(gate, "events")
    assert out.returncode == 0 and out.stdout.splitlines() == [
        "2026-01-02T03:04:05Z  node.joined  host-a  ", f"2026-01-02T03:04:05Z  migration.state  {MIG}  state failed, attempt 1, reason a?[31m link"], out.stdout
    assert gate.asked("GET", "/api/v2/fleet/events")[-1].query == {"limit": "100"}
    assert json.loads(novacron(gate, "events", "--json", "--after", "5", "--migration", MIG).stdout)["newest"] == 12
    assert gate.asked("GET", "/api/v2/fleet/events")[-1].query == {"limit": "100", "after": "5", "migration": MIG}
    new = {**EVENTS[0], "id": 14, "subject": "host-b"}
    course(gate, "/api/v2/fleet/events", {"items": EVENTS, "oldest": 1, "newest": 12}, Problem(503, "unavailable", "no controller leads"),
           {"items": [new], "oldest": 14, "newest": 14}, {"items": [], "oldest": 14, "newest": 14})
    with subprocess.Popen([CLI, "--socket", gate.path, "events", "--follow", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as follower:
        try:
            assert [json.loads(follower.stdout.readline())["id"] for _ in range(3)] == [11, 12, 14]
        finally:
            follower.terminate()
        _, err = follower.communicate(timeout=20)
    assert "no controller leads" in err and "some events before 14" in err, err
    assert gate.asked("GET", "/api/v2/fleet/events")[-1].query["after"] in ("12", "14")


def test_tables_fit_whatever_the_names(gate):
    name = "v" * 63
    gate.on("GET", "/api/v2/fleet/nodes", {"items": [{**NODE, "name": name, "address": f"{name}:7450", "evacuation": EVA}], "next": None})
    gate.on("GET", "/api/v2/fleet/machines", {"items": [{**MACHINE, "name": name, "node": name, "priority": "critical"}], "next": None})
    gate.on("GET", "/api/v2/fleet/migrations", {"items": [{**MOVED, "machine": name, "source": name, "destination": name,
                                                           "priority": "critical", "attempts": 100}], "next": None})
    gate.on("POST", "/api/v2/fleet/evacuations/plan", {**PLAN, "moves": [{**PLAN["moves"][0], "machine": name, "source": name}],
                                                       "cannot_move": [{"machine": name, "reason": "it is \x1b[31m paused"}], "empties": False})
    for arguments in (["nodes"], ["machines"], ["list"], ["evacuate", "host-a", "--plan"]):
        out = fleet(gate, *arguments)
        assert fits(out.stdout) and "vv" in out.stdout and "\x1b" not in out.stdout, out.stdout


def test_what_is_not_known_is_left_out(gate):
    gate.on("GET", f"/api/v2/fleet/migrations/{MIG}", {
        **MOVE, "state": "queued", "destination": "", "attempts": 0, "started_us": 0, "evacuation": "",
        "live": {**LIVE, "waits": "its turn: the limits of cluster and nodes, those before it, or room", "phase": "", "percent": 0}})
    out = fleet(gate, "show", MIG)
    assert "wherever it fits best" in out.stdout and "waits for its turn" in out.stdout and fits(out.stdout), out.stdout
    for word in ("begun", "ended", "part of", "story", "pause"):
        assert word not in out.stdout, out.stdout


def test_lists_of_many_pages(gate):
    rows = [{**MOVED, "seq": n, "machine": f"web{n}"} for n in range(1200, 0, -1)]

    def page(request):
        at = int(request.query.get("cursor", "migration:0").split(":")[1])
        limit = int(request.query["limit"])
        return {"items": rows[at:at + limit], "next": f"migration:{at + limit}" if at + limit < len(rows) else None}
    gate.on("GET", "/api/v2/fleet/migrations", page)
    out = fleet(gate, "list")
    assert len(out.stdout.splitlines()) == 101 and "web1200 " in out.stdout and "more than these 100" in out.stderr
    assert len(gate.requests) == 1
    out = fleet(gate, "list", "--limit", "700", "--json")
    listed = json.loads(out.stdout)
    assert [r["seq"] for r in listed["items"]] == list(range(1200, 500, -1)) and listed["next"] == "migration:700"
    out = fleet(gate, "list", "--all", "--json")
    listed = json.loads(out.stdout)
    assert len(listed["items"]) == 1200 and listed["next"] is None and out.stderr == ""


def test_filters_are_asked_for(gate):
    fleet(gate, "list", "--unfinished", "--machine", "web1", "--node", "host-a", "--batch", BAT, "--evacuation", EVA)
    assert gate.requests[-1].query == {"unfinished": "true", "machine": "web1", "node": "host-a", "batch": BAT, "evacuation": EVA, "limit": "100"}
    fleet(gate, "machines", "--node", "host-a")
    assert gate.requests[-1].query["node"] == "host-a"


def test_a_strange_cursor_goes_into_no_request(gate):
    gate.on("GET", "/api/v2/fleet/nodes", {"items": [NODE], "next": "x&role=admin HTTP/1.1"})
    out = fleet(gate, "nodes")
    assert out.returncode == 10 and "strange cursor" in out.stderr and len(gate.requests) == 1


def test_evacuations_and_batches_are_listed(gate):
    evacuation = {"seq": 2, "id": EVA, "nodes": ["host-a", "host-b"], "state": "completed", "is_finished": True, "actor": "certificate:alice",
                  "created_us": 1767322810000000, "changed_us": 1767322870000000, "reason": "", "detail": {}}
    gate.on("GET", "/api/v2/fleet/evacuations", {"items": [evacuation], "next": None})
    out = fleet(gate, "evacuations", "--unfinished")
    assert out.returncode == 0 and EVA in out.stdout and "host-a, host-b" in out.stdout and "completed" in out.stdout, out.stdout
    assert gate.requests[-1].query["unfinished"] == "true"
    gate.on("GET", "/api/v2/fleet/batches", {"items": [], "next": None})
    assert fleet(gate, "batches").stdout.strip() == "No batches."
    assert fleet(gate, "batches", "--limit", "0").returncode == 2


def test_what_is_asked_for(gate):
    fleet(gate, "migrate", "web1", "--to", "host-b", "--prefer", "--priority", "critical", "--bandwidth", "800Mbit", "--qos", "high",
          "--algorithm", "pre-copy", "--retry", "0", "--no-checkpoint", "--max-downtime", "100")
    assert body(gate, "/api/v2/fleet/migrations") == {
        "machine": "web1", "destination": "host-b", "destination_is_wish": True, "priority": "critical", "bandwidth_limit_bps": 100000000,
        "qos": "high", "algorithm": "pre-copy", "retry_attempts": 0, "checkpoint": False, "max_downtime_ms": 100}
    fleet(gate, "migrate", "web1")
    assert body(gate, "/api/v2/fleet/migrations") == {"machine": "web1"}
    fleet(gate, "batch", "--policy", "all", "web1:host-b", "web2", "--priority", "low")
    assert body(gate, "/api/v2/migrations/batch") == {"policy": "all", "migrations": [
        {"machine": "web1", "destination": "host-b", "priority": "low"}, {"machine": "web2", "priority": "low"}]}
    fleet(gate, "evacuate", "host-a", "host-c", "--yes", "--partial", "--streams", "4")
    asked = {"nodes": ["host-a", "host-c"], "allow_partial": True, "streams": 4}
    assert body(gate, "/api/v2/fleet/evacuations/plan") == asked and body(gate, "/api/v2/migrations/evacuate") == asked
    fleet(gate, "cancel", EVA, "--also-running", "--reason", "host-b is full")
    assert body(gate, f"/api/v2/fleet/evacuations/{EVA}/cancel") == {"also_running": True, "reason": "host-b is full"}
    fleet(gate, "cancel", MIG, "--also-running")
    assert body(gate, f"/api/v2/fleet/migrations/{MIG}/cancel") is None


@pytest.mark.parametrize("arguments,word", [
    ([], "needs one of these"), (["bogus"], "fleet bogus"), (["show"], "usage"), (["show", "m-0t7bgtw5nn95j48m"], "mig-, bat- or eva-"),
    (["show", "eva-a/../b"], "mig-, bat- or eva-"), (["migrate"], "usage"), (["migrate", "a/b"], "a/b"), (["migrate", "a", "--prefer"], "--to"), (["migrate", "a", "--explain", "--to", "b"], "--to"),
    (["migrate", "a", "--bandwidth", "fast"], "not a rate"), (["migrate", "a", "--to", ".."], ".."), (["batch"], "usage"),
    (["batch", "web1:"], "node"), (["batch", ":host-b"], "machine"), (["batch", "a", "--trust-base"], "--keep-chain"), (["evacuate"], "usage"),
    (["evacuate", "host-a"], "--yes is needed"), (["evacuate", "host-a", "--json"], "--yes is needed"), (["evacuate", "..", "--yes"], ".."),
    (["list", "--limit", "0"], "--limit"), (["list", "--node", "a&b"], "a&b"), (["machines", "--node", "x y"], "x y"), (["cordon", "a/b"], "a/b"),
])
def test_misuse_exits_2_and_asks_nothing(gate, arguments, word):
    out = fleet(gate, *arguments)
    assert out.returncode == 2 and word in out.stderr, out.stderr
    assert gate.requests == []


# --- what is repeated ---

def test_every_change_has_a_key_of_its_own(gate):
    for arguments in (["migrate", "web1"], ["migrate", "web1"], ["batch", "web1"], ["evacuate", "host-a", "--yes"], ["cancel", EVA],
                      ["cordon", "host-a"], ["uncordon", "host-a"]):
        assert fleet(gate, *arguments).returncode == 0
    keys = [r.key for r in gate.requests if r.method == "POST" and not r.path.endswith("/plan")]
    assert len(keys) == 7 == len(set(keys)) and all(re.fullmatch("[0-9a-f]{32}", key) for key in keys), keys
    assert all(r.key is None for r in gate.requests if r.path.endswith("/plan"))


def losing(gate, times, error=Lost()):
    """Does what is asked, once for each key, and answers only after `times` failures."""
    done, left = {}, [times]

    def answer(request):
        done.setdefault(request.key, []).append(request.body)
        if left[0] > 0:
            left[0] -= 1
            raise error
        return {"id": MIG, "machine": "web1", "state": "queued"}
    gate.on("POST", "/api/v2/fleet/migrations", answer)
    return done


@pytest.mark.parametrize("error", [Lost(), Problem(502, "unreachable", "novacrond closed the connection before it answered")])
def test_lost_in_the_middle_it_is_asked_again_with_the_same_key(gate, error):
    done = losing(gate, 2, error)
    out = fleet(gate, "migrate", "web1")
    assert out.returncode == 0 and MIG in out.stdout and out.stderr == "", out.stderr
    (bodies,) = done.values()
    assert bodies == [{"machine": "web1"}] * 3


@pytest.mark.parametrize("error,is_known", [(Lost(), False), (Problem(502, "unreachable", "controller host-b leads, this one does not"), True)])
def test_repeating_has_an_end(gate, error, is_known):
    done = losing(gate, 99, error)
    out = fleet(gate, "migrate", "web1")
    assert out.returncode == 8 and "asked 5 times" in out.stderr and ("look before repeating" in out.stderr) == (not is_known), out.stderr
    (bodies,) = done.values()
    assert len(bodies) == 5


def test_a_leader_is_waited_for(gate):
    """Longer than for a connection: the other controller's lease has to run out."""
    told = [Problem(503, "unavailable", "no controller leads")] * 2 + [Lost()] + [{"node": "host-a", "is_cordoned": True}]

    def tell(_):
        answer = told.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer
    gate.on("POST", "/api/v2/fleet/nodes/host-a/cordon", tell)
    out = fleet(gate, "cordon", "host-a")
    assert out.returncode == 0 and not told, out
    assert len({r.key for r in gate.asked("POST", "/api/v2/fleet/nodes/host-a/cordon")}) == 1


def test_refusals_and_a_gate_that_is_not_there_are_not_repeated(gate, tmp_path):
    done = losing(gate, 99, Problem(409, "conflict", "machine \"web1\" has a migration already"))
    out = fleet(gate, "migrate", "web1")
    assert out.returncode == 5 and "has a migration already" in out.stderr and len(gate.requests) == 1 and len(done) == 1
    out = subprocess.run([CLI, "--socket", str(tmp_path / "nobody"), "fleet", "migrate", "web1"], stderr=subprocess.PIPE, text=True, timeout=20)
    assert out.returncode == 8 and "can't reach NovaCron" in out.stderr and "asked" not in out.stderr


# --- evacuating ---

def test_what_can_not_move_is_said_before_anything_is_begun(gate):
    gate.on("POST", "/api/v2/fleet/evacuations/plan", STUCK)
    out = fleet(gate, "evacuate", "host-a", "--plan")
    assert out.returncode == 6 and "Can't move:\n  db1: no node has 512.0 GiB" in out.stdout and fits(out.stdout), out.stdout
    out = fleet(gate, "evacuate", "host-a", "--yes")
    assert out.returncode == 6 and "nothing was begun" in out.stderr and "--partial" in out.stderr
    assert gate.asked("POST", "/api/v2/migrations/evacuate") == []
    assert fleet(gate, "evacuate", "host-a", "--yes", "--partial").returncode == 0


def test_a_plan_that_has_changed_meanwhile(gate):
    gate.on("POST", "/api/v2/migrations/evacuate", {"id": EVA, "state": "failed", "plan": STUCK})
    out = fleet(gate, "evacuate", "host-a", "--yes")
    assert out.returncode == 6 and "db1: no node has" in out.stderr and "did not begin" in out.stderr


def on_terminal(gate, typed, *arguments):
    """Runs it on a terminal of its own: its status and what was shown."""
    terminal, child = pty.openpty()
    process = subprocess.Popen([CLI, "--socket", gate.path, "fleet", *arguments], stdin=child, stdout=child, stderr=child)
    os.close(child)
    shown = b""
    try:
        while process.poll() is None or select.select([terminal], [], [], 0.2)[0]:
            if not select.select([terminal], [], [], 0.2)[0]:
                continue
            try:
                shown += os.read(terminal, 4096)
            except OSError:
                break
            if typed and b"[y/N] " in shown:
                os.write(terminal, typed)
                typed = None
        return process.wait(10), shown.decode()
    finally:
        process.kill()
        process.wait()
        os.close(terminal)


@pytest.mark.parametrize("typed,begins", [(b"y\n", True), (b"Yes\n", True), (b"n\n", False), (b"\n", False), (b"yesterday\n", False), (b"\x04", False)])
def test_on_a_terminal_it_asks(gate, typed, begins):
    status, shown = on_terminal(gate, typed, "evacuate", "host-a")
    assert shown.index("3 to move") < shown.index("Begin? [y/N]")
    assert (status, len(gate.asked("POST", "/api/v2/migrations/evacuate"))) == ((0, 1) if begins else (9, 0)), shown
    assert begins or "nothing was begun" in shown


def test_waiting_shows_how_it_gets_on(gate):
    course(gate, f"/api/v2/fleet/evacuations/{EVA}", EVACUATION, Problem(502, "unreachable", "novacrond is away"), Problem(503, "unavailable", "none leads"),
           EVACUATION, EMPTIED)
    out = fleet(gate, "evacuate", "host-a", "--yes", "--wait")
    assert out.returncode == 0, out.stderr
    assert "running: 1 done, 0 failed, 2 left (1 under way)" in out.stderr and "\r" not in out.stderr
    assert "3 completed" in out.stdout and fits(out.stdout) and fits(out.stderr)
    status, shown = on_terminal(gate, None, "evacuate", "host-a", "--yes", "--wait")
    assert status == 0 and "\x1b[K" in shown


def test_what_did_not_move_is_named(gate):
    failed = {**ITEMS[1], "machine": "web3", "reason": "the destination has no bridge br0"}
    gate.on("GET", f"/api/v2/fleet/evacuations/{EVA}/items", {"items": [ITEMS[0], failed, ITEMS[2], {**ITEMS[3], "machine": "web4"}, GONE], "next": None})
    course(gate, f"/api/v2/fleet/evacuations/{EVA}", {**EMPTIED, "state": "failed", "reason": "1 machines are still there (web3)",
                                                      "migrations": {**NONE, "completed": 2, "failed": 1}})
    out = fleet(gate, "evacuate", "host-a", "--yes", "--wait", "--json")
    assert out.returncode == 6 and "web3: failed: the destination has no bridge br0" in out.stderr and "still there" in out.stderr
    result = json.loads(out.stdout)
    assert result["state"] == "failed"
    assert {m["machine"]: m["reason"] for m in result["not_moved"]} == {"web3": "the destination has no bridge br0", "db1": ITEMS[2]["reason"],
                                                                       "web4": "it was not begun"}


def test_the_end_is_told_though_the_list_can_not_be_had(gate):
    course(gate, f"/api/v2/fleet/evacuations/{EVA}", EMPTIED)
    course(gate, f"/api/v2/fleet/evacuations/{EVA}/items", Problem(502, "unreachable", "novacrond is away"))
    out = fleet(gate, "evacuate", "host-a", "--yes", "--wait", "--json")
    assert out.returncode == 0 and f"fleet list --evacuation {EVA}" in " ".join(out.stderr.split()) and "novacrond is away" in out.stderr, out.stderr
    result = json.loads(out.stdout)
    assert result["state"] == "completed" and result["not_moved"] is None


def test_interrupting_says_how_to_go_on(gate):
    process = subprocess.Popen([CLI, "--socket", gate.path, "fleet", "evacuate", "host-a", "--yes", "--wait"], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 20
    while not gate.asked("GET", f"/api/v2/fleet/evacuations/{EVA}") and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=10)
    assert process.returncode == 130
    assert "the evacuation goes on" in err and f"novacron fleet show {EVA}" in err and f"novacron fleet cancel {EVA}" in err
    assert not gate.asked("POST", f"/api/v2/fleet/evacuations/{EVA}/cancel")


# --- waiting for the others ---

@pytest.mark.parametrize("end,status,word", [
    ({}, 0, ""), ({"state": "cancelled", "reason": "enough"}, 9, "cancelled: enough"),
    ({"state": "refused", "reason": "no node has room"}, 6, "refused: no node has room"),
    ({"state": "failed", "reason": "QEMU died"}, 10, "failed: QEMU died"),
    ({"state": "running", "is_finished": False, "live": {**LIVE, "phase": "needs_attention"}}, 11, "needs_attention"),
])
def test_waiting_for_a_migration(gate, end, status, word):
    course(gate, f"/api/v2/fleet/migrations/{MIG}", {**MOVE, "live": LIVE}, {**MOVED, **end})
    out = fleet(gate, "migrate", "web1", "--wait")
    assert out.returncode == status and word in out.stderr and "running: memory_copy, 43 %" in out.stderr, out.stderr
    assert status or "212 ms" in out.stdout and "61.0 MiB" in out.stdout


@pytest.mark.parametrize("counts,status", [({"completed": 2}, 0), ({"completed": 1, "failed": 1}, 6), ({"completed": 1, "cancelled": 1}, 9)])
def test_waiting_for_a_batch(gate, counts, status):
    course(gate, f"/api/v2/fleet/batches/{BAT}", BATCH, {**BATCH, "migrations": {**NONE, **counts}})
    gate.on("GET", "/api/v2/fleet/migrations", {"items": [MOVED], "next": None})
    out = fleet(gate, "batch", "web1", "web2", "--wait")
    assert out.returncode == status and "1 done, 0 failed, 2 left (2 under way)" in out.stderr, out.stderr


def test_what_a_batch_did_not_take_is_said(gate):
    refused = {"machine": "web9", "migration": None, "reason": "the fleet has no machine \"web9\""}
    gate.on("POST", "/api/v2/migrations/batch", {"id": BAT, "policy": "any", "submitted": 1,
                                                 "items": [{"machine": "web1", "migration": MIG, "reason": ""}, refused]})
    out = fleet(gate, "batch", "web1", "web9")
    assert out.returncode == 6 and "web9: the fleet has no machine" in out.stderr and f"web1     {MIG}" in out.stdout
    course(gate, f"/api/v2/fleet/batches/{BAT}", {**BATCH, "detail": {"not_submitted": [refused]}, "migrations": {**NONE, "completed": 1}})
    gate.on("GET", "/api/v2/fleet/migrations", {"items": [MOVED], "next": None})
    out = fleet(gate, "batch", "web1", "web9", "--wait", "--json")
    assert out.returncode == 6 and [m["machine"] for m in json.loads(out.stdout)["not_moved"]] == ["web9"]
    gate.on("POST", "/api/v2/migrations/batch", {"id": BAT, "policy": "all", "submitted": 0, "items": [refused]})
    out = fleet(gate, "batch", "web9", "--policy", "all", "--wait")
    assert out.returncode == 6 and "Nothing was submitted" in out.stdout
