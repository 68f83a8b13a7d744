"""A page in headless Chromium, driven over its debugging pipe: no port, no further package."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--remote-debugging-pipe"),
)
TIMEOUT_S = 120.0


class Page:
    """One tab. Close it after use: it ends the browser that it started.

    Args:
        profile: folder of the browser's profile; another page with the same one finds what this one stored.
        downloads: where files go that the page saves.
        size: of the window, in pixels.
    """

    def __init__(self, profile: Path, downloads: Path, size: tuple[int, int] = (1200, 900)) -> None:
        program = next((path for name in NAMES if (path := shutil.which(name))), None)
        if program is None:
            pytest.skip(f"no Chromium on this machine: none of {', '.join(NAMES)} is installed")
        to_browser, self._out = self._pipe()
        self._in, from_browser = self._pipe()
        command = f'exec "$0" "$@" 3<&{to_browser} 4>&{from_browser}'
        flags = [*FLAGS, f"--user-data-dir={profile}", f"--window-size={size[0]},{size[1]}"]
        self._process = subprocess.Popen(
            ["bash", "-c", command, program, *flags, "about:blank"],
            pass_fds=(to_browser, from_browser),
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(to_browser)
        os.close(from_browser)
        self._buffer, self._number, self.events = b"", 0, []
        self._session: str | None = None
        self.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(downloads))
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    @staticmethod
    def _pipe() -> tuple[int, int]:
        """A pipe whose ends are far from the descriptors 3 and 4 that the browser takes."""
        ends = os.pipe()
        moved = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 20) for end in ends]
        for end in ends:
            os.close(end)
        return moved[0], moved[1]

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """One command's result; events that come meanwhile are kept."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer["error"]
                return answer["result"]
            self.events.append(answer)

    def _receive(self) -> dict[str, Any]:
        deadline = time.monotonic() + TIMEOUT_S
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._in], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, "the browser does not answer"
            piece = os.read(self._in, 1 << 16)
            assert piece, "the browser has ended"
            self._buffer += piece
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)

    def open(self, url: str) -> None:
        """Go there and wait until it has loaded."""
        self.events = []
        self.call("Page.navigate", url=url)
        self.wait("Page.loadEventFired")
        # On a busy machine that may have been the event of the blank page before it.
        loaded = ["complete", url == "about:blank"]
        while self.run("[document.readyState, location.href == 'about:blank']") != loaded:
            time.sleep(0.01)

    def wait(self, event: str) -> None:
        """Until an event has come; those that came since `open`, or since `events` was emptied, count."""
        while not any(each.get("method") == event for each in self.events):
            self.events.append(self._receive())

    def run(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def press(self, keys: str) -> None:
        """Keys one after another, as a person presses them; "Tab" and such by their names, spaces between."""
        for key in keys.split():
            code = {"Tab": 9, "ArrowRight": 39, "Enter": 13}.get(key)
            extra = {"windowsVirtualKeyCode": code} if code else {"text": key}
            self.call("Input.dispatchKeyEvent", type="keyDown", key=key, **extra)
            self.call("Input.dispatchKeyEvent", type="keyUp", key=key, **({} if not code else extra))

    def type(self, text: str) -> None:
        """Text into what has the focus."""
        self.call("Input.insertText", text=text)

    def screenshot(self, path: Path) -> None:
        """What is seen, as PNG."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))

    def close(self) -> None:
        """End the browser, so that what the page stored is on disk."""
        if self._process.returncode is not None:
            return
        try:
            # The page hands what it stores to another process, and a page that ends at once may take it along.
            self.open("about:blank")
            self._session = None
            self.call("Browser.close")
            self._process.wait(TIMEOUT_S)
        except (AssertionError, OSError, subprocess.TimeoutExpired):
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        for end in (self._in, self._out):
            os.close(end)
