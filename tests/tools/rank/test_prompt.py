"""How a question reads, what its key depends on, and what many of them are expected to take."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pwff_core.tools.rank.estimate import cost, estimate, in_words
from pwff_core.tools.rank.prompt import Question, instruction
from pwff_core.tools.rank.settings import RankingConfig
from tests.support.ranking_server import Shown, shown

QUESTION = Question("helpfulness", "Why?", "Because.", "No.")


def test_the_instruction_is_the_system_s_and_all_data_the_user_s() -> None:
    (system, rules), (user, data) = QUESTION.messages()
    assert (system, user) == ("system", "user")
    assert rules == instruction("helpfulness") and "Answer with one letter alone" in rules
    mark = re.search(r"\[PROMPT (\w{12})\]", data)
    assert mark is not None
    assert data == (
        f"[PROMPT {mark[1]}]\nWhy?\n[END OF PROMPT {mark[1]}]\n\n[RESPONSE A {mark[1]}]\nBecause.\n"
        f"[END OF RESPONSE A {mark[1]}]\n\n[RESPONSE B {mark[1]}]\nNo.\n[END OF RESPONSE B {mark[1]}]\n\nA, B or T?"
    )
    assert instruction("harmlessness") != rules


@given(st.text(), st.text(), st.text())
def test_texts_arrive_as_they_are_and_cannot_leave_their_marks(prompt: str, first: str, second: str) -> None:
    messages = Question("harmlessness", prompt, first, second).messages()
    arrived = shown({"messages": [{"content": text} for _, text in messages]})
    assert arrived == Shown("harmlessness", prompt, first, second)


def test_a_response_that_copies_another_question_s_marks_stays_inside_its_own() -> None:
    stolen = QUESTION.messages()[1][1]
    arrived = shown({"messages": [{"content": text} for _, text in QUESTION._replace(second=stolen).messages()]})
    assert arrived.first == "Because." and arrived.second.endswith("A, B or T?")


def test_a_key_depends_on_everything_that_a_verdict_depends_on() -> None:
    others = [
        QUESTION.key("large"), QUESTION.swapped().key("small"), QUESTION._replace(axis="harmlessness").key("small"),
        QUESTION._replace(prompt="Why").key("small"), Question("helpfulness", "Why?B", "ecause.", "No.").key("small"),
    ]  # fmt: skip
    assert len({QUESTION.key("small"), *others}) == 6
    assert QUESTION.key("small") == Question(*QUESTION).key("small")


def test_a_key_depends_on_the_instruction(monkeypatch: pytest.MonkeyPatch) -> None:
    before = QUESTION.key("small")
    monkeypatch.setattr("pwff_core.tools.rank.prompt._FRAME", "{criterion} A, B or T?")
    assert QUESTION.key("small") != before


def test_the_estimate_counts_four_characters_a_token() -> None:
    characters = sum(len(text) for _, text in QUESTION.messages())
    found = estimate([QUESTION, QUESTION.swapped()], verdict_tokens=512)
    assert found == (2, 2 * (-(-characters // 4) + 8), 4, 1024)
    assert estimate([], 512) == (0, 0, 0, 0)


def test_costs_are_prices_a_million_tokens() -> None:
    priced = RankingConfig(model="small", price_in=2.5, price_out=10)
    assert cost(priced, 2_000_000, 100_000) == 6.0
    assert cost(RankingConfig(), 2_000_000, 100_000) is None


def test_the_estimate_in_words() -> None:
    found = estimate([], 512)._replace(requests=1200, tokens_in=400_000, tokens_out=2400, tokens_out_most=614_400)
    plain = (
        "1,200 requests to small at https://host with about 400,000 tokens, and 2,400 (at most 614,400) tokens of "
        "verdicts"
    )
    assert in_words(RankingConfig(model="small"), found, "https://host") == plain
    priced = RankingConfig(model="small", price_in=2.5, price_out=10)
    assert in_words(priced, found, "https://host") == f"{plain}: about 1.02 (at most 7.14) in the prices' currency"
