# SPDX-License-Identifier: Apache-2.0
"""Alerts raised by real conditions and cleared with them: by one migration over a link that becomes worse and better again, and what a webhook gets of it."""

import hashlib
import hmac
import http.server
import json
import shutil
import signal
import socket
import ssl
import threading
import time

import jsonschema
import pytest

from gate_bed import Keys, UnixConnection, exchange
from nctest import websocket
from nctest.cluster import Cluster, guest_spec
from nctest.net import wait_for
from nctest.websocket import Closed, WebSocket

pytestmark = pytest.mark.skipif(not shutil.which("openssl"), reason="openssl is not installed")

VM = "web1"
LIMIT = 5_000_000  # bytes per second, a third of what the guest dirties: also one that is itself denied processors does not converge
GOOD = ("rate 400mbit", "delay 1ms", "loss 0")
KEY = b"a key of the receiver's and ours"
SETTINGS = {"alert_slow_transfer": "100 for 1 after 1", "alert_high_latency": "100 for 1 after 1", "alert_packet_loss": "1 for 0 after 0",
            "alert_not_converging": "on for 2 after 0", "alert_mover_busy": "0.5 for 1 after 1", "alert_pause_over_budget": "100 after 2"}


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
    """What a watcher of the migration hears of alerts: [(alert, state)]."""

    def __init__(self, node, id):
        super().__init__(daemon=True)
        self.ws = WebSocket(websocket.unix(node.api), f"/api/v2/migrations/{id}/ws")
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


def test_a_link_that_becomes_worse_and_better(cluster, receiver):
    c = cluster
    m = c.a.call("migration.create", vm=VM, to=c.b.name, bandwidth_limit_bps=LIMIT, algorithm="pre-copy", max_throttle=0, convergence_timeout_ms=0)
    listener = Listener(c.a, m["id"])

    link(c, "delay 120ms", "loss 4")
    latency, loss = raised(c.a, "NovacronHighLatency"), raised(c.a, "NovacronPacketLoss")
    assert latency["value"] > 100 and latency["migration"] == m["id"] and latency["role"] == "source" and f"to {c.b.name}" in latency["summary"]
    assert loss["value"] > 1 and loss["threshold"] == 1
    link(c, *GOOD)
    cleared(c.a, latency, "condition")
    cleared(c.a, loss, "condition")

    # The receiver's certificate is of others than the file says: nothing was sent. From now on it may be.
    wait_for(lambda: "the webhook did not take" in open(c.a.log).read() and "certificate" in open(c.a.log).read(), 30, "the webhook's refusal")
    assert not receiver.got
    configure(c.a, alert_webhook_ca_file=receiver.ca)

    link(c, "rate 8mbit")
    slow = raised(c.a, "NovacronSlowTransfer")
    assert slow["value"] < 100
    link(c, *GOOD)
    cleared(c.a, slow, "condition")

    endless, busy = raised(c.a, "NovacronNotConverging"), raised(c.a, "NovacronMoverBusy")
    shown = c.a.cli("alerts").stdout
    assert f"NovacronNotConverging, since {endless['fired']}" in shown and f"migration {m['id']}" in shown and "Allow post-copy" in shown
    assert {a["id"] for a in json.loads(c.a.cli("alerts", "--json").stdout)["items"]} >= {endless["id"], slow["id"]}
    c.a.call("migration.limit", id=m["id"], bandwidth_limit_bps=0)
    cleared(c.a, endless, "condition", "over")
    assert c.a.wait_migration(m["id"])["outcome"] == "completed"
    cleared(c.a, busy, "over")
    documented = exchange(UnixConnection(c.a.api), "GET", "/api/v2/openapi.json").json
    for alert in alerts(c.a):
        jsonschema.validate(alert, {"$ref": "#/components/schemas/Alert", "components": documented["components"]})

    # All of it stands in the log and in the history, before its end, and those who watched have heard it.
    told = [tuple(e["detail"].split(":")[0].split(" ")) for e in c.a.call("migration.get", id=m["id"])["events"] if e["event"] == "alert"]
    for name in ("HighLatency", "PacketLoss", "SlowTransfer", "NotConverging", "MoverBusy"):
        assert f"Novacron{name} firing, migration {m['id']}: " in open(c.a.log).read()
        assert told.count((f"Novacron{name}", "firing")) == told.count((f"Novacron{name}", "resolved")) >= 1
    listener.join(60)
    assert listener.heard == told and listener.end == "completed"

    # The webhook has taken each, in order; the first it had refused, and got again.
    wait_for(lambda: ("NovacronMoverBusy", "resolved") in receiver.taken(), 90, lambda: f"the webhook to have all: {receiver.taken()}")
    assert all(is_right for _, _, is_right, _ in receiver.got)
    assert receiver.got[0][0] == 503 and receiver.got[1][1] == receiver.got[0][1], "the first came again"
    assert [t for t in receiver.taken() if t[0] != "NovacronPauseOverBudget"] == told
    assert receiver.got[1][3]["node"] == c.a.name and receiver.got[1][3]["version"] == 1


def test_a_pause_over_its_budget(cluster):
    """Post-copy does not ask whether the pause fits; a millisecond never does."""
    c = cluster
    source = next(node for node in (c.a, c.b) if node.state(VM) == "running")
    m = c.migrate(VM, source, algorithm="post-copy", max_downtime_ms=1)
    assert m["outcome"] == "completed" and m["pause_ms"] > 1, m
    pause = next(a for a in alerts(source) if a["alert"] == "NovacronPauseOverBudget" and a["migration"] == m["id"])
    assert pause["value"] == pytest.approx(m["pause_ms"] * 100)
    cleared(source, pause, "time")
    events = [e["event"] for e in source.call("migration.get", id=m["id"])["events"]]
    assert events[-1] == "finished" and "alert" in events
    c.assert_healthy(VM, c.other(source))
