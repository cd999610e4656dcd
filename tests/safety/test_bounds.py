"""The addresses at which the app listens, and how much a browser can send it."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from pwff_core.cli.app import serve
from pwff_core.cli.arguments import App
from pwff_core.errors import ConfigError
from pwff_core.runs import uploads

CONFIG = tomllib.loads((Path(__file__).parents[2] / ".streamlit" / "config.toml").read_text(encoding="utf-8"))


def server(command: App, store_path: Path) -> tuple[list[str], dict[str, str]]:
    """The arguments and the environment of the server that `pwff app` becomes."""
    calls: list[tuple[list[str], dict[str, str]]] = []

    def execute(argv: list[str], environment: dict[str, str]) -> int:
        calls.append((argv, environment))
        return 0

    assert serve(command, store_path, execute) == 0
    return calls[0]


def flag(argv: list[str], name: str) -> str:
    return argv[argv.index(name) + 1]


def test_the_app_listens_on_this_computer_only_by_default(tmp_path: Path) -> None:
    assert App().address == "localhost" and not App().hosted
    assert CONFIG["server"]["address"] == "localhost"  # also for `streamlit run app.py`
    argv, environment = server(App(headless=True), tmp_path / "runs.sqlite")
    assert flag(argv, "--server.address") == "localhost"
    assert environment.get("PWFF_HOSTED") != "1"


def test_other_computers_reach_only_a_hosted_app(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sentinel")
    with pytest.raises(ConfigError, match="add --hosted, which keeps visitors within limits"):
        server(App(address="0.0.0.0"), tmp_path / "runs.sqlite")
    argv, environment = server(App(address="0.0.0.0", hosted=True), tmp_path / "runs.sqlite")
    assert flag(argv, "--server.address") == "0.0.0.0"
    assert environment["PWFF_HOSTED"] == "1" and "OPENAI_API_KEY" not in environment
    assert "at most 20 clients, 60 rounds" in capsys.readouterr().out


def test_a_browser_cannot_send_more_than_an_upload(tmp_path: Path) -> None:
    assert CONFIG["server"]["maxUploadSize"] * 1_000_000 == uploads.LARGEST_FILE
    argv, _ = server(App(headless=True), tmp_path / "runs.sqlite")
    assert flag(argv, "--server.maxUploadSize") == f"{uploads.LARGEST_FILE // 1_000_000}"


def test_the_protection_from_other_sites_stays_on() -> None:
    assert "enableXsrfProtection" not in CONFIG["server"] and "enableCORS" not in CONFIG["server"]
    assert CONFIG["client"]["showErrorDetails"] == "none"  # no paths and no code on a page
