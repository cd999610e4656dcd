"""Copies of a store's files from before they were renewed. They are kept until somebody deletes them."""

from __future__ import annotations

import glob
import itertools
import os
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

from pwff_core.errors import StoreError
from pwff_core.paths import sync
from pwff_core.runs.store.connections import connected


def copies(path: Path) -> list[Path]:
    """The copies of a file that there are."""
    return sorted(path.parent.glob(f"{glob.escape(path.stem)}.v[0-9]*-backup*{glob.escape(path.suffix)}"))


def copied(path: Path, version: int, patience_s: float) -> Path:
    """Copies a file as it is, with what its log holds; it is on the disk once this returns. StoreError if it cannot be.

    The copy of runs.sqlite of version 2 is called runs.v2-backup.sqlite, or -backup-2 where there is one already.
    """
    goal = _free(path, version)
    try:
        handle, name = tempfile.mkstemp(prefix=f"{goal.name}.", suffix=".new", dir=path.parent)
        os.close(handle)
        begun = Path(name)
        try:
            with connected(path, "ro", patience_s) as source, closing(sqlite3.connect(begun)) as target:
                source.backup(target)
                target.execute("PRAGMA journal_mode = DELETE")  # one file, without a log beside it
            sync(begun)
            begun.replace(goal)
            sync(path.parent)
        finally:
            begun.unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(
            f"The store {path} is of an older pwff and was not renewed: a copy of it cannot be written to "
            f"{path.parent} ({error.strerror}); make room there or allow writing.",
            passing=True,
        ) from None
    return goal


def _free(path: Path, version: int) -> Path:
    names = (f"{path.stem}.v{version}-backup{'' if n == 1 else f'-{n}'}{path.suffix}" for n in itertools.count(1))
    return next(copy for name in names if not (copy := path.with_name(name)).exists())
