"""The store's own files: is each of them there, ours, whole and of this version?"""

from __future__ import annotations

from collections.abc import Iterator

from pwff_core.runs.store import SCHEMA_VERSION, inspection
from pwff_core.runs.store.copies import copies
from pwff_core.runs.store.inspection import Condition, Health
from pwff_core.tools.doctor.findings import Finding, Level, counted
from pwff_core.tools.doctor.snapshot import Patient
from pwff_core.units import with_prefix

LONG_LOG = 64_000_000  # bytes of a write-ahead log that has not been moved into its file for long


def findings(patient: Patient) -> Iterator[Finding]:
    """What there is to say of both files."""
    yield _store(patient)
    yield from _commands(patient)
    if patient.sound and patient.health.log > LONG_LOG:
        yield Finding(
            "Store", Level.NOTE, f"Its write-ahead log has grown to {with_prefix(patient.health.log, 'B')}.",
            "`pwff doctor --mend` moves it into the file.",
        )  # fmt: skip


def _store(patient: Patient) -> Finding:
    path, found = patient.path, patient.health
    size = with_prefix(found.size + found.log, "B")
    match found.condition:
        case Condition.MISSING:
            return Finding("Store", Level.OK, f"There is none yet at {path}; `pwff run` or `pwff app` makes one.")
        case Condition.SOUND:
            deleted = sum(entry.deleted for entry in patient.entries.values())
            kept = len(patient.entries) - deleted
            runs = f"{counted(kept, 'run')}{f' and {deleted} deleted' if deleted else ''}, "
            checked = "sound" if found.whole else "sound as far as it was checked in a second"
            return Finding(
                "Store", Level.OK, f"{path}: {runs if patient.sound else ''}{size}, format {found.version}, {checked}."
            )
        case Condition.OLDER:
            return Finding(
                "Store", Level.NOTE, f"{path} is of an older pwff (format {found.version}; now {SCHEMA_VERSION}), so "
                "its runs were not looked at.",
                "Any other command renews it and keeps a copy; so does `pwff doctor --mend`.",
            )  # fmt: skip
        case Condition.NEWER:
            return Finding(
                "Store", Level.PROBLEM,
                f"{path} was written by a newer pwff (format {found.version}; this one reads up to {SCHEMA_VERSION}).",
                "Upgrade pwff, or choose another file with --store.",
            )  # fmt: skip
        case Condition.FOREIGN:
            return Finding(
                "Store", Level.PROBLEM, f"{path} is an SQLite file of another program.",
                "Choose another file with --store; this one is left alone.",
            )  # fmt: skip
        case Condition.UNREACHABLE:
            return Finding(
                "Store", Level.PROBLEM, f"{path} cannot be read at the moment ({found.trouble}).",
                "Check that its disk is there, that you may read and write it, and that no other program locks it.",
            )  # fmt: skip
        case Condition.DAMAGED | Condition.UNREADABLE:
            return _damaged(patient)


def _damaged(patient: Patient) -> Finding:
    path, found = patient.path, patient.health
    kept = newest_copy(patient)
    known = f" Its newest copy is {kept}." if kept else ""
    if not inspection.was_store(path, found):
        return Finding(
            "Store", Level.PROBLEM, f"{path} is no SQLite file, and nothing beside it says that it was a store.",
            "Choose another file with --store, or rename this one and begin a new store; it is left alone.",
        )  # fmt: skip
    return Finding(
        "Store", Level.PROBLEM, f"{path} is damaged ({found.trouble}), so its runs cannot be relied on.{known}",
        "`pwff doctor --mend` puts a new file with all that can be read in its place, and keeps the damaged one.",
    )  # fmt: skip


def newest_copy(patient: Patient) -> str:
    """The name of the newest copy from before a renewal, "" if there is none."""
    found = copies(patient.path)
    return max(found, key=lambda copy: copy.stat().st_mtime).name if found else ""


def _commands(patient: Patient) -> Iterator[Finding]:
    path, found = patient.commands_path, patient.commands
    if lost(found):
        yield Finding(
            "Store", Level.PROBLEM, f"{path.name}, which has what pages ask of engines, is damaged ({found.trouble}).",
            "`pwff doctor --mend` sets it aside; a new one is made, and what was asked and not done yet is asked again "
            "by hand.",
        )  # fmt: skip
    elif found.condition in (Condition.NEWER, Condition.FOREIGN, Condition.UNREACHABLE):
        reason = found.trouble or found.condition.value
        yield Finding(
            "Store", Level.PROBLEM, f"{path.name}, which belongs to the store, cannot be used ({reason}).",
            "Upgrade pwff, close what locks the file, or choose another store with --store.",
        )  # fmt: skip


def lost(found: Health) -> bool:
    """Whether a file cannot be used any more."""
    return found.condition in (Condition.DAMAGED, Condition.UNREADABLE)
