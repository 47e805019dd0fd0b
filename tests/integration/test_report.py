# SPDX-License-Identifier: Apache-2.0
"""`novacron report` and `novacron doctor` over real migrations: what the record says is in each form, and causes are named."""

import html.parser
import json
import os
import re
import time

import pytest
from nctest.cluster import Cluster, guest_spec
from nctest.net import deadline

VM = "web1"
LIMIT = 4_000_000  # bytes per second: what holds the migration back
VOID = {"meta", "rect", "line", "circle", "br"}


class Page(html.parser.HTMLParser):
    """What a report holds, for people and for machines."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.open, self.words = [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == [], f"never closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, *a) for a in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, *a) for a in attrs]

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self):
        return re.sub(r"\s+", " ", " ".join(self.words))


def page(text):
    """Parsed; it asks nobody for anything, and its tables are read well by those who don't see them."""
    p = Page(text)
    assert not {"script", "link", "img", "iframe", "object", "embed", "base", "form", "a", "image", "use"} & set(p.tags)
    assert not [a for a in p.attributes if a[1].startswith("on") or a[1] in ("src", "href", "xlink:href", "style", "srcset", "action", "data")]
    assert not re.search(r"https?:|url\(|@import|//", text), "something is fetched from elsewhere"
    assert ("meta", "content", "default-src 'none'; style-src 'unsafe-inline'") in p.attributes and ("html", "lang", "en") in p.attributes
    assert p.tags.count("caption") == p.tags.count("table") > 0 and "prefers-color-scheme:dark" in text and "@media print" in text
    return p


def report(node, id, *options):
    return node.cli("report", id, *options).stdout


def findings(node, *arguments):
    """By what was looked at: the first of each; and how it ended."""
    out = node.cli("doctor", *arguments, "--json", check=False)
    result = json.loads(out.stdout)
    verdicts = {f["verdict"] for f in result["findings"]}
    assert out.returncode == (2 if "failed" in verdicts else 1 if verdicts - {"ok"} else 0) and all(f["value"] for f in result["findings"])
    assert all(f["remedy"] for f in result["findings"] if f["verdict"] in ("failed", "warning")), "what is one to do?"
    return {f["check"]: f for f in reversed(result["findings"])}, out.returncode


@pytest.fixture(scope="module")
def cluster():
    with Cluster(rate="1gbit", delay="1ms", gates=True) as c:
        c.boot(spec=guest_spec(memory_mib=128, ws=16, rate=2, nic=False))
        yield c


@pytest.fixture(scope="module")
def moved(cluster):
    """A migration that its limit makes slow: what was told of it under way, and its record at the end."""
    m = cluster.migrate(VM, cluster.a, wait=False, bandwidth_limit_bps=LIMIT)
    cluster.a.wait_state(m["id"], ("copying",))
    end = deadline(60)
    while not cluster.a.call("migration.get", id=m["id"])["wire_bytes"] and time.monotonic() < end:
        time.sleep(0.05)
    under_way = report(cluster.a, m["id"], "--md"), report(cluster.a, m["id"], "-o", "-"), json.loads(report(cluster.a, m["id"], "--json"))
    record = cluster.a.wait_migration(m["id"])
    assert record["outcome"] == "completed", record
    return under_way, record


def test_under_way_it_says_so(moved):
    (md, html_text, whole), record = moved
    assert "Under way: web1 is to move from host\\-a" in md.replace("host-a", "host\\-a") and "has not ended" in md
    assert "Under way" in page(html_text).text
    assert whole["record"]["outcome"] is None and whole["record"]["id"] == record["id"] and 0 < whole["derived"]["elapsed_ms"] < record["total_ms"]


def test_a_completed_one_in_html(cluster, moved, tmp_path):
    _, record = moved
    path = tmp_path / "r.html"
    assert report(cluster.a, record["id"], "--html", str(path)) == f"{path}\n"
    p = page(path.read_text(encoding="utf-8"))
    for number in ("wire_bytes", "ram_bytes", "ram_total_bytes", "stream_bytes", "mover_rss_bytes"):
        assert f"({record[number]} B)" in p.text, number
    for number in ("pages", "zero_pages", "reference_pages", "delta_pages", "resent_bytes", "reconnects"):
        assert f" {record[number]} " in p.text, number
    for key in ("id", "vm", "source", "destination", "created", "started", "finished", "sha256", "algorithm", "compression", "qos"):
        assert record[key] in p.text, key
    assert f"{record['ratio']:.2f} bytes of QEMU's stream" in p.text and "both ends computed the same" in p.text
    for name, batches in record["coded_batches"].items():
        assert f" {name} {batches} " in p.text, name
    for c in record["connections"]:
        assert f"({c['sent_bytes']} B)" in p.text and f" {c['segments']} {c['retransmitted_segments']} " in p.text
    for event in record["events"]:
        assert event["at"] in p.text and event["event"] in p.text and re.sub(r"\s+", " ", event["detail"]) in p.text
    assert p.tags.count("svg") >= 1 and p.text.count("Forecasts at ends of rounds") == (1 if record["forecasts"] else 0)
    for f in record["forecasts"]:
        assert f["decision"] in p.text


def test_a_completed_one_as_json_and_text(cluster, moved):
    _, record = moved
    whole = json.loads(report(cluster.a, record["id"], "--json"))
    assert whole["record"] == json.loads(cluster.a.cli("status", record["id"], "--json").stdout)
    derived = whole["derived"]
    assert derived["elapsed_ms"] == pytest.approx(record["total_ms"], abs=1000) and derived["limit_bps"] == LIMIT
    assert derived["memory_ratio"] == pytest.approx(record["ram_bytes"] / record["wire_bytes"])
    assert derived["average_wire_rate_bps"] == pytest.approx(1000 * record["wire_bytes"] / derived["flow_ms"])
    segments = sum(c["segments"] for c in record["connections"])
    assert derived["loss_percent"] == pytest.approx(100 * sum(c["retransmitted_segments"] for c in record["connections"]) / segments)
    md = report(cluster.a, record["id"], "--md")
    assert md.startswith("# web1, host-a -\\> host-b\n") and f"({record['wire_bytes']} B)" in md and "<" not in md.replace("\\<", "")


def test_the_file_has_the_migrations_name(cluster, moved, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    _, record = moved
    assert report(cluster.a, record["id"]) == f"{record['id']}.html\n"
    assert page(open(f"{record['id']}.html", encoding="utf-8").read()) and os.listdir() == [f"{record['id']}.html"]
    assert cluster.a.cli("report", record["id"], "-o", "/nowhere/x", check=False).returncode == 10
    assert cluster.a.cli("report", record["id"], "--md", "--html", "x", check=False).returncode == 2


def test_the_limit_is_named_as_the_cause(cluster, moved):
    _, record = moved
    found, status = findings(cluster.a, record["id"])
    assert status == 1 and found["outcome"]["verdict"] == "ok" and found["integrity"]["verdict"] == "ok"
    assert found["transfer rate"]["verdict"] == "warning"
    assert "bandwidth limit of 4.0 MB/s that this migration was given" in found["transfer rate"]["cause"]
    assert "--bandwidth" in found["transfer rate"]["remedy"]


def test_the_destinations_record_says_what_it_lacks(cluster, moved):
    _, record = moved
    found, status = findings(cluster.b, record["id"])
    assert status == 1 and "host-a" in found["side"]["value"]
    assert "Rounds, forecasts, decisions and the pause are in the source's" in page(report(cluster.b, record["id"], "-o", "-")).text


def test_a_node_that_is_well(cluster):
    found, status = findings(cluster.a)
    assert status in (0, 1), found  # this host's own kernel and disks are what they are
    for check in ("gate", "certificate", "disk space", "page store", "memory", "qemu", "post-copy", "congestion control", "send buffer", "peer", "clock", "migration"):
        assert found[check]["verdict"] in ("ok", "warning"), found[check]
    assert found["peer"]["verdict"] == "ok" and "host-b (10.99.0.2:7450) answers" in found["peer"]["value"]
    text = cluster.a.cli("doctor", check=False).stdout
    assert text.startswith("node host-a\n") and all(len(line) <= 80 for line in text.splitlines()), text


def test_a_peer_that_is_down_and_a_migration_that_failed_for_it(cluster, moved):
    """The last one: it stops a node."""
    source = cluster.b
    cluster.a.stop()
    found, status = findings(source)
    assert status == 2 and found["peer"]["verdict"] == "failed" and "host-a (10.99.0.1:7450)" in found["peer"]["value"]
    m = cluster.migrate(VM, source)
    assert m["outcome"] == "failed" and m["error"]["code"] == "unreachable", m
    found, status = findings(source, m["id"])
    assert status == 2 and m["error"]["message"] in found["outcome"]["value"] and "doctor" in found["outcome"]["remedy"]
    p = page(report(source, m["id"], "-o", "-"))
    assert "Failed: web1 did not move from host-b to host-a" in p.text and m["error"]["message"] in p.text
    found, status = findings(cluster.a)
    assert status == 2 and found["novacrond"]["verdict"] == "failed" and "systemctl" in found["novacrond"]["remedy"]
