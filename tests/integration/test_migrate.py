# SPDX-License-Identifier: Apache-2.0
"""A real guest moves between two nodes: the good days, and cancel."""

import json
import os

import pytest
from nctest.cluster import Cluster, Refused, guest_spec
from nctest.guest import QmpObserver, TcpClient
from nctest.net import wait_for


@pytest.fixture(scope="module")
def cluster():
    with Cluster(rate="1gbit", delay="5ms", gates=True) as c:
        c.boot()
        yield c


def where(c, vm):
    return c.a if c.a.state(vm) == "running" else c.b


def test_there_and_back_with_everything_watched(cluster):
    """TCP survives, heartbeat shows the pause, streams are equal, one runner at every instant."""
    vm = "web1"
    observer = cluster.watch_runners(vm)
    client = TcpClient(cluster.net.client)
    for source in (cluster.a, cluster.b):
        m = cluster.migrate(vm, source)
        assert m["outcome"] == "completed", m["error"]
        assert m["sha256_equal"] is True and len(m["sha256"]) == 64 and m["sha256"] == m["destination_sha256"]
        assert m["wire_bytes"] > 1 << 20
        assert m["ram_bytes"] > 64 << 20 and m["ram_bytes"] > m["wire_bytes"]
        assert m["rounds"] >= 2 and m["pause_ms"] > 0
        assert m["total_ms"] > 0 and m["qemu_downtime_ms"] is not None
        assert source.state(vm) == "moved"
        assert cluster.other(source).state(vm) == "running"
        assert cluster.other(source).call("machine.get", name=vm)["right"] == "held"
        assert source.call("machine.get", name=vm)["right"] == "released"
    assert client.broken is None and client.is_moving()
    cluster.assert_healthy(vm, cluster.a, client)
    assert observer.samples > 50 and observer.double == 0


def test_compression_and_streams_of_choice(cluster):
    for compression, streams in (("none", 1), ("lz4", 4), ("zstd:3", 2)):
        source = where(cluster, "web1")
        m = cluster.migrate("web1", source, compression=compression, streams=streams)
        assert m["outcome"] == "completed" and m["sha256_equal"], m["error"]
        assert m["compression"] == compression and m["streams"] == streams
    cluster.assert_healthy("web1", where(cluster, "web1"))


def test_auto_is_the_default_and_the_record_tells_what_it_did(cluster):
    m = cluster.migrate("web1", where(cluster, "web1"), max_cpu=50)
    assert m["outcome"] == "completed" and m["sha256_equal"], m["error"]
    assert m["compression"] == "auto" and m["max_cpu"] == 50
    assert m["coding"] in m["coded_batches"] and m["coding_switches"] >= 0
    assert sum(m["coded_batches"].values()) == m["batches"]
    cluster.assert_healthy("web1", where(cluster, "web1"))


def test_cancel_leaves_it_running_at_the_source(cluster):
    vm = "web1"
    source = where(cluster, vm)
    m = cluster.migrate(vm, source, wait=False, bandwidth_limit_bps=4 << 20)
    source.wait_state(m["id"], ("copying",))
    source.call("migration.cancel", id=m["id"])
    m = source.wait_migration(m["id"])
    assert m["outcome"] == "cancelled" and m["state"] == "cancelled"
    assert source.state(vm) == "running"
    wait_for(lambda: cluster.other(source).state(vm) in (None, "moved"), 10, "the destination to let go")
    cluster.assert_healthy(vm, source)
    with pytest.raises(Refused) as refused:
        source.call("migration.cancel", id=m["id"])
    assert refused.value.code == "conflict"
    cluster.moves(vm, source)  # a cancelled attempt is no obstacle


def test_refusals_before_anything_starts(cluster):
    vm = "web1"
    source = where(cluster, vm)
    here, there = source.name, cluster.other(source).name
    for args, code, word in (
        ({"vm": "no-such", "to": there}, "not_found", "no-such"),
        ({"vm": vm, "to": "no-such-node"}, "not_found", "no-such-node"),
        ({"vm": vm, "to": here}, "invalid", here),
        ({"vm": vm, "to": there, "compression": "rar"}, "invalid", "compression"),
        ({"vm": vm, "to": there, "max_downtime_ms": 0}, "invalid", "max_downtime_ms"),
        ({"vm": vm, "to": there, "streams": 99}, "invalid", "streams"),
    ):
        with pytest.raises(Refused) as refused:
            source.call("migration.create", **args)
        assert refused.value.code == code, refused.value
        assert word in refused.value.message
    cluster.assert_healthy(vm, source)


def test_already_migrating(cluster):
    vm = "web1"
    source = where(cluster, vm)
    m = cluster.migrate(vm, source, wait=False, bandwidth_limit_bps=4 << 20)
    for op, args in (("migration.create", {"vm": vm, "to": cluster.other(source).name}), ("machine.stop", {"name": vm}),
                     ("machine.destroy", {"name": vm})):
        with pytest.raises(Refused) as refused:
            source.call(op, **args)
        assert refused.value.code == "conflict" and m["id"] in refused.value.message
    source.call("migration.cancel", id=m["id"])
    assert source.wait_migration(m["id"])["outcome"] == "cancelled"


def test_paused_machine_arrives_paused(cluster):
    """A machine that did not run does not begin to by being moved."""
    spec = guest_spec("idle1", memory_mib=128, ws=8, rate=0, nic=False)
    cluster.boot(cluster.a, spec)
    qmp = QmpObserver(os.path.join(cluster.a.machine_dir("idle1"), "observer.sock"))
    qmp.command("stop")
    qmp.close()
    m = cluster.migrate("idle1", cluster.a)
    assert m["outcome"] == "completed", m["error"]
    assert cluster.runs_where("idle1") == []
    assert cluster.b.state("idle1") == "paused"


def test_adopted_machine_moves(cluster):
    """A QEMU that somebody else started, with sockets of its own, is taken over and moved."""
    bed, spec = cluster.bed, guest_spec("legacy", memory_mib=128, ws=8, rate=1, nic=False)
    kib = spec["memory_mib"] * 1024 + 8
    path = os.path.join(bed.dir, "foreign.qmp")
    process = bed.popen(
        ["qemu-system-x86_64", "-nodefaults", "-display", "none", "-accel", "tcg", "-M", "pc,memory-backend=r", "-m", f"size={kib}K",
         "-object", f"memory-backend-ram,id=r,size={kib}K", "-kernel", spec["kernel"], "-initrd", spec["initrd"],
         "-append", spec["cmdline"], "-serial", f"file:{bed.dir}/legacy.console",
         "-serial", f"unix:{bed.dir}/legacy.beat,server=on,wait=off", "-qmp", f"unix:{path},server=on,wait=off"], cluster.a.netns)
    console = os.path.join(bed.dir, "legacy.console")
    wait_for(lambda: os.path.exists(console) and "NCLOAD READY" in open(console, errors="replace").read(), 60, "the guest to boot")
    machine = cluster.a.call("machine.adopt", name="legacy", qmp=path)
    assert machine["adopted"] and machine["pid"] == process.pid and machine["spec"]["machine"].startswith("pc-i440fx-")
    m = cluster.migrate("legacy", cluster.a)
    assert m["outcome"] == "completed" and m["sha256_equal"], m["error"]
    assert process.wait(10) is not None, "the source's QEMU must be gone"
    assert cluster.b.state("legacy") == "running"
    moved = os.path.join(cluster.b.machine_dir("legacy"), "legacy.console")
    before = len(open(moved).read())
    wait_for(lambda: len(open(moved).read()) > before, 20, "the guest to write on its console at the destination")
    assert " errors=0 " in open(moved).read()


def test_cli_waits_and_prints_one_object(cluster):
    vm = "web1"
    source = where(cluster, vm)
    out = source.cli("migrate", vm, "--to", cluster.other(source).name, "--wait", "--json")
    result = json.loads(out.stdout)
    for key in ("id", "outcome", "phase", "total_ms", "pause_ms", "qemu_downtime_ms", "ram_bytes", "wire_bytes", "rounds",
                "sha256"):
        assert key in result, key
    assert result["outcome"] == "completed" and result["sha256_equal"]
    listing = source.cli("status").stdout
    assert result["id"] in listing and all(len(line) <= 80 for line in listing.splitlines())
    story = source.cli("status", result["id"]).stdout
    assert "released" in story and "started" in story
    unknown = source.cli("migrate", "no-such", "--to", cluster.other(source).name, check=False)
    assert unknown.returncode == 4 and "no-such" in unknown.stderr
