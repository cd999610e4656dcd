"""A fork begins with the rounds of another run and continues with other settings."""

from __future__ import annotations

import pytest

from pwff_core.config import InstructionConfig, PreferencesConfig
from pwff_core.errors import ConfigError, StoreError
from pwff_core.runs.store import RunStatus, Store
from tests.support.played_stores import CONFIG, played, steered_at
from tests.support.scripted import whole_run
from tests.support.store_tables import sql

WEIGHTS = "preferences.helpfulness_weights"


def test_a_fork_begins_as_its_parent(store: Store) -> None:
    parent = played(store, 6)
    child = store.fork(parent, 4, {"channel.snr_db": 10.0}, "at 10 dB", in_queue=True, owner="bob")
    row, of = store.run(child), store.run(parent)
    assert [record for _, record in store.rounds(child)] == [
        record.model_copy(update={"run": child}) for _, record in store.rounds(parent)[:4]
    ]
    assert (row.parent, row.forked_at, row.name, row.owner) == (parent, 4, "at 10 dB", "bob")
    assert (row.status, row.in_queue, row.pid, row.comparison) == (RunStatus.QUEUED, True, None, "")
    assert (row.config, row.notes, row.rounds_done, row.rounds_total) == (of.config, of.notes, 4, 9)
    (steering,) = store.steerings(child)
    assert (steering.position, steering.stage, steering.round) == (5, "reward", 2)
    assert (steering.before, steering.changes) == ({"channel.snr_db": 5.0}, {"channel.snr_db": 10.0})
    assert of.status is RunStatus.RUNNING and store.steerings(parent) == []  # the parent is unchanged
    assert store.next_in_queue(parallel=2) == child


def test_a_fork_has_the_settings_of_its_round(store: Store) -> None:
    parent = played(store, 0)
    records, at = whole_run(parent), {1: 1.0, 3: 3.0, 5: 5.5}
    for position, record in enumerate(records[:6], start=1):
        if position in at:
            store.steer(parent, "me", {"channel.snr_db": at[position]})
            command = store.pending_commands(parent)[-1]
            store.acknowledge(parent, command.id, steered_at(position, {"channel.snr_db": at[position]}))
        store.append(parent, record)
    store.steer(parent, "me", {"channel.bandwidth_hz": 2e6})  # for the parent alone
    fork = {position: store.fork(parent, position, {"channel.snr_db": 3.0}, in_queue=True) for position in range(1, 7)}
    past = {
        position: [(steering.position, steering.changes) for steering in store.steerings(child)]
        for position, child in fork.items()
    }
    snr = [(1, {"channel.snr_db": 1.0}), (3, {"channel.snr_db": 3.0}), (5, {"channel.snr_db": 5.5})]
    assert past[1] == [snr[0], (2, {"channel.snr_db": 3.0})]
    assert past[2] == [snr[0], (3, {"channel.snr_db": 3.0})]
    assert past[3] == past[4] == snr[:2]  # 3 dB holds there already
    assert past[6] == [*snr, (7, {"channel.snr_db": 3.0})]
    assert store.steerings(fork[6])[-1].before == {"channel.snr_db": 5.5}
    assert all(store.pending_changes(child) == {} for child in fork.values())


def test_a_fork_with_other_preferences(store: Store) -> None:
    parent = played(store, 6, reward="All rounds were played.")  # its profiles say 0.25 + client / 2
    child = store.fork(parent, 5, {WEIGHTS: (1.0, 1.0, 1.0, 0.0, 0.0)}, in_queue=True)
    (steering,) = store.steerings(child)
    assert steering.before == {WEIGHTS: (0.0, 0.25, 0.5, 0.75, 1.0)}  # as in the parent's fifth round
    assert steering.changes == {WEIGHTS: (1.0, 1.0, 1.0, 0.0, 0.0)}
    assert (steering.stage, steering.round) == ("alignment", 1)
    assert [client.helpfulness_weight for client in store.run(child).profiles] == [1.0, 1.0, 1.0, 0.0, 0.0]
    same = store.fork(parent, 5, {WEIGHTS: (0.0, 0.25, 0.5, 0.75, 1.0)}, in_queue=True)
    assert store.steerings(same) == []
    assert [client.helpfulness_weight for client in store.run(same).profiles] == [0.0, 0.25, 0.5, 0.75, 1.0]


def test_a_fork_of_a_fork(store: Store) -> None:
    parent = played(store, 5)
    child = store.fork(parent, 4, {"channel.snr_db": 10.0}, in_queue=False)
    store.claim(child)
    store.append(child, whole_run(child)[4])
    grandchild = store.fork(child, 5, {"channel.fading": "awgn"}, in_queue=True)
    assert (store.run(grandchild).parent, store.run(grandchild).forked_at) == (child, 5)
    assert [steering.position for steering in store.steerings(grandchild)] == [5, 6]
    assert [record.run for _, record in store.rounds(grandchild)] == [grandchild] * 5


def test_a_stage_that_ended_early_is_shorter_in_the_fork_too(store: Store) -> None:
    early = CONFIG.model_copy(update={"instruction": InstructionConfig(rounds=16)})
    parent = played(store, 5, early, instruction="Converged.")
    after, before = (store.fork(parent, position, {}, in_queue=True) for position in (3, 2))
    assert (store.run(after).rounds_total, store.run(before).rounds_total) == (3 + 2 + 4, 16 + 2 + 4)
    assert store.steerings(after) == []
    third = store.fork(parent, 3, {"channel.snr_db": 1.0}, in_queue=True)
    assert (store.steerings(third)[0].stage, store.steerings(third)[0].round) == ("reward", 1)


@pytest.mark.parametrize(
    ("rounds", "position", "reason"),
    [
        (6, 0, "cannot be forked after round 0: it has rounds 1 to 6."),
        (6, 7, "cannot be forked after round 7: it has rounds 1 to 6."),
        (6, -1, "cannot be forked after round -1"),
        (0, 1, "cannot be forked after round 1: it has no round yet."),
        (9, 9, "ended with round 9; fork it after an earlier one."),
    ],
)
def test_rounds_after_which_a_run_cannot_be_forked(store: Store, rounds: int, position: int, reason: str) -> None:
    parent = played(store, rounds)
    with pytest.raises(StoreError, match=f"^Run {parent} {reason}"):
        store.fork(parent, position, {}, in_queue=True)
    assert [row.id for row in store.runs()] == [parent]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"adapter.bottleneck": 2.0}, "'adapter.bottleneck' cannot be changed while a run is going"),
        ({"channel.snr_db": 99.0}, "channel.snr_db: 99.0 is not allowed"),
        ({WEIGHTS: (0.5,)}, "has 1 weights for 5 clients"),
    ],
)
def test_changes_that_a_fork_refuses(store: Store, changes: dict[str, float], reason: str) -> None:
    parent = played(store, 2)
    with pytest.raises(ConfigError, match=reason):
        store.fork(parent, 1, changes, in_queue=True)
    assert [row.id for row in store.runs()] == [parent]


def test_a_fork_refuses_a_bad_name_and_an_unreadable_parent(store: Store) -> None:
    parent = played(store, 2)
    with pytest.raises(StoreError, match="at most 80 characters"):
        store.fork(parent, 1, {}, "x" * 81, in_queue=True)
    with pytest.raises(StoreError, match="There is no run 'nosuchid'"):
        store.fork("nosuchid", 1, {}, in_queue=True)
    assert [row.id for row in store.runs()] == [parent]
    sql(store.path, "UPDATE runs SET config = replace(config, 'snr_db', 'snr')")
    with pytest.raises(StoreError, match="was written by another version of pwff"):
        store.fork(parent, 1, {}, in_queue=True)


def test_a_fork_s_steering_starts_from_the_parent_s_weights(store: Store) -> None:
    preferences = PreferencesConfig(helpfulness_weights=(0.0, 0.25, 0.5, 0.75, 1.0))
    given = CONFIG.model_copy(update={"preferences": preferences})
    child = store.fork(played(store, 2, given), 1, {WEIGHTS: (1.0, 0.25, 0.5, 0.75, 1.0)}, in_queue=True)
    assert store.steerings(child)[0].before == {WEIGHTS: (0.0, 0.25, 0.5, 0.75, 1.0)}


def test_runs_are_counted_by_owner(store: Store) -> None:
    parent = played(store, 2)
    since = store.run(parent).created_at
    store.fork(parent, 1, {}, in_queue=True, owner="bob")
    store.create_run(CONFIG, owner="bob")
    sql(store.path, "UPDATE runs SET deleted = 1 WHERE owner = 'bob'")
    assert [store.created(owner, since) for owner in ("ada", "bob", "")] == [1, 2, 0]
    assert store.created("bob", since + 3600) == 0
