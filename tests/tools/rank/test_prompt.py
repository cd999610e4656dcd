"""How a comparison reads, and on what its key depends."""

from __future__ import annotations

import hashlib
import json
import re

from hypothesis import given
from hypothesis import strategies as st

from pwff_core.tools.rank.prompt import Comparison, instruction
from tests.support.ranking_server import Arrived, arrived

COMPARISON = Comparison("helpfulness", "Why?", "Because.", "No.")


def test_the_instruction_is_the_system_s_message_and_all_data_the_user_s() -> None:
    (system, rules), (user, data) = COMPARISON.messages()
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
    messages = Comparison("harmlessness", prompt, first, second).messages()
    comparison = arrived({"messages": [{"content": text} for _, text in messages]})
    assert comparison == Arrived("harmlessness", prompt, first, second)


def test_a_response_that_copies_another_comparison_s_marks_stays_inside_its_own() -> None:
    stolen = COMPARISON.messages()[1][1]
    comparison = arrived({"messages": [{"content": text} for _, text in COMPARISON._replace(second=stolen).messages()]})
    assert comparison.first == "Because." and comparison.second.endswith("A, B or T?")


def test_a_key_depends_on_everything_that_a_verdict_depends_on() -> None:
    others = [
        COMPARISON.key("large"),
        COMPARISON.swapped().key("small"),
        COMPARISON._replace(axis="harmlessness").key("small"),
        COMPARISON._replace(prompt="Why").key("small"),
        Comparison("helpfulness", "Why?B", "ecause.", "No.").key("small"),
    ]
    assert len({COMPARISON.key("small"), *others}) == 6
    assert COMPARISON.key("small") == Comparison(*COMPARISON).key("small")


def test_a_key_is_a_hash_of_model_instruction_and_texts() -> None:
    content = ["small", instruction("helpfulness"), "helpfulness", "Why?", "Because.", "No."]
    assert COMPARISON.key("small") == hashlib.sha256(json.dumps(content).encode()).hexdigest()
