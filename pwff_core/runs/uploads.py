"""Files that people upload: kept beside the store under the hash of their content, by which a config names them.

    the browser  →  keep(…)  →  STORE_FOLDER/uploads/SHA256.csv  →  data.source = "upload:SHA256.csv"

A page only writes the bytes; it never reads them. A file's own name is shown, and never part of a path.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import time
from collections.abc import Collection
from pathlib import Path, PurePosixPath

from pwff_core.config import RunConfig
from pwff_core.errors import ConfigError, DataError
from pwff_core.knobs import with_changes
from pwff_core.runs.run_files import RunFiles

TYPES = ("json", "jsonl", "csv", "parquet")
LARGEST_FILE = 20_000_000  # bytes; also server.maxUploadSize in .streamlit/config.toml
LARGEST_TOTAL = 500_000_000  # bytes of all uploads of a store
UNUSED_AFTER_S = 24 * 3600.0  # an upload that no run names is kept at least so long
_REFERENCE = re.compile(rf"upload:([0-9a-f]{{64}}\.(?:{'|'.join(TYPES)}))")
_FILE = re.compile(rf"[0-9a-f]{{64}}\.(?:{'|'.join(TYPES)})")


def is_reference(source: str) -> bool:
    """Whether a data source names an uploaded file."""
    return _REFERENCE.fullmatch(source) is not None


def keep(
    store_path: Path, name: str, content: bytes, used: Collection[str] = (), *, largest_total: int = LARGEST_TOTAL
) -> str:
    """Writes an upload, whole or not at all; returns the data source that names it. The same bytes are kept once.

    `name` is what the person called it, of which only the ending counts; `used`: the data sources of runs, whose
    uploads are never removed to make room; `largest_total`: bytes of all uploads together. DataError for another type,
    too large or empty a file, and for a full folder or disk.
    """
    ending = PurePosixPath(name.replace("\\", "/")).suffix.lower().removeprefix(".")
    if ending not in TYPES:
        kinds = ", ".join(f".{kind}" for kind in TYPES)
        raise DataError(f"A file to upload ends in {kinds}; this one does not. Rename it, or write it as one of them.")
    if not content:
        raise DataError("The file is empty; give one with at least three rows a client.")
    if len(content) > LARGEST_FILE:
        raise DataError(
            f"The file has {len(content) / 1e6:,.1f} MB; at most {LARGEST_FILE / 1e6:.0f} MB can be uploaded. Leave "
            "rows out, or give its path on this computer as the data source."
        )
    folder = RunFiles(store_path).uploads
    path = folder / f"{hashlib.sha256(content).hexdigest()}.{ending}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if path.is_file():
            os.utime(path)  # in use again
        else:
            _make_room(folder, len(content), used, largest_total)
            _write(path, content)
    except OSError as error:
        raise DataError(
            f"The file cannot be kept in {folder} ({error.strerror}); make room or allow writing."
        ) from None
    return f"upload:{path.name}"


def with_path(config: RunConfig, store_path: Path) -> RunConfig:
    """The config with an upload's path on this computer instead of its name, as the federation needs it.

    ConfigError for a malformed name, DataError for a file that is no longer there.
    """
    if not config.data.source.startswith("upload:"):
        return config
    reference = _REFERENCE.fullmatch(config.data.source)
    if reference is None:
        raise ConfigError(
            "data.source: this is not the name of an upload; upload the file on the Live page, which fills it in."
        )
    path = RunFiles(store_path).uploads / reference[1]
    if not path.is_file():
        raise DataError(
            f"The file {source_name(config.data.source)} is not kept here; upload it again on the Live page and start "
            "anew."
        )
    return with_changes(config, {"data.source": str(path)})


def is_kept(source: str) -> bool:
    """Whether a data source is the path of an upload, as `with_path` gives it."""
    path = Path(source)
    return path.parent.name == "uploads" and _FILE.fullmatch(path.name) is not None


def source_name(source: str) -> str:
    """A data source as messages name it: an upload without the folders of this computer and with a short hash."""
    name = Path(source.removeprefix("upload:")).name
    return f"upload {name[:8]}….{name.rpartition('.')[2]}" if is_reference(source) or is_kept(source) else source


def _make_room(folder: Path, wanted: int, used: Collection[str], largest_total: int) -> None:
    """Removes uploads that no run names and that are a day old, the oldest first, until there is room.

    DataError if that is not enough.
    """
    files = sorted((path for path in folder.iterdir() if _FILE.fullmatch(path.name)), key=_age, reverse=True)
    total = sum(path.stat().st_size for path in files)
    for path in files:
        if total + wanted <= largest_total:
            return
        if f"upload:{path.name}" not in used and _age(path) > UNUSED_AFTER_S:
            total -= path.stat().st_size
            path.unlink()
    if total + wanted > largest_total:
        raise DataError(
            f"There is no room for more uploads here: {total / 1e6:,.0f} of {largest_total / 1e6:,.0f} MB are taken. "
            "Delete runs that use some, or try again tomorrow."
        )


def _age(path: Path) -> float:
    return time.time() - path.stat().st_mtime


def _write(path: Path, content: bytes) -> None:
    unfinished = path.with_name(f"{path.name}.{secrets.token_hex(4)}.new")
    try:
        unfinished.write_bytes(content)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
