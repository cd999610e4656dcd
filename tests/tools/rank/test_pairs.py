"""Which pairs are agreed on: swapping positions, reasons for dropping, circles, and how much is asked."""

from __future__ import annotations

from math import comb

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pwff_core.methods import AXES
from pwff_core.tools.rank.pairs import Preference, agreed, ranked, requests, round_robin, without_circles
from pwff_core.tools.rank.prompt import Question
from pwff_core.tools.rank.reading import Verdict

QUESTION = Question("helpfulness", "Why?", "Because.", "No.")
VERDICTS: tuple[Verdict, ...] = ("first", "second", "tie", "unreadable")
TURNED: dict[Verdict, Verdict] = {"first": "second", "second": "first", "tie": "tie", "unreadable": "unreadable"}


@pytest.mark.parametrize(
    ("one", "swapped", "outcome"),
    [
        ("first", "second", "first"),
        ("second", "first", "second"),
        ("first", "first", "disagreed"),  # the place is preferred, not the response
        ("second", "second", "disagreed"),
        ("tie", "tie", "tie"),
        ("tie", "first", "tie"),
        ("second", "tie", "tie"),
        ("unreadable", "first", "unreadable"),
        ("tie", "unreadable", "unreadable"),
    ],
)
def test_two_verdicts_and_what_they_come_to(one: Verdict, swapped: Verdict, outcome: str) -> None:
    assert agreed(one, swapped) == outcome


@given(st.sampled_from(VERDICTS), st.sampled_from(VERDICTS))
def test_which_response_is_shown_first_does_not_matter(one: Verdict, swapped: Verdict) -> None:
    """The same two answers, with the question turned round: the same response wins, or the same reason drops it."""
    outcome, turned = agreed(one, swapped), agreed(swapped, one)
    assert turned == {"first": "second", "second": "first"}.get(outcome, outcome)


@given(st.lists(st.text(max_size=3), max_size=6))
def test_every_two_distinct_responses_are_asked_about_twice_an_axis(responses: list[str]) -> None:
    questions = round_robin("Why?", responses)
    n = len({text for text in responses if text})
    assert len(questions) == len(AXES) * comb(n, 2)
    asked = requests(questions)
    assert len(asked) == len(set(asked)) == 2 * n * (n - 1)
    assert {question.swapped() for question in asked} == set(asked)


@given(st.permutations(["a", "bb", "ccc", "dddd"]), st.booleans())
def test_a_consistent_model_s_order_is_found_whatever_the_positions(order: list[str], biased: bool) -> None:
    """A model that prefers by `order` gives all six pairs; one that always says A gives none."""
    questions = [q for q in round_robin("Why?", ["a", "bb", "ccc", "dddd"]) if q.axis == "harmlessness"]
    verdicts: dict[Question, Verdict] = {
        q: "first" if biased or order.index(q.first) < order.index(q.second) else "second" for q in requests(questions)
    }
    found = ranked("harmlessness", questions, verdicts, set())
    assert found.compared == 6
    assert found.first_share == (1.0 if biased else 0.5)
    if biased:
        assert (found.pairs, found.dropped["disagreed"]) == ((), 6)
    else:
        assert len(found.pairs) == 6
        assert all(order.index(pair.chosen) < order.index(pair.rejected) for pair in found.pairs)


def test_each_reason_is_counted_and_axes_are_apart() -> None:
    questions = [Question("helpfulness", f"{n}?", "yes", "no") for n in range(6)]
    answers: list[tuple[Verdict, Verdict]] = [
        ("first", "second"),
        ("tie", "first"),
        ("first", "first"),
        ("unreadable", "tie"),
    ]
    verdicts: dict[Question, Verdict] = {}
    for question, (one, other) in zip(questions, answers, strict=False):
        verdicts |= {question: one, question.swapped(): other}
    verdicts[questions[4]] = "first"  # its other half failed; nothing is known of the last question
    verdicts[QUESTION._replace(axis="harmlessness")] = "second"
    found = ranked("helpfulness", questions, verdicts, {questions[4].swapped()})
    assert found.pairs == (Preference("0?", "yes", "no"),)
    assert found.dropped == {
        "tie": 1, "disagreed": 1, "unreadable": 1, "circular": 0, "unanswered": 1, "not asked": 1,
    }  # fmt: skip
    assert found.first_share == 5 / 6  # first, second, first, first, first, first
    assert found.compared == 6


def test_no_verdict_has_no_share() -> None:
    assert ranked("helpfulness", [QUESTION], {}, set()).first_share is None


def test_pairs_in_a_circle_are_dropped_and_those_beside_it_stay() -> None:
    circle = [Preference("?", *two) for two in ("ab", "bc", "ca")]
    beside = [Preference("?", "a", "d"), Preference("?", "e", "b")]
    assert without_circles([*circle, *beside]) == beside
    assert without_circles(circle[:2]) == circle[:2]


def test_circles_are_looked_for_within_a_prompt() -> None:
    questions = [Question("helpfulness", prompt, *two) for prompt, two in (("1", "ab"), ("2", "bc"), ("3", "ca"))]
    verdicts: dict[Question, Verdict] = {q: "first" for q in questions} | {q.swapped(): "second" for q in questions}
    assert len(ranked("helpfulness", questions, verdicts, set()).pairs) == 3
    one = [question._replace(prompt="1") for question in questions]
    verdicts = {q: "first" for q in one} | {q.swapped(): "second" for q in one}
    found = ranked("helpfulness", one, verdicts, set())
    assert (found.pairs, found.dropped["circular"]) == ((), 3)


@given(st.permutations(list("abcde")), st.sets(st.tuples(st.integers(0, 4), st.integers(0, 4))))
def test_pairs_of_any_order_have_no_circle(order: list[str], chosen: set[tuple[int, int]]) -> None:
    pairs = [Preference("?", order[low], order[high]) for low, high in sorted(chosen) if low < high]
    assert without_circles(pairs) == pairs
