# SPDX-License-Identifier: Apache-2.0
"""A novacrond that only talks: the control socket's side of docs/protocols.md section 5, with scripted answers."""

import json
import socket
import struct
import threading


class Refusal(Exception):
    """An operation's error: its code and message go to the asking side."""

    def __init__(self, code, message):
        super().__init__(message)
        self.code = code


class FakeNovacrond:
    """Serves `path`; `handlers` maps an operation to a function of its args. Keeps every request."""

    def __init__(self, path, handlers):
        self.path = str(path)
        self.handlers = dict(handlers)
        self.requests = []
        self._connections = []
        self._listener = None

    def start(self):
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(self.path)
        self._listener.listen(8)
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()
        return self

    def stop(self):
        """As if killed: the socket file stays, connections break."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._connections:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            connection.close()
        self._connections.clear()

    def last(self, op):
        return [r for r in self.requests if r["op"] == op][-1]

    def _accept(self, listener):
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            self._connections.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        lock = threading.Lock()
        try:
            while True:
                header = self._read(connection, 4)
                request = json.loads(self._read(connection, struct.unpack(">I", header)[0]))
                self.requests.append(request)
                threading.Thread(target=self._answer, args=(connection, lock, request), daemon=True).start()
        except (OSError, EOFError):
            pass

    @staticmethod
    def _read(connection, length):
        data = b""
        while len(data) < length:
            part = connection.recv(length - len(data))
            if not part:
                raise EOFError
            data += part
        return data

    def _answer(self, connection, lock, request):
        try:
            result = self.handlers[request["op"]](request["args"])
            answer = {"id": request["id"], "ok": True, "result": result}
        except Refusal as refusal:
            answer = {"id": request["id"], "ok": False, "error": {"code": refusal.code, "message": str(refusal)}}
        data = result if isinstance(answer.get("result"), bytes) else json.dumps(answer).encode()
        try:
            with lock:
                connection.sendall(struct.pack(">I", len(data)) + data)
        except OSError:
            pass
