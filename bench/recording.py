# SPDX-License-Identifier: Apache-2.0
"""Records the migration stream of the standard guest, as QEMU writes it."""

import json
import os
import subprocess
import time

from nctest.guest import Heartbeat
from nctest.net import BUILD, Bed, Topology, wait_for
from nctest.plain_qemu import ENDED, PlainQemu
from nctest.standard_guest import standard_guest

BANDWIDTH = 60 << 20  # so slow that pages are dirtied meanwhile, and sent again
DIRTY_MB = 20
LIMIT_S = 300


def record(path):
    """Into ${path}. The stream needs nobody to answer it: no return path, and `cat` as destination."""
    with Bed() as bed:
        net = Topology(bed, emulated=False)
        source = PlainQemu(bed, net.a, "a", standard_guest(dirty_mb=DIRTY_MB))
        beat = Heartbeat()
        bed.on_close(beat.close)
        beat.add(source.beat_path)  # somebody has to read it
        source.wait_ready()
        time.sleep(2)
        source.command("migrate-set-parameters", **{"max-bandwidth": BANDWIDTH, "downtime-limit": 300})
        source.command("migrate", uri=f"exec:cat >{path}")
        status = wait_for(lambda: ended(source), LIMIT_S, "the recording")
        if status != "completed":
            raise RuntimeError(f"the recording {status}: {source.command('query-migrate').get('error-desc')}")


def ended(source):
    status = source.command("query-migrate").get("status")
    return status if status in ENDED else None


def pages_of(path):
    """What bench/stream_pages.c says of it."""
    out = subprocess.run([os.path.join(BUILD, "bench/stream_pages"), path], check=True, stdout=subprocess.PIPE)
    return json.loads(out.stdout)
