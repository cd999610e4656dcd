"""The bundle of a run, and the files that it becomes."""

from __future__ import annotations

import csv
import json
import math
import zipfile
from pathlib import Path

import pandas as pd
import pytest

from pwff_core.config import ChannelConfig, RunConfig
from pwff_core.errors import ConfigError, StoreError
from pwff_core.export.build import RUN_FIGURES, export_run, run_bundle
from pwff_core.export.bundle import file_bytes, write
from pwff_core.export.contents import clients_table
from pwff_core.export.options import parse_options
from pwff_core.knobs import load_toml, with_changes
from pwff_core.records import RoundRecord
from pwff_core.runs.recording import from_json, recording_of
from pwff_core.runs.store import RunStatus, Store
from tests.support.scripted import profile, record, whole_run

RECORDS = [record(1, "abc"), record(2, "abc")]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "runs.sqlite")


def finished_run(store: Store, config: RunConfig, records: list[RoundRecord], name: str = "") -> str:
    run_id = store.create_run(config, name)
    store.claim(run_id)
    store.describe(run_id, [profile(client) for client in range(config.clients)], ("a remark",), 9)
    for round_record in records:
        store.append(run_id, round_record)
    store.finish(run_id, RunStatus.STOPPED, "Stopped after 2 of 3 rounds.")
    return run_id


@pytest.fixture
def run_id(store: Store) -> str:
    config = RunConfig(clients=2, seed=7, channel=ChannelConfig(deadline_s=math.inf))
    return finished_run(store, config, RECORDS, "für Ω")


THREE_STAGES = with_changes(
    RunConfig(), {"clients": 5, "instruction.rounds": 3, "reward.rounds": 2, "alignment.rounds": 4}
)


@pytest.fixture
def whole_id(store: Store) -> str:
    return finished_run(store, THREE_STAGES, whole_run("abc"))


def test_an_export_holds_the_whole_run(store: Store, run_id: str, tmp_path: Path) -> None:
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
    assert [RoundRecord.model_validate(row) for row in run["rounds"]] == RECORDS
    assert {"python", "torch"} <= set(run["versions"])
    assert from_json(files[2].read_text(encoding="utf-8")) == recording_of(store, run_id)


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


def test_unknown_runs_and_unwritable_folders_are_errors(store: Store, run_id: str, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="^There is no run 'nosuchid' in"):
        export_run(store, "nosuchid", tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match=r"^Cannot write into .*file \(.+\); choose another folder.$"):
        export_run(store, run_id, tmp_path / "file")


def test_a_run_has_figures_of_what_it_measured(store: Store, run_id: str, whole_id: str) -> None:
    partial = run_bundle(recording_of(store, run_id), parse_options("figures"))
    assert list(partial.figures) == ["accuracy", "delay", "energy", "loss"]
    whole = run_bundle(recording_of(store, whole_id), parse_options("all"))
    assert set(whole.figures) == set(RUN_FIGURES) == set(whole.captions)
    assert run_bundle(recording_of(store, whole_id), parse_options("tables")).figures == {}
    with pytest.raises(ConfigError, match=r"no numbers for the figure 'kl'; it has accuracy, delay, energy, loss\.$"):
        run_bundle(recording_of(store, run_id), parse_options("figures", figures=["kl"]))


def test_a_figure_of_one_stage_is_cropped_to_it(store: Store, whole_id: str) -> None:
    figures = run_bundle(recording_of(store, whole_id), parse_options("figures")).figures
    ranges = {name: tuple(figure.layout.xaxis.range) for name, figure in figures.items() if name != "plane"}
    assert ranges["accuracy"] == ranges["delay"] == (0.5, 9.5)
    assert ranges["pairs"] == (3.5, 5.5)  # reward learning: rounds 4 and 5
    assert ranges["kl"] == (5.5, 9.5)  # alignment: rounds 6 to 9
    assert ranges["reward"] == ranges["refusals"] == (4.5, 9.5)  # and round 5, the models before it


def test_a_caption_has_numbers_meaning_and_band(store: Store, whole_id: str) -> None:
    caption = run_bundle(recording_of(store, whole_id), parse_options("figures")).captions["refusals"]
    assert caption == (
        "Delicate prompts that are refused after round 9 of 9: mean client 50.0 %. After round 5: mean client 50.0 %. "
        "Share of held-out delicate prompts that a client's model refuses. Around 'mean client': from the lowest to "
        "the highest client."
    )


def test_without_chrome_a_zip_lacks_pictures_alone(
    store: Store, whole_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BROWSER_PATH", str(tmp_path / "nowhere"))
    options = parse_options("zip")
    (file,), hint = write(run_bundle(recording_of(store, whole_id), options), options, tmp_path / "out")
    assert file == tmp_path / "out" / f"pwff-{whole_id}.zip"
    assert "nowhere', which is no program, so PNG, SVG and PDF are left out; HTML and all" in hint
    with zipfile.ZipFile(file) as archive:
        inside = {name.removeprefix(f"pwff-{whole_id}/"): archive.read(name) for name in archive.namelist()}
    tables = {f"tables/{table}.{form}" for table in ("rounds", "clients") for form in ("csv", "json", "parquet")}
    assert set(inside) == tables | {"figures/figures.html", "caption.txt", "config.toml", "run.json", "README.txt"}
    (tmp_path / "config.toml").write_bytes(inside["config.toml"])
    assert load_toml(tmp_path / "config.toml", RunConfig()) == THREE_STAGES
    assert inside["caption.txt"].decode().startswith("accuracy: Accuracy on each client's own data after round 9 of 9")
    assert f"All: Run {whole_id}: PWFF, 5 clients" in inside["caption.txt"].decode()
    assert "seed 0" in inside["README.txt"].decode() and "Made with: Python" in inside["README.txt"].decode()


def test_tables_or_figures_alone_lie_flat(
    store: Store, run_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BROWSER_PATH", str(tmp_path / "nowhere"))
    for content, names in (("figures", ["figures.html", "caption.txt"]), ("tables", ["rounds.csv", "clients.csv"])):
        options = parse_options(content)
        files, _ = write(run_bundle(recording_of(store, run_id), options), options, tmp_path / content)
        assert [file.name for file in files][:2] == names


def test_a_single_file_is_the_one_in_the_zip(store: Store, run_id: str) -> None:
    bundle = run_bundle(recording_of(store, run_id), parse_options("tables"))
    assert file_bytes(bundle, "rounds.csv").startswith(b"run,method,stage,round,")
    assert json.loads(file_bytes(bundle, "run.json"))["id"] == run_id
    assert b"seed = 7\n" in file_bytes(bundle, "config.toml")
    assert file_bytes(bundle, "clients.parquet")[:4] == b"PAR1"
