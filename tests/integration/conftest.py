# SPDX-License-Identifier: Apache-2.0
import os
import sys

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "lib"))

from nctest.movers import Mover, Pair  # noqa: E402


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


@pytest.fixture
def whole_nodes(cluster):
    """After a test that failed the next one still finds two nodes that live."""
    yield
    for node in (cluster.a, cluster.b):
        if node.is_dead():
            node.start()
