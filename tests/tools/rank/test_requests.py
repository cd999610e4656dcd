"""When sending goes on and when it stops, without a server; and the estimate beforehand."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from pwff_core.errors import ConfigError, RankingError
from pwff_core.tools.rank.cache import CachedVerdict
from pwff_core.tools.rank.prompt import Comparison, Verdict
from pwff_core.tools.rank.requests import (
    MAX_FAILED,
    MAX_UNREADABLE,
    Outcome,
    Reply,
    RequestError,
    cost,
    estimate,
    estimate_text,
    send_all,
)
from pwff_core.tools.rank.settings import RankingConfig

GOOD, BAD = Reply("first", 1, 1), Reply("unreadable", 1, 1, "Hm.")
FAILED, REFUSED = RequestError("Not this one."), RankingError("None at all.")


def save(comparison: Comparison, reply: Reply) -> CachedVerdict:
    return CachedVerdict(key=comparison.prompt, room=512, **reply._asdict())


def after(script: Sequence[Reply | RankingError], parallel: int = 1) -> Outcome:
    """The outcome of as many comparisons as the script has answers, one each."""
    comparisons = [Comparison("helpfulness", f"{number}?", "yes", "no") for number in range(len(script))]
    outcome, progress = Outcome({}), []

    async def send(comparison: Comparison) -> Reply:
        await asyncio.sleep(0)
        answer = script[comparisons.index(comparison)]
        if isinstance(answer, RankingError):
            raise answer
        return answer

    asyncio.run(send_all(outcome, comparisons, send, save, parallel, lambda: progress.append(1)))
    refused = outcome.stopped == str(REFUSED)
    assert len(progress) == outcome.requests == len(outcome.verdicts) + len(outcome.failed) + refused
    return outcome


def test_all_answers_are_kept() -> None:
    outcome = after([GOOD, BAD, FAILED, GOOD])
    assert [verdict.verdict for verdict in outcome.verdicts.values()] == ["first", "unreadable", "first"]
    assert {comparison.prompt for comparison in outcome.failed} == {"2?"}
    assert (outcome.requests, outcome.stopped) == (4, "")


def test_unreadable_answers_in_a_row_stop_it() -> None:
    streak = [BAD] * (MAX_UNREADABLE - 1)
    assert after([*streak, GOOD, *streak, GOOD]).stopped == ""
    outcome = after([GOOD, *streak, BAD, GOOD])
    assert outcome.requests == 1 + MAX_UNREADABLE
    assert outcome.stopped.startswith(f"{MAX_UNREADABLE} answers in a row named neither A nor B nor a tie; ")


def test_fewer_failures_in_a_row_stop_it_and_before_any_answer_one() -> None:
    streak = [FAILED] * (MAX_FAILED - 1)
    assert after([GOOD, *streak, GOOD, *streak, BAD]).stopped == ""
    outcome = after([GOOD, *streak, FAILED, GOOD])
    assert (outcome.requests, outcome.stopped) == (1 + MAX_FAILED, "Not this one.")
    assert after([FAILED, GOOD]).requests == 1


def test_an_error_of_every_request_stops_it_at_once() -> None:
    outcome = after([GOOD, REFUSED, GOOD])
    assert (outcome.requests, outcome.stopped, len(outcome.verdicts)) == (2, "None at all.", 1)


def test_requests_under_way_when_it_stops_still_count() -> None:
    outcome = after([REFUSED, GOOD, GOOD, GOOD], parallel=3)
    assert (outcome.requests, len(outcome.verdicts)) == (3, 2)


def test_a_verdict_that_cannot_be_saved_does_not_count_and_stops_it() -> None:
    outcome = Outcome({})

    async def send(comparison: Comparison) -> Reply:
        return GOOD

    def fail(comparison: Comparison, reply: Reply) -> CachedVerdict:
        raise ConfigError("No room.")

    comparisons = [Comparison("helpfulness", f"{number}?", "yes", "no") for number in range(3)]
    asyncio.run(send_all(outcome, comparisons, send, fail, 1, int))
    assert (outcome.verdicts, outcome.requests, outcome.stopped) == ({}, 1, "No room.")


@given(st.lists(st.sampled_from(["first", "second", "tie"]), max_size=40), st.integers(1, 7))
def test_however_many_at_a_time_each_comparison_is_sent_once(verdicts: list[Verdict], parallel: int) -> None:
    outcome = after([Reply(verdict, 1, 1) for verdict in verdicts], parallel)
    by_prompt = {comparison.prompt: entry.verdict for comparison, entry in outcome.verdicts.items()}
    assert by_prompt == {f"{number}?": verdict for number, verdict in enumerate(verdicts)}
    assert outcome.requests == len(verdicts)


# the estimate


def test_the_estimate_counts_four_characters_a_token() -> None:
    comparison = Comparison("helpfulness", "Why?", "Because.", "No.")
    characters = sum(len(text) for _, text in comparison.messages())
    expected = estimate([comparison, comparison.swapped()], verdict_tokens=512)
    assert expected == (2, 2 * (-(-characters // 4) + 8), 4, 1024)
    assert estimate([], 512) == (0, 0, 0, 0)


def test_costs_are_prices_a_million_tokens() -> None:
    priced = RankingConfig(model="small", price_in=2.5, price_out=10)
    assert cost(priced, 2_000_000, 100_000) == 6.0
    assert cost(RankingConfig(), 2_000_000, 100_000) is None


def test_the_estimate_estimate_text() -> None:
    expected = estimate([], 512)._replace(requests=1200, tokens_in=400_000, tokens_out=2400, tokens_out_most=614_400)
    plain = (
        "1,200 requests to small at https://host with about 400,000 tokens, and 2,400 (at most 614,400) tokens of "
        "verdicts"
    )
    assert estimate_text(RankingConfig(model="small"), expected, "https://host") == plain
    priced = RankingConfig(model="small", price_in=2.5, price_out=10)
    assert (
        estimate_text(priced, expected, "https://host") == f"{plain}: about 1.02 (at most 7.14) in the prices' currency"
    )
