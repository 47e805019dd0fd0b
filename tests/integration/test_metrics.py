# SPDX-License-Identifier: Apache-2.0
"""What Prometheus gets: the text as promtool reads it, and what a real Prometheus has of three nodes while two machines move between them."""

import http.client
import json
import os
import re
import shutil
import socket
import subprocess
from datetime import datetime

import pytest

from nctest.bridge import Bridge
from nctest.cluster import guest_spec
from nctest.disks import LocalDisks
from nctest.fleet import FULL, Fleet
from nctest.net import ROOT, wait_for
from nctest.prometheus import RULES, Prometheus

VM, DB = "web1", "db1"  # the second one has a disk
MOVES = {VM: ("host-1", FULL), DB: (FULL, "host-3")}  # at the same time: one node is the source of one and the destination of the other
LIMIT = 2 << 20
TARGET = {VM: 1 << 20, DB: 0}  # 0: not said
DOCUMENT = os.path.join(ROOT, "docs/metrics.md")
DASHBOARD = os.path.join(ROOT, "packaging/grafana/novacron.dashboard.json")
ALERTMANAGER = os.path.join(ROOT, "packaging/prometheus/alertmanager.example.yml")
RULES_TEST = os.path.join(ROOT, "packaging/prometheus/novacron.rules.test.yml")
LABELLED = re.compile(r"^([a-z_]+)(?:\{(.*)\})? (\S+)$")
SELECTOR = re.compile(r"\b(?:novacron_\w+|up)\b(?:\{[^}]*\})?")
SEED = {"transfer_rate_bytes", "compression_ratio", "network_latency_ms", "progress", "duration_seconds", "cpu_usage_percent", "memory_usage_bytes"}
# What the highest of each may be while a machine moves; the link has a round trip of 2 ms.
PLAUSIBLE = {"transfer_rate_bytes": (LIMIT / 10, 1e10), "compression_ratio": (1, 1000), "network_latency_ms": (1, 5000), "progress": (100, 100),
             "duration_seconds": (1, 600), "cpu_usage_percent": (1, 100 * os.cpu_count()), "memory_usage_bytes": (1 << 20, 1 << 30)}


class UnixHTTP(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=60)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def scrape(node, accept="text/plain"):
    connection = UnixHTTP(node.api)
    try:
        connection.request("GET", "/metrics", headers={"Accept": accept})
        answer = connection.getresponse()
        body = answer.read().decode()
        assert answer.status == 200, body
        return answer.getheader("Content-Type"), body
    finally:
        connection.close()


def samples(text):
    """{name: {labels: value}}"""
    found = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            name, labels, value = LABELLED.match(line).groups()
            found.setdefault(name, {})[labels or ""] = float(value)
    return found


def lint(text):
    with open(DOCUMENT, encoding="utf-8") as f:
        document = f.read()
    unknown = [name for name in re.findall(r"^# TYPE (\S+)", text, re.M) if f"`{re.sub('_(total|info)$', '', name)}`" not in document]
    assert not unknown, "not in docs/metrics.md"
    out = subprocess.run(["promtool", "check", "metrics"], input=text, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    # The names are given: promtool would have other units than _ms and _milliseconds.
    complaints = [line for line in out.stdout.splitlines() if "non-base units" not in line and "abbreviated units" not in line]
    assert out.returncode in (0, 3) and not complaints, out.stdout


@pytest.fixture(scope="module")
def fleet():
    """Three nodes with gates. All that moves here crosses the emulated link of the one in the middle."""
    with Fleet(count=3, rate="100mbit", delay="1ms") as f:
        disks = LocalDisks(f.bed, f.nodes[FULL], f.nodes["host-3"])
        disk = {"name": "root", "path": disks.make(f.nodes[FULL], size="64M"), "format": "qcow2"}
        db = guest_spec(DB, memory_mib=96, ws=8, rate=2, nic=False, disks=[disk])
        db["cmdline"] += " nc.records=8 nc.record_rate=60 nc.disk_text=16"
        f.start_guests([("host-1", guest_spec(VM, memory_mib=128, fill=24, ws=8, rate=2, nic=False)), (FULL, db)])
        for node in f.nodes.values():
            node.start_gate()
        yield f


def test_promtool_reads_it(fleet):
    """At rest, in the middle of a migration, and after it."""
    a, b = (fleet.nodes[name] for name in MOVES[VM])
    _, rest = scrape(a)
    lint(rest)
    assert samples(rest)["novacron_machines"] == {'state="running"': 1}
    assert "novacron_migration_progress" not in samples(rest), "there has been none"
    m = a.call("migration.create", vm=VM, to=b.name, bandwidth_limit_bps=1 << 20)
    wait_for(lambda: a.call("migration.metrics", id=m["id"])["rounds"], 60, "the first round")
    wait_for(lambda: a.call("migration.metrics", id=m["id"])["transfer_rate_bytes"], 60, "bytes")
    for node, role in ((a, "source"), (b, "destination")):
        wait_for(lambda: "novacron_migration_memory_usage_bytes" in samples(scrape(node)[1]), 60, f"what {node.name}'s mover says of itself")
        kind, text = scrape(node)
        assert kind == "text/plain; version=0.0.4; charset=utf-8"
        lint(text)
        got = samples(text)
        labels = f'migration="{m["id"]}",vm="{VM}",source="{a.name}",destination="{b.name}",role="{role}"'
        assert got["novacron_migration_memory_usage_bytes"][labels] > 1 << 20
        if node is a:
            missing = {name for name in SEED if labels not in got.get("novacron_migration_" + name, {})}
            assert not missing, text
            assert 0 < got["novacron_migration_progress"][labels] < 100
            assert 1 <= got["novacron_migration_network_latency_ms"][labels]
            assert "novacron_migration_downtime_milliseconds" not in got, "nobody has stood still yet"
            assert "novacron_migration_disk_iops" not in got, "no disk moves"
        else:
            assert labels not in got.get("novacron_migration_transfer_rate_bytes", {}), "who receives does not know what QEMU sends"
    kind, text = scrape(a, "application/openmetrics-text;version=1.0.0,text/plain;q=0.5")
    assert kind.startswith("application/openmetrics-text; version=1.0.0") and text.endswith("\n# EOF\n")
    a.call("migration.cancel", id=m["id"])
    cancelled = a.wait_migration(m["id"])
    assert cancelled["outcome"] == "cancelled"
    took = (datetime.fromisoformat(cancelled["finished"]) - datetime.fromisoformat(cancelled["started"])).total_seconds()
    assert cancelled["total_ms"] == pytest.approx(took * 1000, abs=100)
    got = samples(scrape(a)[1])
    duration, = (value for labels, value in got["novacron_migration_duration_seconds"].items() if 'role="source"' in labels)
    assert duration == pytest.approx(took, abs=0.1), "it goes on after the end"
    assert got["novacron_migrations_total"]['role="source",outcome="cancelled"'] == 1
    assert got["novacron_migrations_under_way"]['role="source",state="running"'] == 0


def panels():
    with open(DASHBOARD, encoding="utf-8") as f:
        return [p for p in json.load(f)["panels"] if p["type"] != "row"]


def asked_of_prometheus(prometheus):
    """[(expression, labels that are read out of what it finds)], of the dashboard's panels and of the rules."""
    asked = [(t["expr"].replace("$migration", ".*").replace("$__rate_interval", "1m"), re.findall(r"\{\{(\w+)\}\}", t["legendFormat"]))
             for panel in panels() for t in panel["targets"]]
    rules = [rule for group in prometheus.ask("rules")["groups"] for rule in group["rules"]]
    asked += [(rule["query"], re.findall(r"\$labels\.(\w+)", str(rule["annotations"]))) for rule in rules]
    grouped = re.compile(r"\b(?:by|on) ?\(([^)]*)\)")
    return [(e, {*labels, *(label for names in grouped.findall(e) for label in names.replace(" ", "").split(","))}) for e, labels in asked]


def check_what_is_asked(prometheus):
    """Grafana is not here: but what its panels and the rules ask is understood, of families that there are, with the labels that they have."""
    with open(DOCUMENT, encoding="utf-8") as d:
        document = d.read()
    asked = asked_of_prometheus(prometheus)
    wrong = [problem for problem in (prometheus.understands(e) for e, _ in asked) if problem]
    assert len(asked) > 45 and not wrong, wrong
    families = {re.sub("_(bucket|total)$", "", name) for e, _ in asked for name in re.findall(r"novacron_\w+", e)}
    assert not [name for name in families if f"`{name}`" not in document]
    for expression, labels in asked:
        found = {selector: prometheus.query(f"last_over_time({selector}[10m])") for selector in SELECTOR.findall(expression)}
        assert found and all(found.values()), f"{expression}: {found}"
        there = {label for series in found.values() for its, _ in series for label in its}
        assert labels <= there, f"{expression} has no {labels - there}"


def move_both(f, prometheus):
    """Begun together; the records at {machine: (source's, destination's)} when both have ended and their ends were scraped."""
    nodes = {vm: (f.nodes[source], f.nodes[destination]) for vm, (source, destination) in MOVES.items()}
    f.wait_seen({vm: source for vm, (source, _) in MOVES.items()})
    # By the controller, so that they have been in a queue; each is the first attempt.
    ids = {vm: f.ask("migrate", machine=vm, destination=destination.name, bandwidth_limit_bps=LIMIT, target_rate_bps=TARGET[vm])["id"] + ".1"
           for vm, (_, destination) in nodes.items()}
    wait_for(lambda: prometheus.query('count(novacron_migration_wire_rate_bytes{role="source"} > 0) == 2'), 60, "both to move at once")
    assert prometheus.query(f'count(novacron_migrations_under_way{{node="{FULL}",state="running"}} == 1) == 2'), "one comes to it while the other leaves it"
    for node in f.nodes.values():
        lint(scrape(node)[1])
    records = {vm: tuple(node.wait_migration(ids[vm]) for node in nodes[vm]) for vm in MOVES}
    assert all(m["outcome"] == "completed" for both in records.values() for m in both), records
    wait_for(lambda: prometheus.query('count(novacron_migrations_total{outcome="completed"} == 1) == 4'), 60, "their ends to be scraped, from both sides")
    return records


def check_one(prometheus, source, destination):
    """What Prometheus has of one migration is plausible, fits together, and is what the records of both sides say."""
    def of(family, role="source"):
        return f'novacron_migration_{family}{{migration="{source["id"]}",role="{role}"}}'

    for name, (low, high) in PLAUSIBLE.items():
        assert low <= prometheus.value(f"max_over_time({of(name)}[10m])") <= high, f"{name} of {source['vm']}"
        assert prometheus.value(f"min_over_time({of(name)}[10m])") >= 0
    for m, role in ((source, "source"), (destination, "destination")):
        assert prometheus.value(of("wire_bytes", role)) == m["wire_bytes"]
        assert prometheus.value(f"max_over_time({of('memory_usage_bytes', role)}[10m])") > 1 << 20
        # What was counted on the way holds what its record says, and it never went back.
        node = m[role]
        counted = f'novacron_wire_bytes_total{{node="{node}",role="{role}"}}'
        assert prometheus.value(counted) >= m["wire_bytes"]
        assert prometheus.value(f"resets({counted}[10m])") == 0
    # Batches are nearly all that crossed: headers and what is said beside them are more, and the one that a cancelled migration cut is less.
    wire, coded = (prometheus.value(f'sum({family}{{node="{source["source"]}",role="source"}})') for family in ("novacron_wire_bytes_total", "novacron_coded_bytes_total"))
    assert 0.9 * wire < coded < 1.05 * wire, (coded, wire)
    assert prometheus.value(of("downtime_milliseconds")) == pytest.approx(source["pause_ms"])
    assert prometheus.value(f'novacron_migration_pause_seconds_count{{node="{source["source"]}"}}') == 1
    assert prometheus.value(f'novacron_migration_pause_seconds_sum{{node="{source["source"]}"}}') == pytest.approx(source["pause_ms"] / 1000)
    assert prometheus.value(of("duration_seconds")) == pytest.approx(source["total_ms"] / 1000, abs=1)
    assert prometheus.value(of("compression_ratio")) == pytest.approx(source["ratio"]) and source["ratio"] > 1
    assert prometheus.value(of("progress")) == 100
    target = [value for _, value in prometheus.query(f"max_over_time({of('target_rate_bytes')}[10m])")]
    assert target == [said for said in [TARGET[source["vm"]]] if said > 0], "it is there where it was said, and only there"
    assert prometheus.value(of("attempt")) == 1
    assert prometheus.value(f"min_over_time({of('network_latency_ms')}[10m])") < 100, "the link has some milliseconds"
    # Rate by time gives bytes; scrapes may be late, so that this is rough.
    if source["vm"] == VM:  # of the other one disks are in it, too
        moved = prometheus.value(f"sum_over_time(({of('transfer_rate_bytes')} > 0)[10m:1s])")
        assert source["ram_bytes"] / 2 < moved < source["ram_bytes"] * 2, (moved, source["ram_bytes"])
    carried = prometheus.value(f"avg_over_time({of('wire_rate_bytes')}[10m])") * source["total_ms"] / 1000
    assert source["wire_bytes"] / 2 < carried < source["wire_bytes"] * 2
    disk = prometheus.query(f"max_over_time({of('disk_iops')}[10m]) > 0") and prometheus.query(f"max_over_time({of('disk_rate_bytes')}[10m]) > 0")
    assert bool(disk) == (source["vm"] == DB), "of the one that has a disk, and of that only"


def test_a_real_prometheus_has_what_three_nodes_say(fleet, tmp_path):
    f = fleet
    bridges = {node.name: Bridge(node.api) for node in f.nodes.values()}
    prometheus = Prometheus(str(tmp_path), {name: bridge.address for name, bridge in bridges.items()})
    try:
        wait_for(lambda: [v for _, v in prometheus.query("up")] == [1, 1, 1], 60, "all nodes to be scraped")
        before = f.star.wan.stats()
        records = move_both(f, prometheus)
        after = f.star.wan.stats()
        for both in records.values():
            check_one(prometheus, *both)
        assert prometheus.value("sum(novacron_migration_queue_seconds_count)") == len(records)
        assert 0 < prometheus.value("sum(novacron_migration_queue_seconds_sum)") < 60
        found = json.loads(f.nodes[MOVES[DB][0]].cli("doctor", records[DB][0]["id"], "--json", check=False).stdout)
        disks = [row for row in found["findings"] if row["check"] == "disk copy"]
        assert len(disks) == 1 and "of its disks" in disks[0]["value"], found
        # The link itself has counted what crossed it: a little more, with headers and all that nodes say to each other.
        for way, (m, _) in (("ba", records[VM]), ("ab", records[DB])):
            crossed = after[way]["wire_bytes"] - before[way]["wire_bytes"]
            assert m["wire_bytes"] < crossed < 1.2 * m["wire_bytes"] + (3 << 20), (way, crossed, m["wire_bytes"])
        assert prometheus.value('sum(novacron_machines{state="running"})') == len(MOVES)
        wait_for(lambda: {health for health, _ in prometheus.rules().values()} == {"ok"}, 30, lambda: f"all rules to be evaluated: {prometheus.rules()}")
        check_what_is_asked(prometheus)
        assert not prometheus.query('ALERTS{alertname="NovacronNodeDown"}')
    finally:
        prometheus.close()
        for bridge in bridges.values():
            bridge.close()


def test_rules():
    """promtool reads them, and tries each on series that should and should not raise it."""
    for command in (["check", "rules", RULES], ["test", "rules", RULES_TEST]):
        out = subprocess.run(["promtool", *command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert out.returncode == 0, out.stdout
    with open(RULES, encoding="utf-8") as rules, open(RULES_TEST, encoding="utf-8") as tests, open(DOCUMENT, encoding="utf-8") as f:
        document, alerts, tried = f.read(), re.findall(r"alert: (\S+)", rules.read()), tests.read()
    assert alerts and not [a for a in alerts if f'alertname="{a}"' not in tried or f"`{a}`" not in document]


def test_alertmanager_reads_the_example():
    """And each alert that it names is one of the rules (what inhibits what is tests/unit/agent/test_alerts.c's)."""
    with open(RULES, encoding="utf-8") as rules, open(ALERTMANAGER, encoding="utf-8") as example:
        alerts, text = set(re.findall(r"alert: (\S+)", rules.read())), example.read()
    named = set(re.findall(r"Novacron\w+", text))
    assert named and named <= alerts, named - alerts
    if shutil.which("amtool"):
        out = subprocess.run(["amtool", "check-config", ALERTMANAGER], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert out.returncode == 0, out.stdout
    rules = pytest.importorskip("yaml").safe_load(text)["inhibit_rules"]
    assert all(set(rule) == {"source_matchers", "target_matchers", "equal"} for rule in rules)


def test_the_dashboard_says_what_it_shows():
    assert not [p["title"] for p in panels() if not p["description"] or not p["fieldConfig"]["defaults"].get("unit")]
