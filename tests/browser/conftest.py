"""Browser shared by all tests of pages."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest
from webdriver import CHROMIUM, DRIVER, Browser, wait_for


@pytest.fixture
def browser(chromium: Browser) -> Iterator[Browser]:
    """Yield the browser, and close the page afterwards."""
    yield chromium
    chromium.leave()


@pytest.fixture(scope="session")
def chromium(tmp_path_factory) -> Iterator[Browser]:
    """Start Chromium; skip the test if it is not installed."""
    if CHROMIUM is None or DRIVER is None:
        pytest.skip("no chromium and chromedriver (Debian: apt-get install chromium chromium-driver)")
    folder = tmp_path_factory.mktemp("browser")
    log = folder / "log"
    with log.open("w") as stream:
        process = subprocess.Popen([DRIVER, "--port=0"], stdout=stream, stderr=stream, text=True)
    try:
        port = wait_for(process, log, r"started successfully on port (\d+)")
        browser = Browser(f"http://127.0.0.1:{port}", folder / "profile")
        yield browser
        browser.close()
    finally:
        process.terminate()
        process.wait(30)
