"""Files that only grow, a JSON object a line: no verdict is paid for twice, no response computed twice.

A line is written whole and at once. A process that is killed while it writes leaves at most a cut-off last line, which
is ignored; so is every line that is not an entry.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from pwff_core.errors import ConfigError
from pwff_core.tools.rank.prompt import Verdict


class Entry(BaseModel):
    """A line; `key` is a hash of everything that it depends on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str


class CachedVerdict(Entry):
    """A verdict of the ranking model, and the tokens that its server counted; none where it did not."""

    verdict: Verdict
    room: int  # tokens that the answer was allowed
    tokens_in: int | None
    tokens_out: int | None
    said: str = ""  # the beginning of an unreadable answer

    def is_final(self, room: int) -> bool:
        """Whether `room` tokens would not give another verdict: an unreadable answer may have been cut off."""
        return self.verdict != "unreadable" or self.room >= room


class CachedResponses(Entry):
    """The candidate responses to some prompts, in the prompts' order."""

    responses: tuple[tuple[str, ...], ...]


SomeEntry = TypeVar("SomeEntry", bound=Entry)


def read_cache(path: Path, kind: type[SomeEntry]) -> dict[str, SomeEntry]:
    """The file's entries by key, the later over the earlier; none without a file. ConfigError if it cannot be read."""
    entries: dict[str, SomeEntry] = {}
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return entries
    except OSError as error:
        raise ConfigError(f"Cannot read {path} ({error.strerror}); choose another folder with --to.") from None
    for line in lines:
        try:
            entry = kind.model_validate_json(line)
        except ValidationError:
            continue
        entries[entry.key] = entry
    return entries


class CacheWriter:
    """Appends entries to an open file."""

    def __init__(self, path: Path, file: FileIO) -> None:
        self._path, self._file = path, file

    def add(self, entry: Entry) -> None:
        """Writes one more line before it returns. ConfigError if there is no room or no permission."""
        line = entry.model_dump_json().encode() + b"\n"
        try:
            if self._file.write(line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            raise ConfigError(f"Cannot write {self._path} ({error.strerror}); make room and call again.") from None


@contextmanager
def open_cache(path: Path) -> Iterator[CacheWriter]:
    """Opens a file for more entries, and makes its folder. ConfigError if it cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+b", buffering=0)  # a line is one write
    except OSError as error:
        raise ConfigError(f"Cannot write {path} ({error.strerror}); choose another folder with --to.") from None
    with file:
        if _ends_within_a_line(file):
            file.write(b"\n")
        yield CacheWriter(path, file)


def _ends_within_a_line(file: FileIO) -> bool:
    size = file.seek(0, 2)
    if not size:
        return False
    file.seek(size - 1)
    return file.read(1) != b"\n"
