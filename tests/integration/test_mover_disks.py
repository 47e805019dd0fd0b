# SPDX-License-Identifier: Apache-2.0
"""Disk channels of two movers: this test is the NBD client and the NBD server, and novacrond.

Promises under test: both directions arrive byte for byte, also over lost connections; a disk
whose QEMU does not read holds up neither memory nor other disks; what closes one end closes the other, and is told.
"""
import os
import random
import socket
import threading
import time

import pytest
from nctest.movers import *

pytestmark = pytest.mark.skipif(not MOVER.exists(), reason=f"{MOVER} is not built")
INTO, BACK = 12 << 20, 200 << 10


def disk(mover, index):
    """QEMU's end of a disk's connection."""
    ours, theirs = socket.socketpair()
    mover.send({"op": "disk", "index": index}, theirs.fileno())
    theirs.close()
    return ours


def image(size, seed):
    rng = random.Random(seed)
    text = b" ".join(rng.choice([b"insert", b"into", b"table", b"values", b"commit"]) for _ in range(4000))
    return (text + rng.randbytes(len(text) // 2) + bytes(len(text)))[:65536].ljust(65536, b"x") * (size // 65536)


def both_ways(client, server, seed=1, into=INTO, back=BACK):
    """Requests and answers at the same time."""
    requests, answers = image(into, seed), random.Random(seed).randbytes(back)
    push(client, requests)
    got = []
    reader = threading.Thread(target=lambda: got.append(read_exactly(server, into)))
    reader.start()
    for at in range(0, back, 4096):
        server.sendall(answers[at:at + 4096])
    assert read_exactly(client, back) == answers
    reader.join(TIMEOUT)
    assert got and got[0] == requests


@pytest.mark.parametrize("streams,compression", [(1, "none"), (2, "auto"), (4, "zstd:3")])
def test_both_directions_arrive_and_the_digests_agree(pairs, streams, compression):
    pair = pairs(streams=streams, compression=compression).ready()
    clients = [disk(pair.source, i) for i in range(2)]
    servers = [disk(pair.destination, i) for i in range(2)]
    threads = [threading.Thread(target=both_ways, args=(c, s, i)) for i, (c, s) in enumerate(zip(clients, servers))]
    for thread in threads:
        thread.start()
    stream = make_stream()
    move(pair, stream)
    for thread in threads:
        thread.join(TIMEOUT)
        assert not thread.is_alive()
    for client in clients:
        client.close()
    pair.source.wait("disk_closed", number=2)
    hand_over(pair, stream)
    source, destination = finish(pair, stream)
    sent = {d["index"]: d for d in source["disks"]}
    assert {d["index"]: d["stream_bytes"] for d in destination["disks"]} == {0: INTO, 1: INTO}
    assert all(sent[i]["stream_bytes"] == INTO and 0 < sent[i]["wire_bytes"] <= INTO + (1 << 20) for i in sent)
    if compression != "none":
        assert sent[0]["wire_bytes"] < INTO


def test_an_answer_may_come_before_the_client(pairs):
    """An NBD server greets first, and the two agents are not in step."""
    pair = pairs().ready()
    server = disk(pair.destination, 3)
    server.sendall(b"NBDMAGIC")
    time.sleep(0.3)
    client = disk(pair.source, 3)
    assert read_exactly(client, 8) == b"NBDMAGIC"


def test_lost_connections_lose_nothing(pairs):
    cables = []

    def cable():
        cables.append(Cable(cut_after=3 << 20 if len(cables) < 3 else None))
        return cables[-1].pair()
    pair = pairs(streams=2, compression="none", connect=cable).follow().ready()
    client, server = disk(pair.source, 0), disk(pair.destination, 0)
    both_ways(client, server)
    assert pair.source.got("lost") and not pair.source.got("error")


def test_a_disk_that_stands_still_holds_up_nobody(pairs):
    """Its server reads nothing, and then its client reads no answers: memory, the return path and the other disk flow."""
    pair = pairs(streams=2, compression="none").ready()
    stuck, other = disk(pair.source, 0), disk(pair.source, 1)
    stuck_server, other_server = disk(pair.destination, 0), disk(pair.destination, 1)
    push(stuck, image(64 << 20, 5))
    push(stuck_server, bytes(4 << 20))
    time.sleep(0.5)
    stream = make_stream()
    move(pair, stream)
    both_ways(other, other_server)
    hand_over(pair, stream)


@pytest.mark.parametrize("end", ["client", "server"])
def test_what_closes_one_end_closes_the_other(pairs, end):
    pair = pairs().ready()
    client, server = disk(pair.source, 0), disk(pair.destination, 0)
    both_ways(client, server, into=1 << 20, back=4096)
    if end == "client":
        client.close()
        pair.source.wait("disk_closed")
    else:
        server.close()
        pair.destination.wait("disk_closed")
        client.settimeout(TIMEOUT)
        assert client.recv(1) == b""
        pair.source.wait("disk_closed")
    move(pair, make_stream())  # the migration is none the worse for it


@pytest.mark.parametrize("role", ["source", "destination"])
@pytest.mark.parametrize("message,word", [({"index": 32}, "index"), ({"index": -1}, "index"), ({}, "index"), ({"index": 0}, "twice")])
def test_bad_orders_are_refused(pairs, role, message, word):
    pair = pairs().ready()
    mover = getattr(pair, role)
    keep = disk(mover, 0)
    ours, theirs = socket.socketpair()
    mover.send({"op": "disk", **message}, theirs.fileno())
    assert word in mover.wait("error")["message"]
    keep.close()
