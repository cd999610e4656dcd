"""Checkpoints: all that a run needs to continue after a round, written to disk and restored from there.

A run's state between two rounds is tensors: its policies, and the `state` of its stage. All else follows from the
settings and the round's number: data order, channel gains and samples are drawn from the seed, a name and the round.
So a run that is restored from a checkpoint plays the same rounds as an uninterrupted one.

Training waits only for a copy in memory; a thread writes it. `runs.checkpoints` says where the files lie and which
checkpoints are complete.

Within a stage checkpoints may take a 25th of the time. Where rounds are so short that one after each would take more,
some rounds have none, and a resumed run plays these again. The results never depend on which rounds have one.
"""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from threading import Event, Thread

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from pwff_core.config import STEERABLE, RunConfig
from pwff_core.engine.federation import steer
from pwff_core.engine.setup import Federation
from pwff_core.engine.stages.state import State, fill, policies, prefixed, stacked, under
from pwff_core.errors import ModelError
from pwff_core.knobs import knobs
from pwff_core.paths import sync
from pwff_core.records import RoundRecord
from pwff_core.runs.checkpoints import (
    INFO_FILE,
    TENSORS_FILE,
    CheckpointInfo,
    complete_folders,
    folder_of,
    list_checkpoints,
    list_checkpoints_in,
)
from pwff_core.runs.recording import versions
from pwff_core.runs.run_files import RunFiles

KEPT = 2  # the newest ones; those at stages' ends are kept too
RESERVE = 64 * 2**20  # bytes of the disk that are left for the rounds' records, which matter more
SHARE = 0.04  # of the time; with the checkpoint at its end, a stage that lasts gives less than 5 % to them


class Checkpointer:
    """Writes a run's checkpoints, and removes those that are no longer needed.

    A checkpoint is due after every `every`-th round and at a stage's end; never if `every` is 0. Within a stage it is
    skipped while the last one has taken more than `share` of the time since that one began; its copy, its writing and
    its tidying up count. The first of a process and those at stages' ends are always written; so are all that are due
    if `share` is 1. The `kept` newest ones stay, and those at stages' ends. `clock` tells seconds.
    """

    def __init__(
        self,
        folder: Path,
        every: int,
        *,
        share: float = SHARE,
        kept: int = KEPT,
        clock: Callable[[], float] = time.perf_counter,
        save_tensors: Callable[[State, Path], None] = save_file,
    ) -> None:
        self.trouble = ""  # why the last checkpoint could not be written; "" once one was
        self._folder, self._every, self._share, self._kept = folder, every, share, kept
        self._clock, self._save_tensors = clock, save_tensors
        self._begun = self._ended = clock()  # of the last checkpoint; before the first, one that took no time
        self._queue: SimpleQueue[tuple[State, CheckpointInfo] | None] = SimpleQueue()
        self._idle, self._given_up = Event(), Event()
        self._idle.set()
        # started now, while there is memory for it; as a daemon, so that a process can end without a slow disk
        Thread(target=self._write_all, daemon=True).start()
        for left_behind in (*folder.glob("*.new"), *folder.glob("*.old")):
            shutil.rmtree(left_behind, ignore_errors=True)

    def save(self, federation: Federation, record: RoundRecord, position: int) -> None:
        """Writes the run's state after `record`, round number `position` over all stages, if a checkpoint is due.

        Returns as soon as the former checkpoint is written and there is a copy in memory.
        """
        if not self._is_due(record, position):
            return
        begun = self._clock()
        self.wait()
        self._begun = begun
        try:
            tensors = {name: tensor.detach().to("cpu") for name, tensor in state_of(federation, record).items()}
        except (MemoryError, RuntimeError):  # torch raises either
            self.trouble = _trouble(position, "there is no memory for a copy")
            self._ended = self._clock()
            return
        info = CheckpointInfo(
            position=position,
            stage=record.stage,
            round=record.round,
            stage_end=record.stage_end,
            config=federation.config,
            size=0,
            digest="",
            snapshot_s=self._clock() - begun,
            write_s=0.0,
            written_at=0.0,
            made_with=made_with(federation),
        )
        self._idle.clear()
        self._queue.put((tensors, info))

    def wait(self) -> None:
        """Waits until the last checkpoint is written."""
        self._idle.wait()

    def finish(self, finished: bool) -> None:
        """The run has ended. If it has `finished`, only the checkpoints at the ends of former stages stay."""
        self.wait()
        self._queue.put(None)
        if finished and self._every:
            checkpoints = list_checkpoints_in(self._folder)
            self._remove_all_but({info.position for info in checkpoints[:-1] if info.stage_end})

    def discard(self) -> None:
        """Nothing more is written; a checkpoint that is being written never becomes complete."""
        self._given_up.set()

    def _is_due(self, record: RoundRecord, position: int) -> bool:
        if not self._every or record.stage_end:
            return self._every > 0
        now = self._clock()
        duration = (self._ended if self._idle.is_set() else now) - self._begun
        return position % self._every == 0 and now - self._begun >= duration / self._share

    def _write_all(self) -> None:
        """The thread: one checkpoint after another."""
        while queued := self._queue.get():
            self._write(*queued)
            self._ended = self._clock()
            self._idle.set()

    def _write(self, tensors: Mapping[str, Tensor], info: CheckpointInfo) -> None:
        begun, target = self._clock(), folder_of(self._folder, info.position)
        fresh = target.with_name(f"{target.name}.new")
        try:
            _remove(target)  # a resumed run plays the round again
            fresh.mkdir(parents=True)
            size, free = sum(tensor.nbytes for tensor in tensors.values()), shutil.disk_usage(fresh).free
            if size + RESERVE > free:
                raise OSError(f"it takes {size / 1e6:,.0f} MB, and the disk has {free / 1e6:,.0f} MB left")
            self._save_tensors(dict(tensors), fresh / TENSORS_FILE)
            sync(fresh / TENSORS_FILE)
            written = {
                "size": (fresh / TENSORS_FILE).stat().st_size,
                "digest": _digest(fresh / TENSORS_FILE),
                "write_s": self._clock() - begun,
                "written_at": time.time(),
            }
            (fresh / INFO_FILE).write_text(info.model_copy(update=written).model_dump_json(indent=1), encoding="utf-8")
            sync(fresh / INFO_FILE)
            sync(fresh)
            if self._given_up.is_set():
                raise OSError("the run has ended")
            fresh.rename(target)
            sync(self._folder)
        except Exception as error:  # whatever it is, the run continues, and must not wait for this thread for ever
            shutil.rmtree(fresh, ignore_errors=True)
            self.trouble = _trouble(info.position, str(getattr(error, "strerror", None) or error or "no memory"))
            return
        self.trouble = ""
        checkpoints = list_checkpoints_in(self._folder)
        at_stage_ends = {other.position for other in checkpoints if other.stage_end}
        self._remove_all_but({other.position for other in checkpoints[-self._kept :]} | at_stage_ends)

    def _remove_all_but(self, positions: set[int]) -> None:
        kept = {folder_of(self._folder, position) for position in positions}
        for folder in complete_folders(self._folder):
            if folder not in kept:
                _remove(folder)


def state_of(federation: Federation, last: RoundRecord) -> State:
    """All tensors that the run needs to continue after its round `last`, as copies.

    At a stage's end they are without the moments of its optimisers: the next stage has optimisers of its own.
    """
    state = prefixed("policy", stacked(policies(federation.clients.cohorts)))
    aligning = federation.alignment is not None
    if last.stage_end and not aligning:
        return state
    stage = federation.stage("alignment" if aligning else last.stage)
    state_of_stage = {
        name: tensor for name, tensor in stage.state().items() if not (last.stage_end and "optimiser/" in name)
    }
    return state | prefixed("stage", state_of_stage)


def restore(federation: Federation, store_path: Path, run_id: str, records: Sequence[RoundRecord]) -> int:
    """Sets a freshly prepared federation to the newest checkpoint within `records`, the rounds of its run.

    Returns how many rounds that checkpoint has behind it; 0, and the federation unchanged, if there is none that fits.
    Where it was made with other versions or on another processor, the federation gets a note that says so.
    """
    for info in reversed(list_checkpoints(store_path, run_id)):
        if not _fits(info, federation.config, records):
            continue
        folder = folder_of(RunFiles(store_path).checkpoints(run_id), info.position)
        try:
            state = _read(folder, info)
        except ModelError as error:
            federation.notes += (str(error),)
            _remove(folder)  # so that no run is forked from it; it is written anew when the round is played again
            continue
        _load_state(federation, state, records[: info.position])
        then, now = knobs(info.config), knobs(federation.config)
        steer(
            federation,
            {path: knob.value for path, knob in then.items() if path in STEERABLE and knob.value != now[path].value},
        )
        if note := _difference_note(info.made_with, made_with(federation)):
            federation.notes += (note,)
        return info.position
    return 0


def made_with(federation: Federation) -> dict[str, str]:
    """What affects the last digits of a run beside its settings."""
    backbone = federation.clients.backbone
    return versions() | {
        "device": str(backbone.device),
        "format": str(backbone.dtype).removeprefix("torch."),
        "processor": torch.backends.cpu.get_cpu_capability(),
        "threads": str(torch.get_num_threads()),
    }


def _fits(info: CheckpointInfo, config: RunConfig, records: Sequence[RoundRecord]) -> bool:
    """Whether a checkpoint was made with these settings, after one of these rounds."""
    if not 0 < info.position <= len(records):
        return False
    last = records[info.position - 1]
    now, then = knobs(config), knobs(info.config)
    may_differ = {*STEERABLE, "preferences.harmlessness_weights", "checkpoint_every"}
    return (last.stage, last.round, last.stage_end) == (info.stage, info.round, info.stage_end) and all(
        now[path].value == then[path].value for path in now if path not in may_differ
    )


def _load_state(federation: Federation, state: State, records: Sequence[RoundRecord]) -> None:
    cohorts, last = policies(federation.clients.cohorts), records[-1]
    for record in records:
        if record.stage_end:
            federation.rounds[record.stage] = record.round
    state_of_stage = under("stage", state)
    try:
        if reference := under("reference", state_of_stage):
            fill(cohorts, reference)
            federation.restore_alignment(under("rewards", state_of_stage), under("judge", state_of_stage))
        fill(cohorts, under("policy", state))
    except ValueError as error:
        raise ModelError(
            f"The checkpoint after {len(records)} rounds does not fit the backbone {federation.config.backbone} "
            f"({error}): it has changed since. Bring the former one back, or start a new run."
        ) from None
    if state_of_stage:
        federation.stage("alignment" if reference else last.stage).load_state(state_of_stage)


def _read(folder: Path, info: CheckpointInfo) -> State:
    """A checkpoint's tensors. ModelError if they differ from those that were written, or cannot be read."""
    try:
        if _digest(folder / TENSORS_FILE) != info.digest:
            raise ModelError(f"The checkpoint after round {info.position} is damaged; an earlier one is used.")
        return load_file(folder / TENSORS_FILE)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ModelError(
            f"The checkpoint after round {info.position} cannot be read ({reason}); an earlier one is used."
        ) from None


def _trouble(position: int, reason: str) -> str:
    return f"No checkpoint could be written after round {position} ({reason})."


def _difference_note(then: Mapping[str, str], now: Mapping[str, str]) -> str:
    changed = [f"{name} {then.get(name, 'none')} → {value}" for name, value in now.items() if then.get(name) != value]
    if not changed:
        return ""
    return (
        f"Resumed with {', '.join(changed)}: rounds from here may differ in their last digits from an unbroken run's."
    )


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()


def _remove(folder: Path) -> None:
    """Removes a checkpoint by one renaming first, so that a half-removed one is never taken for complete."""
    old = folder.with_name(f"{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    with suppress(OSError):
        folder.rename(old)
    shutil.rmtree(old, ignore_errors=True)
