# SPDX-License-Identifier: Apache-2.0
"""novacron simulate as people call it: the documents' examples, the width of its text, its complaints. Needs no node."""

import json
import pathlib
import re
import subprocess

import pytest

from gate_bed import CLI
from nctest.net import ROOT

DOCS = pathlib.Path(ROOT) / "docs"
EXAMPLE = DOCS / "rack-scenario.json"


def simulate(*args, status=0):
    p = subprocess.run([CLI, "simulate", *map(str, args)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=60)
    assert p.returncode == status, p.stderr
    return p


def manual_example():
    text = (DOCS / "man" / "novacron-scenario.5.scd").read_text()
    return re.search(r"```\n(.*?)```", text, re.S).group(1)


def test_the_manuals_example_runs(tmp_path):
    (tmp_path / "rack.json").write_text(manual_example())
    report = json.loads(simulate(tmp_path / "rack.json", "--json").stdout)
    assert report["migrations"]["completed"] == 33 and report["evacuations"][0]["cannot_move"] == []


def test_text_fits_80_columns_and_says_what_can_not_move():
    out = simulate(EXAMPLE, status=6).stdout
    assert max(map(len, out.splitlines())) <= 80, out
    assert re.search(r"giant +no node can take giant", out) and "rack-1" in out and "Wave" in out


def test_report_is_the_same_for_the_same_seed():
    first = simulate(EXAMPLE, "--json", status=6).stdout
    assert first == simulate(EXAMPLE, "--json", status=6).stdout
    assert first != simulate(EXAMPLE, "--json", "--seed", 4, status=6).stdout


@pytest.mark.parametrize("content, complaint", [
    ('{\n  "nodes": [\n    {"name": "a" "memory_mib": 1}\n  ]\n}', "bad.json:3: not JSON"),
    ('{\n  "nodes": [\n    {"name": "a", "memory_mib": 0}\n  ]\n}', "bad.json:3: nodes[0].memory_mib: must be a number from 1"),
    ('{\n  "node": []\n}', "bad.json:2: node: there is no such key"),
])
def test_complaints_name_line_and_path(tmp_path, content, complaint):
    (tmp_path / "bad.json").write_text(content)
    assert complaint in simulate(tmp_path / "bad.json", status=2).stderr


def test_no_file():
    assert "nowhere.json" in simulate("/nowhere.json", status=4).stderr
    assert "--seed" in simulate(EXAMPLE, "--seed", -5, status=2).stderr
