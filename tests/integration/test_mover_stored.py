# SPDX-License-Identifier: Apache-2.0
"""Two movers and a page store at the destination, which this test plays as novacrond does.

Promises under test: what the store holds does not cross; whatever becomes of the store, each byte arrives, and soon it is not asked any more.
"""
import os
import random

import pytest
from nctest.movers import *

pytestmark = pytest.mark.skipif(not MOVER.exists(), reason=f"{MOVER} is not built")
PAGES = 2000
LINK = 12 << 20  # bytes per second: stored pages are for slow links


def slow():
    return Cable(bytes_per_s=LINK).pair()


class Machine:
    """Memory of which no two pages are equal, and its stream."""

    def __init__(self, pages=PAGES, seed=11):
        rng = random.Random(seed)
        self.memory = [rng.randbytes(PAGE) for _ in range(pages)]
        out = [stream_head(size=pages * PAGE), bytes([2]) + struct.pack(">I", 2)]
        out += [page_record(i, page, b"pc.ram" if i == 0 else None) for i, page in enumerate(self.memory)]
        out.append(struct.pack(">Q", 0x10) + b"\x7e" + struct.pack(">I", 2) + stream_tail(rng))
        self.stream = b"".join(out)


def run(pairs, machine, store, streams=1, **more):
    pair = pairs(streams=streams, compression="none", connect=slow, store=store, **more).ready()
    move(pair, machine.stream)
    hand_over(pair, machine.stream)
    return next(finish(pair, machine.stream))


@pytest.mark.parametrize("streams,frames", [(1, 0), (3, 4000)])
def test_what_is_stored_does_not_cross(pairs, streams, frames):
    machine = Machine()
    store = PageStore(random.Random(3).sample(machine.memory, PAGES * 3 // 4))
    source = run(pairs, machine, store, streams, frames=frames)
    assert source["stored_pages"] == PAGES * 3 // 4 and source["pages"] == PAGES and source["resent_batches"] == 0
    assert sum(map(len, store.asked)) == PAGES * 3 // 4
    assert PAGES // 4 * PAGE < source["wire_bytes"] < PAGES // 4 * PAGE + (1 << 18)


@pytest.mark.parametrize("frames", [0, 4000])
def test_some_pages_can_not_be_had(pairs, frames):
    """Each of them costs its batch once more; then the source gives it up, but for what is under way."""
    machine = Machine(4 * PAGES)
    store = PageStore(machine.memory, lambda number: None if number % 250 == 200 else machine.memory[number])
    source = run(pairs, machine, store, frames=frames)
    assert 0 < source["stored_pages"] < 4 * PAGES
    assert 4 <= source["resent_batches"] < 4 * PAGES // 250


def test_a_store_that_gives_other_pages(pairs):
    machine = Machine()
    store = PageStore(machine.memory, lambda number: machine.memory[number ^ 1] if number % 500 == 300 else machine.memory[number])
    source = run(pairs, machine, store, frames=4000)
    assert 0 < source["resent_batches"] <= PAGES // 500


def test_a_store_that_goes_away(pairs):
    machine = Machine()
    store = PageStore(machine.memory, lambda number: store.close() if number >= 300 else machine.memory[number])
    source = run(pairs, machine, store, streams=2, frames=4000)
    assert source["resent_batches"] >= 4 and source["stored_pages"] >= 300


def test_a_fast_link_does_not_ask(pairs):
    """Hashing and reading would be what is slow."""
    machine = Machine(pages=20000)
    store = PageStore(machine.memory)
    pair = pairs(streams=2, compression="auto", store=store).ready()
    move(pair, machine.stream)
    hand_over(pair, machine.stream)
    source = next(finish(pair, machine.stream))
    assert source["stored_pages"] < 20000 / 2


def test_orders_that_make_no_sense(tmp_path):
    for role, pages, fd, told in (("source", 1000, True, "list"), ("source", 1, False, "no file"), ("source", 0, True, "pages"),
                                  ("source", (1 << 20) + 1, True, "pages"), ("destination", 5, True, "socket"), ("destination", 5, False, "socket")):
        mover = Mover(role, tmp_path)
        try:
            mover.start(os.urandom(32))
            with open(os.memfd_create("list"), "r+b") as f:
                f.write(bytes(16 * 999))
                f.flush()
                mover.send({"op": "stored", "pages": pages}, f.fileno() if fd else None)
            assert told in mover.wait("error")["message"], (role, pages, fd, mover.got("error"))
            assert mover.exit_status() == 1
        finally:
            mover.close()


def test_given_twice_or_too_late(pairs):
    pair = pairs(store=PageStore([bytes(PAGE)])).ready()
    with open(os.memfd_create("list"), "r+b") as f:
        f.write(bytes(16))
        f.flush()
        pair.source.send({"op": "stored", "pages": 1}, f.fileno())
    assert "too late" in pair.source.wait("error")["message"]
