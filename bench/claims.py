# SPDX-License-Identifier: Apache-2.0
"""Claim, value, target, verdict: what every measurement ends with."""

import json


class Claims:
    def __init__(self):
        self.rows = []

    def add(self, claim, value, target, ok):
        self.rows.append({"claim": claim, "value": value, "target": target, "ok": bool(ok)})
        print(f"{claim:<66} {value:>20} {target:>14}  {'holds' if ok else 'MISSED'}", flush=True)

    def most(self, claim, value, limit, unit="", places=2):
        """${value} (None: there is none) must not exceed ${limit}."""
        self._number(claim, value, limit, "<=", unit, places, value is not None and value <= limit)

    def least(self, claim, value, limit, unit="", places=2):
        self._number(claim, value, limit, ">=", unit, places, value is not None and value >= limit)

    def _number(self, claim, value, limit, sign, unit, places, ok):
        shown = "nothing measured" if value is None else f"{value:.{places}f}{unit}"
        self.add(claim, shown, f"{sign} {limit:.{places}f}{unit}", ok)

    def take(self, rows):
        """Claims of another program, from its JSON."""
        for row in rows:
            self.add(row["claim"], row["value"], row["target"], row["ok"])

    def missed(self):
        return sum(not row["ok"] for row in self.rows)

    def conclude(self, path=None, **more):
        """Writes the JSON, says how it ended; the exit status."""
        if path:
            with open(path, "w") as f:
                json.dump({"claims": self.rows, **more}, f, indent=1)
        print(f"\n{len(self.rows) - self.missed()} claims hold, {self.missed()} missed")
        return 1 if self.missed() else 0
