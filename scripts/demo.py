#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A real Linux machine moves between two nodes and back, live.

Two namespaces are two hosts, each with its novacrond and novacron-gate; between
them an emulated link (1 Gbit/s, 20 ms round trip). A 512 MiB Linux guest in a real
QEMU counts, serves TCP to a client in a third namespace, rewrites its memory
and verifies it, while it moves there and back.
"""

import argparse
import json
import os
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "tests/lib"))

from nctest.cluster import Cluster, guest_spec  # noqa: E402
from nctest.guest import TcpClient  # noqa: E402
from nctest.net import BUILD  # noqa: E402

VM = "web1"


def say(text):
    print(text, flush=True)


def migrate(cluster, source, client):
    """One trip with the CLI's own progress line; returns its result and what was seen from outside."""
    destination = cluster.other(source)
    say(f"\n$ novacron migrate {VM} --to {destination.name} --wait")
    paths = [os.path.join(node.machine_dir(VM), "beat.sock") for node in (source, destination)]
    cluster.heartbeat.forget()
    cluster.heartbeat.add(paths[1])
    begin = time.monotonic()
    command = [source.program("cli", "novacron"), "--socket", source.api, "migrate", VM, "--to", destination.name, "--wait", "--json"]
    out = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if not out.stdout.strip():
        raise SystemExit(f"demo: the migration could not be started (novacron: status {out.returncode})")
    result = json.loads(out.stdout)
    time.sleep(1)
    client.is_moving()
    result["trip"] = f"{source.name} -> {destination.name}"
    result["pause_beat_ms"] = cluster.heartbeat.pause_ms(*paths)
    result["stall_ms"] = cluster.heartbeat.longest_gap_ms(begin)
    result["pause_tcp_ms"] = client.longest_gap_ms(begin)
    return result


def table(trips, stat, client):
    def row(label, value):
        say(f"  {label:<40}" + "".join(f"{value(t):>18}" for t in trips))

    mib = 1 << 20
    say("")
    row("", lambda t: t["trip"])
    row("outcome", lambda t: t["outcome"])
    row("total", lambda t: f"{t['total_ms'] / 1000:.1f} s")
    row("pause, as novacron says", lambda t: f"{t['pause_ms']:.0f} ms")
    row("pause, by the guest's heartbeat", lambda t: f"{t['pause_beat_ms']:.0f} ms")
    row("longest stall, QEMU's set-up included", lambda t: f"{t['stall_ms']:.0f} ms")
    row("longest silence of the TCP client", lambda t: f"{t['pause_tcp_ms']:.0f} ms")
    row("memory moved", lambda t: f"{t['ram_bytes'] / mib:.0f} MiB")
    row("bytes on the wire", lambda t: f"{t['wire_bytes'] / mib:.1f} MiB")
    row("ratio", lambda t: f"{t['ram_bytes'] / max(t['wire_bytes'], 1):.1f} : 1")
    row("rounds", lambda t: str(t["rounds"]))
    row("SHA-256 equal at both ends", lambda t: "yes" if t["sha256_equal"] else "NO")
    say(f"\n  guest's memory errors: {stat['errors']} (of {stat['pages_verified']} pages verified)")
    say(f"  TCP connection survived: {'yes' if client.broken is None else 'NO: ' + client.broken}")


def play(cluster):
    say("\nEverything is up. In another terminal:")
    for node in (cluster.a, cluster.b):
        say(f"  export NOVACRON_SOCKET={node.api}   # {node.name}")
    say(f"  {cluster.a.program('cli', 'novacron')} vm list")
    say(f"  {cluster.a.program('cli', 'novacron')} migrate {VM} --to host-b --wait")
    say(f"  ip netns exec {cluster.net.client.name} busybox nc 10.77.0.2 7000       # the guest's counter")
    say(f"  echo 'rate 100mbit' | busybox nc local:{cluster.net.wan.control}   # change the link")
    say(f"  logs: {cluster.a.log}, {cluster.b.log}")
    say("Press Enter (or Ctrl-C) here to end and clean up.")
    try:
        sys.stdin.readline()
    except KeyboardInterrupt:
        pass


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keep", action="store_true", help="leave everything up at the end and say how to play with it")
    options = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("demo: network namespaces need root: run it with sudo")
    os.environ.setdefault("NC_QUIET", "1")
    say("Two hosts, each with novacrond and novacron-gate; 1 Gbit/s, 20 ms between them.")
    with Cluster(rate="1gbit", delay="10ms", gates=True) as cluster:
        say("Booting a 512 MiB Linux guest in a real QEMU on host-a ...")
        cluster.boot(spec=guest_spec(VM, memory_mib=512, ws=64, rate=10, fill=64))
        cluster.watch_heartbeat(VM)
        observer = cluster.watch_runners(VM)
        client = TcpClient(cluster.net.client)
        client.is_moving()
        say("It counts, writes 10 MiB/s of memory, verifies it, and talks TCP.")
        trips = [migrate(cluster, cluster.a, client)]
        if trips[0]["outcome"] == "completed":
            trips.append(migrate(cluster, cluster.b, client))
        stat = client.ask() or {"errors": "?", "pages_verified": 0}
        table(trips, stat, client)
        say(f"  instants with two runners: {observer.double} of {observer.samples} looked at")
        good = (all(t["outcome"] == "completed" and t["sha256_equal"] for t in trips) and len(trips) == 2 and
                stat["errors"] == 0 and client.broken is None and observer.double == 0)
        say(f"\n{'The machine moved there and back, and noticed nothing.' if good else 'SOMETHING WENT WRONG, see above.'}")
        if options.keep:
            play(cluster)
    print(f"(programs are in {os.path.relpath(BUILD)}/src)")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
