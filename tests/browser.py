"""Chromium (Debian's `chromium`), spoken to in the DevTools protocol over a pair of pipes.

Slow tests take the fixture `chromium` and are marked `needs_chromium`: they skip, saying so, where there is none.
"""

import fcntl
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = next((found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None)
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: install chromium to see pages in a browser")


class Chromium:
    """A headless browser that resolves no name but may speak to this machine, and what it said about one page."""

    def __init__(self, profile: Path) -> None:
        theirs_in, self.out = os.pipe()
        self.back, theirs_out = os.pipe()

        def wired() -> None:  # --remote-debugging-pipe reads from descriptor 3 and writes to 4
            read, write = (fcntl.fcntl(pipe, fcntl.F_DUPFD, 10) for pipe in (theirs_in, theirs_out))  # out of the way first
            os.dup2(read, 3)
            os.dup2(write, 4)

        switches = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
        switches += ["--no-first-run", "--remote-debugging-pipe", f"--user-data-dir={profile}"]
        switches += ["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]
        self.process = subprocess.Popen(
            [CHROMIUM or "", *switches, "about:blank"],
            preexec_fn=wired,
            close_fds=False,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self.buffer, self.number = b"", 0
        self.events: list[dict[str, Any]] = []
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Log", "Network", "Runtime", "Audits"):
            self.ask(f"{domain}.enable")

    def read(self, seconds: float) -> dict[str, Any] | None:
        """The next message, or None where none comes in time."""
        end = time.monotonic() + seconds
        while b"\0" not in self.buffer:
            left = end - time.monotonic()
            if left <= 0 or not select.select([self.back], [], [], left)[0]:
                return None
            piece = os.read(self.back, 1 << 16)
            if not piece:
                raise RuntimeError("Chromium ended")
            self.buffer += piece
        message, _, self.buffer = self.buffer.partition(b"\0")
        return json.loads(message)

    def ask(self, method: str, **parameters: object) -> dict[str, Any]:
        self.number += 1
        call = {"id": self.number, "method": method, "params": parameters}
        if hasattr(self, "session"):
            call["sessionId"] = self.session
        os.write(self.out, json.dumps(call).encode() + b"\0")
        while message := self.read(60):
            if message.get("id") == self.number:
                assert "error" not in message, message
                return message["result"]
            self.events.append(message)
        raise TimeoutError(method)

    def open(self, page: Path | str) -> None:
        """Load a file or an address, and give what it may do late another half second."""
        self.events.clear()
        self.ask("Page.navigate", url=page.as_uri() if isinstance(page, Path) else page)
        self.loaded()

    def loaded(self) -> None:
        """Wait for a page that something else has sent for."""
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            message = self.read(60)
            assert message is not None, "the page did not load within a minute"
            self.events.append(message)
        while message := self.read(0.5):
            self.events.append(message)

    def says(self, script: str) -> Any:
        return self.ask("Runtime.evaluate", expression=script, returnByValue=True)["result"].get("value")

    def seen(self, method: str) -> list[dict[str, Any]]:
        return [event["params"] for event in self.events if event["method"] == method]

    def complaints(self) -> list[str]:
        """Everything in the console, exceptions, and the issues of the page, violations of its policy among them."""
        logged = [entry["entry"]["text"] for entry in self.seen("Log.entryAdded")]
        issues = [json.dumps(issue["issue"]) for issue in self.seen("Audits.issueAdded")]
        return [*logged, *issues, *map(str, self.seen("Runtime.exceptionThrown") + self.seen("Runtime.consoleAPICalled"))]

    def requests(self) -> list[str]:
        """Addresses that the page sent for; what its policy stopped beforehand is among the complaints instead."""
        return [request["request"]["url"] for request in self.seen("Network.requestWillBeSent")]

    def close(self) -> None:
        os.write(self.out, json.dumps({"id": 0, "method": "Browser.close"}).encode() + b"\0")
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, 9)
            self.process.wait()
        os.close(self.out)
        os.close(self.back)
