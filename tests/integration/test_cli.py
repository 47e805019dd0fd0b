# SPDX-License-Identifier: Apache-2.0
"""The command line over a gate and a scripted novacrond: text, JSON, exit statuses, progress."""

import json
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import time

import pytest

from fake_novacrond import Refusal
from gate_bed import CLI, COMPLETED, FAKE_STORE, MIGRATION, STORE_HURT, Bed
from nctest.net import ROOT

COMMANDS = ["migrate", "check", "plan", "status", "top", "report", "doctor", "cancel", "limit", "resolve", "rollback", "alerts", "audit list", "audit verify", "vm define", "vm list",
            "vm show", "vm start", "vm stop", "vm destroy", "vm adopt",
            "checkpoint create", "checkpoint list", "checkpoint show", "checkpoint verify", "checkpoint restore",
            "checkpoint copy", "checkpoint cancel", "checkpoint schedule", "checkpoint delete", "store status", "store verify", "store gc", "store cancel",
            "node list", "node info", "node token", "node remove", "node cordon", "node uncordon", "evacuate", "batch", "queue", "history", "events",
            "token create", "token list", "token revoke",
            "fleet status", "fleet nodes", "fleet machines", "fleet list", "fleet batches", "fleet evacuations", "fleet show",
            "fleet migrate", "fleet batch", "fleet evacuate", "fleet cancel", "fleet cordon", "fleet uncordon", "pki init", "pki renew", "relay listen", "relay connect",
            "simulate", "version", "help"]


@pytest.fixture(scope="module")
def bed(tmp_path_factory):
    b = Bed(tmp_path_factory.mktemp("gate"), "--no-https")
    yield b
    b.close()


@pytest.fixture
def course(bed):
    """Lets migration.get show one state after the other, the last for ever."""
    before = bed.daemon.handlers["migration.get"]

    def play(*states):
        states = list(states)

        def get(args):
            state = states.pop(0) if len(states) > 1 else states[0]
            if isinstance(state, Exception):
                raise state
            return state
        bed.daemon.handlers["migration.get"] = get
    yield play
    bed.daemon.handlers["migration.get"] = before


def fits(text):
    return all(len(line) <= 80 for line in text.splitlines())


# --- help ---

@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_examples(command):
    out = subprocess.run([CLI, *command.split(), "--help"], stdout=subprocess.PIPE, text=True, timeout=20)
    assert out.returncode == 0 and f"novacron {command}" in out.stdout and "Example" in out.stdout
    same = subprocess.run([CLI, "help", *command.split()], stdout=subprocess.PIPE, text=True, timeout=20)
    assert same.returncode == 0 and same.stdout == out.stdout


def test_overview_lists_every_command(bed):
    out = bed.cli("--help")
    assert out.returncode == 0 and fits(out.stdout)
    listed = re.findall(r"^  ([a-z]+(?: [a-z]+)?)  +[A-Z]", out.stdout, re.M)
    assert listed == COMMANDS


def test_manual_describes_every_command_option_and_status():
    text = open(os.path.join(ROOT, "docs/man/novacron.1.scd"), encoding="utf-8").read()
    plain = text.replace("\\", "").replace("*", "").replace("_", "")
    for command in COMMANDS:
        assert command in plain, command
        out = subprocess.run([CLI, *command.split(), "--help-all"], stdout=subprocess.PIPE, text=True, timeout=20).stdout
        for option in re.findall(r"^  (?:-\w, )?--([a-z-]+)", out, re.M):
            assert option in ("help", "help-all", "help-global") or f"--{option}" in plain, option
    for status in ("0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "130"):
        assert re.search(rf"^\*{status}\*", text, re.M), status


def complete(*words):
    """What bash offers for the last of them."""
    script = os.path.join(ROOT, "packaging/completion/novacron.bash")
    out = subprocess.run(["bash", "-c", 'source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _novacron; printf "%s\\n" "${COMPREPLY[@]}"',
                          "bash", script, CLI, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=30)
    assert out.returncode == 0 and not out.stderr, out
    return out.stdout.split()


def test_bash_completes_every_command_and_option(tmp_path):
    assert set(complete("")) == {c.split()[0] for c in COMMANDS}
    for group in ("vm", "checkpoint", "fleet", "node", "store", "audit", "relay", "pki"):
        assert set(complete(group, "")) == {c.split()[1] for c in COMMANDS if c.startswith(group + " ")}
    assert complete("fleet", "ev") == ["evacuate", "evacuations"] and complete("help", "fleet", "ca") == ["cancel"]
    assert complete("--socket", "fleet", "hist") == ["history"]  # a value is no command
    for command in ("migrate", "fleet evacuate", "events"):
        out = subprocess.run([CLI, *command.split(), "--help-all"], stdout=subprocess.PIPE, text=True, timeout=20).stdout
        assert set(complete(*command.split(), "--")) == set(re.findall(r"^  (?:-\w, )?(--[a-z-]+)", out, re.M))
    (tmp_path / "machine.conf").touch()
    assert complete("vm", "define", f"{tmp_path}/mach") == complete("--socket", f"{tmp_path}/mach") == [f"{tmp_path}/machine.conf"]
    assert complete("migrate", "web1", "--to", "") == [] and complete("bogus", "") == []


@pytest.mark.skipif(not shutil.which("scdoc"), reason="scdoc is not installed")
@pytest.mark.parametrize("page", ["novacron.1.scd", "novacron-gate.8.scd", "novacron-scenario.5.scd", "novacrond.8.scd", "novacrond.conf.5.scd"])
def test_manuals_are_valid(page):
    with open(os.path.join(ROOT, "docs/man", page), encoding="utf-8") as f:
        subprocess.run(["scdoc"], stdin=f, stdout=subprocess.DEVNULL, check=True)


@pytest.mark.parametrize("arguments,word", [
    ([], "command is missing"), (["bogus"], "bogus"), (["vm"], "needs one of these"), (["vm", "bogus"], "vm bogus"),
    (["migrate"], "usage"), (["migrate", "web1"], "--to"), (["migrate", "a/b", "--to", "c"], "a/b"), (["migrate", "a", "b", "--to", "c"], "too many"),
    (["migrate", "a", "--to", "b", "--bogus"], "--bogus"), (["migrate", "a", "--to", "b", "--bandwidth-limit", "fast"], "not a rate"),
    (["migrate", "a", "--to", "b", "--streams", "x"], "streams"), (["migrate", "a", "--to", "b", "--streams", "99"], "streams"),
    (["migrate", "a", "--to", "b", "--compression", "gzip"], "compression"), (["report"], "usage"), (["report", "m-1", "--md", "--html", "x"], "exclude"), (["doctor", "a/b"], "a/b"), (["migrate", "a", "--to", "b", "--max-cpu", "101"], "max_cpu"), (["resolve", "m-1"], "--run-here"), (["rollback"], "usage"),
    (["rollback", "m-1", "--back", "--checkpoint", "c-1"], "exclude"), (["audit"], "needs one of these"), (["audit", "list", "--limit", "0"], "--limit"),
    (["audit", "list", "--before", "x"], "--before"), (["audit", "verify", "--expect", "5"], "expect"), (["audit", "verify", "--seal", "x"], "--file"), (["cancel"], "usage"), (["limit", "m-1"], "--bandwidth"),
    (["migrate", "a", "--to", "b", "--trust-base"], "--keep-chain"), (["check", "a", "--to", "b", "--trust-base"], "--keep-chain"),
    (["vm", "adopt", "a"], "--qmp"), (["vm", "show", ".."], ".."), (["pki", "init"], "--name"), (["pki", "renew", "--days", "7301"], "--days"), (["pki", "renew", "--from", "a b"], "a b"),
    (["pki", "init", "--name", "a", "--address", "nowhere"], "nowhere"), (["node", "token", "--ttl", "soon"], "not a duration"),
    (["node", "token", "--ttl", "1s"], "ttl_s"), (["vm", "list", "extra"], "too many"), (["help", "bogus"], "bogus"),
])
def test_misuse_exits_2(bed, arguments, word):
    out = bed.cli(*arguments)
    assert out.returncode == 2 and word in out.stderr, out.stderr


# --- reaching NovaCron ---

def test_nobody_there(tmp_path):
    out = subprocess.run([CLI, "--socket", str(tmp_path / "s"), "vm", "list"], stderr=subprocess.PIPE, text=True, timeout=20)
    assert out.returncode == 8
    assert out.stderr == (f"novacron: can't reach NovaCron at {tmp_path}/s: is novacrond (and novacron-gate) running? "
                          "(systemctl status novacron-gate)\n")


def test_socket_from_the_environment(bed):
    out = subprocess.run([CLI, "vm", "list"], stdout=subprocess.PIPE, text=True, timeout=20, env={"NOVACRON_SOCKET": bed.socket})
    assert out.returncode == 0 and "web1" in out.stdout


def test_global_options_stand_anywhere(bed):
    for arguments in (["--json", "vm", "list"], ["vm", "list", "--json"], ["vm", "--json", "list"]):
        out = bed.cli(*arguments)
        assert (out.returncode == 0) == (arguments != ["vm", "--json", "list"])


@pytest.mark.parametrize("code,status", [("not_found", 4), ("exists", 5), ("conflict", 5), ("unsuitable", 6), ("resource", 7),
                                         ("unreachable", 8), ("timeout", 8), ("trust", 3), ("forbidden", 3), ("qemu", 10), ("internal", 1),
                                         ("needs_attention", 11)])
def test_exit_status_of_refusals(bed, code, status):
    def refuse(args):
        raise Refusal(code, "the destination (host-b) has no bridge br0: create it\x1b[31m")
    before, bed.daemon.handlers["machine.start"] = bed.daemon.handlers["machine.start"], refuse
    try:
        out = bed.cli("vm", "start", "web1")
    finally:
        bed.daemon.handlers["machine.start"] = before
    assert out.returncode == status
    assert out.stderr == "novacron: the destination (host-b) has no bridge br0: create it?[31m\n" and out.stdout == ""


# --- commands ---

@pytest.mark.parametrize("arguments,words", [
    (["vm", "list"], ["web1", "running", "2.0 GiB", "held"]), (["vm", "show", "web1"], ["process 4711", "epoch 3", '"vcpus": 2']),
    (["vm", "start", "web1"], ["web1: running"]), (["vm", "stop", "web1"], ["web1: stopped"]), (["vm", "destroy", "web1"], ["forgotten"]),
    (["vm", "adopt", "web1", "--qmp", "q.sock"], ["web1: running"]), (["node", "list"], ["host-a", "joined (here)", "2027-01-02"]),
    (["node", "info"], ["host-a", "7.2.0", "8.0 GiB"]), (["node", "remove", "host-b"], ["no longer part"]),
    (["node", "token", "--ttl", "15min", "--name", "host-c"], ["nc1.id.secret.ca"]), (["status"], ["memory_copy", "completed", "43 %"]),
    (["status", "m-1"], ["released: epoch 4", "pause", "212 ms", "03:04:13.900", "equal on both sides", "25 % lz4, 75 % zstd:1 of 120 batches, 3 changes"]),
    (["token", "list"], ["tok-0t7bd31dsw67hqqr", "ci", "operator", "2026-04-02", "never", "revoked"]), (["token", "revoke", "tok-1"], ["not good any more"]),
    (["cancel", "m-1"], ["web1 stays on host-a"]), (["limit", "m-1", "--qos", "high"], ["m-1: class"]),
    (["checkpoint", "create", "web1"], ["c-0tnpya6pejb5gsgd", "14 ms", "disk root"]), (["checkpoint", "list"], ["web1", "ready", "5.0 MiB"]),
    (["checkpoint", "show", "c-1"], ["before the upgrade", "128.0 MiB not zero"]), (["checkpoint", "verify", "c-1"], ["256.0 MiB"]),
    (["checkpoint", "restore", "c-restored", "--as", "web2"], ["web2 is as web1 was"]), (["checkpoint", "delete", "c-1"], ["is deleted"]),
    (["checkpoint", "schedule", "web1", "--every", "1h"], ["the last 24"]),
    (["store", "status"], ["3.0 GiB of a budget of 10.0 GiB", "2.82", "AES-256-GCM", "gc --dry-run"]),
    (["store", "verify"], ["is whole", "2097152 pages", "3 manifests"]), (["store", "verify", "--no-wait"], ["running"]),
    (["store", "gc", "--dry-run"], ["512.0 MiB could be freed", "1 packs by checkpoints"]), (["store", "cancel"], ["gc of the store ends"]),
    (["resolve", "m-1", "--run-here"], ["resumes web1"]), (["rollback", "m-back"], ["m-back is being rolled back"]),
    (["rollback", "m-back", "--wait"], ["rollback r-1 (source), completed", "restore-disks: nothing-to-do", "clean-up: done"]),
    (["alerts"], ["WARNING", "NovacronHighLatency", "migration m-0t7bd31dsw67hqqr", "round trip of 240 ms", "filling the link", "resolved", "until 2026-01-02T03:06:05.678Z"]),
    (["audit", "list"], ["4711", "uid:0: request, web1", '"machine.start"']), (["audit", "verify"], ["is whole", "4711", "host-b has heard of entry 4700"]), (["version"], ["novacron 0."]),
])
def test_text_and_json(bed, arguments, words):
    out = bed.cli(*arguments)
    assert out.returncode == 0, out.stderr
    for word in words:
        assert word in out.stdout, out.stdout
    assert fits(out.stdout), out.stdout
    out = bed.cli(*arguments, "--json")
    assert out.returncode == 0 and len(out.stdout.splitlines()) == 1 and isinstance(json.loads(out.stdout), dict)


def test_requests_say_what_was_asked(bed):
    bed.cli("node", "token", "--ttl", "15min", "--name", "host-c")
    assert bed.daemon.last("node.token")["args"] == {"ttl_s": 900, "name": "host-c"}
    out = bed.cli("token", "create", "--subject", "ci", "--role", "admin", "--expires", "never", "--scope", "fleet")
    assert out.stdout == "tok-0t7bd31dsw67hqqr." + "5e" * 32 + "\n" and "not shown again" in out.stderr  # to be redirected into a file
    assert bed.daemon.last("token.create")["args"] == {"subject": "ci", "role": "admin", "expires_s": 0, "scope": "fleet"}
    bed.cli("vm", "stop", "web1", "--force")
    assert bed.daemon.last("machine.stop")["args"] == {"name": "web1", "force": True}
    bed.cli("vm", "adopt", "a", "--qmp", "q.sock", cwd="/tmp")
    assert bed.daemon.last("machine.adopt")["args"] == {"name": "a", "qmp": "/tmp/q.sock"}
    bed.cli("migrate", "web1", "--to", "host-b", "--max-downtime", "100", "--bandwidth", "800Mbit", "--compression", "zstd:3",
            "--streams", "4", "--max-cpu", "50", "--qos", "critical", "--target-rate", "20MB/s")
    assert bed.daemon.last("migration.create")["args"] == {"vm": "web1", "to": "host-b", "max_downtime_ms": 100, "streams": 4,
                                                          "bandwidth_limit_bps": 100000000, "compression": "zstd:3", "max_cpu": 50, "qos": "critical", "target_rate_bps": 20000000}
    bed.cli("check", "web1", "--to", "host-b", "--keep-chain", "--trust-base")
    assert bed.daemon.last("migration.check")["args"] == {"vm": "web1", "to": "host-b", "disk_chain": "trust"}
    bed.cli("migrate", "web1", "--to", "host-b", "--keep-chain")
    assert bed.daemon.last("migration.create")["args"] == {"vm": "web1", "to": "host-b", "disk_chain": "keep"}
    bed.cli("limit", "m-1", "--bandwidth", "0", "--qos", "background")
    assert bed.daemon.last("migration.limit")["args"] == {"id": "m-1", "bandwidth_limit_bps": 0, "qos": "background"}
    bed.cli("migrate", "web1", "--to", "host-b")
    assert bed.daemon.last("migration.create")["args"] == {"vm": "web1", "to": "host-b"}


def test_tables_fit_whatever_the_names(bed):
    long = {**MIGRATION, "vm": "v" * 63, "source": "s" * 63, "destination": "d" * 63, "phase": "needs_attention"}
    before, bed.daemon.handlers["migration.list"] = bed.daemon.handlers["migration.list"], lambda args: {"items": [long], "next": None}
    try:
        out = bed.cli("status")
    finally:
        bed.daemon.handlers["migration.list"] = before
    assert fits(out.stdout) and MIGRATION["id"] in out.stdout and "needs_attention" in out.stdout and "vvv~" in out.stdout


def test_status_tells_of_disks(bed):
    disk = {"name": "root", "path": "/srv/web1.qcow2", "format": "qcow2", "size_bytes": 4 << 30, "state": "copying", "flattened": True,
            "copied_bytes": 1 << 30, "total_bytes": 2 << 30, "wire_bytes": 256 << 20, "rate_bps": 80100000, "iops": 120.4,
            "write_limit_bps": 4000000, "write_blocking": False}
    before = bed.daemon.handlers["migration.get"]
    bed.daemon.handlers["migration.get"] = lambda args: {**MIGRATION, "phase": "disk_copy", "progress": 31, "rate_bps": 0, "disks": [disk]}
    out = bed.cli("status", MIGRATION["id"])
    bed.daemon.handlers["migration.get"] = before
    assert out.returncode == 0, out.stderr
    for word in ("disk_copy", "31 %", "80.1 MB/s", "1.0 GiB left", "disk root", "copying, 50 % of 2.0 GiB, 256.0 MiB on the wire", "120 IOPS",
                 "flattened", "writes limited to 4.0 MB/s"):
        assert word in out.stdout, (word, out.stdout)


def test_a_damaged_store_is_named_and_exits_10(bed):
    before = bed.daemon.handlers["store.verify"]
    bed.daemon.handlers["store.verify"] = FAKE_STORE.show(STORE_HURT)
    try:
        out, as_json = bed.cli("store", "verify"), bed.cli("store", "verify", "--json")
    finally:
        bed.daemon.handlers["store.verify"] = before
    assert out.returncode == as_json.returncode == 10
    assert "checkpoint c-1 of web1: 12 pages" in out.stdout and "packs/00000001.pack at 4711" in out.stdout and fits(out.stdout)
    assert "is damaged" in out.stderr and json.loads(as_json.stdout)["activity"]["lost"] == 12


def test_empty_lists(bed):
    for op, arguments, nothing in (("machine.list", ["vm", "list"], []), ("migration.list", ["status"], {"items": [], "next": None})):
        before, bed.daemon.handlers[op] = bed.daemon.handlers[op], lambda args: nothing
        out = bed.cli(*arguments)
        bed.daemon.handlers[op] = before
        assert out.returncode == 0 and out.stdout.startswith("No m")


def test_define_reads_machine_files(bed, tmp_path):
    conf = tmp_path / "web1.conf"
    conf.write_text("[machine]\nname = web1\nvcpus = 2\nmemory_mib = 64\n[disk root]\npath = /srv/web1.qcow2\n")
    out = bed.cli("vm", "define", str(conf))
    assert out.returncode == 0 and "vm start web1" in out.stdout, out.stderr
    spec = bed.daemon.last("machine.define")["args"]["spec"]
    assert spec["name"] == "web1" and spec["vcpus"] == 2 and spec["disks"][0]["path"] == "/srv/web1.qcow2"
    as_json = tmp_path / "web2.json"
    as_json.write_text('{"name": "web2", "vcpus": 1}')
    assert bed.cli("vm", "define", str(as_json)).returncode == 0
    assert bed.daemon.last("machine.define")["args"]["spec"] == {"name": "web2", "vcpus": 1}
    conf.write_text("[machine]\nname = web1\ncolour = red\n")
    out = bed.cli("vm", "define", str(conf))
    assert out.returncode == 2 and "colour" in out.stderr and "web1.conf" in out.stderr
    out = bed.cli("vm", "define", str(tmp_path / "nothing"))
    assert out.returncode != 0 and "nothing" in out.stderr


def test_pki_init(tmp_path):
    def run(*more):
        return subprocess.run([CLI, "pki", "init", "--dir", str(tmp_path / "d/pki"), "--name", "host-a", "--address", "192.0.2.1:7450", *more],
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=20)
    out = run("--json")
    assert out.returncode == 0 and json.loads(out.stdout)["name"] == "host-a"
    assert sorted(os.listdir(tmp_path / "d/pki")) == ["ca.crt", "ca.key", "node.crt", "node.key", "roster.json", "roster.sig"]
    assert run().returncode == 5


# --- migrate ---

def test_migrate_without_waiting(bed):
    out = bed.cli("migrate", "web1", "--to", "host-b")
    assert out.returncode == 0 and f"novacron status {MIGRATION['id']}" in out.stdout


def test_wait_shows_the_cost(bed, course):
    course(MIGRATION, MIGRATION, COMPLETED)
    out = bed.cli("migrate", "web1", "--to", "host-b", "--wait")
    assert out.returncode == 0
    assert "web1 now runs on host-b." in out.stdout and "212 ms (limit 300 ms; QEMU's own figure: 180 ms)" in out.stdout
    assert "memory_copy   43 %  112.3 MB/s  ratio 4.0  256.0 MiB left  ETA 12.0 s" in out.stderr
    assert "\r" not in out.stderr and "\x1b" not in out.stderr
    assert fits(out.stdout) and fits(out.stderr)


def test_plain_lines_come_every_two_seconds(bed, course):
    course(*[MIGRATION] * 20, COMPLETED)
    begin = time.monotonic()
    out = bed.cli("migrate", "web1", "--to", "host-b", "--wait")
    lines = out.stderr.count("memory_copy")
    assert 2 <= lines <= 1 + (time.monotonic() - begin) / 2


def test_wait_json_is_one_object(bed, course):
    course(MIGRATION, COMPLETED)
    out = bed.cli("migrate", "web1", "--to", "host-b", "--wait", "--json")
    assert out.returncode == 0 and len(out.stdout.splitlines()) == 1
    result = json.loads(out.stdout)
    for key in "id outcome phase total_ms pause_ms qemu_downtime_ms ram_bytes wire_bytes rounds sha256".split():
        assert key in result
    assert result["outcome"] == "completed" and "events" not in result


@pytest.mark.parametrize("end,status,word", [
    ({"outcome": "cancelled", "phase": "cancelled"}, 9, "runs where it was"),
    ({"outcome": "failed", "phase": "failed", "error": {"code": "corrupt", "message": "SHA-256 differs on the destination"}}, 10, "SHA-256 differs"),
    ({"outcome": "failed", "phase": "failed", "error": {"code": "unsuitable", "message": "no bridge br0 on the destination"}}, 6, "no bridge"),
    ({"outcome": "failed", "phase": "failed", "error": None}, 10, "failed"),
    ({"phase": "needs_attention", "attention": "host-b does not answer: novacron resolve m-1 --run-here"}, 11, "resolve m-1 --run-here"),
])
def test_exit_status_of_outcomes(bed, course, end, status, word):
    course(MIGRATION, {**MIGRATION, **end})
    out = bed.cli("migrate", "web1", "--to", "host-b", "--wait", "--json")
    assert out.returncode == status and word in out.stderr
    assert json.loads(out.stdout)["phase"] == end["phase"]


def test_waiting_survives_a_restart_of_novacrond(bed, course):
    course(MIGRATION, Refusal("unreachable", "novacrond is away"), Refusal("timeout", "slow"), MIGRATION, COMPLETED)
    out = bed.cli("migrate", "web1", "--to", "host-b", "--wait")
    assert out.returncode == 0, out.stderr


def test_waiting_ends_when_the_migration_is_unknown(bed, course):
    course(MIGRATION, Refusal("not_found", "no migration m-1 on this node"))
    out = bed.cli("migrate", "web1", "--to", "host-b", "--wait")
    assert out.returncode == 4 and "no migration m-1" in out.stderr


def test_interrupting_says_how_to_go_on(bed, course):
    course(MIGRATION)
    process = subprocess.Popen([CLI, "--socket", bed.socket, "migrate", "web1", "--to", "host-b", "--wait"], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=10)
    assert process.returncode == 130
    assert "the migration goes on" in err and f"novacron cancel {MIGRATION['id']}" in err and out == ""


def test_terminal_gets_one_line_redrawn(bed, course):
    course(*[{**MIGRATION, "progress": p} for p in (10, 20, 30)], COMPLETED)
    terminal, child = pty.openpty()
    process = subprocess.Popen([CLI, "--socket", bed.socket, "migrate", "web1", "--to", "host-b", "--wait"], stdout=subprocess.PIPE,
                               stderr=child, text=True)
    os.close(child)
    shown = b""
    while process.poll() is None or select.select([terminal], [], [], 0.2)[0]:
        if select.select([terminal], [], [], 0.2)[0]:
            try:
                shown += os.read(terminal, 4096)
            except OSError:
                break
    process.communicate(timeout=10)
    os.close(terminal)
    assert process.returncode == 0
    assert shown.count(b"\r") >= 4 and b"\x1b[K" in shown and b"30 %" in shown
    assert shown.count(b"\n") == 1  # the title; progress stays on its line and is wiped at the end


def test_output_that_can_not_be_written(bed):
    with open("/dev/full", "w", encoding="ascii") as full:
        out = subprocess.run([CLI, "--socket", bed.socket, "vm", "list"], stdout=full, stderr=subprocess.PIPE, text=True, timeout=20)
    assert out.returncode == 10 and "could not be written" in out.stderr


def test_check_shows_verdicts_and_what_to_do(bed):
    out = bed.cli("check", "web1", "--to", "host-b")
    assert out.returncode == 0 and "It can go there; see above." in out.stdout
    assert "  ok       round trip        20.1 ms" in out.stdout and "-> a machine type both know" in out.stdout
    out = bed.cli("check", "odd", "--to", "host-b")
    assert out.returncode == 6 and "FAILED   bridge" in out.stdout and "It can't go there now." in out.stdout
    assert bed.daemon.last("migration.check")["args"] == {"vm": "odd", "to": "host-b"}
    assert json.loads(bed.cli("check", "odd", "--to", "host-b", "--json").stdout)["verdict"] == "failed"
    out = bed.cli("check", "web1")
    assert out.returncode == 2 and "--to NODE is needed" in out.stderr


def test_report_of_each_form(bed, tmp_path):
    out = bed.cli("report", "m-1", cwd=tmp_path)
    assert out.returncode == 0 and out.stdout == "m-1.html\n"
    html = (tmp_path / out.stdout.strip()).read_text(encoding="utf-8")
    assert html.startswith("<!DOCTYPE html>") and COMPLETED["sha256"] in html and "throttle" in html
    assert bed.cli("report", "m-1", "--md").stdout.startswith("# web1, host-a -\\> host-b\n")
    assert json.loads(bed.cli("report", "m-1", "--json").stdout)["record"] == COMPLETED
    assert bed.cli("report", "m-1", "-o", "-").stdout.startswith("<!DOCTYPE html>")
    assert bed.cli("report", "m-nobody").returncode == 4


def test_doctor_shows_causes_and_what_to_do(bed):
    out = bed.cli("doctor")
    assert out.returncode == 2 and out.stdout.startswith("node host-a\n") and "There are problems." in out.stdout and fits(out.stdout)
    assert "PROBLEM  peer: host-b" in out.stdout and "-> is that host up?" in out.stdout and "\x1b" not in out.stdout
    out = bed.cli("doctor", "m-1")
    assert out.returncode == 1 and "ok       pause: 212 ms, within 300 ms" in out.stdout and "because: the guest dirties its memory faster" in out.stdout and fits(out.stdout)
    result = json.loads(bed.cli("doctor", "--json").stdout)
    assert result["verdict"] == "failed" and [f["check"] for f in result["findings"]] == ["gate", "qemu", "peer"]
    out = bed.cli("doctor", "m-nobody")
    assert out.returncode == 4


def test_doctor_where_nobody_is(tmp_path):
    out = subprocess.run([CLI, "--socket", str(tmp_path / "s"), "doctor"], stdout=subprocess.PIPE, text=True, timeout=20)
    assert out.returncode == 2 and "PROBLEM  gate: can't reach NovaCron" in out.stdout and "systemctl status novacron-gate" in out.stdout


def test_plan_fits_the_terminal(bed):
    out = bed.cli("plan", "web1", "--to", "host-b", "--max-downtime", "100", "--bandwidth", "50MB/s", "--algorithm", "pre-copy", "--compression", "lz4")
    assert out.returncode == 0, out.stderr
    for words in ("web1, host-a -> host-b: pre-copy\n", "4.2 s +- 1.3 s", "212 ms +- 64 ms", "61.0 MiB (memory shrunk to 1/3.1)",
                  "of which 92.0 MiB", "25.0 MB/s by the guest", "round trip 20.1 ms", "earlier migrations of this machine"):
        assert words in out.stdout, out.stdout
    assert max(map(len, out.stdout.splitlines())) <= 80, out.stdout
    assert bed.daemon.last("migration.plan")["args"] == {"vm": "web1", "to": "host-b", "max_downtime_ms": 100, "bandwidth_limit_bps": 50000000,
                                                         "algorithm": "pre-copy", "compression": "lz4"}


def test_plan_of_what_does_not_converge(bed):
    out = bed.cli("plan", "busy", "--to", "host-b")
    assert out.returncode == 12 and "would not come to an end" in out.stdout and "+-" not in out.stdout
    assert max(map(len, out.stdout.splitlines())) <= 80, out.stdout
    out = bed.cli("plan", "busy", "--to", "host-b", "--json")
    assert out.returncode == 12 and json.loads(out.stdout)["eta_ms"] is None
    assert bed.daemon.last("migration.plan")["args"] == {"vm": "busy", "to": "host-b"}
    assert "of which" not in bed.cli("plan", "dark", "--to", "host-b").stdout
    for arguments, words in ((("web1",), "--to NODE is needed"), (("web1", "--to", "b", "--max-downtime", "-1"), "at least 1 ms"),
                             (("web1", "--to", "b", "--bandwidth", "fast"), "fast"), (("a b", "--to", "b"), "machine")):
        out = bed.cli("plan", *arguments)
        assert out.returncode == 2 and words in out.stderr, out.stderr


def test_forecasts_and_what_came_of_them(bed, course):
    out = bed.cli("status", COMPLETED["id"], "--forecast")
    assert out.returncode == 0, out.stderr
    for words in ("TO GO", "go-on", "throttle 40 %", "no end", "It took 8.4 s, with a pause of 212 ms."):
        assert words in out.stdout, out.stdout
    assert max(map(len, out.stdout.splitlines())) <= 80, out.stdout
    cancelled = {**COMPLETED, "phase": "cancelled", "outcome": "cancelled", "pause_ms": None}
    course(cancelled)
    assert "It took 8.4 s.\n" in bed.cli("status", COMPLETED["id"], "--forecast").stdout, "nobody stood still"
    out = bed.cli("status", "--forecast")
    assert out.returncode == 2 and "give its ID" in out.stderr
