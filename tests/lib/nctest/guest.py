# SPDX-License-Identifier: Apache-2.0
"""Watching a guest from outside: its TCP counter, its heartbeat, who runs it."""

import json
import os
import re
import select
import socket
import threading
import time

from .net import deadline


class TcpClient(threading.Thread):
    """Keeps one TCP connection to the guest's counter and notes the longest silence."""

    def __init__(self, netns, address=("10.77.0.2", 7000)):
        super().__init__(daemon=True)
        self.socket = netns.connect(address)
        self.socket.settimeout(0.5)
        self.counter, self.errors, self.verified = -1, None, 0
        self.gaps = []  # (end, length) of silences above 50 ms
        self.broken = None
        self.backwards = 0
        self.stat = None
        self.stopping = False
        self.last = time.monotonic()
        self.start()

    def run(self):
        pending = b""
        while not self.stopping:
            try:
                data = self.socket.recv(65536)
            except socket.timeout:
                continue
            except OSError as problem:
                self.broken = str(problem)
                return
            if not data:
                self.broken = "closed by the guest"
                return
            now = time.monotonic()
            if now - self.last > 0.05:
                self.gaps.append((now, now - self.last))
            self.last = now
            lines = (pending + data).split(b"\n")
            pending = lines.pop()
            for line in lines:
                self._line(line)

    def _line(self, line):
        if line.startswith(b"{"):
            self.stat = json.loads(line)
            self.errors = self.stat["errors"]
            return
        parts = line.split()
        if len(parts) != 3:
            return
        counter, self.errors, self.verified = map(int, parts)
        self.backwards += counter <= self.counter
        self.counter = counter

    def is_moving(self, timeout=10):
        """True once the counter has grown from now on."""
        before, end = self.counter, time.monotonic() + timeout
        while time.monotonic() < end:
            if self.counter > before:
                return True
            time.sleep(0.02)
        return False

    def ask(self, timeout=10):
        self.stat = None
        self.socket.sendall(b"stat\n")
        end = deadline(timeout)
        while self.stat is None and time.monotonic() < end:
            time.sleep(0.01)
        return self.stat

    def longest_gap_ms(self, since=0.0):
        """Of the silences that ended after `since`, or last still."""
        still = (time.monotonic() - self.last) * 1000
        return max([length * 1000 for end, length in list(self.gaps) if end >= since] + [still if still > 50 else 0.0])

    def close(self):
        self.stopping = True
        self.join(2)
        self.socket.close()


class Heartbeat(threading.Thread):
    """Reads the beats of one guest from any number of serial sockets; the pause is the longest gap."""

    def __init__(self):
        super().__init__(daemon=True)
        self.times = []
        self.first, self.last = {}, {}  # of each path: the beats' first and last time
        self.stopping = False
        self._lock = threading.Lock()
        self._sockets = {}
        self.start()

    def add(self, path):
        """A serial socket of a QEMU, which may not exist yet."""
        threading.Thread(target=self._connect, args=(path,), daemon=True).start()

    def _connect(self, path):
        while not self.stopping:
            s = socket.socket(socket.AF_UNIX)
            try:
                s.connect(path)
            except OSError:
                s.close()
                time.sleep(0.01)
                continue
            s.setblocking(False)
            with self._lock:
                self._sockets[s] = path
            return

    def run(self):
        while not self.stopping:
            with self._lock:
                sockets = dict(self._sockets)
            ready = select.select(sockets, [], [], 0.05)[0] if sockets else (time.sleep(0.01), [])[1]
            now = time.monotonic()
            for s in ready:
                try:
                    data = s.recv(65536)
                except OSError:
                    data = b""
                if not data:
                    with self._lock:
                        del self._sockets[s]
                    s.close()
                elif b"B" in data:
                    self.times.append(now)
                    self.first.setdefault(sockets[s], now)
                    self.last[sockets[s]] = now

    def forget(self):
        """What was seen so far: before a move back."""
        self.first.clear()
        self.last.clear()

    def pause_ms(self, source, destination):
        """From the last beat at one path to the first at the other; None before that. For a first move between the two."""
        if source not in self.last or destination not in self.first:
            return None
        return (self.first[destination] - self.last[source]) * 1000

    def longest_gap_ms(self, since=0.0, until=float("inf")):
        seen = [t for t in self.times if since <= t <= until]
        return max(((b - a) * 1000 for a, b in zip(seen, seen[1:])), default=0.0)

    def close(self):
        self.stopping = True
        self.join(2)
        for s in self._sockets:
            s.close()


class QmpObserver:
    """A read-only QMP connection of its own: what does QEMU say about itself."""

    def __init__(self, path, timeout=5):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(timeout)
        self.file = None
        self.number = time.monotonic_ns()  # an answer to somebody before us is none to us
        try:
            self.socket.connect(path)
            self.file = self.socket.makefile("rwb")
            self.file.readline()
            self.command("qmp_capabilities")
        except BaseException:
            self.close()
            raise

    def command(self, name, /, **arguments):
        self.number += 1
        self.file.write(json.dumps({"execute": name, "arguments": arguments, "id": self.number}).encode() + b"\n")
        self.file.flush()
        while True:
            line = self.file.readline()
            if not line:
                raise OSError("QEMU is gone")
            answer = json.loads(line)
            if answer.get("id") != self.number:
                continue
            if "return" in answer:
                return answer["return"]
            if "error" in answer:
                raise RuntimeError(f"{name}: {answer['error']['desc']}")

    def is_running(self):
        return self.command("query-status")["running"]

    def close(self):
        if self.file:
            try:
                self.file.close()
            except OSError:
                pass  # what could not be written to a QEMU that is gone
        self.socket.close()


class RunnerObserver(threading.Thread):
    """Samples every QEMU's status every few milliseconds and counts instants with two runners.

    One sample asks all QEMUs one after the other, so a handoff between two
    questions could look like two runners: a suspicion is confirmed by asking
    the first one again.
    """

    def __init__(self, interval=0.005):
        super().__init__(daemon=True)
        self.interval = interval
        self.samples = 0
        self.double = 0
        self.none = 0
        self.last = []
        self._answers = {}
        self.complaints = {}  # path: why it was not heard the last time
        self.stopping = False
        self._lock = threading.Lock()
        self._paths = {}
        self.start()

    def watch(self, path):
        with self._lock:
            self._paths.setdefault(path, None)

    def watches(self, paths):
        return any(p in self._paths for p in paths)

    def answers(self, path):
        """How often this QEMU said what it does: an observer that heard nothing proves nothing."""
        return self._answers.get(path, 0)

    def fresh_sample(self, timeout=30):
        """Paths of the QEMUs that ran in a sample that began after this call."""
        goal, end = self.samples + 2, deadline(timeout)
        while self.samples < goal and time.monotonic() < end:
            time.sleep(self.interval)
        if self.samples < goal:
            raise TimeoutError("the observer has stopped looking")
        return list(self.last)

    def _runs(self, path):
        try:
            if self._paths[path] is None:
                self._paths[path] = QmpObserver(path)
            running = self._paths[path].is_running()
            self._answers[path] = self._answers.get(path, 0) + 1
            self.complaints.pop(path, None)
            return running
        except (OSError, RuntimeError, ValueError) as problem:
            self.complaints[path] = repr(problem)
            if self._paths[path] is not None:
                self._paths[path].close()
            self._paths[path] = None
            return False

    def run(self):
        while not self.stopping:
            with self._lock:
                paths = list(self._paths)
            running = [p for p in paths if self._runs(p)]
            if len(running) > 1 and self._runs(running[0]):
                self.double += 1
            self.none += not running
            self.last = running
            self.samples += 1
            time.sleep(self.interval)

    def close(self):
        self.stopping = True
        self.join(5)
        for observer in self._paths.values():
            if observer:
                observer.close()


def console_errors(log_path):
    """The guest's last count of errors on its console, and whether its kernel complained."""
    text = open(log_path, errors="replace").read() if os.path.exists(log_path) else ""
    counts = re.findall(r"NCLOAD errors=(\d+)", text)
    panic = re.search(r"Kernel panic|BUG:|Oops|segfault", text)
    return (int(counts[-1]) if counts else None), (panic.group(0) if panic else None)
