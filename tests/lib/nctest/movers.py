# SPDX-License-Identifier: Apache-2.0
"""Movers without novacrond and without QEMU: the test plays both.

A stream as QEMU writes it, made from a seed; a mover and the events it sends; a
pair of them with their TCP connections, which a test may cut, alter or replace.
"""
import hashlib
import json
import os
import pathlib
import random
import resource
import socket
import struct
import subprocess
import threading
import time

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[3]
BUILD = pathlib.Path(os.environ.get("NC_BUILD", ROOT / "build"))
if not BUILD.is_absolute():
    BUILD = ROOT / BUILD
MOVER = BUILD / "src/mover/novacron-mover"
TIMEOUT = 60
PAGE = 4096
OPEN_RETURN_PATH = bytes.fromhex("0800010000")
PING = bytes.fromhex("080002000400000001")
PONG = bytes.fromhex("0002000400000001")
SHUT = bytes.fromhex("0001000400000000")

while True:  # descriptor 3 must be taken here, so that a child's may be replaced
    reserved = os.open("/dev/null", os.O_RDONLY)
    if reserved > 3:
        os.close(reserved)
        break


# --- a stream as QEMU writes it -----------------------------------------------------------------------------------

def stream_head(block=b"pc.ram", size=1 << 40):
    machine = b"pc-i440fx-7.2"
    out = b"QEVM" + struct.pack(">IBI", 3, 7, len(machine)) + machine + OPEN_RETURN_PATH + PING
    out += b"\x01" + struct.pack(">IB", 2, 3) + b"ram" + struct.pack(">II", 0, 4)
    out += struct.pack(">Q", size | 4) + bytes([len(block)]) + block + struct.pack(">Q", size)
    return out + struct.pack(">Q", 0x10) + b"\x7e" + struct.pack(">I", 2)


def page_content(kind, rng):
    if kind == "zero":
        return None
    if kind == "fill":
        return bytes([rng.randrange(1, 256)]) * PAGE
    if kind == "pattern":
        return rng.randbytes(8) * (PAGE // 8)
    if kind == "random":
        return rng.randbytes(PAGE)
    words = [b"migrate", b"machine", b"kernel", b"page", b"\0\0\0\0", b"socket", b"0123456789", b"novacron"]
    return b" ".join(rng.choice(words) + bytes([rng.randrange(97, 123)]) for _ in range(700))[:PAGE].ljust(PAGE, b".")


def page_record(number, content, named=None):
    flags = (0x02 if content is None else 0x08) | (0 if named else 0x20)
    block = bytes([len(named)]) + named if named else b""
    return struct.pack(">Q", number * PAGE | flags) + block + (b"\0" if content is None else content)


def ram_part(kinds, rng, first=0, named=None, kind_byte=2):
    out = [bytes([kind_byte]) + struct.pack(">I", 2)]
    for i, kind in enumerate(kinds):
        out.append(page_record(first + i, page_content(kind, rng), named if i == 0 else None))
    out.append(struct.pack(">Q", 0x10) + b"\x7e" + struct.pack(">I", 2))
    return b"".join(out)


def stream_tail(rng, device_bytes=20000):
    device = b"\x04" + struct.pack(">IB", 7, 5) + b"timer" + struct.pack(">II", 0, 2) + rng.randbytes(device_bytes)
    device += b"\x7e" + struct.pack(">I", 7)
    text = json.dumps({"page_size": PAGE, "devices": [{"name": "timer", "instance_id": 0}]}).encode()
    return device + b"\x00" + b"\x06" + struct.pack(">I", len(text)) + text


def make_stream(pages=3000, seed=1):
    rng = random.Random(seed)
    kinds = rng.choices(["zero", "fill", "pattern", "random", "text"], [3, 1, 1, 1, 4], k=pages)
    out, at = [stream_head()], 0
    while at < pages:
        n = min(pages - at, rng.randrange(1, 900))
        out.append(ram_part(kinds[at:at + n], rng, at, b"pc.ram" if at == 0 else None))
        at += n
    out.append(ram_part(["text"] * 7, rng, 0, kind_byte=3))
    out.append(stream_tail(rng))
    return b"".join(out)


# --- processes and sockets ----------------------------------------------------------------------------------------

class Mover:
    """A novacron-mover, seen by novacrond."""

    def __init__(self, role, tmp_path, *options, data_limit=None):
        """${data_limit}: of its memory, bytes (RLIMIT_DATA: whatever is private and writable, stacks included)."""
        self.role = role

        def prepare():
            os.dup2(theirs.fileno(), 3)
            if data_limit:
                resource.setrlimit(resource.RLIMIT_DATA, (data_limit, data_limit))
        self.log_path = tmp_path / f"{role}-{time.monotonic_ns()}.log"
        self.control, theirs = socket.socketpair()
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen([str(MOVER), *options], pass_fds=(3,), stderr=log,
                                            preexec_fn=prepare,
                                            env={**os.environ, "G_SLICE": "always-malloc"})  # the thread sanitizer
        theirs.close()
        self.events, self.changed, self.ended = [], threading.Condition(), False
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        stream = self.control.makefile("rb")
        while True:
            try:
                head = stream.read(4)
                body = stream.read(struct.unpack(">I", head)[0]) if len(head) == 4 else None
            except ConnectionResetError:  # it left with messages of ours unread
                body = None
            with self.changed:
                if body is None:
                    self.ended = True
                else:
                    self.events.append(json.loads(body))
                self.changed.notify_all()
            if body is None:
                return

    def send(self, message, fd=None):
        body = json.dumps(message).encode()
        data = struct.pack(">I", len(body)) + body
        if fd is None:
            self.control.sendall(data)
        else:
            sent = socket.send_fds(self.control, [data], [fd])
            self.control.sendall(data[sent:])

    def start(self, psk, streams=1, compression="lz4", **more):
        self.send({"op": "start", "role": self.role, "migration": "mig-test", "psk": psk.hex(), "streams": streams,
                   "compression": compression, "workers": 0, "pause_budget_ms": 300, "progress_ms": 50, **more})

    def conn(self, index, sock):
        self.send({"op": "conn", "index": index}, sock.fileno())
        sock.close()

    def qemu(self, channel="main"):
        """Gives the mover its QEMU, or a channel of it: returns QEMU's end."""
        ours, theirs = socket.socketpair()
        self.send({"op": "qemu", "channel": channel}, theirs.fileno())
        theirs.close()
        return ours

    def got(self, name):
        return [e for e in self.events if e["ev"] == name]

    def wait(self, name, timeout=TIMEOUT, number=1):
        """The event's ${number}th occurrence."""
        deadline = time.monotonic() + timeout
        with self.changed:
            while len(self.got(name)) < number:
                left = deadline - time.monotonic()
                assert left > 0 and not self.ended, f"{self.role}: no '{name}': {self.tail()}"
                self.changed.wait(left)
            return self.got(name)[number - 1]

    def tail(self):
        return [e for e in self.events if e["ev"] != "progress"][-5:], self.log_path.read_text()[-3000:]

    def exit_status(self, timeout=TIMEOUT):
        status = self.process.wait(timeout)
        self.reader.join(timeout)
        return status

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.control.close()
        text = self.log_path.read_text()
        assert "Sanitizer" not in text, text


def is_sanitized():
    return b"__asan_init" in MOVER.read_bytes() or b"__tsan_init" in MOVER.read_bytes()


def tcp_pair():
    with socket.create_server(("127.0.0.1", 0)) as server:
        a = socket.create_connection(server.getsockname())
        b, _ = server.accept()
        return a, b


class Cable:
    """Carries a TCP connection; cut() loses what is on it, as a reset on the way does."""

    def __init__(self, cut_after=None, alter_at=None, bytes_per_s=None):
        """${cut_after}, ${alter_at}: bytes from the source after which that happens."""
        self.cut_after, self.alter_at, self.bytes_per_s = cut_after, alter_at, bytes_per_s
        self.sockets = []

    def pair(self):
        a, near = tcp_pair()
        far, b = tcp_pair()
        self.sockets = [near, far]
        threading.Thread(target=self._forward, args=(near, far), daemon=True).start()
        threading.Thread(target=self._back, args=(far, near), daemon=True).start()
        return a, b

    def cut(self):
        for sock in self.sockets:
            try:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                sock.shutdown(socket.SHUT_RD)  # wakes the thread that reads it
                sock.close()
            except OSError:
                pass  # cut already

    def _forward(self, one, other):
        passed, began = 0, time.monotonic()
        try:
            while data := bytearray(one.recv(65536)):
                if self.alter_at is not None and passed <= self.alter_at < passed + len(data):
                    data[self.alter_at - passed] ^= 0x10
                passed += len(data)
                if self.cut_after is not None and passed >= self.cut_after:
                    self.cut()
                    return
                other.sendall(data)
                if self.bytes_per_s:
                    time.sleep(max(0, began + passed / self.bytes_per_s - time.monotonic()))
            other.shutdown(socket.SHUT_WR)
        except OSError:
            self.cut()

    def _back(self, one, other):
        try:
            while data := one.recv(65536):
                other.sendall(data)
            other.shutdown(socket.SHUT_WR)
        except OSError:
            self.cut()


class PageStore:
    """The destination's novacrond, that gives its mover stored pages: ${give}(number) is the page, or None."""

    def __init__(self, pages, give=None):
        self.pages, self.give = pages, give or (lambda number: pages[number])
        self.asked = []  # numbers of each request
        self.ours, self.theirs = socket.socketpair()
        threading.Thread(target=self._serve, daemon=True).start()

    def tell(self, source, destination):
        with open(os.memfd_create("list"), "r+b") as f:
            f.write(b"".join(hashlib.sha256(page).digest()[:16] for page in self.pages))
            f.flush()
            source.send({"op": "stored", "pages": len(self.pages)}, f.fileno())
        destination.send({"op": "stored", "pages": len(self.pages)}, self.theirs.fileno())
        self.theirs.close()

    def close(self):
        self.ours.shutdown(socket.SHUT_RDWR)

    def _serve(self):
        stream = self.ours.makefile("rb")
        while len(head := stream.read(4)) == 4:
            n, = struct.unpack(">I", head)
            assert 1 <= n <= 128
            self.asked.append(struct.unpack(f">{n}I", stream.read(4 * n)))
            pages = [self.give(number) for number in self.asked[-1]]
            try:
                self.ours.sendall(b"\0" if None in pages else b"\1" + b"".join(pages))
            except OSError:
                return  # closed by the test


class Pair:
    """Source and destination, connected."""

    def __init__(self, tmp_path, streams=1, compression="lz4", key=None, other_key=None, connect=tcp_pair, frames=0,
                 blocks=0, data_limit=None, store=None, **more):
        """${store}: a PageStore at the destination, of which both movers are told."""
        self.key = key or os.urandom(32)
        self.connect = connect
        self.source, self.destination = (Mover(role, tmp_path, data_limit=data_limit) for role in ("source", "destination"))
        self.source.start(self.key, streams, compression, **more)
        self.destination.start(other_key or self.key, streams, compression)
        for mover in (self.source, self.destination):
            if frames:
                mover.send({"op": "shadow", "frames": frames, "blocks": blocks})
        if store:
            store.tell(self.source, self.destination)
        for i in range(streams):
            self.reconnect(i)

    def reconnect(self, index):
        a, b = self.connect()
        self.source.conn(index, a)
        self.destination.conn(index, b)

    def follow(self):
        """From now on reconnects what the source has lost, as novacrond does."""
        def run():
            seen = 0
            while not self.source.ended:
                with self.source.changed:
                    self.source.changed.wait(0.2)
                    lost = [e for e in self.source.events if e["ev"] in ("lost", "refused")]
                for event in lost[seen:]:
                    try:
                        self.reconnect(event["index"])
                    except OSError:
                        return  # they have ended
                seen = len(lost)
        threading.Thread(target=run, daemon=True).start()
        return self

    def ready(self):
        assert self.source.wait("ready")["cipher"] == "TLS_AES_256_GCM_SHA384"
        self.destination.wait("ready")
        self.qemu_source, self.qemu_destination = self.source.qemu(), self.destination.qemu()
        return self

    def preempt(self):
        """Both QEMUs have a preempt channel: their ends of it."""
        return self.source.qemu("preempt"), self.destination.qemu("preempt")

    def close(self):
        self.source.close()
        self.destination.close()


def read_exactly(sock, n, timeout=TIMEOUT):
    sock.settimeout(timeout)
    out = bytearray()
    while len(out) < n:
        piece = sock.recv(min(1 << 20, n - len(out)))
        assert piece, f"closed after {len(out)} of {n} bytes"
        out += piece
    return bytes(out)


def push(sock, data):
    def send():
        try:
            sock.sendall(data)
        except BrokenPipeError:
            pass  # the test is about that, or fails at the other end
    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    return thread


def assert_silent(sock, seconds=0.3):
    sock.settimeout(seconds)
    with pytest.raises(socket.timeout):
        sock.recv(1)


def move(pair, stream):
    """The whole of ${stream}; returns when the destination's QEMU has it."""
    push(pair.qemu_source, stream)
    assert read_exactly(pair.qemu_destination, len(stream)) == stream


def hand_over(pair, stream):
    """From the stream's last byte to both movers' end."""
    pair.source.send({"op": "grant", "epoch": 5})
    grant = pair.destination.wait("grant")
    digest = grant["sha256"]  # over the batches, cut where the mover liked
    assert (grant["epoch"], grant["offset"]) == (5, len(stream)) and int(digest, 16) != 0
    pair.qemu_destination.sendall(SHUT)
    shut = pair.destination.wait("shut")
    assert (shut["status"], shut["stream_bytes"], shut["sha256"]) == (0, len(stream), digest)
    shut = pair.source.wait("shut")
    assert shut["equal"] is True and shut["sha256"] == shut["peer_sha256"] == digest
    assert shut["stream_bytes"] == shut["peer_stream_bytes"] == len(stream)
    assert_silent(pair.qemu_source)
    pair.source.send({"op": "deliver_shut"})
    assert read_exactly(pair.qemu_source, len(SHUT)) == SHUT


def finish(pair, stream):
    digests = set()
    for mover in (pair.source, pair.destination):
        mover.send({"op": "finish"})
        done = mover.wait("done")
        digests.add((done["sha256"], done["rev_sha256"]))
        assert done["stream_bytes"] == len(stream)
        assert mover.exit_status() == 0
        assert not mover.got("error")
        yield done
    assert len(digests) == 1


def make_rounds(pages=1500, rounds=4, seed=3):
    """A stream in which pages come again: a little different, as they were, as another's copy, or wholly new."""
    rng = random.Random(seed)
    memory = [page_content(rng.choice(["text", "random", "text", "fill"]), rng) for _ in range(pages)]
    out = [stream_head(size=pages * PAGE), bytes([2]) + struct.pack(">I", 2)]
    out += [page_record(i, memory[i], b"pc.ram" if i == 0 else None) for i in range(pages)]
    for _ in range(rounds):
        for i in sorted(rng.sample(range(pages), pages // 2)):
            content = bytearray(memory[i])
            choice = rng.random()
            if choice < 0.6:
                for _ in range(rng.randrange(1, 30)):
                    content[rng.randrange(PAGE)] = rng.randrange(256)
            elif choice < 0.8:
                content = memory[rng.randrange(pages)]
            elif choice < 0.9:
                content = page_content("random", rng)
            memory[i] = bytes(content)
            out.append(page_record(i, memory[i]))
    out.append(struct.pack(">Q", 0x10) + b"\x7e" + struct.pack(">I", 2) + stream_tail(rng))
    return b"".join(out)


# --- post-copy ----------------------------------------------------------------------------------------------------

ADVISE = bytes.fromhex("080003001000000000000010000000000000001000")
RUN = bytes.fromhex("0800050000")


def command(number, payload=b""):
    return b"\x08" + struct.pack(">HH", number, len(payload)) + payload


class Postcopy:
    """A stream of post-copy: `data`; its package ends at `package_end`. With ${preempt}, every fourth page of those behind
    the package is on the other channel: `preempt`. `heat`: how often each page was sent before, of those discarded."""

    def __init__(self, pages=1500, rounds=3, seed=5, preempt=False, package_bytes=20000):
        rng = random.Random(seed)
        size = pages * PAGE
        self.pages, kinds = pages, ["text", "random", "text", "fill", "zero"]
        head = stream_head(size=size)
        at = head.index(PING) + len(PING)
        out = [head[:at] + ADVISE + head[at:], b"\x02" + struct.pack(">I", 2)]
        out += [page_record(i, page_content(rng.choice(kinds), rng), b"pc.ram" if i == 0 else None) for i in range(pages)]
        heat = [1] * pages
        for number in range(rounds):
            for i in sorted(rng.sample(range(pages), pages // 2 >> number)):
                heat[i] += 1
                out.append(page_record(i, page_content(rng.choice(kinds), rng)))
        out.append(struct.pack(">Q", 0x10) + b"\x7e" + struct.pack(">I", 2))
        late = sorted(rng.sample(range(pages), pages // 3))
        self.heat = {i: heat[i] for i in late}
        for first in range(0, len(late), 12):
            ranges = b"".join(struct.pack(">QQ", i * PAGE, PAGE) for i in late[first:first + 12])
            out.append(command(6, b"\0\x06pc.ram\0" + ranges))
        device = b"\x04" + struct.pack(">IB", 7, 5) + b"timer" + struct.pack(">II", 0, 2) + rng.randbytes(package_bytes)
        package = command(4) + device + command(2, struct.pack(">I", 3)) + RUN
        out += [command(2, struct.pack(">I", 2)), command(7, struct.pack(">I", len(package))), package]
        self.package_end = sum(map(len, out))
        on_main = [i for n, i in enumerate(late) if not preempt or n % 4]
        out += [command(2, struct.pack(">I", 4)), b"\x02" + struct.pack(">I", 2)]
        out += [page_record(i, page_content(rng.choice(kinds), rng), b"pc.ram" if n == 0 else None)
                for n, i in enumerate(on_main)]
        eos = struct.pack(">Q", 0x10)
        out += [eos + b"\x7e" + struct.pack(">I", 2), b"\x03" + struct.pack(">I", 2) + eos + b"\x7e" + struct.pack(">I", 2), b"\0"]
        self.data = b"".join(out)
        on_preempt = [i for i in late if i not in set(on_main)]
        self.preempt = b"".join(page_record(i, page_content(rng.choice(kinds), rng), b"pc.ram" if n == 0 else None)
                                for n, i in enumerate(on_preempt)) + eos
