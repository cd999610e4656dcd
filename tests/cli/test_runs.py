"""`pwff runs`: the list of a store's runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pwff_core import cli
from pwff_core.config import InstructionConfig, RunConfig
from pwff_core.runs.store import Store
from tests.support.cli_output import FIVE_ROUNDS, error_line, forkable
from tests.support.older_stores import older
from tests.support.store_tables import sql

ROOT = Path(__file__).resolve().parent.parent.parent


def test_runs_lists_newest_first(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["runs"]) == 0
    assert capsys.readouterr().out.startswith(f"No runs yet in {path};")
    store = Store(path)
    first = store.create_run(RunConfig(method="fedada", clients=3, instruction=InstructionConfig(rounds=7)), "one")
    second = store.create_run(RunConfig(method="local"))
    assert cli.main(["runs"]) == 0
    lines = capsys.readouterr().out.splitlines()[2:]
    assert [line.split()[0] for line in lines] == [second, first]
    assert lines[1].split()[3:] == ["fedada", "3", "5", "dB", "0/7", "queued", "one"]
    assert cli.main(["runs", "--json"]) == 0
    assert [json.loads(line)["id"] for line in capsys.readouterr().out.splitlines()] == [second, first]


def test_runs_in_a_pipe_that_closes_early(path: Path) -> None:
    store = Store(path)
    for _ in range(3):
        store.create_run(RunConfig())
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "pwff_core", "runs", "--json"]
    done = subprocess.run(command, cwd=ROOT, stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, "")


def test_a_renewed_store_is_reported_once(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    older(path, 2)
    assert cli.main(["runs"]) == 0
    output = capsys.readouterr()
    assert output.err == f"pwff: The store {path} was renewed; as it was, it is kept as runs.v2-backup.sqlite.\n"
    assert "my finished" in output.out
    assert (tmp_path / "runs.v2-backup.sqlite").is_file()
    assert cli.main(["runs"]) == 0
    assert capsys.readouterr().err == ""


def test_runs_shows_parents_and_places_in_the_queue(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parent = forkable(path)
    store = Store(path)
    child = store.fork(parent, 1, {"channel.snr_db": 9.0}, in_queue=True)
    assert cli.main(["runs"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "forked from" in lines[0]
    assert "5 → 9 dB" in lines[2] and "5 dB" in lines[3]
    assert f"queued   {parent} after 1" in lines[2] and lines[2].endswith("Place 1 of 1 in the queue.")
    assert cli.main(["runs", "--json"]) == 0
    first = json.loads(capsys.readouterr().out.splitlines()[0])
    assert (first["id"], first["parent"], first["forked_at"], first["waits"]) == (child, parent, 1, True)


def test_runs_says_why_an_engine_does_not_answer(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = Store(path)
    run_id = store.create_run(FIVE_ROUNDS)
    store.claim(run_id)
    sql(path, "UPDATE runs SET heartbeat_at = heartbeat_at - 60")
    assert cli.main(["runs"]) == 0
    line = capsys.readouterr().out.splitlines()[2]
    assert "waiting" in line and f"but the engine is there (process {os.getpid()})" in line
    assert f"process {os.getpid()}" in error_line(capsys, "resume", run_id)
