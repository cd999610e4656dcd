"""What asking will take, before anything is asked: requests, tokens and, where prices are given, what they cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from pwff_core.tools.rank.prompt import Question
from pwff_core.tools.rank.settings import RankingConfig

CHARACTERS_A_TOKEN = 4  # of English, about, for tokenizers of large models
FRAME_TOKENS = 8  # of a request: roles and separators, about
LETTER_TOKENS = 2  # a verdict of one letter, and its end


class Estimate(NamedTuple):
    """Tokens of prompts are estimated from characters, tokens of verdicts bounded by the longest that is allowed."""

    requests: int
    tokens_in: int
    tokens_out: int  # if each verdict is one letter, as asked
    tokens_out_most: int  # if each is as long as it may be


def estimate(questions: Sequence[Question], verdict_tokens: int) -> Estimate:
    """What asking these questions takes if no request is retried."""
    letters = [sum(len(text) for _, text in question.messages()) for question in questions]
    tokens_in = sum(math.ceil(count / CHARACTERS_A_TOKEN) + FRAME_TOKENS for count in letters)
    least = min(LETTER_TOKENS, verdict_tokens) * len(letters)
    return Estimate(len(letters), tokens_in, least, verdict_tokens * len(letters))


def cost(config: RankingConfig, tokens_in: int, tokens_out: int) -> float | None:
    """In the currency of the prices; None without prices."""
    if config.price_in is None or config.price_out is None:
        return None
    return (tokens_in * config.price_in + tokens_out * config.price_out) / 1e6


def in_words(config: RankingConfig, expected: Estimate, origin: str) -> str:
    """The estimate as a sentence without its full stop."""
    text = (
        f"{expected.requests:,} requests to {config.model} at {origin} with about {expected.tokens_in:,} tokens, and "
        f"{expected.tokens_out:,} (at most {expected.tokens_out_most:,}) tokens of verdicts"
    )
    about = cost(config, expected.tokens_in, expected.tokens_out)
    most = cost(config, expected.tokens_in, expected.tokens_out_most)
    return text if about is None else f"{text}: about {about:,.2f} (at most {most:,.2f}) in the prices' currency"
