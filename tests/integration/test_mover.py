# SPDX-License-Identifier: Apache-2.0
"""Two movers, a TCP connection, and this test as QEMU and novacrond on both sides.

Promises under test: every byte arrives, in order, whatever the codec and the
number of connections; both digests are those of the bytes; SHUT waits for the
decision, GRANT for the last byte; whoever lacks the key or breaks the rules
ends the attempt with an error that names cause and side, and
nothing unverified reaches QEMU. Lost connections: test_resume.py.

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
from nctest.movers import *

CODINGS = {"none", "lz4", *(f"zstd:{level}" for level in (-5, -3, -1, 1, 3, 5, 7, 9))}

pytestmark = pytest.mark.skipif(not MOVER.exists(), reason=f"{MOVER} is not built")


# --- what must work -----------------------------------------------------------------------------------------------

@pytest.mark.parametrize("streams", [1, 4])
@pytest.mark.parametrize("frames", [4000, 300])
@pytest.mark.parametrize("compression", ["lz4", "auto"])
def test_pages_that_come_again_are_told_as_differences(pairs, streams, frames, compression):
    """Byte for byte, with a shadow as large as the machine and with a small one; and cheaper than without.

    auto keeps pages while it thinks compression worth its time, which here, where no link limits, depends on the
    machine: of what it finds nothing is promised.
    """
    stream = make_rounds()
    pair = pairs(streams=streams, compression=compression, frames=frames).ready()
    move(pair, stream)
    hand_over(pair, stream)
    source, destination = finish(pair, stream)
    assert source["resent_batches"] == destination["resent_batches"] == 0
    if compression == "auto":
        return
    if frames == 4000:
        assert source["delta_pages"] > 500 and source["reference_pages"] > 200
    else:
        assert source["delta_pages"] > 50


def first_round(stream, pages=1500):
    """The pages of make_rounds() as they are sent first."""
    at, out = stream.index(b"pc.ram", stream.index(b"pc.ram") + 1) + 6, []
    for i in range(pages):
        out.append(stream[at:at + PAGE])
        at += PAGE + 8
    return out


@pytest.mark.parametrize("frames", [4000, 300])
@pytest.mark.parametrize("cut", [False, True])
def test_pages_go_ahead_of_the_stream(pairs, frames, cut):
    """What came by the pipe before QEMU did is a reference when QEMU sends it, or a difference; connections may be lost meanwhile."""
    rng, cables = random.Random(8), []
    stream = make_rounds()

    def connect():
        cables.append(Cable(cut_after=150_000 if cut and len(cables) < 6 else None))
        return cables[-1].pair()
    pair = pairs(frames=frames, connect=connect).follow()
    ours, theirs = os.pipe()
    pair.source.send({"op": "ahead"}, ours)
    os.close(ours)
    with open(theirs, "wb", buffering=0) as pipe:
        for page in first_round(stream):
            if rng.random() < 0.1:  # the guest will have written to it
                page = page[:100] + bytes([page[100] ^ 0xff]) + page[101:]
            try:
                pipe.write(page)
            except BrokenPipeError:
                assert frames == 300  # it has taken what it has room for
                break
    pair.ready()
    move(pair, stream)
    hand_over(pair, stream)
    source, destination = finish(pair, stream)
    assert (250 if frames == 300 else 1000) < source["ahead_pages"] <= frames
    if frames == 4000:
        assert source["reference_pages"] > 900 and source["delta_pages"] > 500
        plain = pairs(frames=frames).ready()
        move(plain, stream)
        hand_over(plain, stream)
        assert next(finish(plain, stream))["reference_pages"] < source["reference_pages"] - 600
    assert not cut or source["reconnects"] > 0


@pytest.mark.parametrize("frames", [0, 100])
def test_pages_ahead_need_a_pipe_and_a_shadow_and_come_once(pairs, frames):
    pair = pairs(frames=frames)
    ours, theirs = os.pipe()
    for _ in range(2):
        pair.source.send({"op": "ahead"}, ours)
    assert ("twice" if frames else "nothing is kept") in pair.source.wait("error")["message"]
    other = pairs(frames=100)
    other.source.send({"op": "ahead"})
    assert "no pipe" in other.source.wait("error")["message"]
    os.close(ours)
    os.close(theirs)


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
    coded = {codec: sum(source[f"{section}_{codec}_bytes"] for section in ("whole", "operations")) for codec in ("none", "lz4", "zstd")}
    # Frames, headers of batches, pings and records of TLS's handshake are the rest.
    assert 0.95 * source["wire_bytes"] - 100000 < sum(coded.values()) < source["wire_bytes"], (coded, source["wire_bytes"])
    if compression != "auto":
        assert {codec for codec, n in coded.items() if n > 0 and codec != "none"} == {compression.split(":")[0]} - {"none"}
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


@pytest.mark.skipif(MOVER.exists() and is_sanitized(), reason="a sanitizer has memory of its own")
@pytest.mark.parametrize("streams", [1, 8])
def test_memory_stays_within_the_shadow_and_128_mib(pairs, streams):
    """All of the shadow in use, 8 connections' buffers, and a destination's QEMU that reads in fits and starts."""
    frames = 20000
    pair = pairs(streams=streams, compression="none", frames=frames, data_limit=frames * PAGE + (128 << 20)).ready()
    rng = random.Random(7)
    pages = [page_content("random", rng) for _ in range(2000)]
    head = stream_head() + bytes([2]) + struct.pack(">I", 2)
    body = b"".join(page_record(i, pages[i], b"pc.ram" if i == 0 else None) for i in range(2000))
    again = b"".join(page_record(i, pages[i]) for i in range(2000))
    new = b"".join(page_record(2000 + i, rng.randbytes(PAGE)) for i in range(25000))
    stream = head + body + new + again * 10
    push(pair.qemu_source, stream)
    pair.qemu_destination.settimeout(TIMEOUT)
    got = 0
    while got < len(stream):
        got += len(pair.qemu_destination.recv(1 << 20))
        if rng.random() < 0.01:
            time.sleep(0.2)
    for mover in (pair.source, pair.destination):
        assert mover.process.poll() is None and not mover.got("error"), mover.tail()
        print(mover.role, mover.got("progress")[-1]["rss_bytes"] >> 20, "MiB resident,", frames * PAGE >> 20, "of shadow")


# --- what must be refused -----------------------------------------------------------------------------------------

def test_wrong_key_is_refused_by_both_sides(pairs):
    """The source has nobody else to turn to; the destination waits for whoever has the key."""
    pair = pairs(other_key=bytes(32))
    error = pair.source.wait("error")
    assert error["code"] == "trust" and error["message"].startswith("source mover: "), error
    assert pair.source.exit_status() == 1
    refused = pair.destination.wait("refused")
    assert refused["code"] == "trust" and refused["index"] == 0, refused
    assert pair.destination.process.poll() is None and not pair.destination.got("error")


@pytest.mark.parametrize("victim", ["source", "destination"])
def test_a_killed_peer_is_told_and_waited_for(pairs, victim):
    """For how long is novacrond's decision; see test_resume.py for what comes then."""
    pair = pairs(streams=2).ready()
    move(pair, make_stream(200))
    dead, left = (pair.source, pair.destination) if victim == "source" else (pair.destination, pair.source)
    dead.process.kill()
    lost = [left.wait("lost", number=i) for i in (1, 2)]
    assert {e["index"] for e in lost} == {0, 1} and {e["up"] for e in lost} == {0, 1}, lost
    assert all(e["code"] in ("unreachable", "io") for e in lost), lost
    assert left.process.poll() is None and not left.got("error")


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


@pytest.mark.parametrize("role", ["source", "destination"])
@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", bytes(100), b"\x16\x03\x01\xff\xff" + b"x" * 2000, b""])
def test_a_stranger_on_the_connection_is_refused(lone, role, data):
    mover = lone(role)
    mover.start(os.urandom(32))
    ours, theirs = tcp_pair()
    mover.conn(0, theirs)
    ours.sendall(data)
    ours.shutdown(socket.SHUT_WR)
    fatal = role == "source" and data != b""  # a path may fail at any time, and anybody may connect to a destination
    problem = mover.wait("error" if fatal else "refused")
    assert problem["code"] in ("protocol", "trust", "unreachable", "io", "corrupt"), problem
    if fatal:
        assert mover.exit_status() == 1
    else:
        assert mover.process.poll() is None


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
