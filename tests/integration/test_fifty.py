# SPDX-License-Identifier: Apache-2.0
"""Fifty times back and forth with a busy guest: the promise of the first version."""

import statistics

from nctest.cluster import Cluster, guest_spec
from nctest.guest import TcpClient

TRIPS = 50


def test_fifty_migrations_of_a_busy_guest():
    with Cluster(rate="1gbit", delay="5ms") as c:
        vm = c.boot(spec=guest_spec(memory_mib=128, ws=48, rate=10))
        observer = c.watch_runners(vm)
        client = TcpClient(c.net.client)
        pauses = []
        source = c.a
        for trip in range(TRIPS):
            m = c.migrate(vm, source)
            assert m["outcome"] == "completed", f"trip {trip}: {m['error']}"
            assert m["sha256_equal"] is True and m["sha256"] == m["destination_sha256"], f"trip {trip}"
            assert client.broken is None and client.errors == 0, f"trip {trip}: {client.broken}, {client.errors} errors"
            pauses.append(m["pause_ms"])
            source = c.other(source)
        assert client.backwards == 0
        c.assert_healthy(vm, source, client)
        assert observer.double == 0 and observer.samples > TRIPS
        print(f"\n{TRIPS} trips, {observer.samples} samples, 0 with two runners; "
              f"pause ms median {statistics.median(pauses):.0f}, max {max(pauses):.0f}")
