"""What the browser suite shares: Chromium, an app with its own store, visitors, and a run that the engine played.

Without a Chromium the suite is skipped; with PWFF_E2E=required, as in .ci/run, it fails instead. A test that fails
leaves a screenshot and the console of each of its pages in its tmp_path, which the report names.
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
    ENGINE_MS,
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
"""A run of three stages that ends in seconds: it exercises everything, and learns nothing."""

_VISITS = pytest.StashKey[tuple[Path, list["Visit"]]]()
expect.set_options(timeout=1000 * PATIENCE_S)


class Visit:
    """A page in the browser and its complaints: errors in the console, and requests to other computers."""

    def __init__(self, page: Page, address: str) -> None:
        self.page = page
        self.address = address
        self.complaints: list[str] = []
        page.on("console", self._on_console)
        page.on("request", self._on_request)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type == "error" and not is_noise(message):
            self.complaints.append(f"{message.text} ({message.location['url']})")

    def _on_request(self, request: Request) -> None:
        if not request.url.startswith((self.address, "data:", "blob:")):
            self.complaints.append(f"a request to {request.url}")


class Visitor(Protocol):
    """Opens the app in a new window, `width` pixels wide. `path`: a page with its query, "clients?run=…"."""

    def __call__(self, path: str = "", *, width: int = 1400, scheme: Scheme = "light") -> Page: ...


@pytest.fixture(scope="session")
def chromium() -> Path:
    executable = find_chromium()
    if executable is None:
        missing = "no Chromium here: install one (Debian: apt-get install chromium) or name it in PWFF_CHROMIUM"
        if os.environ.get("PWFF_E2E") == "required":
            pytest.fail(missing)
        pytest.skip(missing)
    return executable


@pytest.fixture(scope="package")
def browser(chromium: Path) -> Iterator[Browser]:
    # no longer than this folder's tests: while playwright runs, no other test in this process may run an event loop
    with sync_playwright() as playwright:
        browser = launch_chromium(playwright, chromium)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def played(chromium: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with one run of TINY that the engine has played, with its models. Copy it; do not change it."""
    path = tmp_path_factory.mktemp("played") / "runs.sqlite"
    flags = [word for name, value in TINY.items() for word in (f"--{name.replace('_', '-')}", f"{value}")]
    command = [sys.executable, "-m", "pwff_core", "run", "--store", str(path), "--name", "Tiny", *flags]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=ENGINE_MS / 1000)
    assert done.returncode == 0, done.stderr
    return path


@pytest.fixture(scope="module")
def store_path(played: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store that a module's app shows. A module that needs another store overrides this fixture."""
    folder = tmp_path_factory.mktemp("site")
    shutil.copytree(played.parent, folder, dirs_exist_ok=True)
    return folder / played.name


@pytest.fixture(scope="module")
def site(chromium: Path, store_path: Path) -> Iterator[Site]:
    """The app, one for a module. It ends the engines that its pages started and no test has stopped."""
    with serving(store_path) as site:
        yield site
    for row in site.store.runs():
        if row.pid not in (None, os.getpid()) and not row.status.ended:
            with suppress(psutil.NoSuchProcess):  # it may have ended meanwhile
                psutil.Process(row.pid).kill()


@pytest.fixture
def visit(request: pytest.FixtureRequest, browser: Browser, site: Site, tmp_path: Path) -> Iterator[Visitor]:
    """Opens pages and waits until they are drawn. At the end no page may have a complaint."""
    opened: list[Visit] = []
    request.node.stash[_VISITS] = (tmp_path, opened)

    def visitor(path: str = "", *, width: int = 1400, scheme: Scheme = "light") -> Page:
        page = open_context(browser, width=width, scheme=scheme).new_page()
        opened.append(Visit(page, site.address))
        page.goto(f"{site.address}/{path}")
        settle(page)
        return page

    yield visitor
    for visit in opened:
        visit.page.context.close()
    assert [complaint for visit in opened for complaint in visit.complaints] == []


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """After a failure, saves each page's screenshot and complaints."""
    report = yield
    if report.failed and call.when == "call" and _VISITS in item.stash:
        folder, opened = item.stash[_VISITS]
        for number, visit in enumerate(opened):
            log = [visit.page.url, *visit.complaints]
            try:
                visit.page.screenshot(path=folder / f"page-{number}.png")
            except Error as error:  # the browser itself may have gone
                log.append(f"No screenshot: {error}")
            (folder / f"page-{number}.log").write_text("\n".join([*log, ""]), encoding="utf-8")
        report.sections.append(("browser", f"screenshots and the console of its pages are in {folder}"))
    return report
