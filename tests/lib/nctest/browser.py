# SPDX-License-Identifier: Apache-2.0
"""Debian's Chromium without a screen, by WebDriver's plain HTTP: as much of it as looking at pages needs."""

import base64
import http.client
import json
import re
import subprocess

from nctest.net import stop_process, wait_for

ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
TAB, ENTER = "\ue004", "\ue007"
OPTIONS = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking", "--disable-component-update",
           "--disable-sync", "--no-first-run", "--hide-scrollbars", "--force-color-profile=srgb"]


class BrowserError(Exception):
    pass


class Browser:
    def __init__(self, directory, width=1280, height=900, logs=True):
        """${logs}: what complaints() and requests() read, which costs it time."""
        self.log = open(f"{directory}/chromedriver.log", "a+", encoding="utf-8")
        self.process = subprocess.Popen(["chromedriver", "--port=0"], stdout=self.log, stderr=subprocess.STDOUT)
        self.session = None
        try:
            self.port = wait_for(self.find_port, 20, "chromedriver to listen")
            options = {"args": [*OPTIONS, f"--window-size={width},{height}"]}
            kinds = {"browser": "ALL", "performance": "ALL"} if logs else {}
            made = self.ask("POST", "/session", {"capabilities": {"alwaysMatch": {"goog:chromeOptions": options, "goog:loggingPrefs": kinds}}})
            self.session = made["sessionId"]
        except BaseException:
            self.close()
            raise

    def find_port(self):
        self.log.seek(0)
        found = re.search(r"successfully on port (\d+)", self.log.read())
        return int(found.group(1)) if found else None

    def ask(self, method, path, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request(method, path, json.dumps(body or {}) if method == "POST" else None, {"Content-Type": "application/json"})
        answer = json.loads(connection.getresponse().read())["value"]
        connection.close()
        if isinstance(answer, dict) and "error" in answer:
            raise BrowserError(f"{answer['error']}: {answer['message'].splitlines()[0]}")
        return answer

    def do(self, method, path, **body):
        return self.ask(method, f"/session/{self.session}/{path}", body)

    def open(self, url):
        self.do("POST", "url", url=url)

    def run(self, script, *args):
        """What a function's body returns."""
        return self.do("POST", "execute/sync", script=script, args=list(args))

    def devtools(self, command, **params):
        return self.do("POST", "goog/cdp/execute", cmd=command, params=params)

    def scheme(self, name):
        """light or dark, as the system's setting."""
        self.devtools("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": name}])

    def size(self, width, height, phone=False):
        self.devtools("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone)

    def find(self, css):
        return self.do("POST", "element", using="css selector", value=css)[ELEMENT]

    def click(self, css):
        self.do("POST", f"element/{self.find(css)}/click")

    def press(self, *keys):
        """On whatever has the focus."""
        strokes = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        self.do("POST", "actions", actions=[{"type": "key", "id": "keyboard", "actions": strokes}])

    def name_of(self, css):
        """As a screen reader has it: (role, name)."""
        element = self.find(css)
        return self.do("GET", f"element/{element}/computedrole"), self.do("GET", f"element/{element}/computedlabel")

    def text(self, css="body"):
        return self.run("return document.querySelector(arguments[0])?.innerText ?? ''", css).replace("\u00a0", " ")

    def shows(self, text, css="body", seconds=20):
        return wait_for(lambda: text in self.text(css), seconds, f"\"{text}\" in the page")

    def complaints(self):
        """What its console got of warnings and errors since the last call."""
        return [entry["message"] for entry in self.do("POST", "se/log", type="browser") if entry["level"] in ("WARNING", "SEVERE")]

    def expect_refusals(self):
        """Since the last call nothing but answers that the test had made: refusals, and connections that were cut."""
        expected = ("Failed to load resource:", "WebSocket connection to")
        others = [text for text in self.complaints() if not any(said in text for said in expected)]
        assert not others, others

    def requests(self):
        """Addresses it asked for since the last call, WebSockets too."""
        urls = []
        for entry in self.do("POST", "se/log", type="performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                urls.append(message["params"]["request"]["url"])
            elif message["method"] == "Network.webSocketCreated":
                urls.append(message["params"]["url"])
        return urls

    def shoot(self, path):
        """The whole page."""
        height = self.run("return Math.max(document.documentElement.scrollHeight, innerHeight)")
        width = self.run("return innerWidth")
        shot = self.devtools("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip={"x": 0, "y": 0, "width": width, "height": height, "scale": 1})
        with open(path, "wb") as f:
            f.write(base64.b64decode(shot["data"]))

    def close(self):
        try:
            if self.session:
                self.ask("DELETE", f"/session/{self.session}")
        finally:
            stop_process(self.process)
            self.log.close()
