# SPDX-License-Identifier: Apache-2.0
"""A WebSocket client (RFC 6455) of the standard library alone: enough to watch, and to misbehave."""

import base64
import hashlib
import json
import os
import socket
import struct
import threading

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
TEXT, CLOSE, PING, PONG = 1, 8, 9, 10


class Refused(Exception):
    """The answer was no 101: its status and body."""

    def __init__(self, status, head, body):
        super().__init__(f"{status}: {body}")
        self.status, self.head = status, head
        self.problem = json.loads(body) if body.lstrip().startswith("{") else None


class Closed(Exception):
    """The server closed: its code (None: without a word) and reason."""

    def __init__(self, code=None, reason=""):
        super().__init__(f"{code} {reason}")
        self.code, self.reason = code, reason


def unix(path, timeout=20):
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(timeout)
    s.connect(path)
    return s


class WebSocket:
    def __init__(self, connection, path, **headers):
        """Over `connection`, a connected stream; more `headers` replace the usual ones, None leaves them out."""
        self.socket = connection
        self.buffer = b""
        key = base64.b64encode(os.urandom(16)).decode()
        usual = {"Host": "localhost", "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": key}
        lines = [f"{name}: {value}" for name, value in {**usual, **{n.replace("_", "-"): v for n, v in headers.items()}}.items() if value is not None]
        self.socket.sendall(f"GET {path} HTTP/1.1\r\n".encode() + "\r\n".join(lines).encode() + b"\r\n\r\n")
        head = self._until(b"\r\n\r\n").decode()
        status = int(head.split(" ", 2)[1])
        if status != 101:
            length = next((int(line.split(":")[1]) for line in head.splitlines() if line.lower().startswith("content-length:")), 0)
            body = self._exactly(length).decode()
            self.socket.close()
            raise Refused(status, head, body)
        assert base64.b64encode(hashlib.sha1(key.encode() + GUID).digest()).decode() in head, head

    def _more(self):
        part = self.socket.recv(65536)
        if not part:
            raise Closed()
        self.buffer += part

    def _until(self, mark):
        while mark not in self.buffer:
            self._more()
        head, self.buffer = self.buffer.split(mark, 1)
        return head

    def _exactly(self, length):
        while len(self.buffer) < length:
            self._more()
        part, self.buffer = self.buffer[:length], self.buffer[length:]
        return part

    def send(self, opcode, payload=b"", final=True, masked=True):
        mask = os.urandom(4)
        head = bytes([opcode | (0x80 if final else 0), len(payload) | (0x80 if masked else 0)])
        assert len(payload) < 126
        self.socket.sendall(head + (mask + bytes(b ^ mask[i % 4] for i, b in enumerate(payload)) if masked else payload))

    def frame(self):
        """(opcode, payload) of the next frame."""
        first, second = self._exactly(2)
        assert first & 0xf0 == 0x80 and second < 128, "a server's frames are whole here, and never masked"
        length = second
        if length == 126:
            length = struct.unpack(">H", self._exactly(2))[0]
        elif length == 127:
            length = struct.unpack(">Q", self._exactly(8))[0]
        return first & 0x0f, self._exactly(length)

    def next(self):
        """The next message; pings are answered on the way."""
        while True:
            opcode, payload = self.frame()
            if opcode == PING:
                self.send(PONG, payload)
            elif opcode == CLOSE:
                code = struct.unpack(">H", payload[:2])[0] if payload else None
                try:
                    self.send(CLOSE, payload[:2])
                except OSError:
                    pass
                raise Closed(code, payload[2:].decode())
            elif opcode == TEXT:
                return json.loads(payload.decode())

    def events(self):
        """Messages until the server closes with 1000."""
        try:
            while True:
                yield self.next()
        except Closed as closed:
            if closed.code != 1000:
                raise

    def close(self):
        self.socket.close()


class Follower:
    """Reads what a gate tells while a test does other things."""

    def __init__(self, gate, path):
        self.messages, self.problem = [], None
        self.ws = WebSocket(unix(str(gate), 180), path)
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self):
        try:
            for message in self.ws.events():
                self.messages.append(message)
        except (OSError, Closed) as problem:
            self.problem = problem

    def wait_end(self, timeout=60):
        """All messages, when the gate has closed in order."""
        self.thread.join(timeout)
        assert not self.thread.is_alive() and not self.problem, (self.problem, self.messages[-3:])
        return self.messages

    def events(self):
        return [message for message in self.messages if message["type"] != "progress"]

    def samples(self):
        return [message["data"] for message in self.messages if message["type"] == "progress"]

    def close(self):
        self.ws.close()
