"""Files that only grow, a JSON object a line: what has been paid for is never asked, or computed, again.

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
from pwff_core.tools.rank.reading import Verdict


class Entry(BaseModel):
    """A line; `key` is a hash of everything that it depends on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str


class KeptVerdict(Entry):
    """What the ranking model said, and the tokens that its server counted; none where it did not say."""

    verdict: Verdict
    room: int  # tokens that the answer was allowed
    tokens_in: int | None
    tokens_out: int | None
    said: str = ""  # the beginning of an unreadable answer, for whoever wants to know

    def holds(self, room: int) -> bool:
        """Whether asking again with so much room is pointless: an unreadable answer may have been cut off."""
        return self.verdict != "unreadable" or self.room >= room


class KeptResponses(Entry):
    """The candidate responses to some prompts, in the prompts' order."""

    responses: tuple[tuple[str, ...], ...]


SomeEntry = TypeVar("SomeEntry", bound=Entry)


def read_kept(path: Path, kind: type[SomeEntry]) -> dict[str, SomeEntry]:
    """The file's entries by key, the later over the earlier; none without a file. ConfigError if it cannot be read."""
    found: dict[str, SomeEntry] = {}
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return found
    except OSError as error:
        raise ConfigError(f"Cannot read {path} ({error.strerror}); choose another folder with --to.") from None
    for line in lines:
        try:
            entry = kind.model_validate_json(line)
        except ValidationError:
            continue
        found[entry.key] = entry
    return found


class Keeper:
    """Appends entries to an open file."""

    def __init__(self, path: Path, file: FileIO) -> None:
        self._path, self._file = path, file

    def add(self, entry: Entry) -> None:
        """One more line, on its way to the disk when this returns. ConfigError if there is no room or no permission."""
        line = entry.model_dump_json().encode() + b"\n"
        try:
            if self._file.write(line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            raise ConfigError(f"Cannot write {self._path} ({error.strerror}); make room and call again.") from None


@contextmanager
def keeping(path: Path) -> Iterator[Keeper]:
    """Open a file for more entries; its folder is made. ConfigError if it cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+b", buffering=0)  # a line is one write
    except OSError as error:
        raise ConfigError(f"Cannot write {path} ({error.strerror}); choose another folder with --to.") from None
    with file:
        if _cut_off(file):
            file.write(b"\n")  # so that the next line is one of its own
        yield Keeper(path, file)


def _cut_off(file: FileIO) -> bool:
    size = file.seek(0, 2)
    if not size:
        return False
    file.seek(size - 1)
    return file.read(1) != b"\n"
