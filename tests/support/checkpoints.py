"""Checkpoints on disk, without the tensors."""

from __future__ import annotations

import hashlib
from pathlib import Path

from pwff_core.config import RunConfig
from pwff_core.runs.checkpoints import INFO_FILE, TENSORS_FILE, CheckpointInfo, folder_of
from pwff_core.runs.run_files import RunFiles


def write_checkpoint(
    store_path: Path, run_id: str, position: int, config: RunConfig, state: bytes = b"tensors"
) -> Path:
    """Writes the checkpoint after a run's instruction round `position`; returns its folder."""
    folder = folder_of(RunFiles(store_path).checkpoints(run_id), position)
    folder.mkdir(parents=True)
    (folder / TENSORS_FILE).write_bytes(state)
    digest = hashlib.blake2b(state).hexdigest()
    info = CheckpointInfo(
        position=position, stage="instruction", round=position, stage_end="", config=config, size=len(state),
        digest=digest, snapshot_s=0.01, write_s=0.1, written_at=1.7e9, made_with={"threads": "1"},
    )  # fmt: skip
    (folder / INFO_FILE).write_text(info.model_dump_json(), encoding="utf-8")
    return folder
