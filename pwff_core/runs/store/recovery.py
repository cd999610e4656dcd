"""A new store of what can be read of a damaged one. The damaged file is kept aside; nothing is thrown away.

Every table is read row by row, from both ends and, between the damaged pages, by number. Where rows of runs are lost,
copies from before a renewal are asked for them. Of a run's rounds those are kept that follow on each other without a
gap: the run can be resumed behind them, and plays the others again.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from pwff_core.config import RunConfig, next_round
from pwff_core.errors import StoreError
from pwff_core.records import RoundRecord, Steering
from pwff_core.runs.store.connections import transaction
from pwff_core.runs.store.copies import copies
from pwff_core.runs.store.rows import RunStatus
from pwff_core.runs.store.schema import RUNS, prepare

_PAGE = 4096  # bytes of a page, as SQLite makes them
_VALID_FOR = slice(92, 96)  # bytes of the file's head that say for which change the number of pages in it holds
_PROBES = 50_000  # so many rows between damaged pages are asked for one by one
_TAIL = 5_000  # and so many behind the last that can be read
_ID = re.compile(r"[a-z0-9]{1,32}")
_Row = dict[str, object]  # a column's name → its value
_Lists = dict[str, list[str]]  # a run's id → JSON texts, in the order in which they were written


class Salvaged(NamedTuple):
    """What has become of a damaged store."""

    aside: Path  # where it is now
    runs: int  # in the new file
    rounds: int
    from_copies: int  # of the runs: rows that only a copy had
    incomplete: tuple[str, ...]  # ids of runs that had more rounds than could be read
    unknown: int  # rounds of runs whose rows are lost: they are in the damaged file alone


class _Contents(NamedTuple):
    runs: dict[str, _Row]
    rounds: _Lists
    steerings: _Lists
    all_runs: bool  # False: some rows of runs could not be read


def salvage(path: Path, patience_s: float = 5.0) -> Salvaged:
    """Puts a new file with all that can be read in the place of a damaged one. No worker may be writing to it.

    StoreError if the new file cannot be written; nothing of the damaged one is lost then either.
    """
    try:
        return _replaced(path, patience_s)
    except OSError as error:
        raise StoreError(
            f"A new store cannot be put in the place of the damaged {path} ({error.strerror}); make room on its disk "
            "or allow writing to its folder, and mend it again.",
            passing=True,
        ) from None


def _replaced(path: Path, patience_s: float) -> Salvaged:
    found, *older = [_contents(source) for source in (path, *_newest_first(copies(path)))]
    runs = dict(found.runs)
    for copy in () if found.all_runs else older:
        runs = copy.runs | runs
    fresh = path.with_name(f"{path.name}.new")
    for left_behind in (fresh, *_beside(fresh)):
        left_behind.unlink(missing_ok=True)
    prepare(fresh, RUNS, patience_s)
    incomplete, rounds = [], 0
    with transaction(fresh, patience_s, lasting=True) as connection:
        for run_id, row in runs.items():
            records = _without_gaps(
                row, [found.rounds.get(run_id, []), *(copy.rounds.get(run_id, []) for copy in older)]
            )
            steerings = max((one.steerings.get(run_id, []) for one in (found, *older)), key=len)
            if len(records) < int(str(row["rounds_done"])):
                incomplete.append(run_id)
            rounds += len(records)
            _insert(connection, _put_right(row, len(records)), records, steerings)
    aside = set_aside(path)
    fresh.replace(path)
    unknown = sum(len(records) for run_id, records in found.rounds.items() if run_id not in runs)
    return Salvaged(aside, len(runs), rounds, len(runs.keys() - found.runs.keys()), tuple(incomplete), unknown)


def set_aside(path: Path) -> Path:
    """Renames a file and its logs, so that the name is free; returns the new name, which has the time in it."""
    stem = f"{path.stem}.damaged-{time.strftime('%Y%m%d-%H%M%S')}"
    names = (path.with_name(f"{stem}{'' if n == 1 else f'-{n}'}{path.suffix}") for n in itertools.count(1))
    aside = next(name for name in names if not name.exists())
    for beside in _beside(path):
        if beside.exists():
            beside.replace(aside.with_name(aside.name + beside.name.removeprefix(path.name)))
    path.replace(aside)
    return aside


def _beside(path: Path) -> list[Path]:
    return [path.with_name(f"{path.name}-{end}") for end in ("wal", "shm")]


def _newest_first(files: Sequence[Path]) -> list[Path]:
    return sorted(files, key=os.path.getmtime, reverse=True)


# ---- reading ------------------------------------------------------------------------------------------------------


def _contents(path: Path) -> _Contents:
    """All of a file that can be read and makes sense."""
    found = _read(path)
    if found is None:  # its first page is lost, which says where the tables are
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            found = _read(_grafted(path, Path(folder)))
    return found or _Contents({}, {}, {}, False)


def _read(path: Path) -> _Contents | None:
    """The same without help; None where SQLite does not find the tables."""
    tables: dict[str, list[_Row]] = {}
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
        connection.text_factory = bytes
        try:
            connection.execute("PRAGMA writable_schema = ON")  # or SQLite refuses a file that has lost its end
            tables["runs"], whole = _readable(connection, "runs")
        except sqlite3.Error:
            return None
        for name in ("rounds", "steerings"):
            with suppress(sqlite3.Error):  # a version that had no such table
                tables[name] = _readable(connection, name)[0]
    runs = {str(row["id"]): row for row in tables["runs"] if _is_run(row)}
    return _Contents(
        runs, _texts(tables.get("rounds", []), "record", RoundRecord),
        _texts(tables.get("steerings", []), "steering", Steering), whole and len(runs) == len(tables["runs"]),
    )  # fmt: skip


def _grafted(path: Path, folder: Path) -> Path:
    """A copy with the first page of a new store: the first tables of all stores begin on the same pages."""
    new, copy = folder / "new.sqlite", folder / "copy.sqlite"
    prepare(new, RUNS, 0.0)
    first = bytearray(new.read_bytes()[:_PAGE])
    first[_VALID_FOR] = b"\0\0\0\0"  # so that the number of pages is told from the file's size
    shutil.copyfile(path, copy)
    if (log := path.with_name(f"{path.name}-wal")).exists():
        shutil.copyfile(log, copy.with_name(f"{copy.name}-wal"))
    with copy.open("r+b") as file:
        file.write(first)
    return copy


def _readable(connection: sqlite3.Connection, table: str) -> tuple[list[_Row], bool]:
    """The rows of a table that can be read, in order, and whether that is all. sqlite3.Error if there is no table."""
    columns = [str(column[0]) for column in connection.execute(f"SELECT * FROM {table} LIMIT 0").description]
    query = f"SELECT rowid, * FROM {table} NOT INDEXED"
    found: dict[int, _Row] = {}

    def scan(end: str, *values: int) -> bool:
        try:
            for number, *cells in connection.execute(query + end, values):
                found[number] = dict(zip(columns, map(_decoded, cells), strict=True))
        except (sqlite3.Error, UnicodeDecodeError):
            return False
        return True

    if scan(" ORDER BY rowid"):
        return list(found.values()), True
    last = max(found, default=0)
    scan(" ORDER BY rowid DESC")
    behind = min((number for number in found if number > last), default=last + _TAIL)
    for number in range(last + 1, min(behind, last + _PROBES)):
        scan(" WHERE rowid = ?", number)
    return [found[number] for number in sorted(found)], False


def _decoded(cell: object) -> object:
    return cell.decode("utf-8") if isinstance(cell, bytes) else cell


def _is_run(row: _Row) -> bool:
    """Whether a row that was read is one that can have been written."""
    try:
        json.loads(str(row["config"]))
        RunStatus(str(row["status"]))
    except ValueError:
        return False
    counts = (row["rounds_done"], row["rounds_total"])
    return bool(_ID.fullmatch(str(row["id"]))) and all(isinstance(count, int) for count in counts)


def _texts(rows: Sequence[_Row], column: str, model: type[RoundRecord] | type[Steering]) -> _Lists:
    """The JSON texts of a table by run; those that are none of the model are left out."""
    found: _Lists = {}
    for row in rows:
        text = str(row[column])
        with suppress(ValidationError):
            model.model_validate_json(text)
            found.setdefault(str(row["run_id"]), []).append(text)
    return found


# ---- writing ------------------------------------------------------------------------------------------------------


def _without_gaps(row: _Row, sources: Sequence[Sequence[str]]) -> list[str]:
    """A run's rounds from the first to the one before the first that no source has."""
    try:
        config = RunConfig.model_validate_json(str(row["config"]))
    except ValidationError:  # of another version, which has to judge by itself
        longest: Sequence[str] = max(sources, key=len)
        return list(longest)
    texts: dict[tuple[str, int], tuple[str, RoundRecord]] = {}
    for text in (text for source in sources for text in source):
        record = RoundRecord.model_validate_json(text)
        texts.setdefault((record.stage, record.round), (text, record))
    return list(_following(config, texts))


def _following(config: RunConfig, texts: Mapping[tuple[str, int], tuple[str, RoundRecord]]) -> Iterator[str]:
    last: RoundRecord | None = None
    with suppress(KeyError, ValueError):  # a gap, or the end of the run
        while True:
            text, last = texts[next_round(config, last)]
            yield text


def _put_right(row: _Row, rounds: int) -> _Row:
    """The row with the rounds that the run has now; one that has ended and lacks some can be resumed."""
    lost = int(str(row["rounds_done"])) - rounds
    now: _Row = {**row, "rounds_done": rounds}
    if lost > 0 and RunStatus(str(row["status"])).ended:
        kept = f"{rounds} of {row['rounds_total']} rounds are left"
        now |= {
            "status": str(RunStatus.FAILED),
            "message": f"The store was damaged; {kept}. Resume to play the others.",
        }
    return now


def _insert(connection: sqlite3.Connection, row: _Row, records: Sequence[str], steerings: Sequence[str]) -> None:
    """Writes a run as a new one; what its version had no column for stays as the table has it."""
    known = {column["name"] for column in connection.execute("PRAGMA table_info(runs)")}
    columns = [name for name in row if name in known]
    places = ", ".join("?" * len(columns))
    connection.execute(f"INSERT INTO runs ({', '.join(columns)}) VALUES ({places})", [row[name] for name in columns])
    connection.executemany("INSERT INTO rounds (run_id, record) VALUES (?, ?)", [(row["id"], text) for text in records])
    lines = [(row["id"], text) for text in steerings]
    connection.executemany("INSERT INTO steerings (run_id, steering) VALUES (?, ?)", lines)
