#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Runs a command with a PostgreSQL of its own: with_postgres.py COMMAND [ARG...]

The cluster lives in a temporary directory, listens on a UNIX socket there and nowhere else, and runs as the user postgres if this is root. It is
stopped, by its process id, and removed when the command has ended, however it ended; if this process is killed, the kernel stops it.

The command finds its URL in NC_TEST_POSTGRES, and in NC_TEST_POSTGRES_CONTROL two descriptors, "W,R": written to W, "restart\\n" kills the
server like a crash of its machine would and starts it again, "stop\\n" and "start\\n" do half of it; each is answered by "ok\\n" in R. The exit status is
the command's. Without PostgreSQL's programs it says so in TAP and is skipped.
"""

import ctypes
import glob
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None)


def die_with_parent(number):
    return lambda: LIBC.prctl(PR_SET_PDEATHSIG, number)


def find_programs():
    """The directory of the newest PostgreSQL's programs; None: there is none."""
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin"), key=lambda path: int(path.split("/")[4]))
    return found[-1] if found else None


class Cluster:
    def __init__(self, programs):
        self.programs = programs
        self.server = None
        self.dir = tempfile.mkdtemp(prefix="nc-pg-")
        self.user = {}
        if os.geteuid() == 0:
            entry = pwd.getpwnam("postgres")
            self.user = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
            os.chown(self.dir, entry.pw_uid, entry.pw_gid)
        self.data = os.path.join(self.dir, "data")
        self.url = f"postgresql://novacron@/postgres?host={self.dir}"

    def program(self, name):
        return os.path.join(self.programs, name)

    def create(self):
        subprocess.run([self.program("initdb"), "-D", self.data, "-U", "novacron", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync",
                        "--no-instructions"], check=True, stdout=subprocess.DEVNULL, cwd=self.dir, **self.user)

    def start(self):
        log = open(os.path.join(self.dir, "log"), "ab")
        # fsync: no test takes the power away from this machine. The signal: PostgreSQL's immediate shutdown.
        self.server = subprocess.Popen(
            [self.program("postgres"), "-D", self.data, "-k", self.dir, "-c", "listen_addresses=", "-c", "fsync=off",
             "-c", "max_connections=20", "-c", "shared_buffers=16MB"],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.dir, preexec_fn=die_with_parent(signal.SIGQUIT), **self.user)
        log.close()
        for _ in range(600):
            if subprocess.run([self.program("pg_isready"), "-q", "-h", self.dir]).returncode == 0:
                return
            if self.server.poll() is not None:
                break
            time.sleep(0.05)
        raise RuntimeError("PostgreSQL does not start: " + open(os.path.join(self.dir, "log"), encoding="utf-8", errors="replace").read()[-2000:])

    def stop(self):
        if self.server and self.server.poll() is None:
            self.server.send_signal(signal.SIGQUIT)
            try:
                self.server.wait(20)
            except subprocess.TimeoutExpired:
                self.server.kill()
                self.server.wait()
        self.server = None

    def obey(self, commands, answers):
        with os.fdopen(commands, "r") as lines, os.fdopen(answers, "w", buffering=1) as out:
            for line in lines:
                if line.strip() in ("stop", "restart"):
                    self.stop()
                if line.strip() in ("start", "restart"):
                    self.start()
                out.write("ok\n")


def main():
    programs = find_programs()
    if not programs:
        print("1..0 # SKIP PostgreSQL is not installed (scripts/setup-debian.sh --all installs it)")
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    cluster = Cluster(programs)
    child = None
    try:
        cluster.create()
        cluster.start()
        command_r, command_w = os.pipe()
        answer_r, answer_w = os.pipe()
        env = dict(os.environ, NC_TEST_POSTGRES=cluster.url, NC_TEST_POSTGRES_CONTROL=f"{command_w},{answer_r}")
        child = subprocess.Popen(sys.argv[1:], env=env, pass_fds=[command_w, answer_r], preexec_fn=die_with_parent(signal.SIGKILL))
        os.close(command_w)
        os.close(answer_r)
        threading.Thread(target=cluster.obey, args=(command_r, answer_w), daemon=True).start()
        status = child.wait()
        return status if status >= 0 else 128 - status
    finally:
        if child and child.poll() is None:
            child.kill()
        cluster.stop()
        shutil.rmtree(cluster.dir, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
