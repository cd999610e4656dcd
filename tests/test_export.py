from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import pandas as pd
import pytest

from pwff_core.config import ChannelConfig, RunConfig
from pwff_core.errors import StoreError
from pwff_core.export import clients_table, export_run, rounds_table
from pwff_core.records import ClientRecord, RoundRecord
from pwff_core.store import RunStatus, Store
from tests.scripted import profile, record

RECORDS = [record(1, "abc"), record(2, "abc")]


def test_the_table_of_rounds_has_a_row_a_round_and_a_column_a_field() -> None:
    table = rounds_table(RECORDS)
    assert list(table.columns) == [name for name in RoundRecord.model_fields if name != "clients"]
    assert table["round"].tolist() == [1, 2]
    assert table["accuracy"].tolist() == [0.01, 0.02]
    assert table["energy_j"].sum() == 8.0
    assert table["reward"].isna().all()


def test_the_table_of_clients_has_a_row_a_client_and_round() -> None:
    table = clients_table(RECORDS)
    assert list(table.columns) == ["run", "method", "stage", "round", *ClientRecord.model_fields]
    assert table[["round", "client"]].to_numpy().tolist() == [[1, 0], [1, 1], [2, 0], [2, 1]]
    assert table["delivered"].tolist() == [True, False, True, False]
    assert table["delay_s"].tolist() == [2.0, 1.0, 2.0, 1.0]


def test_tables_of_no_rounds_keep_their_columns() -> None:
    assert rounds_table([]).shape == (0, len(RoundRecord.model_fields) - 1)
    assert clients_table([]).shape == (0, 4 + len(ClientRecord.model_fields))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "runs.sqlite")


@pytest.fixture
def run_id(store: Store) -> str:
    found = store.create_run(RunConfig(clients=2, seed=7, channel=ChannelConfig(deadline_s=math.inf)), "für Ω")
    store.claim(found)
    store.describe(found, (profile(0), profile(1)), ("a remark",), 2)
    for one in RECORDS:
        store.append(found, one)
    store.finish(found, RunStatus.STOPPED, "Stopped after 2 of 3 rounds.")
    return found


def test_an_export_holds_all_that_the_run_was(store: Store, run_id: str, tmp_path: Path) -> None:
    files = export_run(store, run_id, tmp_path / "new" / "folder")
    assert [file.relative_to(tmp_path / "new" / "folder").as_posix() for file in files] == [
        "rounds.csv",
        "clients.csv",
        "run.json",
    ]
    run = json.loads(files[2].read_text(encoding="utf-8"))
    assert (run["id"], run["name"], run["status"]) == (run_id, "für Ω", "stopped")
    assert (run["config"]["seed"], run["notes"], len(run["profiles"])) == (7, ["a remark"], 2)
    assert RunConfig.model_validate(run["config"]) == store.run(run_id).config
    assert [RoundRecord.model_validate(one) for one in run["rounds"]] == RECORDS
    assert {"python", "torch"} <= set(run["versions"])


def test_the_csv_files_read_back_as_the_tables(store: Store, run_id: str, tmp_path: Path) -> None:
    rounds, clients, _ = export_run(store, run_id, tmp_path)
    with rounds.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["round"], row["accuracy"], row["reward"], row["uplink_bits"]) for row in rows] == [
        ("1", "0.01", "", "64"),
        ("2", "0.02", "", "64"),
    ]
    pd.testing.assert_frame_equal(
        pd.read_csv(clients)[["client", "delay_s"]], clients_table(RECORDS)[["client", "delay_s"]]
    )


def test_run_json_is_strict_json(store: Store, run_id: str, tmp_path: Path) -> None:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    json.loads(export_run(store, run_id, tmp_path)[2].read_text(encoding="utf-8"), parse_constant=refuse)


def test_an_unknown_run_and_a_folder_that_cannot_be_written(store: Store, run_id: str, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="^There is no run 'nosuchid' in"):
        export_run(store, "nosuchid", tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match=r"^Cannot write into .*file \(.+\); choose another folder.$"):
        export_run(store, run_id, tmp_path / "file")
