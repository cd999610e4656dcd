"""Any words after `pwff` get an answer or a sentence, with the right exit code, and leave the store whole."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pwff_core import cli
from pwff_core.config import RunConfig
from pwff_core.knobs import knobs, with_changes
from pwff_core.runs.store import RunStatus, Store
from tests.support import scripted
from tests.support.fuzz_cases import fuzzed
from tests.support.fuzz_material import texts

COMMANDS = ("run", "resume", "fork", "compare", "runs", "export", "app", "rank", "doctor", "--version", "--help", "rnu")
FLAGS = (
    "--store", "--preset", "--config", "--name", "--json", "--force", "--figure", "--methods", "--seeds", "--csv",
    "--to", "--as", "--formats", "--size", "--figures", "--client", "--when", "--port", "--headless", "--after",
    "--hosted", "--parallel", "--address", "--list", "--yes", "--channel.snr-db=5", "--no-such-flag", "-x", "--",
    "--mend",
)  # fmt: skip
VALUES = ("latest", "demo", "paper", "fig4", "pwff,local", "0,1", "5", "-1", "csv", "tables", "zip", "after", "{run}")
settings = st.sampled_from([f"--{path.replace('_', '-')}" for path in knobs()])


def harmless(word: str) -> str:
    """The word as a system can pass it on, and without a path that leads out of the test's folder."""
    inside = word.replace("/", "|").replace("..", ".").replace("~", "-").replace("\\", "|").replace("\0", " ")
    return inside.encode("utf-8", "replace").decode()[:200]


words = st.one_of(st.sampled_from(VALUES), st.sampled_from(FLAGS), settings, texts.map(harmless))
lines = st.tuples(st.sampled_from(COMMANDS), st.lists(words, max_size=6)).map(lambda line: [line[0], *line[1]])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder to write to, with a store in it; a scripted engine plays all runs."""
    path = tmp_path_factory.mktemp("command-line")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path)
        patch.setenv("PWFF_STORE", str(path / "runs.sqlite"))
        scripted.use_engine(patch, scripted.ScriptedEngine())
        yield path


def do_nothing(*_: Any, **__: Any) -> int:
    """Instead of serving pages, starting a browser or asking a server."""
    return 0


@given(line=lines)
@fuzzed(0.02, few=8)
def test_any_command_line_is_answered(folder: Path, line: list[str]) -> None:
    store = Store(folder / "runs.sqlite")
    run_id = (
        scripted.played(store, with_changes(RunConfig(), {"clients": 2})) if not store.runs() else store.runs()[-1].id
    )
    stdout, stderr = io.StringIO(), io.StringIO()
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(stdout),
        contextlib.redirect_stderr(stderr),
    ):
        patch.setattr(os, "execve", do_nothing)
        patch.setattr(subprocess, "call", do_nothing)
        patch.setattr(subprocess, "Popen", do_nothing)
        patch.setattr("pwff_core.tools.rank.command.rank", do_nothing)
        try:
            code = cli.main([word.replace("{run}", run_id) for word in line])
        except SystemExit as end:  # argparse's and tyro's own way, for help and for a flag without its value
            code = end.code if isinstance(end.code, int) else 2
    assert code in (0, 1, 2)
    assert "Traceback" not in stderr.getvalue()
    if code == 2:
        assert stderr.getvalue().strip() or stdout.getvalue().strip()
    assert [record.round for _, record in store.rounds(run_id)] == [1, 2, 3]
    assert store.run(run_id).status is RunStatus.FINISHED
