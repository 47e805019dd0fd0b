# SPDX-License-Identifier: Apache-2.0
"""Disk channels of two movers: this test is the NBD client and the NBD server, and novacrond.

Promises under test: both directions arrive byte for byte, also over lost connections; a disk
whose QEMU does not read holds up neither memory nor other disks; what closes one end closes the other, and is told.
"""
import os
import random
import socket
import struct
import threading
import time

import pytest
from nctest.movers import *
from nctest.net import wait_for

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


# --- what the disks and the memory both hold crosses once ---------------------------------------------------------------

def nbd_hello():
    return struct.pack(">I", 3) + b"IHAVEOPT" + struct.pack(">II", 7, 6) + bytes(6)


def nbd_write(offset, data, kind=1):
    return struct.pack(">IHHQQI", 0x25609513, 0, kind, 42, offset, len(data)) + data


class Files:
    """Blocks that no compressor makes smaller, as a client writes them to a disk, and as pages that a guest has read them into."""

    def __init__(self, blocks, seed=11, each=64):
        rng = random.Random(seed)
        self.blocks = [rng.randbytes(PAGE) for _ in range(blocks)]
        self.requests = nbd_hello()
        for at in range(0, blocks, each):
            self.requests += nbd_write(at * PAGE, b"".join(self.blocks[at:at + each]))

    def memory(self, more=200, seed=12):
        """A stream whose pages are the blocks, in another order, and others that they are not."""
        rng = random.Random(seed)
        pages = self.blocks + [rng.randbytes(PAGE) for _ in range(more)]
        rng.shuffle(pages)
        out = [stream_head(size=len(pages) * PAGE), bytes([2]) + struct.pack(">I", 2)]
        out += [page_record(i, page, b"pc.ram" if i == 0 else None) for i, page in enumerate(pages)]
        out.append(struct.pack(">Q", 0x10) + b"\x7e" + struct.pack(">I", 2) + stream_tail(rng))
        return b"".join(out)


def carry(client, server, data):
    push(client, data)
    assert read_exactly(server, len(data)) == data


def settle(mover):
    """The progress when everything was acknowledged."""
    wait_for(lambda: mover.got("progress")[-1]["in_flight_bytes"] == 0, TIMEOUT, "acknowledgements")
    seen = len(mover.got("progress"))
    wait_for(lambda: len(mover.got("progress")) > seen + 1, TIMEOUT, "progress")
    return mover.got("progress")[-1]


@pytest.mark.parametrize("streams", [1, 3])
def test_blocks_that_are_in_memory_cross_once(pairs, streams):
    """The disk first, then the memory that was read from it: a reference for each page, and its bytes not again."""
    files = Files(3000)
    pair = pairs(streams=streams, compression="none", frames=8000, blocks=4000).ready()
    client, server = disk(pair.source, 0), disk(pair.destination, 0)
    carry(client, server, files.requests)
    before = settle(pair.source)
    stream = files.memory(more=200)
    move(pair, stream)
    hand_over(pair, stream)
    client.close()
    pair.source.wait("disk_closed")
    source, destination = finish(pair, stream)
    assert 0.99 * 3000 < source["block_pages"] <= 3000 and source["repeated_blocks"] == 0
    assert source["pages"] == 3200 and source["reference_pages"] == 0 and source["resent_batches"] == 0
    wire = source["wire_bytes"] - before["wire_bytes"]
    assert 200 * PAGE < wire < 200 * PAGE + (1 << 18), "the others, once, and some bytes for each reference"
    assert source["disks"][0]["wire_bytes"] > 3000 * PAGE


def test_without_blocks_they_cross_twice(pairs):
    files = Files(1000)
    pair = pairs(compression="none", frames=8000).ready()
    carry(disk(pair.source, 0), disk(pair.destination, 0), files.requests)
    stream = files.memory(more=0)
    move(pair, stream)
    hand_over(pair, stream)
    source, destination = finish(pair, stream)
    assert source["block_pages"] == 0 and source["wire_bytes"] > 2 * 1000 * PAGE


def test_two_disks_with_the_same_files(pairs):
    files = Files(2000)
    pair = pairs(streams=2, compression="none", frames=64, blocks=4000).ready()
    one, two = ((disk(pair.source, i), disk(pair.destination, i)) for i in range(2))
    carry(*one, files.requests)
    before = settle(pair.source)
    carry(*two, files.requests)
    carry(*two, files.requests[len(nbd_hello()):])  # over itself
    after = settle(pair.source)
    assert 0.99 * 4000 < after["repeated_blocks"] <= 4000
    assert after["wire_bytes"] - before["wire_bytes"] < 1 << 18
    move(pair, make_stream())


def test_memory_that_is_written_to_a_disk(pairs):
    """The other way round: the pages went first."""
    files = Files(1500)
    pair = pairs(streams=2, compression="none", frames=8000, blocks=100).ready()
    stream = files.memory()
    push(pair.qemu_source, stream)
    assert read_exactly(pair.qemu_destination, len(stream)) == stream
    before = settle(pair.source)
    carry(disk(pair.source, 0), disk(pair.destination, 0), files.requests)
    after = settle(pair.source)
    assert 0.5 * 1500 < after["page_blocks"] <= 1500, "the index of pages is a hint"
    saved = (1500 - after["page_blocks"]) * PAGE
    assert saved < after["wire_bytes"] - before["wire_bytes"] < saved + (1 << 18)
    hand_over(pair, stream)


def test_more_blocks_than_are_kept(pairs):
    """The oldest go first; pages that are not among those kept go whole, and all arrive."""
    files = Files(6000)
    pair = pairs(streams=2, compression="none", frames=8000, blocks=1000).ready()
    carry(disk(pair.source, 0), disk(pair.destination, 0), files.requests)
    settle(pair.source)
    stream = files.memory()
    move(pair, stream)
    hand_over(pair, stream)
    source, destination = finish(pair, stream)
    assert 0.95 * 1000 < source["block_pages"] <= 1000, "those that went last"
    assert source["resent_batches"] == 0


def test_disk_and_memory_at_once_over_connections_that_are_lost(pairs):
    """Nothing is in step, and each reference is right all the same."""
    cables = []

    def cable():
        cables.append(Cable(cut_after=6 << 20 if len(cables) < 4 else None))
        return cables[-1].pair()
    files = Files(4000)
    pair = pairs(streams=2, compression="none", frames=3000, blocks=1500, connect=cable).follow().ready()
    client, server = disk(pair.source, 0), disk(pair.destination, 0)
    other, other_server = disk(pair.source, 1), disk(pair.destination, 1)
    requests = files.requests + b"".join(nbd_write(i * PAGE, files.blocks[i % 4000]) for i in random.Random(4).sample(range(8000), 3000))
    threads = [threading.Thread(target=carry, args=(c, s, requests)) for c, s in ((client, server), (other, other_server))]
    for thread in threads:
        thread.start()
    stream = files.memory()
    move(pair, stream)
    for thread in threads:
        thread.join(TIMEOUT)
        assert not thread.is_alive()
    hand_over(pair, stream)
    assert pair.source.got("lost") and not pair.source.got("error")
    source = pair.source.got("progress")[-1]
    assert source["block_pages"] + source["repeated_blocks"] > 0


def test_what_is_no_nbd_passes_as_it_is(pairs):
    pair = pairs(streams=2, frames=100, blocks=1000).ready()
    both_ways(disk(pair.source, 0), disk(pair.destination, 0))
    assert pair.source.got("progress")[-1]["repeated_blocks"] == 0


@pytest.mark.skipif(is_sanitized(), reason="sanitizers need more")
def test_memory_stays_within_what_was_given(pairs):
    """A duplicate disk and more blocks than fit: each mover stays within its shadow, its blocks and 128 MiB."""
    files = Files(12000)
    frames, blocks = 4000, 4000
    pair = pairs(streams=2, compression="none", frames=frames, blocks=blocks).ready()
    one, two = ((disk(pair.source, i), disk(pair.destination, i)) for i in range(2))
    carry(*one, files.requests)
    carry(*two, files.requests)
    stream = files.memory()
    move(pair, stream)
    for mover in (pair.source, pair.destination):
        most = max(e["rss_bytes"] for e in mover.got("progress"))
        assert most < (frames + blocks) * PAGE + (128 << 20), f"{mover.role}: {most >> 20} MiB"
