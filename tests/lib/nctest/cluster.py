# SPDX-License-Identifier: Apache-2.0
"""Two nodes of NovaCron in two namespaces, and the self-verifying guest between them."""

import json
import os
import signal
import socket
import struct
import subprocess
import time

from . import guest as watch
from .net import BUILD, PATIENCE, Bed, Topology, Wan, deadline, stop_process, wait_for

PORT = 7450
FINAL = ("completed", "failed", "cancelled")


FAKETIME = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1"


class Refused(Exception):
    def __init__(self, error):
        super().__init__(f"{error['code']}: {error['message']}")
        self.code = error["code"]
        self.message = error["message"]


class Node:
    """One host: its namespace, its novacrond, its gate."""

    def __init__(self, bed, name, netns, address, **settings):
        self.bed, self.name, self.netns = bed, name, netns
        self.address = f"{address}:{PORT}"
        self.dir = os.path.join(bed.dir, name)
        self.run_dir = os.path.join(self.dir, "r")
        self.data_dir = os.path.join(self.dir, "data")
        self.api = os.path.join(self.dir, "api.sock")
        self.control = os.path.join(self.run_dir, "control.sock")
        self.log = os.path.join(self.dir, "novacrond.log")
        self.config = os.path.join(self.dir, "novacrond.conf")
        for d in (self.dir, self.run_dir, self.data_dir):
            os.makedirs(d, exist_ok=True)
        self.settings = {
            "listen": f"0.0.0.0:{PORT}", "data_dir": self.data_dir, "run_dir": self.run_dir,
            "qemu_log_dir": self.dir, "mover_binary": os.path.join(BUILD, "src/mover/novacron-mover"),
            "memory_reserve_mib": "64", "log_level": "debug", "peer_retry_ms": "300",
            "kept_shadow_mib": "0",  # tests and benchmarks are about first ways, unless they say so
            "path_timeout_ms": "5000", "retry_attempts": "0", **settings}
        self.write_config()
        self.process = self.gate = None
        self.fault = None  # the one that its novacrond was started with
        self.mounts = []  # shell commands, done in a mount namespace of its own before novacrond starts
        self.clock = None  # the file that says by how much its novacrond's clock is wrong
        self.clock_is_whole = False  # CLOCK_MONOTONIC with it
        bed.on_close(self.destroy)

    def use_own_clock(self, whole=False):
        """From its next start on, novacrond has a clock that step_clock() can set. CLOCK_MONOTONIC stays what it is; ${whole}: it goes with it, so
        that for novacrond, and for none of its programs, so much time has passed."""
        self.clock = os.path.join(self.dir, "clock")
        self.clock_is_whole = whole
        self.step_clock(0)

    def step_clock(self, seconds):
        with open(self.clock + ".new", "w") as f:
            f.write(f"{seconds:+d}\n")
        os.rename(self.clock + ".new", self.clock)

    def clock_environment(self):
        if not self.clock:
            return {}
        # A sanitized novacrond wants its own runtime to be loaded first, and does as well without.
        return {"LD_PRELOAD": FAKETIME, "FAKETIME_TIMESTAMP_FILE": self.clock, "FAKETIME_NO_CACHE": "1",
                "FAKETIME_DONT_FAKE_MONOTONIC": "0" if self.clock_is_whole else "1", "FAKETIME_ONLY_CMDS": "novacrond",
                "ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":verify_asan_link_order=0"}

    def write_config(self):
        with open(self.config, "w") as f:
            f.writelines(f"{k} = {v}\n" for k, v in self.settings.items())

    def program(self, where, name):
        return os.path.join(BUILD, "src", where, name)

    def cli(self, *arguments, check=True):
        out = subprocess.run([self.program("cli", "novacron"), "--socket", self.api, *arguments], text=True,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        if check and out.returncode:
            raise RuntimeError(f"novacron {' '.join(arguments)}: {out.returncode}: {out.stderr}{out.stdout}")
        return out

    def pki_init(self):
        self.cli("pki", "init", "--dir", os.path.join(self.data_dir, "pki"), "--name", self.name, "--address", self.address)

    def join(self, token, to, check=True):
        out = subprocess.run(["ip", "netns", "exec", self.netns.name, self.program("agent", "novacrond"), "--config", self.config,
                              "join", "--token", token, "--to", to.address, "--name", self.name, "--address", self.address],
                             text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if check and out.returncode:
            raise RuntimeError(f"join: {out.stdout}")
        return out

    def start(self, fault=None, wait=True):
        env = {**os.environ, **self.clock_environment()}
        self.fault = fault
        if fault:
            env["NOVACRON_FAULT"] = fault
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                ["ip", "netns", "exec", self.netns.name, "sh", "-ec", " && ".join([*self.mounts, 'exec "$@"']), "sh",
                 self.program("agent", "novacrond"), "--config", self.config],
                stdout=log, stderr=log, env=env, start_new_session=True)
        if wait:
            wait_for(lambda: self.answers() or self._died(), 30, f"novacrond on {self.name}; its log: {self.log_tail()}")

    def _died(self):
        if self.process.poll() is not None:
            raise RuntimeError(f"novacrond on {self.name} ended: {self.log_tail()}")

    def start_gate(self):
        with open(self.log, "ab") as log:
            self.gate = subprocess.Popen(
                ["ip", "netns", "exec", self.netns.name, self.program("gate", "novacron-gate"), "--control", self.control,
                 "--socket", self.api, "--no-https"], stdout=log, stderr=log)
        wait_for(lambda: os.path.exists(self.api), 10, "the gate's socket")

    def answers(self):
        try:
            return self.call("node.info")
        except (OSError, Refused):
            return None

    def stop(self):
        if self.process:
            stop_process(self.process, grace=20)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def is_dead(self):
        return self.process.poll() is not None

    def wait_dead(self, timeout=60):
        wait_for(self.is_dead, timeout, f"the fault to strike on {self.name}")

    def is_stopped_by_fault(self):
        return open(f"/proc/{self.process.pid}/stat").read().rsplit(")", 1)[1].split()[0] == "T"

    def go_on(self):
        self.process.send_signal(signal.SIGCONT)

    def mover_pids(self):
        """Movers of this node, found by their parent."""
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                stat = open(f"/proc/{pid}/stat").read()
            except OSError:
                continue
            if "(novacron-mover)" in stat and int(stat.rsplit(")", 1)[1].split()[1]) == self.process.pid:
                found.append(int(pid))
        return found

    def destroy(self):
        if self.gate:
            stop_process(self.gate)
        if self.process:
            self.process.send_signal(signal.SIGCONT) if self.process.poll() is None else None
            self.stop()
        for pid in self.qemu_pids():
            os.kill(pid, signal.SIGKILL)

    def qemu_pids(self):
        """QEMUs of this node, by the run directory on their command line."""
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                command = open(f"/proc/{pid}/cmdline", "rb").read()
            except OSError:
                continue
            if b"qemu-system" in command.split(b"\0")[0] and self.run_dir.encode() + b"/" in command:
                found.append(int(pid))
        return found

    def log_tail(self, lines=15):
        if not os.path.exists(self.log):
            return ""
        return "".join(open(self.log, errors="replace").readlines()[-lines:])

    def call(self, op, timeout=60, **args):
        """One request on novacrond's control socket (docs/protocols.md section 5)."""
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(timeout)
            s.connect(self.control)
            body = json.dumps({"id": 1, "op": op, "identity": {"kind": "uid", "name": "root", "role": "admin"}, "args": args}).encode()
            s.sendall(struct.pack(">I", len(body)) + body)
            answer = json.loads(self._exactly(s, struct.unpack(">I", self._exactly(s, 4))[0]))
        if not answer["ok"]:
            raise Refused(answer["error"])
        return answer["result"]

    @staticmethod
    def _exactly(s, n):
        data = b""
        while len(data) < n:
            piece = s.recv(n - len(data))
            if not piece:
                raise OSError("novacrond closed the connection")
            data += piece
        return data

    def machine_dir(self, vm):
        """Where the machine's sockets are."""
        for candidate in (os.path.join(self.run_dir, "machines", vm), os.path.join(self.run_dir, vm)):
            if os.path.isdir(candidate):
                return candidate
        return os.path.join(self.run_dir, "machines", vm)

    def state(self, vm):
        try:
            return self.call("machine.get", name=vm)["state"]
        except Refused as refused:
            if refused.code == "not_found":
                return None
            raise

    def wait_migration(self, id, timeout=100, patience=PATIENCE):
        end = deadline(timeout, patience)
        while time.monotonic() < end:
            m = self.call("migration.get", id=id)
            if m["outcome"] in FINAL:
                return Migration(m)
            time.sleep(0.02)
        raise TimeoutError(f"migration {id} did not end: {json.dumps(m, indent=1)}")

    def wait_state(self, id, states, timeout=60):
        """Until the migration is in one of these handoff states."""
        def there():
            try:
                m = self.call("migration.get", id=id)
            except OSError as gone:
                raise AssertionError(f"novacrond on {self.name} is gone before {id} is in {states}; its log:\n{self.log_tail(25)}") from gone
            assert m["state"] in states or m["outcome"] not in FINAL, f"{id} ended before {states}: {json.dumps(m, indent=1)}"
            return m["state"] in states
        return wait_for(there, timeout, lambda: f"state {states} of {id}: {json.dumps(self.call('migration.get', id=id), indent=1)}")


# Half of what an idle guest costs is its heartbeat; who does not measure pauses by it has a slower one.
BEAT_MS = int(os.environ.get("NC_BEAT_MS", "2"))


def guest_spec(name="web1", memory_mib=256, ws=32, rate=5, pattern="text", fill=0, freed=0, nic=True, **more):
    """The self-verifying guest; memory with the 8 KiB that TCG needs (CONTRIBUTING.md, the RAM-size rule)."""
    spec = {
        "name": name, "vcpus": 1, "memory_mib": memory_mib, "memory_extra_kib": 8, "machine": "pc", "cpu": "qemu64",
        "accel": "tcg", "kernel": os.path.join(BUILD, "guest/vmlinuz"), "initrd": os.path.join(BUILD, "guest/initrd.img"),
        "cmdline": f"console=ttyS0 no_timer_check cryptomgr.notests quiet nc.ws={ws} nc.rate={rate} nc.pattern={pattern} nc.fill={fill} "
                   f"nc.freed={freed} nc.beat_ms={BEAT_MS} nc.ip=10.77.0.2/24",
        "serial": [{"name": "console", "kind": "file"}, {"name": "beat", "kind": "unix"}],
        "observer_qmp": True,
    }
    if nic:
        spec["nics"] = [{"name": "net0", "bridge": "br0"}]
    spec.update(more)
    return spec


def second_path(cluster, rate, delay):
    """Another link between the two hosts, which both nodes name to each other from now on."""
    wan = Wan(cluster.bed, cluster.net.a, cluster.net.b, rate, delay, number=1)
    for node, host in ((cluster.a, 1), (cluster.b, 2)):
        node.settings["paths"] = ", ".join(f"10.{net}.0.{host}:{PORT}" for net in (99, 100))
        node.write_config()
        node.stop()
        node.start()
    return wan


class Migration(dict):
    """A migration's record; of one that surprised a test, its report shows what tells most in the little room that it has."""

    def __repr__(self):
        return f"{self['id']} {self['outcome']}: {self['error']}"


class Cluster:
    """Two joined nodes that run; `with Cluster(...) as c`."""

    living = []  # for the tests that share one

    def __init__(self, rate="0", delay="0ms", emulated=True, gates=False, topology=None, clock=False, **settings):
        self.bed = Bed()
        Cluster.living.append(self)
        try:
            self.net = topology(self.bed) if topology else Topology(self.bed, rate, delay, emulated=emulated)
            self.a = Node(self.bed, "host-a", self.net.a, "10.99.0.1", **settings)
            self.b = Node(self.bed, "host-b", self.net.b, "10.99.0.2", **settings)
            for node in (self.a, self.b) if clock else ():
                node.use_own_clock()
            self.a.pki_init()
            self.a.start()
            self.b.join(self.a.call("node.token", ttl_s=600)["token"], self.a)
            self.b.start()
            if gates:
                self.a.start_gate()
                self.b.start_gate()
            self.observer = None
            self.heartbeat = None
        except BaseException:
            self.close()
            raise

    def close(self):
        Cluster.living.remove(self)
        self.bed.close()

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind and not os.environ.get("NC_QUIET"):
            for node in (self.a, self.b):
                print(f"--- {node.name}\n{node.log_tail(60)}")
        for watcher in (self.observer, self.heartbeat):
            if watcher:
                watcher.close()
        self.close()

    def other(self, node):
        return self.b if node is self.a else self.a

    def boot(self, node=None, spec=None, timeout=60):
        """Defines and starts the guest and waits until its load is ready."""
        node = node or self.a
        spec = spec or guest_spec()
        node.call("machine.define", spec=spec)
        node.call("machine.start", name=spec["name"])
        console = os.path.join(node.machine_dir(spec["name"]), "console.log")
        wait_for(lambda: os.path.exists(console) and "NCLOAD READY" in open(console, errors="replace").read(), timeout,
                 "the guest to boot")
        return spec["name"]

    def watch_runners(self, vm):
        """Starts the observer that must never see two runners."""
        self.observer = watch.RunnerObserver()
        for node in (self.a, self.b):
            self.observer.watch(os.path.join(node.machine_dir(vm), "observer.sock"))
        return self.observer

    def complaints(self, vm):
        """What the guest has said of pages that are wrong, wherever it was."""
        consoles = [os.path.join(node.machine_dir(vm), "console.log") for node in (self.a, self.b)]
        return [line.strip() for path in consoles if os.path.exists(path) for line in open(path, errors="replace") if "NCLOAD ERROR" in line]

    def watch_heartbeat(self, vm):
        self.heartbeat = watch.Heartbeat()
        self.heartbeat.add(os.path.join(self.a.machine_dir(vm), "beat.sock"))
        return self.heartbeat

    def migrate(self, vm, source, wait=True, timeout=100, **args):
        if self.heartbeat:
            self.heartbeat.add(os.path.join(self.other(source).machine_dir(vm), "beat.sock"))
        m = source.call("migration.create", vm=vm, to=self.other(source).name, **args)
        return source.wait_migration(m["id"], timeout) if wait else m

    def moves(self, vm, source, **args):
        """Migrates it, and it arrives."""
        m = self.migrate(vm, source, **args)
        assert m["outcome"] == "completed", m
        return m

    def tidy(self):
        """After a test that failed: two nodes that live without faults, and machines that nobody moves, or the next one fails, too."""
        for node in (self.a, self.b):
            if node.process.poll() is None:
                node.go_on()
                node.stop()
            node.start()
        self.cancel_all()

    def cancel_all(self):
        """Ends what a test that failed has left running, so that the next one begins with machines that nobody moves."""
        for node in (self.a, self.b):
            for m in node.call("migration.list")["items"]:
                if m["source"] == node.name and m["outcome"] not in FINAL:
                    try:
                        node.call("migration.cancel", id=m["id"])
                    except Refused:
                        pass  # it has ended, or can only end by itself
                    node.wait_migration(m["id"])

    def runs_where(self, vm):
        """Names of the nodes whose QEMU runs the guest, by asking the QEMUs themselves.

        A QMP socket serves one client at a time, so a running observer is asked instead.
        """
        paths = {os.path.join(node.machine_dir(vm), "observer.sock"): node.name for node in (self.a, self.b)}
        if self.observer and self.observer.watches(paths):
            return [paths[p] for p in self.observer.fresh_sample() if p in paths]
        return [name for path, name in paths.items() if self._runs(path)]

    @staticmethod
    def _runs(path):
        try:
            observer = watch.QmpObserver(path, timeout=10)
        except OSError:
            return False
        try:
            return observer.is_running()
        except (OSError, RuntimeError):
            return False
        finally:
            observer.close()

    def _states(self, vm):
        """What the nodes and their QEMUs say, for a test that fails."""
        def of(node):
            return (f"{node.name}: {node.state(vm) if node.answers() else 'no answer'}, QEMUs {node.qemu_pids()}, "
                    f"its log:\n{node.log_tail(40)}")
        return f"{of(self.a)}\n{of(self.b)}\nThe observer: {self.observer and self.observer.complaints}"

    def assert_healthy(self, vm, node, client=None):
        """The guest runs on ${node} and nowhere else, gets somewhere, and found no error in its memory."""
        # A QEMU that stood still for a while is found again by the observer's next connection.
        where = []

        def only_there():
            where[:] = self.runs_where(vm)
            return where == [node.name]
        wait_for(only_there, 20, lambda: f"{vm} to run on {node.name} and nowhere else; it runs on {where}. {self._states(vm)}")
        client = client or self.net.client and watch.TcpClient(self.net.client)
        try:
            assert client.is_moving(20), f"the guest does not answer over TCP: {client.broken}"
            before = client.verified
            wait_for(lambda: client.verified > before + 200, 60, "the guest to verify its pages")
            assert client.errors == 0, f"the guest found {client.errors} pages wrong: {self.complaints(vm)}"
            assert client.broken is None
        finally:
            client.close()
