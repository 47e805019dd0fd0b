# SPDX-License-Identifier: Apache-2.0
"""The gate over HTTPS: who gets in with which certificate, and that nothing older than TLS 1.3 is spoken."""

import http.client
import shutil
import socket
import ssl
import subprocess
import time

import pytest

from gate_bed import CLI, GATE, Bed, Keys, exchange, free_port, tls_context

pytestmark = pytest.mark.skipif(not shutil.which("openssl"), reason="openssl is not installed")


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    return Keys(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def bed(tmp_path_factory, keys):
    port = free_port()
    b = Bed(tmp_path_factory.mktemp("gate"), "--listen", f"127.0.0.1:{port}", "--tls-cert", keys.server[0], "--tls-key", keys.server[1],
            "--client-ca", keys.ca, "--admins", "alice, carol", "--operators", "dave, alice")
    b.port = port
    yield b
    b.close()


def call(bed, context, method="GET", path="/api/v2/node", body=None):
    return exchange(http.client.HTTPSConnection("127.0.0.1", bed.port, context=context, timeout=20), method, path, body)


def test_admin_may_change(bed, keys):
    context = tls_context(keys, keys.issue("ca", "alice"))
    assert call(bed, context, "POST", "/api/v2/machines/web1/start").status == 200
    assert bed.daemon.last("machine.start")["identity"] == {"kind": "certificate", "name": "alice", "role": "admin", "from": "127.0.0.1"}
    assert call(bed, context, "POST", "/api/v2/migrations", {"vm": "web1", "to": "host-b"}).status == 201
    assert call(bed, context, path="/api/v2/whoami").json == {"kind": "certificate", "name": "alice", "role": "admin"}


def test_viewer_may_look(bed, keys):
    context = tls_context(keys, keys.issue("ca", "bob"))
    assert call(bed, context).status == 200
    assert call(bed, context, path="/").headers["Content-Type"] == "text/html; charset=utf-8"
    assert bed.daemon.last("node.info")["identity"] == {"kind": "certificate", "name": "bob", "role": "viewer", "from": "127.0.0.1"}
    before = len(bed.daemon.requests)
    for method, path in (("POST", "/api/v2/machines/web1/start"), ("DELETE", "/api/v2/machines/web1"), ("POST", "/api/v2/nodes/tokens")):
        answer = call(bed, context, method, path)
        assert answer.status == 403 and answer.json["code"] == "forbidden", answer.text
    assert len(bed.daemon.requests) == before


def test_operator_may_move_but_not_remove(bed, keys):
    context = tls_context(keys, keys.issue("ca", "dave"))
    assert call(bed, context, path="/api/v2/whoami").json == {"kind": "certificate", "name": "dave", "role": "operator"}
    assert call(bed, context, "POST", "/api/v2/migrations", {"vm": "web1", "to": "host-b"}).status == 201
    for method, path in (("DELETE", "/api/v2/machines/web1"), ("POST", "/api/v2/nodes/tokens"), ("DELETE", "/api/v2/checkpoints/c-1")):
        answer = call(bed, context, method, path)
        assert answer.status == 403 and "the role admin" in answer.json["detail"], answer.text


def test_without_certificate(bed, keys):
    before = len(bed.daemon.requests)
    answer = call(bed, tls_context(keys))
    assert answer.status == 401 and answer.json["code"] == "unauthenticated" and answer.headers["WWW-Authenticate"]
    for path in ("/api/v2/nothing", "/"):
        assert call(bed, tls_context(keys), path=path).status == 401  # nor what exists
    assert len(bed.daemon.requests) == before


def refused(bed, context):
    """By the TLS library itself, or by us with 401."""
    before = len(bed.daemon.requests)
    try:
        status = call(bed, context).status
    except (ssl.SSLError, ConnectionError, http.client.HTTPException):
        status = 401
    assert len(bed.daemon.requests) == before
    return status == 401


def test_other_ca(bed, keys):
    keys.make_ca("other")
    assert refused(bed, tls_context(keys, keys.issue("other", "alice")))


def test_self_signed(bed, keys):
    certificate = keys.make_ca("selfmade")
    assert refused(bed, tls_context(keys, (certificate, keys.path("selfmade.key"))))


def test_server_certificate_is_no_client(bed, keys):
    assert refused(bed, tls_context(keys, keys.issue("ca", "alice", "extendedKeyUsage=serverAuth")))


def test_expired(bed, keys):
    assert refused(bed, tls_context(keys, keys.issue("ca", "alice", days="-1")))


@pytest.mark.parametrize("subject", ["/CN=al ice", "/CN=-x", "/O=nobody", "/CN=" + "a" * 64])
def test_strange_names(bed, keys, subject):
    assert refused(bed, tls_context(keys, keys.issue("ca", "strange", subject=subject)))


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2])
def test_old_tls_is_refused(bed, keys, version):
    with pytest.raises((ssl.SSLError, ConnectionError)):
        call(bed, tls_context(keys, keys.issue("ca", "alice"), version))


def test_plain_http_on_the_tls_port(bed):
    with socket.create_connection(("127.0.0.1", bed.port), timeout=20) as s:
        s.sendall(b"GET /api/v2/node HTTP/1.1\r\nHost: a\r\n\r\n")
        try:
            assert b"200" not in s.recv(1000)
        except ConnectionError:
            pass


def test_silent_handshake_is_cut_off(bed, keys):
    with socket.create_connection(("127.0.0.1", bed.port), timeout=30) as s:
        begin = time.monotonic()
        try:
            while s.recv(1000):  # an alert, perhaps
                pass
        except ConnectionError:
            pass
        assert time.monotonic() - begin < 25
    assert call(bed, tls_context(keys, keys.issue("ca", "bob"))).status == 200


def test_too_many_connections_of_one_address(bed, keys):
    connections = []
    for _ in range(60):
        try:
            connections.append(socket.create_connection(("127.0.0.1", bed.port), timeout=5))
        except OSError:
            pass
    time.sleep(0.5)
    open_ones = 0
    for s in connections:
        s.settimeout(0.05)
        try:
            open_ones += s.recv(1) != b""
        except socket.timeout:
            open_ones += 1
        except OSError:
            pass
        s.close()
    assert open_ones <= 32
    time.sleep(0.5)
    assert call(bed, tls_context(keys, keys.issue("ca", "bob"))).status == 200


def test_command_line_over_https(bed, keys):
    certificate, key = keys.issue("ca", "alice")
    base = [CLI, "--url", f"https://127.0.0.1:{bed.port}", "--cacert", keys.ca]

    def run(*arguments):
        return subprocess.run([*base, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=60)
    out = run("--cert", certificate, "--key", key, "vm", "list")
    assert out.returncode == 0 and "web1" in out.stdout, out.stderr
    out = run("vm", "list")
    assert out.returncode == 3 and "client certificate" in out.stderr
    keys.make_ca("stranger")
    out = subprocess.run([CLI, "--url", base[2], "--cacert", keys.path("stranger.crt"), "vm", "list"], stderr=subprocess.PIPE, text=True,
                         timeout=60)
    assert out.returncode == 3 and "not the NovaCron you trust" in out.stderr
    out = subprocess.run([CLI, "--url", "http://127.0.0.1:1", "vm", "list"], stderr=subprocess.PIPE, text=True, timeout=60)
    assert out.returncode == 2 and "https://" in out.stderr
    out = subprocess.run([CLI, "--url", f"https://127.0.0.1:{free_port()}", "vm", "list"], stderr=subprocess.PIPE, text=True, timeout=60)
    assert out.returncode == 8 and "can't reach" in out.stderr


def start_gate(*options):
    return subprocess.run([GATE, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=20)


def test_start_errors_name_the_cause(keys, tmp_path):
    config = tmp_path / "gate.conf"
    config.write_text("[gate]\ncolour = red\n")
    base = ("--socket", "none", "--listen", f"127.0.0.1:{free_port()}")
    for options, status, word in [
        (("--config", str(config)), 2, "colour"),
        (("--config", "/no/such/file"), 2, "/no/such/file"),
        (("--bogus",), 2, "--bogus"),
        (("extra",), 2, "extra"),
        (("--log-level", "loud"), 2, "loud"),
        ((*base, "--tls-cert", keys.server[0]), 2, "tls-key"),
        ((*base, "--tls-cert", "/no/such", "--tls-key", keys.server[1]), None, "tls-cert"),
        ((*base, "--tls-cert", keys.server[0], "--tls-key", keys.path("ca.key")), 1, "fit each other"),
        ((*base, "--tls-cert", keys.server[1], "--tls-key", keys.server[1]), 1, "HTTPS"),
        (("--no-https", "--socket", "none"), 2, "nothing to listen on"),
        (("--no-https", "--socket", str(tmp_path / "s"), "--socket-group", "no-such-group"), 2, "no-such-group"),
        (("--no-https", "--socket", str(tmp_path / "s"), "--user", "no-such-user"), 2, "no-such-user"),
        (("--no-https", "--socket", str(tmp_path / "s"), "--admins", "a b"), 2, "a b"),
    ]:
        out = start_gate(*options)
        assert out.returncode != 0 and (status is None or out.returncode == status), (options, out.returncode, out.stderr)
        assert word in out.stderr, (options, out.stderr)
    help_text = start_gate("--help").stdout
    for option in "listen socket socket-group control tls-cert tls-key client-ca admins operators user log-level log-format config".split():
        assert "--" + option in help_text
    assert start_gate("--version").stdout.startswith("novacron-gate 0.")


def test_port_is_taken(keys):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        out = start_gate("--socket", "none", "--listen", f"127.0.0.1:{s.getsockname()[1]}", "--tls-cert", keys.server[0], "--tls-key",
                         keys.server[1])
    assert out.returncode == 7 and "is taken by another program" in out.stderr
