# SPDX-License-Identifier: Apache-2.0
"""Two movers, a TCP connection, and this test as QEMU and novacrond on both sides.

Promises under test: every byte arrives, in order, whatever the codec and the
number of connections; both digests are those of the bytes; SHUT waits for the
decision, GRANT for the last byte; whoever lacks the key, alters a byte or
disappears ends the attempt with an error that names cause and side, and
nothing unverified reaches QEMU.

    NC_BUILD=build pytest-3 tests/integration/test_mover.py
    NC_MOVER_BENCH_MB=2048 ... -k throughput -s      (prints, asserts no time)
"""
import json
import os
import pathlib
import random
import shutil
import socket
import struct
import subprocess
import threading
import time

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
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
CODINGS = {"none", "lz4", *(f"zstd:{level}" for level in (-5, -3, -1, 1, 3, 5, 7, 9))}

while True:  # descriptor 3 must be taken here, so that a child's may be replaced
    reserved = os.open("/dev/null", os.O_RDONLY)
    if reserved > 3:
        os.close(reserved)
        break

pytestmark = pytest.mark.skipif(not MOVER.exists(), reason=f"{MOVER} is not built")


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

    def __init__(self, role, tmp_path, *options):
        self.role = role
        self.log_path = tmp_path / f"{role}-{time.monotonic_ns()}.log"
        self.control, theirs = socket.socketpair()
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen([str(MOVER), *options], pass_fds=(3,), stderr=log,
                                            preexec_fn=lambda: os.dup2(theirs.fileno(), 3),
                                            env={**os.environ, "G_SLICE": "always-malloc"})  # the thread sanitizer
        theirs.close()
        self.events, self.changed, self.ended = [], threading.Condition(), False
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        stream = self.control.makefile("rb")
        while True:
            head = stream.read(4)
            body = stream.read(struct.unpack(">I", head)[0]) if len(head) == 4 else None
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

    def qemu(self):
        """Gives the mover its QEMU: returns QEMU's end."""
        ours, theirs = socket.socketpair()
        self.send({"op": "qemu", "channel": "main"}, theirs.fileno())
        theirs.close()
        return ours

    def got(self, name):
        return [e for e in self.events if e["ev"] == name]

    def wait(self, name, timeout=TIMEOUT):
        deadline = time.monotonic() + timeout
        with self.changed:
            while not self.got(name):
                left = deadline - time.monotonic()
                assert left > 0 and not self.ended, f"{self.role}: no '{name}': {self.tail()}"
                self.changed.wait(left)
            return self.got(name)[0]

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


def tcp_pair():
    with socket.create_server(("127.0.0.1", 0)) as server:
        a = socket.create_connection(server.getsockname())
        b, _ = server.accept()
        return a, b


class Pair:
    """Source and destination, connected."""

    def __init__(self, tmp_path, streams=1, compression="lz4", key=None, other_key=None, connect=tcp_pair, frames=0,
                 **more):
        self.key = key or os.urandom(32)
        self.source, self.destination = Mover("source", tmp_path), Mover("destination", tmp_path)
        self.source.start(self.key, streams, compression, **more)
        self.destination.start(other_key or self.key, streams, compression)
        for mover in (self.source, self.destination):
            if frames:
                mover.send({"op": "shadow", "frames": frames})
        for i in range(streams):
            a, b = connect()
            self.source.conn(i, a)
            self.destination.conn(i, b)

    def ready(self):
        assert self.source.wait("ready")["cipher"] == "TLS_AES_256_GCM_SHA384"
        self.destination.wait("ready")
        self.qemu_source, self.qemu_destination = self.source.qemu(), self.destination.qemu()
        return self

    def close(self):
        self.source.close()
        self.destination.close()


@pytest.fixture
def pairs(tmp_path):
    made = []

    def make(**more):
        made.append(Pair(tmp_path, **more))
        return made[-1]
    yield make
    for pair in made:
        pair.close()


@pytest.fixture
def lone(tmp_path):
    made = []

    def make(role, *options):
        made.append(Mover(role, tmp_path, *options))
        return made[-1]
    yield make
    for mover in made:
        mover.close()


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


# --- what must work -----------------------------------------------------------------------------------------------

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


@pytest.mark.parametrize("streams", [1, 4])
@pytest.mark.parametrize("frames", [4000, 300])
@pytest.mark.parametrize("compression", ["lz4", "auto"])
def test_pages_that_come_again_are_told_as_differences(pairs, streams, frames, compression):
    """Byte for byte, with a shadow as large as the machine and with a small one; and cheaper than without."""
    stream = make_rounds()
    pair = pairs(streams=streams, compression=compression, frames=frames).ready()
    move(pair, stream)
    hand_over(pair, stream)
    source, destination = finish(pair, stream)
    assert source["resent_batches"] == destination["resent_batches"] == 0
    if frames == 4000:
        assert source["delta_pages"] > 500 and source["reference_pages"] > 200
    else:
        assert source["delta_pages"] > 50


def test_shadow_comes_before_everything_else(lone):
    mover = lone("source")
    mover.start(os.urandom(32))
    mover.qemu()
    mover.send({"op": "shadow", "frames": 100})
    assert "too late" in mover.wait("error")["message"]


@pytest.mark.parametrize("compression", ["none", "lz4", "zstd:1", "auto"])
@pytest.mark.parametrize("streams", [1, 2, 4])
def test_every_byte_arrives_and_the_handoff_is_in_order(pairs, streams, compression):
    pair = pairs(streams=streams, compression=compression).ready()
    stream = make_stream(seed=streams)
    pusher = push(pair.qemu_source, stream)
    pair.qemu_destination.sendall(PONG)  # the return path flows while the stream does
    assert read_exactly(pair.qemu_source, len(PONG)) == PONG
    assert read_exactly(pair.qemu_destination, len(stream)) == stream
    pusher.join()
    hand_over(pair, stream)
    opaque = pair.source.wait("opaque")
    assert stream[opaque["offset"]:opaque["offset"] + 1] == b"\x04"
    source, _ = finish(pair, stream)
    assert source["pages"] + source["zero_pages"] > 2000 and source["zero_pages"] > 500
    assert source["fill_pages"] > 100 and source["batches"] > 5
    if compression != "none":
        assert source["page_bytes_out"] < source["page_bytes_in"]
    progress = pair.source.got("progress")[-1]
    for key in ("wire_bytes", "wire_rate_bps", "rtt_us", "in_flight_bytes", "window_bytes", "cpu_ms", "rss_bytes"):
        assert key in progress
    if compression == "auto":
        assert sum(source["coded_batches"].values()) == source["batches"] and source["coding"] in CODINGS
        assert set(source["coded_batches"]) <= CODINGS and source["coding_switches"] >= 0
    else:
        assert (source["coding"], source["coding_switches"], source["coded_batches"]) == (compression, 0, {})


def test_a_batch_that_means_earlier_ones_survives_every_change_of_coding(pairs):
    """The link is slow, fast and slow again, so the coding changes; the digests still agree."""
    stream = make_rounds(pages=3000, rounds=6)
    pair = pairs(streams=2, compression="auto", frames=4000).ready()
    pusher = push(pair.qemu_source, stream)
    out = b""
    for rate in (1000000, 0, 2000000, 0):
        pair.source.send({"op": "rate", "bps": rate})
        out += read_exactly(pair.qemu_destination, 4 << 20)
    out += read_exactly(pair.qemu_destination, len(stream) - len(out))
    assert out == stream
    pusher.join()
    hand_over(pair, stream)
    source, _ = finish(pair, stream)
    assert source["delta_pages"] > 500 and source["resent_batches"] == 0
    assert len(source["coded_batches"]) > 1 and source["coding_switches"] > 0


def encoder_seconds(mover):
    """Processor time of all encoders so far."""
    ticks = 0
    for task in pathlib.Path(f"/proc/{mover.process.pid}/task").iterdir():
        name, fields = (task / "stat").read_text().split("(", 1)[1].rsplit(")", 1)
        if name == "encode":
            ticks += sum(int(n) for n in fields.split()[11:13])
    return ticks / os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize("compression", ["zstd:9", "auto"])
@pytest.mark.parametrize("cores", [0.25, 1.25])
def test_coding_leaves_what_max_cpu_does_not_grant(tmp_path, compression, cores):
    """Processor time against the time that passed: however busy this machine is, it can only be less."""
    processors = len(os.sched_getaffinity(0))
    percent = int(100 * cores / processors)
    if percent < 1 or percent >= 100:
        pytest.skip(f"{cores} of {processors} processors can't be told in percent")
    rng = random.Random(8)
    stream = stream_head() + ram_part(["text"] * 3000, rng, 0, b"pc.ram")
    pair = Pair(tmp_path, compression=compression, max_cpu=percent)
    try:
        pair.ready()
        began = time.monotonic()
        move(pair, stream)
        used, elapsed = encoder_seconds(pair.source), time.monotonic() - began
    finally:
        pair.close()
    assert 0 < used <= percent / 100 * processors * elapsed * 1.1 + 0.1, (used, elapsed)


def test_what_is_complete_never_waits_for_the_next_record(pairs):
    """QEMU writes a section's footer with its next section: the page before it must not wait for that."""
    pair = pairs(streams=2).ready()
    rng = random.Random(3)
    stream = stream_head() + ram_part(["text"] * 20, rng, 0, b"pc.ram")
    cut = len(stream) - 13  # before EOS and footer
    pair.qemu_source.sendall(stream[:cut])
    assert read_exactly(pair.qemu_destination, cut, timeout=5) == stream[:cut]
    half = page_record(40, page_content("random", rng))
    pair.qemu_source.sendall(stream[cut:] + b"\x02" + struct.pack(">I", 2) + half[:1000])
    assert read_exactly(pair.qemu_destination, 18, timeout=5) == stream[cut:] + b"\x02" + struct.pack(">I", 2)
    pair.qemu_source.sendall(half[1000:])
    assert read_exactly(pair.qemu_destination, len(half), timeout=5) == half


def test_a_stream_that_is_no_migration_passes_as_it_is(pairs):
    pair = pairs(streams=2).ready()
    stream = random.Random(4).randbytes(3 << 20)
    move(pair, stream)
    assert pair.source.wait("opaque")["offset"] == 0


def test_messages_of_the_return_path_pass_at_once_and_whole(pairs):
    pair = pairs().ready()
    request = bytes.fromhex("0003000f0000000001266000000010000270 63".replace(" ", "")) + b""
    request = struct.pack(">HHQIB", 3, 15, 0x1266000, 0x1000, 2) + b"m0"
    bitmap = struct.pack(">HHB", 5, 3, 2) + b"m0" + struct.pack(">Q", 200000) + bytes(200000) + bytes.fromhex("0123456789abcdef")
    for message in (PONG, request, bitmap):
        pair.qemu_destination.sendall(message)
        assert read_exactly(pair.qemu_source, len(message), timeout=5) == message
    pair.qemu_destination.sendall(request[:7])
    assert_silent(pair.qemu_source)
    pair.qemu_destination.sendall(request[7:])
    assert read_exactly(pair.qemu_source, len(request)) == request


def test_a_failed_load_is_told_with_its_status(pairs):
    pair = pairs().ready()
    stream = make_stream(100)
    move(pair, stream)
    pair.qemu_destination.sendall(struct.pack(">HHI", 1, 4, 7))
    assert pair.destination.wait("shut")["status"] == 7
    assert pair.source.wait("shut")["status"] == 7
    assert_silent(pair.qemu_source)


def test_grant_waits_for_the_end_of_the_stream(pairs):
    pair = pairs(streams=2).ready()
    stream = make_stream(500)
    end = len(stream) - 50  # in the description
    pair.qemu_source.sendall(stream[:end])
    read_exactly(pair.qemu_destination, end)
    pair.source.send({"op": "grant", "epoch": 9})
    pair.qemu_source.sendall(stream[end:])
    read_exactly(pair.qemu_destination, 50)
    grant = pair.destination.wait("grant")
    assert grant["offset"] == len(stream)


def test_grant_waits_until_qemu_has_taken_everything(pairs):
    pair = pairs(streams=2, compression="none").ready()
    stream = make_stream(4000)
    push(pair.qemu_source, stream)
    pair.source.send({"op": "grant", "epoch": 2})
    time.sleep(0.5)  # the destination's QEMU reads nothing
    assert not pair.destination.got("grant")
    assert read_exactly(pair.qemu_destination, len(stream)) == stream
    assert pair.destination.wait("grant")["offset"] == len(stream)


def test_grant_asked_for_too_early_waits_for_device_state(pairs):
    pair = pairs().ready()
    stream = make_stream(300)
    pair.source.send({"op": "grant", "epoch": 3})
    time.sleep(0.3)
    cut = stream.index(b"\x05timer") - 5  # all of RAM, nothing of the devices
    push(pair.qemu_source, stream[:cut])
    read_exactly(pair.qemu_destination, cut)
    time.sleep(0.3)
    assert not pair.destination.got("grant")
    push(pair.qemu_source, stream[cut:])
    read_exactly(pair.qemu_destination, len(stream) - cut)
    assert pair.destination.wait("grant")["offset"] == len(stream)


def test_grant_without_description_follows_after_silence(pairs):
    pair = pairs().ready()
    stream = make_stream(200) + b"machines with suppress-vmdesc end otherwise"
    move(pair, stream)
    pair.source.send({"op": "grant", "epoch": 2})
    assert pair.destination.wait("grant")["offset"] == len(stream)


def test_qemu_closing_is_news_on_either_side(pairs):
    pair = pairs().ready()
    move(pair, make_stream(200))
    pair.qemu_source.close()
    assert pair.source.wait("qemu_closed")["channel"] == "main"
    pair.qemu_destination.close()
    pair.destination.wait("qemu_closed")
    time.sleep(0.3)
    assert not pair.source.got("error") and not pair.destination.got("error")
    assert pair.source.process.poll() is None and pair.destination.process.poll() is None


def test_without_shut_the_end_is_said_and_both_finish_in_order(pairs):
    """A QEMU without return path: nothing but END tells that everything has arrived."""
    pair = pairs(streams=2).ready()
    stream = make_stream(300)
    move(pair, stream)
    pair.qemu_source.close()
    end = pair.source.wait("end")
    assert (end["stream_bytes"], end["tail"]) == (len(stream), True)
    reached = pair.destination.wait("end")
    assert (reached["stream_bytes"], reached["whole"]) == (len(stream), True)
    for mover in (pair.source, pair.destination):
        mover.send({"op": "finish"})
        assert mover.wait("done")["sha256"] == reached["sha256"]
        assert mover.exit_status() == 0 and not mover.got("error")


def test_a_torn_stream_has_no_tail_and_a_qemu_that_left_no_whole(pairs):
    pair = pairs(compression="none").ready()
    stream = make_stream(2000)
    push(pair.qemu_source, stream[:-7]).join(1)
    read_exactly(pair.qemu_destination, 1000)
    pair.qemu_destination.close()
    assert pair.destination.wait("end")["whole"] is False
    pair.qemu_source.close()
    assert pair.source.wait("end")["tail"] is False


def test_a_blocked_migration_still_answers(pairs):
    pair = pairs().ready()
    push(pair.qemu_source, make_stream(20000))
    time.sleep(0.5)  # nobody reads at the destination
    before = len(pair.source.got("progress"))
    time.sleep(0.5)
    assert len(pair.source.got("progress")) >= before + 3
    buffered = pair.source.got("progress")[-1]["stream_bytes"]
    time.sleep(0.3)
    assert pair.source.got("progress")[-1]["stream_bytes"] == buffered  # back-pressure, not growth
    pair.source.send({"op": "finish"})
    pair.source.wait("done")
    assert pair.source.exit_status() == 0


# --- with real QEMUs ----------------------------------------------------------------------------------------------

class Qemu:
    """A machine without a disk: its firmware runs, its RAM moves. (8 KiB more than a round size: see docs.)"""

    def __init__(self, tmp_path, name, *options):
        self.control = tmp_path / f"{name}.qmp"
        self.process = subprocess.Popen(
            ["qemu-system-x86_64", "-machine", "pc,accel=tcg", "-m", "65544K", "-nodefaults", "-display", "none",
             "-no-user-config", "-qmp", f"unix:{self.control},server=on,wait=off", *options], stdin=subprocess.DEVNULL)
        deadline = time.monotonic() + TIMEOUT
        self.sock = socket.socket(socket.AF_UNIX)
        while self.sock.connect_ex(str(self.control)) != 0:
            assert time.monotonic() < deadline and self.process.poll() is None
            time.sleep(0.02)
        self.lines = self.sock.makefile("rw")
        json.loads(self.lines.readline())
        self.run("qmp_capabilities")

    def run(self, command, **arguments):
        self.lines.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self.lines.flush()
        while True:
            answer = json.loads(self.lines.readline())
            assert "error" not in answer, answer
            if "return" in answer:
                return answer["return"]

    def migration(self, *wanted):
        deadline = time.monotonic() + TIMEOUT
        while (status := self.run("query-migrate").get("status")) not in wanted:
            assert time.monotonic() < deadline and status != "failed", status
            time.sleep(0.02)
        return status

    def close(self):
        self.process.kill()
        self.process.wait()
        self.sock.close()


def test_a_real_machine_moves_and_its_source_waits_for_the_decision(pairs, tmp_path):
    if not shutil.which("qemu-system-x86_64"):
        pytest.skip("qemu-system-x86_64 is not installed")
    pair = pairs(streams=2, compression="zstd:1")
    pair.source.wait("ready")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "out.sock"))
    listener.listen(1)
    there = Qemu(tmp_path, "there", "-S", "-incoming", f"unix:{tmp_path / 'in.sock'}")
    here = Qemu(tmp_path, "here")
    try:
        time.sleep(1)  # let the firmware write something
        here.run("migrate-set-capabilities", capabilities=[{"capability": "return-path", "state": True}])
        here.run("migrate", uri=f"unix:{tmp_path / 'out.sock'}")
        ours, _ = listener.accept()
        theirs = socket.socket(socket.AF_UNIX)
        theirs.connect(str(tmp_path / "in.sock"))
        pair.source.send({"op": "qemu", "channel": "main"}, ours.fileno())
        pair.destination.send({"op": "qemu", "channel": "main"}, theirs.fileno())
        shut = pair.source.wait("shut")
        assert shut["equal"] is True and shut["status"] == 0 and shut["stream_bytes"] > 1 << 18
        pair.source.send({"op": "grant", "epoch": 7})
        assert pair.destination.wait("grant")["offset"] == shut["stream_bytes"]
        assert pair.source.wait("opaque")["offset"] < shut["stream_bytes"]
        time.sleep(0.5)
        assert here.run("query-migrate")["status"] != "completed" and not here.run("query-status")["running"]
        assert there.migration("completed") and there.run("query-status")["status"] == "paused"
        pair.source.send({"op": "deliver_shut"})
        assert here.migration("completed")
        there.run("cont")
        assert there.run("query-status")["running"]
    finally:
        here.close()
        there.close()


# --- what must be refused -----------------------------------------------------------------------------------------

def test_wrong_key_is_refused_by_both_sides(pairs):
    pair = pairs(other_key=bytes(32))
    for mover in (pair.source, pair.destination):
        error = mover.wait("error")
        assert error["code"] == "trust", error
        assert error["message"].startswith(f"{mover.role} mover: "), error
        assert mover.exit_status() == 1
        print(error["message"])


@pytest.mark.parametrize("victim", ["source", "destination"])
def test_killed_peer_is_unreachable(pairs, victim):
    pair = pairs(streams=2).ready()
    move(pair, make_stream(200))
    dead, left = (pair.source, pair.destination) if victim == "source" else (pair.destination, pair.source)
    dead.process.kill()
    error = left.wait("error")
    assert error["code"] == "unreachable" and victim in error["message"], error
    assert left.exit_status() == 1


@pytest.mark.parametrize("leaver", ["source", "destination"])
def test_a_peer_that_finishes_early_is_missed(pairs, leaver):
    pair = pairs(streams=2).ready()
    move(pair, make_stream(200))
    gone, left = (pair.source, pair.destination) if leaver == "source" else (pair.destination, pair.source)
    gone.send({"op": "finish"})
    gone.wait("done")
    error = left.wait("error")
    assert error["code"] == "unreachable" and f"the {leaver}'s mover has left" in error["message"], error
    assert left.exit_status() == 1


class Proxy:
    """Carries a TCP connection, and alters one byte of what the source sends."""

    def __init__(self, at):
        self.at = at

    def pair(self):
        a, near = tcp_pair()
        far, b = tcp_pair()
        for one, other, at in ((near, far, self.at), (far, near, None)):
            threading.Thread(target=self.pump, args=(one, other, at), daemon=True).start()
        return a, b

    @staticmethod
    def pump(one, other, at):
        passed = 0
        try:
            while data := bytearray(one.recv(65536)):
                if at is not None and passed <= at < passed + len(data):
                    data[at - passed] ^= 0x10
                passed += len(data)
                other.sendall(data)
            other.shutdown(socket.SHUT_WR)
        except OSError:
            pass


def test_an_altered_byte_on_the_way_never_reaches_qemu(pairs):
    pair = pairs(connect=Proxy(500000).pair).ready()
    stream = make_stream(3000)
    push(pair.qemu_source, stream)
    got = bytearray()
    pair.qemu_destination.settimeout(TIMEOUT)
    while piece := pair.qemu_destination.recv(1 << 20):
        got += piece
    assert len(got) < len(stream) and stream.startswith(bytes(got))
    error = pair.destination.wait("error")
    assert error["code"] in ("corrupt", "protocol", "trust"), error
    print(error["message"])
    assert pair.destination.exit_status() == 1
    assert pair.source.wait("error")["message"]
    assert pair.source.exit_status() == 1


@pytest.mark.parametrize("role", ["source", "destination"])
@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", bytes(100), b"\x16\x03\x01\xff\xff" + b"x" * 2000, b""])
def test_a_stranger_on_the_connection_is_refused(lone, role, data):
    mover = lone(role)
    mover.start(os.urandom(32))
    ours, theirs = tcp_pair()
    mover.conn(0, theirs)
    ours.sendall(data)
    ours.shutdown(socket.SHUT_WR)
    error = mover.wait("error")
    assert error["code"] in ("protocol", "trust", "unreachable", "io", "corrupt"), error
    print(error["message"])
    assert mover.exit_status() == 1


def test_an_unknown_message_on_the_return_path_ends_the_attempt(pairs):
    """Behind it nobody knows where SHUT is."""
    pair = pairs().ready()
    pair.qemu_destination.sendall(struct.pack(">HHI", 99, 4, 0))
    assert pair.destination.wait("error")["code"] == "protocol"
    error = pair.source.wait("error")
    assert error["message"].startswith("destination mover: "), error
    assert pair.source.exit_status() == pair.destination.exit_status() == 1


# --- novacrond ----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("when", ["before start", "after start", "while blocked"])
def test_it_exits_when_novacrond_goes_away(lone, pairs, when):
    if when == "while blocked":
        pair = pairs().ready()
        push(pair.qemu_source, make_stream(20000))
        time.sleep(0.3)
        mover = pair.source
    else:
        mover = lone("source")
        if when == "after start":
            mover.start(os.urandom(32))
    mover.control.shutdown(socket.SHUT_RDWR)
    assert mover.exit_status(10) == 1


@pytest.mark.parametrize("message", [
    {"op": "qemu", "channel": "main"},
    {"op": "start", "role": "bystander", "migration": "m", "psk": "00" * 32, "streams": 1, "compression": "lz4"},
    {"op": "start", "role": "source", "migration": "m", "psk": "00" * 31, "streams": 1, "compression": "lz4"},
    {"op": "start", "role": "source", "migration": "m", "psk": "00" * 32, "streams": 0, "compression": "lz4"},
    {"op": "start", "role": "source", "migration": "m", "psk": "00" * 32, "streams": 17, "compression": "lz4"},
    {"op": "start", "role": "source", "migration": "m", "psk": "00" * 32, "streams": 1, "compression": "rar"},
    {"op": "start", "role": "source", "migration": "../m", "psk": "00" * 32, "streams": 1, "compression": "lz4"},
    {"op": "dance"}, {},
])
def test_nonsense_from_novacrond_is_refused(lone, message):
    mover = lone("source")
    mover.send(message)
    assert mover.wait("error")["code"] in ("protocol", "invalid")
    assert mover.exit_status() == 1


@pytest.mark.parametrize("message", [{"op": "conn", "index": 2}, {"op": "conn", "index": 0}, {"op": "grant", "epoch": 1},
                                     {"op": "qemu", "channel": "main"}, {"op": "qemu", "channel": "side"}])
def test_operations_out_of_place_are_refused(lone, message):
    mover = lone("destination")
    mover.start(os.urandom(32), streams=2)
    mover.send(message)
    assert mover.wait("error")["code"] == "protocol"
    assert mover.exit_status() == 1


def test_help_and_version_say_what_it_is():
    text = subprocess.run([MOVER, "--help"], capture_output=True, text=True, check=True).stdout
    assert "novacrond starts it" in text
    assert subprocess.run([MOVER, "--version"], capture_output=True, text=True, check=True).stdout.startswith("novacron-mover ")
    assert subprocess.run([MOVER, "--dance"], capture_output=True).returncode == 2


def test_the_sandbox_is_on(lone):
    if b"tsan_init" in MOVER.read_bytes() or b"asan_init" in MOVER.read_bytes():
        pytest.skip("a sanitizer's runtime can't live in the sandbox")
    options = ("--uid", "65534", "--gid", "65534") if os.geteuid() == 0 else ()
    mover = lone("source", *options)
    mover.start(os.urandom(32))
    mover.wait("progress")
    status = dict(line.split(":\t", 1) for line in
                  pathlib.Path(f"/proc/{mover.process.pid}/status").read_text().splitlines() if ":\t" in line)
    assert status["Seccomp"] == "2" and status["NoNewPrivs"] == "1"
    assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == 0
    if options:
        assert status["Uid"].split() == ["65534"] * 4 and status["Groups"].split() == []
        fds = {os.readlink(f"/proc/{mover.process.pid}/fd/{fd}").split(":")[0]
               for fd in os.listdir(f"/proc/{mover.process.pid}/fd")}
        assert not {f for f in fds if f.startswith("/")} - {"/dev/null", str(mover.log_path)} - {
            f"/proc/{mover.process.pid}/statm"}, fds


# --- how fast -----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("compression,streams", [("lz4", 1), ("lz4", 2), ("zstd:1", 2), ("none", 2)])
def test_throughput(pairs, compression, streams):
    """Prints MB/s of QEMU's stream, both movers and this test on one machine."""
    total = int(os.environ.get("NC_MOVER_BENCH_MB", "64")) << 20
    rng = random.Random(5)
    kinds = rng.choices(["zero", "fill", "text", "random"], [2, 1, 7, 1], k=4096)
    part = ram_part(kinds, rng)
    pair = pairs(streams=streams, compression=compression).ready()
    head = stream_head() + ram_part(["text"], rng, 0, b"pc.ram")
    times = max(1, total // len(part))
    began = time.monotonic()

    def feed():
        pair.qemu_source.sendall(head)
        for _ in range(times):
            pair.qemu_source.sendall(part)
    threading.Thread(target=feed, daemon=True).start()
    left = len(head) + times * len(part)
    buffer = bytearray(1 << 20)
    pair.qemu_destination.settimeout(TIMEOUT)
    while left > 0:
        n = pair.qemu_destination.recv_into(buffer)
        assert n > 0, pair.destination.tail()
        left -= n
    seconds = time.monotonic() - began
    time.sleep(0.1)
    s, d = pair.source.got("progress")[-1], pair.destination.got("progress")[-1]
    print(f"\n{compression} x {streams}: {times * len(part) / seconds / 1e6:.0f} MB/s, ratio "
          f"{s['stream_bytes'] / max(1, s['wire_bytes']):.2f}, source {s['cpu_ms']} ms, destination {d['cpu_ms']} ms of "
          f"{seconds * 1000:.0f} ms, rss {s['rss_bytes'] >> 20}/{d['rss_bytes'] >> 20} MiB, rtt {s['rtt_us']} us, "
          f"window {s['window_bytes'] >> 10} KiB")
