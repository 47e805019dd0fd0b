#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""1000 machines, 50 of which move: does what one types into the dashboard and `novacron top` show at once?

Real are the gate, the dashboard in Chromium, and novacron. novacrond is tests/integration/fake_novacrond.py, whose answers have
1000 machines, 50 running migrations and as many ended ones, other numbers each time: what it takes novacrond to answer is not judged.

Everything is done by the keyboard, at any moment between two answers, and measured in the page by what the browser says of the
key's own time:

  paint   from the key to the end of the next frame that was painted: what makes a page feel sluggish
  shown   from the key until what was asked for has been painted; where that needs an answer of the node, it is no claim of the page's

Of `novacron top`: from the key written to its terminal until the screen shows what it asks for, and processor time.

    NC_BUILD=build bench/dashboard_bench.py [--rounds 20] [--json FILE]

Ends with status 1 if a target was missed.
"""

import argparse
import os
import random
import re
import statistics
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path[:0] = [os.path.join(ROOT, "tests", part) for part in ("lib", "integration")]

from claims import Claims  # noqa: E402
from gate_bed import CLI, COMPLETED, MACHINE, MIGRATION, PROGRESS, Bed  # noqa: E402
from nctest.bridge import Bridge  # noqa: E402
from nctest.browser import ENTER, TAB, Browser  # noqa: E402
from nctest.net import wait_for  # noqa: E402
from nctest.terminal import SEQUENCE, Terminal  # noqa: E402

MACHINES, MOVING = 1000, 50
LIMIT_MS = 100
TOP_CPU_MS = 50  # of processor time per second
ASKS = ("open", "go back")  # what the node has to answer first
DOWN, UP, BACKSPACE, ESCAPE = "\ue015", "\ue013", "\ue003", "\ue00c"

# One interaction at a time: armed by expect(), begun by the next key, over when its result is there.
INSTRUMENT = """
window.bench = {armed: null, result: null, events: [], tasks: [], loaded: null};
(() => {
  const painted = (then) => { const c = new MessageChannel(); c.port1.onmessage = then; c.port2.postMessage(0); };  // a task behind this frame's painting
  const follow = (begun, test) => {
    const result = {};
    const look = () => {
      if (result.paint === undefined) painted(() => { result.paint ??= performance.now() - begun; });
      if (test()) painted(() => { result.shown = performance.now() - begun; result.paint ??= result.shown; bench.result = result; });
      else requestAnimationFrame(look);
    };
    requestAnimationFrame(look);
  };
  bench.expect = (test) => { bench.result = null; bench.armed = test; };
  bench.changes = (read) => { const before = read(); return () => read() !== before; };
  addEventListener("keydown", (event) => {
    const test = bench.armed;
    bench.armed = null;
    if (test) follow(event.timeStamp, test);
  }, true);
  new PerformanceObserver((list) => bench.events.push(...list.getEntries().filter((e) => e.name === "keydown").map((e) => e.duration))).observe({type: "event", durationThreshold: 16});
  new PerformanceObserver((list) => bench.tasks.push(...list.getEntries().map((e) => e.duration))).observe({type: "longtask"});
  const whole = () => (document.querySelectorAll(".card").length === 50 && document.querySelectorAll("section[aria-label=Machines] tbody tr").length === 100
    ? painted(() => { bench.loaded = performance.now(); }) : requestAnimationFrame(whole));
  requestAnimationFrame(whole);
})();
"""

MACHINE_SECTION = "section[aria-label=Machines]"
OVERVIEW = f"() => document.querySelector('.card') && document.querySelector('{MACHINE_SECTION} tbody tr')"
FIRST_MACHINE = f"bench.changes(() => document.querySelector('{MACHINE_SECTION} tbody th')?.textContent)"
HOW_MANY = f"bench.changes(() => document.querySelector('{MACHINE_SECTION} [role=status]').textContent)"


class Crowd:
    """What the fake novacrond has. Each answer differs from the one before, so that there is something to renew."""

    def __init__(self):
        self.begun = time.monotonic()
        self.machines = [{**MACHINE, "name": f"vm-{n:04}", "memory_mib": 512 + n * 7919 % 4096, "state": "migrating" if n % (MACHINES // MOVING) == 7 else "running"}
                         for n in range(MACHINES)]
        self.moving = [m["name"] for m in self.machines if m["state"] == "migrating"]
        self.ended = [{**COMPLETED, "id": f"m-0t7bd31dsw67e{n:03}", "vm": f"vm-{n * 11:04}"} for n in range(MOVING)]

    def now(self, n):
        """Of the n-th migration under way."""
        s = time.monotonic() - self.begun
        rate = 100_000_000 + 1_000_003 * (int(s * 10) + n) % 9_000_000
        return {"progress": int(s / 4 + n) % 100, "rate_bps": rate, "transfer_rate": 3 * rate, "wire_bytes": int((1 << 26) + s * rate), "rtt_us": 20000 + int(s * 1000 + n) % 997,
                "eta_ms": 60000 + n * 100 - int(s * 10) % 30000, "eta_error_ms": 3000, "effective_rate_bps": 2 * rate, "dirty_rate_bps": rate // 9, "converges": True}

    def running(self, n):
        return {**MIGRATION, "id": f"m-0t7bd31dsw67r{n:03}", "vm": self.moving[n], **self.now(n),
                "connections": [{"index": 0, "up": True, "segments": 1000, "retransmitted_segments": 5}]}

    def list(self, args):
        items = [self.running(n) for n in range(MOVING)] if args["state"] == "active" else self.ended
        return {"items": items[:args["limit"]], "next": None}

    def number(self, args):
        return int(args["id"][-3:])

    def handlers(self):
        return {"migration.list": self.list, "migration.get": lambda args: self.running(self.number(args)), "machine.list": lambda args: self.machines,
                "migration.watch": lambda args: {"id": args["id"], "events": [], "last": 0, "more": False, "ended": False,
                                                 "progress": {**PROGRESS, **self.now(self.number(args))}}}


def p95(values):
    return sorted(values)[max(0, -(-95 * len(values) // 100) - 1)] if values else None


class Typist:
    """Types into the dashboard and collects what each kind of thing took: {what: [{"paint", "shown"}]}, in milliseconds."""

    def __init__(self, browser):
        self.browser, self.took = browser, {}

    def at(self, css):
        self.browser.run("document.querySelector(arguments[0]).focus()", css)

    def types(self, what, key, until):
        """`until`: JavaScript that makes a function, true once what was asked for is in the page."""
        time.sleep(random.uniform(0, 0.3))  # whatever the page is just about
        self.browser.run(f"bench.expect({until})")
        self.browser.press(key)
        result = wait_for(lambda: self.browser.run("return bench.result"), 30, lambda: f"\"{what}\" to be shown")
        self.took.setdefault(what, []).append(result)

    def settles(self):
        wait_for(lambda: self.browser.run("return document.querySelectorAll('.card').length") == MOVING, 30, "all of the overview")


def one_round(typist, n):
    """Everything once, on the overview, which is left as it was found."""
    for _ in range(10):
        typist.types("focus: Tab", TAB, "bench.changes(() => document.activeElement)")
    typist.at(f"{MACHINE_SECTION} input")
    for key in str(10 + n % 90):
        typist.types("filter: a character", key, HOW_MANY)
    for _ in range(2):
        typist.types("filter: one less", BACKSPACE, HOW_MANY)
    typist.at(f"{MACHINE_SECTION} select")
    for key in (DOWN, DOWN, UP, UP):
        typist.types("sort", key, FIRST_MACHINE)
    typist.at(f"{MACHINE_SECTION} tbody tr:nth-child({n % 5 + 1}) button")
    typist.types("open a dialog", ENTER, "() => document.querySelector('dialog[open]')")
    typist.browser.press(ESCAPE)
    wait_for(lambda: not typist.browser.run("return Boolean(document.querySelector('dialog'))"), 20, "the dialog to go")
    typist.at(f".card:nth-child({n % MOVING + 1}) h3 a")
    typist.types("open a migration", ENTER, "() => document.querySelector('.card.big')")
    typist.at("main a[href='#/']")
    typist.types("go back", ENTER, OVERVIEW)
    typist.settles()
    typist.at("nav a[href='#/checkpoints']")
    typist.types("open a page", ENTER, "() => location.hash === '#/checkpoints' && document.querySelector('main tbody tr')")
    typist.at("nav a[href='#/']")
    typist.types("open the overview", ENTER, OVERVIEW)
    typist.settles()


def load(browser, url, times):
    """[(first paint, all of the overview)], each from the moment at which the page was asked for."""
    found = []
    for _ in range(times):
        browser.open("about:blank")
        browser.open(url)
        whole = wait_for(lambda: browser.run("return bench.loaded"), 60, "the page to be whole")
        found.append((browser.run("return performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? 0"), whole))
    return found


def dashboard(bed, directory, rounds):
    bridge = Bridge(bed.socket)
    browser = Browser(directory, logs=False)
    try:
        browser.devtools("Page.addScriptToEvaluateOnNewDocument", source=INSTRUMENT)
        loads = load(browser, f"http://{bridge.address}/", 5)
        typist = Typist(browser)
        for n in range(rounds):
            one_round(typist, n)
        return typist.took, loads, browser.run("return bench.events"), browser.run("return bench.tasks")
    finally:
        browser.close()
        bridge.close()


class Keys:
    """Types into novacron top and collects {what: [ms]}."""

    def __init__(self, terminal):
        self.terminal, self.took = terminal, {}

    def shows(self, what, key, pattern):
        self.types(what, key, lambda new: re.search(pattern, SEQUENCE.sub("", new)))

    def types(self, what, key, is_there):
        """Until `is_there(what was written since)`."""
        t = self.terminal
        time.sleep(random.uniform(0, 0.3))
        before = len(t.raw)
        begun = time.monotonic()
        t.type(key)
        while not is_there(t.raw[before:]):
            if time.monotonic() > begun + 30:
                raise TimeoutError(f"\"{what}\" is not on the screen:\n{t.text()}")
            time.sleep(0.0005)
        self.took.setdefault(what, []).append((time.monotonic() - begun) * 1000)


def marked(text):
    """The line that is drawn inverted, as it was drawn last; None: there is none."""
    found = re.findall(r"\x1b\[7m ([^\x1b ]+)", text)
    return found[-1] if found else None


def processor_s(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def top(bed, rounds, watched_s=20):
    """({what: [ms]}, processor time in milliseconds per second while nobody types)"""
    terminal = Terminal([CLI, "--socket", bed.socket, "top"], columns=120, rows=40)
    try:
        terminal.shows(f"{MOVING} running")
        before, begun = processor_s(terminal.process.pid), time.monotonic()
        time.sleep(watched_s)
        cpu_ms = 1000 * (processor_s(terminal.process.pid) - before) / (time.monotonic() - begun)
        keys = Keys(terminal)
        for _ in range(rounds):
            for key in "jjkk":
                was = marked(terminal.raw)
                keys.types("another line", key, lambda new: marked(new) not in (None, was))
            for _ in range(5):
                keys.shows("sort", "s", r"\((by |newest)")
            keys.shows("open a migration", "\r", r"vm-\d+: host-a -> host-b")
            keys.shows("go back", "\x1b", "Running migrations")
            keys.shows("help", "?", "Keys and columns")
            keys.shows("go back", "\x1b", "Running migrations")
        terminal.type("q")
        terminal.ends()
        return keys.took, cpu_ms
    finally:
        terminal.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--json", help="write measurements and claims to this file")
    options = parser.parse_args()
    claims, crowd = Claims(), Crowd()

    with tempfile.TemporaryDirectory() as directory:
        bed = Bed(directory, "--no-https", handlers=crowd.handlers())
        try:
            took, loads, events, tasks = dashboard(bed, directory, options.rounds)
            typed, cpu_ms = top(bed, options.rounds)
        finally:
            bed.close()
    print(f"{MACHINES} machines, {MOVING} of which move: real gate, Chromium and novacron; a novacrond that only talks\n"
          f"opened anew: first paint {statistics.median(a for a, _ in loads):.0f} ms, all of it {statistics.median(b for _, b in loads):.0f} ms (medians of {len(loads)})\n"
          f"Event Timing of keys: {len(events)} of 16 ms and more, p95 of those {p95(events) or 0:.0f} ms, longest {max(events, default=0):.0f} ms; "
          f"tasks of 50 ms and more: {len(tasks)}, longest {max(tasks, default=0):.0f} ms")
    for what, results in took.items():
        for kind in ("paint", "shown"):
            values = [r[kind] for r in results]
            claim = f"dashboard, {what}: {kind}, p95 of {len(values)} (median {statistics.median(values):.0f})"
            if kind == "shown" and what.startswith(ASKS):
                claims.add(claim, f"{p95(values):.0f} ms", "-", True)
            else:
                claims.most(claim, p95(values), LIMIT_MS, " ms", 0)
    for what, values in typed.items():
        claims.most(f"top, {what}: p95 of {len(values)} (median {statistics.median(values):.0f})", p95(values), LIMIT_MS, " ms", 0)
    claims.most("top, processor time per second", cpu_ms, TOP_CPU_MS, " ms", 1)
    return claims.conclude(options.json, dashboard=took, loads=loads, events=events, tasks=tasks, top=typed, top_cpu_ms=cpu_ms)


if __name__ == "__main__":
    sys.exit(main())
