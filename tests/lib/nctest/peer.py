# SPDX-License-Identifier: Apache-2.0
"""A connection between nodes by hand (docs/protocols.md): any certificate, and any message."""

import json
import socket
import ssl
import struct


class Peer:
    """To ("host", port): with what is in the directory ${pki}, or without a certificate; as the node ${name}, greeted and with its roster, or silent."""

    def __init__(self, address, pki=None, name=None):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if pki:
            context.load_cert_chain(pki / "node.crt", pki / "node.key")
        self.s = context.wrap_socket(socket.create_connection(address, timeout=30))
        if name:
            self.say({"type": "hello", "node": name, "protocol": 1, "version": "0", "roster_version": 0})
            assert self.hear()["type"] == "hello"
            self.say({"type": "roster_get"})
            assert self.hear()["type"] == "roster"

    def say(self, message):
        body = json.dumps(message).encode()
        self.s.sendall(struct.pack(">I", len(body)) + body)

    def hear(self):
        data = b""
        while len(data) < 4 or len(data) < 4 + struct.unpack(">I", data[:4])[0]:
            piece = self.s.recv(65536)
            if not piece:
                raise EOFError
            data += piece
        return json.loads(data[4:])

    def ask(self, message):
        self.say(message)
        return self.hear()

    def close(self):
        self.s.close()
