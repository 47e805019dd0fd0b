# SPDX-License-Identifier: Apache-2.0
"""The operator's programs before and after a move: what they get, what they may forbid, and that they can't hold anything up."""

import json
import os

import pytest
from nctest.cluster import Cluster, guest_spec
from nctest.net import wait_for

VM = "web1"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    hooks = tmp_path_factory.mktemp("hooks")
    os.chmod(hooks, 0o755)
    with Cluster(rate="1gbit", delay="2ms", hooks_dir=str(hooks), hook_timeout_ms=1500) as c:
        c.hooks = str(hooks)
        c.boot(spec=guest_spec(memory_mib=96, ws=8, rate=1))
        c.watch_runners(VM)
        yield c


@pytest.fixture(autouse=True)
def empty(cluster):
    yield
    for name in os.listdir(cluster.hooks):
        os.unlink(os.path.join(cluster.hooks, name))


def where(cluster):
    return next(node for node in (cluster.a, cluster.b) if node.state(VM) == "running")


def hook(cluster, name, script, mode=0o755):
    path = os.path.join(cluster.hooks, name)
    with open(path, "w") as f:
        f.write("#!/bin/sh\n" + script + "\n")
    os.chmod(path, mode)
    return path


def alive_in(group):
    """Processes of that group; those that nobody has reaped yet are dead."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            state, _, pgrp = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()[:3]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(pgrp) == group and state != "Z":
            found.append(int(pid))
    return found


def test_both_kinds_are_run_in_order_and_told_who_moves(cluster):
    source = where(cluster)
    out = os.path.join(cluster.hooks, "out")
    for name in ("pre-20", "pre-10-dns", "post-10"):
        hook(cluster, name, f"echo {name} >>{out}; cat >>{out}")
    hook(cluster, "pre-99~", "exit 1")  # an editor's backup is no hook
    m = cluster.migrate(VM, source)
    assert m["outcome"] == "completed", m["error"]
    lines = open(out).read().splitlines()
    assert lines[0::2] == ["pre-10-dns", "pre-20", "post-10"]
    for line, role in zip(lines[1::2], ("source", "source", "destination")):
        told = json.loads(line)
        assert told["vm"] == VM and told["migration"] == m["id"] and told["role"] == role
        assert told["source"] == source.name and told["destination"] == cluster.other(source).name
        assert told["spec"]["nics"][0]["bridge"] == "br0"
    assert any(e["event"] == "hooks" and "2 of pre-" in e["detail"] for e in m["events"])
    cluster.assert_healthy(VM, cluster.other(source))


def test_a_pre_hook_forbids_and_says_why(cluster):
    source = where(cluster)
    hook(cluster, "pre-policy", "echo 'not on a Friday' >&2; exit 3")
    m = cluster.migrate(VM, source)
    assert m["outcome"] == "failed" and m["error"]["code"] == "conflict"
    assert "pre-policy" in m["error"]["message"] and "status 3" in m["error"]["message"] and "not on a Friday" in m["error"]["message"]
    cluster.assert_healthy(VM, source)


def test_a_post_hook_that_fails_is_a_warning_and_the_machine_has_moved(cluster):
    source = where(cluster)
    hook(cluster, "post-dns", "echo no such zone; exit 1")
    m = cluster.migrate(VM, source)
    assert m["outcome"] == "completed", m["error"]
    there = cluster.other(source)
    record = wait_for(lambda: next(r for r in there.call("migration.list")["items"] if r["id"] == m["id"]), 5, "the record there")
    events = there.call("migration.get", id=record["id"])["events"]
    assert any(e["event"] == "warning" and "no such zone" in e["detail"] for e in events), events
    cluster.assert_healthy(VM, there)


@pytest.mark.parametrize("script", ["sleep 60", "trap '' TERM; while :; do sleep 1; done", "sleep 60 & exec sleep 60"])
def test_one_that_hangs_is_killed_with_all_it_started(cluster, script):
    source = where(cluster)
    marker = os.path.join(cluster.hooks, "marker")
    hook(cluster, "pre-slow", f"echo $$ >{marker}\n{script}")
    m = cluster.migrate(VM, source)
    assert m["outcome"] == "failed" and "did not end within 1500 ms" in m["error"]["message"]
    group = int(open(marker).read())
    wait_for(lambda: not alive_in(group), 5, "all that it has started to be gone")
    cluster.assert_healthy(VM, source)


def test_one_that_reads_nothing_and_says_much(cluster):
    source = where(cluster)
    hook(cluster, "pre-loud", "exec 0<&-; head -c 3000000 /dev/zero")
    m = cluster.migrate(VM, source)
    assert m["outcome"] == "completed", m["error"]


@pytest.mark.parametrize("mode,words", [(0o775, "written by others"), (0o644, "not an executable file")])
def test_files_that_others_may_write_are_not_run(cluster, mode, words):
    source = where(cluster)
    hook(cluster, "pre-odd", "exit 0", mode)
    m = cluster.migrate(VM, source)
    assert m["outcome"] == "failed" and words in m["error"]["message"]
    cluster.assert_healthy(VM, source)
