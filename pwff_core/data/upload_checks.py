"""Checks of an upload before any reader opens it: a stranger's small file must not fill the computer's memory.

A few kilobytes of Parquet can hold billions of values, a line of CSV millions of columns, and JSON can be nested deeper
than a parser's stack. So an upload is flat (a row is texts and numbers), has few columns, and a bounded size unpacked.
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

from pwff_core.data.tables import MAX_ROWS_READ, short_repr
from pwff_core.errors import DataError
from pwff_core.runs.uploads import source_name

MAX_COLUMNS = 64
MAX_UNPACKED_BYTES = 100_000_000  # of texts
_BATCH = 1024
_MEMORY_BYTES = 2_000_000_000  # address space that a check may add to what is used already
_ADVICE = "Write the table anew, in UTF-8 and in Alpaca columns: instruction, output and, if you like, input."

Check: TypeAlias = Callable[[Path], None]


def check_upload(path: Path) -> None:
    """DataError if a file is not of the type that its ending says, is nested, too wide, or too large unpacked."""
    checks: dict[str, Check] = {
        ".json": _check_json,
        ".jsonl": _check_json,
        ".csv": _check_csv,
        ".parquet": _check_parquet,
    }
    with bounded_memory(path):
        checks[path.suffix](path)


def _check_json(path: Path) -> None:
    """An array of objects, or one object a line."""
    text = _read_text(path)
    array = text.lstrip().startswith("[")
    try:
        rows = json.loads(text) if array else (json.loads(line) for line in text.split("\n") if line.strip())
        _check_objects(path, rows)
    except (ValueError, RecursionError) as error:
        cause = "it is nested too deeply" if isinstance(error, RecursionError) else f"it is not valid JSON: {error}"
        raise _unreadable(path, cause) from None


def _check_objects(path: Path, rows: Iterable[Any]) -> None:
    columns: set[str] = set()
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            raise _unreadable(path, f"row {number} is {short_repr(row)} and no object of columns")
        for name, value in row.items():
            if isinstance(value, list | dict):
                raise _unreadable(path, f"row {number} has {short_repr(value)}, and a row holds texts and numbers only")
            if isinstance(value, str):
                _check_text(path, value, number)
            _check_text(path, name, number)
        columns.update(row)
        _check_width(path, len(columns))


def _check_text(path: Path, text: str, number: int) -> None:
    if "\0" in text or not text.isascii() and any("\ud800" <= letter <= "\udfff" for letter in text):
        raise _unreadable(path, f"row {number} holds characters that are no text")


def _check_csv(path: Path) -> None:
    """Rows of fields, the first of them the columns' names."""
    try:
        for row in csv.reader(io.StringIO(_read_text(path), newline="")):
            _check_width(path, len(row))
    except csv.Error as error:
        raise _unreadable(path, f"it is not valid CSV: {error}") from None


def _read_text(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise _unreadable(path, f"it is not UTF-8 (byte {error.start:,})") from None
    if "\0" in text:
        raise _unreadable(path, "it holds a NUL character, so it is no text")
    return text


def _check_parquet(path: Path) -> None:
    """Flat columns. Texts are measured through their dictionaries, so that repeated ones are not unpacked."""
    import pyarrow as pa
    from pyarrow import parquet

    try:
        schema = parquet.read_schema(path, memory_map=False)
        _check_width(path, len(schema))
        types = {name: schema.field(name).type for name in schema.names}
        for name, column_type in types.items():
            if not (_is_text(column_type) or _is_number(column_type)):
                raise _unreadable(path, f"its column {name!r} is of type {column_type}; allowed are texts and numbers")
        texts = [name for name, column_type in types.items() if _is_text(column_type)]
        file = parquet.ParquetFile(path, read_dictionary=texts)
        metadata = file.metadata
        packed = sum(metadata.row_group(group).total_byte_size for group in range(metadata.num_row_groups))
        _check_size(path, metadata.num_rows, packed)
        unpacked = 0
        for batch in file.iter_batches(batch_size=_BATCH, columns=texts, use_threads=False):
            unpacked += sum(_bytes(column) for column in batch.columns)
            _check_size(path, metadata.num_rows, unpacked)
    except (pa.ArrowException, OSError, KeyError) as error:
        raise _unreadable(path, f"it is not valid Parquet: {' '.join(str(error).split())[:200]}") from None


def _is_text(column_type: Any) -> bool:
    from pyarrow import types

    plain = column_type.value_type if types.is_dictionary(column_type) else column_type
    return bool(types.is_string(plain) or types.is_large_string(plain))


def _is_number(column_type: Any) -> bool:
    """Whether its values have a fixed, small width."""
    from pyarrow import types

    return bool(types.is_primitive(column_type) or types.is_null(column_type))


def _bytes(column: Any) -> int:
    """Bytes of a column of texts once it is unpacked; a dictionary's entries count as often as they occur."""
    import pyarrow as pa
    from pyarrow import compute

    if not pa.types.is_dictionary(column.type):
        return int(column.nbytes)
    lengths = compute.binary_length(column.dictionary)
    return compute.sum(compute.take(lengths, column.indices)).as_py() or 0


def _check_width(path: Path, columns: int) -> None:
    if columns > MAX_COLUMNS:
        raise _unreadable(path, f"it has {columns:,} columns; at most {MAX_COLUMNS} are read")


def _check_size(path: Path, rows: int, unpacked: int) -> None:
    if rows > MAX_ROWS_READ:
        raise _unreadable(path, f"it has {rows:,} rows; at most {MAX_ROWS_READ:,} are read of an upload")
    if unpacked > MAX_UNPACKED_BYTES:
        raise _unreadable(path, f"it has more than {MAX_UNPACKED_BYTES / 1e6:.0f} MB of texts once it is unpacked")


def _unreadable(path: Path, cause: str) -> DataError:
    return DataError(f"The {source_name(str(path))} cannot be read: {cause.rstrip('.')}. {_ADVICE}")


@contextmanager
def bounded_memory(path: Path) -> Iterator[None]:
    """While a file is read: DataError for what does not fit into memory, such as a header with false sizes claims.

    On Linux the address space is bounded meanwhile; other systems have only the errors of allocations that fail.
    """
    try:
        with _bounded_address_space():
            yield
    except (MemoryError, OverflowError):
        raise DataError(
            f"The {source_name(str(path))} cannot be read in the memory there is for it. {_ADVICE}"
        ) from None


@contextmanager
def _bounded_address_space() -> Iterator[None]:
    if sys.platform != "linux":
        yield
        return
    import resource

    import psutil

    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    bound = psutil.Process().memory_info().vms + _MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (bound if soft == resource.RLIM_INFINITY else min(bound, soft), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
