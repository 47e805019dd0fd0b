# SPDX-License-Identifier: Apache-2.0
"""novacron top: on a terminal, whatever happens to it, while a real migration runs, and as plain text."""

import json
import re
import signal
import threading

import pytest

from fake_novacrond import Refusal
from gate_bed import ALERT, CLI, COMPLETED, MACHINE, MIGRATION, STORE_ALERT, Bed
from nctest.cluster import Cluster, guest_spec
from nctest.net import wait_for
from nctest.terminal import Terminal

RUNNING = {**MIGRATION, "rtt_us": 20300, "eta_error_ms": 3000, "effective_rate_bps": 90000000, "converges": True,
           "connections": [{"index": 0, "up": True, "segments": 1000, "retransmitted_segments": 5}]}
MANY = [{**RUNNING, "id": f"m-0t7bd31dsw6700{n:02}", "vm": f"vm-{n:02}"} for n in range(50)]


class Fleet:
    """1000 machines, 50 of which move."""

    def __init__(self):
        self.running, self.slow = MANY, threading.Event()
        self.slow.set()

    def list(self, args):
        items = {"active": self.running, "ended": [COMPLETED]}
        return {"items": items[args["state"]][:args["limit"]], "next": None}

    def machines(self, args):
        self.slow.wait(60)
        return [{**MACHINE, "name": f"vm-{n:04}", "state": "migrating" if n < 50 else "running"} for n in range(1000)]


@pytest.fixture(scope="module")
def fleet():
    return Fleet()


@pytest.fixture(scope="module")
def bed(tmp_path_factory, fleet):
    b = Bed(tmp_path_factory.mktemp("top"), "--no-https", handlers={"migration.list": fleet.list, "machine.list": fleet.machines})
    yield b
    b.close()


@pytest.fixture
def on_terminal(bed):
    terminals = []

    def make(*options, **more):
        terminals.append(Terminal([CLI, "--socket", bed.socket, "top", *options], **more))
        return terminals[-1]
    yield make
    for t in terminals:
        t.close()


def marked(terminal):
    """The line that is drawn inverted, as it was drawn last."""
    return re.findall(r"\x1b\[7m ([^\x1b ]+)", terminal.raw)[-1]


# --- on a terminal ---

def test_many_and_keys(bed, fleet, on_terminal):
    """1000 machines and 50 migrations; keys work while an answer takes its time, and lists are asked for by the page."""
    t = on_terminal()
    for text in ("host-a", "1000 machines: ", "50 migrating", "950 running", "50 running, 0 queued", "1 to 6 of 50", "vm-00", "12s+-3.0s", "20.3 ms", "0.50%",
                 "Recently ended", "completed", "q quit"):
        t.shows(text)
    assert all(len(line) <= 80 for line in t.lines()) and len(t.lines()) == 24
    asked = len([r for r in bed.daemon.requests if r["op"] == "machine.list"])
    fleet.slow.clear()
    wait_for(lambda: len([r for r in bed.daemon.requests if r["op"] == "machine.list"]) > asked, 30, "the machines to be asked for again")
    t.type("j\x1b[Bj")
    wait_for(lambda: marked(t) == "sw670003", 20, lambda: f"the fourth to be selected: {marked(t)}")
    t.type("\r")
    t.shows("vm-03: host-a -> host-b")
    t.type("?")
    t.shows("Keys and columns")
    t.type("\x1b")
    t.shows("Running migrations")
    t.type("ssss")
    t.shows("(by machine)")
    t.size(120, 40)
    t.shows("1 to 14 of 50")
    assert max(len(line) for line in t.lines()) == 120 and len(t.lines()) == 40
    t.size(60, 12)
    wait_for(lambda: len(t.lines()) == 12 and max(len(line) for line in t.lines()) == 60, 20, "the smaller window to be filled")
    fleet.slow.set()
    for r in [r for r in bed.daemon.requests if r["op"] == "migration.list"]:
        assert r["args"]["limit"] <= 200
    t.type("q")
    assert t.ends() == 0 and t.is_as_before()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGABRT, signal.SIGSEGV])
def test_the_terminal_is_given_back(on_terminal, number):
    """However it ends, and Ctrl-C as by a key."""
    t = on_terminal()
    t.shows("50 running")
    assert not t.is_as_before() and t.modes == {"other screen": True, "cursor": False, "wrap": False}
    if number == signal.SIGINT:
        t.type("\x03")
        assert t.ends() == 0
    else:
        t.tell(number)
        assert t.ends() == -number
    assert t.is_as_before()


def test_stopped_and_gone_on_with(on_terminal):
    t = on_terminal()
    t.shows("50 running")
    t.tell(signal.SIGTSTP)
    wait_for(t.is_as_before, 20, "the terminal to be as before")
    wait_for(lambda: open(f"/proc/{t.process.pid}/stat").read().rsplit(")", 1)[1].split()[0] == "T", 20, "it to be stopped")
    t.tell(signal.SIGCONT)
    t.shows("50 running")
    t.type("q")
    assert t.ends() == 0 and t.is_as_before()


def test_old_numbers_are_said_to_be_old(bed, fleet, on_terminal):
    t = on_terminal(NO_COLOR="1")
    t.shows("50 running")
    bed.daemon.handlers["migration.list"] = lambda args: (_ for _ in ()).throw(Refusal("internal", "out of order \x1b[2J"))
    t.shows("OLD: since ")
    t.shows("out of order ?[2J")
    t.shows("50 running")
    t.type("\r")
    wait_for(lambda: "Esc back" in t.text() and "OLD: since " in t.text(), 20, "the details of one, which are old, too")
    bed.daemon.handlers["migration.list"] = fleet.list
    wait_for(lambda: "OLD" not in t.text(), 20, "an answer again")
    assert not re.search(r"\x1b\[3[0-9]", t.raw), "colours, though NO_COLOR is set"
    t.type("q")
    assert t.ends() == 0


# --- plain ---

def test_plain_text(bed, on_terminal):
    out = bed.cli("top", "-n", "2")
    assert out.returncode == 0 and out.stderr == ""
    assert "\x1b" not in out.stdout and all(len(line) <= 80 for line in out.stdout.splitlines())
    assert out.stdout.count("1000 machines") == 2 and out.stdout.count("vm-49") == 2 and "q quit" not in out.stdout
    t = on_terminal("--batch", "-n", "1")
    assert t.ends() == 0 and "50 running" in t.raw and "\x1b" not in t.raw
    t = on_terminal("-n", "1", TERM="dumb")
    assert t.ends() == 0 and "\x1b" not in t.raw


def test_alerts(bed, on_terminal):
    """How many, and the worst: not those that ended, nor what another one makes plain. Asked for once at most with each renewal."""
    store = {**STORE_ALERT, "state": "firing", "resolved": None, "reason": None}
    hidden, over = {**ALERT, "id": "a-1.3", "inhibited_by": "NovacronStuck"}, {**ALERT, "id": "a-1.4", "state": "resolved"}
    bed.daemon.handlers["alert.list"] = lambda args: [ALERT, hidden, store, over]
    t = on_terminal()
    t.shows("2 ALERTS, critical  the page store of host-a takes no checkpoints")
    bed.daemon.handlers["alert.list"] = lambda args: [ALERT, over]
    t.shows(f"1 ALERT, warning  {ALERT['summary']}")
    bed.daemon.handlers["alert.list"] = lambda args: [over]
    wait_for(lambda: "ALERT" not in t.text(), 20, "all to be well")
    t.type("q")
    assert t.ends() == 0
    asked = [r["op"] for r in bed.daemon.requests if r["op"] == "alert.list" or r["args"].get("state") == "active"]
    assert asked.count("alert.list") <= asked.count("migration.list")
    bed.daemon.handlers["alert.list"] = lambda args: [ALERT, STORE_ALERT]


def test_json(bed):
    out = bed.cli("--json", "top", "-n", "2")
    frames = [json.loads(line) for line in out.stdout.splitlines()]
    assert len(frames) == 2 and frames[0]["machines"] == {"total": 1000, "by_state": {"migrating": 50, "running": 950}}
    assert [m["vm"] for m in frames[1]["running"]] == [m["vm"] for m in MANY] and frames[1]["problem"] is None
    assert frames[0]["alerts"] == {"firing": 1, "worst": "warning", "summary": ALERT["summary"]}


def test_what_is_wrong_is_said_on_the_usual_screen(tmp_path, on_terminal, bed):
    t = Terminal([CLI, "--socket", str(tmp_path / "none.sock"), "top"])
    try:
        assert t.ends() != 0 and "can't reach NovaCron" in t.raw and "\x1b" not in t.raw and t.is_as_before()
    finally:
        t.close()
    assert bed.cli("top", "-n", "-1").returncode == 2


# --- for real ---

def test_a_real_migration(tmp_path):
    """Its numbers move, it comes to the list of those that have ended with the pause of its record, and q ends it."""
    with Cluster(rate="60mbit", delay="1ms", gates=True) as c:
        vm = c.boot(spec=guest_spec(memory_mib=128, fill=48, ws=8, rate=2))
        t = Terminal([CLI, "--socket", c.a.api, "top"], columns=100)
        try:
            t.shows("Running migrations  none")
            t.shows("1 machine: 1 running")
            m = c.migrate(vm, c.a, wait=False)
            tail, seen = m["id"][-8:], []

            def has_ended():
                percent = re.search(rf"{tail}.*\] +(\d+)%", t.text())
                if percent and (not seen or seen[-1] != int(percent[1])):
                    seen.append(int(percent[1]))
                return re.search(rf"{tail}.* completed ", t.text())
            wait_for(has_ended, 100, lambda: f"its end; there is:\n{t.text()}")
            assert len(seen) >= 3 and seen == sorted(seen), seen
            record = c.a.wait_migration(m["id"])
            assert f"{record['pause_ms']:.0f} ms" in t.text() or f"{record['pause_ms'] / 1000:.1f} s" in t.text()
            t.type("\r")
            t.shows("History, newest first")
            t.type("\x1b[F")
            t.shows("started")
            t.type("q")
            assert t.ends() == 0 and t.is_as_before()
        finally:
            t.close()
