"""Commands for a running worker: steering, pause, resume and stop."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable

import pytest

from pwff_core.engine.models.saved_models import load
from pwff_core.engine.worker import Timing
from pwff_core.records import Value
from pwff_core.runs.run_files import RunFiles
from pwff_core.runs.store import RunStatus, Store
from pwff_core.runs.store.commands import Commands
from tests.support.scripted import ScriptedEngine
from tests.support.workers import CONFIG, kept, play, wait_until

SNR, FADING, WEIGHTS = "channel.snr_db", "channel.fading", "preferences.helpfulness_weights"


@pytest.fixture
def run_id(store: Store) -> str:
    return store.create_run(CONFIG)


def steer(store: Store, run_id: str, changes: dict[str, Value]) -> None:
    Store(store.path, readonly=True).steer(run_id, "me", changes)


def calling(**calls: Callable[[], object]) -> Callable[[int], None]:
    """Calls `in_N` before round N, after the commands were read: they are read again before round N + 1."""

    def before_round(number: int) -> None:
        calls.get(f"in_{number}", lambda: None)()

    return before_round


# steering


def test_a_change_holds_from_the_next_round(store: Store, run_id: str) -> None:
    start = time.time()
    changes: list[dict[str, Value]] = []
    engine = ScriptedEngine(
        calling(
            in_3=lambda: steer(store, run_id, {SNR: 10.0}),
            in_4=lambda: changes.append(store.pending_changes(run_id)),
        )
    )
    row = play(store, engine, run_id)
    (steering,) = store.steerings(run_id)
    assert (steering.position, steering.stage, steering.round) == (4, "instruction", 4)
    assert (steering.before, steering.changes) == ({SNR: 5.0}, {SNR: 10.0})
    assert start <= steering.at <= time.time()
    assert changes == [{}]
    assert (row.status, kept(store, run_id)) == (RunStatus.FINISHED, [1, 2, 3, 4, 5])
    assert row.config.channel.snr_db == 5.0  # at the start
    assert load(RunFiles(store.path).models(run_id)).config.channel.snr_db == 10.0  # at the end


def test_changes_between_two_rounds_are_one_steering(store: Store, run_id: str) -> None:
    def dither() -> None:
        for changes in ({SNR: 10.0}, {FADING: "awgn"}, {SNR: 12.0}):
            steer(store, run_id, changes)

    play(store, ScriptedEngine(calling(in_2=dither, in_4=lambda: steer(store, run_id, {SNR: 0.0}))), run_id)
    first, second = store.steerings(run_id)
    assert (first.position, first.changes) == (3, {SNR: 12.0, FADING: "awgn"})
    assert first.before == {SNR: 5.0, FADING: "rayleigh"}
    assert (second.position, second.before, second.changes) == (5, {SNR: 12.0}, {SNR: 0.0})


def test_a_change_and_its_reversal_are_no_steering(store: Store, run_id: str) -> None:
    def dither() -> None:
        steer(store, run_id, {SNR: 10.0})
        steer(store, run_id, {SNR: 5.0})

    play(store, ScriptedEngine(calling(in_2=dither)), run_id)
    assert store.steerings(run_id) == []
    assert store.pending_commands(run_id) == []


def test_a_change_before_the_start_holds_from_the_first_round(store: Store, run_id: str) -> None:
    steer(store, run_id, {SNR: 10.0})
    play(store, ScriptedEngine(), run_id)
    assert [(steering.position, steering.round) for steering in store.steerings(run_id)] == [(1, 1)]


def test_commands_in_the_last_round_come_too_late(store: Store, run_id: str) -> None:
    def late() -> None:
        steer(store, run_id, {SNR: 10.0})
        store.pause(run_id, "me")

    assert play(store, ScriptedEngine(calling(in_5=late)), run_id).status is RunStatus.FINISHED
    assert (store.steerings(run_id), store.pending_changes(run_id), store.pending(run_id)) == ([], {}, frozenset())


def test_steered_preferences_are_stored_in_the_profiles(store: Store, run_id: str) -> None:
    seen: list[list[float]] = []
    engine = ScriptedEngine(
        calling(
            in_2=lambda: steer(store, run_id, {WEIGHTS: (1.0, 0.0)}),
            in_3=lambda: seen.append([client.helpfulness_weight for client in store.run(run_id).profiles]),
        )
    )
    row = play(store, engine, run_id)
    assert seen == [[1.0, 0.0]]
    assert [client.helpfulness_weight for client in row.profiles] == [1.0, 0.0]
    (steering,) = store.steerings(run_id)
    assert steering.before == {WEIGHTS: (0.25, 0.75)}  # drawn from the seed, as the settings give none
    assert load(RunFiles(store.path).models(run_id)).config.preferences.helpfulness_weights == (1.0, 0.0)


def test_steering_to_the_drawn_weights_is_no_steering(store: Store, run_id: str) -> None:
    play(store, ScriptedEngine(calling(in_2=lambda: steer(store, run_id, {WEIGHTS: (0.25, 0.75)}))), run_id)
    assert store.steerings(run_id) == []


def test_a_change_that_is_not_allowed_is_reported_and_left_out(
    store: Store, run_id: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def past_the_check() -> None:
        commands = Commands(store.commands_path, 5.0)
        commands.post(run_id, "steer", "me", {"clients": 7})
        commands.post(run_id, "steer", "me", {SNR: 10.0})

    row = play(store, ScriptedEngine(calling(in_2=past_the_check)), run_id)
    assert (row.status, row.rounds_done) == (RunStatus.FINISHED, 5)
    assert [steering.changes for steering in store.steerings(run_id)] == [{SNR: 10.0}]
    assert "Settings not changed: 'clients' cannot be changed while a run is going" in capsys.readouterr().err


# pause


def test_a_resumed_run_has_the_changes_made_during_the_pause(store: Store, run_id: str) -> None:
    seen: list[object] = []

    def person() -> None:
        page = Store(store.path, readonly=True)
        wait_until(lambda: page.run(run_id).status is RunStatus.PAUSED)
        first = page.run(run_id).heartbeat_at
        page.steer(run_id, "me", {SNR: 10.0})
        page.steer(run_id, "me", {SNR: 11.0})
        wait_until(lambda: page.run(run_id).heartbeat_at != first)  # heartbeats go on
        row = page.run(run_id)
        seen.extend(
            [row.status, row.rounds_done, page.pending_changes(run_id), page.steerings(run_id), page.pending(run_id)]
        )
        page.resume(run_id, "me")

    thread = threading.Thread(target=person)
    thread.start()
    engine = ScriptedEngine(calling(in_2=lambda: store.pause(run_id, "me")))
    row = play(store, engine, run_id, timing=Timing(heartbeat_s=0.1))
    thread.join()
    assert seen == [RunStatus.PAUSED, 2, {SNR: 11.0}, [], frozenset()]
    assert (row.status, kept(store, run_id)) == (RunStatus.FINISHED, [1, 2, 3, 4, 5])
    assert [(steering.position, steering.changes) for steering in store.steerings(run_id)] == [(3, {SNR: 11.0})]


def test_the_status_is_running_again_after_a_resume(store: Store, run_id: str) -> None:
    after: list[RunStatus] = []
    store.pause(run_id, "me")  # before the run starts
    timer = threading.Timer(0.5, lambda: store.resume(run_id, "me"))
    timer.start()
    engine = ScriptedEngine(calling(in_1=lambda: after.append(store.run(run_id).status)))
    play(store, engine, run_id)
    timer.join()
    assert after == [RunStatus.RUNNING]


def test_a_pause_that_is_taken_back_at_once_has_no_effect(store: Store, run_id: str) -> None:
    def hesitate() -> None:
        store.pause(run_id, "me")
        store.resume(run_id, "me")

    statuses: list[RunStatus] = []

    class Watched(Store):
        def set_status(self, run_id: str, status: RunStatus, message: str = "") -> None:
            statuses.append(status)

    row = play(Watched(store.path), ScriptedEngine(calling(in_2=hesitate)), run_id)
    assert (row.status, statuses) == (RunStatus.FINISHED, [])


@pytest.mark.parametrize("how", ["page", "signal"])
def test_a_paused_run_can_be_stopped(store: Store, run_id: str, how: str) -> None:
    def person() -> None:
        wait_until(lambda: store.run(run_id).status is RunStatus.PAUSED)
        store.request_stop(run_id) if how == "page" else os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=person)
    thread.start()
    engine = ScriptedEngine(calling(in_2=lambda: store.pause(run_id, "me")))
    if how == "page":
        play(store, engine, run_id)
    else:
        with pytest.raises(KeyboardInterrupt):
            play(store, engine, run_id)
    thread.join()
    row = store.run(run_id)
    assert (row.status, row.message) == (RunStatus.STOPPED, "Stopped after 2 of 5 rounds.")
    assert kept(store, run_id) == [1, 2]


def test_a_stop_is_pending_until_the_run_has_ended(store: Store, run_id: str) -> None:
    seen: list[frozenset[str]] = []

    class Watched(Store):
        def finish(self, run_id: str, status: RunStatus, message: str = "") -> None:
            seen.append(self.pending(run_id))  # while the models are written, the stop is pending
            super().finish(run_id, status, message)

    play(Watched(store.path), ScriptedEngine(calling(in_2=lambda: store.request_stop(run_id))), run_id)
    assert seen == [{"stop"}]
