"""Rows of a file, of a folder of files or of a data set of the Hub: streamed, so that memory stays bounded.

All three are read by the same code. A Hub id is the folder that the Hub's local cache has of it; a data set too large
to be kept there is streamed. Of a source with more rows than are wanted a random sample is kept, for many are sorted,
and their first rows say little about the rest. It depends on the source alone: the same rows in every run.
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
from pwff_core.runs.uploads import shown

LOADERS = {".json": "json", ".jsonl": "json", ".csv": "csv", ".parquet": "parquet"}
SAMPLE_SEED = 0
LOOKED_AT = 2_000_000  # rows of a source at most: about a minute
BATCH = 256  # rows in memory beside those that are kept
LONGEST_TEXT = 32_768  # characters; the longest example has 8,192 tokens
LARGEST_ARRAY = 500_000_000  # bytes of a .json file that is one array, for it can only be read whole

End = Literal["beginning", "end"]
Choose: TypeAlias = Callable[[Sequence[str]], Mapping[str, End]]


class Table(NamedTuple):
    """Rows of a source, in its order."""

    rows: list[dict[str, Any]]
    numbers: list[int]  # of each row in its source, from 1
    notes: tuple[str, ...]  # what is missing of the source


def read_table(source: str, most: int, choose: Choose) -> Table:
    """At most `most` rows of a source: a file, a folder or a Hub id; `NAME:PART` is a folder or configuration in it.

    Of the columns that there are, `choose` picks those to read, and which end is kept of a text above LONGEST_TEXT.
    DataError if the source cannot be read, has no training split or no rows, or `choose` raises it.
    """
    import datasets

    datasets.disable_progress_bars()
    try:
        return _sample(source, most, choose, _stream(source))
    except DataError as error:
        raise DataError(str(error).replace(source, shown(source))) from None
    except Exception as error:  # noqa: BLE001  datasets passes on each reader's own errors
        raise DataError(f"{source} cannot be read: {_cause(error)}.".replace(source, shown(source))) from None


def shortened(value: Any) -> str:
    """A value as a message shows it: at most 40 characters."""
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "…"


def _stream(source: str) -> Any:
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
        _check_array(Path(file))
    if isinstance(builder.config, ParquetConfig):
        builder.config.batch_size = BATCH  # instead of a row group, which may be the whole file
    if isinstance(builder.config, JsonConfig):
        builder.config.on_mixed_types = None  # an error, instead of texts that are quoted once more
    return builder.as_streaming_dataset(split="train")


def _loader(path: Path) -> str:
    """Which of `datasets`' readers reads a file."""
    plain = path.with_suffix("") if path.suffix.lower() == ".gz" else path
    if plain.suffix.lower() not in LOADERS:
        raise DataError(f"{path} is of an unknown type; give a {TYPES} file.")
    if path.stat().st_size == 0:
        raise DataError(f"{path} is empty; give a file with at least three rows a client.")
    return LOADERS[plain.suffix.lower()]


def _builder_of_folder(source: str) -> Any:
    """What reads a folder or a data set of the Hub, or the part of it that is named after a colon."""
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
        found = sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder else []
        raise DataError(
            f"{name} has neither a folder with data files nor a configuration {part!r}."
            + (f" Its folders are {', '.join(found)}." if found else "")
        ) from None


def _check_array(path: Path) -> None:
    if path.suffix.lower() != ".json" or not path.is_file() or path.stat().st_size <= LARGEST_ARRAY:
        return
    with path.open("rb") as file:
        if file.read(64).lstrip().startswith(b"["):
            raise DataError(
                f"{path} is one JSON array of {path.stat().st_size / 1e6:,.0f} MB, which would have to be read whole; "
                "write it as .jsonl or .parquet."
            )


def _sample(source: str, most: int, choose: Choose, stream: Any) -> Table:
    """The rows with the `most` smallest of random keys, a key a row: a uniform sample, in one pass."""
    generator = seeds.generator(SAMPLE_SEED, "rows")
    columns: Mapping[str, End] = {}
    kept: list[tuple[float, int, dict[str, Any], bool]] = []  # a heap of (−key, number, row, whether it was cut)
    total = 0
    for batch in stream.with_format("arrow").iter(batch_size=BATCH):
        if total >= LOOKED_AT:
            break
        columns = columns or choose(batch.column_names)
        keys = generator.random(len(batch))
        chosen = np.flatnonzero(keys < (-kept[0][0] if len(kept) == most else 1.0))
        for place, row in zip(chosen.tolist(), batch.select(list(columns)).take(chosen).to_pylist(), strict=True):
            cut = {name: _cut(value, columns[name]) for name, value in row.items()}
            (heapq.heappush if len(kept) < most else heapq.heappushpop)(
                kept, (-float(keys[place]), total + place + 1, cut, cut != row)
            )
        total += len(batch)
    if not total:
        raise DataError(f"{source} has no rows.")
    kept.sort(key=operator.itemgetter(1))
    notes = _notes(shown(source), most, total, sum(was_cut for *_, was_cut in kept))
    return Table([row for _, _, row, _ in kept], [number for _, number, _, _ in kept], tuple(notes))


def _notes(source: str, most: int, total: int, long: int) -> Iterator[str]:
    if total > most:
        counted = f"the first {total:,} rows" if total >= LOOKED_AT else f"the {total:,} rows"
        yield f"{most:,} of {counted} of {source} are used: a random sample, the same in every run (data.max_rows)."
    if long:
        yield f"{long:,} rows of {source} have texts above {LONGEST_TEXT:,} characters, which were shortened to that."


def _cut(value: Any, kept: End) -> Any:
    """A text no longer than LONGEST_TEXT; in a list of messages, each one's."""
    if isinstance(value, str):
        return value[:LONGEST_TEXT] if kept == "beginning" else value[-LONGEST_TEXT:]
    if isinstance(value, list):
        return [_cut(item, kept) for item in value]
    if isinstance(value, dict):
        return {name: _cut(item, kept) for name, item in value.items()}
    return value


def _cause(error: BaseException) -> str:
    """The innermost reason, as one line."""
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__  # type: ignore[assignment]
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
