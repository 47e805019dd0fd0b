# SPDX-License-Identifier: Apache-2.0
"""`novacron check`: what speaks against a move is found before it, with what to do; and nothing is touched."""

import pytest
from nctest.cluster import Cluster, Refused, guest_spec

VM = "web1"


@pytest.fixture(scope="module")
def cluster():
    with Cluster(rate="1gbit", delay="5ms") as c:
        c.boot(spec=guest_spec(memory_mib=128, ws=16, rate=2))
        c.watch_runners(VM)
        yield c


def check(cluster, vm=VM, to="host-b"):
    result = cluster.a.call("migration.check", vm=vm, to=to)
    assert all(set(c) == {"check", "verdict", "value", "remedy"} for c in result["checks"])
    assert all(c["remedy"] for c in result["checks"] if c["verdict"] in ("failed", "warning")), "what is one to do?"
    return result


def found(result, name):
    return [c for c in result["checks"] if c["check"] == name]


def test_a_good_day(cluster):
    result = check(cluster)
    assert result["verdict"] in ("ok", "warning"), result
    assert (result["vm"], result["from"], result["to"]) == (VM, "host-a", "host-b")
    for name in ("machine", "blockers", "connection", "round trip", "clocks", "bandwidth", "loss", "novacron version", "qemu version",
                 "qemu", "machine type", "cpu model", "kernel", "initrd", "bridge", "memory", "run right", "post-copy", "disk space",
                 "tcg memory"):
        assert len(found(result, name)) == 1, f"{name} in {[c['check'] for c in result['checks']]}"
    assert float(found(result, "round trip")[0]["value"].split()[0]) >= 10
    assert float(found(result, "bandwidth")[0]["value"].split()[2]) > 1
    cluster.assert_healthy(VM, cluster.a)


def test_it_changes_nothing(cluster):
    before = cluster.a.call("machine.get", name=VM)
    check(cluster)
    assert cluster.a.call("machine.get", name=VM) == before
    assert cluster.b.state(VM) is None and cluster.b.qemu_pids() == []
    cluster.moves(VM, cluster.a)
    cluster.moves(VM, cluster.b)


@pytest.mark.parametrize("change,name,words", [
    ({"nics": [{"name": "net0", "bridge": "br9"}]}, "bridge", "no bridge br9"),
    ({"machine": "pc-i440fx-99.0"}, "machine type", "does not know machine type"),
    ({"cpu": "Zuse3"}, "cpu model", "does not know CPU model Zuse3"),
    ({"firmware": "/nowhere/bios.bin"}, "firmware", "/nowhere/bios.bin"),
    ({"memory_extra_kib": 0}, "tcg memory", "may lose writes"),
])
def test_what_is_missing_is_named(cluster, change, name, words):
    """Of a machine that is defined and not started: the machine is one more thing that does not go."""
    spec = {**guest_spec(name="odd", memory_mib=64), **change}
    cluster.a.call("machine.define", spec=spec)
    try:
        result = check(cluster, "odd")
        assert result["verdict"] == "failed"
        assert words in found(result, name)[0]["value"], result
        assert found(result, name)[0]["verdict"] == ("warning" if name == "tcg memory" else "failed")
        assert found(result, "machine")[0]["verdict"] == "failed"
    finally:
        cluster.a.call("machine.destroy", name="odd")


def test_a_machine_of_that_name_there(cluster):
    cluster.b.call("machine.define", spec=guest_spec(name="twin", memory_mib=64))
    cluster.a.call("machine.define", spec=guest_spec(name="twin", memory_mib=64), take=True)
    try:
        assert "has a machine named twin" in found(check(cluster, "twin"), "run right")[0]["value"]
    finally:
        cluster.a.call("machine.destroy", name="twin")
        cluster.b.call("machine.destroy", name="twin")


def test_while_it_migrates(cluster):
    m = cluster.migrate(VM, cluster.a, wait=False, bandwidth_limit_bps=3 << 20)
    cluster.a.wait_state(m["id"], ("copying",))
    result = check(cluster)
    assert found(result, "machine")[0]["verdict"] == "failed" and m["id"] in found(result, "machine")[0]["value"]
    cluster.a.call("migration.cancel", id=m["id"])
    assert cluster.a.wait_migration(m["id"])["outcome"] == "cancelled"


def test_nonsense_is_refused(cluster):
    for vm, to, code in (("a b", "host-b", "invalid"), (VM, "host-a", "invalid")):
        with pytest.raises(Refused) as refused:
            cluster.a.call("migration.check", vm=vm, to=to)
        assert refused.value.code == code
    result = check(cluster, "nobody", "host-b")
    assert result["verdict"] == "failed" and found(result, "machine")[0]["verdict"] == "failed"


def test_a_node_that_is_down(cluster):
    cluster.b.stop()
    try:
        result = check(cluster)
        assert result["verdict"] == "failed" and found(result, "connection")[0]["verdict"] == "failed"
        assert not found(result, "bandwidth")
    finally:
        cluster.b.start()
