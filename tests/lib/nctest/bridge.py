# SPDX-License-Identifier: Apache-2.0
"""TCP ports on loopback that lead to a gate, for programs that know TCP without client certificates only: Prometheus, browsers."""

import socket
import threading


class Bridge:
    """A port that leads to a UNIX socket."""

    def __init__(self, path, port=0):
        self.path = path
        self.listener = socket.create_server(("127.0.0.1", port))
        self.address = "127.0.0.1:%d" % self.listener.getsockname()[1]
        self.sockets = set()
        threading.Thread(target=self.accept, daemon=True).start()

    def reach(self):
        server = socket.socket(socket.AF_UNIX)
        try:
            server.connect(self.path)
        except OSError:
            server.close()
            raise
        return server

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            try:
                server = self.reach()
            except OSError:
                client.close()
                continue
            self.sockets |= {client, server}
            for a, b in ((client, server), (server, client)):
                threading.Thread(target=self.pump, args=(a, b), daemon=True).start()

    def pump(self, a, b):
        try:
            while data := a.recv(65536):
                b.sendall(data)
            b.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        self.sockets.discard(a)

    def cut(self):
        """Whoever is connected is connected no more."""
        for s in list(self.sockets):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.cut()


class CertifiedBridge(Bridge):
    """One that leads to HTTPS, and shows a client certificate there."""

    def __init__(self, port, context, name, own_port):
        self.port, self.context, self.name = port, context, name
        super().__init__(None, own_port)

    def reach(self):
        return self.context.wrap_socket(socket.create_connection(("127.0.0.1", self.port)), server_hostname=self.name)
