"""What pages ask of a worker, and which of them may."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pwff_core.config import STEERABLE, PreferencesConfig, RunConfig
from pwff_core.errors import ConfigError, StoreError
from pwff_core.knobs import knobs
from pwff_core.records import Steering
from pwff_core.runs.store import LEASE_S, Command, RunStatus, Store

CONFIG = RunConfig(clients=2)


@pytest.fixture
def store(path: Path) -> Store:
    return Store(path)


@pytest.fixture
def run_id(store: Store) -> str:
    """A run that this process plays."""
    found = store.create_run(CONFIG)
    store.claim(found)
    return found


def test_stop_is_asked_through_a_readonly_store_and_only_for_that_run(path: Path) -> None:
    engine, page = Store(path), Store(path, readonly=True)
    one, other = engine.create_run(CONFIG), engine.create_run(CONFIG)
    assert not engine.stop_requested(one)
    page.request_stop(one)
    assert engine.stop_requested(one)
    assert not engine.stop_requested(other)


def test_commands_lie_in_a_file_of_their_own(path: Path) -> None:
    engine = Store(path)
    run_id = engine.create_run(CONFIG)
    blocker = sqlite3.connect(path, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")  # a worker in the middle of writing
    engine.request_stop(run_id)
    blocker.execute("ROLLBACK")
    blocker.close()
    assert engine.commands_path == path.with_name("runs.commands.sqlite")
    assert engine.stop_requested(run_id)


# steering


def test_changes_are_asked_for_and_taken_once(store: Store, run_id: str) -> None:
    page = Store(store.path, readonly=True)
    page.steer(run_id, "me", {"channel.snr_db": 10.0, "channel.fading": "awgn"})
    page.steer(run_id, "me", {"preferences.helpfulness_weights": (0.25, 1.0)})
    assert page.pending_changes(run_id) == {
        "channel.snr_db": 10.0, "channel.fading": "awgn", "preferences.helpfulness_weights": (0.25, 1.0),
    }  # fmt: skip
    first, second = store.pending_commands(run_id)
    assert (first.kind, first.changes) == ("steer", {"channel.snr_db": 10.0, "channel.fading": "awgn"})
    steering = Steering(
        position=4, stage="instruction", round=4, before={"channel.snr_db": 5.0}, changes=first.changes, at=2.0
    )
    store.acknowledge(run_id, first.id, steering)
    assert page.pending_changes(run_id) == {"preferences.helpfulness_weights": (0.25, 1.0)}
    assert page.steerings(run_id) == [steering]
    store.acknowledge(run_id, second.id, None)
    assert page.pending_changes(run_id) == {}
    assert page.steerings(run_id) == [steering]


def test_what_holds_already_is_not_asked_for(store: Store, run_id: str) -> None:
    store.steer(run_id, "me", {"channel.snr_db": 5, "channel.bandwidth_hz": 2e6})
    assert store.pending_changes(run_id) == {"channel.bandwidth_hz": 2e6}
    (command,) = store.pending_commands(run_id)
    store.acknowledge(
        run_id,
        command.id,
        Steering(position=1, stage="instruction", round=1, before={}, changes=command.changes, at=2.0),
    )
    store.steer(run_id, "me", {"channel.bandwidth_hz": 2e6})
    assert store.pending_commands(run_id) == []
    store.steer(run_id, "me", {"channel.bandwidth_hz": 1e6})  # as the run began, which no longer holds
    assert store.pending_changes(run_id) == {"channel.bandwidth_hz": 1e6}


def test_weights_that_were_given_the_other_way_round_can_be_steered(store: Store) -> None:
    run_id = store.create_run(RunConfig(clients=2, preferences=PreferencesConfig(harmlessness_weights=(0.0, 0.5))))
    store.steer(run_id, "me", {"preferences.helpfulness_weights": (0.5, 0.5)})
    assert store.pending_changes(run_id) == {"preferences.helpfulness_weights": (0.5, 0.5)}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"clients": 3}, "'clients' cannot be changed while a run is going; what can be is channel.snr_db, "),
        ({"<b>": 3.0}, "'<b>' cannot be changed while a run is going"),
        ({"channel.snr_db": 61.0}, "channel.snr_db: 61.0 is not allowed; give a number from -30 to 60 dB."),
        ({"channel.snr_db": float("nan")}, "channel.snr_db: nan is not allowed"),
        ({"channel.fading": "rice"}, "channel.fading: 'rice' is not one of rayleigh, awgn."),
        ({"preferences.helpfulness_weights": (0.5,)}, "has 1 weights for 2 clients; give one a client"),
        ({"preferences.helpfulness_weights": (0.5, 1.5)}, "the weight of client 1 is 1.5; allowed is 0 to 1"),
        ({"preferences.helpfulness_weights": None}, "nothing is given; give a list of numbers from 0 to 1"),
    ],
)
def test_what_is_not_allowed_is_not_asked_for(
    store: Store, run_id: str, changes: dict[str, object], sentence: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        store.steer(run_id, "me", changes)  # type: ignore[arg-type]
    assert sentence in str(caught.value)
    assert store.pending_commands(run_id) == []


def test_a_change_must_fit_what_else_was_asked_for(store: Store) -> None:
    one_draw = CONFIG.channel.model_copy(update={"fading": "awgn", "coherence_time_s": float("inf")})
    run_id = store.create_run(CONFIG.model_copy(update={"channel": one_draw}))
    with pytest.raises(ConfigError, match="the mean delay of such a link is infinite"):
        store.steer(run_id, "me", {"channel.fading": "rayleigh"})


def test_every_steerable_setting_is_a_knob() -> None:
    assert set(STEERABLE) <= set(knobs())


ENDED = "Run {} has ended (finished); its rounds stay as they are. "


@pytest.mark.parametrize(
    ("ask", "advice"),
    [
        (lambda store, run_id: store.steer(run_id, "me", {"channel.snr_db": 9.0}), "Start a new run to try other"),
        (lambda store, run_id: store.pause(run_id, "me"), "There is nothing to pause."),
        (lambda store, run_id: store.resume(run_id, "me"), "Start a new run to go on."),
    ],
)
def test_nothing_can_be_asked_of_a_run_that_has_ended(
    store: Store, run_id: str, ask: Callable[[Store, str], None], advice: str
) -> None:
    store.steer(run_id, "me", {"channel.snr_db": 10.0})  # comes too late to be taken
    store.finish(run_id, RunStatus.FINISHED)
    with pytest.raises(StoreError) as caught:
        ask(store, run_id)
    assert str(caught.value).startswith(ENDED.format(run_id) + advice)
    assert store.pending_changes(run_id) == {}
    store.request_stop(run_id)  # pressed just as it ended: it is as wished
    assert store.pending(run_id) == frozenset()


# pause, resume, stop


def test_what_is_pending_until_the_worker_has_done_it(store: Store, run_id: str) -> None:
    assert store.pending(run_id) == frozenset()
    store.pause(run_id, "me")
    assert store.pending(run_id) == {"pause"}
    store.set_status(run_id, RunStatus.PAUSED)
    assert (store.pending(run_id), store.run(run_id).status) == (frozenset(), RunStatus.PAUSED)
    store.resume(run_id, "me")
    assert store.pending(run_id) == {"resume"}
    store.pause(run_id, "me")  # changed their mind
    assert store.pending(run_id) == frozenset()
    store.request_stop(run_id, "me")
    assert store.pending(run_id) == {"stop"}
    assert [command.kind for command in store.pending_commands(run_id)] == ["pause", "resume", "pause", "stop"]
    store.finish(run_id, RunStatus.STOPPED)
    assert store.pending(run_id) == frozenset()


def test_for_a_stalled_run_the_last_command_counts(store: Store, run_id: str) -> None:
    page = Store(store.path, readonly=True, stale_s=-1.0)
    pending = []
    for status in (RunStatus.RUNNING, RunStatus.PAUSED):
        store.set_status(run_id, status)
        assert page.run(run_id).status is RunStatus.STALLED
        for post in (page.pause, page.resume):
            post(run_id, "me")
            pending.append(page.pending(run_id))
            assert page.snapshot(run_id).pending == pending[-1]
    assert pending == [{"pause"}, frozenset()] * 2


def test_a_paused_run_has_not_ended() -> None:
    assert [status for status in RunStatus if not status.ended] == ["queued", "running", "paused", "waiting"]


# the lease


class Clock:
    """The store's clock, set by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = time.time()
        monkeypatch.setattr("time.time", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def test_the_first_to_steer_holds_the_lease(store: Store, run_id: str) -> None:
    assert store.lease(run_id) is None
    store.pause(run_id, "ada")
    lease = store.lease(run_id)
    assert lease is not None and lease.viewer == "ada"
    for ask in (
        lambda: store.steer(run_id, "bob", {"channel.snr_db": 9.0}),
        lambda: store.resume(run_id, "bob"),
        lambda: store.request_stop(run_id, "bob"),
    ):
        with pytest.raises(StoreError, match=f"^Another browser steers run {run_id} at the moment; press Take over"):
            ask()
    assert [command.kind for command in store.pending_commands(run_id)] == ["pause"]
    store.request_stop(run_id)  # the terminal asks nobody
    assert store.pending(run_id) == {"pause", "stop"}


def test_a_lease_is_taken_over_explicitly(store: Store, run_id: str) -> None:
    store.take_over(run_id, "ada")
    store.take_over(run_id, "bob")
    lease = store.lease(run_id)
    assert lease is not None and lease.viewer == "bob"
    assert (store.keep_lease(run_id, "ada"), store.keep_lease(run_id, "bob")) == (False, True)
    with pytest.raises(StoreError, match="Another browser"):
        store.pause(run_id, "ada")
    store.pause(run_id, "bob")


def test_each_run_has_a_lease_of_its_own(store: Store, run_id: str) -> None:
    other = store.create_run(CONFIG)
    store.take_over(run_id, "ada")
    store.take_over(other, "bob")
    store.pause(run_id, "ada")
    store.pause(other, "bob")
    with pytest.raises(StoreError, match="There is no run"):
        store.take_over("nosuchid", "ada")


def test_a_lease_runs_out_unless_it_is_kept(store: Store, run_id: str, clock: Clock) -> None:
    page = Store(store.path, readonly=True)
    page.take_over(run_id, "ada")
    begun = page.lease(run_id)
    for _ in range(40):  # looks, a second apart
        clock.now += 1.0
        assert page.keep_lease(run_id, "ada")
    assert page.lease(run_id) == begun
    clock.now += LEASE_S - 4.0  # some of the looks have written nothing
    assert page.lease(run_id) == begun
    clock.now += 4.0
    assert page.lease(run_id) is None
    assert not page.keep_lease(run_id, "ada")
    page.pause(run_id, "bob")
    lease = page.lease(run_id)
    assert lease is not None and (lease.viewer, lease.since) == ("bob", clock.now)


def test_steering_renews_the_lease(store: Store, run_id: str, clock: Clock) -> None:
    store.pause(run_id, "ada")
    clock.now += LEASE_S - 1.0
    store.resume(run_id, "ada")
    clock.now += LEASE_S - 1.0
    lease = store.lease(run_id)
    assert lease is not None and lease.viewer == "ada"


def test_a_look_writes_nothing_while_the_lease_is_young(store: Store, run_id: str) -> None:
    store.take_over(run_id, "ada")
    blocker = sqlite3.connect(store.commands_path, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    assert Store(store.path, readonly=True, timeout_s=0.0).keep_lease(run_id, "ada")
    blocker.execute("ROLLBACK")
    blocker.close()


def test_commands_of_another_run_are_not_for_this_one(store: Store, run_id: str) -> None:
    other = store.create_run(CONFIG)
    store.pause(other, "ada")
    assert store.pending_commands(run_id) == []
    assert [command._replace(id=0) for command in store.pending_commands(other)] == [Command(0, "pause", {})]
