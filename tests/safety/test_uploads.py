"""Uploads are kept under the hash of their content; a person's name for them is never a path."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Collection
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pwff_core.config import RunConfig
from pwff_core.errors import ConfigError, DataError, PwffError
from pwff_core.knobs import with_changes
from pwff_core.runs import uploads
from pwff_core.runs.run_files import RunFiles

ROWS = b"instruction,output\nsay hello,hello\n"
HASH = hashlib.sha256(ROWS).hexdigest()


@pytest.fixture
def store_path(tmp_path: Path) -> Path:
    return tmp_path / "runs.sqlite"


def kept_in(store_path: Path) -> list[str]:
    return sorted(path.name for path in RunFiles(store_path).uploads.iterdir())


@pytest.mark.parametrize(
    "name", ["rows.csv", "ROWS.CSV", "../../../etc/x.csv", "C:\\x\\rows.csv", "a\0b.csv", "ü .csv"]
)
def test_a_file_is_kept_under_its_hash(store_path: Path, name: str) -> None:
    assert uploads.keep(store_path, name, ROWS) == f"upload:{HASH}.csv"
    assert kept_in(store_path) == [f"{HASH}.csv"]
    assert (RunFiles(store_path).uploads / f"{HASH}.csv").read_bytes() == ROWS
    uploads.keep(store_path, "again.csv", ROWS)
    assert kept_in(store_path) == [f"{HASH}.csv"]  # the same bytes once


@pytest.mark.parametrize("name", ["rows", "rows.txt", "rows.csv.gz", "rows.pkl", ".csv", "rows.csv\n", ""])
def test_another_type_is_refused(store_path: Path, name: str) -> None:
    with pytest.raises(DataError, match=r"ends in \.json, \.jsonl, \.csv, \.parquet; this one does not"):
        uploads.keep(store_path, name, ROWS)
    assert not RunFiles(store_path).uploads.exists()


def test_an_empty_or_too_large_file_is_refused(store_path: Path) -> None:
    with pytest.raises(DataError, match="empty"):
        uploads.keep(store_path, "a.csv", b"")
    with pytest.raises(DataError, match=r"has 20\.0 MB; at most 20 MB"):
        uploads.keep(store_path, "a.csv", b"a" * (uploads.LARGEST_FILE + 1))
    uploads.keep(store_path, "a.csv", b"a" * uploads.LARGEST_FILE)


def test_a_full_folder_takes_an_upload_only_if_an_old_unused_one_can_go(store_path: Path) -> None:
    def keep(letter: bytes, used: Collection[str] = ()) -> str:
        return uploads.keep(store_path, "a.csv", letter * 10, used, largest_total=30)

    old, used, new = keep(b"o"), keep(b"u"), keep(b"n")
    long_ago = time.time() - uploads.UNUSED_AFTER_S - 60
    folder = RunFiles(store_path).uploads
    os.utime(folder / used.removeprefix("upload:"), (long_ago, long_ago))
    with pytest.raises(DataError, match=r"no room .* are taken\. Delete runs that use some, or try again tomorrow"):
        keep(b"x", {used})
    os.utime(folder / old.removeprefix("upload:"), (long_ago, long_ago))
    newest = keep(b"x", {used})
    assert kept_in(store_path) == sorted(source.removeprefix("upload:") for source in (used, new, newest))


def test_a_folder_that_cannot_be_written_is_an_error(store_path: Path) -> None:
    RunFiles(store_path).uploads.write_text("a file in its place")
    with pytest.raises(DataError, match="cannot be kept in"):
        uploads.keep(store_path, "a.csv", ROWS)


def test_the_federation_gets_the_path_and_the_store_keeps_the_name(store_path: Path) -> None:
    config = with_changes(RunConfig(), {"data.source": uploads.keep(store_path, "a.csv", ROWS)})
    resolved = uploads.with_path(config, store_path)
    assert Path(resolved.data.source).read_bytes() == ROWS and Path(resolved.data.source).is_absolute()
    assert uploads.is_kept(resolved.data.source) and uploads.is_reference(config.data.source)
    assert with_changes(resolved, {"data.source": "demo"}) == with_changes(config, {"data.source": "demo"})
    name = uploads.source_name(resolved.data.source)
    assert name == uploads.source_name(config.data.source) == f"upload {HASH[:8]}….csv"
    assert uploads.with_path(RunConfig(), store_path) == RunConfig()


def test_an_upload_that_is_gone_is_an_error(store_path: Path) -> None:
    config = with_changes(RunConfig(), {"data.source": f"upload:{HASH}.csv"})
    with pytest.raises(DataError, match="is not kept here; upload it again"):
        uploads.with_path(config, store_path)


@given(
    st.one_of(
        st.text(),
        st.sampled_from(
            ["../", "/etc/passwd", "\0", "x" * 10_000, f"../{HASH}.csv", f"{HASH}.csv/..", f"{HASH}.csv\n"]
        ),
        st.builds("{}{}.{}".format, st.sampled_from(["../", "/", ""]), st.just(HASH), st.sampled_from(["pkl", "CSV"])),
    )
)
def test_no_other_name_leads_anywhere(name: str) -> None:
    config = with_changes(RunConfig(), {"data.source": f"upload:{name}"})
    with pytest.raises(ConfigError, match="not the name of an upload"):
        uploads.with_path(config, Path("/nowhere/runs.sqlite"))


NAMES = st.builds("{}{}".format, st.text(max_size=40), st.sampled_from(["", ".csv", ".JSON", ".parquet", ".exe"]))


@given(NAMES, st.binary(max_size=40))
def test_any_upload_lies_in_the_folder_under_a_hash(
    tmp_path_factory: pytest.TempPathFactory, name: str, content: bytes
) -> None:
    store_path = tmp_path_factory.mktemp("uploads") / "runs.sqlite"
    try:
        uploads.keep(store_path, name, content)
    except PwffError:
        return
    ending = uploads.TYPES.index(name.lower().rpartition(".")[2])
    assert kept_in(store_path) == [f"{hashlib.sha256(content).hexdigest()}.{uploads.TYPES[ending]}"]
