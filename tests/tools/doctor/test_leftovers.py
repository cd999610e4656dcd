"""What lies beside a store: only what nobody needs is removed, and nothing that may be somebody else's."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from pwff_core.runs.checkpoints import HEAD, STATE, marks
from pwff_core.runs.run_files import RunFiles
from pwff_core.runs.store import Store
from tests.support.checkpoints import marked
from tests.support.doctor_output import CONFIG, doctor, files
from tests.support.scripted import played
from tests.support.store_tables import sql

GONE = "abcdefgh"  # looks like a run's id, and is none


def kept(path: Path, run_id: str) -> set[str]:
    """Writes all that lies beside a store for a run; returns the files' names."""
    before = files(path.parent)
    marked(path, run_id, 2, CONFIG)
    models = RunFiles(path).models(run_id)
    models.mkdir(parents=True)
    (models / "saved.json").write_text("{}")
    (models / "after.safetensors").write_bytes(b"x" * 3000)
    log = RunFiles(path).log(run_id)
    log.parent.mkdir(exist_ok=True)
    log.write_text("hello\n")
    log.with_name(f"{run_id}.talk.log").write_text("hello\n")
    return files(path.parent) - before


def test_files_of_runs_that_are_there_stay(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = Store(path)
    mine, deleted = played(store, CONFIG), played(store, CONFIG)
    kept(path, mine)
    kept(path, deleted)
    store.delete(deleted)
    before = files(path.parent)
    found = doctor(capsys, "--mend", "--purge-deleted")  # it was deleted a moment ago
    assert (found.code, found.mended) == (0, [])
    assert files(path.parent) == before
    assert found.texts["ok Files"][0].startswith("Nothing useless lies beside the store (checkpoints ")


def test_files_of_a_run_that_is_gone_go(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = played(Store(path), CONFIG)
    stay = kept(path, mine)
    go = kept(path, GONE)
    assert len(go) == 6
    found = doctor(capsys)
    assert found.code == 1 and "of a run that is gone" in found.problems()[0]
    assert files(path.parent) == stay | go
    found = doctor(capsys, "--mend")
    assert found.code == 0 and len(found.mended) == 4
    assert files(path.parent) == stay


def test_what_may_be_another_program_s_is_left_alone(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    played(Store(path), CONFIG)
    for name in ("models/research/model.safetensors", "logs/research.log", "checkpoints/research/step.pt"):
        (path.parent / name).parent.mkdir(parents=True, exist_ok=True)
        (path.parent / name).write_text("theirs")
    before = files(path.parent)
    found = doctor(capsys, "--mend")
    assert (found.code, found.mended) == (0, [])
    assert files(path.parent) == before


def test_files_of_another_store_s_runs_are_left_alone(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Store(path)
    other = path.with_name("other.db")
    kept(path, played(Store(other), CONFIG))
    before = files(path.parent)
    assert doctor(capsys, "--mend").mended == []
    assert files(path.parent) == before


def test_beside_a_store_that_cannot_be_read_nothing_is_taken_for_gone(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Store(path)
    kept(path, GONE)
    path.with_name("runs.damaged-20260101-120000.sqlite").write_bytes(b"\xa5" * 5000)
    found = doctor(capsys, "--mend")
    assert (found.code, found.mended) == (0, [])
    assert "cannot be read in full" in " ".join(found.texts["note Files"])
    assert RunFiles(path).models(GONE).is_dir()


def test_ids_that_lead_elsewhere_lead_nowhere(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A store that somebody sent may hold anything."""
    played(Store(path), CONFIG)
    sql(path, "UPDATE runs SET id = '../precious'")
    half = path.parent / "precious" / "thesis.new"
    half.mkdir(parents=True)
    (path.parent / "checkpoints").mkdir()
    assert doctor(capsys, "--mend").mended == ["Run ../precious has 0 rounds, not 3."]
    assert half.is_dir()


def test_half_written_files_of_a_run_at_rest_go(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = Store(path)
    mine, playing = played(store, CONFIG), store.create_run(CONFIG)
    store.claim(playing)
    whole = kept(path, mine)
    for run_id in (mine, playing):
        for half in (
            RunFiles(path).checkpoints(run_id) / "00003.new",
            RunFiles(path).models(run_id).with_name(f"{run_id}.new"),
        ):
            half.mkdir(parents=True)
            (half / "state.safetensors").write_bytes(b"half")
    RunFiles(path).models(mine).with_name(f"{mine}.old").mkdir()
    only_copy = RunFiles(path).models(playing).with_name(f"{playing}.old")
    only_copy.mkdir()
    found = doctor(capsys, "--mend")
    assert found.code == 0
    assert sorted(text.split()[0] for text in found.mended) == sorted(
        [f"checkpoints/{mine}/00003.new", f"models/{mine}.new", f"models/{mine}.old"]
    )
    being_written = {f"checkpoints/{playing}/00003.new/state.safetensors", f"models/{playing}.new/state.safetensors"}
    assert files(path.parent) == whole | being_written
    assert only_copy.is_dir()


def test_models_that_were_moved_and_not_replaced_stay(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = played(Store(path), CONFIG)
    old = RunFiles(path).models(mine).with_name(f"{mine}.old")
    old.mkdir(parents=True)
    assert doctor(capsys, "--mend").mended == []
    assert old.is_dir()


@pytest.mark.parametrize("harm", ["shorter", "another byte", "no tensors", "no mark", "half a mark"])
def test_a_damaged_checkpoint_goes_and_a_whole_one_stays(
    path: Path, capsys: pytest.CaptureFixture[str], harm: str
) -> None:
    mine = played(Store(path), CONFIG)
    marked(path, mine, 1, CONFIG, b"first")
    place = marked(path, mine, 2, CONFIG, b"second")
    match harm:
        case "shorter":
            (place / STATE).write_bytes(b"sec")
        case "another byte":
            (place / STATE).write_bytes(b"Second")
        case "no tensors":
            (place / STATE).unlink()
        case "no mark":
            (place / HEAD).unlink()
        case "half a mark":
            (place / HEAD).write_text('{"format": 1, "posi')
    found = doctor(capsys)
    assert found.code == 1 and found.problems()[0].endswith(": damaged.")
    found = doctor(capsys, "--mend")
    assert found.code == 0 and found.mended[0].startswith(f"checkpoints/{mine}/00002 (damaged) was removed")
    assert [mark.position for mark in marks(path, mine)] == [1]


def test_a_checkpoint_of_a_newer_version_is_left_alone(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = marked(path, played(Store(path), CONFIG), 1, CONFIG)
    (place / HEAD).write_text((place / HEAD).read_text().replace('"format":1', '"format":2'))
    assert doctor(capsys, "--mend").mended == []
    assert (place / STATE).is_file()


def test_what_was_deleted_long_ago_is_removed_for_good_when_asked_for(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store(path)
    mine, old, lately = (played(store, CONFIG) for _ in range(3))
    stay = kept(path, mine)
    kept(path, old)
    for run_id in (old, lately):
        store.delete(run_id)
    sql(path, f"UPDATE runs SET deleted_at = {time.time() - 25 * 3600} WHERE id = '{old}'")
    found = doctor(capsys, "--mend")
    assert (found.code, found.mended) == (0, [])
    assert found.texts["note Files"][0].startswith("1 run deleted more than a day ago")
    found = doctor(capsys, "--mend", "--purge-deleted")
    assert found.code == 0 and found.mended[0].startswith("1 deleted run removed for good: ")
    assert files(path.parent) == stay
    assert [row.id for row in store.runs()] == [mine]
    store.restore(lately)
    assert len(store.rounds(lately)) == 3
