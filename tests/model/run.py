#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Checks the model of the handoff with spin, then that the check can fail.

First the model as it is: all states, no violation; and once more within smaller bounds, with an operator who has a lost machine started anew. Then each precaution taken away
(MUTATE_ in handoff.pml), each row of the agents' table (src/agent/handoff_table.h)
removed, and rows added that must not be there: spin has to find every one.
Ends with `N passed, N failed`.
"""

import concurrent.futures
import os
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
MODEL = os.path.join(ROOT, "tests/model/handoff.pml")
TABLE = os.path.join(ROOT, "src/agent/handoff_table.h")
BOUNDS = {"CRASHES": 3, "DEATHS": 2, "FAILED_WRITES": 2, "STARTS_ANEW": 0, "ATTEMPTS": 2}
FEW = {"CRASHES": 2, "DEATHS": 1, "FAILED_WRITES": 1, "STARTS_ANEW": 0, "ATTEMPTS": 2}
FEW_ANEW = {**FEW, "STARTS_ANEW": 1}
BOUNDS_ANEW = {**FEW_ANEW, "DEATHS": 2}  # not BOUNDS: a start anew makes 2.4 times as many states (of FEW)
# What only a start anew brings to light.
ANEW = {"NOT_ASKED_TO_LET_GO", "LETS_GO_OF_WHAT_RUNS", "LETS_GO_WHILE_STARTING", "STARTED_UNASKED", "STARTED_THOUGH_WANTED_BACK",
        "PERMITTED_START_NOT_AWAITED", "PERMISSION_LOST_IN_CRASH"}
WRONG_ROWS = [
    ("NC_S_RELEASED", "NC_EV_ABORT", "NC_S_ABORTING"),
    ("NC_S_SERVING", "NC_EV_ABORT", "NC_S_ABORTING"),
    ("NC_S_VERIFYING", "NC_EV_ABORT", "NC_S_ABORTING"),
]


def check(definitions, table=None):
    """What spin finds: (violation or None, states, seconds). ${table}: in place of the agents' own."""
    with tempfile.TemporaryDirectory(prefix="novacron-model-") as top:
        here = os.path.join(top, "tests/model")
        there = os.path.join(top, "src/agent")
        os.makedirs(here)
        os.makedirs(there)
        shutil.copy(MODEL, here)
        with open(os.path.join(there, "handoff_table.h"), "w") as f:
            f.write(table if table is not None else open(TABLE).read())
        defines = [f"-D{name}" if value is None else f"-D{name}={value}" for name, value in definitions.items()]
        subprocess.run(["spin", *defines, "-a", "handoff.pml"], cwd=here, check=True, stdout=subprocess.DEVNULL)
        subprocess.run(["gcc", "-O0", "-w", "-DSAFETY", "-DNOREDUCE", "-o", "pan", "pan.c"], cwd=here, check=True)
        out = subprocess.run(["./pan", "-m100000", "-w22"], cwd=here, stdout=subprocess.PIPE, text=True).stdout
    states = re.search(r"(\d+) states, stored", out)
    errors = re.search(r"errors: (\d+)", out)
    if not states or not errors or "max search depth too small" in out:
        raise RuntimeError(f"spin did not come to its end:\n{out[-2000:]}")
    violation = re.search(r"pan:1: (.*)", out)
    return (violation[1] if violation else "?") if int(errors[1]) else None, int(states[1])


def rows():
    return re.findall(r"STEP\((NC_\w+), (NC_\w+), (NC_\w+)\)", open(TABLE).read())


def without(row):
    return re.sub(r" *STEP\(%s, %s, %s\)( \\\n|\n)" % row, lambda m: "  \\\n" if m[1] != "\n" else "\n", open(TABLE).read())


def with_row(row):
    marker = "#define NC_HANDOFF_STEPS(STEP) \\\n"
    return open(TABLE).read().replace(marker, marker + "  STEP(%s, %s, %s) \\\n" % row)


def mutations():
    """(what is broken, definitions, table or None)"""
    for name in sorted(set(re.findall(r"MUTATE_\w+", open(MODEL).read())) - {"MUTATE_"}):
        yield name[7:].lower().replace("_", " "), {**(FEW_ANEW if name[7:] in ANEW else FEW), name: None}, None
    for row in rows():
        yield "without %s, %s" % (row[0], row[1]), FEW, without(row)
    for row in WRONG_ROWS:
        yield "with %s, %s -> %s" % row, FEW, with_row(row)


def check_whole(bounds):
    """The model as it is. True: it holds."""
    violation, states = check(bounds)
    text = ", ".join(f"{value} {name.lower().replace('_', ' ')}" for name, value in bounds.items())
    print(f"model of the handoff ({text}): {states} states: {'holds' if violation is None else 'VIOLATED: ' + violation}", flush=True)
    return violation is None


def main():
    print("never two runners; a right on two disks only after an operator fenced; what has run elsewhere is not run again;")
    print("who still misses pages keeps the QEMU that has them; nobody waits for pages that never come;")
    print("nobody idle while the machine stands still:")
    whole = [BOUNDS, BOUNDS_ANEW]
    failed = sum(not check_whole(bounds) for bounds in whole)
    cases = list(mutations())
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        results = list(pool.map(lambda case: check(case[1], case[2]), cases))
    for (what, _, _), (found, _) in zip(cases, results):
        print(f"  broken: {what}: {'found' if found else 'NOT FOUND'}")
        failed += found is None
    total = len(whole) + len(cases)
    print(f"{total - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
