# SPDX-License-Identifier: Apache-2.0
"""novacrond with real QEMU: machines, restarts, reloads, joining and removal.

Promises under test: a machine outlives novacrond however that ends and is
found again; what can't be is refused with a text that names cause and remedy;
nobody gets in without a certificate or a token that is good once. Nodes are
processes on 127.0.0.1; migrations have tests of their own.

    NC_BUILD=build pytest-3 tests/integration/test_daemon.py
"""
import concurrent.futures
import json
import os
import pathlib
import select
import shutil
import signal
import socket
import sqlite3
import struct
import subprocess
import tempfile
import time

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("NC_BUILD", ROOT / "build"))
if not BUILD.is_absolute():
    BUILD = ROOT / BUILD
NOVACROND = BUILD / "src/agent/novacrond"
MAKE_PKI = BUILD / "tests/unit/agent/make-pki"
QEMU = shutil.which("qemu-system-x86_64")

pytestmark = [pytest.mark.skipif(not NOVACROND.exists(), reason=f"{NOVACROND} is not built"),
              pytest.mark.skipif(not QEMU, reason="qemu-system-x86_64 is not installed")]


class Refused(Exception):
    def __init__(self, error):
        super().__init__(f"{error['code']}: {error['message']}")
        self.code, self.message = error["code"], error["message"]


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_for(condition, timeout=20, what="it"):
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.05)
    raise AssertionError(f"waited {timeout} s for {what}")


def is_alive(pid):
    try:
        return open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


class Connection:
    """A client of the control socket."""

    def __init__(self, path):
        self.s = socket.socket(socket.AF_UNIX)
        self.s.settimeout(60)
        self.s.connect(str(path))

    def close(self):
        self.s.close()

    def send(self, message):
        body = json.dumps(message).encode()
        self.s.sendall(struct.pack(">I", len(body)) + body)

    def exactly(self, n):
        data = b""
        while len(data) < n:
            piece = self.s.recv(n - len(data))
            if not piece:
                raise ConnectionError("closed")
            data += piece
        return data

    def receive(self):
        return json.loads(self.exactly(struct.unpack(">I", self.exactly(4))[0]))


def request(op, number=1, role="admin", **args):
    return {"id": number, "op": op, "identity": {"kind": "uid", "name": "tester", "role": role}, "args": args}


class Node:
    def __init__(self, directory, name="host-a", pki=True, **settings):
        self.dir, self.name = directory / name, name
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.data, self.run, self.log = self.dir / "data", self.dir / "r", self.dir / "log"
        self.control = self.run / "control.sock"
        self.conf = self.dir / "novacrond.conf"
        self.data.mkdir(parents=True)
        self.settings = {"listen": self.address, "data_dir": self.data, "run_dir": self.run, "qemu_log_dir": self.dir,
                         "log_level": "debug", "memory_reserve_mib": 64, "connect_timeout_ms": 5000, **settings}
        self.write_config()
        self.process = None
        if pki:
            subprocess.run([MAKE_PKI, self.data, "testers", name, self.address], check=True)

    def write_config(self, extra=""):
        self.conf.write_text("".join(f"{k} = {v}\n" for k, v in self.settings.items()) + extra)

    def spawn(self, *arguments):
        return subprocess.Popen([NOVACROND, "--config", self.conf, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def start(self):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen([NOVACROND, "--config", self.conf], stdout=log, stderr=log)
        wait_for(lambda: self.process.poll() is not None or self.answers(), 20, "novacrond to answer")
        assert self.process.poll() is None, self.log_text()
        return self

    def answers(self):
        try:
            return self.call("node.info")
        except (OSError, ConnectionError):
            return None

    def call(self, op, role="admin", **args):
        c = Connection(self.control)
        try:
            c.send(request(op, role=role, **args))
            answer = c.receive()
        finally:
            c.close()
        if not answer["ok"]:
            raise Refused(answer["error"])
        return answer["result"]

    def refuses(self, code, op, **args):
        with pytest.raises(Refused) as caught:
            self.call(op, **args)
        assert caught.value.code == code, caught.value
        return caught.value.message

    def state(self, name="web1"):
        return self.call("machine.get", name=name)["state"]

    def log_text(self):
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def terminate(self, how=signal.SIGTERM):
        self.process.send_signal(how)
        code = self.process.wait(30)
        self.process = None
        return code

    def qemu_pids(self):
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                command = open(f"/proc/{pid}/cmdline", "rb").read()
            except OSError:
                continue
            if b"qemu-system" in command.split(b"\0")[0] and str(self.run).encode() + b"/" in command and is_alive(pid):
                found.append(int(pid))
        return found

    def close(self):
        if self.process:
            self.terminate(signal.SIGKILL)
        for pid in self.qemu_pids():
            os.kill(pid, signal.SIGKILL)


@pytest.fixture
def directory():
    path = pathlib.Path(tempfile.mkdtemp(prefix="ncd-", dir="/tmp"))  # short: sockets live in it
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def make_node(directory):
    nodes = []

    def make(*arguments, **settings):
        nodes.append(Node(directory, *arguments, **settings))
        return nodes[-1]
    yield make
    for node in nodes:
        node.close()


@pytest.fixture
def node(make_node):
    return make_node().start()


def tiny(name="web1", **more):
    return {"name": name, "vcpus": 1, "memory_mib": 64, "memory_extra_kib": 8, "machine": "pc", "cpu": "qemu64", "accel": "tcg", **more}


def started(node, name="web1", **more):
    node.call("machine.define", spec=tiny(name, **more))
    return node.call("machine.start", name=name)


# --- machines -----------------------------------------------------------------------------------------------------

def test_machine_lives_through_its_operations(node):
    machine = node.call("machine.define", spec=tiny())
    assert (machine["state"], machine["right"], machine["epoch"], machine["holder"]) == ("stopped", "held", 1, "host-a")
    assert machine["pid"] is None and machine["memory_mib"] == 64
    machine = node.call("machine.start", name="web1")
    assert machine["state"] == "running" and is_alive(machine["pid"])
    assert machine["spec"]["machine"].startswith("pc-i440fx-")  # the versioned type, which a destination needs
    assert [m["name"] for m in node.call("machine.list")] == ["web1"]
    assert "running" in node.refuses("conflict", "machine.destroy", name="web1")
    assert "already" in node.refuses("conflict", "machine.start", name="web1")
    assert node.call("machine.stop", name="web1", force=True)["state"] == "stopped"
    assert not is_alive(machine["pid"])
    assert node.call("machine.stop", name="web1")["state"] == "stopped"
    node.call("machine.destroy", name="web1")
    assert node.call("machine.list") == []
    node.refuses("not_found", "machine.get", name="web1")


def test_lists_come_in_pages_if_asked_for(node):
    names = [f"web{i}" for i in range(1, 6)]
    for name in reversed(names):
        node.call("machine.define", spec=tiny(name))
    assert [m["name"] for m in node.call("machine.list")] == names
    seen, cursor = [], {}
    while True:
        page = node.call("machine.list", limit=2, **cursor)
        seen += [m["name"] for m in page["items"]]
        if page["next"] is None:
            break
        cursor = {"cursor": page["next"]}
    assert seen == names
    assert "cursor" in node.refuses("invalid", "machine.list", cursor="m17")
    assert node.call("checkpoint.list", limit=1) == node.call("token.list", limit=1) == {"items": [], "next": None}
    assert [n["name"] for n in node.call("node.list", limit=1)["items"]] == ["host-a"]


def test_machine_is_started_again_after_a_stop(node):
    first = started(node)["pid"]
    node.call("machine.stop", name="web1", force=True)
    assert node.call("machine.start", name="web1")["pid"] != first


def test_guest_that_ignores_the_power_button_is_ended(node):
    started(node)  # no operating system: nobody hears it
    begin = time.monotonic()
    assert node.call("machine.stop", name="web1", timeout_ms=1500)["state"] == "stopped"
    assert 1.4 < time.monotonic() - begin < 15


def test_forced_stop_overtakes_a_patient_one(node):
    started(node)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        patient = pool.submit(node.call, "machine.stop", name="web1", timeout_ms=60000)
        time.sleep(0.5)
        begin = time.monotonic()
        node.call("machine.stop", name="web1", force=True)
        assert patient.result()["state"] == "stopped"
        assert time.monotonic() - begin < 15


def test_many_starts_at_once_make_one_qemu(node):
    node.call("machine.define", spec=tiny())

    def start(_):
        try:
            return node.call("machine.start", name="web1")["pid"]
        except Refused as refused:
            assert refused.code == "conflict"
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        pids = [pid for pid in pool.map(start, range(8)) if pid]
    assert len(pids) == 1
    assert node.qemu_pids() == pids


def test_bad_definitions_are_refused(node):
    assert "name" in node.refuses("invalid", "machine.define", spec=tiny(name="../x"))
    node.refuses("invalid", "machine.define", spec="web1")
    node.refuses("invalid", "machine.define")
    assert "colour" in node.refuses("invalid", "machine.define", spec=tiny(colour="red"))
    node.call("machine.define", spec=tiny())
    node.refuses("exists", "machine.define", spec=tiny())
    node.refuses("not_found", "machine.start", name="web2")
    node.refuses("invalid", "machine.start", name="a/b")
    node.refuses("protocol", "machine.start")


def test_qemu_that_does_not_start_is_explained(node):
    node.call("machine.define", spec=tiny(qemu_args=["-device", "no-such-device"]))
    message = node.refuses("qemu", "machine.start", name="web1")
    assert "no-such-device" in message
    assert node.state() == "stopped" and node.qemu_pids() == []


def test_qemu_that_dies_is_noticed(node):
    pid = started(node)["pid"]
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: node.state() == "stopped", 10, "the state stopped")
    assert node.call("machine.start", name="web1")["state"] == "running"


def test_paused_guest_is_seen(node):
    started(node, observer_qmp=True)
    path = node.run / "machines/web1/observer.sock"
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(str(path))
        f = s.makefile("rw")
        f.readline()
        for command in ("qmp_capabilities", "stop"):
            f.write(json.dumps({"execute": command}) + "\n")
            f.flush()
            f.readline()
        wait_for(lambda: node.state() == "paused", 5, "the state paused")
    assert node.call("machine.start", name="web1")["state"] == "running", "start lets a paused machine go on"
    with pytest.raises(Refused, match="is running on node"):
        node.call("machine.start", name="web1")


# --- restarts -----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_machine_outlives_novacrond(node, how):
    pid = started(node)["pid"]
    code = node.terminate(how)
    assert code == (-9 if how == signal.SIGKILL else 0)
    assert is_alive(pid)
    node.start()
    machine = node.call("machine.get", name="web1")
    assert (machine["state"], machine["pid"]) == ("running", pid)
    node.call("machine.stop", name="web1", force=True)
    wait_for(lambda: not is_alive(pid), 5, "QEMU to end")


def test_machine_that_died_meanwhile_is_stopped(node):
    pid = started(node)["pid"]
    node.terminate(signal.SIGKILL)
    os.kill(pid, signal.SIGKILL)
    node.start()
    assert node.state() == "stopped"
    assert node.call("machine.start", name="web1")["state"] == "running"


def test_killed_before_the_journal_knew_the_qemu(node):
    """The window between fork and record: the QEMU is found by its pid file, and not started twice."""
    pid = started(node)["pid"]
    node.terminate(signal.SIGKILL)
    with sqlite3.connect(node.data / "journal.db") as db:
        record = json.loads(db.execute("SELECT record FROM machine").fetchone()[0])
        record["runtime"].update(pid=0, pid_start=0, qmp=None)
        db.execute("UPDATE machine SET record=?", (json.dumps(record),))
    db.close()
    node.start()
    assert node.call("machine.get", name="web1")["pid"] == pid
    assert node.qemu_pids() == [pid]


def test_pid_of_another_process_is_not_taken(node):
    pid = started(node)["pid"]
    node.terminate(signal.SIGKILL)
    os.kill(pid, signal.SIGKILL)
    with sqlite3.connect(node.data / "journal.db") as db:
        record = json.loads(db.execute("SELECT record FROM machine").fetchone()[0])
        record["runtime"].update(pid=os.getpid())
        db.execute("UPDATE machine SET record=?", (json.dumps(record),))
    db.close()
    node.start()
    assert node.state() == "stopped"


# --- the right to run ---------------------------------------------------------------------------------------------

def set_right(node, state, epoch=4, peer="host-b"):
    with sqlite3.connect(node.data / "journal.db") as db:
        db.execute("INSERT OR REPLACE INTO run_right VALUES('web1', ?, ?, ?, 'm-1')", (epoch, state, peer))
    db.close()


@pytest.mark.parametrize("state", ["released", "refused"])
def test_machine_of_another_node_is_not_defined_or_started(make_node, state):
    node = make_node().start()
    node.call("machine.define", spec=tiny())
    node.terminate()
    set_right(node, state)
    node.start()
    assert "host-b" in node.refuses("conflict", "machine.start", name="web1")
    node.call("machine.destroy", name="web1")
    message = node.refuses("conflict", "machine.define", spec=tiny())
    assert "host-b" in message and "take" in message and "twice" in message
    machine = node.call("machine.define", spec=tiny(), take=True)
    assert (machine["right"], machine["epoch"]) == ("held", 5)
    assert node.call("machine.start", name="web1")["state"] == "running"


def test_epoch_survives_destruction(node):
    node.call("machine.define", spec=tiny())
    node.call("machine.destroy", name="web1")
    machine = node.call("machine.define", spec=tiny())
    assert (machine["right"], machine["epoch"]) == ("held", 1)


def test_promise_without_a_migration_is_refused_at_start(make_node):
    """Killed between INCOMING and the migration's record: the source must not wait for ever."""
    node = make_node().start()
    node.terminate()
    set_right(node, "incoming", epoch=7)
    node.start()
    with sqlite3.connect(node.data / "journal.db") as db:
        assert db.execute("SELECT state, epoch FROM run_right").fetchone() == ("refused", 7)
    db.close()


def test_lease_without_a_migration_is_released_at_start(node):
    pid = started(node)["pid"]
    node.terminate(signal.SIGKILL)
    with sqlite3.connect(node.data / "journal.db") as db:
        record = json.loads(db.execute("SELECT record FROM machine").fetchone()[0])
        record["runtime"]["leased_by"] = "m-lost"
        db.execute("UPDATE machine SET record=?", (json.dumps(record),))
    db.close()
    node.start()
    machine = node.call("machine.get", name="web1")
    assert (machine["state"], machine["pid"], machine["migration"]) == ("running", pid, None)


# --- adoption -----------------------------------------------------------------------------------------------------

@pytest.fixture
def foreign_qemu(directory):
    path = directory / "foreign.sock"
    process = subprocess.Popen([QEMU, "-name", "legacy", "-M", "pc,memory-backend=ram0", "-accel", "tcg", "-nodefaults", "-display", "none",
                                "-m", "size=65544K", "-object", "memory-backend-ram,id=ram0,size=65544K",
                                "-qmp", f"unix:{path},server=on,wait=off"])
    wait_for(path.exists, 10, "QEMU's socket")
    yield process, path
    process.kill()
    process.wait()


def test_foreign_qemu_is_adopted(node, foreign_qemu):
    process, path = foreign_qemu
    machine = node.call("machine.adopt", name="legacy", qmp=str(path))
    assert (machine["state"], machine["pid"], machine["adopted"], machine["right"]) == ("running", process.pid, True, "held")
    node.terminate(signal.SIGKILL)
    node.start()
    assert node.call("machine.get", name="legacy")["pid"] == process.pid
    node.call("machine.stop", name="legacy", force=True)
    assert process.wait(10) is not None
    assert node.state("legacy") == "stopped"


@pytest.mark.skipif(not (BUILD / "src/mover/novacron-mover").exists(), reason="novacron-mover is not built")
def test_adopted_machine_moves_away_and_is_started_anew(make_node, foreign_qemu):
    process, path = foreign_qemu
    a, b = make_node("host-a").start(), make_node("host-b", pki=False)
    assert join(b, a.call("node.token")["token"], a).returncode == 0
    b.start()
    a.call("machine.adopt", name="legacy", qmp=str(path))
    id = a.call("migration.create", vm="legacy", to="host-b")["id"]
    migration = wait_for(lambda: (m := a.call("migration.get", id=id))["outcome"] and m, 60, "the migration to end")
    assert migration["outcome"] == "completed", migration["error"]
    assert process.wait(10) is not None
    here, there = a.call("machine.get", name="legacy"), b.call("machine.get", name="legacy")
    assert (here["state"], here["moved_to"], here["right"]) == ("moved", "host-b", "released")
    assert (there["state"], there["right"], there["epoch"], there["adopted"]) == ("running", "held", 2, False)
    b.call("machine.stop", name="legacy", force=True)
    assert b.call("machine.start", name="legacy")["state"] == "running"


def test_adoption_is_refused_with_a_reason(node, foreign_qemu, directory):
    _, path = foreign_qemu
    assert "nowhere.sock" in node.refuses("unreachable", "machine.adopt", name="x", qmp=str(directory / "nowhere.sock"))
    node.call("machine.define", spec=tiny("legacy"))
    node.refuses("exists", "machine.adopt", name="legacy", qmp=str(path))
    node.refuses("protocol", "machine.adopt", name="legacy")
    node.refuses("invalid", "machine.adopt", name="y", qmp="relative.sock")
    node.call("machine.adopt", name="mine", qmp=str(path))
    assert "mine" in node.refuses("exists", "machine.adopt", name="again", qmp=str(path))


# --- the control socket -------------------------------------------------------------------------------------------

def test_requests_of_one_connection_overtake_each_other(node):
    started(node)
    c = Connection(node.control)
    c.send(request("machine.stop", number=1, name="web1", timeout_ms=2000))
    c.send(request("node.info", number=2))
    assert c.receive()["id"] == 2
    assert c.receive()["id"] == 1
    c.close()


def test_viewer_changes_nothing(node):
    node.call("machine.list", role="viewer")
    for op in ("machine.define", "machine.start", "machine.stop", "machine.destroy", "machine.adopt", "node.token", "node.remove",
               "migration.create", "migration.cancel", "migration.limit", "migration.resolve", "attempt.begin", "attempt.cancel"):
        assert "needs the role" in node.refuses("forbidden", op, role="viewer")
        node.refuses("forbidden", op, role="superuser")


def test_operator_is_no_admin(node):
    """What can be made good an operator may do; what removes, lets in, or says what runs where, not."""
    for op in ("machine.define", "machine.destroy", "machine.adopt", "node.token", "node.remove", "checkpoint.delete", "checkpoint.restore",
               "migration.resolve", "attempt.begin"):
        assert "needs the role admin" in node.refuses("forbidden", op, role="operator")
    node.refuses("not_found", "machine.start", role="operator", name="nobody")
    assert "take needs the role admin" in node.refuses("forbidden", "machine.start", role="operator", name="nobody", take=True)
    for way in ({"checkpoint": "cp-1"}, {"to_checkpoint": True}):  # a guest that runs ends by that
        assert f"{next(iter(way))} needs the role admin" in node.refuses("forbidden", "migration.rollback", role="operator", id="m-1", **way)
    for way in ({}, {"back": True}, {"to_checkpoint": False}):
        node.refuses("not_found", "migration.rollback", role="operator", id="m-1", **way)
    node.refuses("not_found", "migration.cancel", role="operator", id="m-nobody")


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_request_with_a_key_is_done_once(node, how):
    """A client that heard no answer asks again; also after a restart."""
    once = tiny("once")
    first = node.call("machine.define", spec=once, key="monday")
    assert node.call("machine.define", spec=once, key="monday") == first and node.state("once") == "stopped"
    node.call("machine.destroy", name="once")
    node.terminate(how)
    node.start()
    assert node.call("machine.define", spec=once, key="monday") == first
    node.refuses("not_found", "machine.get", name="once")  # it is not done again
    assert "another request" in node.refuses("conflict", "machine.define", spec={**once, "memory_mib": 65}, key="monday")
    assert "another request" in node.refuses("conflict", "machine.destroy", name="once", key="monday")
    for _ in range(2):  # what failed may be asked for again
        node.refuses("not_found", "machine.start", name="once", key="tuesday")
    assert "secret" in node.refuses("invalid", "node.token", key="wednesday")
    for key in ("", "k" * 65, "\xe4", 5):
        node.refuses("invalid", "machine.start", name="once", key=key)


def test_stranger_is_refused_by_uid(node):
    program = ("import socket,struct;s=socket.socket(socket.AF_UNIX);s.connect(%r);n=struct.unpack('>I',s.recv(4))[0];"
               "print(s.recv(n).decode())" % str(node.control))
    os.chmod(node.dir.parent, 0o755)
    out = subprocess.run(["/usr/bin/python3", "-c", program], user=65534, capture_output=True, text=True)
    answer = json.loads(out.stdout)
    assert answer["error"]["code"] == "forbidden" and "65534" in answer["error"]["message"]


@pytest.mark.parametrize("noise", [b"\0\0\0\0", b"\xff\xff\xff\xff", struct.pack(">I", 5) + b"[1,2]", struct.pack(">I", 4) + b"\xff\xfe{}",
                                   struct.pack(">I", 200000) + b"[" * 200000, b"GET / HTTP/1.1\r\n\r\n"],
                         ids=["empty", "huge", "array", "not-utf8", "nested", "http"])
def test_noise_on_the_control_socket(node, noise):
    c = Connection(node.control)
    c.s.sendall(noise)
    answer = c.receive()
    assert not answer["ok"] and answer["error"]["code"] == "protocol"
    with pytest.raises((ConnectionError, OSError)):
        c.exactly(1)
    c.close()
    assert node.call("node.info")["name"] == "host-a"


def test_malformed_requests_get_an_answer(node):
    c = Connection(node.control)
    for message in ({"id": 1}, {"id": 1, "op": 5}, {"id": 1, "op": "node.info"}, {"id": 1, "op": "no.such", "identity": {"role": "admin"}},
                    {"id": 1, "op": "node.info", "identity": {"role": "admin"}, "args": []}):
        c.send(message)
        answer = c.receive()
        assert answer["id"] == 1 and not answer["ok"]
    c.send(request("node.info"))
    assert c.receive()["ok"]
    c.close()


def test_node_info(node):
    info = node.call("node.info")
    assert info["controller"] is False
    assert info["name"] == "host-a" and info["address"] == node.address and info["ca"] is True
    assert info["cpus"] >= 1 and info["memory_bytes"] > info["memory_available_bytes"] > 0
    assert info["qemu_version"][0].isdigit() and info["roster_version"] >= 1


# --- configuration ------------------------------------------------------------------------------------------------

def run(node, *arguments):
    return subprocess.run([NOVACROND, "--config", node.conf, *arguments], capture_output=True, text=True, timeout=30)


def test_configuration_errors_name_file_line_and_key(make_node):
    node = make_node()
    node.write_config("max_downtime_ms = soon\n")
    for arguments in (["--check-config"], []):
        out = run(node, *arguments)
        line = len(node.settings) + 1
        assert out.returncode == 2 and f"{node.conf}:{line}: max_downtime_ms:" in out.stderr
    out = subprocess.run([NOVACROND, "--config", "/nonexistent.conf"], capture_output=True, text=True)
    assert out.returncode == 4 and "/nonexistent.conf" in out.stderr


def test_program_describes_itself(make_node):
    node = make_node()
    assert run(node, "--check-config").returncode == 0
    dump = run(node, "--dump-config").stdout
    assert f"listen = {node.address}" in dump and "max_downtime_ms = 300" in dump
    assert run(node, "--sample-config").stdout == (ROOT / "docs/novacrond.conf.sample").read_text()
    assert "join" in run(node, "--help").stdout
    assert run(node, "--version").stdout.startswith("novacrond 0.")
    assert run(node, "--no-such-option").returncode == 2
    assert run(node, "dance").returncode == 2


def test_reload(node):
    node.settings["max_downtime_ms"] = 123
    node.settings["qemu_log_dir"] = "/tmp"
    node.write_config()
    node.process.send_signal(signal.SIGHUP)
    wait_for(lambda: "configuration reloaded" in node.log_text(), 5, "the reload")
    wait_for(lambda: "needs a restart of novacrond: qemu_log_dir" in node.log_text(), 5, "the warning")
    node.write_config("nonsense\n")
    node.process.send_signal(signal.SIGHUP)
    wait_for(lambda: "the configuration stays as it was" in node.log_text(), 5, "the error")
    assert node.call("node.info")["name"] == "host-a"


def test_second_daemon_on_the_same_data_is_refused(node):
    out = run(node)
    assert out.returncode == 5
    assert "in use by another novacrond" in out.stderr and str(node.process.pid) in out.stderr


def test_taken_port_is_explained(make_node):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        node = make_node(listen=f"127.0.0.1:{s.getsockname()[1]}")
        out = run(node)
    assert out.returncode == 7 and "taken by another program" in out.stderr and "listen" in out.stderr


def test_node_without_cluster_says_what_to_do(make_node):
    out = run(make_node(pki=False))
    assert out.returncode != 0 and "novacrond join" in out.stderr and "pki init" in out.stderr


def test_wrong_name_in_configuration(make_node):
    out = run(make_node(node="host-x"))
    assert out.returncode == 2 and "host-x" in out.stderr and "host-a" in out.stderr


def test_damaged_journal_is_explained(make_node):
    node = make_node()
    (node.data / "journal.db").write_bytes(b"not a database, certainly not" * 400)
    out = run(node)
    assert out.returncode == 10 and "damaged" in out.stderr and "journal.db" in out.stderr


# --- the cluster --------------------------------------------------------------------------------------------------

def join(node, token, to, name=None):
    return subprocess.run([NOVACROND, "--config", node.conf, "join", "--token", token, "--to", to.address, "--name", name or node.name,
                           "--address", node.address], capture_output=True, text=True, timeout=60)


def names(node):
    return {n["name"]: n["state"] for n in node.call("node.list")}


def test_node_joins_and_everybody_hears(make_node):
    a = make_node("host-a").start()
    b, c = make_node("host-b", pki=False), make_node("host-c", pki=False)
    for new in (b, c):
        out = join(new, a.call("node.token", ttl_s=60)["token"], a)
        assert out.returncode == 0, out.stderr
        new.start()
    everybody = {"host-a": "joined", "host-b": "joined", "host-c": "joined"}
    for node in (a, b, c):
        wait_for(lambda: names(node) == everybody, 10, f"the roster at {node.name}")
    assert [(e["subject"], e["detail"]["ok"]) for e in a.call("audit.list", kind="node.joined")] == [("host-c", True), ("host-b", True)]
    assert b.call("node.info")["ca"] is False
    assert "host-b" in b.refuses("conflict", "node.token")
    b.refuses("conflict", "node.remove", name="host-c")


def test_node_that_was_away_hears_later(make_node):
    a = make_node("host-a").start()
    b, c = make_node("host-b", pki=False), make_node("host-c", pki=False)
    assert join(b, a.call("node.token")["token"], a).returncode == 0
    assert join(c, a.call("node.token")["token"], a).returncode == 0  # b is not up
    b.start()
    wait_for(lambda: "host-c" in names(b), 10, "the roster at host-b")


def test_tokens_are_refused(make_node):
    a = make_node("host-a").start()
    b, c = make_node("host-b", pki=False), make_node("host-c", pki=False)
    token = a.call("node.token", ttl_s=60)["token"]
    assert join(b, token, a).returncode == 0
    out = join(c, token, a)
    assert out.returncode == 3 and "not valid" in out.stderr
    out = join(b, a.call("node.token")["token"], a)  # b is a member already
    assert out.returncode == 5

    short = a.call("node.token", ttl_s=1)["token"]
    time.sleep(1.2)
    assert "not valid" in join(c, short, a).stderr

    bound = a.call("node.token", name="host-d")["token"]
    out = join(c, bound, a)
    assert out.returncode == 3 and "host-d" in out.stderr

    good = a.call("node.token")["token"]
    altered = good[:-1] + ("0" if good[-1] != "0" else "1")
    out = join(c, altered, a)
    assert out.returncode == 3, "another CA's fingerprint"
    kind, id, secret, ca = good.split(".")
    out = join(c, ".".join((kind, id, secret[::-1], ca)), a)
    assert out.returncode == 3 and "not valid" in out.stderr
    assert join(c, "nonsense", a).returncode == 3
    out = join(c, good, a, name="host-b")
    assert out.returncode == 5 and "host-b" in out.stderr
    assert not (c.data / "pki").exists() or not any((c.data / "pki").iterdir())
    a.refuses("protocol", "node.token", ttl_s=0)
    a.refuses("invalid", "node.token", name="a b")


def test_token_of_another_cluster_is_refused(directory, make_node):
    a = make_node("host-a").start()
    x = make_node("host-x").start()
    b = make_node("host-b", pki=False)
    out = join(b, x.call("node.token")["token"], a)
    assert out.returncode == 3, out.stderr


def test_removed_node_is_refused_on_both_sides(make_node):
    a = make_node("host-a").start()
    b = make_node("host-b", pki=False)
    assert join(b, a.call("node.token")["token"], a).returncode == 0
    b.start()
    wait_for(lambda: names(a).get("host-b") == "joined", 5, "host-b")
    assert a.call("node.remove", name="host-b")["state"] == "removed"
    assert names(a)["host-b"] == "removed"
    # b asks a when it starts, and both say why it does not get in
    b.terminate()
    b.start()
    wait_for(lambda: "removed" in a.log_text() or "revoked" in a.log_text(), 10, "the refusal in the log of host-a")
    wait_for(lambda: "refused our certificate" in b.log_text(), 10, "the refusal in the log of host-b")
    b_as_destination = a.refuses("not_found", "migration.create", vm="web1", to="host-b")
    assert "removed" in b_as_destination
    a.refuses("conflict", "node.remove", name="host-a")
    a.refuses("not_found", "node.remove", name="host-z")
    # and may come back with a new certificate
    shutil.rmtree(b.data / "pki")
    b.terminate()
    assert join(b, a.call("node.token")["token"], a).returncode == 0
    b.start()
    wait_for(lambda: names(b).get("host-b") == "joined", 5, "host-b again")


@pytest.mark.parametrize("noise", [b"", b"G", b"GET / HTTP/1.1\r\n\r\n", b"N", b"NCW1" + b"\0" * 28, b"NCW1\0\1\0\0" + b"m-unknown".ljust(24, b"\0"),
                                   b"\x16\x03\x01\xff\xff" + b"\xff" * 64],
                         ids=["nothing", "one-byte", "http", "half-preface", "no-version", "unknown-migration", "broken-tls"])
def test_noise_on_the_port(node, noise):
    with socket.create_connection(("127.0.0.1", node.port)) as s:
        s.sendall(noise)
        s.shutdown(socket.SHUT_WR)
        s.settimeout(15)
        try:
            while s.recv(4096):
                pass
        except ConnectionError:
            pass
    assert node.call("node.info")["name"] == "host-a"


def is_closed(s):
    s.settimeout(0.5)
    try:
        return s.recv(1) == b""
    except TimeoutError:
        return False
    except ConnectionError:
        return True


def how_many_closed(sockets):
    """Now: which of them have a place is a matter of whose thread was first."""
    return sum(map(is_closed, select.select(sockets, [], [], 0)[0]))


def test_silent_connections_do_not_keep_others_out(node):
    # Not from 127.0.0.1: the node itself comes from there to its controller, and who is known may have more.
    silent = [socket.create_connection(("127.0.0.1", node.port), source_address=("127.5.0.1", 0)) for _ in range(100)]
    try:
        # Of one network no more than 32 that have not said who they are.
        wait_for(lambda: how_many_closed(silent) == 68, 9, "those beyond 32 to be closed")
        silent.append(socket.create_connection(("127.0.0.1", node.port), source_address=("127.0.0.2", 0)))
        assert not is_closed(silent[-1])
        b = node.call("node.info")
        assert b["name"] == "host-a"
        begin = time.monotonic()
        assert node.terminate() == 0
        assert time.monotonic() - begin < 8
    finally:
        for s in silent:
            s.close()
