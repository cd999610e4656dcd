"""Files of strangers are bounded before they are read, and a bad one is refused in a sentence."""

from __future__ import annotations

import io
import json
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pytest
from pyarrow import parquet

from pwff_core.config import RunConfig
from pwff_core.data.sources import load_clients
from pwff_core.data.upload_checks import bounded_memory
from pwff_core.errors import DataError
from pwff_core.knobs import with_changes
from pwff_core.runs import uploads

ROWS = [{"instruction": f"Say {word}", "output": f"It is {word}."} for word in ("one", "two", "three", "four") * 5]
SETTINGS = {"clients": 2, "data.train_examples": 4, "data.test_examples": 2, "data.topics": 2}


def packed(table: pa.Table, **how: Any) -> bytes:
    file = io.BytesIO()
    parquet.write_table(table, file, **how)
    return file.getvalue()


def repeated(text: str, times: int) -> pa.Table:
    """A column that holds one text so many times, and in the file once."""
    places = pa.array(np.zeros(times, dtype=np.int32))
    return pa.table({"instruction": pa.DictionaryArray.from_arrays(places, pa.array([text]))})


def uploaded_config(tmp_path: Path, name: str, content: bytes) -> RunConfig:
    store_path = tmp_path / "runs.sqlite"
    config = with_changes(RunConfig(), {**SETTINGS, "data.source": uploads.keep(store_path, name, content)})
    return uploads.with_path(config, store_path)


CSV = "instruction,output\n" + "".join(f"{row['instruction']},{row['output']}\n" for row in ROWS)
GOOD = {
    "rows.csv": CSV.encode(),
    "excel.csv": b"\xef\xbb\xbf" + CSV.replace("\n", "\r\n").encode(),
    "rows.json": json.dumps(ROWS).encode(),
    "rows.jsonl": "\n".join(json.dumps(row) for row in ROWS).encode(),
    "rows.parquet": packed(pa.Table.from_pylist(ROWS)),
    "more.jsonl": "\n".join(json.dumps({**row, "score": 0.5, "line": "a\u2028b"}) for row in ROWS).encode(),
}


@pytest.mark.parametrize("name", GOOD)
def test_every_type_is_read_like_the_same_file_by_its_path(tmp_path: Path, name: str) -> None:
    config = uploaded_config(tmp_path, name, GOOD[name])
    own = tmp_path / name
    own.write_bytes(GOOD[name])
    clients, notes = load_clients(config)
    assert clients == load_clients(with_changes(config, {"data.source": str(own)}))[0]
    assert "usable rows of upload " in notes[0]
    assert str(tmp_path) not in " ".join(notes)  # messages show no path of this computer


DEEP = 100_000
BAD = {
    "deep.json": (b"[" * DEEP + b"]" * DEEP, "nested too deeply"),
    "deep.jsonl": (b'{"a":' * DEEP + b"1" + b"}" * DEEP, "nested too deeply"),
    "list.jsonl": (b'{"instruction": ["a"], "output": "b"}', "row 1 has ['a'], and a row holds texts and numbers only"),
    "words.json": (b'["a", "b"]', "row 1 is 'a' and no object of columns"),
    "half.json": (b'[{"instruction": "a"', "not valid JSON"),
    "surrogate.jsonl": (b'{"instruction": "\\ud800", "output": "b"}', "row 1 holds characters that are no text"),
    "nul.jsonl": (b'{"instruction": "\\u0000", "output": "b"}', "row 1 holds characters that are no text"),
    "digits.jsonl": (b'{"instruction": ' + b"9" * 10_000 + b"}", "not valid JSON"),
    "keys.json": (json.dumps([{f"k{n}": n} for n in range(65)]).encode(), "it has 65 columns; at most 64"),
    "latin.csv": ("instruction,output\né,è\n".encode("latin-1"), "it is not UTF-8 (byte 19)"),
    "utf16.csv": ("instruction,output\na,b\n".encode("utf-16"), "it is not UTF-8 (byte 0)"),
    "nul.csv": (b"instruction,output\na\0,b\n", "NUL character"),
    "wide.csv": (b"a," * 1_000_000, "it has 1,000,001 columns; at most 64"),
    "field.csv": (b'instruction,output\n"' + b"a" * 1_000_000 + b'",b\n', "field larger than field limit (131072)"),
    "columns.csv": (b"question,answer\na,b\n", "lacks the column 'instruction'; it has question, answer"),
    "few.csv": (b"instruction,output\na,b\n", "has 1 usable rows for 2 clients"),
    "no.parquet": (b"PAR1 no PAR1", "not valid Parquet"),
    "zip.parquet": (b"PK\x03\x04" + b"\0" * 100, "not valid Parquet"),
    "text.parquet": (packed(repeated("a" * 100_000, 1_000_000), store_schema=False), "more than 100 MB of texts"),
    "categories.parquet": (packed(repeated("a" * 100_000, 1_000_000)), "more than 100 MB of texts"),
    "long.parquet": (packed(pa.table({"a": ["b" * 40_000_000] * 3}), compression="zstd"), "more than 100 MB of texts"),
    "rows.parquet": (packed(pa.table({"a": pa.nulls(2_000_001, pa.string())})), "it has 2,000,001 rows; at most"),
    "list.parquet": (packed(pa.table({"a": [[1] * 1000]})), "its column 'a' is of type list<element: int64>"),
    "bytes.parquet": (packed(pa.table({"a": [b"x"]})), "its column 'a' is of type binary; allowed are texts"),
    "wide.parquet": (packed(pa.table({f"c{n}": [1] for n in range(65)})), "it has 65 columns; at most 64"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_refused_in_a_sentence(tmp_path: Path, name: str) -> None:
    content, cause = BAD[name]
    assert len(content) < 3_000_000
    config = uploaded_config(tmp_path, name, content)
    tracemalloc.start()
    with pytest.raises(DataError) as refused:
        load_clients(config)
    peak = tracemalloc.get_traced_memory()[1] + pa.default_memory_pool().bytes_allocated()
    tracemalloc.stop()
    message = str(refused.value)
    assert cause in message and "\n" not in message and message.endswith(".")
    assert str(tmp_path) not in message
    assert peak < 300_000_000


def test_a_false_size_does_not_take_the_computer_s_memory(tmp_path: Path) -> None:
    before = psutil.Process().rlimit(psutil.RLIMIT_AS) if psutil.LINUX else None
    with (
        pytest.raises(DataError, match="cannot be read in the memory there is for it"),
        bounded_memory(tmp_path / "rows.csv"),
    ):
        np.ones(10**12, dtype=np.uint8)  # as a reader does that believes a header
    assert before == (psutil.Process().rlimit(psutil.RLIMIT_AS) if psutil.LINUX else None)
