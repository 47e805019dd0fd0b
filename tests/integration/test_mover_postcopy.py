# SPDX-License-Identifier: Apache-2.0
"""Two movers and a stream of post-copy; the test is QEMU and novacrond on both sides.

Promises under test: the run right arrives right behind the package, while the stream goes on; every
byte arrives on each channel, also when connections are lost, and the digests agree at the end.

    NC_BUILD=build /usr/bin/python3 -m pytest tests/integration/test_mover_postcopy.py
"""
import os
import socket
import struct
import threading
import time

import pytest
from nctest.movers import *

pytestmark = pytest.mark.skipif(not MOVER.exists(), reason=f"{MOVER} is not built")


def pong(value):
    return struct.pack(">HHI", 2, 4, value)


def read_message(sock):
    head = read_exactly(sock, 4)
    return head + read_exactly(sock, struct.unpack(">HH", head)[1])


def end(pair, stream):
    """The destination's QEMU has all: SHUT passes, and both movers agree on what that was."""
    pair.qemu_destination.sendall(SHUT)
    shut = pair.source.wait("shut")
    assert shut["equal"] is True and shut["stream_bytes"] == shut["peer_stream_bytes"] == len(stream)
    assert pair.destination.wait("shut")["sha256"] == shut["sha256"]
    pair.source.send({"op": "deliver_shut"})
    while (message := read_message(pair.qemu_source)) != SHUT:
        assert message[1] == 3  # hot pages were asked for
    return list(finish(pair, stream))


@pytest.mark.parametrize("streams", [1, 4])
@pytest.mark.parametrize("asked_first", [True, False])
def test_the_run_right_follows_the_package_and_the_stream_goes_on(pairs, streams, asked_first):
    recorded = Postcopy()
    stream, cut = recorded.data, recorded.package_end
    pair = pairs(streams=streams, frames=4000).ready()
    if asked_first:
        pair.source.send({"op": "grant", "epoch": 7})
    pair.qemu_source.sendall(stream[:cut - 1])
    assert read_exactly(pair.qemu_destination, cut - 1, timeout=5) == stream[:cut - 1]
    time.sleep(0.3)  # longer than the silence that precopy's grant waits for
    assert not pair.destination.got("grant") and not pair.source.got("postcopy")
    pair.qemu_source.sendall(stream[cut - 1:cut])
    assert pair.source.wait("postcopy")["offset"] == cut
    if not asked_first:
        assert read_exactly(pair.qemu_destination, 1, timeout=5) == stream[cut - 1:cut]
        assert not pair.destination.got("grant")
        pair.source.send({"op": "grant", "epoch": 7})
    grant = pair.destination.wait("grant", timeout=5)
    assert (grant["epoch"], grant["offset"]) == (7, cut)
    pair.qemu_source.sendall(stream[cut:])
    assert read_exactly(pair.qemu_destination, len(stream) - cut + asked_first)[asked_first:] == stream[cut:]
    pair.qemu_source.shutdown(socket.SHUT_WR)
    assert pair.source.wait("end")["tail"] is True
    assert pair.destination.wait("end")["whole"] is True
    assert not pair.source.got("opaque")
    end(pair, stream)


@pytest.mark.parametrize("streams", [1, 4])
def test_the_run_right_does_not_wait_for_silence(pairs, streams):
    """Pages flow without a pause, and the destination's QEMU reads no more than it must."""
    recorded = Postcopy(pages=9000, rounds=1)
    stream, cut = recorded.data, recorded.package_end
    pair = pairs(streams=streams, compression="none").ready()
    pair.source.send({"op": "grant", "epoch": 3})
    pusher = push(pair.qemu_source, stream)
    got = read_exactly(pair.qemu_destination, cut)
    for _ in range(40):  # up to the batch that the package ends in, and what was read with it
        if pair.destination.got("grant"):
            break
        got += read_exactly(pair.qemu_destination, 32768)
        time.sleep(0.02)
    grant = pair.destination.wait("grant", timeout=5)
    assert cut <= grant["offset"] < cut + (1 << 20) and grant["offset"] < len(stream) - (1 << 20)
    got += read_exactly(pair.qemu_destination, len(stream) - len(got))
    assert got == stream
    pusher.join()
    end(pair, stream)


def test_what_is_complete_leaves_at_once_in_postcopy(pairs):
    """Page by page, each written when the one before has arrived; and nothing is held for the next."""
    recorded = Postcopy(pages=300)
    stream, cut = recorded.data, recorded.package_end
    pair = pairs().ready()
    move(pair, stream[:cut])
    pair.source.wait("postcopy")
    before = pair.source.wait("progress")["batches"]
    for at in range(cut, len(stream), 5000):
        pair.qemu_source.sendall(stream[at:at + 5000])
    assert read_exactly(pair.qemu_destination, len(stream) - cut) == stream[cut:]
    end(pair, stream)
    assert pair.source.got("done")[0]["batches"] > before


def test_batches_are_small_in_postcopy(pairs):
    recorded = Postcopy(pages=9000, rounds=1)
    cut = recorded.package_end
    pair = pairs(compression="none").ready()
    move(pair, recorded.data[:cut])
    pair.source.wait("postcopy")
    before = pair.source.wait("progress", number=len(pair.source.got("progress")) + 1)["batches"]
    pusher = push(pair.qemu_source, recorded.data[cut:])
    assert read_exactly(pair.qemu_destination, len(recorded.data) - cut) == recorded.data[cut:]
    pusher.join()
    done = end(pair, recorded.data)[0]
    assert (len(recorded.data) - cut) / (done["batches"] - before) < 68000


def test_pongs_are_told(pairs):
    pair = pairs().ready()
    for value in (1, 2, 4, 3):
        pair.qemu_destination.sendall(pong(value))
        assert read_exactly(pair.qemu_source, 8, timeout=5) == pong(value)
    pair.destination.wait("pong", number=4)
    assert [e["value"] for e in pair.destination.got("pong")] == [1, 2, 4, 3]
    assert not pair.source.got("pong")
    for value in range(1000):  # more than any QEMU says: passed on, not told
        pair.qemu_destination.sendall(pong(value))
    assert read_exactly(pair.qemu_source, 8000) == b"".join(map(pong, range(1000)))
    assert len(pair.destination.got("pong")) < 50


@pytest.mark.parametrize("streams", [1, 3])
def test_resets_after_the_package(pairs, streams):
    """Connections die again and again while the run right and the pages behind it are under way."""
    recorded = Postcopy(pages=6000, rounds=2)
    made = []

    def connect():
        made.append(Cable(cut_after=100_000 + 50_000 * len(made) if len(made) < 25 else None))
        return made[-1].pair()
    pair = pairs(streams=streams, compression="none", connect=connect).follow().ready()
    pair.source.send({"op": "grant", "epoch": 7})
    pusher = push(pair.qemu_source, recorded.data)
    assert read_exactly(pair.qemu_destination, len(recorded.data)) == recorded.data
    pusher.join()
    assert recorded.package_end <= pair.destination.wait("grant")["offset"] <= len(recorded.data)
    assert len(made) > 5
    end(pair, recorded.data)


# --- the preempt channel ------------------------------------------------------------------------------------------

@pytest.mark.parametrize("streams", [1, 3])
@pytest.mark.parametrize("compression", ["none", "zstd:1"])
def test_both_channels_arrive(pairs, streams, compression):
    recorded = Postcopy(pages=3000, preempt=True)
    stream, cut = recorded.data, recorded.package_end
    pair = pairs(streams=streams, compression=compression, frames=4000).ready()
    urgent_in, urgent_out = pair.preempt()
    pair.source.send({"op": "grant", "epoch": 7})
    move(pair, stream[:cut])
    assert pair.destination.wait("grant", timeout=5)["offset"] == cut
    pusher, other = push(pair.qemu_source, stream[cut:]), push(urgent_in, recorded.preempt)
    assert read_exactly(urgent_out, len(recorded.preempt)) == recorded.preempt
    assert read_exactly(pair.qemu_destination, len(stream) - cut) == stream[cut:]
    pusher.join()
    other.join()
    source, destination = end(pair, stream)
    assert source["preempt_sha256"] == destination["preempt_sha256"] != "0" * 64
    assert source["preempt_bytes"] == destination["preempt_bytes"] == len(recorded.preempt)


def test_a_page_on_the_preempt_channel_overtakes_what_waits(pairs):
    """The link carries 1 MB/s; behind several of them a page would be seconds late."""
    recorded = Postcopy(pages=4000, rounds=0, preempt=True)
    cut = recorded.package_end
    pair = pairs(compression="none").ready()
    urgent_in, urgent_out = pair.preempt()
    move(pair, recorded.data[:cut])
    pair.source.wait("postcopy")
    pair.source.send({"op": "rate", "bps": 1_000_000})
    push(pair.qemu_source, recorded.data[cut:])
    time.sleep(0.5)
    page = page_record(1, bytes(range(256)) * 16, b"pc.ram")
    worst = 0
    for _ in range(10):
        began = time.monotonic()
        urgent_in.sendall(page)
        assert read_exactly(urgent_out, len(page)) == page
        worst = max(worst, time.monotonic() - began)
    assert worst < 0.5, worst


def test_the_end_waits_for_the_pages_of_the_other_channel(pairs):
    """All connections are gone when QEMU writes its last page and its end: the end does not come first."""
    recorded = Postcopy(pages=1500, preempt=True)
    stream, tail = recorded.data, 5 + 8 + 5 + 1  # END, its EOS and footer, EOF
    assert len(recorded.preempt) > 300_000
    made = []

    def connect():
        made.append(Cable())
        return made[-1].pair()
    pair = pairs(streams=2, connect=connect).ready()
    urgent_in, urgent_out = pair.preempt()
    move(pair, stream[:-tail])
    pair.source.wait("postcopy")
    for cable in made[:]:
        cable.cut()
    pair.source.wait("lost", number=2)
    pusher = push(urgent_in, recorded.preempt)
    time.sleep(0.2)
    pair.qemu_source.sendall(stream[-tail:])
    time.sleep(0.2)
    pair.reconnect(0)
    pair.reconnect(1)
    assert_silent(pair.qemu_destination, 1)  # QEMU does not read the other channel yet, and its buffer does not hold all of it
    assert read_exactly(urgent_out, len(recorded.preempt)) == recorded.preempt
    pusher.join()
    assert read_exactly(pair.qemu_destination, tail, timeout=5) == stream[-tail:]
    end(pair, stream)


@pytest.mark.parametrize("streams", [1, 3])
def test_resets_under_both_channels(pairs, streams):
    recorded = Postcopy(pages=6000, preempt=True)
    made = []

    def connect():
        made.append(Cable(cut_after=100_000 + 30_000 * len(made) if len(made) < 25 else None))
        return made[-1].pair()
    pair = pairs(streams=streams, compression="none", connect=connect).follow().ready()
    urgent_in, urgent_out = pair.preempt()
    push(pair.qemu_source, recorded.data)
    read = []
    reader = threading.Thread(target=lambda: read.append(read_exactly(urgent_out, len(recorded.preempt))), daemon=True)
    reader.start()
    push(urgent_in, recorded.preempt)
    assert read_exactly(pair.qemu_destination, len(recorded.data)) == recorded.data
    reader.join(TIMEOUT)
    assert read == [recorded.preempt]
    assert len(made) > 5
    end(pair, recorded.data)


def test_a_preempt_channel_that_closes_is_no_news(pairs):
    recorded = Postcopy(pages=400, preempt=True)
    pair = pairs().ready()
    urgent_in, urgent_out = pair.preempt()
    urgent_in.sendall(recorded.preempt[:5000])  # ends within a record
    urgent_in.close()
    assert read_exactly(urgent_out, 5000) == recorded.preempt[:5000]
    assert_silent(urgent_out)
    move(pair, recorded.data)  # its end waits for nobody
    urgent_out.close()
    end(pair, recorded.data)


def test_a_destination_that_takes_no_more_on_the_preempt_channel_is_no_news(pairs):
    recorded = Postcopy(pages=3000, preempt=True)
    pair = pairs().ready()
    urgent_in, urgent_out = pair.preempt()
    urgent_out.close()
    push(urgent_in, recorded.preempt)
    move(pair, recorded.data)
    end(pair, recorded.data)


@pytest.mark.parametrize("channel", ["preempt", "multifd", "main"])
def test_channels_that_nobody_has(lone, channel):
    mover = lone("source")
    mover.start(os.urandom(32))
    mover.qemu(channel)
    if channel != "multifd":
        mover.qemu(channel)
    assert channel in mover.wait("error")["message"]


# --- hot pages ----------------------------------------------------------------------------------------------------

def request(page, block=b"pc.ram", pages=1):
    """A page request, named or not."""
    fixed = struct.pack(">QI", page * PAGE, pages * PAGE)
    if block is None:
        return struct.pack(">HH", 4, 12) + fixed
    return struct.pack(">HH", 3, 13 + len(block)) + fixed + bytes([len(block)]) + block


class AskedQemu:
    """The source's QEMU behind the package: it reads requests as QEMU 7.2 does, and is as easily killed by them.

    It sends what it is asked for on ${channel}; `asked`: the pages, in order.
    """

    def __init__(self, back, channel, recorded):
        self.back, self.channel, self.recorded = back, channel, recorded
        self.dirty, self.asked, self.error, self.sent = dict(recorded.heat), [], None, []
        self.named = self.first = None
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        try:
            while head := self.back.recv(4, socket.MSG_WAITALL):
                self._message(*struct.unpack(">HH", head))
        except (AssertionError, struct.error) as error:
            self.error = error
        except OSError:
            pass

    def _message(self, kind, length):
        body = read_exactly(self.back, length)
        self.back.settimeout(None)
        if kind in (1, 2):
            return
        assert kind in (3, 4), kind
        offset, size = struct.unpack(">QI", body[:12])
        if kind == 3:
            self.named = body[13:]
            assert body[12] == len(self.named)
        assert self.named == b"pc.ram" and offset % PAGE == size % PAGE == 0 < size
        assert offset + size <= self.recorded.pages * PAGE
        for page in range(offset // PAGE, (offset + size) // PAGE):
            self.asked.append(page)
            if self.dirty.pop(page, None) is not None:
                record = page_record(page, bytes([page % 255 + 1]) * PAGE, None if self.first else b"pc.ram")
                self.first = True
                self.sent.append(record)
                self.channel.sendall(record)


@pytest.mark.parametrize("preempt", [True, False])
def test_hot_pages_are_asked_for_hottest_first(pairs, preempt):
    recorded = Postcopy(pages=1500, rounds=6)
    cut = recorded.package_end
    pair = pairs(streams=2, frames=4000).ready()
    ends = pair.preempt()
    came_in, goes_out = ends if preempt else (pair.qemu_source, pair.qemu_destination)
    move(pair, recorded.data[:cut])
    pair.source.wait("postcopy")
    part = b"" if preempt else b"\x02" + struct.pack(">I", 2)
    if part:
        move(pair, part)
    assert_silent(pair.qemu_source)  # the machine has not been released
    qemu = AskedQemu(pair.qemu_source, came_in, recorded)
    pair.source.send({"op": "grant", "epoch": 7})
    pair.destination.wait("grant")
    goes_out.settimeout(TIMEOUT)
    got = b""
    while qemu.dirty or len(got) < sum(map(len, qemu.sent)):
        got += goes_out.recv(1 << 20)
        assert not qemu.error, qemu.error
    assert got == b"".join(qemu.sent)
    assert sorted(qemu.asked) == sorted(recorded.heat)  # each once, and nothing else
    heats = [recorded.heat[page] for page in qemu.asked]
    assert heats[0] == max(heats) and all(a >= b for a, b in zip(heats, heats[1:]))
    progress = pair.source.wait("progress", number=len(pair.source.got("progress")) + 2)
    assert progress["hot_asked"] == progress["hot_pages"] == len(recorded.heat)
    assert "hot_asked" in pair.destination.got("progress")[-1]


def test_few_hot_pages_are_asked_for_at_a_time(pairs):
    """QEMU answers nothing: 16 pages, and others only when these have been waited for."""
    recorded = Postcopy(pages=1500, rounds=2)
    pair = pairs().ready()
    move(pair, recorded.data[:recorded.package_end])
    pair.source.send({"op": "grant", "epoch": 7})
    pair.destination.wait("grant")
    time.sleep(0.1)
    pair.qemu_source.settimeout(1)
    first = pair.qemu_source.recv(100_000)
    pages, at = 0, 0
    while at < len(first):
        kind, length = struct.unpack(">HH", first[at:at + 4])
        assert (kind, length) == (3, 19)
        pages += struct.unpack(">QI", first[at + 4:at + 16])[1] // PAGE
        at += 4 + length
    assert pages == 16 and at == len(first)
    assert len(pair.qemu_source.recv(100_000)) > 0  # a while later


def test_the_destination_is_understood_among_our_requests(pairs):
    """Its requests without a name mean its own last block, whatever was asked for meanwhile."""
    recorded = Postcopy(pages=1500, rounds=2)
    pair = pairs().ready()
    urgent_in, urgent_out = pair.preempt()
    pair.qemu_destination.sendall(request(3, b"vga.vram") + request(4, None))
    named = request(3, b"vga.vram") + request(4, b"vga.vram")
    assert read_exactly(pair.qemu_source, len(named)) == named
    move(pair, recorded.data[:recorded.package_end])
    pair.source.send({"op": "grant", "epoch": 7})
    heard = [read_message(pair.qemu_source)]
    assert b"pc.ram" in heard[0]
    pair.qemu_destination.sendall(request(5, None) + request(6, b"pc.bios") + request(7, None))
    wanted = [request(5, b"vga.vram"), request(6, b"pc.bios"), request(7, b"pc.bios")]
    while len([m for m in heard if b"pc.ram" not in m]) < 3:
        heard.append(read_message(pair.qemu_source))
    assert [m for m in heard if b"pc.ram" not in m] == wanted


def test_nothing_is_asked_for_behind_shut_or_in_precopy(pairs):
    pair = pairs().ready()
    stream = make_stream(500)
    move(pair, stream)
    hand_over(pair, stream)  # which looks at every byte that QEMU gets
    assert_silent(pair.qemu_source)
    assert pair.source.wait("progress")["hot_asked"] == 0


def test_a_recovery_is_never_asked(pairs):
    """It begins with a command: what is in which block nobody here knows."""
    recorded = Postcopy(pages=300)
    stream = command(10, b"\x06pc.ram") + command(9) + recorded.data[recorded.package_end + 9:]
    pair = pairs().ready()
    pair.source.send({"op": "grant", "epoch": 7})
    move(pair, stream)
    pair.qemu_destination.sendall(request(1) + request(2, None))
    named = request(1) + request(2)
    assert read_exactly(pair.qemu_source, len(named)) == named
    assert_silent(pair.qemu_source, 0.5)
    assert not pair.source.got("opaque") and not pair.source.got("postcopy")
