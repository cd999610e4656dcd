"""Checkpoints: all that a run needs to go on after a round, and a run set up as it was then.

What a run remembers between two rounds are tensors: its policies and what its stage knows (`state` of the stage). The
rest is settings and the round's number: data order, channel gains and samples are drawn from the seed, a name and the
round. So a run that goes on from a checkpoint plays the rounds that it would have played.

Training waits for a copy in memory alone; a thread writes it. `marks` says where files lie and which are complete.

Within a stage they may take a 25th of the time. Where rounds are so short that one after each would take more,
some have none, and a run that is resumed plays those again. What comes out never depends on which rounds have one.
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
    HEAD,
    STATE,
    CheckpointInfo,
    complete,
    folder_of,
    list_checkpoints,
    list_checkpoints_in,
)
from pwff_core.runs.recording import versions
from pwff_core.runs.run_files import RunFiles

KEPT = 2  # the last ones; beside them, those at the stages' ends
RESERVE = 64 * 2**20  # bytes of the disk that are left to the rounds, which matter more
SHARE = 0.04  # of the time, for checkpoints within a stage; with the one at its end, less than 5 % where it lasts


class Keeper:
    """Writes a run's checkpoints, and removes those that are no longer needed.

    One is due after `every` so many rounds, and at a stage's end; never if `every` is 0. Within a stage it is left out
    until the last one's time, from its copy until all is written and tidied up, is at most this `share` of what has
    passed since that began. The first of a process and those at stages' ends are written whatever they take; with a
    share of 1, all that are due are. `clock` tells seconds.
    """

    def __init__(
        self, folder: Path, every: int, *, share: float = SHARE, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self.trouble = ""  # why the last checkpoint could not be written; "" once one was
        self._folder, self._every, self._share, self._clock = folder, every, share, clock
        self._begun = self._ended = clock()  # the last one; there was none, and it took no time
        self._orders: SimpleQueue[tuple[State, CheckpointInfo] | None] = SimpleQueue()
        self._idle, self._given_up = Event(), Event()
        self._idle.set()
        # started now, while there is memory for it; a daemon: a process that is to end does not wait for a slow disk
        Thread(target=self._write_all, daemon=True).start()
        for left_behind in (*folder.glob("*.new"), *folder.glob("*.old")):
            shutil.rmtree(left_behind, ignore_errors=True)

    def keep(self, federation: Federation, record: RoundRecord, position: int) -> None:
        """Writes down how the run stands after `record`, its round number `position` over all stages, if that is due.

        Returns once there is a copy in memory, and the checkpoint before is written.
        """
        if not self._is_due(record, position):
            return
        begun = self._clock()
        self.wait()
        self._begun = begun
        try:
            tensors = {name: tensor.detach().to("cpu") for name, tensor in state_of(federation, record).items()}
        except (MemoryError, RuntimeError):  # torch says it as either
            self.trouble = _trouble(position, "there is no memory for a copy")
            self._ended = self._clock()
            return
        mark = CheckpointInfo(
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
        self._orders.put((tensors, mark))

    def wait(self) -> None:
        """Waits until what is kept is written."""
        self._idle.wait()

    def finish(self, finished: bool) -> None:
        """The run has ended. What could only have continued it goes if it has `finished`; stages' ends stay."""
        self.wait()
        self._orders.put(None)
        if finished and self._every:
            known = list_checkpoints_in(self._folder)
            self._keep_only({mark.position for mark in known[:-1] if mark.stage_end})

    def discard(self) -> None:
        """Nothing is written any more; whatever is being written never becomes a checkpoint."""
        self._given_up.set()

    def _is_due(self, record: RoundRecord, position: int) -> bool:
        if not self._every or record.stage_end:
            return self._every > 0
        now = self._clock()
        took = (self._ended if self._idle.is_set() else now) - self._begun
        return position % self._every == 0 and now - self._begun >= took / self._share

    def _write_all(self) -> None:
        """The thread: one checkpoint after another."""
        while order := self._orders.get():
            self._write(*order)
            self._ended = self._clock()
            self._idle.set()

    def _write(self, tensors: Mapping[str, Tensor], mark: CheckpointInfo) -> None:
        begun, target = self._clock(), folder_of(self._folder, mark.position)
        fresh = target.with_name(f"{target.name}.new")
        try:
            _remove(target)  # a resumed run comes by again
            fresh.mkdir(parents=True)
            size, free = sum(tensor.nbytes for tensor in tensors.values()), shutil.disk_usage(fresh).free
            if size + RESERVE > free:
                raise OSError(f"it takes {size / 1e6:,.0f} MB, and the disk has {free / 1e6:,.0f} MB left")
            save_file(dict(tensors), fresh / STATE)
            sync(fresh / STATE)
            told = {
                "size": (fresh / STATE).stat().st_size,
                "digest": _digest(fresh / STATE),
                "write_s": self._clock() - begun,
                "written_at": time.time(),
            }
            (fresh / HEAD).write_text(mark.model_copy(update=told).model_dump_json(indent=1), encoding="utf-8")
            sync(fresh / HEAD)
            sync(fresh)
            if self._given_up.is_set():
                raise OSError("the run has ended")
            fresh.rename(target)
            sync(self._folder)
        except Exception as error:  # whatever it is, the run goes on, and must not wait for this thread for ever
            shutil.rmtree(fresh, ignore_errors=True)
            self.trouble = _trouble(mark.position, str(getattr(error, "strerror", None) or error or "no memory"))
            return
        self.trouble = ""
        known = list_checkpoints_in(self._folder)
        ends = {one.position for one in known if one.stage_end}
        self._keep_only({one.position for one in known[-KEPT:]} | ends)

    def _keep_only(self, positions: set[int]) -> None:
        kept = {folder_of(self._folder, position) for position in positions}
        for folder in complete(self._folder):
            if folder not in kept:
                _remove(folder)


def state_of(federation: Federation, last: RoundRecord) -> State:
    """Copies of all tensors that the run needs after its round `last`.

    At a stage's end the moments of its optimisers are not among them: the next stage has its own.
    """
    state = prefixed("policy", stacked(policies(federation.clients.cohorts)))
    aligning = federation.alignment is not None
    if last.stage_end and not aligning:
        return state
    stage = federation.stage("alignment" if aligning else last.stage)
    known = {name: tensor for name, tensor in stage.state().items() if not (last.stage_end and "optimiser/" in name)}
    return state | prefixed("stage", known)


def restored(federation: Federation, store_path: Path, run_id: str, records: Sequence[RoundRecord]) -> int:
    """Sets a freshly prepared federation up as it was at the newest checkpoint within `records`, the rounds of its run.

    Returns how many rounds it then has behind it; 0, and the federation as it was, if there is no checkpoint to go on
    from. Where that was made with other versions or on another processor, a note of the federation's says so.
    """
    for mark in reversed(list_checkpoints(store_path, run_id)):
        if not _fits(mark, federation.config, records):
            continue
        folder = folder_of(RunFiles(store_path).checkpoints(run_id), mark.position)
        try:
            state = _read(folder, mark)
        except ModelError as error:
            federation.notes += (str(error),)
            _remove(folder)  # nobody is to fork from there; it is written again when the round is played again
            continue
        _put_back(federation, state, records[: mark.position])
        held = {path: entry.value for path, entry in knobs(mark.config).items() if path in STEERABLE}
        now = knobs(federation.config)
        steer(federation, {path: value for path, value in held.items() if value != now[path].value})
        if note := _differences(mark.made_with, made_with(federation)):
            federation.notes += (note,)
        return mark.position
    return 0


def made_with(federation: Federation) -> dict[str, str]:
    """What decides the last digits of a run beside its settings."""
    backbone = federation.clients.backbone
    return versions() | {
        "device": str(backbone.device),
        "format": str(backbone.dtype).removeprefix("torch."),
        "processor": torch.backends.cpu.get_cpu_capability(),
        "threads": str(torch.get_num_threads()),
    }


def _fits(mark: CheckpointInfo, config: RunConfig, records: Sequence[RoundRecord]) -> bool:
    """Whether a checkpoint is of these settings and of one of these rounds."""
    if not 0 < mark.position <= len(records):
        return False
    last = records[mark.position - 1]
    ours, theirs = knobs(config), knobs(mark.config)
    free = {*STEERABLE, "preferences.harmlessness_weights", "checkpoint_every"}
    return (last.stage, last.round, last.stage_end) == (mark.stage, mark.round, mark.stage_end) and all(
        ours[path].value == theirs[path].value for path in ours if path not in free
    )


def _put_back(federation: Federation, state: State, records: Sequence[RoundRecord]) -> None:
    cohorts, last = policies(federation.clients.cohorts), records[-1]
    for record in records:
        if record.stage_end:
            federation.rounds[record.stage] = record.round
    known = under("stage", state)
    try:
        if reference := under("reference", known):
            fill(cohorts, reference)
            federation.restore_alignment(under("rewards", known), under("judge", known))
        fill(cohorts, under("policy", state))
    except ValueError as error:
        raise ModelError(
            f"The checkpoint after {len(records)} rounds does not fit the backbone {federation.config.backbone} "
            f"({error}): it has changed since. Bring the former one back, or start a new run."
        ) from None
    if known:
        federation.stage("alignment" if reference else last.stage).load_state(known)


def _read(folder: Path, mark: CheckpointInfo) -> State:
    """A checkpoint's tensors. ModelError if they are not those that were written."""
    try:
        if _digest(folder / STATE) != mark.digest:
            raise ModelError(f"The checkpoint after round {mark.position} is damaged; an earlier one is used.")
        return load_file(folder / STATE)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ModelError(
            f"The checkpoint after round {mark.position} cannot be read ({reason}); an earlier one is used."
        ) from None


def _trouble(position: int, reason: str) -> str:
    return f"No checkpoint could be written after round {position} ({reason})."


def _differences(then: Mapping[str, str], now: Mapping[str, str]) -> str:
    found = [f"{name} {then.get(name, 'none')} → {value}" for name, value in now.items() if then.get(name) != value]
    if not found:
        return ""
    return f"Resumed with {', '.join(found)}: rounds from here may differ in their last digits from an unbroken run's."


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()


def _remove(folder: Path) -> None:
    """Takes a checkpoint away at once: one of which a part is gone is never taken for complete."""
    gone = folder.with_name(f"{folder.name}.old")
    shutil.rmtree(gone, ignore_errors=True)
    with suppress(OSError):
        folder.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)
