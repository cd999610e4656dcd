"""The cost of thirty people who watch one run: `python benchmarks/viewers.py`; benchmarks/viewers.json.

The app is served on a store of its own, and the real engine plays a run of the demo's settings into it. Phases without
viewers and with all of them take turns, so that whatever else slows the computer slows both. Measured: the staleness of
a viewer's page (from the moment a round is in the store, which is polled every 20 ms, until the viewer has received a
message that draws it), the traffic on the websockets, processor time and memory of the app, its errors, and how much
longer a round takes while people watch. The viewers (benchmarks/browsers.py) run in this process. `--engine scripted`
appends scripted rounds every three seconds instead: a quick check without torch.
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
POLL_S = 0.02  # between two looks for a new round in the store
SCRIPTED_S = 3.0  # between two rounds of the script
HEARTBEATS = 3  # in that time
SAMPLE_S = 15.0  # between looks at the app's memory
SETTLE_S = 3.0  # after viewers have come or gone, before anything is counted
OPEN_TIMEOUT_S = 600.0  # until a viewer has the page: an app that is far too slow is a finding, not an error
WEIGHTS = tuple(client / 9 for client in range(10))
# all three stages have charts on the page; the measurement ends long before the first stage
ENDLESS = {"instruction.rounds": 5_000, "reward.rounds": 1, "alignment.rounds": 1}


class StoredRound(NamedTuple):
    """A round, and when it was found in the store."""

    round: int
    at: float  # time.monotonic()
    wall_s: float  # its duration, by its record


class Phase(NamedTuple):
    """A stretch of time with the same number of viewers."""

    viewers: int
    start: float
    end: float


def staleness(stored: Sequence[StoredRound], arrivals: Sequence[Arrival], start: float, end: float) -> list[float]:
    """Seconds from each round of a stretch of time until a viewer received it or a later one.

    A round that never arrived counts until `end`.
    """
    delays = []
    for played in stored:
        if start <= played.at < end:
            arrived_at = min((arrival.at for arrival in arrivals if arrival.round >= played.round), default=end)
            delays.append(max(arrived_at - played.at, 0.0))
    return delays


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of all values does not exceed."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def round_times(stored: Sequence[StoredRound], phases: Sequence[Phase], watched: bool) -> list[float]:
    """Wall times of the rounds that were played from start to end within phases with or without viewers."""
    return [
        played.wall_s
        for phase in phases
        if bool(phase.viewers) == watched
        for played in stored
        if phase.start <= played.at - played.wall_s and played.at <= phase.end
    ]


class Cost(NamedTuple):
    """The processor time of a process so far, and its memory now."""

    at: float  # time.monotonic()
    processor_s: float
    memory_mb: float  # resident [MB of 10⁶ bytes]


def cost_of(process: psutil.Process) -> Cost:
    """The cost of a process with all its threads."""
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
    """In the engine's place: a round every SCRIPTED_S, and heartbeats between them."""
    for record in whole_run(run_id, rounds={"instruction": 5_000}, weights=WEIGHTS):
        for _ in range(HEARTBEATS):
            await asyncio.sleep(SCRIPTED_S / HEARTBEATS)
            await asyncio.to_thread(store.heartbeat, run_id)
        await asyncio.to_thread(store.append, run_id, record.model_copy(update={"wall_s": SCRIPTED_S}))


async def watch_store(store: Store, run_id: str, stored: list[StoredRound], lags: list[float]) -> None:
    """Notes when each round is in the store, and how late this process itself is."""
    last = 0

    def poll() -> tuple[list[tuple[int, RoundRecord]], float]:
        return store.rounds(run_id, after=last), time.monotonic()

    while True:
        new, at = await asyncio.to_thread(poll)  # so that a slow disk does not delay the viewers
        first = len(stored) + 1
        stored += [StoredRound(n, at, record.wall_s) for n, (_, record) in enumerate(new, start=first)]
        last = new[-1][0] if new else last
        due = time.monotonic() + POLL_S
        await asyncio.sleep(POLL_S)
        lags.append(time.monotonic() - due)


class Crowd:
    """Viewers that come and go together."""

    def __init__(self, address: str, query: str) -> None:
        self._address, self._query = address, query
        self.all: list[Browser] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def come(self, count: int) -> None:
        """Lets viewers open the page, one after another; returns when each has it."""
        for _ in range(count):
            opened, browser = asyncio.Event(), Browser(self._address, self._query)
            self.all.append(browser)
            self._tasks.append(asyncio.create_task(browser.watch(opened.set)))
            await asyncio.wait_for(opened.wait(), OPEN_TIMEOUT_S)

    async def go(self) -> None:
        """Lets all of them leave; raises the error of one that failed."""
        for task in self._tasks:
            task.cancel()
        for result in await asyncio.gather(*self._tasks, return_exceptions=True):
            if isinstance(result, Exception):
                raise result
        self._tasks.clear()

    def traffic(self) -> tuple[int, int, int]:
        """Bytes and messages that they have received, and bytes that they have sent."""
        totals = ((viewer.got_bytes, viewer.got_messages, viewer.sent_bytes) for viewer in self.all)
        got, messages, sent = (sum(of) for of in zip(*totals, strict=True)) if self.all else (0, 0, 0)
        return got, messages, sent


async def measure(site: Site, run_id: str, options: argparse.Namespace) -> dict[str, Any]:
    """Phases without and with viewers take turns until the time is up."""
    stored: list[StoredRound] = []
    crowd = Crowd(site.address, f"run={run_id}")
    lags: list[float] = []
    tasks = [asyncio.create_task(watch_store(site.store, run_id, stored, lags))]
    if options.engine == "scripted":
        tasks.append(asyncio.create_task(script(site.store, run_id)))
    while len(stored) < 2:  # the engine's first round is slower than the others
        await asyncio.sleep(0.1)
    app = psutil.Process(site.process.pid)
    app = next((child for child in app.children() if "streamlit" in " ".join(child.cmdline())), app)
    phases: list[Phase] = []
    rows: list[dict[str, float]] = []
    delays: list[float] = []
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
            await asyncio.sleep(2 * SETTLE_S)  # for messages that are still on their way
            for viewer in crowd.all[-count:]:
                delays += staleness(stored, viewer.arrivals, before.at, after.at)
            spent_s = after.at - before.at
            rows.append(row_of(before, after, [(b - a) / count / spent_s for a, b in zip(crossed, end, strict=True)]))
            memory.append([round(memory_mb) for memory_mb in used])
            print(rows[-1], flush=True)
            await crowd.go()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    errors = [error for viewer in crowd.all for error in viewer.errors]
    result = summary(options, stored, phases, rows, memory, delays, errors)
    return result | {"viewers_late_ms_p95": round(1000 * percentile(lags, 0.95), 1)}


def row_of(before: Cost, after: Cost, each: Sequence[float]) -> dict[str, float]:
    """A phase with viewers; `each`: bytes and messages that a viewer received, and bytes that it sent, a second."""
    return {
        "app_processor_share": round((after.processor_s - before.processor_s) / (after.at - before.at), 3),
        "app_memory_mb": round(after.memory_mb),
        "viewer_got_kb_s": round(each[0] / 1000, 2),
        "viewer_messages_s": round(each[1], 1),
        "viewer_sent_kb_s": round(each[2] / 1000, 2),
    }


def summary(
    options: argparse.Namespace,
    stored: Sequence[StoredRound],
    phases: Sequence[Phase],
    rows: Sequence[dict[str, float]],
    memory: Sequence[Sequence[int]],
    delays: Sequence[float],
    errors: Sequence[str],
) -> dict[str, Any]:
    """All phases in a few numbers."""
    if not delays:
        raise SystemExit("No round was played while the viewers watched: try a longer --phase.")
    alone, watched = round_times(stored, phases, False), round_times(stored, phases, True)
    result = {
        "viewers": options.viewers,
        "engine": options.engine,
        "rounds": len(stored),
        "arrivals": len(delays),
        "staleness_s": {
            "p50": round(percentile(delays, 0.5), 3),
            "p95": round(percentile(delays, 0.95), 3),
            "max": round(max(delays), 3),
            "share_above_1_s": round(sum(delay > 1 for delay in delays) / len(delays), 4),
        },
        **{name: statistics.median(row[name] for row in rows) for name in rows[0]},
        "watched_s": round(sum(phase.end - phase.start for phase in phases if phase.viewers)),
        "app_memory_mb_by_turn": memory,
        "errors": list(errors),
    }
    if alone and watched:
        before_s, after_s = statistics.median(alone), statistics.median(watched)
        result["round_s"] = {"alone": round(before_s, 3), "watched": round(after_s, 3)}
        result["round_ratio"] = round(after_s / before_s, 3)
    return result


def log_errors(log: Path) -> list[str]:
    """The lines of the app's log that name an error, such as the last one of each traceback."""
    error = re.compile(r"^[\w.]*(Error|Exception|Warning)\b|locked|rror:")
    return [line for line in log.read_text(encoding="utf-8").splitlines() if error.search(line)]


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
            result = asyncio.run(measure(site, run_id, options))
        result["errors"] += log_errors(path.with_name("app.log"))
    RESULTS.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()
