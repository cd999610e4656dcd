"""Keys of the environment are in no file that is written: store, logs, exports, models, checkpoints, uploads."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from pwff_core import cli
from pwff_core.runs import scheduler
from pwff_core.runs.processes import HOSTED_VARIABLE
from pwff_core.runs.store import RunStatus, Store
from tests.support import scripted
from tests.support.live_page import GPT2_PRICE

ROOT = Path(__file__).resolve().parents[2]
SENTINEL = "sk-sentinel-4d1c9a7e"
KEYS = ("OPENAI_API_KEY", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "WANDB_API_KEY")


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in KEYS:
        monkeypatch.setenv(name, SENTINEL)


def holders(folder: Path) -> list[str]:
    """The files in a folder, also those in zips, that hold the sentinel."""
    holding = []
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        content = file.read_bytes()
        if file.suffix == ".zip":
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                content += b"".join(archive.read(name) for name in archive.namelist())
        if SENTINEL.encode() in content:
            holding.append(file.name)
    return holding


def test_runs_and_exports_hold_no_key(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    short = ("--clients", "2", "--instruction.rounds", "3", "--reward.rounds", "0", "--alignment.rounds", "0")
    scripted.use_engine(monkeypatch, scripted.ScriptedEngine())
    assert cli.main(["run", *short]) == 0
    assert cli.main(["export", "latest", "--as", "zip", "--formats", "html,csv,json", "--to", str(tmp_path)]) == 0
    assert cli.main(["export", "latest", "--to", str(tmp_path / "tables")]) == 0

    def fail(number: int) -> None:
        raise RuntimeError("a bug")

    scripted.use_engine(monkeypatch, scripted.ScriptedEngine(fail))
    assert cli.main(["run", *short]) == 1
    assert cli.main(["runs", "--json"]) == 0
    output = capsys.readouterr()
    assert (
        store.runs()[0].status is RunStatus.FAILED
        and list(tmp_path.glob("logs/*.log"))
        and list(tmp_path.glob("*.zip"))
    )
    assert SENTINEL not in output.out + output.err
    assert holders(tmp_path) == []


@pytest.mark.slow
def test_the_log_of_a_failed_worker_holds_no_key(store: Store, tmp_path: Path) -> None:
    run_id = store.create_run(GPT2_PRICE.model_copy(update={"backbone": str(tmp_path / "nothing here")}))
    worker = scheduler.launch(store.path, run_id)
    assert worker.wait(120) == 1
    assert store.run(run_id).status is RunStatus.FAILED
    assert (tmp_path / "logs" / f"{run_id}.log").read_text(encoding="utf-8")
    assert holders(tmp_path) == []


def test_the_sentinel_would_be_found(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text(f"key={SENTINEL}")
    with zipfile.ZipFile(tmp_path / "b.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("c.txt", SENTINEL * 100)
    assert holders(tmp_path) == ["a.log", "b.zip"]


def test_a_hosted_app_s_child_process_has_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    from pwff_core.runs import processes

    def child_keys() -> str:
        code = f"import os; print([os.environ.get(name, '') for name in {KEYS!r}])"
        child = subprocess.run(
            [sys.executable, "-c", code], env=processes.environment(), capture_output=True, text=True, check=True
        )
        return child.stdout

    assert child_keys().count(SENTINEL) == len(KEYS)
    monkeypatch.setenv(HOSTED_VARIABLE, "1")
    assert SENTINEL not in child_keys()
    assert all(os.environ[name] == SENTINEL for name in KEYS)  # the app's own environment keeps them
