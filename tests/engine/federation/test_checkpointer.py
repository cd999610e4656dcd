"""A run that goes on from a checkpoint is the run that was never interrupted, to the last bit."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from threading import Event
from typing import TypeAlias
from unittest import mock

import pytest
import torch
from safetensors.torch import save_file

from pwff_core.config import RunConfig
from pwff_core.engine import checkpointer
from pwff_core.engine.checkpointer import Keeper, restored
from pwff_core.engine.federation import play, steer
from pwff_core.engine.setup import Federation, prepare
from pwff_core.knobs import with_changes
from pwff_core.methods import METHODS
from pwff_core.records import RoundRecord
from pwff_core.runs.checkpoints import HEAD, STATE, folder_of, forget, hand_over, list_checkpoints
from pwff_core.runs.run_files import RunFiles
from tests.support.encoders import family_folder

Kept: TypeAlias = tuple[RunConfig, Path, list[RoundRecord]]
RUN = "abcd2345"
ALL = 1.0  # of the time may go to checkpoints, so that none is left out
STEERED = 2  # the round, over all stages, before which settings change
CHANGES = {"channel.snr_db": -8.0, "preferences.helpfulness_weights": (0.0, 0.5, 1.0)}


@pytest.fixture(scope="module")
def small_encoder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(family_folder(tmp_path_factory.mktemp("small-encoder"), "roberta", context=128))


@pytest.fixture
def whole(whole: RunConfig, small_encoder: str, monkeypatch: pytest.MonkeyPatch) -> RunConfig:
    """With as little of a judge as can be: it takes the most time, and is no part of what is proved here."""
    few = {"data.preferences.JUDGE_PAIRS": 8, "data.preferences.REFERENCES": 12, "engine.stages.reward.JUDGE_STEPS": 2}
    for name, count in few.items():
        monkeypatch.setattr(f"pwff_core.{name}", count)
    return with_changes(whole, {"reward.encoder": small_encoder})


class Clock:
    """Tells what it is told; by it a checkpoint's file takes a second. All checkpoints stay."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(checkpointer, "save_file", self.save_file)
        monkeypatch.setattr(checkpointer, "KEPT", 100)

    def __call__(self) -> float:
        return self.now

    def save_file(self, state: dict[str, torch.Tensor], path: Path) -> None:
        self.now += 1.0
        save_file(state, path)


def rounds(federation: Federation, past: Sequence[RoundRecord] = ()) -> Iterator[RoundRecord]:
    """The rounds after `past`, steered as if by a page, and without the seconds that they took."""
    records, position = play(federation, past), len(past)
    while position < federation.rounds_total:
        position += 1
        if position == STEERED:
            steer(federation, CHANGES)
        yield next(records).model_copy(update={"wall_s": 0.0})


def tensors(federation: Federation) -> dict[str, torch.Tensor]:
    """All that is kept of the run's models, by name."""
    saved = federation.saved_models()
    stacks = {"before": saved.before or {}, "after": saved.after}
    flat = {
        f"{when}/{name}": tensor
        for when, groups in stacks.items()
        for named in groups.values()
        for name, tensor in named.items()
    }
    return flat | dict(saved.judge)


def same(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> bool:
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def broken_off(config: RunConfig, store: Path, cohort_size: int | None = None) -> tuple[list[RoundRecord], Federation]:
    """A whole run whose checkpoints are all kept, in the folder of that name."""
    federation = Federation(config, RUN, cohort_size)
    keeper = Keeper(RunFiles(store).checkpoints(RUN), config.checkpoint_every, share=ALL)
    records = []
    with mock.patch.object(checkpointer, "KEPT", 100):
        for record in rounds(federation):
            records.append(record)
            keeper.keep(federation, record, len(records))
        keeper.finish(finished=False)
    assert keeper.trouble == ""
    return records, federation


def check_every_resume(config: RunConfig, store: Path, positions: Sequence[int], cohort_size: int | None) -> None:
    """Goes on after each of `positions`, with the later checkpoints hidden."""
    records, federation = broken_off(config, store, cohort_size)
    for position in positions:
        again = Federation(config, RUN, cohort_size)
        assert restored(again, store, RUN, records[:position]) == position
        assert [*rounds(again, records[:position])] == records[position:]
        assert same(tensors(again), tensors(federation))
        assert again.config == federation.config
        assert again.profiles == federation.profiles


def test_after_any_round(whole: RunConfig, tmp_path: Path) -> None:
    config = with_changes(whole, {"channel.deadline_s": 3.0})  # some uploads are lost
    store = tmp_path / "runs.sqlite"
    check_every_resume(config, store, range(1, 7), None)
    assert [mark.position for mark in list_checkpoints(store, RUN)] == [1, 2, 3, 4, 5, 6]
    assert [mark.stage_end != "" for mark in list_checkpoints(store, RUN)] == [False, True] * 3


# one model for all; nothing averaged; one reward model; LoRA averaged
@pytest.mark.parametrize("method", ["centralised", "local", "sfl", "fedlora"])
def test_with_any_method(whole: RunConfig, tmp_path: Path, method: str) -> None:
    positions = (3, 5) if METHODS[method].rewards else (1,)
    check_every_resume(with_changes(whole, {"method": method}), tmp_path / "runs.sqlite", positions, None)


def test_with_clients_in_several_stacks(whole: RunConfig, tmp_path: Path) -> None:
    check_every_resume(whole, tmp_path / "runs.sqlite", (3, 5), 2)


def test_with_encoders_that_are_trained(whole: RunConfig, tmp_path: Path) -> None:
    config = with_changes(whole, {"reward.trainable": "all", "reward.train_pairs": 2, "alignment.critic_warmup": 1})
    check_every_resume(config, tmp_path / "runs.sqlite", (5,), None)


def test_after_a_stage_that_ended_early(whole: RunConfig, tmp_path: Path) -> None:
    config = with_changes(whole, {"instruction.patience": 1, "instruction.rounds": 9, "instruction.learning_rate": 1.0})
    records, federation = broken_off(config, tmp_path / "runs.sqlite")
    ended = next(at for at, record in enumerate(records, start=1) if record.stage_end)
    assert ended < 9
    again = prepare(config, RUN)
    assert restored(again, tmp_path / "runs.sqlite", RUN, records[: ended + 1]) == ended + 1
    assert again.rounds_total == federation.rounds_total
    assert [*rounds(again, records[: ended + 1])] == records[ended + 1 :]


@pytest.fixture
def kept(config: RunConfig, tmp_path: Path) -> Kept:
    """Four rounds of instruction tuning, every checkpoint of them."""
    config, store = with_changes(config, {"instruction.rounds": 4}), tmp_path / "runs.sqlite"
    return config, store, broken_off(config, store)[0]


def test_a_damaged_checkpoint_gives_way_to_the_one_before(kept: Kept) -> None:
    config, store, records = kept
    damages = {4: lambda path: path.write_bytes(path.read_bytes()[:-9]), 3: _flip_a_bit, 2: lambda path: path.unlink()}
    for position, damage in damages.items():
        damage(folder_of(RunFiles(store).checkpoints(RUN), position) / STATE)
        again = prepare(config, RUN)
        assert restored(again, store, RUN, records) == position - 1
        assert f"after round {position}" in again.notes[-1]
    (folder_of(RunFiles(store).checkpoints(RUN), 1) / HEAD).write_text("{}", encoding="utf-8")
    assert restored(prepare(config, RUN), store, RUN, records) == 0  # from the start, then
    assert list_checkpoints(store, RUN) == []  # what is damaged was taken away: nobody is to fork from there


def _flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def test_only_a_checkpoint_of_these_rounds_and_settings_is_used(kept: Kept) -> None:
    config, store, records = kept
    assert restored(prepare(config, RUN), store, RUN, records[:3]) == 3  # the fourth was not written to the store
    for changes in ({"seed": 1}, {"instruction.batch_size": 1}, {"instruction.rounds": 5}):
        assert restored(prepare(with_changes(config, changes), RUN), store, RUN, records) == 0
    assert restored(prepare(with_changes(config, {"checkpoint_every": 7}), RUN), store, RUN, records) == 4
    other = [record.model_copy(update={"stage_end": "earlier"}) for record in records]
    assert restored(prepare(config, RUN), store, RUN, other) == 0


def test_another_computer_is_told_of(kept: Kept) -> None:
    config, store, records = kept
    threads = torch.get_num_threads()
    again = prepare(config, RUN)
    torch.set_num_threads(threads + 1)
    try:
        assert restored(again, store, RUN, records) == 4
    finally:
        torch.set_num_threads(threads)
    assert f"threads {threads} → {threads + 1}" in again.notes[-1]
    unchanged = prepare(config, RUN)
    notes = unchanged.notes
    restored(unchanged, store, RUN, records)
    assert unchanged.notes == notes


def test_the_last_two_and_the_stages_ends_stay(whole: RunConfig, tmp_path: Path) -> None:
    config = with_changes(whole, {"instruction.rounds": 3, "reward.rounds": 3, "alignment.rounds": 3})
    store, federation, position = tmp_path / "runs.sqlite", prepare(config, RUN), 0
    keeper = Keeper(RunFiles(store).checkpoints(RUN), 1, share=ALL)
    found = []
    for position, record in enumerate(rounds(federation), start=1):
        keeper.keep(federation, record, position)
        keeper.wait()
        found.append([mark.position for mark in list_checkpoints(store, RUN)])
    assert found == [[1], [1, 2], [2, 3], [3, 4], [3, 4, 5], [3, 5, 6], [3, 6, 7], [3, 6, 7, 8], [3, 6, 8, 9]]
    sizes = {mark.position: mark.size for mark in list_checkpoints(store, RUN)}
    assert all((folder_of(RunFiles(store).checkpoints(RUN), at) / STATE).stat().st_size == sizes[at] for at in sizes)
    assert sizes[3] < sizes[8] / 2  # no moments
    keeper.finish(finished=True)
    assert [mark.position for mark in list_checkpoints(store, RUN)] == [3, 6]


def test_every_so_many_rounds_and_at_the_end_of_a_stage(config: RunConfig, tmp_path: Path) -> None:
    config = with_changes(config, {"instruction.rounds": 5, "checkpoint_every": 2})
    broken_off(config, tmp_path / "runs.sqlite")
    assert [mark.position for mark in list_checkpoints(tmp_path / "runs.sqlite", RUN)] == [2, 4, 5]
    forget(tmp_path / "runs.sqlite", RUN)
    broken_off(with_changes(config, {"checkpoint_every": 0}), tmp_path / "runs.sqlite")
    assert list_checkpoints(tmp_path / "runs.sqlite", RUN) == []


def test_within_a_stage_they_take_a_25th_of_the_time_however_short_rounds_are(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, store, clock = (
        with_changes(config, {"instruction.rounds": 13}),
        tmp_path / "runs.sqlite",
        Clock(monkeypatch),
    )
    federation, records = prepare(config, RUN), []
    keeper = Keeper(RunFiles(store).checkpoints(RUN), 1, clock=clock)
    for position, record in enumerate(rounds(federation), start=1):
        records.append(record)
        clock.now = 5.0 * position
        keeper.keep(federation, record, position)
        keeper.wait()
    # one of a second at 5 s, the next at 30 s, and the stage's end
    assert [mark.position for mark in list_checkpoints(store, RUN)] == [1, 6, 11, 13]
    assert {mark.write_s for mark in list_checkpoints(store, RUN)} == {1.0}
    again = prepare(config, RUN)
    assert restored(again, store, RUN, records[:9]) == 6  # rounds 7 to 9 are played again
    assert [*rounds(again, records[:6])] == records[6:]


def test_training_does_not_wait_for_a_slow_disk_within_a_stage(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, store, clock = with_changes(config, {"instruction.rounds": 6}), tmp_path / "runs.sqlite", Clock(monkeypatch)
    federation, begun, goes_on = prepare(config, RUN), Event(), Event()
    monkeypatch.setattr(checkpointer, "sync", lambda path: begun.set() or goes_on.wait())
    keeper, following = Keeper(RunFiles(store).checkpoints(RUN), 1, clock=clock), rounds(federation)

    def keep(position: int, now: float) -> None:
        clock.now = now
        keeper.keep(federation, next(following), position)

    keep(1, 0.0)
    begun.wait()
    keep(2, 99.0)  # comes back, while the first is being written
    clock.now = 100.0
    goes_on.set()
    keeper.wait()
    keep(3, 101.0)
    keep(4, 2499.0)
    keep(5, 2500.0)  # 25 times 100 s after the first began
    keeper.wait()
    assert [mark.position for mark in list_checkpoints(store, RUN)] == [1, 5]


def test_a_full_disk_ends_no_run(config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    federation, folder = prepare(config, RUN), RunFiles(tmp_path / "runs.sqlite").checkpoints(RUN)
    keeper = Keeper(folder, 1, share=ALL)
    records = rounds(federation)
    keeper.keep(federation, next(records), 1)
    keeper.wait()
    monkeypatch.setattr("shutil.disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, 10**6))
    keeper.keep(federation, next(records), 2)
    keeper.finish(finished=False)
    assert keeper.trouble == (
        f"No checkpoint could be written after round 2 (it takes {_megabytes(federation)} MB, and the disk has 1 MB "
        "left)."
    )
    assert [path.name for path in folder.iterdir()] == ["00001"]  # nothing half-written, and the one before is kept


def _megabytes(federation: Federation) -> str:
    parameters = [tensor for cohort in federation.clients.cohorts for tensor in cohort.parameters()]
    moments = sum(2 * tensor.nbytes + 4 for tensor in parameters)  # and a step count
    return f"{(sum(tensor.nbytes for tensor in parameters) + moments) / 1e6:,.0f}"


def test_what_a_killed_writer_left_is_no_checkpoint(kept: Kept) -> None:
    config, store, records = kept
    folder = RunFiles(store).checkpoints(RUN)
    folder_of(folder, 4).rename(folder / "00004.new")
    assert [mark.position for mark in list_checkpoints(store, RUN)] == [1, 2, 3]
    assert restored(prepare(config, RUN), store, RUN, records) == 3
    Keeper(folder, 1)
    assert not (folder / "00004.new").exists()


def test_a_fork_has_its_parents_checkpoint(kept: Kept) -> None:
    config, store, records = kept
    hand_over(store, RUN, 2, "child234")
    forget(store, RUN)
    assert list_checkpoints(store, RUN) == []
    again = prepare(config, "child234")
    assert restored(again, store, "child234", records[:2]) == 2
    mine = [record.model_copy(update={"run": "child234"}) for record in records]
    assert [*rounds(again, mine[:2])] == mine[2:]
