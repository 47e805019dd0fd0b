#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Runs every test of the project and ends with one line: N passed, N failed.

Stages: unit and fuzz replay under ASan+UBSan with coverage; libFuzzer for a
bounded time; the handoff's model with spin; the mover and the page store's threads under TSan; real QEMU in
namespaces, with the sanitized programs; the long back-and-forth run with the
programs as users get them.
A stage that can't be built or started counts as one failure. A test that failed is named at the end in any case; it
counts as passed if it then passes alone, each of two times.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PYTEST = ["/usr/bin/python3", "-m", "pytest", "-p", "no:cacheprovider", "-q", "--tb=short", "-rfE"]
TWO_AT_A_TIME = ["-n", "2", "--dist", "loadfile"]  # they wait more than they compute; each has namespaces of its own
# A test that failed beside another one is run alone (decision 080); more than a few that fail are no accident.
AGAIN_MOST = 6
TIMES_ALONE = 2
ASAN_ENV = {
    "ASAN_OPTIONS": "detect_leaks=0:abort_on_error=1:handle_abort=0",
    "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
    "TSAN_OPTIONS": "halt_on_error=1:exitcode=66:suppressions=" + os.path.join(ROOT, "tests/tsan.supp"),
}


class Tally:
    def __init__(self):
        self.passed = self.failed = self.skipped = 0
        self.complaints = []
        self.again = []

    def add(self, passed, failed, skipped=0):
        self.passed += passed
        self.failed += failed
        self.skipped += skipped

    def fail(self, what):
        self.failed += 1
        self.complaints.append(what)


def run(command, env=None, timeout=None):
    merged = dict(os.environ, **(env or {}))
    return subprocess.run(command, cwd=ROOT, env=merged, timeout=timeout).returncode


def setup(directory, *options, env=None):
    """Configures and builds; true if that worked."""
    if not os.path.exists(os.path.join(ROOT, directory, "build.ninja")):
        log = subprocess.run(["meson", "setup", directory, *options], cwd=ROOT, env=dict(os.environ, **(env or {})),
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if log.returncode:
            print(log.stdout[-3000:])
            return False
    return run(["ninja", "-C", directory, "--quiet"]) == 0


def passed_again(tally, failed, passes, most=AGAIN_MOST):
    """Those of ${failed} that pass when nothing else runs, each time; none if there are more than ${most}."""
    again = [test for test in failed if all(passes(test) for _ in range(TIMES_ALONE))] if len(failed) <= most else []
    tally.again += again
    return again


def meson_once(directory, *which):
    """{name of a test: result}"""
    run(["meson", "test", "-C", directory, "--no-rebuild", "--print-errorlogs", *which], ASAN_ENV)
    with open(os.path.join(ROOT, directory, "meson-logs", "testlog.json"), encoding="utf-8") as lines:
        return {test["name"].rsplit(" / ", 1)[-1]: test["result"] for test in map(json.loads, lines)}


def meson_tests(tally, directory, suites, again_most=AGAIN_MOST):
    results = meson_once(directory, *(argument for suite in suites for argument in ("--suite", suite)))
    failed = [name for name, result in results.items() if result not in ("OK", "EXPECTEDFAIL", "SKIP")]
    again = passed_again(tally, failed, lambda name: meson_once(directory, name)[name] == "OK", again_most)
    skipped = list(results.values()).count("SKIP")
    bad = len(failed) - len(again)
    tally.add(len(results) - bad - skipped, bad, skipped)


def pytest_once(directory, name, *arguments):
    """The exit status and the report, or None."""
    report = os.path.join(ROOT, directory, f"pytest-{name}.xml")
    if os.path.exists(report):
        os.unlink(report)
    code = run(PYTEST + [f"--junitxml={report}", *arguments],
               dict(ASAN_ENV, NC_BUILD=os.path.join(ROOT, directory), PYTHONDONTWRITEBYTECODE="1"))
    return code, ElementTree.parse(report).getroot().find("testsuite") if os.path.exists(report) else None


def failed_in(suite):
    """What pytest calls the tests of a report that failed, in it or around it; each once."""
    return list(dict.fromkeys(case.get("classname").replace(".", "/") + ".py::" + case.get("name") for case in suite.iter("testcase")
                              if case.find("failure") is not None or case.find("error") is not None))


def pytest(tally, directory, name, *arguments):
    code, suite = pytest_once(directory, name, *arguments)
    if suite is None:
        tally.fail(f"pytest {name} ended with status {code} and no report")
        return
    count = {k: int(suite.get(k, 0)) for k in ("tests", "failures", "errors", "skipped")}
    failed = failed_in(suite)
    again = passed_again(tally, failed, lambda test: pytest_once(directory, f"{name}-again", test)[0] == 0)
    bad = count["failures"] + count["errors"]
    bad = 0 if again and len(again) == len(failed) else bad - len(again)
    tally.add(count["tests"] - bad - count["skipped"], bad, count["skipped"])
    if code not in (0, 1) or count["tests"] == 0:
        tally.fail(f"pytest {name} ended with status {code}")


def stage_sanitized_units(tally):
    if not setup("build-asan", "-Db_sanitize=address,undefined", "-Db_lundef=false", "-Db_coverage=true",
                 "--buildtype=debugoptimized"):
        tally.fail("the sanitized build failed")
        return
    meson_tests(tally, "build-asan", ["unit", "fuzz"])


def stage_plain_units(tally):
    meson_tests(tally, "build", ["unit", "fuzz"])


def stage_fuzz(tally, seconds):
    out = subprocess.run(["tests/fuzz/run.sh", str(seconds)], cwd=ROOT, stdout=subprocess.PIPE,
                         stderr=subprocess.STDOUT, text=True)
    print(out.stdout[-2000:])
    counts = re.search(r"(\d+) passed, (\d+) failed", out.stdout)
    if counts:
        tally.add(int(counts[1]), int(counts[2]))
    if out.returncode and not (counts and int(counts[2])):
        tally.fail("the fuzz targets could not be run")


def stage_model(tally):
    out = subprocess.run(["tests/model/run.py"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    print(out.stdout)
    counts = re.search(r"(\d+) passed, (\d+) failed", out.stdout)
    if counts:
        tally.add(int(counts[1]), int(counts[2]))
    else:
        tally.fail("the model could not be checked")


def stage_tsan(tally):
    if not setup("build-tsan", "-Db_sanitize=thread", "-Db_lundef=false", "--buildtype=debugoptimized"):
        tally.fail("the TSan build failed")
        return
    meson_tests(tally, "build-tsan", ["tsan"], again_most=0)
    pytest(tally, "build-tsan", "tsan", "tests/integration/test_mover.py", "tests/integration/test_resume.py", *TWO_AT_A_TIME)


def stage_integration(tally):
    """All of it with the sanitized programs; the guest image is shared with the plain build."""
    guest = os.path.join(ROOT, "build-asan", "guest")
    if not os.path.exists(guest):
        os.symlink(os.path.join(ROOT, "build", "guest"), guest)
    pytest(tally, "build-asan", "integration", "tests/integration", "--deselect", "tests/integration/test_fifty.py",
           *TWO_AT_A_TIME)


def stage_fifty(tally):
    pytest(tally, "build", "fifty", "tests/integration/test_fifty.py", "-s")


def stage_coverage(tally):
    run(["gcovr", "--root", ".", "--filter", "src/", "--print-summary", "build-asan",
         "--gcov-ignore-parse-errors", "-j", "2"])


STAGES = {
    "units": stage_plain_units,
    "asan-units": stage_sanitized_units,
    "fuzz": lambda tally: stage_fuzz(tally, 15),
    "model": stage_model,
    "tsan": stage_tsan,
    "integration": stage_integration,
    "fifty": stage_fifty,
    "coverage": stage_coverage,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("stages", nargs="*", metavar="STAGE", help="of: " + ", ".join(STAGES) + " (default: all)")
    chosen = parser.parse_args().stages or list(STAGES)
    unknown = [s for s in chosen if s not in STAGES]
    if unknown:
        parser.error(f"no such stage: {', '.join(unknown)}")
    tally = Tally()
    for name in chosen:
        begin = time.monotonic()
        print(f"== {name}", flush=True)
        STAGES[name](tally)
        print(f"== {name}: {time.monotonic() - begin:.0f} s; so far {tally.passed} passed, {tally.failed} failed", flush=True)
    for complaint in tally.complaints:
        print(f"FAILED: {complaint}")
    for test in tally.again:
        print(f"FAILED ONCE, and passed {TIMES_ALONE} times alone (what went wrong is above): {test}")
    print(f"{tally.passed} passed, {tally.failed} failed, {tally.skipped} skipped")
    return 1 if tally.failed or not tally.passed else 0


if __name__ == "__main__":
    sys.exit(main())
