# SPDX-License-Identifier: Apache-2.0
"""A machine that goes back to where it came from: what both sides have kept makes the way back one of differences."""

import os
import time

import pytest
from nctest.cluster import Cluster, guest_spec
from nctest.net import wait_for

RATE, DELAY = "100mbit", "10ms"


def kept_files(node):
    directory = os.path.join(node.data_dir, "shadows")
    return [os.path.join(directory, name) for name in os.listdir(directory)]


def wait_written(*nodes):
    """Both sides' shadows are on disk, whole."""
    for node in nodes:
        wait_for(lambda: [f.endswith(".shadow") for f in kept_files(node)] == [True], 30, f"the kept shadow of {node.name}")


@pytest.fixture(scope="module")
def cluster():
    with Cluster(rate=RATE, delay=DELAY, kept_shadow_mib="1024") as c:
        c.boot(spec=guest_spec("idle", memory_mib=192, ws=4, rate=0.05, pattern="sparse", fill=64))
        yield c


def trip(c, vm, source, **more):
    m = c.migrate(vm, source, **more)
    assert m["outcome"] == "completed" and m["sha256_equal"], m["error"]
    return m


def test_an_idle_machine(cluster):
    first = trip(cluster, "idle", cluster.a)
    assert first["kept_shadow"] == {"used": False, "bytes": 0}
    back = trip(cluster, "idle", cluster.b)
    print("idle", first["wire_bytes"], back["wire_bytes"], back["kept_shadow"], first["total_ms"], back["total_ms"])
    assert back["wire_bytes"] <= 0.05 * first["wire_bytes"], (first["wire_bytes"], back["wire_bytes"])


