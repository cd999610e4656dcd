"""A run that is restored from a checkpoint equals an uninterrupted one, to the last bit."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from threading import Event
from typing import TypeAlias

import pytest
import torch
from safetensors.torch import save_file

from pwff_core.config import RunConfig
from pwff_core.engine.checkpointer import Checkpointer, restore
from pwff_core.engine.federation import play, steer
from pwff_core.engine.setup import Federation, prepare
from pwff_core.knobs import with_changes
from pwff_core.methods import METHODS
from pwff_core.records import RoundRecord
from pwff_core.runs.checkpoints import (
    INFO_FILE,
    TENSORS_FILE,
    delete_checkpoints,
    folder_of,
    hand_over,
    list_checkpoints,
)
from pwff_core.runs.run_files import RunFiles
from tests.support.encoders import family_folder

Saved: TypeAlias = tuple[RunConfig, Path, list[RoundRecord]]
RUN = "abcd2345"
ALL = 1.0  # of the time may go to checkpoints, so that none is skipped
PROMPTS = 45  # a third for the judge, ten for each client
STEERED = 2  # the round, over all stages, before which settings change
CHANGES = {"channel.snr_db": -8.0, "preferences.helpfulness_weights": (0.0, 0.5, 1.0)}


@pytest.fixture(scope="module")
def small_encoder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(family_folder(tmp_path_factory.mktemp("small-encoder"), "roberta", context=128))


@pytest.fixture(scope="module")
def few_pairs(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A file of preference pairs: so few that the judge, which is not under test here, learns fast."""
    rows = [
        {"prompt": f"say {n}", "chosen": f"{n}, as you ask", "rejected": "no" * (1 + n % 3)} for n in range(PROMPTS)
    ]
    path = tmp_path_factory.mktemp("pairs") / "pairs.json"
    path.write_text(json.dumps(rows), encoding="utf-8")
    return str(path)


@pytest.fixture
def whole(whole: RunConfig, small_encoder: str, few_pairs: str) -> RunConfig:
    """All three stages, with a small encoder and few preference pairs."""
    sources = {"reward.helpful_source": few_pairs, "reward.harmless_source": few_pairs}
    return with_changes(whole, {"reward.encoder": small_encoder, **sources})


class Clock:
    """A clock that a test sets; by it, writing a checkpoint's file takes a second."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def save_file(self, state: dict[str, torch.Tensor], path: Path) -> None:
        self.now += 1.0
        save_file(state, path)


def rounds(federation: Federation, past: Sequence[RoundRecord] = ()) -> Iterator[RoundRecord]:
    """The rounds after `past`, steered on the way, without the seconds that they took."""
    records, position = play(federation, past), len(past)
    while position < federation.rounds_total:
        position += 1
        if position == STEERED:
            steer(federation, CHANGES)
        yield next(records).model_copy(update={"wall_s": 0.0})


def tensors(federation: Federation) -> dict[str, torch.Tensor]:
    """All tensors of the run's saved models, by name."""
    saved = federation.saved_models()
    stacks = {"before": saved.before or {}, "after": saved.after}
    flat = {
        f"{when}/{name}": tensor
        for when, groups in stacks.items()
        for named in groups.values()
        for name, tensor in named.items()
    }
    return flat | dict(saved.judge)


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def play_all(config: RunConfig, store: Path, cohort_size: int | None = None) -> tuple[list[RoundRecord], Federation]:
    """The records of a whole run, all of whose checkpoints stay."""
    federation = Federation(config, RUN, cohort_size)
    folder, every = RunFiles(store).checkpoints(RUN), config.checkpoint_every
    checkpointer = Checkpointer(folder, every, share=ALL, kept=100)
    records = []
    for record in rounds(federation):
        records.append(record)
        checkpointer.save(federation, record, len(records))
    checkpointer.finish(finished=False)
    assert checkpointer.trouble == ""
    return records, federation


def check_every_resume(config: RunConfig, store: Path, positions: Sequence[int], cohort_size: int | None) -> None:
    """Resumes after each of `positions`, with the later checkpoints hidden."""
    records, federation = play_all(config, store, cohort_size)
    for position in positions:
        again = Federation(config, RUN, cohort_size)
        assert restore(again, store, RUN, records[:position]) == position
        assert [*rounds(again, records[:position])] == records[position:]
        assert same(tensors(again), tensors(federation))
        assert again.config == federation.config
        assert again.profiles == federation.profiles


def test_after_any_round(whole: RunConfig, tmp_path: Path) -> None:
    config = with_changes(whole, {"channel.deadline_s": 3.0})  # some uploads are lost
    store = tmp_path / "runs.sqlite"
    check_every_resume(config, store, range(1, 7), None)
    assert [info.position for info in list_checkpoints(store, RUN)] == [1, 2, 3, 4, 5, 6]
    assert [info.stage_end != "" for info in list_checkpoints(store, RUN)] == [False, True] * 3


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
    records, federation = play_all(config, tmp_path / "runs.sqlite")
    ended = next(at for at, record in enumerate(records, start=1) if record.stage_end)
    assert ended < 9
    again = prepare(config, RUN)
    assert restore(again, tmp_path / "runs.sqlite", RUN, records[: ended + 1]) == ended + 1
    assert again.rounds_total == federation.rounds_total
    assert [*rounds(again, records[: ended + 1])] == records[ended + 1 :]


@pytest.fixture
def saved_run(config: RunConfig, tmp_path: Path) -> Saved:
    """Four rounds of instruction tuning, and the checkpoint of each."""
    config, store = with_changes(config, {"instruction.rounds": 4}), tmp_path / "runs.sqlite"
    return config, store, play_all(config, store)[0]


def test_a_damaged_checkpoint_gives_way_to_the_one_before(saved_run: Saved) -> None:
    config, store, records = saved_run
    damages = {4: lambda path: path.write_bytes(path.read_bytes()[:-9]), 3: _flip_a_bit, 2: lambda path: path.unlink()}
    for position, damage in damages.items():
        damage(folder_of(RunFiles(store).checkpoints(RUN), position) / TENSORS_FILE)
        again = prepare(config, RUN)
        assert restore(again, store, RUN, records) == position - 1
        assert f"after round {position}" in again.notes[-1]
    (folder_of(RunFiles(store).checkpoints(RUN), 1) / INFO_FILE).write_text("{}", encoding="utf-8")
    assert restore(prepare(config, RUN), store, RUN, records) == 0  # so from the start
    assert list_checkpoints(store, RUN) == []  # damaged ones are removed, so that nobody forks from them


def _flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def test_only_a_checkpoint_of_these_rounds_and_settings_is_used(saved_run: Saved) -> None:
    config, store, records = saved_run
    assert restore(prepare(config, RUN), store, RUN, records[:3]) == 3  # the fourth was not written to the store
    for changes in ({"seed": 1}, {"instruction.batch_size": 1}, {"instruction.rounds": 5}):
        assert restore(prepare(with_changes(config, changes), RUN), store, RUN, records) == 0
    assert restore(prepare(with_changes(config, {"checkpoint_every": 7}), RUN), store, RUN, records) == 4
    other = [record.model_copy(update={"stage_end": "earlier"}) for record in records]
    assert restore(prepare(config, RUN), store, RUN, other) == 0


def test_a_note_says_that_the_computer_differs(saved_run: Saved) -> None:
    config, store, records = saved_run
    threads = torch.get_num_threads()
    again = prepare(config, RUN)
    torch.set_num_threads(threads + 1)
    try:
        assert restore(again, store, RUN, records) == 4
    finally:
        torch.set_num_threads(threads)
    assert f"threads {threads} → {threads + 1}" in again.notes[-1]
    unchanged = prepare(config, RUN)
    notes = unchanged.notes
    restore(unchanged, store, RUN, records)
    assert unchanged.notes == notes


def test_the_last_two_and_the_stages_ends_stay(whole: RunConfig, tmp_path: Path) -> None:
    config = with_changes(whole, {"instruction.rounds": 3, "reward.rounds": 3, "alignment.rounds": 3})
    store, federation, position = tmp_path / "runs.sqlite", prepare(config, RUN), 0
    checkpointer = Checkpointer(RunFiles(store).checkpoints(RUN), 1, share=ALL)
    positions = []
    for position, record in enumerate(rounds(federation), start=1):
        checkpointer.save(federation, record, position)
        checkpointer.wait()
        positions.append([info.position for info in list_checkpoints(store, RUN)])
    assert positions == [[1], [1, 2], [2, 3], [3, 4], [3, 4, 5], [3, 5, 6], [3, 6, 7], [3, 6, 7, 8], [3, 6, 8, 9]]
    sizes = {info.position: info.size for info in list_checkpoints(store, RUN)}
    assert all(
        (folder_of(RunFiles(store).checkpoints(RUN), at) / TENSORS_FILE).stat().st_size == sizes[at] for at in sizes
    )
    assert sizes[3] < sizes[8] / 2  # no moments
    checkpointer.finish(finished=True)
    assert [info.position for info in list_checkpoints(store, RUN)] == [3, 6]


def test_every_so_many_rounds_and_at_the_end_of_a_stage(config: RunConfig, tmp_path: Path) -> None:
    config = with_changes(config, {"instruction.rounds": 5, "checkpoint_every": 2})
    play_all(config, tmp_path / "runs.sqlite")
    assert [info.position for info in list_checkpoints(tmp_path / "runs.sqlite", RUN)] == [2, 4, 5]
    delete_checkpoints(tmp_path / "runs.sqlite", RUN)
    play_all(with_changes(config, {"checkpoint_every": 0}), tmp_path / "runs.sqlite")
    assert list_checkpoints(tmp_path / "runs.sqlite", RUN) == []


def test_within_a_stage_they_take_a_25th_of_the_time_however_short_rounds_are(
    config: RunConfig, tmp_path: Path
) -> None:
    config, store, clock = with_changes(config, {"instruction.rounds": 13}), tmp_path / "runs.sqlite", Clock()
    federation, records = prepare(config, RUN), []
    checkpointer = Checkpointer(
        RunFiles(store).checkpoints(RUN), 1, kept=100, clock=clock, save_tensors=clock.save_file
    )
    for position, record in enumerate(rounds(federation), start=1):
        records.append(record)
        clock.now = 5.0 * position
        checkpointer.save(federation, record, position)
        checkpointer.wait()
    # one of a second at 5 s, the next at 30 s, and the stage's end
    assert [info.position for info in list_checkpoints(store, RUN)] == [1, 6, 11, 13]
    assert {info.write_s for info in list_checkpoints(store, RUN)} == {1.0}
    again = prepare(config, RUN)
    assert restore(again, store, RUN, records[:9]) == 6  # rounds 7 to 9 are played again
    assert [*rounds(again, records[:6])] == records[6:]


def test_training_does_not_wait_for_a_slow_disk_within_a_stage(config: RunConfig, tmp_path: Path) -> None:
    config, store, clock = with_changes(config, {"instruction.rounds": 6}), tmp_path / "runs.sqlite", Clock()
    federation, begun, disk_ready = prepare(config, RUN), Event(), Event()

    def save_slowly(state: dict[str, torch.Tensor], path: Path) -> None:
        clock.save_file(state, path)
        begun.set()
        disk_ready.wait()

    folder, following = RunFiles(store).checkpoints(RUN), rounds(federation)
    checkpointer = Checkpointer(folder, 1, kept=100, clock=clock, save_tensors=save_slowly)

    def save(position: int, now: float) -> None:
        clock.now = now
        checkpointer.save(federation, next(following), position)

    save(1, 0.0)
    begun.wait()
    save(2, 99.0)  # returns while the first is being written
    clock.now = 100.0
    disk_ready.set()
    checkpointer.wait()
    save(3, 101.0)
    save(4, 2499.0)
    save(5, 2500.0)  # 25 times 100 s after the first began
    checkpointer.wait()
    assert [info.position for info in list_checkpoints(store, RUN)] == [1, 5]


def test_a_full_disk_ends_no_run(config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    federation, folder = prepare(config, RUN), RunFiles(tmp_path / "runs.sqlite").checkpoints(RUN)
    checkpointer = Checkpointer(folder, 1, share=ALL)
    records = rounds(federation)
    checkpointer.save(federation, next(records), 1)
    checkpointer.wait()
    monkeypatch.setattr("shutil.disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, 10**6))
    checkpointer.save(federation, next(records), 2)
    checkpointer.finish(finished=False)
    assert checkpointer.trouble == (
        f"No checkpoint could be written after round 2 (it takes {_megabytes(federation)} MB, and the disk has 1 MB "
        "left)."
    )
    assert [path.name for path in folder.iterdir()] == ["00001"]  # nothing half-written, and the one before is kept


def _megabytes(federation: Federation) -> str:
    parameters = [tensor for cohort in federation.clients.cohorts for tensor in cohort.parameters()]
    moments = sum(2 * tensor.nbytes + 4 for tensor in parameters)  # and a step count
    return f"{(sum(tensor.nbytes for tensor in parameters) + moments) / 1e6:,.0f}"


def test_what_a_killed_writer_left_is_no_checkpoint(saved_run: Saved) -> None:
    config, store, records = saved_run
    folder = RunFiles(store).checkpoints(RUN)
    folder_of(folder, 4).rename(folder / "00004.new")
    assert [info.position for info in list_checkpoints(store, RUN)] == [1, 2, 3]
    assert restore(prepare(config, RUN), store, RUN, records) == 3
    Checkpointer(folder, 1)
    assert not (folder / "00004.new").exists()


def test_a_fork_starts_from_its_parents_checkpoint(saved_run: Saved) -> None:
    config, store, records = saved_run
    hand_over(store, RUN, 2, "child234")
    delete_checkpoints(store, RUN)
    assert list_checkpoints(store, RUN) == []
    again = prepare(config, "child234")
    assert restore(again, store, "child234", records[:2]) == 2
    forked = [record.model_copy(update={"run": "child234"}) for record in records]
    assert [*rounds(again, forked[:2])] == forked[2:]
