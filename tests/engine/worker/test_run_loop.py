"""The run loop: rounds are stored as they are played, a run can be stopped at any time, its models are kept."""

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


def test_a_whole_run_is_stored(store: Store) -> None:
    row = play(store, ScriptedEngine())
    assert (row.status, row.message, row.rounds_done, row.rounds_total) == (RunStatus.FINISHED, "", 5, 5)
    assert (row.profiles, row.notes) == ((profile(0), profile(1)), ("A remark — with a dash.",))
    assert [record for _, record in store.rounds(row.id)] == [record(number, row.id) for number in range(1, 6)]


def test_a_round_is_stored_before_it_is_yielded(store: Store) -> None:
    engine = ScriptedEngine()
    run_id = store.create_run(CONFIG)
    for new in play_run(store, run_id, engine=engine):
        assert kept(store, run_id) == [*range(1, new.round + 1)]
        assert store.run(run_id).status is RunStatus.RUNNING


# stop


def test_a_page_stops_a_run_after_its_current_round(store: Store) -> None:
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


def test_a_run_that_is_stopped_in_its_last_round_is_finished(store: Store) -> None:
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


def test_a_signal_waits_until_the_round_is_written(store: Store) -> None:
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


# models and stages


def rounds_of_the_models(store: Store, run_id: str) -> float:
    """After how many rounds the kept models of a run were saved."""
    (number,) = load(RunFiles(store.path).models(run_id)).after["lora"]["rounds"].unique().tolist()
    return float(number)


@pytest.mark.parametrize(("stop_in", "status"), [(None, RunStatus.FINISHED), (2, RunStatus.STOPPED)])
def test_the_models_are_kept_before_the_run_ends(store: Store, stop_in: int | None, status: RunStatus) -> None:
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
def test_models_that_cannot_be_kept_are_reported_and_the_run_ends_as_usual(
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


def test_a_stage_that_ends_early_lowers_the_number_of_rounds(store: Store) -> None:
    engine = ScriptedEngine(converges_at=3)
    run_id = store.create_run(CONFIG)
    expected = [store.run(run_id).rounds_total for _ in play_run(store, run_id, engine=engine)]
    assert expected == [5, 5, 3]  # known when the round is yielded
    row = store.run(run_id)
    assert (row.status, row.rounds_done, row.rounds_total) == (RunStatus.FINISHED, 3, 3)
    assert (row.profiles, row.notes) == ((profile(0), profile(1)), ("A remark — with a dash.",))
    assert [record.stage_end for _, record in store.rounds(run_id)] == ["", "", CONVERGED]


def test_a_stop_in_the_round_in_which_the_stage_ends_early(store: Store) -> None:
    run_id = store.create_run(CONFIG)
    engine = ScriptedEngine(lambda number: store.request_stop(run_id) if number == 3 else None, converges_at=3)
    assert play(store, engine, run_id).status is RunStatus.FINISHED
