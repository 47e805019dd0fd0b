# SPDX-License-Identifier: Apache-2.0
"""The test bed itself: if plain QEMU can't move the guest unhurt here, no other result counts."""

import mmap
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from nctest.cluster import Cluster, guest_spec  # noqa: E402
from nctest.guest import TcpClient  # noqa: E402
from nctest.net import BUILD, Bed, Topology, Wan, wait_for  # noqa: E402
from nctest.plain_qemu import PlainPair, PlainQemu  # noqa: E402
from nctest.standing import Standing  # noqa: E402

NCWAN = os.path.join(BUILD, "tests/net/ncwan")
GUEST = os.path.join(BUILD, "guest/initrd.img")

pytestmark = pytest.mark.skipif(os.geteuid() != 0 or not os.path.exists("/dev/net/tun"), reason="needs root and /dev/net/tun")
needs_wan = pytest.mark.skipif(not os.path.exists(NCWAN), reason=f"{NCWAN} is not built")
needs_guest = pytest.mark.skipif(not os.path.exists(GUEST), reason=f"{GUEST} is not built (make guest)")

LINK = {"rate": "1gbit", "delay": "10ms"}
MOVES = {"plain_tcp": ("text", False), "multifd_zstd": ("sparse", True)}
RATE = 20  # MiB/s dirtied


@needs_wan
@needs_guest
@pytest.mark.parametrize("name", MOVES)
def test_plain_qemu_moves_the_guest_unhurt(name):
    pattern, multifd = MOVES[name]
    with PlainPair(LINK, guest_spec(ws=32, rate=RATE, pattern=pattern, fill=32)) as pair:
        client, observer = pair.connect(), pair.watch_runners()
        first = client.ask()["pages_written"]
        wait_for(lambda: client.ask()["pages_written"] > first + RATE * 256, 20, "the guest to dirty its memory")
        before = client.ask()["pages_written"]
        result = pair.measure(multifd=multifd)
        assert result["completed"], result
        assert client.is_moving(20) and client.broken is None and client.backwards == 0, client.broken
        stat = client.ask()
        wait_for(lambda: client.ask()["pages_verified"] > stat["pages_verified"] + 32 * 256, 60, "all pages to be verified")
        assert client.errors == 0
        assert stat["pages_written"] > before + 256, "hardly a page was dirtied during the move: it proves nothing"
        assert pair.guest_errors()[0] in (0, None) and pair.guest_errors()[1] is None
        assert observer.double == 0
        assert min(observer.answers(q.observer_path) for q in (pair.source, pair.destination)) > 20, "it did not see both"
        assert not pair.source.qmp.is_running() and pair.destination.qmp.is_running()
        assert 0 < result["pause_ms"] <= result["longest_gap_ms"] + 1
        assert result["wire_bytes"] > 1 << 20
        print({**result, "tcp_gap_ms": client.longest_gap_ms(), "samples": observer.samples})


PAGE = 4096


def is_load_page(page, pages):
    """A page of ncload's working set: number, generation, checksum of the rest."""
    number, generation, checksum = struct.unpack_from("<3Q", page)
    if number >= pages or not 0 < generation < 1 << 20:
        return False
    total = 0
    for word in struct.unpack_from(f"<{PAGE // 8 - 3}Q", page, 24):
        total = ((total << 1 | total >> 63) & (1 << 64) - 1) ^ word
    return total == checksum


def put_back_an_old_page(memory, pages):
    """What a migration that loses an update does: a page, whole and sound, of an earlier generation."""
    at = next(o for o in range(0, len(memory) - PAGE, PAGE) if is_load_page(memory[o:o + PAGE], pages))
    old = memory[at:at + PAGE]
    wait_for(lambda: memory[at:at + 16] != old[:16], 60, "the page to be written again")
    time.sleep(0.5)  # the guest is done writing it, and not so soon at it again
    memory[at:at + PAGE] = old


def flip_a_bit(memory, pages):
    at = next(o for o in range(0, len(memory) - PAGE, PAGE) if is_load_page(memory[o:o + PAGE], pages))
    memory[at + 2000] ^= 1


@needs_guest
@pytest.mark.parametrize("damage", [put_back_an_old_page, flip_a_bit])
def test_guest_notices(damage):
    """Without this, "0 errors" anywhere would mean nothing."""
    spec = guest_spec(memory_mib=128, ws=4, rate=0.25)
    with Bed() as bed:
        net = Topology(bed, emulated=False)
        path = os.path.join(bed.dir, "ram")
        PlainQemu(bed, net.a, "a", spec, memory_file=path).wait_ready()
        client = TcpClient(net.client)
        bed.on_close(client.close)
        wait_for(lambda: client.ask()["pages_written"] > 500, 60, "the guest to write")
        assert client.errors == 0
        with open(path, "r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
            damage(memory, 4 * 256)
        wait_for(lambda: client.ask()["errors"] > 0, 30, "the guest to notice")


@pytest.fixture
def link():
    with Bed() as bed:
        a, b = bed.netns("a"), bed.netns("b")
        yield bed, a, b, Wan(bed, a, b, "100mbit", "25ms")


def connect(bed, a, b):
    """A TCP connection across the link, made from both namespaces."""
    listener = b.within(lambda: socket.create_server(("10.99.0.2", 5000)))
    client = a.connect(("10.99.0.2", 5000))
    server = listener.accept()[0]
    bed.on_close(listener.close)
    bed.on_close(client.close)
    bed.on_close(server.close)
    return client, server


def received_mbit(client, server, seconds):
    """Sends as much as goes through and returns the rate at the receiver, the first second not counted."""
    client.setblocking(False)
    server.setblocking(False)
    total, begin, counted = 0, time.monotonic(), None
    block = bytes(262144)
    while (now := time.monotonic()) < begin + seconds:
        try:
            client.send(block)
        except BlockingIOError:
            pass
        try:
            total += len(server.recv(1 << 20))
        except BlockingIOError:
            time.sleep(0.001)
        if counted is None and now > begin + 1:
            counted = (now, total)
    return (total - counted[1]) * 8 / (now - counted[0]) / 1e6


@needs_wan
def test_link_keeps_its_delay_and_rate(link):
    bed, a, b, wan = link
    client, server = connect(bed, a, b)
    begin = time.monotonic()
    client.sendall(b"x")
    server.recv(1)
    server.sendall(b"x")
    client.recv(1)
    assert 0.050 <= time.monotonic() - begin < 0.080
    assert 80 < received_mbit(client, server, 4) < 96  # 94.1 is what Ethernet and TCP headers leave


@needs_wan
def test_link_down_stalls_and_up_resumes(link):
    bed, a, b, wan = link
    client, server = connect(bed, a, b)
    assert wan.tell("down") == "ok\n"
    client.sendall(b"x")
    server.settimeout(0.7)
    with pytest.raises(socket.timeout):
        server.recv(1)
    assert wan.stats()["ab"]["dropped_down"] > 0
    wan.tell("up")
    server.settimeout(10)
    assert server.recv(1) == b"x"


@needs_wan
def test_slow_link_made_fast_does_not_stay_blocked(link):
    bed, a, b, wan = link
    client, server = connect(bed, a, b)
    wan.tell("rate 100kbit")
    client.setblocking(False)
    sent = client.send(bytes(200000))  # 12500 bytes would pass in a second
    assert sent > 30000
    time.sleep(0.2)
    wan.tell("rate 1gbit")
    begin, got = time.monotonic(), 0
    server.settimeout(5)
    while got < sent:
        got += len(server.recv(65536))
    assert time.monotonic() - begin < 2


@needs_wan
@pytest.mark.parametrize("command", ["", "rate", "rate fast", "rate -1", "delay", "delay 99h", "loss 101", "loss nan", "queue 0", "xyz"])
def test_link_refuses_commands_it_does_not_know(link, command):
    assert link[3].tell(command).startswith("error:")


@needs_wan
def test_link_loses_the_share_it_was_told(link):
    _, a, b, wan = link
    wan.tell("loss 10")
    out = a.within(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    for _ in range(2000):
        out.sendto(b"x", ("10.99.0.2", 9))
        time.sleep(0.0002)
    out.close()
    wait_for(lambda: wan.stats()["ab"]["packets"] > 1500, 5, "the packets")
    assert 140 < wan.stats()["ab"]["dropped_loss"] < 260


@needs_wan
def test_link_ends_with_its_parent_and_leaves_nothing(link):
    _, a, _, wan = link
    assert "wan0" in a.ip("link", "show")
    wan.process.stdin.close()
    assert wan.process.wait(5) == 0
    assert "wan0" not in a.ip("link", "show")


@pytest.mark.parametrize("arguments", [[], ["--a", "x"], ["--a", "no-such-ns", "--b", "no-such-ns"], ["--loss", "x"]])
@needs_wan
def test_link_refuses_arguments(arguments):
    run = subprocess.run([NCWAN, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert run.returncode in (1, 2) and run.stderr


@needs_wan
def test_bed_leaves_no_namespace_behind():
    with pytest.raises(ZeroDivisionError):
        with Bed() as bed:
            name = bed.netns("a").name
            assert os.path.exists(f"/run/netns/{name}")
            1 / 0
    assert not os.path.exists(f"/run/netns/{name}")


@needs_wan
@needs_guest
def test_a_standing_guest_is_mended_or_another_one():
    """What tests may leave is set right; what they must not is seen when they give it back, and takes that guest out of the way of the next one."""
    test = SimpleNamespace(went_wrong=False)
    with Standing(guest_spec(memory_mib=128, ws=8, rate=1), rate="1gbit", delay="1ms") as standing:
        c, source, destination = standing.take()
        source.stop()
        destination.stop()
        destination.settings["qemu_binary"] = "/nonexistent/qemu"
        destination.write_config()
        destination.start(fault="destination-prepare:kill")
        c.net.wan.tell("down")
        standing.give_back(test)
        assert standing.take() == (c, source, destination)
        c.moves("web1", source)
        standing.give_back(test)
        assert standing.take() == (c, destination, source)
        source.process.send_signal(signal.SIGABRT)
        source.process.wait()
        with pytest.raises(AssertionError, match=f"novacrond on {source.name} ended with -{int(signal.SIGABRT)}"):
            standing.give_back(test)
        assert c not in Cluster.living and standing.c is None
        standing.c = c = Cluster()
        test.went_wrong = True
        standing.give_back(test)
        assert c not in Cluster.living and standing.c is None
