"""Many browsers on one run: what is read and drawn once for all of them, and what is each one's own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier, Lock
from typing import Any

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from pages.server import drawings as drawings_module
from pages.server.cache import Cache
from pages.server.drawings import LIVE, Drawing, drawings_of, frame_of
from pages.server.snapshots import FRESH_S, MOST_RUNS, Snapshots, latest_snapshot
from pwff_core.config import RunConfig
from pwff_core.errors import StoreError
from pwff_core.figures.frames import round_frame
from pwff_core.figures.panel_figure import panel_figure
from pwff_core.figures.panels import PANELS, PanelId, WhatIf
from pwff_core.knobs import with_changes
from pwff_core.records import RoundRecord
from pwff_core.runs.store import RunStatus, Store
from tests.support import scripted
from tests.support.live_page import THREE_STAGES, going, in_stages, opened, round_record, tiles, typed
from tests.support.pages import texts, without_exception

VIEWERS = 30


class Clock:
    """It stands still until a test moves it."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def snapshots(clock: Clock) -> Snapshots:
    """Those of a server that has just started."""
    return Snapshots(clock)


def at_once(act: Callable[[], Any]) -> list[Any]:
    """What VIEWERS threads get that do the same at the same time."""
    start = Barrier(VIEWERS)

    def act_together() -> Any:
        start.wait()
        return act()

    with ThreadPoolExecutor(VIEWERS) as pool:
        return [future.result() for future in [pool.submit(act_together) for _ in range(VIEWERS)]]


def the_same(results: list[Any]) -> Any:
    """What all of them are."""
    assert all(result is results[0] for result in results)
    return results[0]


def drawings(
    store: Store, run_id: str, *, each_client: bool = False, what_if: dict[PanelId, WhatIf] | None = None
) -> dict[PanelId, Drawing]:
    """The panels of a run as it stands."""
    view = latest_snapshot(store.path, run_id, now=True).view
    frame = frame_of(view.row, view.records, LIVE)
    return drawings_of(view, frame, view.spans, each_client=each_client, what_if=what_if)


# ---- snapshots of the store -----------------------------------------------------------------------------------------


def test_thirty_sessions_get_one_snapshot_while_it_is_fresh(store: Store, clock: Clock, snapshots: Snapshots) -> None:
    run_id = going(store, 3)
    first = the_same(at_once(lambda: snapshots.latest(store.path, run_id)))
    assert len(first.view.records) == 3
    clock.now_s += FRESH_S / 2
    assert the_same(at_once(lambda: snapshots.latest(store.path, run_id))) is first
    clock.now_s += FRESH_S
    assert the_same(at_once(lambda: snapshots.latest(store.path, run_id))) is not first


def test_a_snapshot_reads_only_new_rounds(store: Store, clock: Clock, snapshots: Snapshots) -> None:
    run_id = going(store, 2)
    first = snapshots.latest(store.path, run_id, now=True).view.records
    store.append(run_id, round_record(run_id, 3))
    clock.now_s += 1
    then = snapshots.latest(store.path, run_id).view.records
    assert [record.round for record in then] == [1, 2, 3]
    assert then[0] is first[0] and then[1] is first[1]  # read once
    assert len(first) == 2  # what a session is drawing does not grow under its hands


def test_nothing_new_is_the_same_revision_and_anything_new_another(
    store: Store, clock: Clock, snapshots: Snapshots
) -> None:
    run_id = going(store, 2)

    def revision() -> int:
        clock.now_s += 1
        return snapshots.latest(store.path, run_id).revision

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


def test_a_page_that_has_just_written_sees_it_at_once(store: Store, clock: Clock, snapshots: Snapshots) -> None:
    run_id = going(store, 1)
    assert snapshots.latest(store.path, run_id).view.pending_commands == frozenset()
    store.request_stop(run_id)
    assert snapshots.latest(store.path, run_id).view.pending_commands == frozenset()  # fresh enough to poll
    clock.now_s += 0.001
    assert snapshots.latest(store.path, run_id, now=True).view.pending_commands == {"stop"}


def test_a_store_that_cannot_be_read_is_tried_once_for_all(store: Store, clock: Clock, snapshots: Snapshots) -> None:
    run_id = going(store, 1)
    away = store.path.with_suffix(".away")
    store.path.rename(away)
    store.path.mkdir()  # no store can be there

    def failure() -> str:
        with pytest.raises(StoreError) as error:
            snapshots.latest(store.path, run_id)
        return str(error.value)

    (first,) = set(at_once(failure))
    store.path.rmdir()
    away.rename(store.path)
    assert failure() == first  # it was not tried again
    clock.now_s += 1
    assert len(snapshots.latest(store.path, run_id).view.records) == 1


def test_runs_and_stores_do_not_mix(store: Store, tmp_path: Path) -> None:
    short, long = going(store, 2), going(store, 5)
    other = Store(tmp_path / "others.sqlite")
    seen = Counter[tuple[str, int]]()
    lock = Lock()

    def look(place: int) -> None:
        run_id = (short, long)[place % 2]
        view = latest_snapshot(store.path, run_id, now=True).view
        with lock:
            seen[view.row.id, len(view.records)] += 1
            assert {record.run for record in view.records} == {run_id}

    with ThreadPoolExecutor(VIEWERS) as pool:
        list(pool.map(look, range(VIEWERS)))
    assert seen == {(short, 2): 15, (long, 5): 15}
    with pytest.raises(StoreError, match="There is no run"):
        latest_snapshot(other.path, short)


# ---- what is drawn --------------------------------------------------------------------------------------------------


def test_a_round_is_drawn_once_for_all(store: Store) -> None:
    run_id = in_stages(store, 4)
    before = the_same(at_once(lambda: drawings(store, run_id)))
    assert len(before) == 8
    store.append(run_id, scripted.whole_run(run_id)[4])
    after = the_same(at_once(lambda: drawings(store, run_id)))
    assert " after round 4 of 9" in before["delay"].words and " after round 5 of 9" in after["delay"].words
    assert after["delay"].revision != before["delay"].revision


def test_what_each_person_asks_for_is_drawn_beside_what_all_see(store: Store) -> None:
    run_id = in_stages(store, 4)
    plain = drawings(store, run_id)
    line, other = ({"delay": WhatIf("what if: SNR 0 dB", np.arange(4.0) + shift)} for shift in (0, 1))
    priced = drawings(store, run_id, what_if=line)
    assert "what if" in priced["delay"].figure
    assert priced["delay"].figure != drawings(store, run_id, what_if=other)["delay"].figure
    assert priced["accuracy"] == plain["accuracy"]
    assert "harmless first" in drawings(store, run_id, each_client=True)["accuracy"].figure
    assert drawings(store, run_id) is plain
    assert "what if" not in plain["delay"].figure and "harmless first" not in plain["accuracy"].figure


class NotedRounds(list[RoundRecord]):
    """Rounds that note how many of them are read at a time."""

    def __init__(self, records: Sequence[RoundRecord], noted: list[int]) -> None:
        super().__init__(records)
        self.noted = noted

    def __getitem__(self, place: Any) -> Any:
        rounds = super().__getitem__(place)
        self.noted.append(len(rounds))
        return rounds


def test_the_table_of_rounds_grows_and_a_replay_gets_its_part(store: Store) -> None:
    run_id = in_stages(store, 4)
    row, records, noted = store.run(run_id), scripted.whole_run(run_id), list[int]()
    frames = [frame_of(row, NotedRounds(records[:count], noted), "replay") for count in (4, 6, 6, 2, 9)]
    assert [len(frame) for frame in frames] == [4, 6, 6, 2, 9]
    assert noted == [4, 2, 3]  # new rounds alone
    assert frames[-1].equals(round_frame(records)) and frames[3].equals(round_frame(records[:2]))


# ---- the cache ------------------------------------------------------------------------------------------------------


def test_a_cache_keeps_what_was_asked_for_last(clock: Clock) -> None:
    cache, made = Cache(3, clock=clock), list[str]()

    def get(key: str) -> str:
        return cache.get(key, lambda: (made.append(key), key.upper())[1])

    assert [get(key) for key in "abcabcd"] == list("ABCABCD")
    assert made == list("abcd") and len(cache) == 3
    get("a")
    assert made == list("abcda")  # it had made room for d
    clock.now_s += 61
    get("e")
    assert len(cache) == 1  # nobody has asked for the others in a minute


def test_what_cannot_be_made_is_tried_again() -> None:
    cache = Cache(2)
    with pytest.raises(ZeroDivisionError):
        cache.get("a", lambda: 1 // 0)
    assert cache.get("a", lambda: 1) == 1


def test_runs_that_nobody_watches_are_forgotten(store: Store, clock: Clock, snapshots: Snapshots) -> None:
    for _ in range(MOST_RUNS + 3):
        run_id = going(store, 1)
        store.finish(run_id, RunStatus.FINISHED)
        snapshots.latest(store.path, run_id)
    assert len(snapshots) <= MOST_RUNS
    clock.now_s += 61
    snapshots.latest(store.path, run_id)
    assert len(snapshots) == 1


# ---- sessions -------------------------------------------------------------------------------------------------------


def test_sessions_without_news_build_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = in_stages(store, 4)
    opened(run_id)
    figures: list[PanelId] = []

    def counted(panel_id: PanelId, *args: Any, **kwargs: Any) -> Any:
        figures.append(panel_id)
        return panel_figure(panel_id, *args, **kwargs)

    monkeypatch.setattr(drawings_module, "panel_figure", counted)
    pages = [opened(run_id) for _ in range(3)]
    assert figures == []
    store.append(run_id, scripted.whole_run(run_id)[4])
    for page in pages:
        assert "Stage 3 of 3, alignment: round 1 of 4" in texts(without_exception(page.run()))
    assert len(figures) == 8


def test_two_sessions_keep_their_own_questions(store: Store) -> None:
    run_id = store.create_run(with_changes(THREE_STAGES, {"channel.fading": "awgn"}))
    store.claim(run_id)
    for record in scripted.whole_run(run_id):
        store.append(run_id, record)
    store.finish(run_id, RunStatus.FINISHED)
    asking, clients, plain = opened(run_id), opened(run_id), opened(run_id)
    asking = typed(asking, "channel.snr_db", "0")
    clients = without_exception(clients.toggle("each-client").set_value(True).run())
    plain = without_exception(plain.run())
    assert "What if SNR 0 dB" in texts(asking)
    assert "What if" not in texts(clients) + texts(plain)
    assert "harmless first" in figure(clients) and "harmless first" not in figure(plain) + figure(asking)


def test_a_chart_leaves_no_state_that_every_poll_would_copy(store: Store) -> None:
    page = without_exception(opened(going(store, 2)).run())
    assert len([part for part in page.get("bidi_component") if "chart:" in str(part.proto.id)]) == 4
    assert "chart:accuracy" not in page.session_state


def test_runs_side_by_side_are_each_shown_as_they_are(store: Store) -> None:
    short, long = going(store, 1), going(store, 3)
    pages = opened(short), opened(long)
    store.append(short, round_record(short, 2))
    assert [tiles(without_exception(page.run()))["Energy so far"] for page in pages] == ["12.0 J", "18.0 J"]


def figure(page: AppTest) -> str:
    """The chart of accuracy as it is sent."""
    charts = [part.proto for part in page.get("bidi_component")]
    return next(chart.json or chart.mixed.json for chart in charts if "Accuracy on each" in str(chart))


def test_every_panel_s_words_tell_the_round(store: Store) -> None:
    """What the benchmark of viewers reads from a message."""
    words = [drawing.words for drawing in drawings(store, in_stages(store, 9)).values()]
    assert len(words) == len(PANELS) and all(" after round " in text for text in words)
