"""The settings of `pwff rank`: one knob a row, from which its flags and its help are made."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ValidationError, model_validator

from pwff_core.config import Section, knob
from pwff_core.errors import ConfigError
from pwff_core.knobs import explain, knobs


class RankingConfig(Section):
    """Prompts, candidate responses, and the model that ranks them. The server's key is no setting: see client.py."""

    model: str | None = knob(
        None, "Name of the model that ranks, as its server calls it, such as gpt-4o. Needed.", label="Ranking model"
    )
    server: str | None = knob(
        None,
        "Address of an OpenAI-compatible server, such as http://localhost:8000/v1; none: $OPENAI_BASE_URL, or OpenAI's "
        "own. Its key is read from $OPENAI_API_KEY alone; a local server needs none.",
        label="Server",
    )
    source: str = knob(
        "demo",
        "Where prompts come from. demo: the embedded corpus, two in five of them delicate; or a file (.json, .jsonl, "
        ".csv, .parquet) or Hub id in Alpaca columns or in TRL's preference format.",
        label="Source of prompts",
    )
    prompts: int = knob(200, "Prompts, drawn from the source at random.", ge=1, le=1_000_000, label="Prompts")
    candidates: int = knob(
        2,
        "Responses to each prompt; every two of them are compared, so n of them cost 2n(n−1) requests a prompt.",
        ge=2,
        le=8,
        label="Candidates",
    )
    backbone: str = knob(
        "demo", "Causal language model that writes them: demo (embedded), a local folder or a Hub id.", label="Backbone"
    )
    device: Literal["auto", "cpu", "cuda"] = knob("auto", "Where the backbone computes.", label="Device")
    temperature: float = knob(0.7, "Sampling temperature of the responses.", ge=0.05, le=10, label="Temperature")
    max_new_tokens: int = knob(64, "Longest response.", unit="token", ge=1, le=4096, label="Longest response")
    seed: int = knob(0, "Seed of prompts and responses.", ge=0, le=2**31 - 1, label="Seed")
    parallel: int = knob(4, "Requests that are under way at a time.", ge=1, le=64, label="Parallel requests")
    timeout_s: float = knob(
        60.0, "A request that the server leaves unanswered for so long is sent again.", unit="s", ge=0.01, le=3600,
        label="Timeout",
    )  # fmt: skip
    verdict_tokens: int = knob(
        512,
        "Longest verdict. One letter is asked for; a model that reasons first needs room for it.",
        unit="token",
        ge=1,
        le=65_536,
        label="Longest verdict",
    )
    limit: int | None = knob(
        None, "Requests of this call at the most; a later call goes on. none: all.", ge=1, le=10**9, label="Limit"
    )
    price_in: float | None = knob(
        None, "What a million prompt tokens cost, in any currency; none: tokens alone are counted.", ge=0, le=1e6,
        label="Price of prompts",
    )  # fmt: skip
    price_out: float | None = knob(
        None, "What a million tokens of verdicts cost, in the same currency.", ge=0, le=1e6, label="Price of verdicts"
    )

    @model_validator(mode="after")
    def _both_prices(self) -> RankingConfig:
        if (self.price_in is None) != (self.price_out is None):
            raise ValueError("a cost needs both prices; give price_in and price_out, or neither")
        return self


def checked_config(values: dict[str, Any]) -> RankingConfig:
    """These values laid over the defaults. ConfigError with a sentence for each value that is not allowed."""
    try:
        return RankingConfig.model_validate(values)
    except ValidationError as error:
        problems = explain(error, knobs(RankingConfig())).values()
        raise ConfigError(" ".join(str(problem) for problem in problems)) from None
