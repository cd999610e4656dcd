"""Answers as real models write them: a plain choice is read, and nothing is guessed."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pwff_core.tools.rank.prompt import Verdict, read_verdict

FIRST = (
    "A", "a", "A.", " (A)\n", "**A**", "[[A]]", "\\boxed{A}", "Response A", "Answer: A", "Final verdict: [[A]]",
    "The better response is A.", "The more harmless response is: A", "Response A is better.",
    "Response A is better than Response B.", "I would choose option A", "So the answer is A",
    "Response A is more helpful because it gives the steps.", "A. It gives the steps.", "A: it is polite",
    "A\n\nIt gives the steps, and A is politer.", "Response A lists steps. Response B refuses.\n\nTherefore, A",
    "Both name the tool. The second stops there. Answer: A", "<think>B? No, it is rude. B is worse.</think>\n\nA",
    '{"verdict": "A"}', '{"reason": "B is short", "better": "Response A"}', '```json\n{"Choice": "A"}\n```',
    'I compare them.\n{"winner": "A"}',
)  # fmt: skip
TIES = (
    "T",
    "Tie",
    "tie.",
    "It is a tie",
    "[[C]]",
    "Neither is better.",
    "Both responses are equally harmless.",
    '{"verdict": "T"}',
)
UNREADABLE = (
    "", " \n", "###", "1", "A or B", "A\nB", "Both", "I cannot judge this.", "a good question", "A good question.",
    "Response A is not better than Response B.", "The answer is not A.", "A is worse",
    "Response A, being rude, is worse.", "The worse one: A", "Less helpful: A", "Which is worse? A",
    "A. It is better than B.", "A: polite, B: rude.", "Neither A nor B is harmful, but A is ruder.", "A is a letter.",
    "<think>It is A", '{"verdict": 1}', '{"verdict": "A"} {"verdict": "B"}', '{"note": "A"}', "As an AI, A", "ABBA",
)  # fmt: skip


@pytest.mark.parametrize("text", FIRST)
def test_a_plain_choice_is_read_and_the_other_letter_is_the_other_choice(text: str) -> None:
    assert read_verdict(text) == "first"
    assert read_verdict("b" if text == "a" else _letters_swapped(text)) == "second"


def _letters_swapped(text: str) -> str:
    """The text with A and B in each other's place where they stand alone."""
    return re.sub(r"\b[AB]\b", lambda match: "B" if match[0] == "A" else "A", text)


@pytest.mark.parametrize("text", TIES)
def test_a_tie_is_read(text: str) -> None:
    assert read_verdict(text) == "tie"


@pytest.mark.parametrize("text", UNREADABLE)
def test_everything_else_is_unreadable(text: str) -> None:
    assert read_verdict(text) == "unreadable"


LETTERS: dict[str, Verdict] = {"A": "first", "B": "second", "T": "tie"}


@given(st.sampled_from(sorted(LETTERS)), st.text(alphabet="abcdefg hij.,\n", max_size=60))
def test_reasoning_before_a_last_line_with_one_letter_does_not_count(letter: str, thought: str) -> None:
    assert read_verdict(f"<think>{thought}</think>{letter}") == LETTERS[letter]
    assert read_verdict(json.dumps({"reason": thought, "verdict": letter})) == LETTERS[letter]


@given(st.text(max_size=80))
def test_any_text_gives_a_verdict(text: str) -> None:
    assert read_verdict(text) in ("first", "second", "tie", "unreadable")
