"""The commands of pages for a worker, and the lease of the viewer that may post them."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from pwff_core.config import STEERABLE, PreferencesConfig, RunConfig
from pwff_core.errors import ConfigError, StoreError
from pwff_core.knobs import knobs
from pwff_core.records import Steering
from pwff_core.runs.store import LEASE_S, Command, RunStatus, Store
from tests.support.clock import Clock

CONFIG = RunConfig(clients=2)


@pytest.fixture
def run_id(store: Store) -> str:
    """A run that this process plays."""
    run_id = store.create_run(CONFIG)
    store.claim(run_id)
    return run_id


def test_a_readonly_store_posts_a_stop_for_one_run_only(path: Path) -> None:
    engine, page = Store(path), Store(path, readonly=True)
    first, second = engine.create_run(CONFIG), engine.create_run(CONFIG)
    assert not engine.stop_requested(first)
    page.request_stop(first)
    assert engine.stop_requested(first)
    assert not engine.stop_requested(second)


def test_commands_have_a_file_of_their_own(path: Path) -> None:
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


def test_changes_are_pending_until_they_are_acknowledged(store: Store, run_id: str) -> None:
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


def test_a_value_that_holds_already_is_not_posted(store: Store, run_id: str) -> None:
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
    store.steer(run_id, "me", {"channel.bandwidth_hz": 1e6})  # the value at the start of the run, which no longer holds
    assert store.pending_changes(run_id) == {"channel.bandwidth_hz": 1e6}


def test_weights_given_as_harmlessness_can_be_steered(store: Store) -> None:
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
def test_a_change_that_is_not_allowed_is_not_posted(
    store: Store, run_id: str, changes: dict[str, object], sentence: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        store.steer(run_id, "me", changes)  # type: ignore[arg-type]
    assert sentence in str(caught.value)
    assert store.pending_commands(run_id) == []


def test_a_change_must_fit_the_other_settings(store: Store) -> None:
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
def test_an_ended_run_takes_no_commands(
    store: Store, run_id: str, ask: Callable[[Store, str], None], advice: str
) -> None:
    store.steer(run_id, "me", {"channel.snr_db": 10.0})  # too late for the worker
    store.finish(run_id, RunStatus.FINISHED)
    with pytest.raises(StoreError) as caught:
        ask(store, run_id)
    assert str(caught.value).startswith(ENDED.format(run_id) + advice)
    assert store.pending_changes(run_id) == {}
    store.request_stop(run_id)  # pressed just as it ended: no error
    assert store.pending(run_id) == frozenset()


# pause, resume, stop


def test_pause_resume_and_stop_are_pending_until_done(store: Store, run_id: str) -> None:
    assert store.pending(run_id) == frozenset()
    store.pause(run_id, "me")
    assert store.pending(run_id) == {"pause"}
    store.set_status(run_id, RunStatus.PAUSED)
    assert (store.pending(run_id), store.run(run_id).status) == (frozenset(), RunStatus.PAUSED)
    store.resume(run_id, "me")
    assert store.pending(run_id) == {"resume"}
    store.pause(run_id, "me")  # the viewer changes their mind
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


def test_the_first_viewer_to_steer_gets_the_lease(store: Store, run_id: str) -> None:
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
    store.request_stop(run_id)  # the terminal needs no lease
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


def test_a_lease_expires_unless_it_is_renewed(store: Store, run_id: str, clock: Clock) -> None:
    page = Store(store.path, readonly=True)
    page.take_over(run_id, "ada")
    lease = page.lease(run_id)
    for _ in range(40):  # snapshots, a second apart
        clock.go(1.0)
        assert page.keep_lease(run_id, "ada")
    assert page.lease(run_id) == lease
    clock.go(LEASE_S - 4.0)  # not every snapshot has written the lease
    assert page.lease(run_id) == lease
    clock.go(4.0)
    assert page.lease(run_id) is None
    assert not page.keep_lease(run_id, "ada")
    page.pause(run_id, "bob")
    lease = page.lease(run_id)
    assert lease is not None and (lease.viewer, lease.since) == ("bob", clock.wall)


def test_steering_renews_the_lease(store: Store, run_id: str, clock: Clock) -> None:
    store.pause(run_id, "ada")
    clock.go(LEASE_S - 1.0)
    store.resume(run_id, "ada")
    clock.go(LEASE_S - 1.0)
    lease = store.lease(run_id)
    assert lease is not None and lease.viewer == "ada"


def test_a_young_lease_is_kept_without_a_write(store: Store, run_id: str) -> None:
    store.take_over(run_id, "ada")
    blocker = sqlite3.connect(store.commands_path, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    assert Store(store.path, readonly=True, timeout_s=0.0).keep_lease(run_id, "ada")
    blocker.execute("ROLLBACK")
    blocker.close()


def test_each_run_gets_its_own_commands(store: Store, run_id: str) -> None:
    other = store.create_run(CONFIG)
    store.pause(other, "ada")
    assert store.pending_commands(run_id) == []
    assert [command._replace(id=0) for command in store.pending_commands(other)] == [Command(0, "pause", {})]
