# SPDX-License-Identifier: Apache-2.0
"""Two movers over the emulated link, fed without end: what the tests and the measurement of shaping share.

The movers' sockets live in the two namespaces, the movers themselves need not.
"""
import os
import pathlib
import random
import socket
import struct
import threading
import time

from .movers import PONG, Pair, ram_part, stream_head

PING = struct.pack(">HHI", 2, 4, 1)  # a return-path message of QEMU's: whole, so that it is passed on at once
PART_PAGES = 512


class ShapedPair:
    """A pair on ${topology}'s link; closed with ${bed}.

    ${congestion}: BBR stops for 0.2 s every 10 s to measure the round trip, which is seen in that second's rate.
    """

    def __init__(self, bed, topology, port, streams=2, compression="none", pattern="random", congestion="cubic"):
        self.topology, self.port, self.congestion = topology, port, congestion
        self.server = topology.b.within(lambda: socket.create_server(("10.99.0.2", port)))
        self.pair = Pair(pathlib.Path(bed.dir), streams=streams, compression=compression, connect=self._connect)
        bed.on_close(self.close)
        self.pair.ready()
        self.pattern, self.received, self.stopping = pattern, 0, False
        self.threads = []

    def _connect(self):
        a = self.topology.a.connect(("10.99.0.2", self.port))
        b, _ = self.server.accept()
        a.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, self.congestion.encode())
        return a, b

    def rate(self, bps):
        self.pair.source.send({"op": "rate", "bps": bps})

    def load(self):
        """Bulk as fast as the mover takes it, until close()."""
        rng = random.Random(self.port)
        part = ram_part([self.pattern] * PART_PAGES, rng)
        first = stream_head() + ram_part(["text"], rng, 0, b"pc.ram")
        self._spawn(lambda: self._feed(first, part))
        self._spawn(self._drain)

    def _spawn(self, run):
        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        self.threads.append(thread)

    def _feed(self, first, part):
        try:
            self.pair.qemu_source.sendall(first)
            while not self.stopping:
                self.pair.qemu_source.sendall(part)
        except OSError:
            pass  # closed meanwhile: the end

    def _drain(self):
        buffer = bytearray(1 << 20)
        try:
            while n := self.pair.qemu_destination.recv_into(buffer):
                self.received += n
        except OSError:
            pass

    def round_trip_s(self):
        """From a message of the destination's QEMU to the source's QEMU: one way of the return path."""
        began = time.monotonic()
        self.pair.qemu_destination.sendall(PONG)
        left = len(PONG)
        while left:
            left -= len(self.pair.qemu_source.recv(left))
        return time.monotonic() - began

    def progress(self):
        return self.pair.source.got("progress")[-1]

    def close(self):
        self.stopping = True
        self.pair.close()
        for end in (self.pair.qemu_source, self.pair.qemu_destination, self.server):
            end.close()
        for thread in self.threads:
            thread.join(10)


def stolen():
    """Seconds of processor time that the host of this machine has given to others so far."""
    return int(open("/proc/stat").readline().split()[8]) / os.sysconf("SC_CLK_TCK")


def undisturbed_wire(wan, seconds, tries=8):
    """wire_per_second() of a time in which this machine had its processors; of the last try, if there was none."""
    for _ in range(tries):
        before = stolen()
        rates = wire_per_second(wan, seconds)
        if stolen() - before < 0.05 * seconds:
            break
    return rates


def wire_per_second(wan, seconds, step=1.0):
    """Wire bytes from a to b in each of ${seconds} intervals of ${step} s, as rates."""
    rates = []
    at, had = time.monotonic(), wan.stats()["ab"]["wire_bytes"]
    for i in range(seconds):
        time.sleep(max(0.0, at + step - time.monotonic()))
        now, has = time.monotonic(), wan.stats()["ab"]["wire_bytes"]
        rates.append((has - had) / (now - at))
        at, had = now, has
    return rates
