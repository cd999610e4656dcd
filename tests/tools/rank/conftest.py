"""What several tests share: a loopback server, a call of `pwff rank` that asks it, waits that take no time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest

from pwff_core.tools.rank import candidates, command
from pwff_core.tools.rank.settings import RankingConfig
from tests.support.ranking_samples import PROMPTS, responses
from tests.support.ranking_server import Loopback


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_LOG", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def loopback() -> Iterator[Loopback]:
    server = Loopback()
    yield server
    server.close()


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The waits before retries, in seconds; none of them is really waited for."""
    found: list[float] = []

    async def at_once(delay: float) -> None:
        found.append(delay)

    monkeypatch.setattr(anyio, "sleep", at_once)  # what the openai package waits with
    return found


@pytest.fixture
def words(tmp_path: Path, loopback: Loopback, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A call that ranks two responses to each prompt: 4 prompts × 2 axes × 2 positions = 16 requests.

    Neither a source is read nor a backbone loaded.
    """

    def sampled(config: RankingConfig, prompts: Sequence[str], path: Path, told: Any) -> candidates.Responses:
        return tuple(responses(prompt, config.candidates) for prompt in prompts)

    monkeypatch.setattr(candidates, "sampled", sampled)
    monkeypatch.setattr(command, "load_prompts", lambda source, count, seed: list(PROMPTS[:count]))
    return ["rank", "--server", loopback.url, "--model", "small", "--to", str(tmp_path / "to"), "--yes"]
