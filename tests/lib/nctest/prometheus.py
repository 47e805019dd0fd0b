# SPDX-License-Identifier: Apache-2.0
"""A real Prometheus that scrapes gates, with the alerts of packaging/prometheus."""

import json
import os
import re
import socket
import subprocess
import urllib.error
import urllib.parse
import urllib.request

from .net import ROOT, stop_process

RULES = os.path.join(ROOT, "packaging/prometheus/novacron.rules.yml")


def shortened_rules(directory, changes):
    """The packaged rules for tests that can't wait: what has to be so for minutes has to be so for a second. ${changes}: {alert: {text of its rule:
    what is there instead}}. Each is found just once: a rule that has changed meanwhile is no longer the one that was meant. The new file."""
    with open(RULES, encoding="utf-8") as f:
        head, *rules = re.split(r"(?m)^(?=  - alert: )", f.read())
    left = dict(changes)
    for i, rule in enumerate(rules):
        rule = re.sub(r"(?m)^    for: \d+m$", "    for: 1s", rule)
        for before, after in left.pop(re.match(r"  - alert: (\w+)\n", rule).group(1), {}).items():
            assert rule.count(before) == 1, f"{before} in {rule}"
            rule = rule.replace(before, after)
        rules[i] = rule
    assert not left and not re.search(r"for: \d+m", "".join(rules)), left
    path = os.path.join(directory, "rules.yml")
    with open(path, "w", encoding="utf-8") as f:
        f.write(head + "".join(rules))
    return path


class Prometheus:
    """Scrapes ${targets}, {name: HOST:PORT}, each second; their series have the name as their label `node`."""

    def __init__(self, directory, targets, rules=RULES):
        self.config = os.path.join(directory, "prometheus.yml")
        with socket.create_server(("127.0.0.1", 0)) as s:
            self.port = s.getsockname()[1]
        with open(self.config, "w", encoding="utf-8") as f:
            f.write(f"global:\n  scrape_interval: 1s\n  evaluation_interval: 1s\nrule_files: [\"{rules}\"]\n"
                    "scrape_configs:\n- job_name: novacron\n  static_configs:\n")
            for name, address in targets.items():
                f.write(f"  - targets: [\"{address}\"]\n    labels: {{node: \"{name}\"}}\n")
        subprocess.run(["promtool", "check", "config", self.config], check=True, stdout=subprocess.PIPE)
        self.log = open(os.path.join(directory, "prometheus.log"), "w", encoding="utf-8")
        self.process = subprocess.Popen(
            ["prometheus", f"--config.file={self.config}", f"--storage.tsdb.path={directory}/tsdb", f"--web.listen-address=127.0.0.1:{self.port}"],
            stdout=self.log, stderr=self.log)

    def ask(self, what):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/api/v1/{what}", timeout=20) as answer:
            return json.load(answer)["data"]

    def query(self, expression):
        """[(labels, value)]"""
        try:
            result = self.ask("query?" + urllib.parse.urlencode({"query": expression}))["result"]
        except OSError:
            return []
        return [(r["metric"], float(r["value"][1])) for r in result]

    def value(self, expression):
        """Of what there is one of."""
        found = self.query(expression)
        assert len(found) == 1, f"{expression}: {found}"
        return found[0][1]

    def firing(self, alert, **labels):
        """Its alerts of that name with these labels, as an Alertmanager would get them."""
        return [a for a in self.ask("alerts")["alerts"]
                if a["state"] == "firing" and a["labels"]["alertname"] == alert and labels.items() <= a["labels"].items()]

    def rules(self):
        """{alert: (health, last error)}"""
        return {rule["name"]: (rule["health"], rule.get("lastError")) for group in self.ask("rules")["groups"] for rule in group["rules"]}

    def understands(self, expression):
        """What is wrong with it, or None."""
        url = f"http://127.0.0.1:{self.port}/api/v1/query?" + urllib.parse.urlencode({"query": expression})
        try:
            with urllib.request.urlopen(url, timeout=20) as answer:
                return None if json.load(answer)["status"] == "success" else expression
        except urllib.error.HTTPError as error:
            return f"{expression}: {error.read().decode()}"

    def close(self):
        stop_process(self.process)
        self.log.close()
