# SPDX-License-Identifier: Apache-2.0
"""`novacron relay`: QEMUs that know nothing of NovaCron, moved over its wire.

Promises under test: with and without a return path the guest arrives unhurt,
both sides name the same digest, and less goes over the wire than QEMU wrote;
QEMU sees of a broken relay what it would see of a broken connection; whoever is
not of the cluster is refused; what fails says on which side and why; nothing is
left behind, neither sockets nor movers.

    NC_BUILD=build pytest-3 tests/integration/test_relay.py
"""
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import threading
import time

import pytest

from nctest.cluster import Node, guest_spec
from nctest.guest import Heartbeat, TcpClient, console_errors
from nctest.movers import PONG, SHUT, make_stream, push, read_exactly
from nctest.net import BUILD, Bed, Topology, stop_process, wait_for
from nctest.plain_qemu import ENDED, PlainQemu

NOVACRON = os.path.join(BUILD, "src/cli/novacron")
PORT = 7451  # every test has namespaces of its own
TIMEOUT = 90

pytestmark = [
    pytest.mark.skipif(not os.path.exists(NOVACRON), reason=f"{NOVACRON} is not built"),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
]


# --- keys, and relays as processes --------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """Directories pki/ of two nodes of one cluster, and of a stranger."""
    bed = Bed()
    try:
        net = Topology(bed, emulated=False)
        a, b = Node(bed, "host-a", net.a, "10.99.0.1"), Node(bed, "host-b", net.b, "10.99.0.2")
        a.pki_init()
        a.start()
        b.join(a.call("node.token", ttl_s=600)["token"], a)
        a.stop()
        kept = tmp_path_factory.mktemp("keys")
        for node in (a, b):
            shutil.copytree(os.path.join(node.data_dir, "pki"), kept / node.name / "pki")
        a.cli("pki", "init", "--dir", str(kept / "stranger" / "pki"), "--name", "host-a", "--address", "10.99.0.1:7450")
        yield {name: str(kept / name / "pki") for name in ("host-a", "host-b", "stranger")}
    finally:
        bed.close()


class Relay:
    """A `novacron relay ...` that runs."""

    def __init__(self, bed, *arguments, netns=None, become=()):
        self.out, self.err = os.path.join(bed.dir, f"relay{id(self)}.out"), os.path.join(bed.dir, f"relay{id(self)}.err")
        with open(self.out, "wb") as out, open(self.err, "wb") as err:
            self.process = bed.popen([*become, NOVACRON, "relay", *arguments, "--json"], netns, stdout=out, stderr=err,
                                     stdin=subprocess.DEVNULL)

    def said(self):
        return open(self.err, errors="replace").read()

    def wait_said(self, text, timeout=20):
        wait_for(lambda: text in self.said() or self.process.poll() is not None, timeout, f"'{text}' in: {self.said()}")
        assert text in self.said(), self.said()

    def reports(self):
        return [json.loads(line) for line in open(self.out)]

    def wait_report(self, number=1, timeout=TIMEOUT):
        return wait_for(lambda: (self.reports() + [None] * number)[number - 1], timeout, f"report {number}; {self.said()}")

    def end(self, timeout=TIMEOUT):
        """Its exit status and its last report."""
        status = self.process.wait(timeout)
        return status, (self.reports() or [None])[-1]

    def mover_pids(self):
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                stat = open(f"/proc/{pid}/stat").read()
            except OSError:
                continue
            if "(novacron-mover)" in stat and int(stat.rsplit(")", 1)[1].split()[1]) == self.process.pid:
                found.append(int(pid))
        return found

    def stop(self):
        self.process.send_signal(signal.SIGTERM)


def listen(bed, keys, path, *more, pki="host-b", netns=None, bind=f"127.0.0.1:{PORT}"):
    relay = Relay(bed, "listen", "--bind", bind, "--unix", path, "--pki", keys[pki], *more, netns=netns)
    relay.wait_said("listens on port")
    return relay


def connect(bed, keys, path, *more, pki="host-a", netns=None, to=f"127.0.0.1:{PORT}"):
    relay = Relay(bed, "connect", "--to", to, "--unix", path, "--pki", keys[pki], *more, netns=netns)
    relay.wait_said("waiting for QEMU")
    return relay


# --- with real machines -------------------------------------------------------------------------------------------

class Move:
    """A guest at host a, a QEMU that waits for it at host b, and the link between them."""

    def __init__(self, keys, rate="100mbit", delay="10ms"):
        self.bed, self.keys = Bed(), keys
        try:
            self.net = Topology(self.bed, rate=rate, delay=delay)
            self.spec = guest_spec(memory_mib=128, ws=16, rate=1)
            self.heartbeat = Heartbeat()
            self.bed.on_close(self.heartbeat.close)
            self.outgoing, self.incoming = os.path.join(self.bed.dir, "out.sock"), os.path.join(self.bed.dir, "in.sock")
            self.source = PlainQemu(self.bed, self.net.a, "a", self.spec)
            self.heartbeat.add(self.source.beat_path)
            self.source.wait_ready()
            self.destination = None
        except BaseException:
            self.bed.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.bed.close()

    def start_destination(self):
        if self.destination:
            stop_process(self.destination.process)
            self.net.b.ip("link", "del", "tap0")
        self.destination = PlainQemu(self.bed, self.net.b, "b", self.spec, "-incoming", f"unix:{self.incoming}")
        self.heartbeat.add(self.destination.beat_path)

    def start_relays(self, *more):
        self.listener = listen(self.bed, self.keys, self.incoming, "--once", netns=self.net.b, bind=f"10.99.0.2:{PORT}")
        self.connector = connect(self.bed, self.keys, self.outgoing, *more, netns=self.net.a, to=f"10.99.0.2:{PORT}")

    def migrate(self, return_path=True, bandwidth=1 << 40):
        capabilities = [{"capability": c, "state": return_path} for c in ("return-path", "late-block-activate")]
        for qemu in (self.destination, self.source):
            qemu.command("migrate-set-capabilities", capabilities=capabilities)
        self.source.command("migrate-set-parameters", **{"max-bandwidth": bandwidth, "downtime-limit": 300})
        self.source.command("migrate", uri=f"unix:{self.outgoing}")

    def status(self):
        return self.source.command("query-migrate").get("status")

    def wait_ended(self):
        return wait_for(lambda: self.status() if self.status() in ENDED else None, TIMEOUT, "the migration to end")

    def wait_bytes(self):
        wait_for(lambda: "of stream" in self.connector.said(), 30, "progress")


@pytest.mark.parametrize("return_path, options", [
    (True, ["--compression", "zstd:1", "--streams", "4", "--pause-budget", "200", "--max-cpu", "50"]),
    (False, []),
], ids=["return-path", "no-return-path"])
def test_a_machine_moves_and_is_unhurt(keys, return_path, options):
    with Move(keys) as move:
        client = TcpClient(move.net.client)
        move.bed.on_close(client.close)
        move.start_destination()
        move.start_relays(*options)
        assert os.stat(move.outgoing).st_mode & 0o777 == 0o600
        move.migrate(return_path)
        assert move.wait_ended() == "completed", move.connector.said()
        for relay, side in ((move.connector, "source"), (move.listener, "destination")):
            status, report = relay.end()
            assert (status, report["outcome"], report["side"], report["error"]) == (0, "completed", side, None), relay.said()
            assert report["sha256_equal"] is True and int(report["sha256"], 16) != 0
            assert report["total_ms"] > 0
        source, destination = move.connector.reports()[0], move.listener.reports()[0]
        for key in ("id", "sha256", "stream_bytes"):
            assert source[key] == destination[key]
        assert source["stream_bytes"] > 10 << 20
        assert source["wire_bytes"] < source["stream_bytes"] * 0.7 and source["ratio"] > 1 / 0.7
        assert (source["node"], destination["node"]) == ("host-b", "host-a")
        stats = move.net.wan.stats()
        assert stats["ab"]["wire_bytes"] < source["stream_bytes"] * 0.75  # all that went over the link
        assert not os.path.exists(move.outgoing)
        wait_for(lambda: move.destination.command("query-status")["running"], 20, "the guest to run there")
        assert not move.source.command("query-status")["running"]
        assert client.is_moving(30) and client.broken is None and client.errors == 0 and client.backwards == 0
        wait_for(lambda: console_errors(move.destination.console)[0] is not None, 60, "the guest's own count of errors")
        assert console_errors(move.destination.console) == (0, None)


def test_a_qemu_that_dies_ends_the_relay_and_hurts_nobody_else(keys):
    with Move(keys) as move:
        for return_path in (True, False):  # the destination's: the guest goes on where it was
            move.start_destination()
            move.start_relays()
            move.migrate(return_path, bandwidth=2 << 20)
            move.wait_bytes()
            move.destination.process.kill()
            assert move.wait_ended() == "failed"
            for relay in (move.connector, move.listener):
                status, report = relay.end()
                assert (status, report["outcome"], report["error"]["code"]) == (10, "failed", "qemu"), relay.said()
                assert "destination's QEMU closed" in report["error"]["message"], report
            assert move.source.command("query-status")["running"]
            assert not os.path.exists(move.outgoing)
        beats = len(move.heartbeat.times)
        wait_for(lambda: len(move.heartbeat.times) > beats + 3, 30, "the guest's heart")

        move.start_destination()  # a QEMU that cancels has no use for the rest
        move.start_relays()
        move.migrate(bandwidth=2 << 20)
        move.wait_bytes()
        move.source.command("migrate_cancel")
        status, report = move.connector.end()
        assert status == 10 and "source's QEMU closed" in report["error"]["message"], report
        assert move.destination.process.wait(TIMEOUT) != 0  # it has seen the end of the stream
        assert move.listener.end()[0] == 10
        assert move.source.command("query-status")["running"]

        move.start_destination()  # the source's
        move.start_relays()
        move.migrate(bandwidth=2 << 20)
        move.wait_bytes()
        move.source.process.kill()
        assert move.destination.process.wait(TIMEOUT) != 0
        for relay in (move.connector, move.listener):
            status, report = relay.end()
            assert status == 10 and "source's QEMU closed" in report["error"]["message"], report


def test_stopping_a_relay_in_the_middle_leaves_the_guest_at_the_source(keys):
    with Move(keys) as move:
        for victim in ("connector", "listener"):
            move.start_destination()
            move.start_relays()
            move.migrate(bandwidth=2 << 20)
            move.wait_bytes()
            stopped = getattr(move, victim)
            other = move.listener if victim == "connector" else move.connector
            assert len(stopped.mover_pids()) == 1
            movers = stopped.mover_pids() + other.mover_pids()
            stopped.stop()
            status, report = stopped.end()
            assert (status, report["outcome"]) == (9, "cancelled"), stopped.said()
            side = {"connector": "source", "listener": "destination"}[victim]
            status, report = other.end()
            assert status == 9 and f"{side}'s relay was stopped" in report["error"]["message"], report
            assert move.wait_ended() == "failed"
            assert move.source.command("query-status")["running"]
            assert not os.path.exists(move.outgoing)
            assert not [pid for pid in movers if os.path.exists(f"/proc/{pid}/exe")]


# --- with this test as QEMU ---------------------------------------------------------------------------------------

class Ends:
    """Both relays on one host (a namespace, for the port's sake), and their QEMUs as sockets of ours."""

    def __init__(self, keys):
        self.bed, self.keys = Bed(), keys
        self.host = self.bed.netns("h")
        self.outgoing, self.incoming = os.path.join(self.bed.dir, "out.sock"), os.path.join(self.bed.dir, "in.sock")

    def wait_for_stream(self):
        """As `-incoming unix:`."""
        self.waiting = socket.socket(socket.AF_UNIX)
        self.waiting.bind(self.incoming)
        self.waiting.listen(1)
        self.waiting.settimeout(TIMEOUT)

    def begin(self):
        """As `migrate unix:`."""
        self.source = socket.socket(socket.AF_UNIX)
        self.source.connect(self.outgoing)
        self.source.settimeout(TIMEOUT)
        return self.source

    def listen(self, *more):
        return listen(self.bed, self.keys, self.incoming, *more, netns=self.host)

    def connect(self, *more, path=None, pki="host-a"):
        return connect(self.bed, self.keys, path or self.outgoing, *more, pki=pki, netns=self.host)

    def open(self, *more, listen_options=("--once",)):
        self.wait_for_stream()
        self.listener = self.listen(*listen_options)
        self.connector = self.connect(*more)
        self.begin()
        self.destination, _ = self.waiting.accept()
        self.destination.settimeout(TIMEOUT)
        self.connector.wait_said("relaying to host-b")

    def statuses(self):
        return self.connector.end()[0], self.listener.end()[0]


@pytest.fixture
def ends(keys):
    made = Ends(keys)
    yield made
    made.bed.close()


def test_shut_passes_at_once(ends):
    ends.open()
    stream = make_stream(500)
    push(ends.source, stream)
    ends.destination.sendall(PONG)
    assert read_exactly(ends.source, len(PONG)) == PONG
    assert read_exactly(ends.destination, len(stream)) == stream
    ends.destination.sendall(SHUT)
    ends.destination.close()
    assert read_exactly(ends.source, len(SHUT)) == SHUT
    ends.source.close()
    assert ends.statuses() == (0, 0)
    report = ends.connector.reports()[0]
    assert report["stream_bytes"] == len(stream) and report["sha256_equal"] is True


def test_a_load_that_failed_is_a_failure(ends):
    ends.open()
    stream = make_stream(100)
    ends.source.sendall(stream)
    read_exactly(ends.destination, len(stream))
    ends.destination.sendall(bytes.fromhex("0001000400000007"))
    assert read_exactly(ends.source, len(SHUT))[-1] == 7
    ends.destination.close()
    ends.source.close()
    assert ends.statuses() == (10, 10)
    assert "could not load the machine (status 7)" in ends.listener.reports()[0]["error"]["message"]


def test_nobody_reads_at_the_destination_any_more(ends):
    """More than all windows hold, so that the source's mover is blocked when the end comes."""
    ends.open("--compression", "none")
    filler = threading.Thread(target=lambda: push(ends.source, bytes(os.urandom(1 << 20)) * 200).join(), daemon=True)
    filler.start()
    read_exactly(ends.destination, 1 << 20)
    time.sleep(1)
    ends.destination.close()
    assert ends.statuses() == (10, 10)
    filler.join(TIMEOUT)
    assert not filler.is_alive()  # its write failed
    assert "destination's QEMU closed" in ends.connector.reports()[0]["error"]["message"]
    assert ends.connector.reports()[0]["sha256_equal"] is None


def test_only_one_connection_of_qemu(ends):
    ends.open()
    with pytest.raises(ConnectionRefusedError):
        ends.begin()


def test_a_listener_serves_one_session_after_the_other(ends):
    ends.open(listen_options=())
    second = ends.connect(path=ends.outgoing + "2")
    with socket.socket(socket.AF_UNIX) as late:
        late.connect(ends.outgoing + "2")
        status, report = second.end()
        assert status == 5 and "serving another session" in report["error"]["message"], report
        assert "the destination host-b" in report["error"]["message"]
        assert late.recv(1) == b""
    first = ends.source
    first.close()
    assert ends.connector.end()[0] == 10  # an empty stream is no migration
    ends.listener.wait_report(1)
    os.unlink(ends.incoming)
    ends.wait_for_stream()
    third = ends.connect()
    ends.begin()
    stream = make_stream(50)
    ends.source.sendall(stream)
    ends.source.close()
    ends.destination, _ = ends.waiting.accept()
    assert read_exactly(ends.destination, len(stream)) == stream
    assert ends.destination.recv(1) == b""  # the end passes, too
    ends.destination.close()
    assert third.end()[0] == 0
    assert ends.listener.wait_report(2)["outcome"] == "completed"
    ends.listener.stop()
    assert ends.listener.process.wait(TIMEOUT) == 0


def test_wrong_ca_is_refused_by_both_sides(ends):
    ends.wait_for_stream()
    listener = ends.listen()
    stranger = ends.connect(pki="stranger")
    qemu = ends.begin()
    status, report = stranger.end()
    assert status == 3 and report["outcome"] == "failed" and report["error"]["code"] == "trust", report
    print(report["error"]["message"])
    assert "CA" in report["error"]["message"] or "cluster" in report["error"]["message"], report
    assert qemu.recv(1) == b"" and not os.path.exists(ends.outgoing)
    listener.wait_said("refused connection from 127.0.0.1")
    assert not listener.reports() and listener.process.poll() is None
    ends.waiting.settimeout(0.3)
    with pytest.raises(socket.timeout):
        ends.waiting.accept()  # QEMU was left alone


def test_an_unexpected_node_is_refused(ends):
    ends.wait_for_stream()
    listener = ends.listen("--node", "host-c")
    mistaken = ends.connect("--node", "host-c")
    ends.begin()
    status, report = mistaken.end()
    assert status == 3 and "host-c" in report["error"]["message"] and "host-b" in report["error"]["message"], report
    other = ends.connect()
    ends.begin()
    status, report = other.end()
    assert status == 3 and "serves node host-c only" in report["error"]["message"], report
    assert listener.process.poll() is None


def test_no_listener_is_said_when_qemu_comes(ends):
    lonely = ends.connect()
    qemu = ends.begin()
    status, report = lonely.end()
    assert status == 8 and "`novacron relay listen`" in report["error"]["message"], report
    assert f"127.0.0.1:{PORT}" in report["error"]["message"]
    assert qemu.recv(1) == b"" and not os.path.exists(ends.outgoing)


def test_no_qemu_at_the_destination(ends):
    listener = ends.listen("--once")
    lonely = ends.connect()
    ends.begin()
    status, report = lonely.end()
    assert status == 8 and f"-incoming unix:{ends.incoming}" in report["error"]["message"], report
    assert listener.process.poll() is None  # that was no session
    assert not listener.mover_pids()


def test_a_killed_relay_is_missed(ends):
    for victim, other, missed in (("connector", "listener", "source"), ("listener", "connector", "destination")):
        ends.open()
        push(ends.source, make_stream(200))
        read_exactly(ends.destination, 1000)
        killed, left = getattr(ends, victim), getattr(ends, other)
        movers = killed.mover_pids()
        killed.process.kill()
        status, report = left.end()
        assert status == 8 and missed in report["error"]["message"], report
        wait_for(lambda: not any(os.path.exists(f"/proc/{pid}/exe") for pid in movers), 20, "its mover to follow it")
        for qemu in (ends.source, ends.destination):  # both see the end of their connection
            try:
                while qemu.recv(1 << 20):
                    pass
            except ConnectionResetError:
                pass
        os.unlink(ends.incoming)
        assert os.path.exists(ends.outgoing) == (victim == "connector")  # replaced by the next one


def test_strangers_at_the_port_disturb_nobody(ends):
    ends.open("--streams", "1")
    preface = b"NCW1\0\1\0\0" + b"r-0000000000000000".ljust(24, b"\0")
    for data in (preface, b"GET / HTTP/1.1\r\n\r\n" + bytes(20), b"N", bytes(100)):
        with ends.host.connect(("127.0.0.1", PORT)) as stranger:
            stranger.sendall(data)
            stranger.shutdown(socket.SHUT_WR)
            stranger.settimeout(30)
            try:
                while stranger.recv(1000):
                    pass
            except ConnectionResetError:
                pass
    stream = make_stream(100)
    push(ends.source, stream)
    assert read_exactly(ends.destination, len(stream)) == stream


def uid_of(pid):
    return int(next(line for line in open(f"/proc/{pid}/status") if line.startswith("Uid:")).split()[1])


def test_movers_are_not_root_and_the_socket_is_its_owners(ends):
    ends.open("--owner", "nobody", "--mover-uid", "65533", "--mover-gid", "65532")
    nobody = pwd.getpwnam("nobody").pw_uid
    assert os.stat(ends.outgoing).st_uid == nobody and os.stat(ends.outgoing).st_mode & 0o777 == 0o600
    assert [uid_of(pid) for pid in ends.connector.mover_pids()] == [65533]
    assert 0 not in [uid_of(pid) for pid in ends.listener.mover_pids()]


def test_whoever_is_not_root_may_relay_as_well(ends):
    """What is needed is the keys."""
    user = pwd.getpwnam("nobody")
    become = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
    if subprocess.run([*become, "test", "-x", NOVACRON], stderr=subprocess.DEVNULL).returncode:
        pytest.skip("the build is not everybody's to execute")
    home = os.path.join(ends.bed.dir, "home")
    shutil.copytree(ends.keys["host-a"], f"{home}/pki")
    for path in [home, *(os.path.join(d, f) for d, ds, fs in os.walk(home) for f in ds + fs)]:
        os.chown(path, user.pw_uid, user.pw_gid)
    ends.outgoing = os.path.join(home, "out.sock")
    ends.wait_for_stream()
    ends.listener = ends.listen("--once")
    ends.connector = Relay(ends.bed, "connect", "--to", f"127.0.0.1:{PORT}", "--unix", ends.outgoing, "--pki", f"{home}/pki",
                           netns=ends.host, become=become)
    ends.connector.wait_said("waiting for QEMU")
    stream = make_stream(50)
    ends.begin().sendall(stream)
    ends.destination, _ = ends.waiting.accept()
    assert read_exactly(ends.destination, len(stream)) == stream
    assert [uid_of(pid) for pid in ends.connector.mover_pids()] == [user.pw_uid]
    ends.source.close()
    ends.destination.close()
    assert ends.statuses() == (0, 0)


@pytest.mark.parametrize("kind", [signal.SIGTERM, signal.SIGINT])
def test_stopping_while_nothing_happens(ends, kind):
    listener = ends.listen()
    waiting = ends.connect()
    for relay, expected in ((waiting, 9), (listener, 0)):
        relay.process.send_signal(kind)
        assert relay.process.wait(TIMEOUT) == expected, relay.said()
    assert waiting.reports()[0]["outcome"] == "cancelled" and not listener.reports()
    assert not os.path.exists(ends.outgoing)


def test_what_is_there_already_is_not_replaced(ends, tmp_path):
    precious = tmp_path / "precious"
    precious.write_text("a file")
    waiting = ends.connect()
    for path, words in ((str(precious), "is no socket"), (ends.outgoing, "another program listens")):
        out = subprocess.run([NOVACRON, "relay", "connect", "--to", f"127.0.0.1:{PORT}", "--unix", path, "--pki",
                              ends.keys["host-a"]], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=TIMEOUT)
        assert out.returncode == 5 and words in out.stderr, out
    assert precious.read_text() == "a file" and waiting.process.poll() is None
    waiting.process.kill()  # leaves its socket behind
    waiting.process.wait()
    assert os.path.exists(ends.outgoing)
    ends.connect()


def test_mistakes_on_the_command_line(ends):
    good = {"--to": f"127.0.0.1:{PORT}", "--unix": ends.outgoing, "--pki": ends.keys["host-a"]}
    for change, status, words in (({"--to": None}, 2, "--to HOST:PORT is needed"), ({"--to": "host"}, 2, "not an address"),
                                  ({"--unix": None}, 2, "--unix PATH is needed"), ({"--streams": "99"}, 2, "from 1 to 16"),
                                  ({"--compression": "gzip"}, 2, "compression is"), ({"--owner": "no such user"}, 2, "--owner"),
                                  ({"--pause-budget": "0"}, 2, "pause budget"), ({"--max-cpu": "0"}, 2, "max cpu"),
                                  ({"--pki": "/nonexistent/pki"}, 4, "/nonexistent")):
        options = [x for pair in {**good, **change}.items() if pair[1] for x in pair]
        out = subprocess.run([NOVACRON, "relay", "connect", *options], text=True, stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, timeout=TIMEOUT)
        assert out.returncode == status and words in out.stderr, (change, out)
    assert not os.path.exists(ends.outgoing)


def test_help_explains(ends):
    for command in ("listen", "connect"):
        out = subprocess.run([NOVACRON, "relay", command, "--help"], text=True, stdout=subprocess.PIPE, check=True).stdout
        assert "Example:" in out and "--unix" in out and "--pki" in out
    assert "relay connect" in subprocess.run([NOVACRON, "help"], text=True, stdout=subprocess.PIPE, check=True).stdout
