"""Sends comparisons to a ranking model, a few at a time; and what that will take, estimated before anything is sent."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from pwff_core.errors import PwffError, RankingError
from pwff_core.tools.rank.cache import CachedVerdict
from pwff_core.tools.rank.prompt import Comparison, Verdict
from pwff_core.tools.rank.settings import RankingConfig

MAX_UNREADABLE = 20  # answers in a row that are unreadable; then sending stops
MAX_FAILED = 4  # requests in a row that fail; before any answer one is enough, as each has been retried
CHARACTERS_PER_TOKEN = 4  # of English, about, for tokenizers of large models
FRAME_TOKENS = 8  # of a request: roles and separators, about
LETTER_TOKENS = 2  # a verdict of one letter, and its end


class Estimate(NamedTuple):
    """Tokens of prompts are estimated from characters, tokens of verdicts bounded by the longest that is allowed."""

    requests: int
    tokens_in: int
    tokens_out: int  # if each verdict is one letter, as asked
    tokens_out_most: int  # if each is as long as it may be


def estimate(comparisons: Sequence[Comparison], verdict_tokens: int) -> Estimate:
    """The requests and tokens for these comparisons if no request is retried."""
    characters = [sum(len(text) for _, text in comparison.messages()) for comparison in comparisons]
    tokens_in = sum(math.ceil(count / CHARACTERS_PER_TOKEN) + FRAME_TOKENS for count in characters)
    least = min(LETTER_TOKENS, verdict_tokens) * len(characters)
    return Estimate(len(characters), tokens_in, least, verdict_tokens * len(characters))


def cost(config: RankingConfig, tokens_in: int, tokens_out: int) -> float | None:
    """In the currency of the prices; None without prices."""
    if config.price_in is None or config.price_out is None:
        return None
    return (tokens_in * config.price_in + tokens_out * config.price_out) / 1e6


def estimate_text(config: RankingConfig, expected: Estimate, origin: str) -> str:
    """The estimate as a sentence without its full stop."""
    text = (
        f"{expected.requests:,} requests to {config.model} at {origin} with about {expected.tokens_in:,} tokens, and "
        f"{expected.tokens_out:,} (at most {expected.tokens_out_most:,}) tokens of verdicts"
    )
    about = cost(config, expected.tokens_in, expected.tokens_out)
    most = cost(config, expected.tokens_in, expected.tokens_out_most)
    return text if about is None else f"{text}: about {about:,.2f} (at most {most:,.2f}) in the prices' currency"


class Reply(NamedTuple):
    """A verdict, and the tokens that the server counted; None where it did not."""

    verdict: Verdict
    tokens_in: int | None
    tokens_out: int | None
    said: str = ""  # the beginning of an unreadable answer


class RequestError(RankingError):
    """One request has failed for good; others may succeed."""


class Outcome:
    """The verdicts and failures so far; up to date at any time, also when sending is interrupted."""

    def __init__(self, cached: Mapping[Comparison, CachedVerdict]) -> None:
        self.verdicts = dict(cached)
        self.failed: set[Comparison] = set()
        self.requests = 0  # of this call; the client's retries of one request count as one
        self.stopped = ""  # why no more was sent, as a sentence
        self._unreadable_in_a_row = self._failed_in_a_row = 0
        self._has_answer = False

    def add_verdict(self, comparison: Comparison, verdict: CachedVerdict) -> None:
        """Adds one answer; too many unreadable ones in a row stop the sending."""
        self.verdicts[comparison] = verdict
        self._has_answer, self._failed_in_a_row = True, 0
        self._unreadable_in_a_row = self._unreadable_in_a_row + 1 if verdict.verdict == "unreadable" else 0
        if self._unreadable_in_a_row == MAX_UNREADABLE:
            self.stop(
                f"{MAX_UNREADABLE} answers in a row named neither A nor B nor a tie; the last one began "
                f"{verdict.said[:60]!r}. Choose another --model, or give it room with --verdict-tokens."
            )

    def add_failure(self, comparison: Comparison, error: RequestError) -> None:
        """Adds one failed request; too many in a row stop the sending."""
        self.failed.add(comparison)
        self._failed_in_a_row += 1
        if not self._has_answer or self._failed_in_a_row == MAX_FAILED:
            self.stop(str(error))

    def stop(self, reason: str) -> None:
        """Sends no more; the first reason counts."""
        self.stopped = self.stopped or reason


async def send_all(
    outcome: Outcome,
    comparisons: Iterable[Comparison],
    send: Callable[[Comparison], Awaitable[Reply]],
    save: Callable[[Comparison, Reply], CachedVerdict],
    parallel: int,
    on_progress: Callable[[], object],
) -> None:
    """Sends the comparisons in order, `parallel` at a time, until all are through or `outcome` says stop.

    `save` writes a reply down before it counts; `on_progress` is called after each request. Requests that are under
    way when sending stops are awaited: they are paid for.
    """
    remaining = iter(comparisons)

    async def work() -> None:
        while not outcome.stopped and (comparison := next(remaining, None)):
            outcome.requests += 1
            try:
                reply = await send(comparison)
                outcome.add_verdict(comparison, save(comparison, reply))
            except RequestError as error:
                outcome.add_failure(comparison, error)
            except PwffError as error:
                outcome.stop(str(error))
            on_progress()

    async with asyncio.TaskGroup() as group:
        for _ in range(parallel):
            group.create_task(work())
