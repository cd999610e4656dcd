"""The checkpoints of a run, listed without their tensors.

    checkpoints/RUN/00012/state.safetensors    all that the run needs to go on after its 12th round
    checkpoints/RUN/00012/mark.json            a CheckpointInfo: where that is, and what wrote it

A folder of such a name is complete: it is written as 00012.new, synced, and then renamed.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from pwff_core.config import RunConfig
from pwff_core.errors import StoreError
from pwff_core.records import Stage
from pwff_core.runs.run_files import RunFiles

FORMAT: Literal[1] = 1
TENSORS_FILE, INFO_FILE = "state.safetensors", "mark.json"
_COMPLETE = re.compile(r"[0-9]{5,}")


class CheckpointInfo(BaseModel):
    """A checkpoint, without its tensors."""

    model_config = ConfigDict(frozen=True, ser_json_inf_nan="strings")

    format: Literal[1] = FORMAT
    position: int  # rounds played, over all stages
    stage: Stage  # of the last round
    round: int  # the last round, within its stage
    stage_end: str  # as in the last round's record: "" unless the stage ends with it
    config: RunConfig  # of the last round
    size: int  # of the tensors' file [byte]
    digest: str  # of that file: BLAKE2b, hexadecimal
    snapshot_s: float  # while training waited for the copy in memory
    write_s: float  # of writing the file, beside the training
    written_at: float  # Unix seconds
    made_with: dict[str, str]  # what decides the last digits: versions, processor, threads


def folder_of(checkpoints: Path, position: int) -> Path:
    """The folder of the checkpoint after round `position`, whether it exists or not."""
    return checkpoints / f"{position:05d}"


def list_checkpoints(store_path: Path, run_id: str) -> list[CheckpointInfo]:
    """A run's complete checkpoints, the oldest first; those that cannot be read are left out."""
    return list_checkpoints_in(RunFiles(store_path).checkpoints(run_id))


def list_checkpoints_in(checkpoints: Path) -> list[CheckpointInfo]:
    """`list_checkpoints`, of a checkpoints folder."""
    infos = []
    for folder in complete_folders(checkpoints):
        try:
            info = CheckpointInfo.model_validate_json((folder / INFO_FILE).read_bytes())
        except (OSError, ValidationError):  # damaged, of another version, or removed at this moment
            continue
        if folder_of(checkpoints, info.position) == folder:
            infos.append(info)
    return sorted(infos, key=lambda info: info.position)


def complete_folders(checkpoints: Path) -> list[Path]:
    """The folders in which a checkpoint was finished, even if it is damaged now."""
    try:
        return [folder for folder in checkpoints.iterdir() if _COMPLETE.fullmatch(folder.name)]
    except OSError:  # there are none yet
        return []


def hand_over(store_path: Path, parent: str, position: int, child: str) -> None:
    """Gives a run's checkpoint to a fork of the run, as a hard link where possible.

    StoreError if there is none or it cannot be written.
    """
    source = folder_of(RunFiles(store_path).checkpoints(parent), position)
    target = folder_of(RunFiles(store_path).checkpoints(child), position)
    fresh = target.with_name(f"{target.name}.new")
    try:
        fresh.mkdir(parents=True)
        for name in (TENSORS_FILE, INFO_FILE):
            _link(source / name, fresh / name)
        fresh.rename(target)
    except OSError as error:
        shutil.rmtree(fresh, ignore_errors=True)
        raise StoreError(
            f"The checkpoint after round {position} of run {parent} cannot be taken over ({error.strerror}); "
            "choose another one, or make room."
        ) from None


def delete_checkpoints(store_path: Path, run_id: str) -> int:
    """Removes all checkpoints of a run; returns the bytes that this frees."""
    folder = RunFiles(store_path).checkpoints(run_id)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    shutil.rmtree(folder, ignore_errors=True)
    return size


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another disk, or one that has no links
        shutil.copyfile(source, target)
