# SPDX-License-Identifier: Apache-2.0
"""A gate that only talks: HTTP on a UNIX socket with scripted answers, and connections that break where a test wants them to."""

import json
import socketserver
import threading
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qsl, urlsplit


class Problem(Exception):
    def __init__(self, status, code, detail):
        super().__init__(detail)
        self.status = status
        self.code = code


class Lost(Exception):
    """The request was carried out; then the connection breaks without an answer."""


class Request:
    def __init__(self, handler):
        parts = urlsplit(handler.path)
        length = int(handler.headers.get("Content-Length", 0))
        self.method = handler.command
        self.path = parts.path
        self.query = dict(parse_qsl(parts.query))
        self.body = json.loads(handler.rfile.read(length)) if length else None
        self.key = handler.headers.get("Idempotency-Key")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def _serve(self):
        gate = self.server.gate
        request = Request(self)
        gate.requests.append(request)
        try:
            route = gate.routes.get((request.method, request.path))
            status, answer = (200, route(request)) if route else (404, {"code": "not_found", "detail": f"no {request.path} here"})
        except Problem as problem:
            status, answer = problem.status, {"code": problem.code, "detail": str(problem)}
        except Lost:
            self.close_connection = True
            return
        data = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = _serve


class FakeGate:
    """Serves `path`; `routes` maps (method, path) to a function of the Request. Keeps every request."""

    def __init__(self, path):
        self.path = str(path)
        self.routes = {}
        self.requests = []
        self._server = socketserver.ThreadingUnixStreamServer(self.path, Handler)
        self._server.daemon_threads = True
        self._server.gate = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def on(self, method, path, answer):
        """`answer`: a function, or what is always answered."""
        self.routes[(method, path)] = answer if callable(answer) else lambda request: answer

    def asked(self, method, path):
        return [r for r in self.requests if (r.method, r.path) == (method, path)]

    def close(self):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)
