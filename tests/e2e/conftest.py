"""What the browser suite shares: Chromium, an app on a store of its own, visitors, and a run that was really played.

Without a Chromium the suite is skipped; with PWFF_E2E=required, as in .ci/run, it fails instead. A test that fails
leaves a screenshot and the browser's console of each of its pages in its tmp_path, which the report names.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Generator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import psutil
import pytest
from playwright.sync_api import Browser, ConsoleMessage, Error, Page, Request, expect, sync_playwright

from tests.support.browser import (
    PATIENCE_S,
    ROOT,
    Scheme,
    Site,
    find_chromium,
    is_noise,
    launch_chromium,
    open_context,
    serving,
    settle,
)

TINY = {
    "clients": 2, "data.train_examples": 8, "data.test_examples": 2,
    "instruction.rounds": 2, "instruction.local_steps": 2, "instruction.batch_size": 2,
    "reward.rounds": 1, "reward.local_steps": 2, "reward.batch_size": 2, "reward.train_pairs": 4,
    "reward.test_pairs": 2, "alignment.rounds": 1, "alignment.batch_size": 2, "alignment.minibatches": 1,
    "alignment.local_steps": 1, "alignment.personal_steps": 0, "alignment.max_new_tokens": 12,
    "alignment.test_prompts": 2, "alignment.critic_warmup": 2, "alignment.critic_steps": 1,
}  # fmt: skip
"""A run of three stages that is over in seconds: it shows how things work, and learns nothing."""

_VISITS = pytest.StashKey[tuple[Path, list["Visit"]]]()
ENGINE_MS = 5 * 1000 * PATIENCE_S  # for what whole runs are waited for, or models that have to be loaded
expect.set_options(timeout=1000 * PATIENCE_S)


class Visit:
    """A page in the browser, and what is wrong with it: errors in the console, and requests to other computers."""

    def __init__(self, page: Page, address: str) -> None:
        self.page = page
        self.address = address
        self.complaints: list[str] = []
        page.on("console", self._heard)
        page.on("request", self._asked)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _heard(self, message: ConsoleMessage) -> None:
        if message.type == "error" and not is_noise(message):
            self.complaints.append(f"{message.text} ({message.location['url']})")

    def _asked(self, request: Request) -> None:
        if not request.url.startswith((self.address, "data:", "blob:")):
            self.complaints.append(f"a request to {request.url}")


class Visitor(Protocol):
    """Opens the app in a new window of so many pixels. `path`: a page with its query, "clients?run=…"."""

    def __call__(self, path: str = "", *, width: int = 1400, scheme: Scheme = "light") -> Page: ...


@pytest.fixture(scope="session")
def chromium() -> Path:
    found = find_chromium()
    if found is None:
        missing = "no Chromium here: install one (Debian: apt-get install chromium) or name it in PWFF_CHROMIUM"
        if os.environ.get("PWFF_E2E") == "required":
            pytest.fail(missing)
        pytest.skip(missing)
    return found


@pytest.fixture(scope="module")
def browser(chromium: Path) -> Iterator[Browser]:
    # once a module and no longer: while playwright is on, no other test in this process may run an event loop
    with sync_playwright() as playwright:
        found = launch_chromium(playwright, chromium)
        yield found
        found.close()


@pytest.fixture(scope="session")
def played(chromium: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with one run of TINY, played by the real engine, its models kept. To be copied, not changed."""
    path = tmp_path_factory.mktemp("played") / "runs.sqlite"
    flags = [word for name, value in TINY.items() for word in (f"--{name.replace('_', '-')}", f"{value}")]
    command = [sys.executable, "-m", "pwff_core", "run", "--store", str(path), "--name", "Tiny", *flags]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=5 * PATIENCE_S)
    assert done.returncode == 0, done.stderr
    return path


@pytest.fixture(scope="module")
def store_path(played: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store that a module's app shows. A module that needs another one has a fixture of this name."""
    folder = tmp_path_factory.mktemp("site")
    shutil.copytree(played.parent, folder, dirs_exist_ok=True)
    return folder / played.name


@pytest.fixture(scope="module")
def site(chromium: Path, store_path: Path) -> Iterator[Site]:
    """The app, once a module. Engines that its pages started, and that no test has stopped, end with it."""
    with serving(store_path) as found:
        yield found
    for row in found.store.runs():
        if row.pid not in (None, os.getpid()) and not row.status.ended:
            with suppress(psutil.NoSuchProcess):  # it may have ended meanwhile
                psutil.Process(row.pid).kill()


@pytest.fixture
def visit(request: pytest.FixtureRequest, browser: Browser, site: Site, tmp_path: Path) -> Iterator[Visitor]:
    """Opens pages, and waits until they are drawn. In the end nothing may be wrong with any of them."""
    opened: list[Visit] = []
    request.node.stash[_VISITS] = (tmp_path, opened)

    def visitor(path: str = "", *, width: int = 1400, scheme: Scheme = "light") -> Page:
        page = open_context(browser, width=width, scheme=scheme).new_page()
        opened.append(Visit(page, site.address))
        page.goto(f"{site.address}/{path}")
        settle(page)
        return page

    yield visitor
    for one in opened:
        one.page.context.close()
    assert [text for one in opened for text in one.complaints] == []


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """After a failure: what the pages looked like, and what was wrong with them."""
    report = yield
    if report.failed and call.when == "call" and _VISITS in item.stash:
        folder, opened = item.stash[_VISITS]
        for number, one in enumerate(opened):
            told = [one.page.url, *one.complaints]
            try:
                one.page.screenshot(path=folder / f"page-{number}.png")
            except Error as error:  # the browser itself may have gone
                told.append(f"No screenshot: {error}")
            (folder / f"page-{number}.log").write_text("\n".join([*told, ""]), encoding="utf-8")
        report.sections.append(("browser", f"screenshots and the console of its pages are in {folder}"))
    return report
