"""Files that are whole or not there: they are written aside, and moved into place once all of them are complete."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from pwff_core.errors import StoreError


def deliver(folder: Path, write: Callable[[Path], list[Path]]) -> list[Path]:
    """Lets `write` fill an empty folder, then moves the files that it names into `folder`, which is made.

    Returns where they are now. If anything goes wrong, nothing new is left in `folder`, and folders that were made for
    it are gone again. StoreError if `folder` cannot be written.
    """
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # in the folder itself: only within one file system does moving a file take no room
        with tempfile.TemporaryDirectory(prefix=".pwff-", dir=folder, ignore_cleanup_errors=True) as aside:
            written = write(Path(aside))
            places = [folder / file.relative_to(aside) for file in written]
            for file, place in zip(written, places, strict=True):
                place.parent.mkdir(exist_ok=True)
                os.replace(file, place)
    except BaseException as error:
        for path in missing:  # the innermost first
            with suppress(OSError):
                path.rmdir()
        if isinstance(error, OSError):
            raise StoreError(_sentence(folder, error)) from None
        raise
    return places


def _sentence(folder: Path, error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"There is no room left on the disk of {folder}, so nothing was written; make room or choose another."
    return f"Cannot write into {folder} ({error.strerror}); choose another folder."
