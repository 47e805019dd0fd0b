# SPDX-License-Identifier: Apache-2.0
"""The dashboard in a real browser: what it shows, does, and can be used with; and a real migration watched in it to its end."""

import os
import re
import shutil
import subprocess
import sys
import threading
from datetime import datetime, timedelta, timezone

import pytest

from fake_novacrond import Refusal
from gate_bed import ALERT, AUDIT, CHECKPOINT, COMPLETED, FLEET_BATCH, FLEET_COUNTS, FLEET_EVACUATION, FLEET_MACHINE, FLEET_MIGRATION, FLEET_NODE, FLEET_PLAN, GROUP_PROGRESS, MACHINE, MIGRATION, PROGRESS, ROLLBACK, Bed, Keys, free_port, tls_context
from nctest.bridge import Bridge, CertifiedBridge
from nctest.browser import ENTER, TAB, Browser
from nctest.cluster import Cluster, guest_spec
from nctest.net import BUILD, wait_for

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
MAKE = os.path.join(ROOT, "src/gate/make_dashboard.py")
SHOTS = os.environ.get("NC_SHOTS") or os.path.join(BUILD, "shots")  # every page is photographed there
PHONE, DESK = (360, 740, True), (1280, 900, False)
MARKUP = "<img src=x onerror=\"document.title='owned'\"><b>bold</b> &amp; {{x}}"


def was_bundled():
    with open(os.path.join(BUILD, "src/gate/assets.c"), encoding="ascii") as f:
        return "/assets/dashboard.js" in f.read()


pytestmark = pytest.mark.skipif(not shutil.which("chromedriver") or not was_bundled(), reason="no chromedriver, or the gate was built without the dashboard")


def ago(seconds):
    return (datetime.now(timezone.utc) - timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S.000Z")


class Emptying:
    """An evacuation, or a batch, of three machines: one moves, one waits, one can't (of an evacuation)."""

    def __init__(self, record):
        self.record = {**record, "created_us": int((datetime.now(timezone.utc).timestamp() - 20) * 1e6)}
        self.events, self.asked_since, self.refusal, self.lock = [], [], None, threading.Lock()
        self.states = {"web1": "running", "web2": "queued"}
        self.progress = {**GROUP_PROGRESS, "total": 2, "done": 0}
        self.goes_to, self.more = {}, []  # other than planned; items besides

    def counts(self):
        return {**FLEET_COUNTS, "completed": 0, **{state: list(self.states.values()).count(state) for state in self.states.values()}}

    def get(self):
        return {**self.record, "migrations": self.counts()}

    def migrations(self):
        """As the fleet's list has them, newest first."""
        rows = [{**{key: value for key, value in FLEET_MIGRATION.items() if key != "live"}, "seq": n, "machine": name, "state": state, "destination": "host-b" if n == 0 else "",
                 "id": FLEET_MIGRATION["id"] if n == 0 else "mig-0t7bd31dsw67hqq0", "reason": "no " + MARKUP if state == "failed" else "",
                 "is_finished": state in ("completed", "failed", "cancelled")} for n, (name, state) in enumerate(self.states.items())]
        return rows[::-1]

    def items(self):
        rows = [{"position": n, "machine": m["machine"], "source": "host-a", "destination": "host-b", "goes_to": self.goes_to.get(m["machine"], "host-b"), "wave": n, "migration": m["id"], "state": m["state"], "reason": m["reason"]}
                for n, m in enumerate(self.migrations()[::-1])]
        return [*rows, {"position": 2, "machine": "giant", "source": "host-a", "destination": "", "goes_to": "", "wave": 0, "migration": "", "state": "", "reason": "no node has room " + MARKUP}, *self.more]

    def happens(self, type="event", **data):
        with self.lock:
            self.events.append({"id": 100 + len(self.events), "type": type, "at": ago(0), "data": data or {"event": "migration.state", "detail": "", "subject": "mig-x", "migration": "mig-x", "facts": {}}})

    def watch(self, args):
        with self.lock:
            if self.refusal:
                raise Refusal(*self.refusal)
            self.asked_since.append(args.get("since"))
            ended = self.record.get("is_finished", False) or not {"running", "queued"} & set(self.states.values())
            return {"id": args["id"], "events": [e for e in self.events if e["id"] > args.get("since", 0)], "last": 0, "more": False, "ended": ended, "progress": dict(self.progress)}


class Fleet:
    """What the fake novacrond has: tests change it while the browser looks."""

    def __init__(self):
        self.events, self.progress, self.asked_since = [], {**PROGRESS, "progress": 43}, []
        self.lock = threading.Lock()
        self.running = {**MIGRATION, "created": ago(20), "started": ago(20), "rtt_us": 20300, "eta_error_ms": 3000, "effective_rate_bps": 90000000, "converges": True,
                        "connections": [{"index": 0, "up": True, "segments": 1000, "retransmitted_segments": 5},
                                        {"index": 1, "up": False, "segments": 1000, "retransmitted_segments": 5}]}
        started = COMPLETED["started"]
        self.completed = {**COMPLETED, "id": "m-completed", "checkpoint": "c-1", "rollbacks": [ROLLBACK],
                          "attempts": [{"attempt": 1, "ended": "2026-01-02T03:04:06.000Z", "error": {"code": "unreachable", "message": "the link was down"}}],
                          "events": [{"at": started, "event": "round", "detail": "1"}, {"at": "2026-01-02T03:04:12.600Z", "event": "throttle", "detail": "since " + MARKUP}]
                          + COMPLETED["events"]}
        self.failed = {**COMPLETED, "id": "m-failed", "phase": "needs_attention", "outcome": "failed", "error": {"code": "convergence", "message": "too fast: " + MARKUP},
                       "attention": "decide: novacron resolve m-failed --run-here " + MARKUP}
        self.emptying = Emptying({**FLEET_EVACUATION, "id": "eva-2", "state": "running", "is_finished": False, "changed_us": 0, "detail": {"planned_seconds": 61.5}})
        self.batch = Emptying({**FLEET_BATCH, "id": "bat-1", "detail": {"not_submitted": [{"machine": "nobody", "reason": "there is no such machine " + MARKUP}]}})
        self.machines = [MACHINE, {**MACHINE, "name": "m2", "state": "moved", "moved_to": "host-b " + MARKUP, "memory_mib": None}]

    def list(self, args):
        items = {"active": [self.running] if self.running["outcome"] is None else [], "ended": [self.completed, self.failed]}
        return {"items": items[args["state"]], "next": None}

    def get(self, args):
        found = {m["id"]: m for m in (self.running, self.completed, self.failed)}.get(args["id"])
        if not found:
            raise Refusal("not_found", f"there is no migration {args['id']} on this node")
        return found

    def happens(self, type="event", **data):
        with self.lock:
            self.events.append({"id": 10 + len(self.events), "type": type, "at": ago(0), "data": data or {"event": "x", "detail": ""}})

    def watch(self, args):
        with self.lock:
            self.asked_since.append(args.get("since"))
            events = [e for e in self.events if e["id"] > args.get("since", 0)]
            ended = any(e["type"] == "completed" for e in self.events)
            return {"id": args["id"], "events": events, "last": self.events[-1]["id"] if self.events else 0, "more": False, "ended": ended, "progress": dict(self.progress)}

    def group(self, args):
        found = {g.record["id"]: g for g in (self.emptying, self.batch)}.get(args["id"])
        if not found:
            raise Refusal("not_found", f"the controller knows no {args['id']}")
        return found

    def queue(self, args):
        if "batch" in args:
            return {"items": self.batch.migrations(), "next": None}
        queued = {**FLEET_MIGRATION, "machine": "queued-one", "state": "queued", "destination": "", "reason": "no room " + MARKUP, "evacuation": "eva-2"}
        return {"items": [queued], "next": None if args["unfinished"] else "migration:17"}

    def handlers(self):
        nodes = [FLEET_NODE, {**FLEET_NODE, "name": "host-b", "is_cordoned": True, "evacuation": ""}]
        return {"migration.list": self.list, "migration.get": self.get, "migration.watch": self.watch, "machine.list": lambda args: self.machines,
                "fleet.nodes": lambda args: {"items": nodes, "next": None}, "fleet.machines": lambda args: {"items": [FLEET_MACHINE], "next": None},
                "fleet.list": self.queue, "fleet.get": lambda args: self.group(args).get(), "fleet.items": lambda args: {"items": self.group(args).items(), "next": None},
                "fleet.watch": lambda args: self.group(args).watch(args)}


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    b = Browser(tmp_path_factory.mktemp("browser"))
    yield b
    b.close()


class Served:
    def __init__(self, directory):
        self.fleet = Fleet()
        self.bed = Bed(directory, "--no-https", handlers=self.fleet.handlers())
        self.bridge = Bridge(self.bed.socket)
        self.url = f"http://{self.bridge.address}/"

    def close(self):
        self.bridge.close()
        self.bed.close()


@pytest.fixture
def served(tmp_path, browser):
    s = Served(tmp_path)
    browser.size(*DESK)
    browser.scheme("light")
    yield s
    try:
        browser.open("about:blank")  # then nothing more comes
        complaints = browser.complaints()
        strangers = [url for url in browser.requests() if s.bridge.address not in url and not url.startswith(("data:", "about:"))]
        assert not complaints and not strangers
    finally:
        s.close()


def look(browser, served, fragment=""):
    browser.open("about:blank")
    browser.open(served.url + fragment)


def shoot(browser, name):
    os.makedirs(SHOTS, exist_ok=True)
    browser.shoot(os.path.join(SHOTS, name + ".png"))


# --- the files ---

def test_files_and_their_headers(served):
    page = served.bed.call("GET", "/")
    assert page.status == 200 and page.headers["Content-Type"] == "text/html; charset=utf-8"
    named = re.findall(r'(?:src|href)="(/[^"#]+)"', page.text)
    assert len(named) == 3
    types = {".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml"}
    for path in ["/", *named]:
        answer = served.bed.call("GET", path)
        assert answer.status == 200 and answer.headers["Content-Type"] == types.get(os.path.splitext(path)[1], "text/html; charset=utf-8")
        assert answer.headers["X-Content-Type-Options"] == "nosniff" and answer.headers["Cache-Control"] == "no-cache"
        policy = answer.headers["Content-Security-Policy"]
        for part in ("default-src 'none'", "script-src 'self'", "style-src 'self'", "connect-src 'self'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'none'"):
            assert part in policy.split("; ")
        tag = answer.headers["ETag"]
        for known in (tag, f'"x", W/{tag}', "*"):
            again = served.bed.call("GET", path, headers={"If-None-Match": known})
            assert again.status == 304 and again.text == "" and again.headers["ETag"] == tag
        assert served.bed.call("GET", path, headers={"If-None-Match": tag[:-2] + '"'}).status == 200
        head = served.bed.call("HEAD", path)
        assert head.status == 200 and head.text == "" and int(head.headers["Content-Length"]) == len(answer.text.encode())
        refused = served.bed.call("POST", path)
        assert refused.status == 405 and refused.headers["Allow"] == "GET, HEAD"
    assert "Permission is hereby granted" in served.bed.call("GET", "/assets/dashboard.js").text, "uPlot's licence"
    for path in ("/index.html", "/assets/", "/assets/x.js"):
        assert served.bed.call("GET", path).status == 404


def make(tmp_path, *options):
    target = tmp_path / "assets.c"
    out = subprocess.run([sys.executable, MAKE, *options, os.path.join(ROOT, "src/dashboard"), str(tmp_path / "work"), str(target)],
                         stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return out, target.read_text() if target.exists() else ""


def test_built_without(tmp_path):
    """Where node or npm are missing, or npm gets nothing, the gate has one page that says so; unless it was to be had."""
    out, made = make(tmp_path)
    assert out.returncode == 0 and "built without the dashboard: there is no node and npm for it" in out.stdout
    assert made.count("text/html") == 1 and "nc_n_assets = 1" in made
    out, made = make(tmp_path, "--node", "node", "--npm", "false")
    assert out.returncode == 0 and "false ci" in out.stdout and "nc_n_assets = 1" in made
    assert make(tmp_path, "--node", "node", "--npm", "false", "--required")[0].returncode == 1


# --- what is shown ---

def test_overview(served, browser):
    look(browser, served)
    for text in ("Node host-a", "QEMU 7.2.0", "web1: host-a → host-b", "copying memory", "43 %", "12 s ± 3.0 s", "20.3 ms", "0.50 %", "1 of 2 are up",
                 "Converges: the guest dirties 5.0 MB/s, and 90.0 MB/s of its memory leave", "m2", "no (cordoned)", "This node's controller leads", "queued-one", "host-a → not chosen yet", "no room " + MARKUP,
                 "212 ms", "needs attention", "live", "Page store: 3.0 GiB of 10.0 GiB", MARKUP):
        browser.shows(text)
    assert browser.run("return document.querySelectorAll('main img, main b').length") == 0 and "owned" not in browser.run("return document.title")
    wait_for(lambda: browser.run("return document.querySelectorAll('.card canvas').length") == 1, 20, "the picture")
    shoot(browser, "overview")


def test_the_page_of_one_migration(served, browser):
    look(browser, served, "#/migrations/m-completed")
    for text in ("completed", "released", "forecast", "Decision: throttle", "guest slowed by 40 %", "since " + MARKUP, "attempt 1 failed", "the link was down",
                 "both ends computed the same SHA-256", "stop-transfer", "does not converge"):
        browser.shows(text)
    wait_for(lambda: browser.run("return document.querySelectorAll('canvas').length") == 1, 20, "the picture")
    times = browser.run("return [...document.querySelectorAll('section[aria-label=Story] tbody th')].map(e => parseFloat(e.textContent))")
    assert len(times) == 7 and times == sorted(times)
    browser.run("location.hash = '#/migrations/m-failed'")
    browser.shows("too fast: " + MARKUP)
    browser.shows("decide: novacron resolve m-failed --run-here " + MARKUP)
    assert browser.run("return document.activeElement.tagName") == "H1"


def test_live_and_taken_up_again(served, browser):
    """Progress comes over the WebSocket; what is cut is taken up behind the last message; the end is told and shown."""
    fleet = served.fleet
    look(browser, served)
    browser.shows("43 %")
    browser.shows("live", ".live")
    fleet.happens()
    fleet.progress["progress"] = 61
    browser.shows("61 %", ".card")
    last = fleet.events[-1]["id"]
    browser.run("window.seen = []; new MutationObserver(() => seen.push(parseInt(document.querySelector('.share')?.textContent ?? 100)))"
                ".observe(document.querySelector('.share'), {childList: true, characterData: true, subtree: true})")
    fleet.asked_since.clear()
    served.bridge.cut()
    fleet.progress["progress"] = 77
    browser.shows("77 %", ".card")
    assert last in fleet.asked_since
    seen = browser.run("return seen")
    assert seen == sorted(seen), "it went backwards"
    fleet.happens("completed", outcome="completed", progress=100, pause_ms=120)
    browser.shows("web1: migration completed", "#news")
    fleet.running = {**fleet.running, "outcome": "completed", "phase": "completed", "progress": 100}
    browser.shows("Nothing moves at the moment")
    browser.expect_refusals()  # that a connection was cut, which is so


def test_a_node_that_does_not_answer(served, browser):
    look(browser, served)
    browser.shows("43 %")
    served.bed.daemon.handlers["machine.list"] = lambda args: (_ for _ in ()).throw(Refusal("internal", "out of order " + MARKUP))
    browser.shows("Trouble: out of order " + MARKUP, "#trouble")
    served.bed.daemon.handlers["machine.list"] = lambda args: [{**MACHINE, "name": "back-again"}]
    browser.shows("back-again")
    wait_for(lambda: browser.text("#trouble") == "", 20, "the trouble to be over")
    browser.expect_refusals()  # the status that was answered


def test_alerts(served, browser):
    """Shown with what to do, on the overview and on the page of their migration; what begins and ends is said aloud, what was there before is not."""
    section = "section[aria-label=Alerts]"
    first = {**ALERT, "summary": "web1: round trip of 240 ms " + MARKUP}
    served.bed.daemon.handlers["alert.list"] = lambda args: [first]
    look(browser, served)
    for text in ("NovacronHighLatency", "warning", "web1: round trip of 240 ms " + MARKUP, "Is something else filling the link's queue?"):
        browser.shows(text, section)
    assert browser.text("#news") == ""
    stuck = {**ALERT, "id": "a-1.7", "alert": "NovacronStuck", "severity": "critical", "summary": "web1: nothing has crossed to host-b for 301 s"}
    hidden = {**first, "id": "a-1.8", "inhibited_by": "NovacronStuck"}
    served.bed.daemon.handlers["alert.list"] = lambda args: [stuck, hidden, {**first, "state": "resolved", "resolved": ago(0), "reason": "condition"}]
    browser.shows("Nobody was told, because of NovacronStuck", section)
    wait_for(lambda: browser.name_of("#news")[0] == "status" and browser.text("#news").startswith(("critical: web1: nothing", "resolved: web1: round")), 20, "the news")
    browser.run(f"document.querySelector('{section} a').focus()")
    browser.press(ENTER)
    wait_for(lambda: browser.run("return location.hash") == "#/migrations/" + ALERT["migration"], 20, "the page of its migration")
    browser.shows("NovacronStuck", section)
    served.bed.daemon.handlers["alert.list"] = lambda args: [{**stuck, "migration": "m-another"}]
    browser.shows("None of this migration", section)
    browser.run("location.hash = '#/'")
    served.bed.daemon.handlers["alert.list"] = lambda args: []
    browser.shows("Nothing is wrong", section)
    shoot(browser, "no-alerts")


def test_alerts_that_are_not_known(served, browser):
    """All is well only once the node has said so: not before its first answer, and not while it gives none."""
    section, answered = "section[aria-label=Alerts]", threading.Event()

    def slowly(args):
        answered.wait(30)
        return []

    def refuse(args):
        raise Refusal("internal", "out of order " + MARKUP)
    served.bed.daemon.handlers["alert.list"] = slowly
    look(browser, served)
    browser.shows("Asking…", section)
    assert "Nothing is wrong" not in browser.text(section)
    answered.set()
    browser.shows("Nothing is wrong.", section)
    served.bed.daemon.handlers["alert.list"] = refuse
    browser.shows(f"Whether something is wrong is not known: out of order {MARKUP}.", section)
    assert "Nothing is wrong" not in browser.text(section)
    served.bed.daemon.handlers["alert.list"] = lambda args: []
    browser.shows("Nothing is wrong.", section)
    browser.expect_refusals()  # the status that was answered


OVERVIEW = [("migration.list", "Running migrations", {"items": [], "next": None}, "Nothing moves at the moment.", "What moves"),
            ("migration.list", "Earlier migrations", {"items": [], "next": None}, "None has ended yet.", "What there is now"),
            ("machine.list", "Machines", [], "There are no machines on this node.", "What there is now"),
            ("fleet.list", "Fleet", {"items": [], "next": None}, "The controller has nothing to move.", "What there is now")]


@pytest.mark.parametrize("op, section, none, nothing, unknown, place", [
    *[(*row, "") for row in OVERVIEW],
    ("checkpoint.list", "Checkpoints", [], "There are no checkpoints on this node.", "What there is now", "#/checkpoints"),
    ("audit.list", "Entries", [], "There is nothing in it.", "What there is now", "#/log")])
def test_what_is_not_known_is_not_nothing(served, browser, op, section, none, nothing, unknown, place):
    """That there is nothing is said once the node has said so: not before its first answer, and not while it gives none."""
    where, answered = f"section[aria-label='{section}']", threading.Event()
    handlers = served.bed.daemon.handlers

    def slowly(args):
        answered.wait(30)
        return none

    def refuse(args):
        raise Refusal("internal", "out of order " + MARKUP)
    handlers[op] = slowly
    look(browser, served, place)
    browser.shows("Asking…", where)
    assert nothing not in browser.text(where)
    answered.set()
    browser.shows(nothing, where)
    handlers[op] = refuse
    browser.shows(f"{unknown} is not known: out of order {MARKUP}.", where)
    assert nothing not in browser.text(where)
    handlers[op] = lambda args: none
    browser.shows(nothing, where)
    browser.expect_refusals()  # the status that was answered


# --- what is done ---

def test_migrate_by_keyboard(served, browser):
    look(browser, served)
    browser.shows("Migrate…")
    browser.run("document.querySelector('button[aria-label=\"Migrate web1\"]').focus()")
    browser.press(ENTER)
    browser.shows("Migrate web1?", "dialog")
    assert browser.name_of("dialog") == ("dialog", "Migrate web1?")
    assert browser.run("return document.activeElement.tagName") == "SELECT"
    browser.press(TAB, ENTER)
    browser.shows("4.2 s ± 1.3 s", "dialog")
    browser.press(TAB, TAB, ENTER)
    wait_for(lambda: browser.run("return location.hash") == "#/migrations/" + MIGRATION["id"], 20, "the page of what was begun")
    assert served.bed.daemon.last("migration.create")["args"] == {"vm": "web1", "to": "host-b"}
    assert browser.run("return document.querySelector('dialog')") is None


def test_cancel_and_undo(served, browser):
    look(browser, served)
    browser.shows("Cancel…")
    browser.click(".card .buttons button")
    browser.shows("Cancel the migration of web1?", "dialog")
    browser.shows("goes on running on host-a", "dialog")
    browser.click("dialog button[type=button]")
    assert not [r for r in served.bed.daemon.requests if r["op"] == "migration.cancel"], "left as it is"
    browser.click(".card .buttons button")
    served.bed.daemon.handlers["migration.cancel"] = lambda args: (_ for _ in ()).throw(Refusal("conflict", "it is over " + MARKUP))
    browser.click("dialog button[type=submit]")
    browser.shows("it is over " + MARKUP, "dialog [role=alert]")
    served.bed.daemon.handlers["migration.cancel"] = lambda args: MIGRATION
    browser.click("dialog button[type=submit]")
    browser.shows("is being cancelled", "#news")
    assert served.bed.daemon.last("migration.cancel")["args"] == {"id": MIGRATION["id"]}
    browser.expect_refusals()  # the 409 that was asked for
    look(browser, served, "#/migrations/m-completed")
    browser.shows("Undo…")
    browser.click(".card .buttons button:not([hidden])")
    browser.shows("What it has done since is lost", "dialog")
    browser.click("dialog input[value=to_checkpoint]")
    browser.click("dialog button[type=submit]")
    browser.shows("is being undone", "#news")
    assert served.bed.daemon.last("migration.rollback")["args"] == {"id": "m-completed", "to_checkpoint": True}


def asked(served, op):
    return [r["args"] for r in served.bed.daemon.requests if r["op"] == op]


def test_checkpoints(served, browser):
    """What there is and what became of it; each thing that can be done says what will happen, and is done by the keyboard."""
    checkpoints = [{**CHECKPOINT, "id": "c-old", "label": "old " + MARKUP, "state": "damaged", "warning": "blocks are lost " + MARKUP},
                   {**CHECKPOINT, "id": "c-making", "state": "making", "progress": 43, "pause_ms": None, "activity": None}, CHECKPOINT]
    served.bed.daemon.handlers["checkpoint.list"] = lambda args: checkpoints
    look(browser, served)
    browser.shows("Checkpoints", "nav")
    browser.click("nav a[href='#/checkpoints']")
    for text in ("3 on this node, newest first", "web1", "ready", "damaged", "making, 43 %", "before the upgrade", "512 MiB", "5.0 MiB", "14 ms", "verified: all of it is there",
                 "not since novacrond started", "old " + MARKUP, "blocks are lost " + MARKUP):
        browser.shows(text, "main")
    assert browser.run("return document.activeElement.tagName") == "H1" and browser.run("return document.title").startswith("Checkpoints")
    assert browser.run("return document.querySelector('nav a[aria-current=page]').textContent") == "Checkpoints"
    words = "return [...document.querySelectorAll('tbody tr')].map(row => [...row.querySelectorAll('button')].filter(b => !b.hidden).map(b => b.textContent[0]).join(''))"
    assert browser.run(words) == ["VRD", "D", "VD"]
    first = "tbody tr:first-child button"
    browser.run(f"document.querySelectorAll('{first}')[1].focus()")
    browser.press(ENTER)
    browser.shows("Restore the checkpoint of web1?", "dialog")
    browser.shows("is lost", "dialog")
    browser.run("const name = document.querySelector('dialog input[type=text]'); name.value = '../x'")
    browser.click("dialog button[type=submit]")
    assert asked(served, "checkpoint.restore") == [], "a name that the browser itself refuses"
    browser.run("document.querySelector('dialog input[type=text]').value = 'web2'")
    browser.click("dialog input[type=checkbox]")
    browser.click("dialog button[type=submit]")
    browser.shows("is being restored as web2", "#news")
    assert asked(served, "checkpoint.restore") == [{"id": CHECKPOINT["id"], "as": "web2", "paused": True}]
    browser.click(f"{first}:nth-child(2)")
    browser.click("dialog input[value=force]")
    assert browser.run("return document.querySelector('dialog input[type=text]').checkVisibility()") is False
    browser.click("dialog button[type=submit]")
    wait_for(lambda: len(asked(served, "checkpoint.restore")) == 2, 20, "the second one")
    assert asked(served, "checkpoint.restore")[1] == {"id": CHECKPOINT["id"], "force": True}
    browser.click(f"{first}:nth-child(1)")
    browser.shows("Nothing is changed", "dialog")
    browser.click("dialog button[type=submit]")
    browser.shows("is being verified", "#news")
    served.bed.daemon.handlers["checkpoint.delete"] = lambda args: (_ for _ in ()).throw(Refusal("conflict", "it is being restored " + MARKUP))
    browser.click(f"{first}:nth-child(3)")
    browser.shows("can't be set back", "dialog")
    browser.click("dialog button[type=submit]")
    browser.shows("it is being restored " + MARKUP, "dialog [role=alert]")
    served.bed.daemon.handlers["checkpoint.delete"] = lambda args: CHECKPOINT
    browser.click("dialog button[type=submit]")
    browser.shows("is deleted", "#news")
    browser.expect_refusals()  # the 409 that was asked for
    checkpoints[2] = {**CHECKPOINT, "activity": {"what": "restore", "state": "running", "progress": 12, "error": None}}
    browser.shows("being restored, 12 %")
    assert browser.run(words)[0] == "", "one thing at a time"
    served.bed.daemon.handlers["checkpoint.list"] = lambda args: (_ for _ in ()).throw(Refusal("not_found", "node host-a has no page store"))
    browser.shows("node host-a has no page store")
    browser.expect_refusals()


def test_transaction_log(served, browser):
    """The newest entries, which are renewed; older ones page by page, and back."""
    newest = [120]

    def entries(args):
        first = min(args.get("before", 10**9) - 1, newest[0])
        return [{**AUDIT[0], "seq": n, "actor": "certificate:al " + MARKUP} for n in range(first, max(first - args["limit"], 0), -1)]
    served.bed.daemon.handlers["audit.list"] = entries
    look(browser, served, "#/log")
    for text in ("Entries 120 to 71, the newest", "request", "certificate:al " + MARKUP, "op machine.start, args.name web1"):
        browser.shows(text)
    newest[0] = 121
    browser.shows("Entries 121 to 72, the newest")
    browser.run("[...document.querySelectorAll('button')].find(b => b.textContent === 'Older').focus()")
    browser.press(ENTER)
    browser.shows("Entries 71 to 22.")
    browser.press(ENTER)
    browser.shows("Entries 21 to 1.")
    buttons = "return [...document.querySelectorAll('main button')].filter(b => !b.hidden).map(b => b.textContent)"
    assert browser.run(buttons) == ["Newest"]
    assert browser.run("return document.querySelectorAll('tbody tr').length") == 21
    browser.click("main button")
    browser.shows("Entries 121 to 72, the newest")
    assert browser.run(buttons) == ["Older"]


def test_evacuation(served, browser):
    """Its plan is shown before anything is asked for; who leaves something behind has to say so."""
    plan = {**FLEET_PLAN, "cannot_move": [{"machine": "web2", "reason": "no room " + MARKUP}]}
    served.bed.daemon.handlers["fleet.plan"] = lambda args: plan
    look(browser, served)
    browser.shows("Empty…")
    browser.run("document.querySelector('button[aria-label=\"Empty host-a\"]').focus()")
    browser.press(ENTER)
    for text in ("Empty host-a?", "1 machine moves in one wave: about 31 s and 286 MiB on the wire", "web1 → host-b: wave 1, about 31 s, stands still for 200 ms", "web2: no room " + MARKUP,
                 "is cordoned"):
        browser.shows(text, "dialog")
    assert asked(served, "fleet.plan") == [{"nodes": ["host-a"]}]
    browser.click("dialog button[type=submit]")
    assert asked(served, "fleet.evacuate") == [], "that web2 stays was not agreed to"
    browser.click("dialog input[type=checkbox]")
    served.bed.daemon.handlers["fleet.evacuate"] = lambda args: {"id": "eva-1", "state": "failed", "plan": plan}
    browser.click("dialog button[type=submit]")
    browser.shows("nothing was moved (eva-1)", "dialog [role=alert]")
    served.bed.daemon.handlers["fleet.evacuate"] = lambda args: {"id": "eva-2", "state": "planned", "plan": plan}
    browser.click("dialog button[type=submit]")
    browser.shows("host-a is being emptied: eva-2", "#news")
    assert asked(served, "fleet.evacuate")[-1] == {"nodes": ["host-a"], "allow_partial": True}
    wait_for(lambda: browser.run("return location.hash") == "#/evacuations/eva-2", 20, "the page of what was begun")
    follow_to_its_end(served, browser)
    browser.run("location.hash = '#/'")
    browser.shows("Empty…")
    plan["cannot_move"] = []
    browser.run("document.querySelector('button[aria-label=\"Empty host-a\"]').focus()")
    browser.press(ENTER)
    browser.shows("Empty host-a?", "dialog")
    assert browser.run("return document.querySelectorAll('dialog input').length") == 0
    browser.click("dialog button[type=submit]")
    wait_for(lambda: asked(served, "fleet.evacuate")[-1] == {"nodes": ["host-a"]}, 20, "one that leaves nothing")
    browser.shows("Emptying host-a", "h1")
    browser.run("location.hash = '#/'")
    browser.shows("Empty…")
    served.bed.daemon.handlers["fleet.plan"] = lambda args: (_ for _ in ()).throw(Refusal("conflict", "host-b leads"))
    browser.run("document.querySelector('button[aria-label=\"Empty host-a\"]').focus()")
    browser.press(ENTER)
    browser.shows("host-b leads", "#news")
    browser.expect_refusals()  # the 409 that was asked for


NO_SOCKETS = """
window.theSocket = window.WebSocket;
window.WebSocket = class extends EventTarget {
  constructor() { super(); setTimeout(() => this.dispatchEvent(new CloseEvent("close", { code: 1006 })), 0); }
  close() {}
};
"""


def follow_to_its_end(served, browser):
    """Live, by events and samples; taken up again behind the last one; the end is told, and what did not move says why."""
    group = served.fleet.emptying
    for text in ("Emptying host-a", "running", "live", "43 %", "0 of 3", "20 s (by the plan)", "48.0 MB/s", "asked for", "1 min 1 s"):
        browser.shows(text)
    for text in ("copying memory", "43 %, 48.0 MB/s, ends in 12 s", "giant", "host-a → nowhere", "no node has room " + MARKUP, "waits"):
        browser.shows(text, "section[aria-label=Machines]")
    rows = "return [...document.querySelectorAll('section[aria-label=Waves] tbody tr')].map(r => [...r.cells].map(c => c.textContent).join(' '))"
    assert browser.run(rows) == ["1 1 0 1 0 0", "2 1 0 0 1 0"]
    assert browser.name_of("progress") == ("progressbar", "Progress of all machines")
    assert browser.run("return document.querySelector('section[aria-label=Machines] tbody a')?.getAttribute('href')") == f"#/migrations/{FLEET_MIGRATION['id']}.1"
    names = "return [...document.querySelectorAll('section[aria-label=Machines] tbody th')].map(cell => cell.textContent)"
    assert browser.run(names) == ["web1", "web2", "giant"]
    group.progress = {**group.progress, "running": [{**GROUP_PROGRESS["running"][0], "destination": "host-c"}]}
    browser.shows("host-a → host-c", "section[aria-label=Machines]")
    group.states = {"web1": "completed", "web2": "running"}
    group.goes_to = {"web1": "host-d"}
    group.progress = {**group.progress, "progress": 61, "done": 1, "running": [], "eta_basis": "pace", "eta_ms": 9000}
    group.happens()
    for text in ("61 %", "moved", "host-a → host-d", "1 of 3", "9.0 s (at its pace so far)"):
        browser.shows(text)
    wait_for(lambda: browser.run(rows) == ["1 1 1 0 0 0", "2 1 0 1 0 0"], 20, "the waves to say so")
    assert browser.run(names) == ["web1", "web2", "giant"]
    group.asked_since.clear()
    served.bridge.cut()
    group.progress["progress"] = 77
    browser.shows("77 %")
    assert group.events[-1]["id"] in group.asked_since, "not taken up behind the last one"
    group.progress.update(progress=None, transfer_rate=None, running=[], eta=None, eta_ms=None, eta_basis=None)  # no leader for a moment
    group.happens()
    wait_for(lambda: browser.run(FIGURE, "Sent now") == "–", 20, "that it is not known how much is sent")
    browser.shows("77 %")
    group.progress.update(progress=50, transfer_rate=48000000, running=[{**GROUP_PROGRESS["running"][0], "migration": "mig-0t7bd31dsw67hqq0", "progress": 0}], eta="9s", eta_ms=9000)  # one that has just begun
    group.happens()
    browser.shows("0 %, 48.0 MB/s", "section[aria-label=Machines]")
    browser.shows("77 %", ".card")
    browser.run(NO_SOCKETS)
    served.bridge.cut()
    browser.shows("not live", ".live")
    assert [browser.run(FIGURE, name) for name in ("Ends in", "Sent now")] == ["–", "–"], "nobody says so any more"
    assert "MB/s" not in browser.text("section[aria-label=Machines]")
    browser.shows("77 %", ".card")
    browser.run("window.WebSocket = window.theSocket")
    browser.shows("48.0 MB/s", ".card")
    group.states = {"web1": "completed", "web2": "failed"}
    group.record.update(state="failed", is_finished=True, reason="2 machines are still there " + MARKUP, changed_us=group.record["created_us"] + 40000000)
    group.happens("failed", outcome="failed", error={"code": "failed", "message": "2 machines are still there"})
    browser.shows("Emptying host-a: failed", "#news")
    for text in ("2 machines are still there " + MARKUP, "40 s", "1 of 3", "no " + MARKUP):
        browser.shows(text)
    assert browser.run("return [...document.querySelectorAll('main button')].filter(b => b.checkVisibility()).length") == 0
    assert browser.text(".live") == ""
    assert browser.text(".share") == "50 %", "of the two that were to move"
    shoot(browser, "evacuation-end")
    browser.expect_refusals()  # that a connection was cut, which is so


FIGURE = "return [...document.querySelectorAll('.figures div')].find(d => d.firstChild.textContent === arguments[0])?.lastChild.textContent"


def test_what_left_in_another_way_has_not_stayed(served, browser):
    """It is counted as gone from the node while the evacuation runs, and is not said to have gone where the plan had it go."""
    served.fleet.emptying.more = [{"position": 3, "machine": "walker", "source": "host-a", "destination": "host-b", "goes_to": "host-b", "wave": 1, "migration": "", "state": "gone",
                                   "reason": 'it is on node "host-c" already'}]
    look(browser, served, "#/evacuations/eva-2")
    for text in ("left in another way", "host-a → elsewhere", 'it is on node "host-c" already'):
        browser.shows(text, "section[aria-label=Machines]")
    assert [browser.run(FIGURE, name) for name in ("Moved", "Waiting", "Not moved")] == ["1 of 4", "1", "1"]


def test_more_machines_than_are_shown(served, browser):
    """The figures are the controller's, not those of the rows, and what rows alone could tell is said to be cut."""
    group = served.fleet.emptying
    group.more = [{"position": n, "machine": f"vm-{n}", "source": "host-a", "destination": "host-b", "goes_to": "host-b", "wave": 1, "migration": f"mig-{n:016d}", "state": "completed",
                   "reason": ""} for n in range(3, 1000)]
    group.counts = lambda: {**FLEET_COUNTS, "completed": 1500, "running": 1, "queued": 20, "failed": 4}
    look(browser, served, "#/evacuations/eva-2")
    browser.shows("The first 1000 of its machines are shown")
    assert [browser.run(FIGURE, name) for name in ("Moved", "Under way", "Waiting", "Not moved")] == ["1500 of at least 1526", "1", "at least 20", "at least 5"]


def test_a_human_is_wanted(served, browser):
    """One that can't end by itself is said in three places, with what to type where; not any more once it goes on."""
    group, words = served.fleet.emptying, f"a human has to decide: novacron status {FLEET_MIGRATION['id']}.1 on node host-a says what"
    look(browser, served, "#/evacuations/eva-2")
    browser.shows("copying memory")
    facts = {"phase": "needs_attention", "percent": 98, "attempt": 1, "node": "host-a"}
    data = {"event": "migration.phase", "subject": FLEET_MIGRATION["id"], "migration": FLEET_MIGRATION["id"]}
    group.progress = {**group.progress, "running": [{**GROUP_PROGRESS["running"][0], "phase": "needs_attention"}]}
    group.happens("alert", **data, detail=words, facts=facts, alert="NovacronNeedsAttention", state="firing", severity="critical")
    browser.shows(f"web1: {words}", "#news")
    browser.shows(f"web1: {words}", ".complaint")
    browser.shows(words, "section[aria-label=Machines]")
    group.progress = {**group.progress, "running": []}  # more are under way than samples have: the events say it
    browser.shows(words, "section[aria-label=Machines]")
    group.happens(**data, detail="rollback, 98 %", facts={**facts, "phase": "rollback"})
    wait_for(lambda: words not in browser.text("main"), 20, "what was decided to be gone")
    assert not browser.complaints()


def test_a_batch_is_followed_and_cancelled(served, browser):
    """With what will happen said before; what the controller refuses is shown."""
    group, fleet_cancel = served.fleet.batch, served.bed.daemon.handlers["fleet.cancel"]
    look(browser, served, "#/batches/bat-1")
    for text in ("Batch of migrations", "running", "live", "0 of 3", "copying memory", "not chosen yet", "nobody", "there is no such machine " + MARKUP):
        browser.shows(text)
    assert browser.run("return Boolean(document.querySelector('section[aria-label=Waves]'))") is False
    browser.run("document.querySelector('.headline button').focus()")
    browser.press(ENTER)
    for text in ("Cancel this batch?", "1 machine is under way now", "What waits does not begin", "They come to their end"):
        browser.shows(text, "dialog")
    served.bed.daemon.handlers["fleet.cancel"] = lambda args: (_ for _ in ()).throw(Refusal("unavailable", "no controller leads " + MARKUP))
    browser.click("dialog button[type=submit]")
    browser.shows("no controller leads " + MARKUP, "dialog [role=alert]")
    served.bed.daemon.handlers["fleet.cancel"] = fleet_cancel
    browser.click("dialog input[value=cancel]")
    browser.click("dialog button[type=submit]")
    browser.shows("Waiting, and staying now: 2; under way: 1, told to end", "#news")
    assert [a["also_running"] for a in asked(served, "fleet.cancel")] == [False, True]
    assert asked(served, "fleet.cancel")[-1] == {"id": "bat-1", "also_running": True, "reason": "cancelled on the dashboard"}
    group.states = {"web1": "cancelled", "web2": "cancelled"}
    group.happens()
    browser.shows("The batch: all has ended", "#news")
    browser.shows("0 of 3")
    browser.expect_refusals()  # the 503 that was asked for
    browser.run("location.hash = '#/batches/bat-none'")
    browser.shows("The fleet's controller knows no batch bat-none")
    browser.expect_refusals()
    browser.run("location.hash = '#/'")
    browser.shows("an evacuation", "section[aria-label=Fleet]")
    browser.run("[...document.querySelectorAll('section[aria-label=Fleet] a')].find(a => a.textContent === 'an evacuation').focus()")
    browser.press(ENTER)
    browser.shows("Emptying host-a", "h1")
    browser.click(".headline button")
    browser.shows("host-a stays cordoned", "dialog")
    browser.shows("One that fails is not tried again", "dialog")
    browser.click("dialog .buttons button[type=submit]")
    wait_for(lambda: asked(served, "fleet.cancel")[-1] == {"id": "eva-2", "also_running": False, "reason": "cancelled on the dashboard"}, 20, "the stop")
    served.fleet.emptying.record["state"] = "cancelling"  # those under way come to their end; that can be thought better of
    served.fleet.emptying.happens("phase", phase="cancelling", event="evacuation.state", detail="cancelled on the dashboard")
    browser.shows("cancelling", ".headline")
    browser.click(".headline button")
    browser.shows("Cancel what is still leaving host-a, too?", "dialog")
    assert browser.run("return [...document.querySelectorAll('dialog input')].map(i => [i.value, i.checked])") == [["cancel", True]]
    browser.click("dialog .buttons button[type=submit]")
    wait_for(lambda: asked(served, "fleet.cancel")[-1]["also_running"], 20, "the wish to cancel them, too")
    assert not browser.complaints()


@pytest.mark.skipif(not shutil.which("openssl"), reason="openssl is not installed")
def test_a_viewer_is_offered_nothing(tmp_path, browser):
    """Over HTTPS, with a certificate that may look: all is shown and watched, and no button is there."""
    keys, port, own = Keys(tmp_path), free_port(), free_port()
    context = tls_context(keys, keys.issue("ca", "bob"))
    bed = Bed(tmp_path, "--listen", f"127.0.0.1:{port}", "--tls-cert", keys.server[0], "--tls-key", keys.server[1], "--client-ca", keys.ca,
              "--origins", f"http://127.0.0.1:{own}", handlers=Fleet().handlers())
    bridge = CertifiedBridge(port, context, "localhost", own)
    try:
        browser.open(f"http://{bridge.address}/")
        browser.shows("bob (viewer)")
        browser.shows("43 %")
        browser.shows("live", ".live")
        assert browser.run("return [...document.querySelectorAll('button')].filter(b => b.checkVisibility()).length") == 0
        browser.run("location.hash = '#/checkpoints'")
        browser.shows("before the upgrade")
        assert browser.run("return document.querySelectorAll('button').length") == 0
        browser.run("location.hash = '#/evacuations/eva-2'")
        browser.shows("copying memory")
        browser.shows("live", ".live")
        assert browser.run("return [...document.querySelectorAll('button')].filter(b => b.checkVisibility()).length") == 0
        assert not browser.complaints()
    finally:
        browser.open("about:blank")
        browser.requests()
        bridge.close()
        bed.close()


# --- who can use it ---

CONTRAST = """
const channel = (v) => { v /= 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; };
const parse = (text) => text.match(/[\\d.]+/g).map(Number);
const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
function ground(element) {
  for (let e = element; e; e = e.parentElement) {
    const c = parse(getComputedStyle(e).backgroundColor);
    if (c.length === 3 || c[3] === 1) return c;
    if (c[3] > 0) throw new Error("a half transparent ground");
  }
  throw new Error("no ground");
}
const found = [];
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
let looked = 0;
while (walker.nextNode()) {
  const element = walker.currentNode.parentElement;
  if (!walker.currentNode.textContent.trim() || element.closest("noscript, script") || !element.checkVisibility()) continue;
  looked += 1;
  const [a, b] = [light(parse(getComputedStyle(element).color)), light(ground(element))].sort((x, y) => y - x);
  const ratio = (a + 0.05) / (b + 0.05);
  if (ratio < 4.5) found.push(`${walker.currentNode.textContent}: ${ratio.toFixed(2)}`);
}
return [looked, found];
"""

FOCUSABLE = "[...document.querySelectorAll('a[href], button, input, select, textarea, [tabindex=\"0\"]')].filter(e => e.checkVisibility() && !e.disabled && !(e.type === 'radio' && !e.checked))"  # arrow keys come to the other choices


def each_page(browser, served):
    for name, fragment, text in (("overview", "", "Migrate…"), ("running", "#/migrations/" + MIGRATION["id"], "live"),
                                 ("completed", "#/migrations/m-completed", "Decision"), ("failed", "#/migrations/m-failed", "too fast"),
                                 ("log", "#/log", "machine.start"), ("evacuation", "#/evacuations/eva-2", "copying memory"), ("batch", "#/batches/bat-1", "copying memory")):
        look(browser, served, fragment)
        browser.shows(text)
        yield name
    look(browser, served)
    browser.shows("Migrate…")
    browser.click("button[aria-label='Migrate web1']")
    browser.shows("Migrate web1?", "dialog")
    yield "dialog"
    browser.click("dialog .buttons button[type=button]")
    browser.click("button[aria-label='Empty host-a']")
    browser.shows("no node has 64 GiB", "dialog")
    yield "evacuation dialog"
    look(browser, served, "#/evacuations/eva-2")
    browser.shows("copying memory")
    browser.click(".headline button")
    browser.shows("Stop emptying host-a?", "dialog")
    yield "stop dialog"
    look(browser, served, "#/checkpoints")
    browser.shows("Restore…")
    yield "checkpoints"
    browser.click("tbody button:nth-child(2)")
    browser.shows("What becomes of it?", "dialog")
    yield "restore dialog"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("device", [DESK, PHONE], ids=["desk", "phone"])
def test_contrast_and_width(served, browser, scheme, device):
    browser.size(*device)
    browser.scheme(scheme)
    for name in each_page(browser, served):
        looked, poor = browser.run(CONTRAST)
        assert looked > 10 and not poor, name
        assert browser.run("return document.documentElement.scrollWidth") <= device[0], f"{name} scrolls sideways"
        shoot(browser, f"{name}-{scheme}-{device[0]}")


def test_keyboard_and_names(served, browser):
    """Tab comes to everything that does something, in the order of the page, and each has a name."""
    for page in each_page(browser, served):
        scope = "dialog" if page.endswith("dialog") else "body"
        wanted = browser.run(f"window.all = {FOCUSABLE}.filter(e => e.closest('{scope}')); window.got = new Set(); return all.length")
        if scope == "body":
            browser.run("document.activeElement.blur(); getSelection().removeAllRanges()")
        for pressed in range(wanted + 40):  # rows come while one goes through them: there may be more by now
            browser.run("got.add(document.activeElement)")
            browser.press(TAB)
            missed = browser.run("return all.filter(e => e.isConnected && !got.has(e)).map(e => e.outerHTML)") if pressed >= wanted else None
            if missed == []:
                break
        assert wanted >= 3 and not missed, page
        nameless = []
        for i in range(wanted):
            browser.run("all.forEach((e, i) => e.dataset.test = i)")
            if not browser.name_of(f"{scope} [data-test='{i}']")[1].strip():
                nameless.append(i)
        assert not nameless, page
        for css in ("progress", "table"):
            if browser.run(f"return Boolean([...document.querySelectorAll('{css}')].find(e => e.checkVisibility()))"):
                assert browser.run(f"return [...document.querySelectorAll('{css}')].every(e => e.getAttribute('aria-label'))")


def test_many(served, browser):
    """1000 machines and 50 migrations: few enough are drawn and watched that it stays quick (bench/dashboard_bench.py), and each can be found."""
    served.fleet.machines = [{**MACHINE, "name": f"vm-{n:04}", "memory_mib": 512 + n} for n in range(1000)]
    running = [{**served.fleet.running, "id": f"m-{n}", "vm": f"vm-{n:04}"} for n in range(50)]
    served.bed.daemon.handlers["migration.list"] = lambda args: {"items": running if args["state"] == "active" else [], "next": None}
    look(browser, served)
    section = "section[aria-label=Machines]"
    count = f"return ['.card', '{section} tbody tr', '.card canvas'].map(css => document.querySelectorAll(css).length)"
    names = f"return [...document.querySelectorAll('{section} tbody th')].map(e => e.textContent)"
    wait_for(lambda: browser.run(count) == [50, 100, 8], 20, lambda: f"all of them: {browser.run(count)}")
    assert browser.run("return [...document.querySelectorAll('.card h3')].map(e => e.textContent.slice(0, 7))") == [f"vm-{n:04}" for n in range(50)]
    assert len({url for url in browser.requests() if url.startswith("ws")}) == 8
    browser.shows("1000 machines; the first 100 are shown.", section)
    assert browser.name_of(f"{section} input") == ("searchbox", "Find a machine") and browser.name_of(f"{section} select") == ("combobox", "Sort by")
    browser.click(f"{section} .more")
    wait_for(lambda: browser.run(names) == [f"vm-{n:04}" for n in range(200)], 20, "twice as many")
    browser.run(f"document.querySelector('{section} select').focus()")
    browser.press(*"memory")
    wait_for(lambda: browser.run(names) == [f"vm-{n:04}" for n in range(999, 899, -1)], 20, lambda: f"the largest ones: {browser.run(names)}")
    browser.run(f"document.querySelector('{section} input').focus()")
    browser.press(*"VM-012")
    browser.shows("10 of 1000 fit.", section)
    wait_for(lambda: browser.run(names) == [f"vm-{n:04}" for n in range(129, 119, -1)], 20, lambda: f"those that fit: {browser.run(names)}")
    shoot(browser, "many")
    browser.press(*"x")
    browser.shows("No machine fits.", section)
    assert browser.run("return document.activeElement.type") == "search"


def test_left_before_the_answer(served, browser):
    """What comes for a page that is not looked at any more is not watched: places of watchers are few."""
    asked, answered = threading.Event(), threading.Event()

    def slowly(handler):
        def answer(args):
            asked.set()
            answered.wait(30)
            return handler(args)
        return answer
    served.bed.daemon.handlers.update({"migration.list": slowly(served.fleet.list), "migration.get": slowly(served.fleet.get)})
    browser.requests()
    for place in ("#/", f"#/migrations/{MIGRATION['id']}"):
        asked.clear()
        look(browser, served) if place == "#/" else browser.run("location.hash = arguments[0]", place)
        wait_for(asked.is_set, 20, f"{place} to ask")
    browser.run("location.hash = '#/log'")
    browser.shows("the newest", "main")
    answered.set()
    ended = f"return performance.getEntriesByType('resource').filter(e => /migrations(\\?state=active|\\/{MIGRATION['id']}$)/.test(e.name) && e.responseEnd > 0).length"
    wait_for(lambda: browser.run(ended) >= 2, 20, "the late answers")
    browser.run("location.hash = '#/'")
    browser.shows("live", ".live")
    assert len([url for url in browser.requests() if url.startswith("ws")]) == 1


# --- for real ---

def choose(browser, css):
    """By Tab from where the focus is, and Enter: nothing is clicked, and nothing gets the focus from outside."""
    for _ in range(60):
        if browser.run("return document.activeElement.matches(arguments[0])", css):
            browser.press(ENTER)
            return
        browser.press(TAB)
    raise AssertionError(f"Tab does not come to {css}")


def empty_the_other_node(browser, c):
    """By the controller, from the same page, and followed to its end: the machine comes back."""
    wait_for(lambda: [(m["node"], m["state"]) for m in c.a.call("fleet.machines")["items"]] == [("host-b", "running")], 30, "the controller to see where it is")
    button = "button[aria-label='Empty host-b']"
    wait_for(lambda: browser.run("return document.querySelector(arguments[0]) !== null", button), 20, "the nodes to be shown")
    browser.click(button)
    browser.shows("1 machine moves in one wave", "dialog")
    browser.click("dialog button[type=submit]")
    browser.shows("Emptying host-b", "h1")
    browser.run("window.seen = new Set(); new MutationObserver(() => seen.add(document.querySelector('main').innerText))"
                ".observe(document.querySelector('main'), {childList: true, characterData: true, subtree: true})")
    browser.shows("Emptying host-b: completed", "#news", 90)
    for text in ("completed", "1 of 1", "100 %", "moved"):
        browser.shows(text, "main")
    assert browser.run("return [...seen].some(text => text.includes('Under way') && /\\blive\\b/.test(text))"), "it was not followed live"
    shoot(browser, "real-evacuation")
    c.assert_healthy("web1", c.a)


def cancel_one(browser, c):
    """While its memory flows: the machine stays where it is."""
    id = c.a.call("migration.create", vm="web1", to="host-b", bandwidth_limit_bps=1_000_000)["id"]
    browser.run(f"location.hash = '#/migrations/{id}'")
    browser.shows("web1: host-a → host-b", "h1")
    c.a.wait_state(id, ("copying",))
    browser.click(".card .buttons button")
    browser.shows("Cancel the migration of web1?", "dialog")
    browser.click("dialog button[type=submit]")
    m = c.a.wait_migration(id)
    assert m["outcome"] == "cancelled", m
    browser.shows("web1: migration cancelled", "#news")
    shoot(browser, "real-cancel")
    c.assert_healthy("web1", c.a)


def read_the_report(browser, c, m, tmp_path):
    """A file by itself, as it is attached to a ticket: it draws, asks nobody for anything, and says what the record says."""
    path = tmp_path / "report.html"
    c.a.cli("report", m["id"], "--html", str(path))
    browser.requests()
    browser.open(path.as_uri())
    browser.shows("web1", "h1")
    browser.shows(m["sha256"][:16])
    assert browser.run("return document.querySelectorAll('figure svg *').length") > 0
    assert browser.run("return document.documentElement.scrollWidth <= innerWidth"), "it is wider than the window"
    assert not [url for url in browser.requests() if not url.startswith(("file:", "data:"))]
    shoot(browser, "real-report")


def test_a_real_migration_from_start_to_end(browser, tmp_path):
    """Begun in the browser, by the keyboard alone, and watched in it; what it says at the end is what the record says."""
    browser.size(*DESK)
    browser.expect_refusals()
    with Cluster(rate="100mbit", delay="1ms", gates=True, controller="yes", controllers="host-a") as c:
        c.boot(spec=guest_spec(memory_mib=128, fill=48, ws=8, rate=2))
        bridge = Bridge(c.a.api)
        try:
            browser.requests()
            browser.open(f"http://{bridge.address}/")
            browser.shows("Migrate…")
            browser.shows("This node's controller leads", "section[aria-label=Fleet]")
            browser.shows("host-b", "section[aria-label=Fleet] tbody")
            browser.shows("The controller has nothing to move")
            choose(browser, "button[aria-label='Migrate web1']")
            browser.shows("Migrate web1?", "dialog")
            choose(browser, "dialog button[type=submit]")
            browser.shows("web1: host-a → host-b", "h1")
            browser.run("window.seen = []; new MutationObserver(() => seen.push(document.querySelector('.share').textContent))"
                        ".observe(document.querySelector('.share'), {childList: true, characterData: true, subtree: true})")
            m = c.a.wait_migration(c.a.call("migration.list")["items"][0]["id"])
            assert m["outcome"] == "completed", m["error"]
            browser.shows("both ends computed the same SHA-256")
            browser.shows("web1: migration completed", "#news")
            browser.shows("finished", "section[aria-label=Story]")
            seen = [int(text.split()[0]) for text in browser.run("return seen")]
            assert len(set(seen)) >= 3 and seen == sorted(seen) and seen[-1] == 100, seen
            browser.shows(f"{m['pause_ms']:.1f} ms" if m["pause_ms"] < 10 else f"{round(m['pause_ms'])} ms", ".figures")
            events = browser.run("return [...document.querySelectorAll('section[aria-label=Story] tbody tr')].map(r => r.cells[2].textContent)")
            for event in ("round", "guest-stopped", "released", "started", "finished"):
                assert event in events
            shoot(browser, "real-migration")
            choose(browser, "main a[href='#/']")
            browser.shows("moved to host-b")
            empty_the_other_node(browser, c)
            cancel_one(browser, c)
            browser.open("about:blank")
            assert not browser.complaints()
            assert not [url for url in browser.requests() if bridge.address not in url and not url.startswith(("data:", "about:"))]
            read_the_report(browser, c, m, tmp_path)
            assert not browser.complaints()
        finally:
            browser.open("about:blank")
            bridge.close()
