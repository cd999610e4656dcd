"""An upload is looked through before a reader takes it: a small file of a stranger must not take the computer's memory.

A few kilobytes of Parquet can hold billions of values, a line of CSV millions of columns, and JSON can be nested until
a parser's stack ends. So uploads are flat (a row is texts and numbers), have few columns, and are bounded unpacked.
"""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

from pwff_core.data.tables import LOOKED_AT, shortened
from pwff_core.errors import DataError
from pwff_core.runs.uploads import shown

MOST_COLUMNS = 64
LARGEST_UNPACKED = 100_000_000  # bytes of texts
LONGEST_FIELD = 131_072  # characters of a CSV field: Python's own limit
_ROWS_AT_ONCE = 1024
_ROOM = 2_000_000_000  # bytes of address space that looking through a file may take beside what is taken already
_ADVICE = "Write the table anew, in UTF-8 and in Alpaca columns: instruction, output and, if you like, input."

Check: TypeAlias = Callable[[Path], None]


def look_through(path: Path) -> None:
    """DataError with a sentence if a file is not what its ending says, is nested, too wide or too large unpacked."""
    checks: dict[str, Check] = {".json": _json, ".jsonl": _json, ".csv": _csv, ".parquet": _parquet}
    try:
        with _bounded_memory():
            checks[path.suffix](path)
    except (MemoryError, OverflowError):
        raise DataError(f"The {shown(str(path))} cannot be read in the memory there is for it. {_ADVICE}") from None


def _json(path: Path) -> None:
    """An array of objects, or one object a line."""
    text = _text(path)
    array = text.lstrip().startswith("[")
    try:
        rows = json.loads(text) if array else (json.loads(line) for line in text.split("\n") if line.strip())
        _check_objects(path, rows)
    except (ValueError, RecursionError) as error:
        cause = "it is nested too deeply" if isinstance(error, RecursionError) else f"it is not valid JSON: {error}"
        raise _bad(path, cause) from None


def _check_objects(path: Path, rows: Iterable[Any]) -> None:
    columns: set[str] = set()
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            raise _bad(path, f"row {number} is {shortened(row)} and no object of columns")
        for name, value in row.items():
            if isinstance(value, list | dict):
                raise _bad(path, f"row {number} has {shortened(value)}, and a row holds texts and numbers only")
            if isinstance(value, str):
                _check_text(path, value, number)
            _check_text(path, name, number)
        columns.update(row)
        _check_width(path, len(columns))


def _check_text(path: Path, text: str, number: int) -> None:
    if "\0" in text or not text.isascii() and any("\ud800" <= letter <= "\udfff" for letter in text):
        raise _bad(path, f"row {number} holds characters that are no text")


def _csv(path: Path) -> None:
    """Rows of fields, the first of them the columns' names."""
    try:
        for row in csv.reader(io.StringIO(_text(path), newline="")):
            _check_width(path, len(row))
    except csv.Error as error:
        raise _bad(path, f"it is not valid CSV: {error}") from None


def _text(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise _bad(path, f"it is not UTF-8 (byte {error.start:,})") from None
    if "\0" in text:
        raise _bad(path, "it holds a NUL character, so it is no text")
    return text


def _parquet(path: Path) -> None:
    """Flat columns; texts are measured through their dictionaries, without unpacking what they repeat."""
    import pyarrow as pa
    from pyarrow import parquet

    try:
        names = parquet.read_schema(path, memory_map=False)
        _check_width(path, len(names))
        odd = [
            name for name in names.names if not (_is_text(names.field(name).type) or _is_number(names.field(name).type))
        ]
        if odd:
            raise _bad(
                path, f"its column {odd[0]!r} is of type {names.field(odd[0]).type}; allowed are texts and numbers"
            )
        texts = [name for name in names.names if _is_text(names.field(name).type)]
        file = parquet.ParquetFile(path, read_dictionary=texts)
        about = file.metadata
        packed = sum(about.row_group(group).total_byte_size for group in range(about.num_row_groups))
        _check_size(path, about.num_rows, packed)
        unpacked = 0
        for batch in file.iter_batches(batch_size=_ROWS_AT_ONCE, columns=texts, use_threads=False):
            unpacked += sum(_bytes(column) for column in batch.columns)
            _check_size(path, about.num_rows, unpacked)
    except (pa.ArrowException, OSError, KeyError) as error:
        raise _bad(path, f"it is not valid Parquet: {' '.join(str(error).split())[:200]}") from None


def _is_text(kind: Any) -> bool:
    from pyarrow import types

    plain = kind.value_type if types.is_dictionary(kind) else kind
    return bool(types.is_string(plain) or types.is_large_string(plain))


def _is_number(kind: Any) -> bool:
    """Whether it is of a fixed, small width."""
    from pyarrow import types

    return bool(types.is_primitive(kind) or types.is_null(kind))


def _bytes(column: Any) -> int:
    """Bytes of a column of texts, of a dictionary's as often as they are named."""
    import pyarrow as pa
    from pyarrow import compute

    if not pa.types.is_dictionary(column.type):
        return int(column.nbytes)
    lengths = compute.binary_length(column.dictionary)
    return compute.sum(compute.take(lengths, column.indices)).as_py() or 0


def _check_width(path: Path, columns: int) -> None:
    if columns > MOST_COLUMNS:
        raise _bad(path, f"it has {columns:,} columns; at most {MOST_COLUMNS} are read")


def _check_size(path: Path, rows: int, unpacked: int) -> None:
    if rows > LOOKED_AT:
        raise _bad(path, f"it has {rows:,} rows; at most {LOOKED_AT:,} are read of an upload")
    if unpacked > LARGEST_UNPACKED:
        raise _bad(path, f"it has more than {LARGEST_UNPACKED / 1e6:.0f} MB of texts once it is unpacked")


def _bad(path: Path, cause: str) -> DataError:
    return DataError(f"The {shown(str(path))} cannot be read: {cause.rstrip('.')}. {_ADVICE}")


@contextmanager
def _bounded_memory() -> Iterator[None]:
    """A header that lies about sizes ends in a MemoryError here, where the system knows such a bound (Linux)."""
    if sys.platform != "linux":
        yield
        return
    import resource

    import psutil

    before = resource.getrlimit(resource.RLIMIT_AS)
    wanted = psutil.Process().memory_info().vms + _ROOM
    most = wanted if before[0] == resource.RLIM_INFINITY else min(wanted, before[0])
    resource.setrlimit(resource.RLIMIT_AS, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
