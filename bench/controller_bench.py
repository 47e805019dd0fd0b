#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What people wait for at a controller.

Pages: 100 000 finished migrations in SQLite, listed through novacrond and its gate, 100 to a page, from the first page to the last; a page's
time is that of the whole request over the local socket. Leaders: of two controllers on one PostgreSQL the one that leads is killed (kill -9); how long
until the other does what is asked of it. Both novacronds are real, no machine is needed.

    NC_BUILD=build bench/controller_bench.py [--kills 7] [--json FILE]

Ends with status 1 if a target was missed.
"""

import argparse
import os
import pathlib
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path[:0] = [os.path.join(ROOT, "tests/lib"), os.path.join(ROOT, "tests/integration")]

from claims import Claims  # noqa: E402
from gate_bed import BUILD, GATE, UnixConnection, exchange  # noqa: E402
from test_daemon import Node, wait_for  # noqa: E402
from test_fleet_handing import Fleet, try_ask  # noqa: E402
from with_postgres import Cluster as Postgres  # noqa: E402
from with_postgres import find_programs  # noqa: E402

PAGE_MS, LEADS_S, MIGRATIONS = 50, 10, 100_000


def page(socket, cursor):
    """The page and its milliseconds. The rate limit of local users is waited out."""
    path = "/api/v2/fleet/migrations?finished=true&limit=100" + (f"&cursor={cursor}" if cursor else "")
    while True:
        began = time.monotonic()
        answer = exchange(UnixConnection(str(socket)), "GET", path)
        took = (time.monotonic() - began) * 1000
        if answer.status != 429:
            assert answer.status == 200, answer.text
            return answer.json, took
        time.sleep(0.2)


def pages(claims, directory):
    database = directory / "fleet.db"
    directory.mkdir()
    subprocess.run(["ninja", "-C", BUILD, "--quiet", "bench/fleetdb_bench"], check=True)
    subprocess.run([os.path.join(BUILD, "bench/fleetdb_bench"), "--fill", database], check=True)
    node = Node(directory, controller="yes", database=database)
    socket, gate, times, rows, cursor = node.dir / "api.sock", None, [], 0, None
    try:
        node.start()
        with open(node.log, "ab") as log:
            gate = subprocess.Popen([GATE, "--control", node.control, "--socket", socket, "--no-https"], stdout=log, stderr=log)
        wait_for(socket.exists, 10, "the gate")
        wait_for(lambda: node.call("fleet.status")["leads"], 30, "it to lead")
        while True:
            answer, took = page(socket, cursor)
            times.append(took)
            rows += len(answer["items"])
            cursor = answer["next"]
            if cursor is None:
                break
    finally:
        if gate:
            gate.kill()
            gate.wait()
        node.close()
    print(f"{rows} migrations in {len(times)} pages: median {statistics.median(times):.1f} ms, longest {max(times):.1f} ms")
    claims.add("finished migrations listed over REST, each once", str(rows), str(MIGRATIONS), rows == MIGRATIONS)
    claims.most("longest of their pages of 100, whole request", max(times), PAGE_MS, " ms", 1)


def kill_leader(fleet):
    """Seconds until the other one has done something."""
    leader, other = fleet.ready()
    leader.terminate(signal.SIGKILL)
    began = time.monotonic()
    wait_for(lambda: try_ask(other, "fleet.cordon", node="host-c"), 60, "the other one to lead")
    took = time.monotonic() - began
    assert other.call("fleet.status")["leads"]
    return took


def leaders(claims, directory, kills):
    postgres, fleet, times = Postgres(find_programs()), None, []
    try:
        postgres.create()
        postgres.start()
        directory.mkdir()
        fleet = Fleet(directory, postgres)
        for _ in range(kills):
            times.append(kill_leader(fleet))
            print(f"the other one leads after {times[-1]:.1f} s", flush=True)
    finally:
        if fleet:
            fleet.close()
        postgres.stop()
        shutil.rmtree(postgres.dir, ignore_errors=True)
    claims.most(f"leader killed: the other one leads and acts, longest of {kills}", max(times), LEADS_S, " s", 1)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=7)
    parser.add_argument("--json")
    options = parser.parse_args()
    claims, directory = Claims(), pathlib.Path(tempfile.mkdtemp(prefix="ncb-", dir="/tmp"))
    try:
        pages(claims, directory / "pages")
        if find_programs():
            leaders(claims, directory / "leaders", options.kills)
        else:
            claims.add("leader killed: the other one leads and acts", "no PostgreSQL", f"<= {LEADS_S} s", False)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    return claims.conclude(options.json)


if __name__ == "__main__":
    sys.exit(main())
