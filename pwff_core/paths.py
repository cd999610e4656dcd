"""Where things lie on disk: the embedded default, and the user's store."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import platformdirs

from pwff_core.errors import StoreError

STORE_VARIABLE = "PWFF_STORE"
_ID = re.compile(r"[a-z0-9]{1,32}")


def root_dir() -> Path:
    """The folder that holds app.py, pages/ and assets/: the checkout, or the package in an installed wheel."""
    package = Path(__file__).resolve().parent
    bundled = package / "_bundle"
    return bundled if bundled.is_dir() else package.parent


def assets_dir() -> Path:
    """The embedded default: tokenizer, backbone, encoder, corpus, style sheet, pictures."""
    return root_dir() / "assets"


def default_store_path() -> Path:
    """The store of runs: $PWFF_STORE, otherwise a file in the user's data folder."""
    override = os.environ.get(STORE_VARIABLE)
    return Path(override) if override else platformdirs.user_data_path("pwff", appauthor=False) / "runs.sqlite"


def checked_id(run_id: str) -> str:
    """A run's id that may be part of a path: lower-case letters and digits. StoreError for any other text."""
    if not _ID.fullmatch(run_id):
        raise StoreError(f"There is no run {run_id[:40]!r}; an id is up to 32 lower-case letters and digits.")
    return run_id


def sync(path: Path) -> None:
    """What was written to a file, or into a folder, survives a power cut once this returns. OSError if it cannot.

    Windows syncs no folders, and needs a file to be open for writing.
    """
    if sys.platform == "win32" and path.is_dir():
        return
    handle = os.open(path, os.O_RDWR if path.is_file() else os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
