"""What thirty people who watch one run cost: `python benchmarks/viewers.py`; benchmarks/viewers.json.

The app is served on a store of its own, and the real engine plays a run of the demo's settings into it. Phases without
a viewer and with all of them take turns, so that whatever else slows the computer slows both. Measured: how stale a
viewer's page is (from the moment a round is found in the store, which is looked at every 20 ms, until the viewer has
got a message that draws it), what crosses the websockets, processor time and memory of the app, its errors, and how
much longer a round takes while people watch. The viewers (benchmarks/browsers.py) run beside it all, in this process.
`--engine scripted` appends rounds of a script every three seconds instead: a quick look, without torch.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import psutil

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.browsers import Arrival, Browser  # noqa: E402 - benchmarks/ and tests/ are not installed
from pwff_core.config import RunConfig  # noqa: E402
from pwff_core.knobs import with_changes  # noqa: E402
from pwff_core.records import RoundRecord  # noqa: E402
from pwff_core.runs.store import RunStatus, Store  # noqa: E402
from tests.support.browser import Site, serving  # noqa: E402
from tests.support.scripted import profile, whole_run  # noqa: E402

RESULTS = Path(__file__).with_name("viewers.json")
LOOK_S = 0.02  # how often the store is looked at for a new round
SCRIPTED_S = 3.0  # between two rounds of the script
BEATS = 3  # signs of life in that time
SAMPLE_S = 15.0  # between looks at the app's memory
SETTLE_S = 3.0  # after viewers came or went, before anything is counted
PATIENCE_S = 600.0  # until a viewer has the page: an app that is far too slow is a finding, not an error
WEIGHTS = tuple(client / 9 for client in range(10))
# all three stages have their charts on the page; the measure ends long before the first stage does
ENDLESS = {"instruction.rounds": 5_000, "reward.rounds": 1, "alignment.rounds": 1}


class Seen(NamedTuple):
    """A round that has been found in the store."""

    round: int
    at: float  # time.monotonic()
    wall_s: float  # that it took by its record


class Phase(NamedTuple):
    """A stretch of time with the same number of viewers."""

    viewers: int
    start: float
    end: float


def delays(seen: Sequence[Seen], arrivals: Sequence[Arrival], start: float, end: float) -> list[float]:
    """Seconds from each round of a stretch of time until a viewer got it; one that a later round overtook, until that.

    A round that never came counts until `end`.
    """
    found = []
    for one in seen:
        if start <= one.at < end:
            got = min((arrival.at for arrival in arrivals if arrival.round >= one.round), default=end)
            found.append(max(got - one.at, 0.0))
    return found


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of all values does not exceed."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def walls(seen: Sequence[Seen], phases: Sequence[Phase], watched: bool) -> list[float]:
    """Wall times of the rounds that were played from start to end within phases with or without viewers."""
    return [
        one.wall_s
        for phase in phases
        if bool(phase.viewers) == watched
        for one in seen
        if phase.start <= one.at - one.wall_s and one.at <= phase.end
    ]


class Cost(NamedTuple):
    """What a process has used so far, and has now."""

    at: float  # time.monotonic()
    processor_s: float
    memory_mb: float  # resident [MB of 10⁶ bytes]


def cost_of(process: psutil.Process) -> Cost:
    """A process, all its threads."""
    times = process.cpu_times()
    return Cost(time.monotonic(), times.user + times.system, process.memory_info().rss / 1e6)


@contextmanager
def playing(site: Site, engine: str) -> Iterator[str]:
    """A run that goes on until the block ends: its id."""
    run_id = site.store.create_run(with_changes(RunConfig(), ENDLESS))
    if engine == "scripted":
        site.store.claim(run_id)
        site.store.describe(run_id, [profile(client) for client in range(len(WEIGHTS))], [], 5_002)
        yield run_id
        site.store.finish(run_id, RunStatus.FINISHED)
        return
    command = [sys.executable, "-m", "pwff_core.engine.worker", run_id, "--store", str(site.store.path)]
    process = subprocess.Popen(command, cwd=ROOT)
    try:
        yield run_id
    finally:
        process.terminate()
        process.wait()


async def script(store: Store, run_id: str) -> None:
    """The engine's place: a round every SCRIPTED_S, with wall_s as it was waited, and signs of life between them."""
    for record in whole_run(run_id, rounds={"instruction": 5_000}, weights=WEIGHTS):
        for _ in range(BEATS):
            await asyncio.sleep(SCRIPTED_S / BEATS)
            await asyncio.to_thread(store.heartbeat, run_id)
        await asyncio.to_thread(store.append, run_id, record.model_copy(update={"wall_s": SCRIPTED_S}))


async def watch_store(store: Store, run_id: str, seen: list[Seen], lags: list[float]) -> None:
    """Notes when each round is there, and how late this process is with what it wants to do."""
    last = 0

    def look() -> tuple[list[tuple[int, RoundRecord]], float]:
        return store.rounds(run_id, after=last), time.monotonic()

    while True:
        new, at = await asyncio.to_thread(look)  # a slow disk does not make the viewers beside it late
        seen += [Seen(len(seen) + place, at, record.wall_s) for place, (_, record) in enumerate(new, start=1)]
        last = new[-1][0] if new else last
        wanted = time.monotonic() + LOOK_S
        await asyncio.sleep(LOOK_S)
        lags.append(time.monotonic() - wanted)


class Crowd:
    """Viewers that come and go together."""

    def __init__(self, address: str, query: str) -> None:
        self._address, self._query = address, query
        self.all: list[Browser] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def come(self, count: int) -> None:
        """So many viewers open the page, one after another; returns when each has it."""
        for _ in range(count):
            here, browser = asyncio.Event(), Browser(self._address, self._query)
            self.all.append(browser)
            self._tasks.append(asyncio.create_task(browser.look(here.set)))
            await asyncio.wait_for(here.wait(), PATIENCE_S)

    async def go(self) -> None:
        """All of them leave. What one of them died of is raised here."""
        for task in self._tasks:
            task.cancel()
        for result in await asyncio.gather(*self._tasks, return_exceptions=True):
            if isinstance(result, Exception):
                raise result
        self._tasks.clear()

    def traffic(self) -> tuple[int, int, int]:
        """Bytes and messages that they got, and bytes that they sent, so far."""
        totals = ((one.got_bytes, one.got_messages, one.sent_bytes) for one in self.all)
        got, messages, sent = (sum(of) for of in zip(*totals, strict=True)) if self.all else (0, 0, 0)
        return got, messages, sent


async def measure(site: Site, run_id: str, options: argparse.Namespace) -> dict[str, Any]:
    """Phases without and with viewers take turns until the time is up."""
    seen: list[Seen] = []
    crowd = Crowd(site.address, f"run={run_id}")
    lags: list[float] = []
    tasks = [asyncio.create_task(watch_store(site.store, run_id, seen, lags))]
    if options.engine == "scripted":
        tasks.append(asyncio.create_task(script(site.store, run_id)))
    while len(seen) < 2:  # the engine's first round is slower than the others
        await asyncio.sleep(0.1)
    app = psutil.Process(site.process.pid)
    app = next((child for child in app.children() if "streamlit" in " ".join(child.cmdline())), app)
    phases: list[Phase] = []
    rows: list[dict[str, float]] = []
    waits: list[float] = []
    memory: list[list[int]] = []
    for turn in range(2 * options.turns):
        count = options.viewers * (turn % 2)
        await crowd.come(count)
        await asyncio.sleep(SETTLE_S)
        before, crossed = cost_of(app), crowd.traffic()
        used = [before.memory_mb]
        while (left := before.at + options.phase - time.monotonic()) > 0:
            await asyncio.sleep(min(SAMPLE_S, left))
            used.append(cost_of(app).memory_mb)
        after, end = cost_of(app), crowd.traffic()
        phases.append(Phase(count, before.at, after.at))
        if count:
            await asyncio.sleep(2 * SETTLE_S)  # for what is still on its way
            for viewer in crowd.all[-count:]:
                waits += delays(seen, viewer.arrivals, before.at, after.at)
            spent_s = after.at - before.at
            rows.append(row_of(before, after, [(b - a) / count / spent_s for a, b in zip(crossed, end, strict=True)]))
            memory.append([round(one) for one in used])
            print(rows[-1], flush=True)
            await crowd.go()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    found = summary(options, seen, phases, rows, memory, waits, [text for one in crowd.all for text in one.errors])
    return found | {"viewers_late_ms_p95": round(1000 * percentile(lags, 0.95), 1)}


def row_of(before: Cost, after: Cost, each: Sequence[float]) -> dict[str, float]:
    """A phase with viewers: `each` is what a viewer got in bytes and messages, and sent in bytes, a second."""
    return {
        "app_processor_share": round((after.processor_s - before.processor_s) / (after.at - before.at), 3),
        "app_memory_mb": round(after.memory_mb),
        "viewer_got_kb_s": round(each[0] / 1000, 2),
        "viewer_messages_s": round(each[1], 1),
        "viewer_sent_kb_s": round(each[2] / 1000, 2),
    }


def summary(
    options: argparse.Namespace, seen: Sequence[Seen], phases: Sequence[Phase], rows: Sequence[dict[str, float]],
    memory: Sequence[Sequence[int]], waits: Sequence[float], errors: Sequence[str],
) -> dict[str, Any]:  # fmt: skip
    """All phases in a few numbers."""
    if not waits:
        raise SystemExit("No round was played while the viewers watched: try a longer --phase.")
    alone, watched = walls(seen, phases, False), walls(seen, phases, True)
    found = {
        "viewers": options.viewers,
        "engine": options.engine,
        "rounds": len(seen),
        "arrivals": len(waits),
        "staleness_s": {
            "p50": round(percentile(waits, 0.5), 3),
            "p95": round(percentile(waits, 0.95), 3),
            "max": round(max(waits), 3),
            "share_above_1_s": round(sum(wait > 1 for wait in waits) / len(waits), 4),
        },
        **{name: statistics.median(row[name] for row in rows) for name in rows[0]},
        "watched_s": round(sum(phase.end - phase.start for phase in phases if phase.viewers)),
        "app_memory_mb_by_turn": memory,
        "errors": list(errors),
    }
    if alone and watched:
        before_s, after_s = statistics.median(alone), statistics.median(watched)
        found["round_s"] = {"alone": round(before_s, 3), "watched": round(after_s, 3)}
        found["round_ratio"] = round(after_s / before_s, 3)
    return found


def complaints(log: Path) -> list[str]:
    """What went wrong by the app's log: the last line of each traceback, and whatever else names an error."""
    named = re.compile(r"^[\w.]*(Error|Exception|Warning)\b|locked|rror:")
    return [line for line in log.read_text(encoding="utf-8").splitlines() if named.search(line)]


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure an app that many browsers watch; writes viewers.json.")
    parser.add_argument("--viewers", type=int, default=30)
    parser.add_argument("--phase", type=float, default=60.0, help="seconds of a phase")
    parser.add_argument("--turns", type=int, default=3, help="phases with viewers, and as many without")
    parser.add_argument("--engine", choices=("real", "scripted"), default="real")
    parser.add_argument("--port", type=int)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "runs.sqlite"
        with serving(path, options.port) as site, playing(site, options.engine) as run_id:
            found = asyncio.run(measure(site, run_id, options))
        found["errors"] += complaints(path.with_name("app.log"))
    RESULTS.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()
