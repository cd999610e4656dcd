"""What is said and refused before anything is asked, and that the key stays between us and the server."""

from __future__ import annotations

import io
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


def test_the_key_is_in_no_file_and_no_word(
    words: list[str], loopback: Loopback, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    caplog.set_level("DEBUG")  # of every library
    echo = f"Your key {KEY} or {KEY[4:]} …"
    loopback.faults = {2: failure(400, echo, code=KEY), 3: Fault(200, echo.encode()), 15: failure(401, echo, type=KEY)}
    loopback.verdict = lambda question: echo if question.prompt == "Why?" else "T"
    assert cli.main([*words, "--parallel", "1"]) == 1
    said = capsys.readouterr()
    assert all(headers["authorization"] == f"Bearer {KEY}" for headers in loopback.headers)
    assert "does not accept the key in $OPENAI_API_KEY (status 401)." in said.err
    written = "".join(file.read_text(encoding="utf-8") for file in sorted((tmp_path / "to").iterdir()))
    assert "HTTP Response" in caplog.text
    assert "unreadable" in written and "(left out: it holds a part of the key)" in written
    for start in range(len(KEY) - 7):
        assert KEY[start : start + 8] not in said.out + said.err + written + caplog.text


def test_no_flag_takes_a_key(capsys: pytest.CaptureFixture[str]) -> None:
    for flag in ("--api-key", "--key"):
        said = error_line(capsys, "rank", f"{flag}={KEY}")
        assert said.startswith(f"Unknown flag {flag}") and KEY not in said


# the estimate and the yes


def test_without_a_terminal_and_without_yes_nothing_is_asked(
    words: list[str], loopback: Loopback, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([word for word in words if word != "--yes"]) == 2
    said = last_line(capsys)
    assert said.startswith("pwff: This would send 16 requests to small at http://127.0.0.1:")
    assert said.endswith(" tokens of verdicts. Add --yes to agree, or call from a terminal.")
    assert loopback.bodies == []


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("answer", "code"), [("y\n", 0), (" YES \n", 0), ("n\n", 2), ("\n", 2), ("", 2)])
def test_on_a_terminal_a_yes_is_asked_for(
    words: list[str], loopback: Loopback, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    answer: str, code: int,
) -> None:  # fmt: skip
    monkeypatch.setattr(sys, "stdin", Terminal(answer))
    assert cli.main([word for word in words if word != "--yes"]) == code
    said = capsys.readouterr().err
    assert "This sends 16 requests to small at " in said and "Go on? [y/N] " in said
    assert len(loopback.bodies) == (0 if code else 16)
    assert ("pwff: Nothing was asked; the candidate responses are kept.\n" in said) is bool(code)


# what cannot be begun


@pytest.mark.parametrize(
    ("words", "said"),
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
def test_what_cannot_be_begun_is_one_sentence(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert error_line(capsys, "rank", *words).startswith(said)
    assert list(tmp_path.iterdir()) == []


def test_without_the_package_it_is_one_sentence(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "openai", None)
    said = "`pwff rank` needs the package openai, which is not installed; pip install 'pwff[judge]'."
    assert error_line(capsys, *words) == said


def test_a_folder_that_cannot_be_made(
    words: list[str], loopback: Loopback, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "to").write_text("in the way")
    assert cli.main(words) == 2
    assert (
        last_line(capsys)
        == f"pwff: Cannot read {tmp_path / 'to' / 'verdicts.jsonl'} (Not a directory); choose another folder with --to."
    )
    assert loopback.bodies == []
