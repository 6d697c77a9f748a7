"""A headless Chromium for tests of pages, driven by selenium; one a test process.

The browser finds no other machine: every host name but this machine's is unknown to it. Where no Chromium is installed,
the tests skip and say so.
"""

from __future__ import annotations

import base64
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

_PICTURE_S = 10
_FLAGS = (
    "--headless",
    "--no-sandbox",  # containers lack what the sandbox needs; the pages are our own
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1",
)


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Return a selenium driver of Chromium, of desktop size."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium drives the browser")
    program, chromedriver = shutil.which("chromium"), shutil.which("chromedriver")
    if program is None or chromedriver is None:
        pytest.skip("there is no chromium or no chromedriver; apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for flag in (*_FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(flag)
    # Console messages, such as what the page's policy refused, are kept for tests to read.
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(chromedriver))
    try:
        driver.set_page_load_timeout(60)
        set_width(driver, 1280)
        yield driver
    finally:
        driver.quit()


@pytest.fixture
def browser(chromium: Any) -> Iterator[Any]:
    """Return the driver; what a test changes of it, it changes back."""
    yield chromium
    chromium.get("about:blank")  # a page that goes on asking its server would take a processor to the end


def set_width(browser: Any, width: int, height: int = 900, *, phone: bool = False) -> None:
    """Give the page a width in CSS pixels; as a phone it obeys the page's own viewport."""
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": phone}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def screenshot(browser: Any, path: Path) -> None:
    """Write a picture of the whole page, for people to look at; a page that has no size yet is waited for."""
    from selenium.common.exceptions import WebDriverException

    until = time.monotonic() + _PICTURE_S
    while True:
        try:
            shot = browser.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True})
            break
        except WebDriverException as error:
            if "screenshot with 0 width" not in str(error) or time.monotonic() > until:
                raise
            time.sleep(0.1)
    path.write_bytes(base64.b64decode(shot["data"]))


def console_messages(browser: Any) -> list[str]:
    """Return what the page and the browser wrote to the console since the last call."""
    return [entry["message"] for entry in browser.get_log("browser")]
