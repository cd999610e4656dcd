"""Resume: a run continues after a stop, a failure or a kill, with its steerings, commands and notes."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Sequence
from contextlib import closing
from typing import Any

import pytest

from pwff_core.engine.models.saved_models import load
from pwff_core.engine.worker import play_run
from pwff_core.engine.worker.catch_up import RESUMING, difference_note, progress
from pwff_core.errors import StoreError, TrainingError
from pwff_core.records import RoundRecord, Value
from pwff_core.runs.run_files import RunFiles
from pwff_core.runs.store import RunStatus, Store
from tests.support import scripted
from tests.support.scripted import ScriptedEngine, record
from tests.support.workers import CONFIG, kept, play, wait_until

SNR, WEIGHTS = "channel.snr_db", "preferences.helpfulness_weights"


def play_to(store: Store, run_id: str, rounds: int, engine: ScriptedEngine) -> None:
    """Plays so many rounds of a run, closes the stream, and queues the run again."""
    stream = play_run(store, run_id, engine=engine)
    for _ in range(rounds):
        next(stream)
    stream.close()
    store.requeue(run_id, in_queue=False)


def forget_after(store: Store, run_id: str, position: int) -> None:
    """Removes the checkpoints after a round, as if the process had been killed before it wrote them."""
    for path in (store.path.parent / "checkpoints" / run_id).iterdir():
        if int(path.stem) > position:
            path.unlink()


def steer(store: Store, run_id: str, changes: dict[str, Value]) -> None:
    Store(store.path, readonly=True).steer(run_id, "me", changes)


@pytest.fixture
def run_id(store: Store) -> str:
    return store.create_run(CONFIG)


def test_a_stopped_run_continues_after_its_last_round(store: Store, run_id: str) -> None:
    play_to(store, run_id, 3, ScriptedEngine())
    played: list[int] = []
    engine = ScriptedEngine(played.append)
    new = [record.round for record in play_run(store, run_id, engine=engine)]
    row = store.run(run_id)
    assert (played, new, kept(store, run_id)) == ([4, 5], [4, 5], [1, 2, 3, 4, 5])
    assert (row.status, row.message, row.rounds_done, row.rounds_total) == (RunStatus.FINISHED, "", 5, 5)
    assert row.notes == ("A remark — with a dash.", "Resumed after round 3.")
    assert load(RunFiles(store.path).models(run_id)).after["lora"]["rounds"].unique().tolist() == [5.0]


def test_a_run_without_rounds_gets_no_note_of_a_resume(store: Store, run_id: str) -> None:
    store.request_stop(run_id)
    play(store, ScriptedEngine(), run_id)
    store.requeue(run_id, in_queue=False)
    row = play(store, ScriptedEngine(), run_id)
    assert (row.status, row.notes) == (RunStatus.FINISHED, ("A remark — with a dash.",))


def test_a_run_can_be_resumed_several_times(store: Store, run_id: str) -> None:
    for _ in range(4):
        play_to(store, run_id, 1, ScriptedEngine())
    row = play(store, ScriptedEngine(), run_id)
    assert (row.status, kept(store, run_id)) == (RunStatus.FINISHED, [1, 2, 3, 4, 5])
    assert row.notes[1:] == tuple(f"Resumed after round {number}." for number in (1, 2, 3, 4))


def test_two_resumes_after_the_same_round_are_noted_once(store: Store, run_id: str) -> None:
    def failing(number: int) -> None:
        raise TrainingError("The loss is not a number in instruction round 3; lower instruction.learning_rate.")

    play_to(store, run_id, 2, ScriptedEngine())
    for _ in range(2):
        with pytest.raises(TrainingError):
            play(store, ScriptedEngine(failing), run_id)
        store.requeue(run_id, in_queue=False)
    assert store.run(run_id).notes == ("A remark — with a dash.", "Resumed after round 2.")


@pytest.mark.parametrize(("checkpoint", "again"), [(3, []), (2, [3]), (0, [1, 2, 3])])
def test_rounds_after_the_newest_checkpoint_are_replayed_and_not_stored_again(
    store: Store, run_id: str, checkpoint: int, again: list[int]
) -> None:
    play_to(store, run_id, 3, ScriptedEngine())
    forget_after(store, run_id, checkpoint)
    before = store.rounds(run_id)
    played: list[int] = []
    row = play(store, ScriptedEngine(played.append), run_id)
    assert played == [*again, 4, 5]
    assert store.rounds(run_id)[:3] == before
    assert [record for _, record in store.rounds(run_id)] == [record(number, run_id) for number in range(1, 6)]
    assert row.notes == ("A remark — with a dash.", "Resumed after round 3.")


@pytest.mark.parametrize(("checkpoint", "again"), [(3, []), (1, [2, 3])])
def test_progress_is_reported_until_the_first_new_round(
    store: Store, run_id: str, checkpoint: int, again: list[int]
) -> None:
    play_to(store, run_id, 3, ScriptedEngine())
    forget_after(store, run_id, checkpoint)
    seen: dict[int, str] = {}
    loading: list[str] = []
    reports: list[str] = []
    engine: Any = ScriptedEngine(lambda number: seen.update({number: store.run(run_id).message}))
    prepare = engine.prepare

    def prepare_and_record(*arguments: Any, **named: Any) -> Any:
        loading.append(store.run(run_id).message)
        return prepare(*arguments, **named)

    engine.prepare = prepare_and_record
    for _ in play_run(store, run_id, engine=engine, on_progress=reports.append):
        assert store.run(run_id).message == ""
    assert loading == [RESUMING]
    assert seen == {number: progress(number, 3) for number in again} | {4: "", 5: ""}
    assert reports == [RESUMING, *(progress(number, 3) for number in again), ""]
    assert store.run(run_id).message == ""


def test_a_new_run_reports_no_progress(store: Store, run_id: str) -> None:
    messages: list[str] = []
    engine = ScriptedEngine(lambda number: messages.append(store.run(run_id).message))
    list(play_run(store, run_id, engine=engine, on_progress=messages.append))
    assert messages == [""] * 5


def test_a_worker_that_dies_while_it_catches_up_leaves_no_progress_message(store: Store, run_id: str) -> None:
    play_to(store, run_id, 3, ScriptedEngine())
    forget_after(store, run_id, 1)
    engine = ScriptedEngine(lambda number: messages.append(killed(store, run_id)) if number == 3 else None)
    messages: list[str] = []
    with pytest.raises(StoreError):
        list(play_run(store, run_id, engine=engine))
    assert messages == [progress(3, 3)]
    row = store.run(run_id)
    assert row.status is RunStatus.FAILED
    assert row.message.startswith("The engine stopped without a word") and "Catching up" not in row.message
    store.requeue(run_id, in_queue=False)
    assert store.run(run_id).message == ""
    assert play(store, ScriptedEngine(), run_id).status is RunStatus.FINISHED


def killed(store: Store, run_id: str) -> str:
    """Makes a run look as if its process were gone; returns its last message."""
    message = store.run(run_id).message
    with closing(sqlite3.connect(store.path)) as connection, connection:
        connection.execute("UPDATE runs SET pid = 2147483646, process_birth = 'gone:1'")
    return message


def test_a_run_can_be_paused_while_it_replays_rounds(store: Store, run_id: str) -> None:
    play_to(store, run_id, 3, ScriptedEngine())
    forget_after(store, run_id, 0)
    paused: list[str] = []

    def person() -> None:
        wait_until(lambda: store.run(run_id).status is RunStatus.PAUSED)
        paused.append(store.run(run_id).message)
        store.resume(run_id, "me")

    thread = threading.Thread(target=person)
    seen: dict[int, str] = {}

    def pausing(number: int) -> None:
        seen[number] = store.run(run_id).message
        if number == 1:
            store.pause(run_id, "me")
            thread.start()

    play(store, ScriptedEngine(pausing), run_id)
    thread.join()
    assert paused == [""]
    assert seen == {1: progress(1, 3), 2: progress(2, 3), 3: progress(3, 3), 4: "", 5: ""}


def test_a_run_with_all_rounds_only_needs_its_end(store: Store, run_id: str) -> None:
    play_to(store, run_id, 5, ScriptedEngine())
    played: list[int] = []
    row = play(store, ScriptedEngine(played.append), run_id)
    assert (played, row.status, kept(store, run_id)) == ([], RunStatus.FINISHED, [1, 2, 3, 4, 5])


@pytest.mark.parametrize("checkpoint", [3, 0])
def test_a_stage_that_ended_early_stays_ended(store: Store, run_id: str, checkpoint: int) -> None:
    play_to(store, run_id, 3, ScriptedEngine(converges_at=3))
    forget_after(store, run_id, checkpoint)
    row = play(store, ScriptedEngine(converges_at=3), run_id)
    assert (row.status, row.rounds_done, row.rounds_total) == (RunStatus.FINISHED, 3, 3)


# rounds that come out differently


def shifted(by: float, rounds: Sequence[int]) -> ScriptedEngine:
    """An engine with another accuracy in these rounds, as on another computer."""
    engine: Any = ScriptedEngine()
    play_as_scripted = engine.play

    def played(script: scripted.Script, past: Sequence[RoundRecord] = ()) -> Any:
        for round_record in play_as_scripted(script, past):
            accuracy = round_record.accuracy + by if round_record.round in rounds else round_record.accuracy
            yield round_record.model_copy(update={"accuracy": accuracy, "wall_s": 9.0})

    engine.play = played
    return engine


def test_replayed_rounds_that_differ_are_noted_and_the_stored_ones_stay(store: Store, run_id: str) -> None:
    play_to(store, run_id, 4, ScriptedEngine())
    forget_after(store, run_id, 1)
    row = play(store, shifted(0.5, [3, 4, 5]), run_id)
    accuracies = [record.accuracy for _, record in store.rounds(run_id)]
    assert accuracies == [0.01, 0.02, 0.03, 0.04, 0.55]  # round 2 differs only in its seconds, which do not count
    assert row.notes[1:] == ("Resumed after round 4.", difference_note([3, 4]))


def test_the_note_lists_the_different_rounds() -> None:
    assert difference_note([7]).startswith("Round 7 came out differently when it was played again")
    assert difference_note([7, 8]).startswith("Rounds 7 to 8 came out differently when they were played again")
    assert difference_note([1, 3, 4, 5, 9]).startswith("Rounds 1, 3 to 5, 9 came")


def test_the_stored_rounds_decide_where_a_stage_ends(store: Store, run_id: str) -> None:
    play_to(store, run_id, 4, ScriptedEngine())
    forget_after(store, run_id, 0)
    pasts: list[list[int]] = []
    engine: Any = ScriptedEngine(converges_at=2)
    play_as_scripted = engine.play

    def played(script: scripted.Script, past: Sequence[RoundRecord] = ()) -> Any:
        pasts.append([record.round for record in past])
        script.rounds_total = 5  # as the real engine: the past rounds decide which stages have ended
        yield from play_as_scripted(script, past)

    engine.play = played
    row = play(store, engine, run_id)
    assert pasts == [[], [1, 2]]
    assert (row.status, kept(store, run_id)) == (RunStatus.FINISHED, [1, 2, 3, 4, 5])
    assert [record.stage_end for _, record in store.rounds(run_id)] == [""] * 5
    assert row.notes[2].startswith("Round 2 came out differently")


# steering


def settings_by_round(into: dict[int, float]) -> ScriptedEngine:
    """An engine that records the SNR of each round."""
    engine: Any = ScriptedEngine()
    play_as_scripted = engine.play

    def played(script: scripted.Script, past: Sequence[RoundRecord] = ()) -> Any:
        for round_record in play_as_scripted(script, past):
            into[round_record.round] = script.config.channel.snr_db
            yield round_record

    engine.play = played
    return engine


@pytest.mark.parametrize("checkpoint", [0, 1, 2, 3])
def test_steerings_hold_again_from_their_rounds(store: Store, run_id: str, checkpoint: int) -> None:
    commands = {1: lambda: steer(store, run_id, {SNR: 10.0}), 3: lambda: steer(store, run_id, {SNR: 20.0})}
    play_to(store, run_id, 3, ScriptedEngine(lambda number: commands.get(number, lambda: None)()))
    forget_after(store, run_id, checkpoint)
    assert [steering.position for steering in store.steerings(run_id)] == [2]
    seen: dict[int, float] = {}
    play(store, settings_by_round(seen), run_id)
    all_rounds = {1: 5.0, 2: 10.0, 3: 10.0, 4: 20.0, 5: 20.0}  # the change of round 3 was still pending
    assert seen == {number: snr for number, snr in all_rounds.items() if number > checkpoint}
    assert [(steering.position, steering.before, steering.changes) for steering in store.steerings(run_id)] == [
        (2, {SNR: 5.0}, {SNR: 10.0}),
        (4, {SNR: 10.0}, {SNR: 20.0}),
    ]


def test_a_change_acknowledged_just_before_a_failure_holds_after_the_resume(store: Store, run_id: str) -> None:
    def killed(number: int) -> None:
        if number == 3:
            raise TrainingError("as if it had been killed in the round after the change.")

    engine = ScriptedEngine(killed)
    stream = play_run(store, run_id, engine=engine)
    next(stream), next(stream)
    steer(store, run_id, {SNR: 10.0, WEIGHTS: (1.0, 0.0)})
    with pytest.raises(TrainingError):
        next(stream)
    assert [steering.position for steering in store.steerings(run_id)] == [3]
    store.requeue(run_id, in_queue=False)
    seen: dict[int, float] = {}
    row = play(store, settings_by_round(seen), run_id)
    assert seen == {3: 10.0, 4: 10.0, 5: 10.0}
    assert [client.helpfulness_weight for client in row.profiles] == [1.0, 0.0]
    assert len(store.steerings(run_id)) == 1


# commands


def test_a_run_can_be_stopped_while_it_replays_rounds(store: Store, run_id: str) -> None:
    play_to(store, run_id, 4, ScriptedEngine())
    forget_after(store, run_id, 0)
    played: list[int] = []

    def stopping(number: int) -> None:
        played.append(number)
        if number == 2:
            store.request_stop(run_id)

    row = play(store, ScriptedEngine(stopping), run_id)
    assert (played, row.status, row.message) == ([1, 2], RunStatus.STOPPED, "Stopped after 4 of 5 rounds.")
    assert kept(store, run_id) == [1, 2, 3, 4]
    assert not RunFiles(store.path).models(run_id).exists()  # those after round 2 are not the run's
    store.requeue(run_id, in_queue=False)
    assert play(store, ScriptedEngine(), run_id).status is RunStatus.FINISHED


def test_a_run_that_was_stopped_while_paused_can_be_resumed_and_paused_again(store: Store, run_id: str) -> None:
    def pausing(number: int) -> None:
        if number in (2, 4):
            store.pause(run_id, "me")

    def person(then: str) -> None:
        wait_until(lambda: store.run(run_id).status is RunStatus.PAUSED)
        store.request_stop(run_id) if then == "stop" else store.resume(run_id, "me")

    ends = []
    for then in ("stop", "resume"):
        thread = threading.Thread(target=person, args=(then,))
        thread.start()
        ends.append(play(store, ScriptedEngine(pausing), run_id))
        thread.join()
        if then == "stop":
            store.requeue(run_id, in_queue=False)
    assert [(row.status, row.rounds_done) for row in ends] == [(RunStatus.STOPPED, 2), (RunStatus.FINISHED, 5)]


# checkpoints


class Troubled(scripted.Checkpointer):
    """A checkpointer whose disk is full from round 2 to round 3."""

    def save(self, script: scripted.Script, record: RoundRecord, position: int) -> None:
        full = position in (2, 3)
        self.trouble = (
            f"No checkpoint could be written after round {position} (No space left on device)." if full else ""
        )


def test_checkpoints_that_cannot_be_written_are_noted_once(store: Store, run_id: str) -> None:
    engine: Any = ScriptedEngine()
    engine.checkpointer = Troubled
    assert [record.round for record in play_run(store, run_id, engine=engine)] == [1, 2, 3, 4, 5]
    row = store.run(run_id)
    assert (row.status, row.message) == (RunStatus.FINISHED, "")
    assert [note for note in row.notes if "checkpoint" in note] == [
        "No checkpoint could be written after round 2 (No space left on device). The run goes on; if it is "
        "interrupted, it plays the rounds since the last one again."
    ]
