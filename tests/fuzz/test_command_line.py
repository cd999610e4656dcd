"""Any words after `pwff`: an answer or a sentence, and an exit code that says which; the store is none the worse."""

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
SENSIBLE = ("latest", "demo", "paper", "fig4", "pwff,local", "0,1", "5", "-1", "csv", "tables", "zip", "after", "{run}")
settings = st.sampled_from([f"--{path.replace('_', '-')}" for path in knobs()])


def within(word: str) -> str:
    """A word that names no place outside of the folder that the test is in, and that a system passes on."""
    kept = word.replace("/", "|").replace("..", ".").replace("~", "-").replace("\\", "|").replace("\0", " ")
    return kept.encode("utf-8", "replace").decode()[:200]


words = st.one_of(st.sampled_from(SENSIBLE), st.sampled_from(FLAGS), settings, texts.map(within))
lines = st.tuples(st.sampled_from(COMMANDS), st.lists(words, max_size=6)).map(lambda both: [both[0], *both[1]])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder to write to, with a store of one run; nothing is trained, served or asked."""
    found = tmp_path_factory.mktemp("command-line")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(found)
        patch.setenv("PWFF_STORE", str(found / "runs.sqlite"))
        scripted.use_engine(patch, scripted.ScriptedEngine())
        yield found


def nothing(*_: Any, **__: Any) -> int:
    """In the place of what would serve pages, start a browser or ask a server."""
    return 0


@given(line=lines)
@fuzzed(0.02, few=8)
def test_a_line(folder: Path, line: list[str]) -> None:
    store = Store(folder / "runs.sqlite")
    run_id = (
        scripted.played(store, with_changes(RunConfig(), {"clients": 2})) if not store.runs() else store.runs()[-1].id
    )
    said, told = io.StringIO(), io.StringIO()
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(said),
        contextlib.redirect_stderr(told),
    ):
        patch.setattr(os, "execve", nothing)
        patch.setattr(subprocess, "call", nothing)
        patch.setattr(subprocess, "Popen", nothing)
        patch.setattr("pwff_core.tools.rank.command.rank", nothing)
        try:
            code = cli.main([word.replace("{run}", run_id) for word in line])
        except SystemExit as end:  # argparse's and tyro's own way, for help and for a flag without its value
            code = end.code if isinstance(end.code, int) else 2
    assert code in (0, 1, 2)
    assert "Traceback" not in told.getvalue()
    if code == 2:
        assert told.getvalue().strip() or said.getvalue().strip()
    assert [record.round for _, record in store.rounds(run_id)] == [1, 2, 3]
    assert store.run(run_id).status is RunStatus.FINISHED
