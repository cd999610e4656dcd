"""Files beside a store: only useless ones are removed, and none that may be another program's."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from pwff_core.runs.checkpoints import INFO_FILE, TENSORS_FILE, list_checkpoints
from pwff_core.runs.run_files import RunFiles
from pwff_core.runs.store import Store
from tests.support.checkpoints import write_checkpoint
from tests.support.doctor_output import CONFIG, doctor, files
from tests.support.scripted import played
from tests.support.store_tables import sql

GONE = "abcdefgh"  # looks like a run's id, and is none


def write_files(path: Path, run_id: str) -> set[str]:
    """Writes every kind of file that a run has beside a store; returns their names."""
    before = files(path.parent)
    write_checkpoint(path, run_id, 2, CONFIG)
    models = RunFiles(path).models(run_id)
    models.mkdir(parents=True)
    (models / "saved.json").write_text("{}")
    (models / "after.safetensors").write_bytes(b"x" * 3000)
    log = RunFiles(path).log(run_id)
    log.parent.mkdir(exist_ok=True)
    log.write_text("hello\n")
    log.with_name(f"{run_id}.talk.log").write_text("hello\n")
    return files(path.parent) - before


def test_files_of_runs_in_the_store_stay(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = Store(path)
    run_id, deleted = played(store, CONFIG), played(store, CONFIG)
    write_files(path, run_id)
    write_files(path, deleted)
    store.delete(deleted)
    before = files(path.parent)
    report = doctor(capsys, "--mend", "--purge-deleted")  # it was deleted a moment ago
    assert (report.code, report.mended) == (0, [])
    assert files(path.parent) == before
    assert report.texts["ok Files"][0].startswith("Nothing useless lies beside the store (checkpoints ")


def test_files_of_a_run_that_is_gone_are_removed(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_id = played(Store(path), CONFIG)
    stay = write_files(path, run_id)
    go = write_files(path, GONE)
    assert len(go) == 6
    report = doctor(capsys)
    assert report.code == 1 and "of a run that is gone" in report.problems()[0]
    assert files(path.parent) == stay | go
    report = doctor(capsys, "--mend")
    assert report.code == 0 and len(report.mended) == 4
    assert files(path.parent) == stay


def test_files_of_another_program_stay(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    played(Store(path), CONFIG)
    for name in ("models/research/model.safetensors", "logs/research.log", "checkpoints/research/step.pt"):
        (path.parent / name).parent.mkdir(parents=True, exist_ok=True)
        (path.parent / name).write_text("not pwff")
    before = files(path.parent)
    report = doctor(capsys, "--mend")
    assert (report.code, report.mended) == (0, [])
    assert files(path.parent) == before


def test_files_of_another_store_s_runs_stay(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Store(path)
    other = path.with_name("other.db")
    write_files(path, played(Store(other), CONFIG))
    before = files(path.parent)
    assert doctor(capsys, "--mend").mended == []
    assert files(path.parent) == before


def test_beside_an_unreadable_store_no_run_counts_as_gone(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Store(path)
    write_files(path, GONE)
    path.with_name("runs.damaged-20260101-120000.sqlite").write_bytes(b"\xa5" * 5000)
    report = doctor(capsys, "--mend")
    assert (report.code, report.mended) == (0, [])
    assert "cannot be read in full" in " ".join(report.texts["note Files"])
    assert RunFiles(path).models(GONE).is_dir()


def test_ids_that_are_paths_lead_out_of_no_folder(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A store that somebody sent may hold anything."""
    played(Store(path), CONFIG)
    sql(path, "UPDATE runs SET id = '../precious'")
    half = path.parent / "precious" / "thesis.new"
    half.mkdir(parents=True)
    (path.parent / "checkpoints").mkdir()
    assert doctor(capsys, "--mend").mended == ["Run ../precious has 0 rounds, not 3."]
    assert half.is_dir()


def test_half_written_files_of_a_run_at_rest_are_removed(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = Store(path)
    run_id, playing = played(store, CONFIG), store.create_run(CONFIG)
    store.claim(playing)
    whole = write_files(path, run_id)
    for half_id in (run_id, playing):
        for half in (
            RunFiles(path).checkpoints(half_id) / "00003.new",
            RunFiles(path).models(half_id).with_name(f"{half_id}.new"),
        ):
            half.mkdir(parents=True)
            (half / "state.safetensors").write_bytes(b"half")
    RunFiles(path).models(run_id).with_name(f"{run_id}.old").mkdir()
    only_copy = RunFiles(path).models(playing).with_name(f"{playing}.old")
    only_copy.mkdir()
    report = doctor(capsys, "--mend")
    assert report.code == 0
    assert sorted(text.split()[0] for text in report.mended) == sorted(
        [f"checkpoints/{run_id}/00003.new", f"models/{run_id}.new", f"models/{run_id}.old"]
    )
    being_written = {f"checkpoints/{playing}/00003.new/state.safetensors", f"models/{playing}.new/state.safetensors"}
    assert files(path.parent) == whole | being_written
    assert only_copy.is_dir()


def test_old_models_without_new_ones_stay(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_id = played(Store(path), CONFIG)
    old = RunFiles(path).models(run_id).with_name(f"{run_id}.old")
    old.mkdir(parents=True)
    assert doctor(capsys, "--mend").mended == []
    assert old.is_dir()


@pytest.mark.parametrize("harm", ["shorter", "another byte", "no tensors", "no mark", "half a mark"])
def test_a_damaged_checkpoint_is_removed_and_a_whole_one_stays(
    path: Path, capsys: pytest.CaptureFixture[str], harm: str
) -> None:
    run_id = played(Store(path), CONFIG)
    write_checkpoint(path, run_id, 1, CONFIG, b"first")
    place = write_checkpoint(path, run_id, 2, CONFIG, b"second")
    match harm:
        case "shorter":
            (place / TENSORS_FILE).write_bytes(b"sec")
        case "another byte":
            (place / TENSORS_FILE).write_bytes(b"Second")
        case "no tensors":
            (place / TENSORS_FILE).unlink()
        case "no mark":
            (place / INFO_FILE).unlink()
        case "half a mark":
            (place / INFO_FILE).write_text('{"format": 1, "posi')
    report = doctor(capsys)
    assert report.code == 1 and report.problems()[0].endswith(": damaged.")
    report = doctor(capsys, "--mend")
    assert report.code == 0 and report.mended[0].startswith(f"checkpoints/{run_id}/00002 (damaged) was removed")
    assert [mark.position for mark in list_checkpoints(path, run_id)] == [1]


def test_a_checkpoint_of_a_newer_version_stays(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = write_checkpoint(path, played(Store(path), CONFIG), 1, CONFIG)
    (place / INFO_FILE).write_text((place / INFO_FILE).read_text().replace('"format":1', '"format":2'))
    assert doctor(capsys, "--mend").mended == []
    assert (place / TENSORS_FILE).is_file()


def test_a_purge_removes_what_was_deleted_long_ago(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = Store(path)
    run_id, old, lately = (played(store, CONFIG) for _ in range(3))
    stay = write_files(path, run_id)
    write_files(path, old)
    for deleted in (old, lately):
        store.delete(deleted)
    sql(path, f"UPDATE runs SET deleted_at = {time.time() - 25 * 3600} WHERE id = '{old}'")
    report = doctor(capsys, "--mend")
    assert (report.code, report.mended) == (0, [])
    assert report.texts["note Files"][0].startswith("1 run deleted more than a day ago")
    report = doctor(capsys, "--mend", "--purge-deleted")
    assert report.code == 0 and report.mended[0].startswith("1 deleted run removed for good: ")
    assert files(path.parent) == stay
    assert [row.id for row in store.runs()] == [run_id]
    store.restore(lately)
    assert len(store.rounds(lately)) == 3
