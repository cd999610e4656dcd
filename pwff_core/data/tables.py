"""Rows of a file, of a folder of files or of a data set of the Hub: streamed, so that memory stays bounded.

The same code reads all three. A Hub id stands for its folder in the Hub's local cache; a data set that is too large for
the cache is streamed. Of a source with too many rows a random sample is kept, as many sources are sorted and their
first rows say little about the rest. The sample depends on the source alone: it is the same in every run.
"""

from __future__ import annotations

import glob
import heapq
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

from pwff_core import seeds
from pwff_core.data.hub import INSTEAD, TYPES, dataset_folder
from pwff_core.errors import DataError
from pwff_core.runs.uploads import source_name

LOADERS = {".json": "json", ".jsonl": "json", ".csv": "csv", ".parquet": "parquet"}
SAMPLE_SEED = 0
MAX_ROWS_READ = 2_000_000  # of a source: about a minute
BATCH = 256  # rows in memory beside the sample
LONGEST_TEXT = 32_768  # characters; the longest example has 8,192 tokens
MAX_ARRAY_BYTES = 500_000_000  # of a .json file that is one array, as it can only be read whole

End = Literal["beginning", "end"]
Choose: TypeAlias = Callable[[Sequence[str]], Mapping[str, End]]


class Table(NamedTuple):
    """Rows of a source, in its order."""

    rows: list[dict[str, Any]]
    numbers: list[int]  # of each row in its source, from 1
    notes: tuple[str, ...]  # what is missing of the source


def read_table(
    source: str,
    max_rows: int,
    choose: Choose,
    *,
    max_rows_read: int = MAX_ROWS_READ,
    max_array_bytes: int = MAX_ARRAY_BYTES,
) -> Table:
    """A sample of the rows of a source. DataError if it cannot be read, has no training split or no rows.

    Args:
        source: a file, a folder or a Hub id; `NAME:PART` is a folder or configuration in it.
        max_rows: rows of the sample.
        choose: gets the names of the columns, and returns those to read, each with the end that is kept of a text
            above LONGEST_TEXT. It may raise DataError.
        max_rows_read: rows that the sample is taken from.
        max_array_bytes: size of the largest .json file that is one array.
    """
    import datasets

    datasets.disable_progress_bars()
    try:
        stream = _stream(source, max_array_bytes)
        return _sample(source, max_rows, choose, stream, max_rows_read)
    except DataError as error:
        raise DataError(str(error).replace(source, source_name(source))) from None
    except Exception as error:  # noqa: BLE001  each reader has its own errors
        raise DataError(f"{source} cannot be read: {_cause(error)}.".replace(source, source_name(source))) from None


def short_repr(value: Any) -> str:
    """A value as a message shows it: at most 40 characters."""
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "…"


def _stream(source: str, max_array_bytes: int) -> Any:
    """The training split of a source as a stream."""
    import datasets
    from datasets.packaged_modules.json.json import JsonConfig
    from datasets.packaged_modules.parquet.parquet import ParquetConfig

    path = Path(source).expanduser()
    if path.is_file():
        builder = datasets.load_dataset_builder(_loader(path), data_files=glob.escape(str(path)))
    else:
        builder = _builder_of_folder(source)
    splits = [str(split) for split in builder.config.data_files]
    if "train" not in splits:
        raise DataError(f"{source} has no training split, only {', '.join(splits)}; give one of its files instead.")
    for file in builder.config.data_files["train"]:
        _check_array(Path(file), max_array_bytes)
    if isinstance(builder.config, ParquetConfig):
        builder.config.batch_size = BATCH  # instead of a row group, which may be the whole file
    if isinstance(builder.config, JsonConfig):
        builder.config.on_mixed_types = None  # an error, instead of quoting texts a second time
    return builder.as_streaming_dataset(split="train")


def _loader(path: Path) -> str:
    """The name of the reader of `datasets` for a file."""
    plain = path.with_suffix("") if path.suffix.lower() == ".gz" else path
    if plain.suffix.lower() not in LOADERS:
        raise DataError(f"{path} is of an unknown type; give a {TYPES} file.")
    if path.stat().st_size == 0:
        raise DataError(f"{path} is empty; give a file with at least three rows a client.")
    return LOADERS[plain.suffix.lower()]


def _builder_of_folder(source: str) -> Any:
    """The reader of a folder or of a data set of the Hub, or of the part of it behind a colon."""
    import datasets

    name, _, part = (source, "", "") if Path(source).expanduser().is_dir() else source.partition(":")
    folder: Path | None = Path(name).expanduser()
    if folder and not folder.is_dir():
        if Path(name).suffix.lower() in (*LOADERS, ".gz") or name.startswith(("/", "./", "../", "~")):
            raise DataError(f"There is no file or folder {name}. {INSTEAD}.")
        folder = dataset_folder(name, part)
    where = str(folder.resolve()) if folder else name
    try:
        return datasets.load_dataset_builder(where, data_dir=part or None)
    except FileNotFoundError:  # no such folder in it, or no files
        if not part:
            raise DataError(f"{source} holds no data files. {INSTEAD}.") from None
    except RuntimeError as error:  # a script
        raise DataError(f"{source} has a program to read it, which is not run ({_cause(error)}). {INSTEAD}.") from None
    except ValueError:
        names = datasets.get_dataset_config_names(where)
        if len(names) == 1:
            raise
        raise DataError(
            f"{source} has several configurations ({', '.join(names)}); give one after a colon: {name}:{names[0]}."
        ) from None
    try:
        return datasets.load_dataset_builder(where, part)
    except (FileNotFoundError, ValueError):
        folders = sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder else []
        raise DataError(
            f"{name} has neither a folder with data files nor a configuration {part!r}."
            + (f" Its folders are {', '.join(folders)}." if folders else "")
        ) from None


def _check_array(path: Path, max_bytes: int) -> None:
    if path.suffix.lower() != ".json" or not path.is_file() or path.stat().st_size <= max_bytes:
        return
    with path.open("rb") as file:
        if file.read(64).lstrip().startswith(b"["):
            raise DataError(
                f"{path} is one JSON array of {path.stat().st_size / 1e6:,.0f} MB, which would have to be read whole; "
                "write it as .jsonl or .parquet."
            )


def _sample(source: str, max_rows: int, choose: Choose, stream: Any, max_rows_read: int) -> Table:
    """A uniform sample in one pass: every row draws a random key, and the rows with the smallest keys are kept."""
    generator = seeds.generator(SAMPLE_SEED, "rows")
    columns: Mapping[str, End] = {}
    kept: list[tuple[float, int, dict[str, Any], bool]] = []  # a heap of (−key, number, row, whether it was cut)
    total = 0
    for batch in stream.with_format("arrow").iter(batch_size=BATCH):
        if total >= max_rows_read:
            break
        columns = columns or choose(batch.column_names)
        keys = generator.random(len(batch))
        places = np.flatnonzero(keys < (-kept[0][0] if len(kept) == max_rows else 1.0))
        for place, row in zip(places.tolist(), batch.select(list(columns)).take(places).to_pylist(), strict=True):
            cut = {name: _cut(value, columns[name]) for name, value in row.items()}
            entry = (-float(keys[place]), total + place + 1, cut, cut != row)
            (heapq.heappush if len(kept) < max_rows else heapq.heappushpop)(kept, entry)
        total += len(batch)
    if not total:
        raise DataError(f"{source} has no rows.")
    kept.sort(key=operator.itemgetter(1))
    cut_rows = sum(was_cut for *_, was_cut in kept)
    notes = _notes(source_name(source), max_rows, total, total >= max_rows_read, cut_rows)
    return Table([row for _, _, row, _ in kept], [number for _, number, _, _ in kept], tuple(notes))


def _notes(source: str, max_rows: int, total: int, incomplete: bool, cut_rows: int) -> Iterator[str]:
    if total > max_rows:
        rows = f"the first {total:,} rows" if incomplete else f"the {total:,} rows"
        yield f"{max_rows:,} of {rows} of {source} are used: a random sample, the same in every run (data.max_rows)."
    if cut_rows:
        yield (
            f"{cut_rows:,} rows of {source} have texts above {LONGEST_TEXT:,} characters, which were shortened to that."
        )


def _cut(value: Any, kept_end: End) -> Any:
    """A value whose texts, also those in lists and objects, have at most LONGEST_TEXT characters."""
    if isinstance(value, str):
        return value[:LONGEST_TEXT] if kept_end == "beginning" else value[-LONGEST_TEXT:]
    if isinstance(value, list):
        return [_cut(item, kept_end) for item in value]
    if isinstance(value, dict):
        return {name: _cut(item, kept_end) for name, item in value.items()}
    return value


def _cause(error: BaseException) -> str:
    """The innermost reason, as one line."""
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__  # type: ignore[assignment]
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
