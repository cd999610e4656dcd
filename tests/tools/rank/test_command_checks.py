"""Before anything is sent: the estimate, the yes, errors of settings; and the key reaches nobody but the server."""

from __future__ import annotations

import io
import shutil
import sys
from pathlib import Path

import pytest

from pwff_core import cli
from tests.support.cli_output import error_line
from tests.support.ranking_samples import KEY
from tests.support.ranking_server import Fault, Loopback, failure


def last_line(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().err.splitlines()[-1]


# the key


def test_the_key_is_in_no_file_output_or_log(
    words: list[str], loopback: Loopback, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    caplog.set_level("DEBUG")  # of every library
    echo = f"Your key {KEY} or {KEY[4:]} …"
    loopback.faults = {2: failure(400, echo, code=KEY), 3: Fault(200, echo.encode()), 15: failure(401, echo, type=KEY)}
    loopback.verdict = lambda comparison: echo if comparison.prompt == "Why?" else "T"
    assert cli.main([*words, "--parallel", "1"]) == 1
    output = capsys.readouterr()
    assert all(headers["authorization"] == f"Bearer {KEY}" for headers in loopback.headers)
    assert "does not accept the key in $OPENAI_API_KEY (status 401)." in output.err
    written = "".join(file.read_text(encoding="utf-8") for file in sorted((tmp_path / "to").iterdir()))
    assert "HTTP Response" in caplog.text
    assert "unreadable" in written and "(left out: it holds a part of the key)" in written
    for start in range(len(KEY) - 7):
        assert KEY[start : start + 8] not in output.out + output.err + written + caplog.text


def test_no_flag_takes_a_key(capsys: pytest.CaptureFixture[str]) -> None:
    for flag in ("--api-key", "--key"):
        error = error_line(capsys, "rank", f"{flag}={KEY}")
        assert error.startswith(f"Unknown flag {flag}") and KEY not in error


# the estimate and the yes


def test_without_a_terminal_and_without_yes_nothing_is_sent(
    words: list[str], loopback: Loopback, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([word for word in words if word != "--yes"]) == 2
    error = last_line(capsys)
    assert error.startswith("pwff: This would send 16 requests to small at http://127.0.0.1:")
    assert error.endswith(" tokens of verdicts. Add --yes to agree, or call from a terminal.")
    assert loopback.bodies == []


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("answer", "code"), [("y\n", 0), (" YES \n", 0), ("n\n", 2), ("\n", 2), ("", 2)])
def test_a_terminal_asks_for_a_yes(
    words: list[str], loopback: Loopback, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    answer: str, code: int,
) -> None:  # fmt: skip
    monkeypatch.setattr(sys, "stdin", Terminal(answer))
    assert cli.main([word for word in words if word != "--yes"]) == code
    error = capsys.readouterr().err
    assert "This sends 16 requests to small at " in error and "Go on? [y/N] " in error
    assert len(loopback.bodies) == (0 if code else 16)
    assert ("pwff: Nothing was asked; the candidate responses are kept.\n" in error) is bool(code)


# calls that cannot begin


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["--server", "http://localhost:1/v1"], "--model is missing; say which model ranks, such as --model gpt-4o."),
        (["--model", "small", "--prompts", "0"], "prompts: 0 is not allowed; give a whole number from 1 to 1,000,000."),
        (["--model", "small", "--candidates", "9"], "candidates: 9 is not allowed; give a whole number from 2 to 8."),
        (["--model", "small", "--limit", "0"], "limit: 0 is not allowed; give a whole number from 1 to 1,000,000,000."),
        (["--model", "s", "--timeout-s", "x"], "timeout_s: 'x' is not allowed; give a number from 0.01 to 3,600 s."),
        (["--model", "small", "--price-in", "2"], "a cost needs both prices; give price_in and price_out, or neither."),
        (["--modle", "small"], "Unknown flag --modle; did you mean --model? `pwff rank --help` lists all flags."),
        (
            ["--model", "small", "--server", "http://localhost:1/v1", "--source", "nowhere.jsonl"],
            "There is no file or folder nowhere.jsonl. Give demo",
        ),
    ],
)  # fmt: skip
def test_a_call_that_cannot_begin_is_one_sentence(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], error: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert error_line(capsys, "rank", *words).startswith(error)
    assert list(tmp_path.iterdir()) == []


def test_without_the_openai_package_nothing_begins(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "openai", None)
    error = "`pwff rank` needs the package openai, which is not installed; pip install 'pwff[judge]'."
    assert error_line(capsys, *words) == error


def test_a_folder_that_cannot_be_made(
    words: list[str], loopback: Loopback, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(tmp_path / "to")
    (tmp_path / "to").write_text("in the way")
    assert cli.main(words) == 2
    path = tmp_path / "to" / "candidates.jsonl"
    assert last_line(capsys) == f"pwff: Cannot read {path} (Not a directory); choose another folder with --to."
    assert loopback.bodies == []
