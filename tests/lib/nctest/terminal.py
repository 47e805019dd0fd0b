# SPDX-License-Identifier: Apache-2.0
"""A program on a terminal of its own, and what is on its screen: as much of ECMA-48 as novacron uses, and anything else is an error."""

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import termios
import threading

from .net import wait_for

SEQUENCE = re.compile(r"\x1b\[(\?)?([0-9;]*)([A-Za-z])")
MODES = {"1049": "other screen", "25": "cursor", "7": "wrap"}


class Terminal:
    """Runs `command` in a session whose terminal it is. `close()` ends it, if it still runs."""

    def __init__(self, command, columns=80, rows=24, **environment):
        self.master, self.slave = pty.openpty()
        self.rows, self.raw = {}, ""
        self.modes = {"other screen": False, "cursor": True, "wrap": True}
        self.problem = None
        self.size(columns, rows)
        self.before = termios.tcgetattr(self.slave)
        env = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "TERM")}
        self.process = subprocess.Popen(command, stdin=self.slave, stdout=self.slave, stderr=self.slave, start_new_session=True,
                                        env={**env, "TERM": "xterm", "LC_ALL": "C.UTF-8", **environment},
                                        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def size(self, columns, rows):
        """The kernel tells the program."""
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def _read(self):
        rest = ""
        while True:
            try:
                data = os.read(self.master, 65536)
            except OSError:
                return
            if not data:
                return
            text = data.decode(errors="replace")
            self.raw += text
            try:
                rest = self._take(rest + text)
            except AssertionError as problem:
                self.problem = problem

    def _take(self, text):
        """Draws it; returns what is no whole sequence yet."""
        at = 0
        while at < len(text):
            if text[at] != "\x1b":
                end = text.find("\x1b", at)
                end = len(text) if end < 0 else end
                self._write(text[at:end])
                at = end
                continue
            found = SEQUENCE.match(text, at)
            if not found:
                assert len(text) - at < 16, f"no sequence of ours: {text[at:at + 16]!r}"
                return text[at:]
            self._do(*found.groups())
            at = found.end()
        return ""

    def _write(self, text):
        if not self.modes["other screen"]:
            return
        assert text.isprintable(), f"a control character on the screen: {text!r}"
        row, column = self.cursor
        line = self.rows.get(row, "").ljust(column - 1)
        self.rows[row] = line[:column - 1] + text + line[column - 1 + len(text):]
        self.cursor = (row, column + len(text))

    def _do(self, private, numbers, final):
        if private:
            self.modes[MODES[numbers]] = final == "h"
            if numbers == "1049":
                self.rows, self.cursor = {}, (1, 1)
        elif final == "H":
            self.cursor = tuple(int(n) for n in numbers.split(";"))
        elif final == "J":
            first = 1 if numbers == "2" else self.cursor[0]
            self.rows = {row: line for row, line in self.rows.items() if row < first}
        else:
            assert final == "m", f"a sequence that is not known: {numbers}{final}"

    def lines(self):
        return [self.rows.get(row, "") for row in range(1, max(self.rows.copy(), default=0) + 1)]

    def text(self):
        return "\n".join(line.rstrip() for line in self.lines())

    def shows(self, text, timeout=20):
        wait_for(lambda: text in self.text(), timeout, lambda: f"\"{text}\"; there is:\n{self.text()}")

    def type(self, keys):
        os.write(self.master, keys.encode())

    def tell(self, number):
        self.process.send_signal(number)

    def is_as_before(self):
        """The terminal, to its last setting."""
        return termios.tcgetattr(self.slave) == self.before and self.modes == {"other screen": False, "cursor": True, "wrap": True}

    def ends(self, timeout=20):
        """Its exit status, once it has ended; all that it wrote is read then."""
        status = self.process.wait(timeout)
        wait_for(lambda: not self.modes["other screen"], timeout, "the usual screen")
        assert not self.problem, self.problem
        return status

    def close(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        os.close(self.slave)
        self.reader.join(10)
        os.close(self.master)
