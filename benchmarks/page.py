"""The cost of the pages: `python benchmarks/page.py` plays 500 scripted rounds to a real browser; benchmarks/page.json.

In the engine's place, this script appends a round for each look of a run's page that is open in Chromium. Bytes and
times are measured in the browser, at the websocket: of the look that brings a round, and of one without news. A look
starts with the browser's request; its server time ends with the last byte, its browser time with the last chart.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import psutil
from playwright.sync_api import Page, expect, sync_playwright

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from pwff_core.config import RunConfig  # noqa: E402
from pwff_core.knobs import with_changes  # noqa: E402
from pwff_core.records import ClientProfile  # noqa: E402
from pwff_core.runs.store import RunStatus, Store  # noqa: E402
from tests.support.browser import Site, find_chromium, launch_chromium, open_context, serving, settle  # noqa: E402
from tests.support.scripted import whole_run  # noqa: E402

RESULTS = Path(__file__).with_name("page.json")
MILESTONES = (5, 50, 100, 250, 500)
WINDOW = 5  # rounds up to a milestone, for its median
WEIGHTS = tuple(client / 9 for client in range(10))
SWITCHES = 5  # of each page

# in the page: what crosses the websocket, and when a chart was drawn; [milliseconds, what, bytes]
WATCH = """
window.pwffLog = [];
const note = (what, bytes = 0) => window.pwffLog.push([performance.now(), what, bytes]);
window.WebSocket = class extends WebSocket {
  constructor(...address) {
    super(...address);
    this.addEventListener("message", (event) => note("got", event.data.byteLength ?? event.data.size));
  }
  send(data) {
    note("asked", data.byteLength);
    super.send(data);
  }
};
window.pwffWatchCharts = () => {
  for (const chart of document.querySelectorAll(".pwff-chart")) chart.on("plotly_afterplot", () => note("drawn"));
};
"""
# all charts have been drawn with a round, and the look that brought it is over
DRAWN = """([round, charts]) => {
  const idle = document.querySelector(".stApp").dataset.testScriptState === "notRunning";
  const drawn = window.pwffLog.filter(([, what]) => what === "drawn").length;
  const accuracy = document.querySelector(".st-key-chart-accuracy .pwff-chart")._fullData;
  return idle && drawn >= charts && accuracy.some((trace) => trace.x.at(-1) >= round);
}"""
NOTHING_NEW = """() => window.pwffLog.filter(([, what]) => what === "asked").length >= 3"""
# the log so far; a look that has been asked for stays in it, as it may bring the next round
TAKE = """() => {
  const log = window.pwffLog;
  window.pwffLog = log.filter(([, what]) => what === "asked").slice(-1);
  return log;
}"""


class Look(NamedTuple):
    """One look of the page at the store."""

    kilobytes: float
    server_ms: float
    browser_ms: float


def look_in(log: list[tuple[float, str, int]]) -> Look:
    """The last look that ended with a chart drawn; where none was drawn, the last that is over."""
    asked = [at for at, what, _ in log if what == "asked"]
    drawn = [at for at, what, _ in log if what == "drawn"]
    start = max(at for at in asked if at < drawn[-1]) if drawn else asked[-2]
    end = min((at for at in asked if at > start), default=float("inf"))
    got = [(at, size) for at, what, size in log if what == "got" and start < at < end]
    last = max(at for at, _ in got)
    return Look(sum(size for _, size in got) / 1000, last - start, max(max(drawn, default=last) - last, 0.0))


def begin(store: Store, rounds: int) -> str:
    """A run of ten clients whose engine is this process."""
    run_id = store.create_run(
        with_changes(RunConfig(), {"instruction.rounds": rounds, "reward.rounds": 0, "alignment.rounds": 0})
    )
    store.claim(run_id)
    profiles = [
        ClientProfile(
            client=client, helpfulness_weight=weight, device_class="mid", lora_modules=8, train_examples=96,
            validation_examples=8, test_examples=30, topics={"garden": 40, "travel": 30, "money": 26},
            style={"units": "metric", "opener": "Sure!"},
        )
        for client, weight in enumerate(WEIGHTS)
    ]  # fmt: skip
    store.describe(run_id, profiles, [], rounds)
    return run_id


def play(site: Site, page: Page, run_id: str, rounds: int) -> dict[str, Any]:
    """A round a look; medians up to each milestone, and the server's memory there."""
    process = psutil.Process(site.process.pid)
    charts = page.locator(".pwff-chart").count()
    looks: list[Look] = []
    rows = []
    for number, record in enumerate(whole_run(run_id, rounds={"instruction": rounds}, weights=WEIGHTS)[1:], start=2):
        site.store.append(run_id, record)
        page.wait_for_function(DRAWN, arg=[number, charts])
        looks.append(look_in(page.evaluate(TAKE)))
        if number in MILESTONES or number == rounds:
            page.wait_for_function(NOTHING_NEW)
            recent, idle = looks[-WINDOW:], look_in(page.evaluate(TAKE))
            rows.append(
                {
                    "round": number,
                    "update_kb": round(statistics.median(look.kilobytes for look in recent), 1),
                    "update_server_ms": round(statistics.median(look.server_ms for look in recent)),
                    "update_browser_ms": round(statistics.median(look.browser_ms for look in recent)),
                    "idle_look_kb": round(idle.kilobytes, 1),
                    "idle_look_server_ms": round(idle.server_ms),
                    "server_memory_mb": round(process.memory_info().rss / 1e6),
                }
            )
            print(rows[-1], flush=True)
    return {"charts": charts, "rounds": rows}


def switches(page: Page) -> dict[str, float]:
    """Median seconds from a click in the menu until the page is drawn, by page."""
    links = page.locator("[data-testid='stTopNavLink']")
    names = [text.split("\n")[-1] for text in links.all_inner_texts()]  # the icon's name comes first
    heading = page.locator(".stMain h1")
    takes: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(1, SWITCHES * len(names) + 1):
        place, before = turn % len(names), heading.inner_text()
        start = time.perf_counter()
        links.nth(place).click()
        expect(heading).not_to_have_text(before)
        settle(page)
        takes[names[place]].append(time.perf_counter() - start)
    return {name: round(statistics.median(times), 2) for name, times in takes.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the pages in a real browser; writes benchmarks/page.json.")
    parser.add_argument("--rounds", type=int, default=500)
    parser.add_argument("--port", type=int)
    options = parser.parse_args()
    chromium = find_chromium()
    if chromium is None:
        sys.exit("No Chromium here; install one or name it in PWFF_CHROMIUM.")
    with (
        tempfile.TemporaryDirectory() as folder,
        serving(Path(folder) / "runs.sqlite", options.port) as site,
        sync_playwright() as playwright,
    ):
        run_id = begin(site.store, options.rounds)
        site.store.append(run_id, whole_run(run_id, rounds={"instruction": options.rounds}, weights=WEIGHTS)[0])
        page = open_context(launch_chromium(playwright, chromium)).new_page()
        page.add_init_script(WATCH)
        page.goto(f"{site.address}/?run={run_id}")
        settle(page)
        page.evaluate("window.pwffWatchCharts()")
        result = play(site, page, run_id, options.rounds)
        site.store.finish(run_id, RunStatus.FINISHED)
        expect(page.get_by_text("Finished:")).to_be_visible()
        result["page_switch_s"] = switches(page)
        RESULTS.write_text(json.dumps(result, indent=1) + "\n")
        print(json.dumps(result["page_switch_s"]))


if __name__ == "__main__":
    main()
