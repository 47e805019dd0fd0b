# SPDX-License-Identifier: Apache-2.0
"""Hosts as network namespaces, a LAN for the guests, a WAN between the hosts.

        client -- lan (bridge) --+-- host a: br0 -- tap -- guest
                                 +-- host b: br0 -- tap -- guest, after the move
        host a ==== ncwan or veth ==== host b

Everything made here is removed again at exit, namespaces by name and
processes by id, also when a test fails.
"""

import atexit
import json
import os
import signal
import socket
import subprocess
import tempfile
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
BUILD = os.path.abspath(os.environ.get("NC_BUILD", os.path.join(ROOT, "build")))


def sh(*command, check=True):
    return subprocess.run(command, check=check, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True).stdout


# A machine may be denied half of its processors for minutes; a limit is for what never ends, and no test is about how fast something is.
PATIENCE = 3


def deadline(timeout, patience=PATIENCE):
    """When to give up what takes ${timeout} seconds at most on a machine of its own."""
    return time.monotonic() + timeout * patience


def wait_for(condition, timeout, what):
    """Polls until condition() is true and returns its value; ${what}: words, or what makes them when the time is over."""
    end = deadline(timeout)
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise TimeoutError(f"waited {timeout * PATIENCE} s for {what() if callable(what) else what}")
        time.sleep(0.02)


class Bed:
    """Owns everything a test starts; close() undoes it in reverse order."""

    serial = 0

    def __init__(self):
        Bed.serial += 1
        self.prefix = f"nc{os.getpid()}x{Bed.serial}"
        self.dir = tempfile.mkdtemp(prefix="nct")
        os.chmod(self.dir, 0o755)
        self._undo = []
        atexit.register(self.close)
        if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
            signal.signal(signal.SIGTERM, signal.default_int_handler)  # "timeout" must not leave QEMUs behind

    def on_close(self, undo):
        self._undo.append(undo)

    def close(self):
        atexit.unregister(self.close)
        while self._undo:
            undo = self._undo.pop()
            try:
                undo()
            except Exception as problem:  # the rest must still be undone
                print(f"clean-up: {problem}")
        if not os.environ.get("NC_KEEP_FILES"):
            sh("rm", "-rf", self.dir, check=False)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def netns(self, name):
        return Netns(self, f"{self.prefix}{name}")

    def popen(self, command, netns=None, **kwargs):
        prefix = ["ip", "netns", "exec", netns.name] if netns else []
        process = subprocess.Popen(prefix + list(command), **kwargs)
        self.on_close(lambda: stop_process(process))
        return process


def stop_process(process, grace=5):
    if process.poll() is None:
        process.send_signal(signal.SIGCONT)
        process.terminate()
        try:
            process.wait(grace)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class Netns:
    def __init__(self, bed, name):
        self.name = name
        sh("ip", "netns", "add", name)
        bed.on_close(lambda: sh("ip", "netns", "del", name, check=False))
        self.ip("link", "set", "lo", "up")

    def ip(self, *arguments):
        return sh("ip", "-n", self.name, *arguments)

    def run(self, *command, check=True):
        return sh("ip", "netns", "exec", self.name, *command, check=check)

    def connect(self, address, timeout=5):
        """A TCP connection made inside this namespace."""
        return self.within(lambda: socket.create_connection(address, timeout))

    def within(self, action):
        """What action() returns, with this thread in this namespace meanwhile."""
        original = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        target = os.open(f"/run/netns/{self.name}", os.O_RDONLY)
        try:
            setns(target)
            return action()
        finally:
            setns(original)
            os.close(target)
            os.close(original)


def setns(fd):
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(fd, 0x40000000) != 0:
        raise OSError(ctypes.get_errno(), "setns")


def veth(a, name_a, b, name_b):
    sh("ip", "link", "add", name_a, "netns", a.name, "type", "veth", "peer", "name", name_b, "netns", b.name)
    a.ip("link", "set", name_a, "up")
    b.ip("link", "set", name_b, "up")


class Wan:
    """An emulated link between two namespaces; addresses 10.99.0.1 and 10.99.0.2, of link 1 10.100.0.1 and so on."""

    def __init__(self, bed, a, b, rate="0", delay="0ms", loss=0.0, queue=None, number=0):
        self.control = os.path.join(bed.dir, f"wan{number}.sock")
        command = [os.path.join(BUILD, "tests/net/ncwan"), "--a", a.name, "--b", b.name, "--rate", rate, "--delay", delay,
                   "--loss", str(loss), "--control", self.control, "--dev", f"wan{number}", "--die-with-parent",
                   "--addr-a", f"10.{99 + number}.0.1/24", "--addr-b", f"10.{99 + number}.0.2/24"]
        if queue:
            command += ["--queue", queue]
        self.process = bed.popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        if self.process.stdout.readline() != "ready\n":
            raise RuntimeError("ncwan did not start")

    def tell(self, command):
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(self.control)
            s.sendall(command.encode() + b"\n")
            return s.recv(4096).decode()

    def stats(self):
        return json.loads(self.tell("stats"))


class VethLink:
    """The same addresses over plain veth: nothing limits."""

    def __init__(self, bed, a, b):
        self.a = a
        veth(a, "wan0", b, "wan0")
        a.ip("addr", "add", "10.99.0.1/24", "dev", "wan0")
        b.ip("addr", "add", "10.99.0.2/24", "dev", "wan0")

    def stats(self):
        link = json.loads(self.a.ip("-s", "-j", "link", "show", "wan0"))[0]["stats64"]
        return {"ab": {"wire_bytes": link["tx"]["bytes"]}, "ba": {"wire_bytes": link["rx"]["bytes"]}}


class Topology:
    """Two hosts, the link between them, and a client on the guests' LAN."""

    def __init__(self, bed, rate="0", delay="0ms", loss=0.0, emulated=True):
        self.a, self.b = bed.netns("a"), bed.netns("b")
        self.lan, self.client = bed.netns("l"), bed.netns("c")
        self.lan.ip("link", "add", "br0", "type", "bridge")
        self.lan.ip("link", "set", "br0", "up")
        for name, host in (("pa", self.a), ("pb", self.b)):
            host.ip("link", "add", "br0", "type", "bridge")
            host.ip("link", "set", "br0", "up")
            veth(host, "lan0", self.lan, name)
            host.ip("link", "set", "lan0", "master", "br0")
            self.lan.ip("link", "set", name, "master", "br0")
        veth(self.client, "eth0", self.lan, "pc")
        self.lan.ip("link", "set", "pc", "master", "br0")
        self.client.ip("addr", "add", "10.77.0.1/24", "dev", "eth0")
        self.wan = Wan(bed, self.a, self.b, rate, delay, loss) if emulated else VethLink(bed, self.a, self.b)
