"""Makes a new store of what can be read of a damaged one. The damaged file is kept aside; nothing is thrown away.

Every table is read row by row, from both ends and, between the damaged pages, by number. Lost rows of runs are looked
up in the backups from before an upgrade. A run keeps its rounds up to the first gap: it can be resumed there, and plays
the others again.
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
from pwff_core.runs.store import endings
from pwff_core.runs.store.connections import transaction
from pwff_core.runs.store.endings import RunStatus
from pwff_core.runs.store.schema import RUNS, backups, prepare

_PAGE = 4096  # bytes of a page, as SQLite makes them
_VALID_FOR = slice(92, 96)  # bytes of the file's head: the change for which its number of pages holds
_PROBES = 50_000  # rows between damaged pages that are read one by one
_TAIL = 5_000  # rows that are tried behind the last readable one
_ID = re.compile(r"[a-z0-9]{1,32}")
_Row = dict[str, object]  # a column's name → its value
_Lists = dict[str, list[str]]  # a run's id → JSON texts, in the order in which they were written


class Recovery(NamedTuple):
    """The result for a damaged store."""

    aside: Path  # where it is now
    runs: int  # in the new file
    rounds: int
    from_copies: int  # of the runs: rows that only a backup had
    incomplete: tuple[str, ...]  # ids of runs that had more rounds than could be read
    unknown: int  # rounds of runs whose rows are lost; only the damaged file has them


class _Contents(NamedTuple):
    runs: dict[str, _Row]
    rounds: _Lists
    steerings: _Lists
    all_runs: bool  # False: some rows of runs could not be read


def recover(path: Path, timeout_s: float = 5.0) -> Recovery:
    """Replaces a damaged file by a new one with everything that can be read. No worker may be writing to it.

    StoreError if the new file cannot be written; nothing of the damaged one is lost then either.
    """
    try:
        return _replace(path, timeout_s)
    except OSError as error:
        raise StoreError(
            f"A new store cannot be put in the place of the damaged {path} ({error.strerror}); make room on its disk "
            "or allow writing to its folder, and mend it again.",
            passing=True,
        ) from None


def _replace(path: Path, timeout_s: float) -> Recovery:
    damaged, *older = [_contents(source) for source in (path, *_newest_first(backups(path)))]
    runs = dict(damaged.runs)
    for copy in () if damaged.all_runs else older:
        runs = copy.runs | runs
    fresh = path.with_name(f"{path.name}.new")
    for left_behind in (fresh, *_beside(fresh)):
        left_behind.unlink(missing_ok=True)
    prepare(fresh, RUNS, timeout_s)
    incomplete, rounds = [], 0
    with transaction(fresh, timeout_s, lasting=True) as connection:
        for run_id, row in runs.items():
            records = _up_to_gap(
                row, [damaged.rounds.get(run_id, []), *(copy.rounds.get(run_id, []) for copy in older)]
            )
            steerings = max((file.steerings.get(run_id, []) for file in (damaged, *older)), key=len)
            if len(records) < int(str(row["rounds_done"])):
                incomplete.append(run_id)
            rounds += len(records)
            _insert(connection, _put_right(row, len(records)), records, steerings)
    aside = set_aside(path)
    fresh.replace(path)
    unknown = sum(len(records) for run_id, records in damaged.rounds.items() if run_id not in runs)
    return Recovery(aside, len(runs), rounds, len(runs.keys() - damaged.runs.keys()), tuple(incomplete), unknown)


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
    """Everything in a file that can be read and makes sense."""
    contents = _read(path)
    if contents is None:  # its first page is lost, which says where the tables are
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            contents = _read(_with_new_head(path, Path(folder)))
    return contents or _Contents({}, {}, {}, False)


def _read(path: Path) -> _Contents | None:
    """The contents of a file; None where SQLite does not find the tables."""
    tables: dict[str, list[_Row]] = {}
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
        connection.text_factory = bytes
        try:
            connection.execute("PRAGMA writable_schema = ON")  # otherwise SQLite refuses a file that has lost its end
            tables["runs"], whole = _read_table(connection, "runs")
        except sqlite3.Error:
            return None
        for name in ("rounds", "steerings"):
            with suppress(sqlite3.Error):  # a version that had no such table
                tables[name] = _read_table(connection, name)[0]
    runs = {str(row["id"]): row for row in tables["runs"] if _is_run(row)}
    return _Contents(
        runs, _texts(tables.get("rounds", []), "record", RoundRecord),
        _texts(tables.get("steerings", []), "steering", Steering), whole and len(runs) == len(tables["runs"]),
    )  # fmt: skip


def _with_new_head(path: Path, folder: Path) -> Path:
    """A copy with the first page of a new store, as the tables of all stores begin on the same pages."""
    new, copy = folder / "new.sqlite", folder / "copy.sqlite"
    prepare(new, RUNS, 0.0)
    first = bytearray(new.read_bytes()[:_PAGE])
    first[_VALID_FOR] = b"\0\0\0\0"  # SQLite then counts the pages by the file's size
    shutil.copyfile(path, copy)
    if (log := path.with_name(f"{path.name}-wal")).exists():
        shutil.copyfile(log, copy.with_name(f"{copy.name}-wal"))
    with copy.open("r+b") as file:
        file.write(first)
    return copy


def _read_table(connection: sqlite3.Connection, table: str) -> tuple[list[_Row], bool]:
    """The rows of a table that can be read, in order, and whether that is all. sqlite3.Error if there is no table."""
    columns = [str(column[0]) for column in connection.execute(f"SELECT * FROM {table} LIMIT 0").description]
    query = f"SELECT rowid, * FROM {table} NOT INDEXED"
    rows: dict[int, _Row] = {}

    def scan(end: str, *values: int) -> bool:
        try:
            for number, *cells in connection.execute(query + end, values):
                rows[number] = dict(zip(columns, map(_decoded, cells), strict=True))
        except (sqlite3.Error, UnicodeDecodeError):
            return False
        return True

    if scan(" ORDER BY rowid"):
        return list(rows.values()), True
    last = max(rows, default=0)
    scan(" ORDER BY rowid DESC")
    behind = min((number for number in rows if number > last), default=last + _TAIL)
    for number in range(last + 1, min(behind, last + _PROBES)):
        scan(" WHERE rowid = ?", number)
    return [rows[number] for number in sorted(rows)], False


def _decoded(cell: object) -> object:
    return cell.decode("utf-8") if isinstance(cell, bytes) else cell


def _is_run(row: _Row) -> bool:
    """Whether a row makes sense: one that a pwff can have written."""
    try:
        json.loads(str(row["config"]))
        RunStatus(str(row["status"]))
    except ValueError:
        return False
    counts = (row["rounds_done"], row["rounds_total"])
    return bool(_ID.fullmatch(str(row["id"]))) and all(isinstance(count, int) for count in counts)


def _texts(rows: Sequence[_Row], column: str, model: type[RoundRecord] | type[Steering]) -> _Lists:
    """The JSON texts of a table by run, without those that are not of the model."""
    texts: _Lists = {}
    for row in rows:
        text = str(row[column])
        with suppress(ValidationError):
            model.model_validate_json(text)
            texts.setdefault(str(row["run_id"]), []).append(text)
    return texts


# ---- writing ------------------------------------------------------------------------------------------------------


def _up_to_gap(row: _Row, sources: Sequence[Sequence[str]]) -> list[str]:
    """A run's rounds up to the first that no source has."""
    try:
        config = RunConfig.model_validate_json(str(row["config"]))
    except ValidationError:  # of another version, which will check them itself
        longest: Sequence[str] = max(sources, key=len)
        return list(longest)
    texts: dict[tuple[str, int], tuple[str, RoundRecord]] = {}
    for text in (text for source in sources for text in source):
        record = RoundRecord.model_validate_json(text)
        texts.setdefault((record.stage, record.round), (text, record))
    return list(_in_order(config, texts))


def _in_order(config: RunConfig, texts: Mapping[tuple[str, int], tuple[str, RoundRecord]]) -> Iterator[str]:
    last: RoundRecord | None = None
    with suppress(KeyError, ValueError):  # a gap, or the end of the run
        while True:
            text, last = texts[next_round(config, last)]
            yield text


def _put_right(row: _Row, rounds: int) -> _Row:
    """The row with the number of rounds that are left; a run that ended and has lost some can be resumed."""
    lost = int(str(row["rounds_done"])) - rounds
    now: _Row = {**row, "rounds_done": rounds}
    if lost > 0 and RunStatus(str(row["status"])).ended:
        now |= {
            "status": str(RunStatus.FAILED),
            "message": endings.store_damaged(rounds, int(str(row["rounds_total"]))),
        }
    return now


def _insert(connection: sqlite3.Connection, row: _Row, records: Sequence[str], steerings: Sequence[str]) -> None:
    """Writes a run; columns that its version did not have keep their defaults."""
    table_columns = {column["name"] for column in connection.execute("PRAGMA table_info(runs)")}
    columns = [name for name in row if name in table_columns]
    places = ", ".join("?" * len(columns))
    connection.execute(f"INSERT INTO runs ({', '.join(columns)}) VALUES ({places})", [row[name] for name in columns])
    connection.executemany("INSERT INTO rounds (run_id, record) VALUES (?, ?)", [(row["id"], text) for text in records])
    lines = [(row["id"], text) for text in steerings]
    connection.executemany("INSERT INTO steerings (run_id, steering) VALUES (?, ?)", lines)
