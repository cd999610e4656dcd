"""The browsers of benchmarks/viewers.py receive what Chromium receives and draws."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from threading import Thread

from playwright.sync_api import Browser as Chromium
from playwright.sync_api import WebSocket
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

from benchmarks.browsers import Browser, round_in
from pwff_core.config import RunConfig
from pwff_core.knobs import with_changes
from pwff_core.runs.store import RunStatus
from tests.support.browser import PATIENCE_S, Site, open_context, settle
from tests.support.charts import wait_for_round
from tests.support.scripted import profile, whole_run

ROUNDS = 6


@contextmanager
def watching(browser: Browser) -> Iterator[None]:
    """The browser watches the page, in a thread of its own."""
    loop = asyncio.new_event_loop()

    def watch() -> None:
        with suppress(asyncio.CancelledError):
            loop.run_until_complete(task)

    task = loop.create_task(browser.watch(lambda: None))
    thread = Thread(target=watch)
    thread.start()
    yield
    loop.call_soon_threadsafe(task.cancel)
    thread.join()
    loop.close()


def drawing_run(messages: Sequence[ForwardMsg], number: int) -> list[str]:
    """The kinds of elements, in order, that the script run sent which brought a round."""
    runs: list[list[ForwardMsg]] = []
    for message in messages:
        if message.WhichOneof("type") == "new_session":
            runs.append([])
        if runs:
            runs[-1].append(message)
    drawing = next(run for run in runs if any(round_in(message) == number for message in run))
    deltas = [message.delta for message in drawing if message.WhichOneof("type") == "delta"]
    return [delta.new_element.WhichOneof("type") or delta.WhichOneof("type") for delta in deltas]


def test_a_simulated_browser_gets_what_chromium_gets(browser: Chromium, site: Site) -> None:
    run_id = site.store.create_run(with_changes(RunConfig(), {"instruction.rounds": ROUNDS}))
    site.store.claim(run_id)  # its engine is this process
    site.store.describe(run_id, [profile(0), profile(1)], [], ROUNDS)
    records = whole_run(run_id, rounds={"instruction": ROUNDS}, weights=(0.25, 0.75))
    for record in records[:3]:
        site.store.append(run_id, record)
    frames: list[ForwardMsg] = []

    def opened(socket: WebSocket) -> None:
        socket.on("framereceived", lambda frame: frames.append(ForwardMsg.FromString(frame)))

    page = open_context(browser).new_page()
    page.on("websocket", opened)
    page.goto(f"{site.address}/?run={run_id}")
    settle(page)
    wait_for_round(page, 3)
    other = Browser(site.address, f"run={run_id}")
    other.received = []
    with watching(other):
        until_round(other, 3)
        for record in records[3:5]:
            site.store.append(run_id, record)
            wait_for_round(page, record.round)
            until_round(other, record.round)
            assert max(map(round_in, frames)) == record.round
            settle(page)
    assert other.errors == []
    assert drawing_run(other.received, 5) == drawing_run(frames, 5)
    site.store.finish(run_id, RunStatus.STOPPED)
    page.context.close()


def until_round(browser: Browser, number: int) -> None:
    """Waits until the browser has a round."""
    give_up_at = time.monotonic() + PATIENCE_S
    while time.monotonic() < give_up_at and not any(arrival.round == number for arrival in browser.arrivals):
        time.sleep(0.05)
    assert browser.arrivals[-1].round == number
