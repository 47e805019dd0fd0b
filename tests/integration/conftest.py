# SPDX-License-Identifier: Apache-2.0
import os
import sys

import pytest

os.environ.setdefault("NC_BEAT_MS", "10")  # before nctest is read; pauses are measured in bench/
sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "lib"))

from nctest.cluster import Cluster  # noqa: E402
from nctest.movers import Mover, Pair  # noqa: E402


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    item.went_wrong = report.failed or getattr(item, "went_wrong", False)


@pytest.hookimpl(trylast=True)  # what was its own is gone by then
def pytest_runtest_teardown(item, nextitem):
    """A test that failed takes none with it that uses the same nodes."""
    if not getattr(item, "went_wrong", False) or nextitem is None or nextitem.module is not item.module:
        return
    for cluster in list(Cluster.living):
        cluster.tidy()


@pytest.fixture
def pairs(tmp_path):
    made = []

    def make(**more):
        made.append(Pair(tmp_path, **more))
        return made[-1]
    yield make
    for pair in made:
        pair.close()


@pytest.fixture
def lone(tmp_path):
    made = []

    def make(role, *options):
        made.append(Mover(role, tmp_path, *options))
        return made[-1]
    yield make
    for mover in made:
        mover.close()
