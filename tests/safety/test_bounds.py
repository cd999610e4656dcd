"""Where the app can be reached from, and how much a browser can send it."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from pwff_core import cli
from pwff_core.cli.arguments import App
from pwff_core.runs import uploads

CONFIG = tomllib.loads((Path(__file__).parents[2] / ".streamlit" / "config.toml").read_text(encoding="utf-8"))


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[list[str], dict[str, str]]]:
    """What `pwff app` would become: its words and its environment."""
    found: list[tuple[list[str], dict[str, str]]] = []
    monkeypatch.setattr("os.execve", lambda _, words, environment: found.append((words, environment)))
    monkeypatch.setattr("subprocess.call", lambda words, env: found.append((words, env)))
    monkeypatch.setenv("PWFF_STORE", str(tmp_path / "runs.sqlite"))
    return found


def flag(words: list[str], name: str) -> str:
    return words[words.index(name) + 1]


def test_the_app_is_this_computer_s_own_unless_somebody_says_otherwise(
    served: list[tuple[list[str], dict[str, str]]],
) -> None:
    assert App().address == "localhost" and not App().hosted
    assert CONFIG["server"]["address"] == "localhost"  # also for `streamlit run app.py`
    cli.main(["app", "--headless"])
    words, environment = served[0]
    assert flag(words, "--server.address") == "localhost"
    assert environment.get("PWFF_HOSTED") != "1"


def test_others_get_in_only_as_visitors(
    served: list[tuple[list[str], dict[str, str]]], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sentinel")
    assert cli.main(["app", "--address", "0.0.0.0"]) == 2
    assert "add --hosted, which keeps visitors within limits" in capsys.readouterr().err and served == []
    cli.main(["app", "--address", "0.0.0.0", "--hosted"])
    words, environment = served[0]
    assert flag(words, "--server.address") == "0.0.0.0"
    assert environment["PWFF_HOSTED"] == "1" and "OPENAI_API_KEY" not in environment
    assert "at most 20 clients, 60 rounds" in capsys.readouterr().out


def test_a_browser_cannot_send_more_than_an_upload(served: list[tuple[list[str], dict[str, str]]]) -> None:
    assert CONFIG["server"]["maxUploadSize"] * 1_000_000 == uploads.LARGEST_FILE
    cli.main(["app", "--headless"])
    assert flag(served[0][0], "--server.maxUploadSize") == f"{uploads.LARGEST_FILE // 1_000_000}"


def test_what_keeps_other_sites_out_is_left_on() -> None:
    assert "enableXsrfProtection" not in CONFIG["server"] and "enableCORS" not in CONFIG["server"]
    assert CONFIG["client"]["showErrorDetails"] == "none"  # no paths and no code on a page
