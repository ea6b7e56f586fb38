"""Headless Chromium, controlled by the W3C WebDriver protocol."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--window-size=1500,1100",
    "--enable-unsafe-swiftshader", "--use-gl=angle", "--use-angle=swiftshader",  # WebGL for the projector
)  # fmt: skip
# text of a page including shadow roots and frames, and the number of loaded images
LOOK = """
function* walk(node) {
  for (const child of [...(node.shadowRoot ? [node.shadowRoot] : []), ...node.childNodes]) {
    if (["STYLE", "SCRIPT", "TEMPLATE", "DOM-MODULE"].includes(child.tagName)) continue;
    yield child;
    yield* walk(child);
    if (child.tagName === "IFRAME" && child.contentDocument) yield* walk(child.contentDocument);
  }
}
const all = [...walk(document.body)];
return [all.filter(n => n.nodeType === 3).map(n => n.data.trim()).filter(s => s).join(" "),
        all.filter(n => n.tagName === "IMG" && n.naturalWidth > 400).length];
"""


def call(url: str, body: Any = None, method: str | None = None) -> Any:
    """Request JSON from a server."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(
        url, data, {"Content-Type": "application/json"} if data else {}, method=method
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.loads(answer.read())


def wait_for(process: subprocess.Popen[str], log: Path, pattern: str) -> str:
    """Wait until a server prints the pattern, and return its first group."""
    for _ in range(600):
        match = re.search(pattern, log.read_text())
        if match:
            return match.group(1)
        assert process.poll() is None, log.read_text()
        time.sleep(0.1)
    raise AssertionError(log.read_text())


class Browser:
    """Headless Chromium, controlled by the W3C WebDriver protocol."""

    def __init__(self, address: str, profile: Path) -> None:
        options = {"binary": CHROMIUM, "args": [*FLAGS, f"--user-data-dir={profile}"]}
        wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        answer = call(f"{address}/session", {"capabilities": {"alwaysMatch": wanted}})
        self.session = f"{address}/session/{answer['value']['sessionId']}"

    def open(self, url: str) -> None:
        """Load a page, also if only the fragment differs."""
        self.leave()
        self.errors()
        call(f"{self.session}/url", {"url": url})

    def leave(self) -> None:
        """Close the page."""
        call(f"{self.session}/url", {"url": "about:blank"})

    def look(self) -> tuple[str, int]:
        """Return visible text and the number of visible images."""
        text, pictures = self.run(LOOK)
        return text, pictures

    def run(self, script: str, *arguments: Any) -> Any:
        """Run a script in the page and return its result."""
        return call(f"{self.session}/execute/sync", {"script": script, "args": list(arguments)})["value"]

    def errors(self) -> list[str]:
        """Return errors in the console since the last call."""
        entries = call(f"{self.session}/se/log", {"type": "browser"})["value"]
        return [entry["message"] for entry in entries if entry["level"] == "SEVERE"]

    def picture(self, path: Path) -> None:
        """Save a screenshot."""
        path.write_bytes(base64.b64decode(call(f"{self.session}/screenshot")["value"]))

    def close(self) -> None:
        """End Chromium."""
        call(self.session, method="DELETE")
