"""Faults of the disk and of the files on it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.chaos.engine import PATIENCE_S
from tests.chaos.scene import Row, Scene, Skipped

LOCKER = (
    "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('BEGIN EXCLUSIVE'); print(flush=True); input()"
)
_LOCKED_S = 30.0
_MB = 2**20


@contextmanager
def disk(folder: Path, megabytes: int) -> Iterator[Path]:
    """Mounts a small disk on the folder while this is open."""
    if sys.platform != "linux" or os.geteuid() != 0:
        raise Skipped("mounting a small disk needs Linux and root")
    folder.mkdir(parents=True, exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)]
    mounted = subprocess.run(mount, capture_output=True, text=True)
    if mounted.returncode:
        raise Skipped(f"a small disk cannot be mounted here ({mounted.stderr.strip()})")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def full_disk(scene: Scene) -> Row:
    """The disk of the store is full, and has room again later."""
    with disk(scene.folder / "disk", 160) as folder:
        scene = scene.on(folder)
        scene.play(2)
        filler = folder / "filler"
        fill(filler)
        scene.look("full", "room")
        filler.unlink()
        return scene.row("the disk of the store is full, for a while", scene.finish())


def fill(filler: Path) -> None:
    """Writes a file until its disk has no byte left."""
    with filler.open("wb", buffering=0) as file:
        for size in (_MB, 4096, 512, 1):
            try:
                while True:
                    file.write(b"0" * size)
            except OSError:
                continue


def read_only_store(scene: Scene) -> Row:
    """The store becomes read-only, and can be written again later."""
    with disk(scene.folder / "disk", 160) as folder:
        scene = scene.on(folder)
        scene.play(2)
        with read_only(folder):
            scene.look("read-only")
        return scene.row("the store becomes read-only, for a while", scene.finish())


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Makes the folder read-only while this is open, for files that are opened now: by a read-only mount over it.

    The disk itself cannot be made read-only, as the worker has files on it open for writing.
    """
    subprocess.run(["mount", "--bind", str(folder), str(folder)], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", str(folder)], check=True)
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def locked_store(scene: Scene) -> Row:
    """Another program locks the store for half a minute."""
    scene.play(2)
    begun = time.monotonic()
    with locked(scene.store.path):
        scene.look("No sign of life", "locked")
        time.sleep(max(0.0, begun + _LOCKED_S - time.monotonic()))
    return scene.row(f"another program locks the store for {_LOCKED_S:.0f} s", scene.finish())


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Another program locks the store's file while this is open."""
    command = [sys.executable, "-c", LOCKER, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as locker:
        assert locker.stdout is not None
        locker.stdout.readline()
        try:
            yield
        finally:
            locker.kill()


def removed_file(scene: Scene) -> Row:
    """The store's files are removed while the run plays, and brought back."""
    return _removed(scene, "the store's files are removed, and later brought back", whole_folder=False)


def removed_folder(scene: Scene) -> Row:
    """The store's whole folder is removed while the run plays, and brought back."""
    return _removed(scene, "the store's folder is removed, and later brought back", whole_folder=True)


def _removed(scene: Scene, fault: str, *, whole_folder: bool) -> Row:
    scene.play(2)
    home, aside = scene.store.path.parent, scene.folder / "aside"
    if whole_folder:
        home.rename(aside)
    else:
        aside.mkdir()
        for file in home.glob("runs.*"):
            file.rename(aside / file.name)
    scene.look("cannot be opened")
    scene.worker.process.wait(timeout=PATIENCE_S)
    if whole_folder:
        shutil.rmtree(home, ignore_errors=True)
        aside.rename(home)
    else:
        for file in aside.iterdir():
            file.rename(home / file.name)
    return scene.row(fault, scene.finish())


def checkpoints_full(scene: Scene) -> Row:
    """The disk of the checkpoints is full, the store's is not."""
    with disk(scene.store.path.parent / "checkpoints", 16):
        scene.play(2)
        scene.look()
        return scene.row("no room for checkpoints, while the store has some", scene.finish())


def checkpoints_in_the_way(scene: Scene) -> Row:
    """The folder of checkpoints cannot be made or written."""
    (scene.store.path.parent / "checkpoints").write_text("in the way")
    scene.play(2)
    scene.worker.kill()
    scene.look("failed")
    return scene.row("checkpoints cannot be written at all; then kill −9", scene.finish())


FAULTS = (
    full_disk, read_only_store, locked_store, removed_file, removed_folder, checkpoints_full, checkpoints_in_the_way,
)  # fmt: skip
