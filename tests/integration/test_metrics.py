# SPDX-License-Identifier: Apache-2.0
"""What Prometheus gets: the text as promtool reads it, and what a real Prometheus has of real migrations."""

import http.client
import json
import os
import re
import socket
import subprocess
import urllib.error
import urllib.parse
import urllib.request

import pytest

from nctest.bridge import Bridge
from nctest.cluster import Cluster, guest_spec
from nctest.net import stop_process, wait_for

VM = "web1"
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
DOCUMENT = os.path.join(ROOT, "docs/metrics.md")
RULES = os.path.join(ROOT, "packaging/prometheus/novacron.rules.yml")
DASHBOARD = os.path.join(ROOT, "packaging/grafana/novacron.dashboard.json")
RULES_TEST = os.path.join(ROOT, "packaging/prometheus/novacron.rules.test.yml")
LABELLED = re.compile(r"^([a-z_]+)(?:\{(.*)\})? (\S+)$")
SEED = {"transfer_rate_bytes", "compression_ratio", "network_latency_ms", "progress", "duration_seconds", "cpu_usage_percent", "memory_usage_bytes"}


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


class Prometheus:
    def __init__(self, directory, targets):
        self.config = os.path.join(directory, "prometheus.yml")
        with socket.create_server(("127.0.0.1", 0)) as s:
            self.port = s.getsockname()[1]
        with open(self.config, "w", encoding="utf-8") as f:
            f.write("global:\n  scrape_interval: 1s\nscrape_configs:\n- job_name: novacron\n  static_configs:\n")
            for name, address in targets.items():
                f.write(f"  - targets: [\"{address}\"]\n    labels: {{node: \"{name}\"}}\n")
        subprocess.run(["promtool", "check", "config", self.config], check=True, stdout=subprocess.PIPE)
        self.log = open(os.path.join(directory, "prometheus.log"), "w", encoding="utf-8")
        self.process = subprocess.Popen(
            ["prometheus", f"--config.file={self.config}", f"--storage.tsdb.path={directory}/tsdb", f"--web.listen-address=127.0.0.1:{self.port}"],
            stdout=self.log, stderr=self.log)

    def query(self, expression):
        """[(labels, value)]"""
        url = f"http://127.0.0.1:{self.port}/api/v1/query?" + urllib.parse.urlencode({"query": expression})
        try:
            with urllib.request.urlopen(url, timeout=20) as answer:
                result = json.load(answer)["data"]["result"]
        except OSError:
            return []
        return [(r["metric"], float(r["value"][1])) for r in result]

    def understands(self, expression):
        """What is wrong with it, or None."""
        url = f"http://127.0.0.1:{self.port}/api/v1/query?" + urllib.parse.urlencode({"query": expression})
        try:
            with urllib.request.urlopen(url, timeout=20) as answer:
                return None if json.load(answer)["status"] == "success" else expression
        except urllib.error.HTTPError as error:
            return f"{expression}: {error.read().decode()}"

    def close(self):
        stop_process(self.process)
        self.log.close()


@pytest.fixture(scope="module")
def cluster():
    with Cluster(rate="100mbit", delay="1ms", gates=True) as c:
        c.boot(spec=guest_spec(memory_mib=128, fill=24, ws=8, rate=2))
        yield c


def test_promtool_reads_it(cluster):
    """At rest, in the middle of a migration, and after it."""
    c = cluster
    _, rest = scrape(c.a)
    lint(rest)
    assert samples(rest)["novacron_machines"] == {'state="running"': 1}
    assert "novacron_migration_progress" not in samples(rest), "there has been none"
    m = c.a.call("migration.create", vm=VM, to=c.b.name, bandwidth_limit_bps=1 << 20)
    wait_for(lambda: c.a.call("migration.metrics", id=m["id"])["rounds"], 60, "the first round")
    wait_for(lambda: c.a.call("migration.metrics", id=m["id"])["transfer_rate_bytes"], 60, "bytes")
    for node, role in ((c.a, "source"), (c.b, "destination")):
        kind, text = scrape(node)
        assert kind == "text/plain; version=0.0.4; charset=utf-8"
        lint(text)
        got = samples(text)
        labels = f'migration="{m["id"]}",vm="{VM}",source="{c.a.name}",destination="{c.b.name}",role="{role}"'
        assert got["novacron_migration_memory_usage_bytes"][labels] > 1 << 20
        if node is c.a:
            missing = {name for name in SEED if labels not in got.get("novacron_migration_" + name, {})}
            assert not missing, text
            assert 0 < got["novacron_migration_progress"][labels] < 100
            assert 1 <= got["novacron_migration_network_latency_ms"][labels]
            assert "novacron_migration_downtime_milliseconds" not in got, "nobody has stood still yet"
            assert "novacron_migration_disk_iops" not in got, "no disk moves"
    kind, text = scrape(c.a, "application/openmetrics-text;version=1.0.0,text/plain;q=0.5")
    assert kind.startswith("application/openmetrics-text; version=1.0.0") and text.endswith("\n# EOF\n")
    c.a.call("migration.cancel", id=m["id"])
    assert c.a.wait_migration(m["id"])["outcome"] == "cancelled"
    got = samples(scrape(c.a)[1])
    assert got["novacron_migrations_total"]['role="source",outcome="cancelled"'] == 1
    assert got["novacron_migrations_under_way"]['role="source",state="running"'] == 0


def check_dashboard(prometheus):
    """Grafana is not here: but what its panels ask is understood, and of families that there are."""
    with open(DASHBOARD, encoding="utf-8") as f, open(DOCUMENT, encoding="utf-8") as d:
        dashboard, document = json.load(f), d.read()
    asked = [t["expr"].replace("$migration", ".*").replace("$__rate_interval", "1m") for p in dashboard["panels"] for t in p.get("targets", [])]
    wrong = [problem for problem in map(prometheus.understands, asked) if problem]
    assert len(asked) > 20 and not wrong, wrong
    families = {re.sub("_(bucket|total)$", "", name) for e in asked for name in re.findall(r"novacron_\w+", e)}
    assert not [name for name in families if f"`{name}`" not in document]


def test_a_real_prometheus_has_what_the_records_say(cluster, tmp_path):
    c = cluster
    bridges = {node.name: Bridge(node.api) for node in (c.a, c.b)}
    prometheus = Prometheus(str(tmp_path), {name: bridge.address for name, bridge in bridges.items()})
    try:
        wait_for(lambda: sorted(v for _, v in prometheus.query("up")) == [1, 1], 60, "both nodes to be scraped")
        m = c.a.call("migration.create", vm=VM, to=c.b.name, bandwidth_limit_bps=2 << 20)
        ours = f'migration="{m["id"]}",role="source"'
        seen = wait_for(lambda: prometheus.query(f"novacron_migration_transfer_rate_bytes{{{ours}}} > 0"), 60, "a rate while it runs")
        assert seen[0][0]["node"] == c.a.name and seen[0][0]["vm"] == VM
        m = c.a.wait_migration(m["id"])
        assert m["outcome"] == "completed", m["error"]
        done = f"novacron_migration_wire_bytes{{{ours}}} and on() novacron_migrations_total{{node=\"{c.a.name}\",role=\"source\",outcome=\"completed\"}} == 1"
        wire = wait_for(lambda: prometheus.query(done), 60, "the end to be scraped")[0][1]
        assert wire == m["wire_bytes"]
        assert prometheus.query(f"novacron_migration_downtime_milliseconds{{{ours}}}")[0][1] == pytest.approx(m["pause_ms"])
        assert prometheus.query(f"novacron_migration_duration_seconds{{{ours}}}")[0][1] == pytest.approx(m["total_ms"] / 1000)
        assert prometheus.query(f'novacron_migration_pause_seconds_count{{node="{c.a.name}"}}')[0][1] == 1
        # What was counted on the way is what the record says, and it never went back.
        counted = f'novacron_wire_bytes_total{{node="{c.a.name}",role="source"}}'
        assert prometheus.query(f"{counted} >= {wire}")
        assert prometheus.query(f"resets({counted}[10m])")[0][1] == 0
        check_dashboard(prometheus)
        # Rate by time gives bytes; scrapes may be late, so that this is rough.
        carried = prometheus.query(f"avg_over_time(novacron_migration_wire_rate_bytes{{{ours}}}[10m])")[0][1] * m["total_ms"] / 1000
        assert wire / 3 < carried < wire * 3
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
