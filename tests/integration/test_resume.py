# SPDX-License-Identifier: Apache-2.0
"""Movers whose connections are lost.

Promises under test: any or all of them may go, at any byte, in any phase, and be replaced
while they live; the bytes that come out are those that went in, in both directions;
what was in flight is sent again and no more; strangers with a prefix and no key disturb nobody.
The test plays novacrond, which hears `lost` and makes another connection.
"""
import os
import random
import socket
import threading
import time

import pytest
from nctest.movers import *

pytestmark = pytest.mark.skipif(not MOVER.exists(), reason=f"{MOVER} is not built")


def drain(sock):
    """Collects what comes until the other end closes."""
    got = bytearray()

    def run():
        try:
            while piece := sock.recv(1 << 20):
                got.extend(piece)
        except OSError:
            pass
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return got


def wait_length(got, length):
    deadline = time.monotonic() + TIMEOUT
    while len(got) < length and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(got) == length


class Cables:
    """Makes each connection by ${choose}(number), a Cable's keywords."""

    def __init__(self, choose):
        self.choose, self.made = choose, []

    def __call__(self):
        cable = Cable(**self.choose(len(self.made)))
        self.made.append(cable)
        return cable.pair()

    def cut_all(self):
        for cable in self.made:
            cable.cut()


def check_resent(pair, resets):
    """Not more than the window for each connection that was lost."""
    progress = pair.source.got("progress")
    window = max(e["window_bytes"] for e in progress)
    assert progress[-1]["resent_bytes"] <= (resets + 1) * (window + (1 << 20)), (progress[-1], window, resets)


@pytest.mark.parametrize("streams,compression,frames", [(1, "none", 0), (1, "lz4", 4000), (3, "zstd:1", 0), (3, "lz4", 4000)])
def test_twenty_resets_of_all_connections(pairs, streams, compression, frames):
    """Each connection is reset by the byte it has carried, twenty times in all and more, at places that a seed chooses."""
    rng = random.Random(streams)
    stream = make_rounds(pages=4000, rounds=6) if frames else make_stream(16000)
    cables = Cables(lambda n: {"cut_after": rng.randrange(30_000, 400_000 // streams) if n < 21 * streams else None})
    pair = pairs(streams=streams, compression=compression, frames=frames, connect=cables).follow().ready()
    got = drain(pair.qemu_destination)
    push(pair.qemu_source, stream)
    wait_length(got, len(stream))
    assert bytes(got) == stream
    assert len(cables.made) >= 20 * streams, "too few resets: the stream is too short for this test"
    check_resent(pair, len(cables.made))


@pytest.mark.parametrize("streams", [1, 2])
def test_the_return_path_comes_whole_and_in_order(pairs, streams):
    """Numbered messages both ways while the connections die under them."""
    cables = Cables(lambda n: {"cut_after": 60_000 + 7919 * n if n < 12 else None, "bytes_per_s": 8_000_000})
    pair = pairs(streams=streams, compression="none", connect=cables).follow().ready()
    got, back = drain(pair.qemu_destination), drain(pair.qemu_source)
    stream = make_stream(2500)
    push(pair.qemu_source, stream)
    said = b"".join(struct.pack(">HHI", 2, 4, i) for i in range(3000))
    for at in range(0, len(said), 80):
        pair.qemu_destination.sendall(said[at:at + 80])
        time.sleep(0.001)
    wait_length(back, len(said))
    assert bytes(back) == said
    wait_length(got, len(stream))
    assert bytes(got) == stream


@pytest.mark.parametrize("streams", [1, 3])
def test_every_statement_survives_the_loss_of_what_carried_it(pairs, streams):
    """All connections are lost right after GRANT, after SHUT and after the decision."""
    cables = Cables(lambda n: {})
    pair = pairs(streams=streams, connect=cables).follow().ready()
    stream = make_stream(500)
    move(pair, stream)
    pair.source.send({"op": "grant", "epoch": 5})
    cables.cut_all()
    grant = pair.destination.wait("grant")
    assert (grant["epoch"], grant["offset"]) == (5, len(stream))
    pair.qemu_destination.sendall(SHUT)
    cables.cut_all()
    shut = pair.source.wait("shut")
    assert shut["equal"] is True and shut["peer_stream_bytes"] == len(stream)
    cables.cut_all()
    pair.source.send({"op": "deliver_shut"})
    assert read_exactly(pair.qemu_source, len(SHUT)) == SHUT
    assert len(pair.destination.got("grant")) == len(pair.destination.got("shut")) == len(pair.source.got("shut")) == 1
    list(finish(pair, stream))


def test_a_pause_of_the_path_is_a_pause_of_the_stream_and_nothing_else(pairs):
    cables = Cables(lambda n: {"cut_after": 300_000 if n < 2 else None})
    pair = pairs(streams=2, compression="none", connect=cables).ready()
    stream = make_stream(2000)
    got = drain(pair.qemu_destination)
    push(pair.qemu_source, stream)
    for number in (1, 2):
        pair.source.wait("lost", number=number)
        pair.destination.wait("lost", number=number)
    stood = len(got)
    time.sleep(0.5)
    assert len(got) == stood < len(stream)
    for mover in (pair.source, pair.destination):
        assert mover.process.poll() is None and not mover.got("error")
    for index in (1, 0):
        pair.reconnect(index)
    wait_length(got, len(stream))
    assert bytes(got) == stream
    assert pair.source.wait("back")["up"] == 1
    assert pair.source.wait("progress")


def test_a_new_connection_replaces_one_that_seems_to_live(pairs):
    """A NAT that forgot: the source knows, the destination does not."""
    pair = pairs(streams=2, compression="none", connect=Cables(lambda n: {"bytes_per_s": 4_000_000})).ready()
    stream = make_stream(2500)
    got = drain(pair.qemu_destination)
    push(pair.qemu_source, stream)
    for n in range(20):
        time.sleep(0.05)
        pair.reconnect(n % 2)
    wait_length(got, len(stream))
    assert bytes(got) == stream
    assert not pair.source.got("error") and not pair.destination.got("error")
    assert pair.destination.got("back")


def test_strangers_with_the_right_preface_disturb_nobody(pairs):
    pair = pairs(streams=1, compression="none", connect=Cables(lambda n: {"bytes_per_s": 4_000_000})).ready()
    stream = make_stream(2000)
    got = drain(pair.qemu_destination)
    push(pair.qemu_source, stream)
    strangers = []
    for n in range(20):
        ours, theirs = tcp_pair()
        pair.destination.conn(0, theirs)
        ours.sendall([b"\x16\x03\x01\x02\x00" + b"x" * 500, b"GET / HTTP/1.0\r\n\r\n", b""][n % 3])
        strangers.append(ours)  # silent from now on: each holds a handshake until it times out
        time.sleep(0.01)
    wait_length(got, len(stream))
    assert bytes(got) == stream
    assert not pair.destination.got("lost") and pair.destination.process.poll() is None
    for sock in strangers:
        sock.close()


@pytest.mark.parametrize("seed", range(int(os.environ.get("NC_RESUME_SEEDS", "8"))))
def test_whatever_happens_the_bytes_are_the_same(pairs, seed):
    """The property: streams, settings, losses, alterations and replacements as the seed wills."""
    rng = random.Random(1000 + seed)
    streams, frames = rng.choice([1, 1, 2, 4]), rng.choice([0, 200, 4000])
    stream = make_rounds(rng.randrange(800, 2500), rng.randrange(2, 6), seed) if rng.random() < 0.6 else make_stream(rng.randrange(1000, 6000), seed)

    def choose(n):
        if n > 30 * streams:
            return {}
        at = rng.randrange(2_000, 600_000)
        return rng.choice([{"cut_after": at}, {"alter_at": at}, {"cut_after": at, "bytes_per_s": 5_000_000}, {}])
    cables = Cables(choose)
    try:
        pair = pairs(streams=streams, compression=rng.choice(["none", "lz4", "zstd:1"]), frames=frames,
                     connect=cables).follow().ready()
    except AssertionError as error:  # a connection that never worked is an error, and may be one here
        assert "'error'" in str(error) or "handshake" in str(error), error
        pytest.skip("the first connection was cut before it was one")
    got, back = drain(pair.qemu_destination), drain(pair.qemu_source)
    push(pair.qemu_source, stream)
    said = bytearray()
    for i in range(rng.randrange(50, 300)):
        message = struct.pack(">HHI", 2, 4, i)
        assert not pair.destination.ended and not pair.source.ended, (pair.destination.tail(), pair.source.tail())
        pair.qemu_destination.sendall(message)
        said += message
        if rng.random() < 0.05:
            pair.reconnect(rng.randrange(streams))
        time.sleep(rng.random() * 0.01)
    wait_length(got, len(stream))
    assert bytes(got) == stream
    wait_length(back, len(said))
    assert bytes(back) == bytes(said)
    assert not pair.destination.got("error") + pair.source.got("error")
