"""Files, folders and Hub data sets in the layouts of the Hub, samples of large ones, and what cannot be read."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub.errors import GatedRepoError, OfflineModeIsEnabled, RepositoryNotFoundError

from pwff_core import seeds
from pwff_core.config import RunConfig
from pwff_core.data.hub import dataset_folder
from pwff_core.data.preference_files import read_pairs
from pwff_core.data.sources import load_clients
from pwff_core.data.tables import LONGEST_TEXT, read_table
from pwff_core.errors import DataError
from pwff_core.knobs import with_changes
from tests.support.tables import write_table

ROWS = [{"instruction": f"Explain {i}", "input": "", "output": f"It is {i}."} for i in range(40)]
CARD = """---
language: [en]
configs:
- config_name: default
  data_files:
  - split: train
    path: data/train-*
---
# A card
"""


def all_columns(names: Sequence[str]) -> dict[str, Any]:
    return dict.fromkeys(names, "beginning")


def rows_of(path: object, max_rows: int = 1000) -> list[dict[str, Any]]:
    return read_table(str(path), max_rows, all_columns).rows


def like_alpaca(folder: Path) -> Path:
    """Two parquet shards and a card, as the snapshot of tatsu-lab/alpaca."""
    (folder / "data").mkdir(parents=True)
    for shard in range(2):
        rows = pa.Table.from_pylist(ROWS[20 * shard : 20 * shard + 20])
        pq.write_table(rows, folder / f"data/train-0000{shard}-of-00002-a09b74b3ef9c3b56.parquet")
    (folder / "README.md").write_text(CARD)
    return folder


def like_hh(folder: Path) -> Path:
    """Two folders of gzipped JSON lines, as the snapshot of Anthropic/hh-rlhf."""
    for part in ("helpful-base", "harmless-base"):
        (folder / part).mkdir(parents=True)
        for split, count in (("train", 30), ("test", 5)):
            with gzip.open(folder / part / f"{split}.jsonl.gz", "wt") as file:
                for i in range(count):
                    prompt = f"\n\nHuman: {part} {split} {i}?\n\nAssistant:"
                    file.write(json.dumps({"chosen": f"{prompt} Yes.", "rejected": f"{prompt} No."}) + "\n")
    (folder / "README.md").write_text("---\nlicense: mit\n---\n# A card\n")
    return folder


def cached(monkeypatch: pytest.MonkeyPatch, home: Path, name: str) -> Path:
    """Makes `home` the Hub's local cache, with the snapshot of one data set, whose folder it returns."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(home))
    return snapshot_of(home, name)


def snapshot_of(home: Path, name: str) -> Path:
    """The folder of a data set's snapshot in a local cache."""
    store = home / f"datasets--{name.replace('/', '--')}"
    (store / "refs").mkdir(parents=True)
    (store / "refs" / "main").write_text("5f2ad2f")
    return store / "snapshots" / "5f2ad2f"


def test_a_folder_of_shards(tmp_path: Path) -> None:
    assert rows_of(like_alpaca(tmp_path / "alpaca")) == ROWS
    config = with_changes(RunConfig(), {"data.source": str(tmp_path / "alpaca"), "clients": 3})
    assert "39 of the 40 usable rows" in load_clients(config)[1][0]


def test_a_part_of_a_folder_of_gzipped_lines(tmp_path: Path) -> None:
    folder = like_hh(tmp_path / "hh")
    pairs, notes = read_pairs(f"{folder}:harmless-base", 1000)
    assert [pair.instruction for pair in pairs] == [f"harmless-base train {i}?" for i in range(30)]
    assert (pairs[0].chosen, pairs[0].rejected, notes) == ("Yes.", "No.", [])
    assert len(read_pairs(str(folder), 1000)[0]) == 60
    assert rows_of(folder / "helpful-base/test.jsonl.gz") == rows_of(folder / "helpful-base/test.jsonl.gz", 5)


def test_a_hub_id_is_found_offline_in_the_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    like_alpaca(cached(monkeypatch, tmp_path / "one", "tatsu-lab/alpaca"))
    assert rows_of("tatsu-lab/alpaca") == ROWS
    like_hh(cached(monkeypatch, tmp_path / "two", "Anthropic/hh-rlhf"))
    assert len(read_pairs("Anthropic/hh-rlhf:helpful-base", 1000)[0]) == 30


class FakeHub:
    """The Hub with one data set, or the error that it answers with; its local cache is the real one."""

    def __init__(self, folder: Path, answer: Exception | None = None, scale: int = 1, cache: Path | None = None):
        self.folder, self.answer, self.scale, self.cache = folder, answer, scale, cache
        self.patterns: list[str] = []

    def HfApi(self) -> FakeHub:  # noqa: N802  huggingface_hub's name
        return self

    def dataset_info(self, name: str, *, files_metadata: bool) -> SimpleNamespace:
        if self.answer:
            raise self.answer
        files = [path for path in self.folder.rglob("*") if path.is_file()]
        sizes = [(str(path.relative_to(self.folder)), path.stat().st_size * self.scale) for path in files]
        return SimpleNamespace(siblings=[SimpleNamespace(rfilename=name, size=size) for name, size in sizes])

    def snapshot_download(
        self, name: str, *, repo_type: str, allow_patterns: Sequence[str] = (), local_files_only: bool = False
    ) -> str:
        assert repo_type == "dataset"
        if local_files_only:
            return huggingface_hub.snapshot_download(
                name, repo_type=repo_type, cache_dir=self.cache, local_files_only=True
            )
        self.patterns = list(allow_patterns)
        return str(self.folder)


def test_a_hub_id_is_fetched_into_the_cache(tmp_path: Path) -> None:
    hub = FakeHub(like_hh(tmp_path / "hh"))
    assert dataset_folder("Anthropic/hh-rlhf", "helpful-base", hub) == tmp_path / "hh"
    assert "helpful-base/*.jsonl.gz" in hub.patterns
    assert "README.md" in hub.patterns
    assert not any(pattern.startswith(("*", "harmless")) for pattern in hub.patterns)
    large = FakeHub(tmp_path / "hh", scale=10_000_000)  # 10 GB: streamed instead
    assert dataset_folder("Anthropic/hh-rlhf", "helpful-base", large) is None


@pytest.mark.parametrize(
    ("kind", "reason"),
    [(GatedRepoError, "is gated: ask for access"), (RepositoryNotFoundError, "The Hub has no data set")],
)
def test_refusals_of_the_hub_are_sentences(kind: type[RepositoryNotFoundError], reason: str, tmp_path: Path) -> None:
    response: Any = SimpleNamespace(headers={}, request=None)
    with pytest.raises(DataError, match=f"{reason}.*Give demo"):
        dataset_folder("somebody/something", "", FakeHub(tmp_path, kind("no", response=response)))


def test_a_configuration_behind_a_colon(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"text": name}))
    configs = "".join(f"- config_name: {name}\n  data_files: {name}.jsonl\n" for name in ("one", "two"))
    (tmp_path / "README.md").write_text(f"---\nconfigs:\n{configs}---\n")
    assert rows_of(f"{tmp_path}:two") == [{"text": "two"}]
    assert f"several configurations (one, two); give one after a colon: {tmp_path}:one." in problem(tmp_path)


# large sources


def test_a_sample_is_uniform_ordered_and_always_the_same(tmp_path: Path) -> None:
    path = tmp_path / "sorted.parquet"
    pq.write_table(pa.table({"place": [str(i) for i in range(10_000)]}), path)
    sample = read_table(str(path), 1000, all_columns)
    places = [int(row["place"]) for row in sample.rows]
    assert len(set(places)) == 1000
    assert places == sorted(places) == [number - 1 for number in sample.numbers]
    assert sample == read_table(str(path), 1000, all_columns)
    assert abs(np.mean(places) - 4999.5) < 3 * 2887 / np.sqrt(1000)  # within three standard errors of a uniform's mean
    assert sample.notes == (
        f"1,000 of the 10,000 rows of {path} are used: a random sample, the same in every run (data.max_rows).",
    )
    smaller = read_table(str(path), 10, all_columns)
    assert set(smaller.numbers) < set(sample.numbers)  # raising the knob only ever adds rows
    assert read_table(str(path), 10_000, all_columns).notes == ()


@pytest.mark.parametrize("kind", ["json", "jsonl", "csv", "parquet"])
def test_the_sample_does_not_depend_on_the_format(kind: str, tmp_path: Path) -> None:
    rows = [{"text": f"row {i}"} for i in range(600)]
    expected = np.sort(np.argsort(seeds.generator(0, "rows").random(600))[:50])  # the 50 smallest keys
    assert rows_of(write_table(tmp_path, rows, kind), 50) == [rows[i] for i in expected]


def test_a_large_source_is_read_up_to_a_limit(tmp_path: Path) -> None:
    path = write_table(tmp_path, [{"text": f"row {i}"} for i in range(2000)])
    sample = read_table(path, 100, all_columns, max_rows_read=512)
    assert max(sample.numbers) <= 512
    assert sample.notes[0].startswith("100 of the first 512 rows of ")


def test_texts_of_a_megabyte_are_shortened(tmp_path: Path) -> None:
    long = "a" * 1_000_000
    path = write_table(tmp_path, [*ROWS, {"instruction": f"{long} end", "input": "", "output": f"start {long}"}])
    config = with_changes(RunConfig(), {"data.source": path, "clients": 3})
    clients, notes = load_clients(config)
    examples = [e for client in clients for e in (*client.train, *client.validation, *client.test)]
    [example] = [example for example in examples if "aaa" in example.text]
    assert (len(example.instruction), len(example.text)) == (LONGEST_TEXT, LONGEST_TEXT)
    assert example.instruction.endswith(" end")
    assert example.text.startswith("start ")
    assert notes[1] == f"1 rows of {path} have texts above 32,768 characters, which were shortened to that."


def test_long_messages_are_shortened(tmp_path: Path) -> None:
    message = {"role": "user", "content": "b" * 40_000}
    pairs, notes = read_pairs(write_table(tmp_path, [{"prompt": [message], "chosen": "Yes.", "rejected": "No."}]), 10)
    assert len(pairs[0].instruction) == LONGEST_TEXT
    assert "1 rows of" in notes[0]


# what cannot be read


def problem(source: object) -> str:
    with pytest.raises(DataError) as caught:
        rows_of(source)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_folders_that_hold_no_training_data(tmp_path: Path) -> None:
    assert "holds no data files. Give demo, a .json, .jsonl, .csv or .parquet file" in problem(tmp_path)
    (tmp_path / "test.jsonl").write_text('{"text": "a"}\n')
    assert "has no training split, only test; give one of its files instead." in problem(tmp_path)
    folder = like_hh(tmp_path / "hh")
    missing = problem(f"{folder}:nothing")
    assert "neither a folder with data files nor a configuration 'nothing'" in missing
    assert "Its folders are harmless-base, helpful-base." in missing
    assert "There is no file or folder" in problem(tmp_path / "nowhere")


def test_loading_scripts_are_not_run(tmp_path: Path) -> None:
    folder = tmp_path / "scripted"
    folder.mkdir()
    (folder / "scripted.py").write_text("raise SystemExit")
    (folder / "train.jsonl").write_text('{"text": "a"}\n')
    assert "has a program to read it, which is not run" in problem(folder)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("train.jsonl.gz", b"\x1f\x8bnot gzip"),
        ("train.jsonl.gz", gzip.compress(b'{"text": "a"}\n' * 999, mtime=0)[:-20]),
        ("train.parquet", b"PAR1 and no more"),
        ("train.jsonl", b'{"text": "a"}\n{"text": 5}\n'),
        ("train.csv", b'a,b\n1,2\n1,2,3,4\n"'),
    ],
)
def test_broken_files(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    assert problem(tmp_path / name).startswith(f"{tmp_path / name} cannot be read: ")
    assert problem(tmp_path).startswith(f"{tmp_path} cannot be read: ")


def test_columns_without_rows(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), tmp_path / "none.parquet")
    assert problem(tmp_path / "none.parquet").endswith("none.parquet has no rows.")


def test_an_array_too_large_to_be_read_whole(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is one JSON array of"):
        read_table(write_table(tmp_path, ROWS, "json"), 1000, all_columns, max_array_bytes=1000)
    lines = tmp_path / "lines.json"
    lines.write_text("\n".join(json.dumps(row) for row in ROWS))
    assert read_table(str(lines), 1000, all_columns, max_array_bytes=1000).rows == ROWS


def test_offline_and_not_cached(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    cached(monkeypatch, tmp_path, "tatsu-lab/alpaca")
    assert "Give demo" in problem("nobody/nothing")
    assert "it could not be fetched" in problem("nobody/nothing")
    assert "neither a file or folder here nor a Hub id" in problem("no such/thing/at all")
    with pytest.raises(OfflineModeIsEnabled):
        huggingface_hub.HfApi().dataset_info("tatsu-lab/alpaca")


def test_without_a_network_the_cache_will_do(tmp_path: Path) -> None:
    class Unreachable(Exception):
        """As http clients raise it: no OSError."""

    folder = like_alpaca(snapshot_of(tmp_path, "tatsu-lab/alpaca"))
    hub = FakeHub(tmp_path, Unreachable("Name or service not known"), cache=tmp_path)
    assert dataset_folder("tatsu-lab/alpaca", "", hub) == folder
    with pytest.raises(DataError, match=r"it could not be fetched\. Give demo"):
        dataset_folder("nobody/nothing", "", hub)
