"""Uploaded files with any bytes are read as they are, or refused in a sentence."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from pwff_core.config import RunConfig
from pwff_core.data.sources import load_clients
from pwff_core.data.upload_checks import check_upload
from pwff_core.errors import DataError, PwffError
from pwff_core.knobs import with_changes
from pwff_core.runs import uploads
from tests.support.fuzz_cases import fuzzed
from tests.support.fuzz_material import damaged, is_a_sentence

ROWS = [{"instruction": f"Say “{n}”\nnow", "input": "", "output": f'It is, "{n}".'} for n in range(12)]
SETTINGS = {"clients": 2, "data.train_examples": 4, "data.test_examples": 2, "data.topics": 2}


def as_csv() -> bytes:
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, list(ROWS[0]))
    writer.writeheader()
    writer.writerows(ROWS)
    return file.getvalue().encode()


def as_parquet() -> bytes:
    file = io.BytesIO()
    parquet.write_table(pa.Table.from_pylist(ROWS), file, compression="zstd")
    return file.getvalue()


WHOLE = {
    "json": json.dumps(ROWS).encode(),
    "jsonl": "\n".join(json.dumps(row) for row in ROWS).encode(),
    "csv": as_csv(),
    "parquet": as_parquet(),
}
files = st.sampled_from(sorted(WHOLE)).flatmap(
    lambda kind: st.tuples(st.just(kind), st.one_of(damaged(WHOLE[kind]), st.binary(max_size=200)))
)


def uploaded_config(folder: Path, kind: str, content: bytes) -> RunConfig:
    store_path = folder / "runs.sqlite"
    source = uploads.keep(store_path, f"rows.{kind}", content)
    return uploads.with_path(with_changes(RunConfig(), {**SETTINGS, "data.source": source}), store_path)


@given(files)
@fuzzed(0.2)
def test_any_bytes_pass_the_check_or_are_refused(
    tmp_path_factory: pytest.TempPathFactory, file: tuple[str, bytes]
) -> None:
    try:
        check_upload(Path(uploaded_config(tmp_path_factory.getbasetemp(), *file).data.source))
    except DataError as error:
        assert is_a_sentence(str(error), 1_000)


@given(files)
@fuzzed(0.04, few=8)
def test_any_bytes_become_examples_or_are_refused(
    tmp_path_factory: pytest.TempPathFactory, file: tuple[str, bytes]
) -> None:
    folder = tmp_path_factory.getbasetemp()
    try:
        clients, notes = load_clients(uploaded_config(folder, *file))
    except PwffError as error:
        assert is_a_sentence(str(error), 4_000) and str(folder) not in str(error)
    else:
        assert len(clients) == 2 and str(folder) not in " ".join(notes)
