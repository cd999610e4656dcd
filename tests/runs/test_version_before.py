"""What the version before wrote still opens: store, recording, config file, address, checkpoint.

tests/samples/before-house/ was written by that version: a run that finished, one that was stopped after the first of
four rounds (with its checkpoint), and the rounds of the same run played without a break (whole.jsonl).
"""

from __future__ import annotations

import shutil
from pathlib import Path
from urllib.parse import parse_qs

import pytest

from pages.settings.address import config_of
from pwff_core.config import RunConfig
from pwff_core.engine.worker import play_run
from pwff_core.knobs import load_toml
from pwff_core.records import RoundRecord
from pwff_core.runs.checkpoints import list_checkpoints
from pwff_core.runs.recording import from_json
from pwff_core.runs.store import EndKind, RunStatus, Store

SAMPLES = Path(__file__).resolve().parents[1] / "samples" / "before-house"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A copy of the store, with its checkpoint."""
    folder = shutil.copytree(SAMPLES, tmp_path / "copy")
    return Store(folder / "runs.sqlite")


@pytest.fixture
def whole() -> list[RoundRecord]:
    lines = (SAMPLES / "whole.jsonl").read_text(encoding="utf-8").splitlines()
    return [RoundRecord.model_validate_json(line) for line in lines]


def test_its_runs_are_listed_with_their_rounds(store: Store, whole: list[RoundRecord]) -> None:
    assert store.renewed == []
    rows = {row.name: row for row in store.runs()}
    assert {name: (row.status, row.rounds_done) for name, row in rows.items()} == {
        "finished": (RunStatus.FINISHED, 2),
        "stopped": (RunStatus.STOPPED, 1),
    }
    end = rows["stopped"].end
    assert end is not None and (end.kind, end.rounds) == (EndKind.STOPPED, 1)
    records = [record for _, record in store.rounds(rows["stopped"].id)]
    own = {"run": whole[0].run, "wall_s": whole[0].wall_s}
    assert [record.model_copy(update=own) for record in records] == whole[:1]


def test_its_recording_is_read(store: Store) -> None:
    recording = from_json((SAMPLES / "run.json").read_text(encoding="utf-8"))
    row = next(row for row in store.runs() if row.name == "finished")
    assert (recording.row.id, recording.row.config) == (row.id, row.config)
    assert list(recording.records) == [record for _, record in store.rounds(row.id)]


def test_its_config_file_and_its_address_are_read() -> None:
    expected = RunConfig.model_validate_json((SAMPLES / "config.json").read_text(encoding="utf-8"))
    assert load_toml(SAMPLES / "config.toml", RunConfig()) == expected
    query = parse_qs((SAMPLES / "address.txt").read_text(encoding="utf-8").strip().removeprefix("?"))
    assert config_of(query) == (expected, [])


def test_its_stopped_run_is_resumed_from_its_checkpoint(store: Store, whole: list[RoundRecord]) -> None:
    row = next(row for row in store.runs() if row.name == "stopped")
    assert [checkpoint.position for checkpoint in list_checkpoints(store.path, row.id)] == [1]
    store.requeue(row.id, in_queue=False)
    records = list(play_run(store, row.id))
    assert [record.round for record in records] == [2, 3, 4]  # no round is played again
    # another computer has other last digits
    assert [record.loss for record in records] == pytest.approx([record.loss for record in whole[1:]], rel=0.02)
    assert [record.delay_s for record in records] == pytest.approx([record.delay_s for record in whole[1:]], rel=1e-6)
    row = store.run(row.id)
    assert (row.status, row.rounds_done) == (RunStatus.FINISHED, 4)
    assert "Resumed after round 1." in row.notes
