"""`pwff app`: how the server of the pages is started, and for whom."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from pwff_core import cli
from pwff_core.runs import limits
from tests.support.cli_output import sentence

ROOT = Path(__file__).resolve().parent.parent.parent

posix = pytest.mark.skipif(os.name != "posix", reason="elsewhere the server is a child process")


def started(monkeypatch: pytest.MonkeyPatch, *words: str) -> tuple[list[str], dict[str, str], dict[str, str]]:
    """The command that `pwff app` becomes, its options by name, and its environment."""
    called: list[tuple[list[str], dict[str, str]]] = []

    def execve(program: str, command: list[str], environment: dict[str, str]) -> None:
        called.append((command, environment))
        raise SystemExit(0)

    monkeypatch.setattr(os, "execve", execve)
    with pytest.raises(SystemExit):
        cli.main(["app", *words])
    ((command, environment),) = called
    return command, dict(zip(command[5::2], command[6::2], strict=True)), environment


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return int(probe.getsockname()[1])


@posix
def test_app_becomes_the_server_of_the_pages(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    port = free_port()
    command, options, environment = started(monkeypatch, "--port", str(port), "--headless")
    assert command[1:5] == ["-m", "streamlit", "run", str(ROOT / "app.py")]
    assert (options["--server.address"], options["--server.port"]) == ("localhost", str(port))
    assert (options["--server.headless"], options["--server.maxUploadSize"]) == ("true", "20")
    assert environment["PWFF_STORE"] == str(path)
    assert not {"PWFF_HOSTED", "PWFF_PARALLEL"} & environment.keys()
    said = capsys.readouterr().out
    assert f"http://localhost:{port} " in said and "Hosted" not in said


@posix
def test_so_many_runs_at_a_time(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert started(monkeypatch, "--parallel", "3")[2]["PWFF_PARALLEL"] == "3"
    monkeypatch.setenv("PWFF_PARALLEL", "5")
    assert started(monkeypatch)[2]["PWFF_PARALLEL"] == "5"


@pytest.mark.parametrize("number", ["0", "65", "-1"])
def test_too_many_or_no_runs_at_a_time(path: Path, capsys: pytest.CaptureFixture[str], number: str) -> None:
    said = sentence(capsys, "app", "--parallel", number)
    assert said == f"--parallel: {number} is not allowed; give a whole number from 1 to 64."


def test_a_variable_that_is_no_number_is_said_before_the_pages_open(
    path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PWFF_PARALLEL", "many")
    assert sentence(capsys, "app").startswith("$PWFF_PARALLEL is 'many';")


@posix
def test_hosted_listens_where_it_is_told_and_knows_no_secrets(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-1234")
    port = free_port()
    _, options, environment = started(monkeypatch, "--hosted", "--address", "0.0.0.0", "--port", str(port))
    assert (options["--server.address"], options["--server.headless"]) == ("0.0.0.0", "true")
    assert environment["PWFF_HOSTED"] == "1"
    assert environment["PWFF_STORE"] == str(path)
    assert "OPENAI_API_KEY" not in environment
    said = capsys.readouterr().out
    assert f"http://localhost:{port} " in said and limits.summary() in said


@posix
def test_hosted_by_the_environment_is_hosted(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PWFF_HOSTED", "1")
    _, options, environment = started(monkeypatch, "--address", "127.0.0.1")
    assert (options["--server.address"], environment["PWFF_HOSTED"]) == ("127.0.0.1", "1")


def test_others_are_not_let_in_by_an_address_alone(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = sentence(capsys, "app", "--address", "0.0.0.0")
    assert said == (
        "--address: at 0.0.0.0 everybody who reaches this computer could use pwff as you do; add --hosted, which keeps "
        "visitors within limits and apart, or leave --address out."
    )


def test_a_port_in_use_or_out_of_range(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("localhost", 0))
        taken.listen()
        port = taken.getsockname()[1]
        said = sentence(capsys, "app", "--port", str(port))
        assert said == f"Port {port} is in use by another program; choose another with --port."
    assert (
        sentence(capsys, "app", "--port", "70000")
        == "--port: 70000 is not allowed; give a whole number from 1 to 65,535."
    )
