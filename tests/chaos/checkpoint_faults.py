"""Faults of checkpoints: the files on disk differ from what was written."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from pwff_core.runs.checkpoints import INFO_FILE, TENSORS_FILE, folder_of, list_checkpoints
from pwff_core.runs.run_files import RunFiles
from tests.chaos.scene import Row, Scene

_PLAYED = 5  # rounds before the worker is killed: within reward learning


def flip_a_bit(folder: Path) -> None:
    state = folder / TENSORS_FILE
    content = bytearray(state.read_bytes())
    content[len(content) // 2] ^= 1
    state.write_bytes(content)


def truncate(folder: Path) -> None:
    state = folder / TENSORS_FILE
    state.write_bytes(state.read_bytes()[: state.stat().st_size // 2])


def change_version(folder: Path) -> None:
    head = json.loads((folder / INFO_FILE).read_text(encoding="utf-8"))
    (folder / INFO_FILE).write_text(json.dumps(head | {"format": 99}), encoding="utf-8")


def empty_head(folder: Path) -> None:
    (folder / INFO_FILE).write_bytes(b"")


def remove_state(folder: Path) -> None:
    (folder / TENSORS_FILE).unlink()


HARMS: dict[str, Callable[[Path], None]] = {
    "a bit flipped": flip_a_bit,
    "cut off": truncate,
    "of another version": change_version,
    "an empty head": empty_head,
    "no tensors": remove_state,
}


def newest_harmed(scene: Scene) -> Row:
    """The newest checkpoint of a killed run is harmed, in another way before each resume."""
    for rounds, harm in enumerate(HARMS.values(), start=2):
        worker = scene.play(rounds)
        worker.wait(lambda: _folders(scene))  # it is written beside the next round
        worker.kill()
        harm(_folders(scene)[-1])
    return _row(scene, f"kill −9, and the newest checkpoint is harmed: {', '.join(HARMS)}")


def all_harmed(scene: Scene) -> Row:
    """Every checkpoint is harmed: the run is played again from its start."""
    scene.play(_PLAYED).kill()
    for folder in _folders(scene):
        flip_a_bit(folder)
    return _row(scene, "kill −9, and every checkpoint is harmed")


def all_removed(scene: Scene) -> Row:
    """All checkpoints are removed: the run is played again from its start."""
    scene.play(_PLAYED).kill()
    shutil.rmtree(RunFiles(scene.store.path).checkpoints(scene.run_id))
    return _row(scene, "kill −9, and all checkpoints are removed")


def _row(scene: Scene, fault: str) -> Row:
    scene.look("failed")
    does = scene.finish()
    notes = [note for note in scene.store.run(scene.run_id).notes if "checkpoint" in note.lower()]
    return scene.row(fault, " ".join([f"{does}.", *notes]))


def _folders(scene: Scene) -> list[Path]:
    folder = RunFiles(scene.store.path).checkpoints(scene.run_id)
    return [folder_of(folder, checkpoint.position) for checkpoint in list_checkpoints(scene.store.path, scene.run_id)]


FAULTS = (newest_harmed, all_harmed, all_removed)
