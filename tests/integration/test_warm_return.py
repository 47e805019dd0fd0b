# SPDX-License-Identifier: Apache-2.0
"""A machine that goes back to where it came from: what both sides have kept makes the way back one of differences."""

import os
import time

import pytest
from nctest.cluster import Cluster, guest_spec
from nctest.net import wait_for

VM = "web1"
MIB = 1 << 20
RANDOM_BYTES = b"\x5a\xa5" * 32


def make(**words):
    c = Cluster(rate="100mbit", delay="10ms", gates=True, kept_shadow_mib="1024")
    c.boot(spec=guest_spec(VM, memory_mib=192, fill=64, pattern="sparse", **words))
    return c


@pytest.fixture(scope="module")
def cluster():
    with make(ws=4, rate=0.05) as c:
        yield c


def kept_files(node):
    directory = os.path.join(node.data_dir, "shadows")
    return [os.path.join(directory, name) for name in os.listdir(directory)]


def wait_written(*nodes):
    """Both sides' shadows are on disk, whole."""
    for node in nodes:
        wait_for(lambda n=node: [f.endswith(".shadow") for f in kept_files(n)] == [True], 30, f"the kept shadow of {node.name}")


def trip(c, source, **more):
    m = c.migrate(VM, source, **more)
    assert m["outcome"] == "completed" and m["sha256_equal"], m["error"]
    c.assert_healthy(VM, c.other(source))
    print(source.name, m["wire_bytes"], m["kept_shadow"], m["total_ms"])
    return m


def where(c):
    return c.a if c.a.state(VM) == "running" else c.b


def there(c, source):
    """A first way: whatever is kept is forgotten before."""
    for node in (c.a, c.b):
        node.stop()
        for path in kept_files(node):
            os.unlink(path)
        node.start()
    m = trip(c, source)
    assert m["kept_shadow"] == {"used": False, "bytes": 0}
    assert m["wire_bytes"] > 10 * MIB
    assert m["ahead_pages"] > 0  # while QEMU got ready
    return m


def assert_warm(first, back, share):
    assert back["kept_shadow"]["used"] and back["kept_shadow"]["bytes"] > 64 * MIB
    assert back["ahead_pages"] == 0
    assert back["wire_bytes"] <= share * first["wire_bytes"], (first["wire_bytes"], back["wire_bytes"])


def test_an_idle_machine(cluster):
    """At once, from memory; and again, since what the way back has made is kept in its turn."""
    first = there(cluster, cluster.a)
    assert_warm(first, trip(cluster, cluster.b), 0.05)
    assert_warm(first, trip(cluster, cluster.a), 0.05)
    shown = where(cluster).cli("status", trip(cluster, cluster.b)["id"], check=False)
    assert "kept by both sides" in shown.stdout, shown.stdout + shown.stderr


def test_a_busy_machine():
    with make(ws=32, rate=4) as c:
        c.watch_runners(VM)
        first = there(c, c.a)
        time.sleep(5)
        assert_warm(first, trip(c, c.b), 0.10)
        assert c.observer.double == 0


def test_on_disk_while_novacrond_is_restarted(cluster):
    """What is kept is written, and found again by the next novacrond; used once, it is gone, and the next one is written."""
    source = where(cluster)
    other = cluster.other(source)
    first = there(cluster, source)
    wait_written(source, other)
    before = kept_files(source) + kept_files(other)
    assert all(os.stat(path).st_mode & 0o777 == 0o600 for path in before)
    for node in (source, other):
        node.stop()
        node.start()
    assert_warm(first, trip(cluster, other), 0.05)
    wait_written(source, other)
    assert not set(before) & set(kept_files(source) + kept_files(other))


@pytest.mark.parametrize("side", ["source", "destination"])
def test_damaged_on_disk(cluster, side):
    """Pages of one side's file are not what they were: they cost bytes, and nothing else."""
    source = where(cluster)
    other = cluster.other(source)
    there(cluster, source)
    wait_written(source, other)
    victim = other if side == "source" else source  # of the way back
    victim.stop()
    path, = kept_files(victim)
    with open(path, "r+b") as f:
        for at in range(4096 * 2, os.path.getsize(path), 4096 * 16):
            f.seek(at)
            f.write(RANDOM_BYTES)
    victim.start()
    back = trip(cluster, other)
    assert back["kept_shadow"]["used"]
    if side == "destination":
        assert back["resent_batches"] > 0


def test_one_side_has_nothing(cluster):
    """Torn, of another migration or gone: then it is a first way again."""
    source = where(cluster)
    other = cluster.other(source)
    first = there(cluster, source)
    wait_written(source, other)
    source.stop()
    path, = kept_files(source)
    os.truncate(path, os.path.getsize(path) // 2)
    source.start()
    assert kept_files(source) == []
    back = trip(cluster, other)
    assert back["kept_shadow"] == {"used": False, "bytes": 0}
    assert back["wire_bytes"] > 0.5 * first["wire_bytes"]


def test_a_cancelled_way_back_uses_it_up(cluster):
    source = where(cluster)
    other = cluster.other(source)
    there(cluster, source)
    m = cluster.migrate(VM, other, wait=False, bandwidth_limit_bps=64 << 10)
    other.wait_state(m["id"], ("copying",))
    other.call("migration.cancel", id=m["id"])
    assert other.wait_migration(m["id"])["outcome"] == "cancelled"
    wait_for(lambda: source.state(VM) in (None, "moved"), 10, "the other side to let go")
    cluster.assert_healthy(VM, other)
    assert not trip(cluster, other)["kept_shadow"]["used"]
