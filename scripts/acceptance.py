#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Each claim of the versions so far: claim, value, target, verdict.

Runs the commands that show the claims and reads their numbers; nothing is
remembered from an earlier run. Ends with status 1 if a claim does not hold.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "bench"))

from claims import Claims  # noqa: E402

PYTHON = "/usr/bin/python3"
LIMIT_MS = 300


def run(*command):
    out = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return out.returncode, out.stdout


def demo(table):
    code, out = run(PYTHON, "scripts/demo.py")
    found = re.search(r"guest's memory errors: (\d+)", out)
    table.add("demo: there and back, guest's memory errors", found[1] if found else "?", "0", bool(found) and found[1] == "0")
    table.add("demo: TCP connection survived", "yes" if "survived: yes" in out else "no", "yes", "survived: yes" in out)
    equal = re.search(r"SHA-256 equal at both ends\s+(\S+)\s+(\S+)", out)
    table.add("demo: streams equal at both ends by SHA-256", " ".join(equal.groups()) if equal else "?", "yes yes",
              bool(equal) and equal.groups() == ("yes", "yes"))
    pauses = re.search(r"pause, as novacron says\s+(\d+) ms\s+(\d+) ms", out)
    worst = max(map(int, pauses.groups())) if pauses else None
    table.add("demo: longest pause, stop to resume", f"{worst} ms", f"<= {LIMIT_MS} ms", worst is not None and worst <= LIMIT_MS)
    if code:
        print(out[-1500:])


def tests(table, claim, *arguments):
    code, out = run(PYTHON, "-m", "pytest", "-p", "no:cacheprovider", "-q", "-s", *arguments)
    counts = re.search(r"(\d+) passed", out)
    failed = re.search(r"(\d+) failed", out)
    value = f"{counts[1] if counts else 0} passed" + (f", {failed[1]} failed" if failed else "")
    table.add(claim, value, "all", code == 0 and counts is not None)
    return out


def fifty(table):
    out = tests(table, "50 migrations of a busy guest, observed", "tests/integration/test_fifty.py")
    line = re.search(r"50 trips, (\d+) samples, 0 with two runners; pause ms median (\d+), max (\d+)", out)
    if line:
        table.add("  samples of who runs; two runners", f"{line[1]}; 0", "0", True)
        table.add("  pause, median and longest (reported, not a target)", f"{line[2]}, {line[3]} ms", "-", True)


def bench(table, program, *arguments):
    """Takes over the claims of a program of bench/."""
    with tempfile.NamedTemporaryFile(suffix=".json") as f:
        _, out = run(PYTHON, f"bench/{program}", *arguments, "--json", f.name)
        print(out)
        try:
            table.take(json.load(open(f.name))["claims"])
        except ValueError:  # it did not come to its end
            table.add(f"bench/{program} runs", "no", "yes", False)


def model(table):
    code, out = run("tests/model/run.py")
    counts = re.search(r"(\d+) passed, (\d+) failed", out)
    states = re.search(r": (\d+) states", out)
    table.add("model: two never run, none is never final; mutations are found", f"{counts[0]}" if counts else "?", "0 failed",
              code == 0 and counts is not None and counts[2] == "0")
    if states:
        table.add("  states explored", states[1], "-", True)


def fleet(table):
    """Decisions about many nodes, in the same code that `novacron simulate` plays."""
    build = os.environ.get("NC_BUILD", "build")
    tests(table, "simulate: same seed, same report; complaints name line and path", "tests/integration/test_simulate.py")
    run("ninja", "-C", build, "--quiet", "bench/fleet_bench")
    code, out = run(os.path.join(build, "bench/fleet_bench"))
    print(out)
    table.add("fleet: decisions about 10 000 nodes and 200 000 machines", "kept" if code == 0 else "missed", "kept", code == 0)


def chaos(table, count):
    with tempfile.NamedTemporaryFile(suffix=".json") as f:
        _, out = run(PYTHON, "tests/soak/soak.py", "--count", str(count), "--json", f.name)
        print(out[-3000:])
        try:
            soak = json.load(open(f.name))
        except ValueError:
            table.add(f"chaos: {count} migrations, a fault in each", "violated", "none", False)
            return
    table.add(f"chaos: {soak['count']} migrations, instants with two runners", str(soak["double"]), "0", soak["double"] == 0)
    table.least(f"chaos: of {soak['counted']} whose fault left the machine alive, arrived", 100 * soak["success"], 99.9, " %", 1)


def resume(table):
    tests(table, "20 resets of all connections, 60 s without link, new address, one of two paths dies, a path that loses segments",
          "tests/integration/test_paths.py")
    tests(table, "random streams, random faults: byte-equal", "tests/integration/test_resume.py")


def recovery(table):
    tests(table, "post-copy: taken up again, or said to be lost", "tests/integration/test_postcopy.py")
    tests(table, "what may pass is tried again", "tests/integration/test_retry.py")


def disks(table, rounds):
    tests(table, "disks: no record lost or torn, no copy left behind, whatever dies", "tests/integration/test_disks.py")
    tests(table, "what memory and disks both hold crosses once", "tests/integration/test_mover_disks.py", "tests/integration/test_disks.py",
          "-k", "once or twice or same_files or written_to_a_disk")
    bench(table, "disk_bench.py", "--rounds", rounds)


def five(table):
    tests(table, "five nodes, ten guests: one is emptied, last rounds take turns, what fits nowhere is said before", "tests/integration/test_fleet_five.py")
    bench(table, "fleet_five_bench.py")


def warm(table):
    tests(table, "warm return: kept, restarted, damaged, torn", "tests/integration/test_warm_return.py")
    bench(table, "warm_bench.py")


def checkpoint(table):
    bench(table, "checkpoint_bench.py")
    tests(table, "checkpoints: of one instant, verified, restored wholly or not at all", "tests/integration/test_checkpoint.py")


def dashboard(table):
    tests(table, "dashboard: in Chromium, a real migration, keyboard, contrast, no request elsewhere", "tests/integration/test_dashboard.py")
    bench(table, "dashboard_bench.py")


def parts(options):
    """{group: {part: what to do with the table}}, in the order in which they run."""
    rounds = str(options.rounds)
    return {
        "handoff": {
            "demo": demo,
            "fifty": fifty,
            "faults": lambda t: tests(t, "faults: one runner, nothing lost, cause and side named", "tests/integration/test_faults.py"),
            "model": model,
        },
        "wire": {
            "resume": resume,
            "paths": lambda t: bench(t, "paths_bench.py", "--rounds", rounds),
            "shaping": lambda t: bench(t, "shaping_bench.py"),
            "memory": lambda t: tests(t, "a mover's memory: shadow + 128 MiB (RLIMIT_DATA)", "tests/integration/test_mover.py", "-k", "memory"),
            "bench": lambda t: bench(t, "bench.py", "--rounds", rounds, "--rows", options.rows),
            "replay": lambda t: bench(t, "replay_bench.py", "--rounds", rounds),
            "size": lambda t: bench(t, "size_bench.py"),
        },
        "convergence": {
            "recovery": recovery,
            "postcopy": lambda t: bench(t, "postcopy_bench.py", "--rounds", rounds),
            "pause": lambda t: bench(t, "pause_bench.py"),
            "forecast": lambda t: bench(t, "forecast_bench.py"),
            "chaos": lambda t: chaos(t, options.chaos),
        },
        "disks": {
            "disks": lambda t: disks(t, rounds),
            "warm": warm,
            "checkpoint": checkpoint,
            "copies": lambda t: tests(t, "checkpoints on other nodes; back to the one before a migration", "tests/integration/test_checkpoint_copy.py"),
            "rollback": lambda t: tests(t, "rollback: killed at each of its eight steps, the machine runs once and the log tells the story, and shows every tampering",
                                        "tests/integration/test_rollback.py"),
        },
        "fleet": {
            "fleet": fleet,
            "controller": lambda t: tests(t, "fleet: moved, emptied, cancelled, killed in the middle; two controllers on one PostgreSQL", "tests/integration/test_fleet.py",
                                          "tests/integration/test_fleet_cli.py", "tests/integration/test_fleet_handing.py"),
            "five": five,
            "leader": lambda t: bench(t, "controller_bench.py"),
            "watch": lambda t: bench(t, "watch_bench.py"),
        },
        "seeing": {
            "metrics": lambda t: tests(t, "metrics: a real Prometheus of three nodes, promtool", "tests/integration/test_metrics.py"),
            "alerts": lambda t: tests(t, "alerts: raised by real conditions and cleared, webhook signed and repeated", "tests/integration/test_alerts.py"),
            "dashboard": dashboard,
            "terminal": lambda t: tests(t, "top, report, doctor", "tests/integration/test_top.py", "tests/integration/test_report.py"),
        },
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, help="of the bench")
    parser.add_argument("--rows", default="100mbit,hot,1gbit,veth", help="of the bench")
    parser.add_argument("--chaos", type=int, default=300, help="migrations with a fault in each")
    parser.add_argument("--only", action="append", help="a part or a group of parts, by name; more than once for more of them")
    parser.add_argument("--list", action="store_true", help="names groups and their parts, and ends")
    options = parser.parse_args()
    groups = parts(options)
    known = {**{name: set(group) for name, group in groups.items()}, **{part: {part} for group in groups.values() for part in group}}
    if options.list:
        for name, group in groups.items():
            print(f"{name}: {' '.join(group)}")
        return 0
    if unknown := [name for name in options.only or [] if name not in known]:
        parser.error(f"{unknown[0]}: no part and no group of parts (--list names them)")
    chosen = set().union(*(known[name] for name in options.only or groups))
    table = Claims()
    for group in groups.values():
        for part, run_part in group.items():
            if part in chosen:
                begin = time.monotonic()
                run_part(table)
                print(f"({part}: {(time.monotonic() - begin) / 60:.1f} minutes)", flush=True)
    return table.conclude()


if __name__ == "__main__":
    sys.exit(main())
