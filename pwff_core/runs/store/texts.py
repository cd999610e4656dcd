"""Texts from people, on their way into the store."""

from __future__ import annotations

from pathlib import Path

from pwff_core.errors import StoreError

MAX_NAME = 80  # characters


def checked_name(name: str) -> str:
    """A run's name without blanks around it. StoreError unless it is one line of printable characters, or nothing."""
    chosen = name.strip()
    rule = f"A run's name is one line of at most {MAX_NAME} characters"
    if len(chosen) > MAX_NAME:
        raise StoreError(f"{rule}; this one has {len(chosen):,}. Choose a shorter one.")
    if not chosen.isprintable():
        raise StoreError(f"{rule}; this one holds a line break or another character that cannot be seen. Leave it out.")
    return chosen


def storable(text: str) -> str:
    """The text with what UTF-8 cannot hold (half characters from a command line in another encoding) replaced."""
    return text.encode("utf-8", "replace").decode("utf-8")


def no_run(path: Path, run_id: str) -> StoreError:
    """What to say where a store has no run of that id."""
    return StoreError(f"There is no run {run_id[:40]!r} in {path}; `pwff runs` lists those there are.")
