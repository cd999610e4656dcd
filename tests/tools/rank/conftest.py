"""A loopback server, a call of `pwff rank` that sends requests to it, and waits that take no time."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from pathlib import Path

import anyio
import pytest

from pwff_core.tools.rank.cache import CachedResponses, open_cache
from pwff_core.tools.rank.candidates import batch_key, load_prompts
from pwff_core.tools.rank.settings import RankingConfig
from tests.support.ranking_samples import PROMPTS, responses
from tests.support.ranking_server import Loopback
from tests.support.tables import write_table


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
    """The waits before retries [s]; none of them takes time."""
    delays: list[float] = []

    async def return_at_once(delay: float) -> None:
        delays.append(delay)

    monkeypatch.setattr(anyio, "sleep", return_at_once)  # the openai package waits with it
    return delays


@pytest.fixture
def words(tmp_path: Path, loopback: Loopback) -> list[str]:
    """A call that ranks two responses to each prompt: 4 prompts × 2 axes × 2 positions = 16 requests.

    The responses are in its folder already, also those for other numbers of prompts and of responses, so no backbone
    is loaded.
    """
    source = write_table(tmp_path, [{"instruction": prompt} for prompt in PROMPTS])
    with open_cache(tmp_path / "to" / "candidates.jsonl") as writer:
        for count, candidates, seed in product((2, 4), (2, 3, 4), (0, 3)):
            config = RankingConfig(candidates=candidates, seed=seed)
            prompts = load_prompts(source, count, seed)
            texts = tuple(responses(prompt, candidates) for prompt in prompts)
            writer.add(CachedResponses(key=batch_key(config, 0, prompts), responses=texts))
    folder = str(tmp_path / "to")
    return ["rank", "--server", loopback.url, "--model", "small", "--source", source, "--to", folder, "--yes"]
