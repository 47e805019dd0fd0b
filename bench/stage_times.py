# SPDX-License-Identifier: Apache-2.0
"""Where the movers' time goes: processor time per thread name, from /proc.

Thread names are stages (src/mover/mover.h):
  source       reader (parse, compare with the shadow), encode (SHA-256, compression), link (TLS, TCP)
  destination  link (TLS, TCP, decompression, SHA-256), writer (order, shadow, to QEMU)
"""

import os
import threading

TICK_S = 1 / os.sysconf("SC_CLK_TCK")


def thread_times(pid):
    """{thread name: [user s, system s]} of a process; {} if it is gone."""
    times = {}
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/stat") as f:
                head, tail = f.read().rsplit(")", 1)
            name, fields = head.split("(", 1)[1], tail.split()
            at = times.setdefault(name, [0.0, 0.0])
            at[0] += int(fields[11]) * TICK_S
            at[1] += int(fields[12]) * TICK_S
    except OSError:
        pass
    return times


class StageTimes(threading.Thread):
    """Samples processes until they are gone, or until take(): a mover leaves nothing behind to ask."""

    def __init__(self, find, interval=0.2):
        """${find}(): {side: pid}, asked again until every side was seen."""
        super().__init__(daemon=True)
        self.find, self.interval = find, interval
        self.pids, self.last = {}, {}
        self.stopping = threading.Event()
        self.start()

    def run(self):
        while not self.stopping.wait(self.interval):
            if len(self.pids) < 2:
                self.pids.update(self.find())
            self.sample()

    def sample(self):
        for side, pid in self.pids.items():
            for name, times in thread_times(pid).items():
                known = self.last.setdefault(side, {}).setdefault(name, times)
                self.last[side][name] = max(known, times, key=sum)

    def take(self):
        """{side: {thread: [user, system]}} so far."""
        self.stopping.set()
        self.join()
        self.sample()
        return self.last


def show(stages, indent="  "):
    for side in sorted(stages, reverse=True):
        parts = sorted(stages[side].items(), key=lambda item: -sum(item[1]))
        text = ", ".join(f"{name} {user:.2f}+{system:.2f}" for name, (user, system) in parts if user + system >= 0.02)
        print(f"{indent}{side:<12} processor s, user+system: {text}", flush=True)
