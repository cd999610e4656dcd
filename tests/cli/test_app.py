"""`pwff app`: how the server of the pages is started, and for whom."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from pwff_core.cli.app import serve
from pwff_core.cli.arguments import App, parse
from pwff_core.runs import limits
from tests.support.cli_output import error_line

ROOT = Path(__file__).resolve().parent.parent.parent


def served(path: Path, *words: str) -> tuple[list[str], dict[str, str], dict[str, str]]:
    """The command that `pwff app` becomes, its options by name, and its environment."""
    calls: list[tuple[list[str], dict[str, str]]] = []

    def execute(argv: list[str], environment: dict[str, str]) -> int:
        calls.append((argv, environment))
        return 0

    command = parse(["app", *words])
    assert isinstance(command, App)
    assert serve(command, path, execute) == 0
    ((argv, environment),) = calls
    return argv, dict(zip(argv[5::2], argv[6::2], strict=True)), environment


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return int(probe.getsockname()[1])


def test_app_becomes_the_server_of_the_pages(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    port = free_port()
    command, options, environment = served(path, "--port", str(port), "--headless")
    assert command[1:5] == ["-m", "streamlit", "run", str(ROOT / "app.py")]
    assert (options["--server.address"], options["--server.port"]) == ("localhost", str(port))
    assert (options["--server.headless"], options["--server.maxUploadSize"]) == ("true", "20")
    assert environment["PWFF_STORE"] == str(path)
    assert not {"PWFF_HOSTED", "PWFF_PARALLEL"} & environment.keys()
    output = capsys.readouterr().out
    assert f"http://localhost:{port} " in output and "Hosted" not in output


def test_parallel_sets_how_many_runs_play_at_a_time(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert served(path, "--parallel", "3")[2]["PWFF_PARALLEL"] == "3"
    monkeypatch.setenv("PWFF_PARALLEL", "5")
    assert served(path)[2]["PWFF_PARALLEL"] == "5"


@pytest.mark.parametrize("number", ["0", "65", "-1"])
def test_parallel_out_of_range_is_refused(path: Path, capsys: pytest.CaptureFixture[str], number: str) -> None:
    error = error_line(capsys, "app", "--parallel", number)
    assert error == f"--parallel: {number} is not allowed; give a whole number from 1 to 64."


def test_a_parallel_variable_that_is_no_number_is_refused(
    path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PWFF_PARALLEL", "many")
    assert error_line(capsys, "app").startswith("$PWFF_PARALLEL is 'many';")


def test_hosted_listens_at_the_address_and_passes_on_no_secrets(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-1234")
    port = free_port()
    _, options, environment = served(path, "--hosted", "--address", "0.0.0.0", "--port", str(port))
    assert (options["--server.address"], options["--server.headless"]) == ("0.0.0.0", "true")
    assert environment["PWFF_HOSTED"] == "1"
    assert environment["PWFF_STORE"] == str(path)
    assert "OPENAI_API_KEY" not in environment
    output = capsys.readouterr().out
    assert f"http://localhost:{port} " in output and limits.summary() in output


def test_the_environment_alone_makes_it_hosted(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PWFF_HOSTED", "1")
    _, options, environment = served(path, "--address", "127.0.0.1")
    assert (options["--server.address"], environment["PWFF_HOSTED"]) == ("127.0.0.1", "1")


def test_an_open_address_without_hosted_is_refused(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    error = error_line(capsys, "app", "--address", "0.0.0.0")
    assert error == (
        "--address: at 0.0.0.0 everybody who reaches this computer could use pwff as you do; add --hosted, which keeps "
        "visitors within limits and apart, or leave --address out."
    )


def test_a_port_in_use_or_out_of_range_is_refused(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as busy:
        busy.bind(("localhost", 0))
        busy.listen()
        port = busy.getsockname()[1]
        error = error_line(capsys, "app", "--port", str(port))
        assert error == f"Port {port} is in use by another program; choose another with --port."
    assert (
        error_line(capsys, "app", "--port", "70000")
        == "--port: 70000 is not allowed; give a whole number from 1 to 65,535."
    )
