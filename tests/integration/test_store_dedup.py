# SPDX-License-Identifier: Apache-2.0
"""A machine that goes where a checkpoint of it lies: what the destination's page store holds does not cross the link again.

Promises under test: it costs a fraction of the bytes, the list of what is there included; with the scope off on either node everything is as
before; pages of a damaged store come over the link instead, and the guest finds no wrong byte.

    NC_BUILD=build pytest-3 tests/integration/test_store_dedup.py
"""
import glob
import os
import zlib

import pytest

from nctest.cluster import Cluster, guest_spec
from nctest.net import wait_for

VM = "web1"
PREFIX_BYTES = 16
FILL_PAGES = (48 << 20) // 4096


def settle(node, id):
    def ended():
        cp = node.call("checkpoint.get", id=id)
        busy = cp["state"] == "making" or (cp["activity"] or {}).get("state") == "running"
        return None if busy else cp
    return wait_for(ended, 90, f"checkpoint {id}")


@pytest.fixture(scope="module")
def cluster():
    """The checkpoint is on both nodes, so that the machine may go to and fro; the first store is encrypted, the second is not."""
    with Cluster(rate="100mbit", delay="10ms") as c:
        key = os.path.join(c.a.dir, "store.key")
        with open(key, "wb") as f:
            os.fchmod(f.fileno(), 0o600)
            f.write(os.urandom(32))
        c.a.settings.update(store_key_file=key, store_dir=os.path.join(c.a.dir, "store"))
        restart(c.a)
        c.boot(spec=guest_spec(VM, memory_mib=160, fill=48, pattern="sparse", ws=4, rate=0.05))
        id = c.a.call("checkpoint.create", name=VM)["id"]
        assert settle(c.a, id)["state"] == "ready"
        c.a.call("checkpoint.copy", id=id, to=c.b.name)
        assert settle(c.a, id)["activity"]["state"] == "done"
        yield c


def restart(node):
    node.stop()
    node.write_config()
    node.start()


def trip(c):
    source = c.a if c.a.state(VM) == "running" else c.b
    m = c.migrate(VM, source)
    assert m["outcome"] == "completed" and m["sha256_equal"], m["error"]
    c.assert_healthy(VM, c.other(source))
    there = c.other(source).call("migration.get", id=m["id"])
    listed = m.get("stored_listed") or 0
    assert listed == (there.get("stored_listed") or 0)
    wire = m["wire_bytes"] + PREFIX_BYTES * listed
    print(source.name, "wire", m["wire_bytes"], "list", listed, "stored", m["stored_pages"], "resent", m["resent_batches"], m["total_ms"], "ms, pause", m["pause_ms"])
    return m, wire


def assert_saved(m, resent):
    assert m["stored_listed"] > FILL_PAGES and m["stored_pages"] > 0.7 * FILL_PAGES, (m["stored_listed"], m["stored_pages"])
    assert m["resent_batches"] == resent


def test_what_is_there_does_not_cross_again(cluster):
    there, wire = trip(cluster)
    assert_saved(there, 0)
    back, wire_back = trip(cluster)
    assert_saved(back, 0)

    # Off on one side, whichever: as before.
    plain = []
    for node in (cluster.a, cluster.b):
        node.settings["store_dedup"] = "off"
        restart(node)
        m, bytes_on_wire = trip(cluster)
        assert m["stored_pages"] == 0 and not m.get("stored_listed")
        plain.append(bytes_on_wire)
        del node.settings["store_dedup"]
        restart(node)
    assert max(wire, wire_back) < 0.25 * min(plain), (wire, wire_back, plain)


def places_of_pages(path, most):
    """Where in a pack, not encrypted, there is memory of the guest's: unlike anything else it does not compress at all."""
    places = []
    with open(path, "rb") as f:
        for at in range(1 << 20, os.path.getsize(path) - (1 << 20), 4 << 20):
            f.seek(at)
            piece = f.read(64 << 10)
            if len(places) < most and len(zlib.compress(piece)) > 0.995 * len(piece):
                places.append(at + (32 << 10))
    return places


def test_a_damaged_store_costs_bytes_only(cluster):
    """Some pages can't be had at the destination any more, and it does not know: their batches come once more, whole."""
    source, other = cluster.a, cluster.b
    if source.state(VM) != "running":
        trip(cluster)
    other.stop()
    damaged = 0
    for path in glob.glob(os.path.join(other.data_dir, "store", "packs", "*.pack")):
        for at in places_of_pages(path, 6):
            with open(path, "r+b") as f:
                f.seek(at)
                f.write(os.urandom(64))
            damaged += 1
    assert damaged > 0
    other.start()
    m, _ = trip(cluster)
    assert m["stored_listed"] > FILL_PAGES and m["stored_pages"] > 0
    assert 0 < m["resent_batches"] <= 3 * damaged, (m["resent_batches"], damaged)
