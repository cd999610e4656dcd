"""The store's two files: is each of them there, ours, whole and of this version?"""

from __future__ import annotations

from collections.abc import Iterator

from pwff_core.runs.store import SCHEMA_VERSION, inspection
from pwff_core.runs.store.inspection import Condition, Health
from pwff_core.runs.store.schema import backups
from pwff_core.tools.doctor.findings import Finding, Level, counted
from pwff_core.tools.doctor.snapshot import StoreSnapshot
from pwff_core.units import with_prefix

LONG_LOG = 64_000_000  # bytes; a write-ahead log of that size has not been moved into its file for long


def findings(snapshot: StoreSnapshot) -> Iterator[Finding]:
    """The checklist of both files."""
    yield _store(snapshot)
    yield from _commands(snapshot)
    if snapshot.sound and snapshot.health.log > LONG_LOG:
        yield Finding(
            "Store", Level.NOTE, f"Its write-ahead log has grown to {with_prefix(snapshot.health.log, 'B')}.",
            "`pwff doctor --mend` moves it into the file.",
        )  # fmt: skip


def _store(snapshot: StoreSnapshot) -> Finding:
    path, health = snapshot.path, snapshot.health
    size = with_prefix(health.size + health.log, "B")
    match health.condition:
        case Condition.MISSING:
            return Finding("Store", Level.OK, f"There is none yet at {path}; `pwff run` or `pwff app` makes one.")
        case Condition.SOUND:
            deleted = sum(entry.deleted for entry in snapshot.entries.values())
            kept = len(snapshot.entries) - deleted
            runs = f"{counted(kept, 'run')}{f' and {deleted} deleted' if deleted else ''}, "
            checked = "sound" if health.whole else "sound as far as it was checked in a second"
            return Finding(
                "Store",
                Level.OK,
                f"{path}: {runs if snapshot.sound else ''}{size}, format {health.version}, {checked}.",
            )
        case Condition.OLDER:
            return Finding(
                "Store", Level.NOTE, f"{path} is of an older pwff (format {health.version}; now {SCHEMA_VERSION}), so "
                "its runs were not looked at.",
                "Any other command renews it and keeps a copy; so does `pwff doctor --mend`.",
            )  # fmt: skip
        case Condition.NEWER:
            return Finding(
                "Store", Level.PROBLEM,
                f"{path} was written by a newer pwff (format {health.version}; this one reads up to {SCHEMA_VERSION}).",
                "Upgrade pwff, or choose another file with --store.",
            )  # fmt: skip
        case Condition.FOREIGN:
            return Finding(
                "Store", Level.PROBLEM, f"{path} is an SQLite file of another program.",
                "Choose another file with --store; this one is left alone.",
            )  # fmt: skip
        case Condition.UNREACHABLE:
            return Finding(
                "Store", Level.PROBLEM, f"{path} cannot be read at the moment ({health.trouble}).",
                "Check that its disk is there, that you may read and write it, and that no other program locks it.",
            )  # fmt: skip
        case Condition.DAMAGED | Condition.UNREADABLE:
            return _damaged(snapshot)


def _damaged(snapshot: StoreSnapshot) -> Finding:
    path, health = snapshot.path, snapshot.health
    copy = newest_copy(snapshot)
    hint = f" Its newest copy is {copy}." if copy else ""
    if not inspection.was_store(path, health):
        return Finding(
            "Store", Level.PROBLEM, f"{path} is no SQLite file, and nothing beside it says that it was a store.",
            "Choose another file with --store, or rename this one and begin a new store; it is left alone.",
        )  # fmt: skip
    return Finding(
        "Store", Level.PROBLEM, f"{path} is damaged ({health.trouble}), so its runs cannot be relied on.{hint}",
        "`pwff doctor --mend` puts a new file with all that can be read in its place, and keeps the damaged one.",
    )  # fmt: skip


def newest_copy(snapshot: StoreSnapshot) -> str:
    """The name of the newest copy from before a renewal, "" if there is none."""
    files = backups(snapshot.path)
    return max(files, key=lambda copy: copy.stat().st_mtime).name if files else ""


def _commands(snapshot: StoreSnapshot) -> Iterator[Finding]:
    path, health = snapshot.commands_path, snapshot.commands
    if unusable(health):
        yield Finding(
            "Store", Level.PROBLEM, f"{path.name}, which has what pages ask of engines, is damaged ({health.trouble}).",
            "`pwff doctor --mend` sets it aside; a new one is made, and what was asked and not done yet is asked again "
            "by hand.",
        )  # fmt: skip
    elif health.condition in (Condition.NEWER, Condition.FOREIGN, Condition.UNREACHABLE):
        reason = health.trouble or health.condition.value
        yield Finding(
            "Store", Level.PROBLEM, f"{path.name}, which belongs to the store, cannot be used ({reason}).",
            "Upgrade pwff, close what locks the file, or choose another store with --store.",
        )  # fmt: skip


def unusable(health: Health) -> bool:
    """Whether a file cannot be used any more."""
    return health.condition in (Condition.DAMAGED, Condition.UNREADABLE)
