# SPDX-License-Identifier: Apache-2.0
"""Free-page hints: what the guest does not use is not carried; what it uses again on the way arrives."""

import pytest
from nctest.cluster import Cluster, guest_spec
from nctest.guest import TcpClient
from nctest.net import wait_for

VM = "web1"
FREED_MIB = 96
REUSED_PAGES = FREED_MIB // 2 * 256


def freed_guest(balloon):
    """Most of what it once wrote it has given back to its kernel: random data, which nothing compresses."""
    return guest_spec(VM, memory_mib=256, ws=16, rate=2, freed=FREED_MIB, **balloon)


def booted(balloon):
    """So slow a link that the guest has named its pages before much of them was sent."""
    c = Cluster(rate="100mbit", delay="5ms")
    try:
        c.boot(spec=freed_guest(balloon))
    except BaseException:
        c.__exit__(RuntimeError, None, None)
        raise
    return c


@pytest.fixture(scope="module")
def hinting():
    with booted({"balloon": "free-page-hint"}) as c:
        yield c


@pytest.fixture(scope="module")
def silent():
    """As a machine that was defined before there was the key."""
    with booted({}) as c:
        yield c


def command_line(node):
    return open(f"/proc/{node.qemu_pids()[0]}/cmdline").read().split("\0")


def move(cluster, source, **order):
    m = cluster.migrate(VM, source, **order)
    assert m["outcome"] == "completed" and m["sha256_equal"], m["error"]
    cluster.assert_healthy(VM, cluster.other(source))
    return m


def reuse(cluster):
    """The guest takes half of what it freed, and writes it; the client that watches it."""
    client = TcpClient(cluster.net.client)
    assert client.is_moving()
    client.socket.sendall(b"reuse\n")
    return client


def assert_reused_is_whole(client):
    """Every page that was taken again was written, and checked where the guest is now."""
    wait_for(lambda: client.ask()["reused_pages"] == REUSED_PAGES, 60, "the guest to fill what it took")
    before = client.verified
    wait_for(lambda: client.verified > before + 3 * REUSED_PAGES, 120, "the guest to verify it")
    assert client.errors == 0 and client.broken is None
    client.close()


def test_free_memory_is_not_carried(silent, hinting):
    without = move(silent, silent.a, algorithm="pre-copy")
    assert without["free_page_hints"] is False
    assert without["wire_bytes"] > FREED_MIB << 20
    with_hints = move(hinting, hinting.a, algorithm="pre-copy")
    assert with_hints["free_page_hints"] is True
    assert with_hints["wire_bytes"] < 0.6 * without["wire_bytes"]
    # Pages of zeros that the guest's driver has made of them are nothing to slow it down for.
    assert all(f["decision"] == "go-on" for f in with_hints["forecasts"] if f["round"] == 2), with_hints["forecasts"]


def test_where_post_copy_is_possible_nobody_is_asked(hinting):
    assert move(hinting, hinting.b)["free_page_hints"] is False


def test_a_machine_without_the_key_has_no_balloon(silent, hinting):
    nodes = [node for node in (silent.a, silent.b) if node.qemu_pids()]
    assert nodes and not [word for node in nodes for word in command_line(node) if "balloon" in word]
    for c in (silent, hinting):
        node = c.a if c.a.state(VM) == "running" else c.b
        assert node.call("machine.get", name=VM)["spec"]["balloon"] == ("none" if c is silent else "free-page-hint")


def test_pages_taken_again_on_the_way_arrive(hinting):
    m = hinting.migrate(VM, hinting.a, wait=False, algorithm="pre-copy")
    wait_for(lambda: hinting.a.call("migration.get", id=m["id"])["progress"] > 30, 60, "free pages to be named")
    hinting.net.wan.tell("rate 5mbit")  # so that it is still under way when the guest takes them
    client = reuse(hinting)
    wait_for(lambda: client.ask()["reused_pages"] > REUSED_PAGES // 2, 60, "the guest to take memory")
    assert hinting.a.call("migration.get", id=m["id"])["outcome"] is None
    hinting.net.wan.tell("rate 100mbit")
    m = hinting.a.wait_migration(m["id"])
    assert m["outcome"] == "completed" and m["free_page_hints"] is True, m["error"]
    assert_reused_is_whole(client)
    hinting.assert_healthy(VM, hinting.b)


def test_after_a_cancel_the_guest_has_its_memory_again():
    with booted({"balloon": "free-page-hint"}) as c:
        m = c.migrate(VM, c.a, wait=False, algorithm="pre-copy")
        wait_for(lambda: c.a.call("migration.get", id=m["id"])["progress"] > 30, 60, "free pages to be named")
        c.a.call("migration.cancel", id=m["id"])
        assert c.a.wait_migration(m["id"])["outcome"] == "cancelled"
        assert_reused_is_whole(reuse(c))
        assert move(c, c.a, algorithm="pre-copy")["free_page_hints"] is True


def test_a_machine_file_adds_the_balloon(tmp_path):
    with Cluster(rate="1gbit", gates=True) as c:
        for name, line, balloon in (("new", "", "free-page-hint"), ("bare", "balloon = none\n", "none")):
            file = tmp_path / name
            file.write_text(f"name = {name}\nmemory_mib = 64\nmemory_extra_kib = 8\naccel = tcg\n{line}")
            c.a.cli("vm", "define", str(file))
            assert c.a.call("machine.get", name=name)["spec"]["balloon"] == balloon
            c.a.cli("vm", "start", name)
            assert any("virtio-balloon" in word for word in command_line(c.a)) == (balloon != "none")
            c.a.cli("vm", "stop", name, "--force")
