#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What does a checkpoint cost: the guest's pause, and the bytes of the second one?

The standard guest of the benches (real files in its page cache, memory written sparsely) and a disk; it then changes a twentieth. The pause is the longest gap in its heartbeat
while a background checkpoint is made, measured from outside; the bytes are what the store's files grow by, manifest included.

    NC_BUILD=build bench/checkpoint_bench.py [--memory MIB] [--json FILE]

Ends with status 1 if a claim was missed.
"""

import argparse
import os
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "tests/lib"))

from claims import Claims  # noqa: E402
from nctest import guest as watch  # noqa: E402
from nctest.cluster import Cluster  # noqa: E402
from nctest.net import wait_for  # noqa: E402
from nctest.standard_guest import describe, standard_guest  # noqa: E402

VM = "web1"
MIB = 1 << 20
DIRTIED = 0.05
SHARE_MOST = 0.08
PAUSE_MOST_MS = 100


def checkpoint(node, beats):
    since = time.monotonic()
    id = node.call("checkpoint.create", name=VM, mode="background")["id"]

    def ended():
        cp = node.call("checkpoint.get", id=id)
        return cp if cp["state"] != "making" else None
    cp = wait_for(ended, 120, "the checkpoint")
    if cp["state"] != "ready":
        raise RuntimeError(cp["error"]["message"])
    until = time.monotonic()
    return {"id": id, "seconds": until - since, "pause_outside_ms": beats.longest_gap_ms(since, until), "pause_said_ms": cp["pause_ms"],
            "data_bytes": cp["data_bytes"], "new_bytes": cp["new_bytes"], "stored_bytes": cp["stored_bytes"]}


def disk_with_files(directory, mib):
    """Half full of what compresses as programs do."""
    path = os.path.join(directory, "root.raw")
    with open(path, "wb") as f:
        f.truncate(mib * MIB)
        for source in sorted(p for p in (os.path.join("/usr/bin", n) for n in os.listdir("/usr/bin")) if os.path.isfile(p)):
            with open(source, "rb") as program:
                f.write(program.read(mib * MIB // 2 - f.tell()))
            if f.tell() >= mib * MIB // 2:
                break
    return path


def dirty_disk(node, mib):
    qmp = watch.QmpObserver(os.path.join(node.machine_dir(VM), "observer.sock"))
    line = f'qemu-io -d /machine/peripheral/dev-root/virtio-backend "write -P 0x5a 1M {mib}M"'
    qmp.command("human-monitor-command", **{"command-line": line})
    qmp.close()


def measure(memory_mib, rate_mib):
    """The guest writes without a break; ${rate_mib} and the time between the two say how much of its memory that is."""
    with Cluster(emulated=False) as c:
        disk = disk_with_files(c.bed.dir, 128)
        spec = standard_guest(VM, memory_mib=memory_mib, dirty_mb=rate_mib * MIB / 1e6)
        spec["nics"] = []
        spec["disks"].append({"name": "root", "path": disk, "format": "raw", "cache": "writeback"})
        print(describe(spec), flush=True)
        c.boot(spec=spec, timeout=240)
        beats = watch.Heartbeat()
        c.bed.on_close(beats.close)
        beats.add(os.path.join(c.a.machine_dir(VM), "beat.sock"))
        time.sleep(3)
        first = checkpoint(c.a, beats)
        dirty_disk(c.a, int(64 * DIRTIED))
        # The first one has taken its time, too: the guest wrote meanwhile.
        wanted = first["data_bytes"] * DIRTIED / (rate_mib * MIB)
        time.sleep(max(0.0, wanted - first["seconds"]))
        second = checkpoint(c.a, beats)
        return first, second


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--memory", type=int, default=1024, help="MiB")
    parser.add_argument("--json")
    args = parser.parse_args()
    first, second = measure(args.memory, rate_mib=3)
    for name, one in (("first", first), ("second", second)):
        print(f"{name:<7} {one['seconds']:6.2f} s, pause {one['pause_outside_ms']:6.1f} ms outside, {one['pause_said_ms']:6.1f} ms by QEMU; "
              f"{one['data_bytes'] / MIB:7.1f} MiB of data, {one['new_bytes'] / MIB:7.1f} MiB new, {one['stored_bytes'] / MIB:7.1f} MiB stored")
    changed = second["new_bytes"] / first["data_bytes"]
    claims = Claims()
    claims.most("the guest's pause, by its heartbeat", max(first["pause_outside_ms"], second["pause_outside_ms"]), PAUSE_MOST_MS, " ms", 1)
    claims.most(f"bytes of the second, of the first ({changed * 100:.1f} % of the data changed)", second["stored_bytes"] / first["stored_bytes"],
                SHARE_MOST, "", 3)
    return claims.conclude(args.json, first=first, second=second)


if __name__ == "__main__":
    sys.exit(main())
