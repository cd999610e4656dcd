"""Which pairs are agreed on: swapped positions, reasons for dropping, circles; and how many requests there are."""

from __future__ import annotations

from math import comb

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pwff_core.methods import AXES
from pwff_core.tools.rank.pairs import Preference, agree, axis_result, in_both_orders, round_robin, without_circles
from pwff_core.tools.rank.prompt import Comparison, Verdict

COMPARISON = Comparison("helpfulness", "Why?", "Because.", "No.")
VERDICTS: tuple[Verdict, ...] = ("first", "second", "tie", "unreadable")


@pytest.mark.parametrize(
    ("verdict", "swapped", "outcome"),
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
def test_two_verdicts_agree_or_drop_the_pair(verdict: Verdict, swapped: Verdict, outcome: str) -> None:
    assert agree(verdict, swapped) == outcome


@given(st.sampled_from(VERDICTS), st.sampled_from(VERDICTS))
def test_the_order_of_the_two_requests_does_not_matter(verdict: Verdict, swapped: Verdict) -> None:
    """The same response wins, or the same reason drops the pair."""
    outcome, reverse = agree(verdict, swapped), agree(swapped, verdict)
    assert reverse == {"first": "second", "second": "first"}.get(outcome, outcome)


@given(st.lists(st.text(max_size=3), max_size=6))
def test_every_two_distinct_responses_make_two_requests_an_axis(responses: list[str]) -> None:
    comparisons = round_robin("Why?", responses)
    n = len({text for text in responses if text})
    assert len(comparisons) == len(AXES) * comb(n, 2)
    requests = in_both_orders(comparisons)
    assert len(requests) == len(set(requests)) == 2 * n * (n - 1)
    assert {request.swapped() for request in requests} == set(requests)


@given(st.permutations(["a", "bb", "ccc", "dddd"]), st.booleans())
def test_a_consistent_model_s_order_shows_in_the_pairs_whatever_the_positions(order: list[str], biased: bool) -> None:
    """A model that prefers by `order` gives all six pairs; one that always says A gives none."""
    comparisons = [q for q in round_robin("Why?", ["a", "bb", "ccc", "dddd"]) if q.axis == "harmlessness"]
    verdicts: dict[Comparison, Verdict] = {
        q: "first" if biased or order.index(q.first) < order.index(q.second) else "second"
        for q in in_both_orders(comparisons)
    }
    result = axis_result("harmlessness", comparisons, verdicts, set())
    assert result.compared == 6
    assert result.first_share == (1.0 if biased else 0.5)
    if biased:
        assert (result.pairs, result.dropped["disagreed"]) == ((), 6)
    else:
        assert len(result.pairs) == 6
        assert all(order.index(pair.chosen) < order.index(pair.rejected) for pair in result.pairs)


def test_each_reason_is_counted_and_axes_do_not_mix() -> None:
    comparisons = [Comparison("helpfulness", f"{n}?", "yes", "no") for n in range(6)]
    answers: list[tuple[Verdict, Verdict]] = [
        ("first", "second"),
        ("tie", "first"),
        ("first", "first"),
        ("unreadable", "tie"),
    ]
    verdicts: dict[Comparison, Verdict] = {}
    for comparison, (verdict, swapped) in zip(comparisons, answers, strict=False):
        verdicts |= {comparison: verdict, comparison.swapped(): swapped}
    verdicts[comparisons[4]] = "first"  # its other request failed; the last comparison was never sent
    verdicts[COMPARISON._replace(axis="harmlessness")] = "second"
    result = axis_result("helpfulness", comparisons, verdicts, {comparisons[4].swapped()})
    assert result.pairs == (Preference("0?", "yes", "no"),)
    assert result.dropped == {
        "tie": 1, "disagreed": 1, "unreadable": 1, "circular": 0, "unanswered": 1, "not asked": 1,
    }  # fmt: skip
    assert result.first_share == 5 / 6  # first, second, first, first, first, first
    assert result.compared == 6


def test_no_verdicts_have_no_share() -> None:
    assert axis_result("helpfulness", [COMPARISON], {}, set()).first_share is None


def test_pairs_in_a_circle_are_dropped_and_those_beside_it_stay() -> None:
    circle = [Preference("?", *two) for two in ("ab", "bc", "ca")]
    beside = [Preference("?", "a", "d"), Preference("?", "e", "b")]
    assert without_circles([*circle, *beside]) == beside
    assert without_circles(circle[:2]) == circle[:2]


def test_circles_are_searched_within_a_prompt() -> None:
    comparisons = [Comparison("helpfulness", prompt, *two) for prompt, two in (("1", "ab"), ("2", "bc"), ("3", "ca"))]
    verdicts: dict[Comparison, Verdict] = {q: "first" for q in comparisons} | {
        q.swapped(): "second" for q in comparisons
    }
    assert len(axis_result("helpfulness", comparisons, verdicts, set()).pairs) == 3
    same_prompt = [comparison._replace(prompt="1") for comparison in comparisons]
    verdicts = {q: "first" for q in same_prompt} | {q.swapped(): "second" for q in same_prompt}
    result = axis_result("helpfulness", same_prompt, verdicts, set())
    assert (result.pairs, result.dropped["circular"]) == ((), 3)


@given(st.permutations(list("abcde")), st.sets(st.tuples(st.integers(0, 4), st.integers(0, 4))))
def test_pairs_of_any_order_have_no_circle(order: list[str], chosen: set[tuple[int, int]]) -> None:
    pairs = [Preference("?", order[low], order[high]) for low, high in sorted(chosen) if low < high]
    assert without_circles(pairs) == pairs
