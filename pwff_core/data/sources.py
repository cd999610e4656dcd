"""Where examples come from: the embedded corpus, a file in Alpaca columns, or a data set of the Hub."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pwff_core.config import DataConfig, RunConfig
from pwff_core.data.corpus import Example, Segment
from pwff_core.data.partition import ClientData, demo_clients, other_clients
from pwff_core.errors import DataError

LOADERS = {".json": "json", ".jsonl": "json", ".csv": "csv", ".parquet": "parquet"}
NEEDED = ("instruction", "output")
CLUSTER_SEED = 0
CLUSTER_WORDS = 4096  # most frequent words that clustering looks at


def load_clients(config: RunConfig) -> tuple[list[ClientData], tuple[str, ...]]:
    """What each client owns, and what a reader should know about how that came about. DataError if it cannot be."""
    if config.data.source == "demo":
        return demo_clients(config), ("Data: the embedded corpus; topics are its everyday domains.",)
    rows, skipped = _rows(config.data)
    topics, how = _topics(rows, config.data)
    examples: dict[str, list[Example]] = defaultdict(list)
    for row, topic in zip(rows, topics, strict=True):
        examples[topic].append(_example(row, topic))
    clients = other_clients(examples, config)
    used = sum(len(mine.train) + len(mine.validation) + len(mine.test) for mine in clients)
    notes = [f"Data: {used} of the {len(rows)} usable rows of {config.data.source}; {how}."]
    if skipped:
        notes.append(f"{skipped} rows with an empty instruction or output were left out.")
    return clients, tuple(notes)


def _example(row: dict[str, str], topic: str) -> Example:
    given = row.get("input") or ""
    instruction = f"{row['instruction'].strip()}\n{given.strip()}".strip()
    return Example(instruction, (Segment(row["output"].strip(), "plain"),), topic)


def _rows(data: DataConfig) -> tuple[list[dict[str, str]], int]:
    """Usable rows, and how many were left out for being empty."""
    table = read_table(data.source)
    columns = [*NEEDED, *(["input"] if "input" in table.column_names else [])]
    if data.topic_column:
        columns.append(data.topic_column)
    missing = [name for name in columns if name not in table.column_names]
    if missing:
        raise DataError(
            f"{data.source} lacks the column {missing[0]!r}; it has {', '.join(table.column_names)}. "
            "Alpaca columns are needed: instruction, output and, if you like, input."
        )
    rows, skipped = [], 0
    for number, row in enumerate(table.select_columns(columns), start=1):
        for name, value in row.items():
            if value is not None and not isinstance(value, str):
                raise DataError(f"{data.source}, row {number}: {name!r} is {shortened(value)}, but it must be a text.")
        if all((row[name] or "").strip() for name in NEEDED):
            rows.append({name: value or "" for name, value in row.items()})
        else:
            skipped += 1
    if not rows:
        raise DataError(f"{data.source} has no row with an instruction and an output.")
    return rows, skipped


def shortened(value: Any) -> str:
    """A value as a message shows it: at most 40 characters."""
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "…"


def read_table(source: str) -> Any:
    """A `datasets.Dataset` of a file or of a Hub id's training split; `ID:FOLDER` takes one folder of the data set."""
    import datasets

    datasets.disable_progress_bars()
    path = Path(source).expanduser()
    if path.suffix.lower() in LOADERS or path.exists():
        _check_file(path)
        try:
            return datasets.load_dataset(LOADERS[path.suffix.lower()], data_files=str(path), split="train")
        except Exception as error:  # noqa: BLE001  datasets wraps each reader's own errors in several layers
            raise DataError(f"{path} cannot be read as {path.suffix[1:].upper()}: {_cause(error)}.") from None
    name, _, folder = source.partition(":")
    try:
        return datasets.load_dataset(name, data_dir=folder or None, split="train")
    except Exception:  # noqa: BLE001
        raise DataError(
            f"The data source {source!r} is neither a file here nor a data set in the Hub's local cache, and it could "
            "not be fetched. Give demo, a .json, .jsonl, .csv or .parquet file, or check the name and the network."
        ) from None


def _check_file(path: Path) -> None:
    if not path.is_file():
        raise DataError(f"There is no file {path}. Give demo, or an existing .json, .jsonl, .csv or .parquet file.")
    if path.suffix.lower() not in LOADERS:
        raise DataError(f"{path} is of an unknown type; give a {', '.join(LOADERS)} file.")
    if path.stat().st_size == 0:
        raise DataError(f"{path} is empty; give a file with at least three rows a client.")


def _cause(error: BaseException) -> str:
    """The innermost reason, as one line."""
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__  # type: ignore[assignment]
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


def _topics(rows: Sequence[dict[str, str]], data: DataConfig) -> tuple[list[str], str]:
    """A topic a row, and how it was found: a column, or k-means on the instructions' TF-IDF vectors."""
    if data.topic_column:
        return [row[data.topic_column] or "none" for row in rows], f"topics from the column {data.topic_column!r}"
    count = min(data.topics, len(rows))
    from sklearn.cluster import KMeans
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectors = TfidfVectorizer(max_features=CLUSTER_WORDS, sublinear_tf=True, token_pattern=r"(?u)\b\w+\b|\S")
    matrix = vectors.fit_transform([row["instruction"] for row in rows])
    labels = KMeans(count, n_init=4, random_state=CLUSTER_SEED).fit_predict(matrix)
    names = _cluster_names(matrix, labels, vectors.get_feature_names_out())
    return [names[label] for label in labels], f"topics from clustering the instructions into {count} (TF-IDF, k-means)"


def _cluster_names(matrix: Any, labels: Any, words: Any) -> dict[int, str]:
    """A cluster's number and its three heaviest words that say something."""
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    names = {}
    for label in sorted(set(labels)):
        weights = matrix[labels == label].mean(axis=0).A1
        ranked = [str(words[i]) for i in weights.argsort()[::-1] if str(words[i]) not in ENGLISH_STOP_WORDS]
        names[label] = f"{label + 1}: " + " ".join(ranked[:3])
    return names
