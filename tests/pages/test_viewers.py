"""Many browsers on one run: what is looked at and drawn once for all of them, and what is each one's own."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier, Lock
from typing import Any

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from pages.server import drawings as drawings_module
from pages.server import snapshots
from pages.server.cache import Shelf
from pages.server.drawings import Drawable, drawings, frame_of
from pages.server.snapshots import MOST_RUNS, seen
from pwff_core.config import RunConfig
from pwff_core.errors import StoreError
from pwff_core.figures.frames import planned_stages, round_frame, spans_of
from pwff_core.figures.panels import PANELS, WhatIf
from pwff_core.knobs import with_changes
from pwff_core.runs.store import RunStatus, Store
from tests.support import scripted
from tests.support.live_page import THREE_STAGES, going, in_stages, opened, round_record, shown, texts, tiles, typed

VIEWERS = 30


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time that looks and shelves go by, in seconds; it stands still until a test moves it."""
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def counted(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> list[tuple[Any, ...]]:
    """The calls of a function, which goes on doing what it does."""
    calls: list[tuple[Any, ...]] = []
    real = getattr(owner, name)

    def noted(*args: Any, **kwargs: Any) -> Any:
        calls.append(args)
        return real(*args, **kwargs)

    monkeypatch.setattr(owner, name, noted)
    return calls


def at_once(act: Callable[[], Any]) -> list[Any]:
    """What VIEWERS threads get that do the same at the same time."""
    start = Barrier(VIEWERS)

    def one() -> Any:
        start.wait()
        return act()

    with ThreadPoolExecutor(VIEWERS) as pool:
        return [found.result() for found in [pool.submit(one) for _ in range(VIEWERS)]]


def drawable(store: Store, run_id: str) -> Drawable:
    found = seen(store.path, run_id, now=True).shown
    spans = spans_of(planned_stages(found.row.config, found.row.rounds_total, found.records), found.records)
    frame = frame_of(found.row, found.records, "live")
    return Drawable(found.row, found.records, frame, spans, found.steerings, found.parent)


# ---- looks at the store ---------------------------------------------------------------------------------------------


def test_looks_at_the_same_time_read_the_store_once(
    store: Store, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = going(store, 3)
    reads = counted(monkeypatch, Store, "look")
    found = at_once(lambda: seen(store.path, run_id))
    assert len(reads) == 1
    assert {one.revision for one in found} == {found[0].revision}
    assert [len(one.shown.records) for one in found] == [3] * VIEWERS
    clock[0] += snapshots.FRESH_S / 2
    at_once(lambda: seen(store.path, run_id))
    assert len(reads) == 1
    clock[0] += snapshots.FRESH_S
    at_once(lambda: seen(store.path, run_id))
    assert len(reads) == 2


def test_a_look_reads_only_rounds_that_are_new(store: Store, clock: list[float]) -> None:
    run_id = going(store, 2)
    first = seen(store.path, run_id, now=True).shown.records
    store.append(run_id, round_record(run_id, 3))
    clock[0] += 1
    then = seen(store.path, run_id).shown.records
    assert [record.round for record in then] == [1, 2, 3]
    assert then[0] is first[0] and then[1] is first[1]  # read once
    assert len(first) == 2  # what a session is drawing does not grow under its hands


def test_nothing_new_is_the_same_revision_and_anything_new_another(store: Store, clock: list[float]) -> None:
    run_id = going(store, 2)

    def revision() -> int:
        clock[0] += 1
        return seen(store.path, run_id).revision

    revisions = [revision()]
    for change in (
        lambda: store.append(run_id, round_record(run_id, 3)),
        lambda: store.rename(run_id, "Ours"),
        lambda: store.steer(run_id, "", {"channel.snr_db": 0.0}),
        lambda: store.request_stop(run_id),
        lambda: store.create_run(RunConfig(), in_queue=True),
        lambda: store.finish(run_id, RunStatus.STOPPED),
    ):
        store.set_status(run_id, RunStatus.RUNNING)  # a sign of life shows nowhere
        assert revision() == revisions[-1]
        change()
        revisions.append(revision())
    assert len(set(revisions)) == 7


def test_a_page_that_has_just_written_sees_it_at_once(store: Store, clock: list[float]) -> None:
    run_id = going(store, 1)
    assert seen(store.path, run_id).shown.pending == frozenset()
    store.request_stop(run_id)
    assert seen(store.path, run_id).shown.pending == frozenset()  # fresh enough for a look
    clock[0] += 0.001
    assert seen(store.path, run_id, now=True).shown.pending == {"stop"}


def test_a_store_that_cannot_be_read_is_asked_once_for_all(
    store: Store, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = going(store, 1)
    asked: list[str] = []

    def locked(self: Store, run_id: str, after: int = 0, viewer: str = "") -> None:
        asked.append(run_id)
        raise StoreError("The store is locked by another program.")

    with monkeypatch.context() as broken:
        broken.setattr(Store, "snapshot", locked)

        def told() -> str:
            with pytest.raises(StoreError) as error:
                seen(store.path, run_id)
            return str(error.value)

        assert set(at_once(told)) == {"The store is locked by another program."}
    assert asked == [run_id]
    clock[0] += 1
    assert len(seen(store.path, run_id).shown.records) == 1


def test_runs_and_stores_do_not_mix(store: Store, tmp_path: Path) -> None:
    one, two = going(store, 2), going(store, 5)
    other = Store(tmp_path / "others.sqlite")
    found = Counter[tuple[str, int]]()
    lock = Lock()

    def look(place: int) -> None:
        run_id = (one, two)[place % 2]
        shown_now = seen(store.path, run_id, now=True).shown
        with lock:
            found[shown_now.row.id, len(shown_now.records)] += 1
            assert {record.run for record in shown_now.records} == {run_id}

    with ThreadPoolExecutor(VIEWERS) as pool:
        list(pool.map(look, range(VIEWERS)))
    assert found == {(one, 2): 15, (two, 5): 15}
    with pytest.raises(StoreError, match="There is no run"):
        seen(other.path, one)


# ---- what is drawn --------------------------------------------------------------------------------------------------


def test_a_round_is_drawn_once_for_all(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = in_stages(store, 4)
    figures = counted(monkeypatch, drawings_module, "panel_figure")
    now = drawable(store, run_id)
    found = at_once(lambda: drawings(now, False, {}))
    assert len(figures) == len(found[0]) == 8
    assert all(one is found[0] for one in found)
    store.append(run_id, scripted.whole_run(run_id)[4])
    later = drawable(store, run_id)
    then = at_once(lambda: drawings(later, False, {}))
    assert len(figures) == 16
    assert " after round 4 of 9" in found[0]["delay"].words and " after round 5 of 9" in then[0]["delay"].words
    assert then[0]["delay"].revision != found[0]["delay"].revision


def test_what_each_person_asks_for_is_drawn_beside_what_all_see(store: Store) -> None:
    now = drawable(store, in_stages(store, 4))
    plain = drawings(now, False, {})
    asked = {"delay": WhatIf("what if: SNR 0 dB", np.arange(4.0))}
    other = {"delay": WhatIf("what if: SNR 0 dB", np.arange(4.0) + 1)}
    assert "what if" in drawings(now, False, asked)["delay"].figure
    assert drawings(now, False, asked)["delay"].figure != drawings(now, False, other)["delay"].figure
    assert drawings(now, False, asked)["accuracy"] == plain["accuracy"]
    assert "harmless first" in drawings(now, True, {})["accuracy"].figure
    again = drawings(now, False, {})
    assert (
        again is plain and "what if" not in again["delay"].figure and "harmless first" not in plain["accuracy"].figure
    )


def test_the_table_of_rounds_grows_and_a_replay_gets_its_part(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = in_stages(store, 4)
    row, records = store.run(run_id), scripted.whole_run(run_id)
    added = counted(monkeypatch, drawings_module, "round_frame")
    frames = [frame_of(row, records[:count], "replay") for count in (4, 6, 6, 2, 9)]
    assert [len(frame) for frame in frames] == [4, 6, 6, 2, 9]
    assert [len(call[0]) for call in added] == [0, 4, 2, 3]  # new rounds alone
    assert frames[-1].equals(round_frame(records)) and frames[3].equals(round_frame(records[:2]))


# ---- the shelf ------------------------------------------------------------------------------------------------------


def test_a_shelf_keeps_what_was_asked_for_last(clock: list[float]) -> None:
    shelf, made = Shelf(3), list[str]()

    def take(key: str) -> str:
        return shelf.take(key, lambda: (made.append(key), key.upper())[1])

    assert [take(key) for key in "abcabcd"] == list("ABCABCD")
    assert made == list("abcd") and len(shelf) == 3
    take("a")
    assert made == list("abcda")  # it had made room for d
    clock[0] += 61
    take("e")
    assert len(shelf) == 1  # nobody has asked for the others in a minute


def test_what_cannot_be_made_is_tried_again() -> None:
    shelf = Shelf(2)
    with pytest.raises(ZeroDivisionError):
        shelf.take("a", lambda: 1 // 0)
    assert shelf.take("a", lambda: 1) == 1


def test_runs_that_nobody_watches_are_forgotten(store: Store, clock: list[float]) -> None:
    for _ in range(MOST_RUNS + 3):
        run_id = going(store, 1)
        store.finish(run_id, RunStatus.FINISHED)
        seen(store.path, run_id)
    assert len(snapshots._RUNS) <= MOST_RUNS
    clock[0] += 61
    seen(store.path, run_id)
    assert len(snapshots._RUNS) == 1


# ---- sessions -------------------------------------------------------------------------------------------------------


def test_sessions_that_look_at_nothing_new_build_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = in_stages(store, 4)
    opened(run_id)
    figures = counted(monkeypatch, drawings_module, "panel_figure")
    rows = counted(monkeypatch, drawings_module, "round_frame")
    pages = [opened(run_id) for _ in range(3)]
    assert figures == rows == []
    store.append(run_id, scripted.whole_run(run_id)[4])
    for page in pages:
        assert "Stage 3 of 3, alignment: round 1 of 4" in texts(shown(page.run()))
    assert len(figures) == 8 and [len(call[0]) for call in rows] == [1]


def test_two_sessions_keep_their_own_questions(store: Store) -> None:
    run_id = store.create_run(with_changes(THREE_STAGES, {"channel.fading": "awgn"}))
    store.claim(run_id)
    for record in scripted.whole_run(run_id):
        store.append(run_id, record)
    store.finish(run_id, RunStatus.FINISHED)
    asking, clients, plain = opened(run_id), opened(run_id), opened(run_id)
    asking = typed(asking, "channel.snr_db", "0")
    clients = shown(clients.toggle("each-client").set_value(True).run())
    plain = shown(plain.run())
    assert "What if SNR 0 dB" in texts(asking)
    assert "What if" not in texts(clients) + texts(plain)
    assert "harmless first" in figure(clients) and "harmless first" not in figure(plain) + figure(asking)


def test_a_chart_leaves_no_state_that_every_look_would_copy(store: Store) -> None:
    page = shown(opened(going(store, 2)).run())
    assert len([part for part in page.get("bidi_component") if "chart:" in str(part.proto.id)]) == 4
    assert "chart:accuracy" not in page.session_state


def test_runs_side_by_side_are_each_shown_as_they_are(store: Store) -> None:
    one, two = going(store, 1), going(store, 3)
    pages = opened(one), opened(two)
    store.append(one, round_record(one, 2))
    assert [tiles(shown(page.run()))["Energy so far"] for page in pages] == ["12.0 J", "18.0 J"]


def figure(page: AppTest) -> str:
    """The chart of accuracy as it is sent."""
    charts = [part.proto for part in page.get("bidi_component")]
    return next(chart.json or chart.mixed.json for chart in charts if "Accuracy on each" in str(chart))


def test_every_panel_has_a_name_that_tells_the_round(store: Store) -> None:
    """What the benchmark of viewers reads from a message."""
    words = [one.words for one in drawings(drawable(store, in_stages(store, 9)), False, {}).values()]
    assert len(words) == len(PANELS) and all(" after round " in told for told in words)
