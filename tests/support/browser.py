"""The app in a browser: its own server on a store, and Chromium on its pages.

For the browser suite (tests/e2e), the documents' pictures (tests/screenshots.py) and benchmarks/page.py.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, NamedTuple

from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Locator, Page, Playwright

from pwff_core.runs.store import Store

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 120.0  # for any wait: a slow machine is no failure
ENGINE_MS = 5 * 1000 * PATIENCE_S  # for an engine, which loads models and yields to every other program
Scheme = Literal["light", "dark"]

# a page is settled when Streamlit runs no script for it and every chart is drawn
_SETTLED = """() => {
  const app = document.querySelector(".stApp");
  return app?.dataset.testConnectionState === "CONNECTED" && app.dataset.testScriptState === "notRunning"
    && document.querySelector(".stMain h1") !== null
    && document.querySelector(".pwff-waiting, [data-testid='stSkeleton'], [data-testid='stSpinner']") === null
    && [...document.querySelectorAll(".pwff-chart")].every((chart) => chart.querySelector(".main-svg"));
}"""
_BROKEN = "[data-testid='stException']"
# under the address of a page Streamlit requests these beside the page first, and then where they are
_MISPLACED_REQUESTS = ("/_stcore/health", "/_stcore/host-config")
_NOT_FOUND = "Failed to load resource: the server responded with a status of 404 (Not Found)"


class Site(NamedTuple):
    """A running app."""

    address: str  # http://localhost:PORT
    store: Store  # the store that it shows, open for writing
    process: subprocess.Popen[bytes]


def find_chromium() -> Path | None:
    """$PWFF_CHROMIUM, $BROWSER_PATH, or a Chromium on PATH; None where there is none."""
    named = [os.environ.get(variable, "") for variable in ("PWFF_CHROMIUM", "BROWSER_PATH")]
    on_path = [shutil.which(name) or "" for name in ("chromium", "chromium-browser", "google-chrome")]
    return next((Path(path) for path in [*named, *on_path] if path and Path(path).is_file()), None)


def launch_chromium(playwright: Playwright, executable: Path) -> Browser:
    """A Chromium without a window."""
    root = hasattr(os, "geteuid") and os.geteuid() == 0
    return playwright.chromium.launch(
        executable_path=executable,
        # a container has little /dev/shm; root cannot have a sandbox
        args=["--disable-gpu", "--disable-dev-shm-usage", *(["--no-sandbox"] if root else [])],
        timeout=1000 * PATIENCE_S,
    )


def open_context(
    browser: Browser, *, width: int = 1400, height: int = 1000, scheme: Scheme = "light"
) -> BrowserContext:
    """A new visitor: a window of `width` × `height` pixels and no memory of earlier visits.

    `scheme` is the colour scheme that the visitor's system asks for.
    """
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
    context.set_default_timeout(1000 * PATIENCE_S)
    return context


def settle(page: Page) -> None:
    """Waits until the page is drawn. Raises RuntimeError if it shows an exception."""
    page.wait_for_function(f"() => document.querySelector({_BROKEN!r}) !== null || ({_SETTLED})()")
    if page.locator(_BROKEN).count():
        raise RuntimeError(f"{page.url} is broken: {page.locator(_BROKEN).first.inner_text()}; app.log tells why.")


def current(page: Page) -> Locator:
    """The elements of the page and its sidebar, without those that Streamlit is about to replace.

    While a script runs, the page keeps what the last run drew, marked stale, until it is drawn again or removed. An
    element that has moved is then there twice. Expanders, tabs and popovers are containers and not among the elements.
    Not for what has to vanish: elements that are about to come back are stale, too.
    """
    return page.locator("[data-testid='stElementContainer'][data-stale='false']")


def button(page: Page, name: str) -> Locator:
    """A button of the app's own: while a page is busy, Streamlit has a "Stop" in the header."""
    return current(page).get_by_role("button", name=name, exact=True)


def is_noise(message: ConsoleMessage) -> bool:
    """Whether a console error is one that Streamlit expects, so that it says nothing about the app."""
    return message.text == _NOT_FOUND and message.location["url"].endswith(_MISPLACED_REQUESTS)


@contextmanager
def serving(store_path: Path, port: int | None = None) -> Iterator[Site]:
    """`pwff app` on a store, until the block ends. Engines that its pages started outlive it, as they should."""
    port = port or _free_port()
    address = f"http://localhost:{port}"
    command = [sys.executable, "-m", "pwff_core", "app", "--headless", "--port", f"{port}", "--store", str(store_path)]
    store = Store(store_path)
    log = store_path.with_name("app.log")
    with log.open("ab") as output:
        environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
        process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT, env=environment)
    try:
        _wait_for(f"{address}/_stcore/health", process, log)
        yield Site(address, store, process)
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return int(probe.getsockname()[1])


def _wait_for(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    give_up_at = time.monotonic() + PATIENCE_S
    while time.monotonic() < give_up_at and process.poll() is None:
        try:
            with urllib.request.urlopen(address, timeout=PATIENCE_S):
                return
        except OSError:  # nobody listens yet
            time.sleep(0.1)
    raise RuntimeError(f"The app does not answer at {address}; the end of its log: {log.read_text()[-2000:]}")
