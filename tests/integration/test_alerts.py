# SPDX-License-Identifier: Apache-2.0
"""Alerts raised by real conditions and cleared with them, by the nodes themselves and by a real Prometheus with the packaged rules: a link that becomes worse
and better again, and what a webhook gets of it; a link that is cut; a page store whose disk breaks, and one that fills; migrations that fail; a certificate that
ends; a machine of which nobody knows whether it runs; a node that does not answer. What they tell people to type is there."""

import hashlib
import hmac
import http.server
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import threading
import time

import jsonschema
import pytest

from gate_bed import Keys, UnixConnection, exchange
from nctest import checkpoints, websocket
from nctest.bridge import Bridge
from nctest.cluster import Cluster, guest_spec
from nctest.disks import LoopDisk, in_mounts_of
from nctest.net import wait_for
from nctest.prometheus import Prometheus, shortened_rules
from nctest.websocket import Closed, WebSocket

pytestmark = pytest.mark.skipif(not shutil.which("openssl"), reason="openssl is not installed")

VM = "web1"
LIMIT = 5_000_000  # bytes per second, a third of what the guest dirties: also one that is itself denied processors does not converge
GOOD = ("rate 400mbit", "delay 1ms", "loss 0")
KEY = b"a key of the receiver's and ours"
STORE_MIB = 160  # a checkpoint of the guest takes more than 48 of them
SETTINGS = {"alert_slow_transfer": "100 for 1 after 1", "alert_high_latency": "100 for 1 after 1", "alert_packet_loss": "1 for 0 after 0",
            "alert_not_converging": "on for 2 after 0", "alert_mover_busy": "0.5 for 1 after 1", "alert_pause_over_budget": "100 after 2",
            "store_budget_mib": str(STORE_MIB), "alert_store_nearly_full": "25 for 0 clear 15 after 0", "alert_store_down": "on for 1 after 1",
            "alert_failures": "2 for 0 clear 2 after 1",
            "path_timeout_ms": "120000"}  # a cut is a pause

# What Prometheus has in its rules instead of what is packaged, besides a second for each `for:`.
CHANGES = {"NovacronStuck": {"[5m]": "[4s]", "offset 5m": "offset 4s"}, "NovacronMoverBusy": {"> 80": "> 0.5"}, "NovacronFailures": {"[30m]": "[25s]"},
           "NovacronNotConverging": {"[30s]": "[2s]"}, "NovacronStoreNearlyFull": {"> 0.9 *": "> 0.25 *"}}


class Receiver:
    """A webhook behind HTTPS in a host's namespace; answers 503 to the first, and keeps what came with its verdict on the signature."""

    def __init__(self, netns, keys):
        self.got = []  # (status, delivery, is the signature right, body)
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                stamp = self.headers["X-Novacron-Timestamp"]
                mine = "v1=" + hmac.new(KEY, stamp.encode() + b"." + body, hashlib.sha256).hexdigest()
                is_right = hmac.compare_digest(mine, self.headers["X-Novacron-Signature"]) and abs(time.time() - int(stamp)) < 300
                status = 204 if receiver.got else 503
                receiver.got.append((status, self.headers["X-Novacron-Delivery"], is_right, json.loads(body)))
                self.send_response(status)
                self.end_headers()

            def log_message(self, *_):
                pass

        listener = netns.within(lambda: socket.create_server(("127.0.0.1", 0)))
        self.url = f"https://localhost:{listener.getsockname()[1]}/hook"
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*keys.server)
        self.server = http.server.ThreadingHTTPServer(listener.getsockname(), Handler, bind_and_activate=False)
        self.server.socket.close()
        self.server.handle_error = lambda *_: None  # who asked did not wait for the answer
        self.server.socket = context.wrap_socket(listener, server_side=True, do_handshake_on_connect=False)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def taken(self):
        """[(alert, state)] of what it has said yes to; what comes again under its name, since the yes was too late, counts once."""
        first = {}
        for status, delivery, _, body in self.got:
            if status == 204:
                first.setdefault(delivery, (body["alert"]["alert"], body["alert"]["state"]))
        return list(first.values())

    def close(self):
        self.server.shutdown()
        self.server.server_close()


class Listener(threading.Thread):
    """What a watcher of a migration (None: of the node) hears of alerts: [(alert, state)]."""

    def __init__(self, node, id):
        super().__init__(daemon=True)
        self.ws = WebSocket(websocket.unix(node.api), f"/api/v2/migrations/{id}/ws" if id else "/api/v2/alerts/ws")
        self.heard, self.end = [], None
        self.start()

    def run(self):
        try:
            while True:
                message = self.ws.next()
                if message["type"] == "alert":
                    self.heard.append((message["data"]["alert"], message["data"]["state"]))
                if message["type"] in ("completed", "failed", "cancelled"):
                    self.end = message["type"]
        except Closed:
            self.ws.close()


@pytest.fixture(scope="module")
def cluster():
    with Cluster(rate="400mbit", delay="1ms", gates=True, **SETTINGS) as c:
        c.boot(spec=guest_spec(memory_mib=128, ws=48, rate=18, pattern="random"))
        yield c


@pytest.fixture(scope="module")
def prometheus(cluster, tmp_path_factory):
    directory = str(tmp_path_factory.mktemp("prometheus"))
    bridges = {node.name: Bridge(node.api) for node in (cluster.a, cluster.b)}
    p = Prometheus(directory, {name: bridge.address for name, bridge in bridges.items()}, shortened_rules(directory, CHANGES))
    try:
        wait_for(lambda: [value for _, value in p.query("up")] == [1, 1], 60, "both nodes to be scraped")
        yield p
    finally:
        p.close()
        for bridge in bridges.values():
            bridge.close()


@pytest.fixture(scope="module")
def checkpoint(cluster):
    """One of the guest, on the node where it is."""
    node, _ = sides(cluster)
    return checkpoints.create(node, VM)


@pytest.fixture(scope="module")
def receiver(cluster, tmp_path_factory):
    directory = tmp_path_factory.mktemp("webhook")
    keys = Keys(directory)
    strangers = keys.make_ca("strangers")
    key = directory / "webhook.key"
    key.write_bytes(KEY + b"\n")
    key.chmod(0o600)
    r = Receiver(cluster.net.a, keys)
    configure(cluster.a, alert_webhook_url=r.url, alert_webhook_key_file=key, alert_webhook_ca_file=strangers)
    r.ca = keys.ca
    yield r
    r.close()


def configure(node, **settings):
    """Takes effect without a restart."""
    node.settings.update(settings)
    node.write_config()
    node.process.send_signal(signal.SIGHUP)


def link(cluster, *commands):
    for command in commands:
        assert cluster.net.wan.tell(command).startswith("ok")


def alerts(node):
    answer = exchange(UnixConnection(node.api), "GET", "/api/v2/alerts")
    assert answer.status == 200
    return answer.json["items"]


def raised(node, name):
    """Waits until it fires; the alert."""
    return wait_for(lambda: next((a for a in alerts(node) if a["alert"] == name and a["state"] == "firing"), None), 40,
                    lambda: f"{name}; there is {alerts(node)}, of {node.call('migration.list', limit=1)}")


def cleared(node, alert, *reasons):
    def now():
        found = next(a for a in alerts(node) if a["id"] == alert["id"])
        return found if found["state"] == "resolved" else None
    found = wait_for(now, 40, lambda: f"the end of {alert}; there is {alerts(node)}, of {node.call('migration.list', limit=1)}")
    assert found["reason"] in reasons and found["fired"] <= found["resolved"], found
    return found


def told(node, alert):
    """As novacron and the log have it: that it fires, or that it is over."""
    text, fires = node.cli("alerts").stdout, alert["state"] == "firing"
    assert f"{alert['alert']}, since {alert['fired']}" in text and (fires or f"until {alert['resolved']}" in text), text
    about = f", migration {alert['migration']}" if "migration" in alert else ""
    assert f"{alert['alert']} {alert['state']}{about}: " in open(node.log).read()
    return alert


def can_be_typed(node, text):
    """Each command that people are told is there, with these options: asked for help with them it gives some, and does nothing."""
    for command in re.findall(r"`(novacrond? [^`]+|novacrond?)`", text):
        program, *words = command.split()
        out = subprocess.run([node.program({"novacron": "cli", "novacrond": "agent"}[program], program), *words, "--help"], stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT, text=True)
        assert out.returncode == 0 and out.stdout.startswith("Usage:"), f"{command}: {out.stdout}"


def of_prometheus(node, alert):
    """The labels that it has there."""
    keys = ("migration", "vm", "source", "destination", "role") if "migration" in alert else ()
    return {"node": node.name, "severity": alert["severity"], **{key: alert[key] for key in keys}}


def warned(prometheus, node, alert):
    """Prometheus raises what the node raised, too: of the same migration, in words that lack nothing."""
    labels = of_prometheus(node, alert)
    there = wait_for(lambda: prometheus.firing(alert["alert"], **labels), 40,
                     lambda: f"{alert['alert']} with {labels} in Prometheus, which has {prometheus.ask('alerts')}")
    assert len(there) == 1, there
    words = there[0]["annotations"]
    assert "<no value>" not in str(words) and (alert.get("vm") or there[0]["labels"]["instance"]) in words["summary"], words
    assert "migration" not in alert or alert["migration"] in words["description"], words
    can_be_typed(node, words["description"] + alert.get("remedy", ""))


def calmed(prometheus, node, alert):
    labels = of_prometheus(node, alert)
    wait_for(lambda: not prometheus.firing(alert["alert"], **labels), 60, lambda: f"the end of {alert['alert']} in Prometheus, which has {prometheus.ask('alerts')}")


def notes(node, id):
    """What the migration's history says of alerts: [(alert, state)]."""
    return [tuple(e["detail"].split(":")[0].split(" ")) for e in node.call("migration.get", id=id)["events"] if e["event"] == "alert"]


def sides(cluster):
    """(where the guest runs, the other node)"""
    source = next(node for node in (cluster.a, cluster.b) if node.state(VM) == "running")
    return source, cluster.other(source)


def test_a_link_that_becomes_worse_and_better(cluster, receiver, prometheus):
    c = cluster
    m = c.a.call("migration.create", vm=VM, to=c.b.name, bandwidth_limit_bps=LIMIT, algorithm="pre-copy", max_throttle=0, convergence_timeout_ms=0)
    listener = Listener(c.a, m["id"])

    link(c, "delay 120ms", "loss 4")
    latency, loss = raised(c.a, "NovacronHighLatency"), raised(c.a, "NovacronPacketLoss")
    assert latency["value"] > 100 and latency["migration"] == m["id"] and latency["role"] == "source" and f"to {c.b.name}" in latency["summary"]
    assert loss["value"] > 1 and loss["threshold"] == 1
    for alert in (latency, loss):
        warned(prometheus, c.a, alert)
    link(c, *GOOD)
    cleared(c.a, latency, "condition")
    cleared(c.a, loss, "condition")
    calmed(prometheus, c.a, latency)  # its losses are of all the migration: they stay

    # The receiver's certificate is of others than the file says: nothing was sent. From now on it may be.
    wait_for(lambda: "the webhook did not take" in open(c.a.log).read() and "certificate" in open(c.a.log).read(), 30, "the webhook's refusal")
    assert not receiver.got
    configure(c.a, alert_webhook_ca_file=receiver.ca)

    link(c, "rate 8mbit")
    slow = raised(c.a, "NovacronSlowTransfer")
    assert slow["value"] < 100
    warned(prometheus, c.a, slow)
    link(c, *GOOD)
    cleared(c.a, slow, "condition")
    calmed(prometheus, c.a, slow)

    endless, busy = raised(c.a, "NovacronNotConverging"), raised(c.a, "NovacronMoverBusy")
    shown = " ".join(c.a.cli("alerts").stdout.split())
    assert f"NovacronNotConverging, since {endless['fired']}" in shown and f"migration {m['id']}" in shown and f"novacron limit {m['id']} --bandwidth 0" in shown
    assert {a["id"] for a in json.loads(c.a.cli("alerts", "--json").stdout)["items"]} >= {endless["id"], slow["id"]}
    for alert in (endless, busy):
        warned(prometheus, c.a, alert)
    c.a.call("migration.limit", id=m["id"], bandwidth_limit_bps=0)
    cleared(c.a, endless, "condition", "over")
    assert c.a.wait_migration(m["id"])["outcome"] == "completed"
    cleared(c.a, busy, "over")
    for alert in (endless, busy, loss):
        calmed(prometheus, c.a, alert)
    documented = exchange(UnixConnection(c.a.api), "GET", "/api/v2/openapi.json").json
    for alert in alerts(c.a):
        jsonschema.validate(alert, {"$ref": "#/components/schemas/Alert", "components": documented["components"]})

    # All of it stands in the log and in the history, before its end, and those who watched have heard it.
    history = notes(c.a, m["id"])
    for name in ("HighLatency", "PacketLoss", "SlowTransfer", "NotConverging", "MoverBusy"):
        assert f"Novacron{name} firing, migration {m['id']}: " in open(c.a.log).read()
        assert history.count((f"Novacron{name}", "firing")) == history.count((f"Novacron{name}", "resolved")) >= 1
    listener.join(60)
    assert listener.heard == history and listener.end == "completed"

    # The webhook has taken each, in order; the first it had refused, and got again.
    wait_for(lambda: ("NovacronMoverBusy", "resolved") in receiver.taken(), 90, lambda: f"the webhook to have all: {receiver.taken()}")
    assert all(is_right for _, _, is_right, _ in receiver.got)
    assert receiver.got[0][0] == 503 and receiver.got[1][1] == receiver.got[0][1], "the first came again"
    wait_for(lambda: [t for t in receiver.taken() if t[0] != "NovacronPauseOverBudget"] == history, 90, lambda: f"the webhook to have just {history}: {receiver.taken()}")
    assert receiver.got[1][3]["node"] == c.a.name and receiver.got[1][3]["version"] == 1


def test_a_pause_over_its_budget(cluster, prometheus):
    """Post-copy does not ask whether the pause fits; a millisecond never does."""
    c = cluster
    source, _ = sides(c)
    m = c.migrate(VM, source, algorithm="post-copy", max_downtime_ms=1)
    assert m["outcome"] == "completed" and m["pause_ms"] > 1, m
    pause = next(a for a in alerts(source) if a["alert"] == "NovacronPauseOverBudget" and a["migration"] == m["id"])
    assert pause["value"] == pytest.approx(m["pause_ms"] * 100)
    warned(prometheus, source, pause)  # for five minutes, which nobody waits for here
    cleared(source, pause, "time")
    events = [e["event"] for e in source.call("migration.get", id=m["id"])["events"]]
    assert events[-1] == "finished" and "alert" in events
    c.assert_healthy(VM, c.other(source))


def test_a_link_that_is_cut(cluster, prometheus):
    """Stuck while nothing crosses, which makes the rest plain; over when something does."""
    c = cluster
    source, destination = sides(c)
    configure(source, alert_stuck="2 for 1 clear 2 after 0")
    m = source.call("migration.create", vm=VM, to=destination.name, bandwidth_limit_bps=LIMIT, algorithm="pre-copy", max_throttle=0, convergence_timeout_ms=0)
    wait_for(lambda: source.call("migration.get", id=m["id"])["wire_bytes"] > 1 << 20, 60, "memory to cross")
    plain = ("NovacronSlowTransfer", "NovacronHighLatency", "NovacronPacketLoss", "NovacronNotConverging")
    link(c, "down")
    try:
        stuck = told(source, raised(source, "NovacronStuck"))
        assert stuck["severity"] == "critical" and stuck["value"] > 2 and stuck["migration"] == m["id"] and f"to {destination.name}" in stuck["summary"]
        others = wait_for(lambda: [a for a in alerts(source) if a["state"] == "firing" and a.get("migration") == m["id"] and a["alert"] in plain], 60,
                          "something else to be wrong with it, too")
        assert all(a["inhibited_by"] == "NovacronStuck" for a in others), others
        warned(prometheus, source, stuck)
    finally:
        link(c, "up")
    told(source, cleared(source, stuck, "condition"))
    calmed(prometheus, source, stuck)
    source.call("migration.cancel", id=m["id"])
    assert source.wait_migration(m["id"])["outcome"] == "cancelled"
    assert [state for name, state in notes(source, m["id"]) if name == "NovacronStuck"] == ["firing", "resolved"]
    configure(source, alert_stuck="off")


@pytest.mark.skipif(not os.path.exists("/dev/loop-control"), reason="no loop devices")
def test_a_page_store_whose_disk_breaks(cluster, prometheus, checkpoint):
    """Its file system finds damage and lets nobody write any more, of which the first write tells, until the disk is mended and novacrond has opened
    the store again. Later something else fills the disk: the store has no budget, and no room."""
    c = cluster
    source, node = sides(c)
    with LoopDisk(node, "store", "600M") as disk:
        node.stop()
        disk.mount()
        node.settings.update(store_dir=disk.path, store_budget_mib="0")
        node.write_config()
        node.start()
        disk.find_damage()
        source.call("checkpoint.copy", id=checkpoint["id"], to=node.name)
        activity = checkpoints.settle(source, checkpoint["id"])["activity"]
        assert activity["state"] == "failed" and node.name in activity["error"]["message"], activity
        down = told(node, raised(node, "NovacronStoreDown"))
        assert down["severity"] == "critical" and down["node"] == node.name
        warned(prometheus, node, down)
        status = node.cli("store", "status").stdout
        assert "FAILED" in status and "restarted" in status, status

        node.stop()
        disk.mend()
        node.start()
        calmed(prometheus, node, down)
        source.call("checkpoint.copy", id=checkpoint["id"], to=node.name)
        assert checkpoints.settle(source, checkpoint["id"])["activity"]["state"] == "done"
        assert not [a for a in alerts(node) if a["alert"].startswith("NovacronStore")], "it was restarted, and all is well"

        left = node.call("store.status")["disk_free_bytes"]
        in_mounts_of(node, "fallocate", "-l", str(left - (1 << 20)), os.path.join(disk.path, "filler"))
        full = told(node, raised(node, "NovacronStoreNearlyFull"))
        assert full["value"] > 25
        warned(prometheus, node, full)
        in_mounts_of(node, "rm", os.path.join(disk.path, "filler"))
        told(node, cleared(node, full, "condition"))
        calmed(prometheus, node, full)

        node.call("checkpoint.delete", id=checkpoint["id"])
        node.stop()
        node.settings.pop("store_dir")
        node.settings["store_budget_mib"] = str(STORE_MIB)
        node.write_config()
    node.start()


def test_a_page_store_that_fills(cluster, prometheus, checkpoint):
    """By a checkpoint, until that is deleted and its room collected."""
    node, _ = sides(cluster)
    full = told(node, raised(node, "NovacronStoreNearlyFull"))
    used = node.call("store.status")["used_bytes"]
    assert full["value"] == pytest.approx(100 * used / (STORE_MIB << 20), rel=0.05) and full["value"] > full["threshold"] == 25
    warned(prometheus, node, full)
    node.call("checkpoint.delete", id=checkpoint["id"])
    node.cli("store", "gc")
    told(node, cleared(node, full, "condition"))
    calmed(prometheus, node, full)


def shorten(node, ca, days):
    """Its certificate, of the same serial number and key, ends so soon."""
    path = {name: os.path.join(node.data_dir, "pki", name) for name in ("node.key", "node.crt", "csr", "extensions")}
    with open(path["extensions"], "w", encoding="ascii") as f:
        f.write("basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\nextendedKeyUsage=serverAuth,clientAuth\n"
                f"subjectAltName=DNS:{node.name},URI:novacron:node:{node.name}\n")

    def openssl(*arguments):
        return subprocess.run(["openssl", *arguments], check=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True).stdout
    serial = openssl("x509", "-noout", "-serial", "-in", path["node.crt"]).strip().split("=")[1]
    openssl("req", "-new", "-key", path["node.key"], "-subj", f"/CN={node.name}", "-out", path["csr"])
    openssl("x509", "-req", "-in", path["csr"], "-CA", os.path.join(ca, "ca.crt"), "-CAkey", os.path.join(ca, "ca.key"), "-days", str(days),
            "-set_serial", f"0x{serial}", "-extfile", path["extensions"], "-out", path["node.crt"])
    for name in ("csr", "extensions"):
        os.unlink(path[name])


def test_a_certificate_that_ends(cluster, prometheus):
    """Within two weeks; the node renews it as the remedy says, and its new certificate is in use at once."""
    c = cluster
    shorten(c.b, os.path.join(c.a.data_dir, "pki"), 10)
    configure(c.b)
    ends = told(c.b, raised(c.b, "NovacronCertificateExpires"))
    listener = Listener(c.b, None)  # it comes late, and hears it all the same
    assert 9 < ends["value"] <= 10 and ends["threshold"] == 14 and ends["unit"] == "days" and "novacron pki renew" in ends["remedy"]
    warned(prometheus, c.b, ends)
    assert not [a for a in alerts(c.a) if a["alert"] == "NovacronCertificateExpires"], "its own is good for years"
    c.b.cli("pki", "renew")
    told(c.b, cleared(c.b, ends, "condition"))
    of_it = [(ends["alert"], "firing"), (ends["alert"], "resolved")]
    wait_for(lambda: [told for told in listener.heard if told[0] == ends["alert"]] == of_it, 30, "both to be heard")
    listener.ws.close()
    calmed(prometheus, c.b, ends)
    source, destination = sides(c)
    check = source.call("migration.check", vm=VM, to=destination.name)
    assert check["verdict"] != "failed", check


def test_migrations_that_fail(cluster, prometheus):
    """Somebody has taken the bridge away at the destination. Two are no news; the third one is, until the first of them is half an hour old: then for the
    source's novacrond, whose clock goes on at once, and in Prometheus, whose window is short here."""
    c = cluster
    source, destination = sides(c)
    source.stop()
    source.use_own_clock(whole=True)
    source.start()
    count = f'novacron_migrations_total{{node="{source.name}",role="source",outcome="failed"}}'
    wait_for(lambda: [value for _, value in prometheus.query(f"{count} and on(node) up == 1")] == [0], 40, "its counters to begin")
    destination.netns.ip("link", "set", "br0", "down")
    destination.netns.ip("link", "set", "br0", "name", "gone")
    try:
        for n in range(3):
            assert not [a for a in alerts(source) if a["alert"] == "NovacronFailures"], f"after {n}"
            m = c.migrate(VM, source)
            assert m["outcome"] == "failed" and "br0" in m["error"]["message"] and destination.name in m["error"]["message"], m
        failures = told(source, raised(source, "NovacronFailures"))
        assert (failures["value"], failures["threshold"], failures["node"]) == (3, 2, source.name)
        warned(prometheus, source, failures)
        assert m["id"] in source.cli("status").stdout and "br0" in source.cli("doctor", m["id"], check=False).stdout
    finally:
        destination.netns.ip("link", "set", "gone", "name", "br0")
        destination.netns.ip("link", "set", "br0", "up")
    source.step_clock(1860)
    told(source, cleared(source, failures, "condition"))
    source.stop()
    source.clock = None
    source.start()
    c.assert_healthy(VM, source)
    calmed(prometheus, source, failures)


def test_a_machine_that_needs_attention(cluster, prometheus):
    """The destination's QEMU dies in the moment of its start, so that nobody knows whether it ran: until a human has decided. Before that its node does not
    answer, which only Prometheus can say."""
    c = cluster
    source, destination = sides(c)
    silent = {"alert": "NovacronNodeDown", "severity": "critical"}
    destination.stop()
    warned(prometheus, destination, silent)
    destination.start(fault="destination-before-cont:stop")
    calmed(prometheus, destination, silent)
    m = c.migrate(VM, source, wait=False, algorithm="pre-copy")
    wait_for(destination.is_stopped_by_fault, 60, "the destination to be about to start it")
    for pid in destination.qemu_pids():
        os.kill(pid, signal.SIGKILL)
    destination.go_on()
    attention = told(source, raised(source, "NovacronNeedsAttention"))
    assert attention["severity"] == "critical" and attention["migration"] == m["id"] and f"novacron status {m['id']}" in attention["remedy"]
    warned(prometheus, source, attention)
    source.call("migration.resolve", id=m["id"], action="run_here")
    assert source.wait_migration(m["id"])["outcome"] == "failed"
    told(source, cleared(source, attention, "condition", "over"))
    calmed(prometheus, source, attention)
    c.assert_healthy(VM, source)
