"""The documents' pictures: `make screenshots`, or `python tests/screenshots.py --store PATH` for your own runs.

Without a store the recorded demo is shown. The clients' answers need its models; their picture then stays as it is.
Pictures are reduced to 256 colours, which halves them and which nobody sees.
"""

from __future__ import annotations

import argparse
import io
import re
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from pwff_core.runs.chat import kept_models  # noqa: E402 - pages and tests are not installed
from pwff_core.runs.recording import recorded_demo  # noqa: E402
from pwff_core.runs.store import RunRow, RunStatus, Store  # noqa: E402
from tests.support.browser import Scheme, Site, find_chromium, launch_chromium, open_context, serving, settle  # noqa: E402

WIDTH = 1400
MOST_BYTES = 250_000


class Picture(NamedTuple):
    """A page as a document shows it."""

    name: str
    path: str  # with {run} for the run's id
    height: int
    scheme: Scheme = "light"
    prepare: Callable[[Page], None] = settle


def ask_clients(page: Page) -> None:
    """Asks a delicate question of the models from before and after alignment."""
    page.locator(".st-key-ask-pick-delicate").get_by_role("radio").first.click()
    page.get_by_role("radio", name="Both").click()
    settle(page)
    page.get_by_role("button", name="Ask", exact=True).click()
    page.get_by_text(re.compile("· weighted")).first.wait_for()
    settle(page)
    page.get_by_role("heading", name="Ask the clients").evaluate("(heading) => heading.scrollIntoView()")


PICTURES = (
    Picture("live-light", "?run={run}", 1300),
    Picture("live-dark", "?run={run}", 1300, "dark"),
    Picture("compare-light", "compare", 1300),
    Picture("clients-light", "clients?run={run}", 1300, prepare=ask_clients),
    Picture("channel-light", "channel", 1300),
    Picture("runs-light", "runs", 900),
)


def recorded_store(path: Path) -> Store:
    """A store with the recorded demo as its only run."""
    store, recording = Store(path), recorded_demo()
    run_id = store.create_run(recording.row.config, recording.row.name)
    store.claim(run_id)
    store.describe(run_id, recording.row.profiles, recording.row.notes, recording.row.rounds_total)
    for record in recording.records:
        store.append(run_id, record.model_copy(update={"run": run_id}))
    store.finish(run_id, RunStatus.FINISHED, recording.row.message)
    return store


def run_to_show(store: Store, run_id: str | None) -> RunRow:
    """The run of this id, or the newest finished run that is not part of a comparison."""
    if run_id:
        return store.run(run_id)
    return next(row for row in store.runs("") if row.status is RunStatus.FINISHED)


def take(browser: Browser, site: Site, picture: Picture, run_id: str) -> bytes:
    """The picture as a PNG."""
    context = open_context(browser, width=WIDTH, height=picture.height, scheme=picture.scheme)
    page = context.new_page()
    page.goto(f"{site.address}/{picture.path.format(run=run_id)}")
    settle(page)
    picture.prepare(page)
    settle(page)
    page.mouse.move(WIDTH - 1, picture.height - 1)  # away from everything that reacts to it
    png = page.screenshot(animations="disabled")
    context.close()
    return with_few_colours(png)


def with_few_colours(png: bytes) -> bytes:
    """The same picture in 256 colours."""
    reduced = Image.open(io.BytesIO(png)).convert("RGB").quantize(256, dither=Image.Dither.NONE)
    output = io.BytesIO()
    reduced.save(output, "PNG", optimize=True)
    return output.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description="Take the documents' pictures of the pages.")
    parser.add_argument("--store", type=Path, help="runs to show (default: the recorded demo)")
    parser.add_argument("--run", help="the run to show (default: the newest that finished)")
    parser.add_argument("--only", choices=[picture.name for picture in PICTURES], help="one picture instead of all")
    parser.add_argument("--to", type=Path, default=ROOT / "assets" / "screenshots")
    options = parser.parse_args()
    chromium = find_chromium()
    if chromium is None:
        sys.exit("No Chromium here; install one or name it in PWFF_CHROMIUM.")
    options.to.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        store = Store(options.store) if options.store else recorded_store(Path(folder) / "runs.sqlite")
        run = run_to_show(store, options.run)
        with serving(store.path) as site:
            browser = launch_chromium(playwright, chromium)
            for picture in PICTURES:
                left_out = options.only not in (None, picture.name)
                if left_out or (picture.prepare is ask_clients and kept_models(store.path, run.id) is None):
                    continue
                png = take(browser, site, picture, run.id)
                (options.to / f"{picture.name}.png").write_bytes(png)
                print(f"{picture.name}: {len(png) / 1000:.0f} kB{' (too large)' if len(png) > MOST_BYTES else ''}")


if __name__ == "__main__":
    main()
