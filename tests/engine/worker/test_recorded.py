"""A run as a stream: written as it is played, stopped at any time, its models kept."""

from __future__ import annotations

import signal
import threading

import pytest

from pwff_core.engine.models.saved_models import load
from pwff_core.engine.worker import play_run
from pwff_core.records import RoundRecord
from pwff_core.runs.chat import kept_models
from pwff_core.runs.run_files import RunFiles
from pwff_core.runs.store import RunRow, RunStatus, Store
from tests.support.scripted import CONVERGED, ScriptedEngine, profile, record
from tests.support.workers import CONFIG, kept, play


def test_a_whole_run_is_written_as_it_is_played(store: Store) -> None:
    row = play(store, ScriptedEngine())
    assert (row.status, row.message, row.rounds_done, row.rounds_total) == (RunStatus.FINISHED, "", 5, 5)
    assert (row.profiles, row.notes) == ((profile(0), profile(1)), ("A remark — with a dash.",))
    assert [record for _, record in store.rounds(row.id)] == [record(number, row.id) for number in range(1, 6)]


def test_a_round_is_in_the_store_before_it_is_given_on(store: Store) -> None:
    engine = ScriptedEngine()
    run_id = store.create_run(CONFIG)
    for found in play_run(store, run_id, engine=engine):
        assert kept(store, run_id) == [*range(1, found.round + 1)]
        assert store.run(run_id).status is RunStatus.RUNNING


# stop


def test_a_page_stops_a_run_after_the_round_it_is_in(store: Store) -> None:
    run_id = store.create_run(CONFIG)
    page = Store(store.path, readonly=True)
    row = play(store, ScriptedEngine(lambda number: page.request_stop(run_id) if number == 3 else None), run_id)
    assert (row.status, row.message) == (RunStatus.STOPPED, "Stopped after 3 of 5 rounds.")
    assert kept(store, run_id) == [1, 2, 3]


def test_a_stop_before_the_start(store: Store) -> None:
    run_id = store.create_run(CONFIG)
    store.request_stop(run_id)
    row = play(store, ScriptedEngine(), run_id)
    assert (row.status, row.message, row.rounds_done) == (RunStatus.STOPPED, "Stopped after 0 of 5 rounds.", 0)


def test_a_stop_in_the_last_round_finds_nothing_to_stop(store: Store) -> None:
    run_id = store.create_run(CONFIG)
    engine = ScriptedEngine(lambda number: store.request_stop(run_id) if number == 5 else None)
    assert play(store, engine, run_id).status is RunStatus.FINISHED


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_in_a_round_stops_the_run(store: Store, number: signal.Signals) -> None:
    before = signal.getsignal(number)
    run_id = store.create_run(CONFIG)
    engine = ScriptedEngine(lambda at: signal.raise_signal(number) if at == 4 else None)
    with pytest.raises(KeyboardInterrupt):
        play(store, engine, run_id)
    row = store.run(run_id)
    assert (row.status, row.message) == (RunStatus.STOPPED, "Stopped after 3 of 5 rounds.")
    assert kept(store, run_id) == [1, 2, 3]
    assert signal.getsignal(number) is before


def test_a_signal_while_a_round_is_written_waits(store: Store) -> None:
    class Interrupted(Store):
        def append(self, run_id: str, record: RoundRecord) -> None:
            signal.raise_signal(signal.SIGINT)
            super().append(run_id, record)

    run_id = store.create_run(CONFIG)
    with pytest.raises(KeyboardInterrupt):
        play(Interrupted(store.path), ScriptedEngine(), run_id)
    assert kept(store, run_id) == [1]
    assert store.run(run_id).message == "Stopped after 1 of 5 rounds."


def test_closing_the_stream_stops_the_run(store: Store) -> None:
    engine = ScriptedEngine()
    run_id = store.create_run(CONFIG)
    stream = play_run(store, run_id, engine=engine)
    assert next(stream).round == 1
    stream.close()
    assert store.run(run_id).message == "Stopped after 1 of 5 rounds."


def test_a_run_plays_outside_the_main_thread(store: Store) -> None:
    rows: list[RunRow] = []
    thread = threading.Thread(target=lambda: rows.append(play(store, ScriptedEngine())))
    thread.start()
    thread.join()
    assert [row.status for row in rows] == [RunStatus.FINISHED]


# what is kept of it


def rounds_of_the_models(store: Store, run_id: str) -> float:
    """How many rounds the run's models have been through, as they are kept."""
    (number,) = load(RunFiles(store.path).models(run_id)).after["lora"]["rounds"].unique().tolist()
    return float(number)


@pytest.mark.parametrize(("stop_in", "status"), [(None, RunStatus.FINISHED), (2, RunStatus.STOPPED)])
def test_the_models_are_kept_beside_the_store_before_the_run_is_said_to_have_ended(
    store: Store, stop_in: int | None, status: RunStatus
) -> None:
    ends: list[tuple[RunStatus, bool]] = []

    class Watched(Store):
        def finish(self, run_id: str, status: RunStatus, message: str = "") -> None:
            ends.append((status, kept_models(self.path, run_id) is not None))
            super().finish(run_id, status, message)

    run_id = store.create_run(CONFIG)
    engine = ScriptedEngine(lambda number: store.request_stop(run_id) if number == stop_in else None)
    row = play(Watched(store.path), engine, run_id)
    assert ends == [(status, True)]
    assert rounds_of_the_models(store, run_id) == row.rounds_done == (stop_in or 5)


def test_models_in_the_middle_of_a_round_are_not_kept(store: Store) -> None:
    run_id = store.create_run(CONFIG)
    with pytest.raises(KeyboardInterrupt):
        play(store, ScriptedEngine(lambda number: signal.raise_signal(signal.SIGINT)), run_id)
    assert kept_models(store.path, run_id) is None


@pytest.mark.parametrize(
    ("stop_in", "status", "begin"),
    [(None, RunStatus.FINISHED, ""), (2, RunStatus.STOPPED, "Stopped after 2 of 5 rounds. ")],
)
def test_models_that_cannot_be_kept_leave_the_run_as_it_is_and_are_told(
    store: Store, stop_in: int | None, status: RunStatus, begin: str
) -> None:
    (store.path.parent / "models").write_text("in the way")
    run_id = store.create_run(CONFIG)
    row = play(store, ScriptedEngine(lambda number: store.request_stop(run_id) if number == stop_in else None), run_id)
    folder = RunFiles(store.path).models(run_id)
    assert row.status is status
    assert row.message.startswith(f"{begin}The models cannot be written to {folder} (")
    assert row.message.endswith("); make room or allow writing there.")
    assert kept(store, run_id) == [*range(1, (stop_in or 5) + 1)]


def test_a_stage_that_ended_early_lowers_what_is_expected(store: Store) -> None:
    engine = ScriptedEngine(converges_at=3)
    run_id = store.create_run(CONFIG)
    expected = [store.run(run_id).rounds_total for _ in play_run(store, run_id, engine=engine)]
    assert expected == [5, 5, 3]  # by whom a round is given to, it is known
    row = store.run(run_id)
    assert (row.status, row.rounds_done, row.rounds_total) == (RunStatus.FINISHED, 3, 3)
    assert (row.profiles, row.notes) == ((profile(0), profile(1)), ("A remark — with a dash.",))
    assert [record.stage_end for _, record in store.rounds(run_id)] == ["", "", CONVERGED]


def test_a_stop_in_the_round_that_turned_out_to_be_the_last(store: Store) -> None:
    run_id = store.create_run(CONFIG)
    engine = ScriptedEngine(lambda number: store.request_stop(run_id) if number == 3 else None, converges_at=3)
    assert play(store, engine, run_id).status is RunStatus.FINISHED
