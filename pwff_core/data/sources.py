"""Where examples come from: the embedded corpus, or rows in Alpaca columns."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pwff_core.config import DataConfig, RunConfig
from pwff_core.data.corpus import Example, Segment
from pwff_core.data.partition import ClientData, demo_clients, spread_examples
from pwff_core.data.tables import End, read_table, short_repr
from pwff_core.data.upload_checks import check_upload
from pwff_core.errors import DataError
from pwff_core.runs.uploads import is_kept, source_name

ALPACA_COLUMNS = ("instruction", "output")
CLUSTER_SEED = 0
CLUSTER_WORDS = 4096  # the most frequent words alone count


def load_clients(config: RunConfig) -> tuple[list[ClientData], tuple[str, ...]]:
    """What each client owns, and remarks for the reader. DataError if the source cannot be used."""
    if config.data.source == "demo":
        return demo_clients(config), ("Data: the embedded corpus; topics are its everyday domains.",)
    if is_kept(config.data.source):
        check_upload(Path(config.data.source))
    rows, notes = _read_rows(config.data)
    topics, method = _topics(rows, config.data)
    examples: dict[str, list[Example]] = defaultdict(list)
    for row, topic in zip(rows, topics, strict=True):
        examples[topic].append(_example(row, topic))
    clients = spread_examples(examples, config)
    used = sum(len(client.train) + len(client.validation) + len(client.test) for client in clients)
    name = source_name(config.data.source)
    return clients, (f"Data: {used} of the {len(rows)} usable rows of {name}; {method}.", *notes)


def _example(row: dict[str, str], topic: str) -> Example:
    extra = row.get("input") or ""
    instruction = f"{row['instruction'].strip()}\n{extra.strip()}".strip()
    return Example(instruction, (Segment(row["output"].strip(), "plain"),), topic)


def _read_rows(data: DataConfig) -> tuple[list[dict[str, str]], tuple[str, ...]]:
    """The usable rows, and remarks on what was left out or shortened."""

    def choose(columns: Sequence[str]) -> dict[str, End]:
        wanted = [*ALPACA_COLUMNS, *(["input"] if "input" in columns else [])]
        if data.topic_column:
            wanted.append(data.topic_column)
        missing = [name for name in wanted if name not in columns]
        if missing:
            raise DataError(
                f"{data.source} lacks the column {missing[0]!r}; it has {', '.join(columns)}. "
                "Alpaca columns are needed: instruction, output and, if you like, input."
            )
        return {name: "beginning" if name == "output" else "end" for name in wanted}

    table = read_table(data.source, data.max_rows, choose)
    rows, skipped = [], 0
    for number, row in zip(table.numbers, table.rows, strict=True):
        for name, value in row.items():
            if value is not None and not isinstance(value, str):
                raise DataError(
                    f"{source_name(data.source)}, row {number}: {name!r} is {short_repr(value)}, but it must be a text."
                )
        if all((row[name] or "").strip() for name in ALPACA_COLUMNS):
            rows.append({name: value or "" for name, value in row.items()})
        else:
            skipped += 1
    if not rows:
        raise DataError(f"{source_name(data.source)} has no row with an instruction and an output.")
    empty = (f"{skipped} rows with an empty instruction or output were left out.",) if skipped else ()
    return rows, (*table.notes, *empty)


def _topics(rows: Sequence[dict[str, str]], data: DataConfig) -> tuple[list[str], str]:
    """The topic of each row, and its origin in words: a column, or k-means on the instructions' TF-IDF vectors."""
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
    """Label → the cluster's number from 1 and its three heaviest words, stop words left out."""
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    names = {}
    for label in sorted(set(labels)):
        weights = matrix[labels == label].mean(axis=0).A1
        ranked = [str(words[i]) for i in weights.argsort()[::-1] if str(words[i]) not in ENGLISH_STOP_WORDS]
        names[label] = f"{label + 1}: " + " ".join(ranked[:3])
    return names
