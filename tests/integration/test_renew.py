# SPDX-License-Identifier: Apache-2.0
"""Certificates are renewed under running nodes: who holds the CA's key by itself, the others by it; nobody is locked out, and nobody gets what is not theirs."""

import os
import shutil
import signal
import ssl
import subprocess

import pytest

from nctest.peer import Peer
from test_daemon import BUILD, NOVACROND, directory, join, make_node, wait_for  # noqa: F401 (fixtures)

pytestmark = [pytest.mark.skipif(not NOVACROND.exists(), reason=f"{NOVACROND} is not built"),
              pytest.mark.skipif(not shutil.which("openssl"), reason="openssl is not installed")]
NOVACRON, GATE = BUILD / "src/cli/novacron", BUILD / "src/gate/novacron-gate"


def openssl(*arguments, given=None):
    return subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True, text=True, input=given).stdout


def serial(node):
    return openssl("x509", "-noout", "-serial", "-in", node.data / "pki/node.crt").strip()


def is_pair(node):
    """Are the two files certificate and key of each other?"""
    pki = node.data / "pki"
    return openssl("x509", "-noout", "-pubkey", "-in", pki / "node.crt") == openssl("pkey", "-pubout", "-in", pki / "node.key")


def csr_of(directory, name):
    return openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", directory / "other.key", "-subj", f"/CN={name}")


def peer_of(to, pki=None, name=None):
    return Peer(("127.0.0.1", to.port), pki, name)


def call_each_other(*nodes):
    for node in nodes:
        checks = node.call("node.checks")["checks"]
        peers = [c for c in checks if c["check"] == "peer"]
        assert len(peers) == len(nodes) - 1 and all(c["verdict"] == "ok" for c in peers), (node.name, peers)


def version(node):
    return node.call("node.info")["roster_version"]


@pytest.fixture
def pair(make_node):  # noqa: F811
    a = make_node("host-a").start()
    b = make_node("host-b", pki=False)
    assert join(b, a.call("node.token")["token"], a).returncode == 0
    return a, b.start()


def renew_by_cli(node, *arguments):
    """As people do."""
    api = node.dir / "api.sock"
    gate = subprocess.Popen([GATE, "--control", node.control, "--socket", api, "--no-https"], stderr=subprocess.DEVNULL)
    try:
        wait_for(api.exists, what="the gate")
        return subprocess.run([NOVACRON, "--socket", api, "pki", "renew", *arguments], check=True, capture_output=True, text=True).stdout
    finally:
        gate.terminate()
        gate.wait(20)


def test_both_renew_and_go_on(pair, directory):  # noqa: F811
    a, b = pair
    old = directory / "old-pki-of-b"
    shutil.copytree(b.data / "pki", old)
    serials, pids = (serial(a), serial(b)), (a.process.pid, b.process.pid)
    before = peer_of(a, old, "host-b")  # a migration's session, say

    out = renew_by_cli(b)
    assert "host-b has a new key and certificate" in out and "refused from now on" in out, out
    call_each_other(a, b)
    out = renew_by_cli(a, "--days", "400")
    assert "host-a has a new key and certificate" in out and "refused from now on" in out, out
    wait_for(lambda: version(a) == version(b), what="the new roster at host-b")
    call_each_other(a, b)

    assert (a.process.pid, b.process.pid) == pids and not a.process.poll() and not b.process.poll()
    assert serial(a) != serials[0] and serial(b) != serials[1]
    entries = {n["name"]: n for n in b.call("node.list")}
    for node in (a, b):
        assert is_pair(node) and (node.data / "pki/node.key").stat().st_mode & 0o777 == 0o600 and not (node.data / "pki/node.key.next").exists()
        assert entries[node.name]["serial"] == serial(node).split("=")[1].lower()
        assert entries[node.name]["expires"][:10] == node.call("node.info")["certificate_expires"][:10]
    assert entries["host-a"]["expires"] < entries["host-b"]["expires"], "400 days and 825"

    assert before.ask({"type": "clock", "t0": 1})["type"] == "clock", "what was connected goes on"
    with pytest.raises((ssl.SSLError, EOFError, OSError)):
        peer_of(a, old, "host-b")
    wait_for(lambda: "node host-b has another certificate now" in a.log_text(), what="the refusal in the log of host-a")
    told = [e for e in a.call("audit.list", kind="request")
            if e["detail"]["op"] == "node.renew" and e["actor"] == "node:host-b"]
    assert len(told) == 1 and told[0]["subject"] == "host-b", told
    answer = before.ask({"type": "renew", "csr": csr_of(directory, "host-b"), "days": 0, "next": ""})
    assert answer["type"] == "refused" and "not its present one" in answer["error"]["message"], answer
    for node in (a, b):  # the seal is by the new key, and the log is still one
        wait_for(lambda: not (node.data / "pki/node.crt.before").exists(), what="the seal by the new key")  # noqa: B023
        assert node.call("audit.verify")["ok"]
        assert node.terminate() == 0
        assert "does not fit its seal" not in node.start().log_text()
    call_each_other(a, b)


def test_who_was_away_and_who_was_killed(pair):
    """No instant locks anybody out: not with an old roster, and not between two files."""
    a, b = pair
    b.terminate()
    a.call("node.renew")
    assert "a moment ago" in a.refuses("resource", "node.renew")
    b.start()  # with the roster of before; a, which alone has a newer one, comes with a certificate that it does not list
    wait_for(lambda: version(a) == version(b), what="the new roster at host-b")
    call_each_other(a, b)

    for point in ("renew-roster-written", "renew-certificate-written"):
        b.terminate()
        os.environ["NOVACRON_FAULT"] = point + ":kill"
        try:
            b.start()
        finally:
            del os.environ["NOVACRON_FAULT"]
        before = serial(b)
        with pytest.raises(ConnectionError):
            b.call("node.renew")
        assert b.process.wait(20) == -signal.SIGKILL
        assert (serial(b) != before) == (point == "renew-certificate-written") and is_pair(b) == (serial(b) == before)
        b.start()
        assert is_pair(b) and not (b.data / "pki/node.key.next").exists()
        call_each_other(a, b)
        assert "does not fit its seal" not in b.log_text()
    wait_for(lambda: "host-b uses its renewed certificate" in a.log_text(), what="host-a to see it")
    wait_for(lambda: {n["name"]: n["serial"] for n in a.call("node.list")}["host-b"] == serial(b).split("=")[1].lower(), what="the roster")
    assert b.call("node.renew")["old_is_revoked"]


def test_who_must_not_and_who_can_not(pair, make_node, directory):  # noqa: F811
    a, b = pair
    c = make_node("host-c", pki=False)
    assert join(c, a.call("node.token")["token"], a).returncode == 0
    c.start()
    ask = {"type": "renew", "csr": csr_of(directory, "host-a"), "days": 0, "next": ""}
    answer = peer_of(a).ask(ask)
    assert answer["type"] == "refused" and answer["error"]["code"] == "unauthenticated", answer
    answer = peer_of(a, b.data / "pki", "host-b").ask(ask)
    subject = openssl("x509", "-noout", "-subject", given=answer["certificate"])
    assert answer["type"] == "renewed" and "host-b" in subject and "host-a" not in subject, "a name comes from who asks"
    answer = peer_of(a, b.data / "pki", "host-b").ask({**ask, "days": 826})
    assert answer["type"] == "refused" and "825" in answer["error"]["message"]
    answer = peer_of(a, a.data / "pki", "host-a").ask(ask)
    assert answer["type"] == "refused" and answer["error"]["code"] == "forbidden" and "by itself" in answer["error"]["message"], answer
    answer = peer_of(b, c.data / "pki", "host-c").ask(ask)
    assert answer["type"] == "refused" and answer["error"]["code"] == "forbidden", "host-b can't"

    was = serial(b)
    why = b.refuses("forbidden", "node.renew", **{"from": "host-c"})
    assert "host-c" in why and "--from" in why, why
    assert "host-b" in b.refuses("conflict", "node.renew", **{"from": "host-b"})
    b.refuses("protocol", "node.renew", days=0)
    a.terminate()
    why = b.refuses("unreachable", "node.renew")
    assert "host-a" in why and "the present one stays" in why and "--from" not in why, why
    a.start()
    assert serial(b) == was and is_pair(b) and not (b.data / "pki/node.key.next").exists()
    shutil.copytree(c.data / "pki", directory / "pki-of-c")
    a.call("node.remove", name="host-c")
    c.refuses("trust", "node.renew")
    with pytest.raises((ssl.SSLError, EOFError, OSError)):
        peer_of(a, directory / "pki-of-c", "host-c").ask(ask)

    def no_seal():
        """What the daemon would put a file in the place of."""
        (b.data / "audit.seal").unlink(missing_ok=True)
        try:
            (b.data / "audit.seal").mkdir()
        except FileExistsError:
            return False
        return True

    wait_for(no_seal, what="a seal that can't be written")
    shutil.copy(directory / "pki-of-c/node.crt", b.data / "pki/node.crt.before")
    assert "not sealed" in b.refuses("resource", "node.renew")
    (b.data / "audit.seal").rmdir()
    wait_for(lambda: not (b.data / "pki/node.crt.before").exists(), what="the seal by the present key")
    assert b.call("node.renew", days=30)["certificate_expires"] < b.call("node.list")[0]["expires"]
    call_each_other(a, b)
