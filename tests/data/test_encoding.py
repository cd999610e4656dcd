"""Tokens of an example: the prompt is given, every response token knows what decides it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from pwff_core.data.corpus import Example, Segment
from pwff_core.data.encoding import KINDS, PROMPT, encode, prompt_text

EXAMPLE = Example(
    "Say hello", (Segment("Sure! ", "style"), Segment("Hello ", "plain"), Segment("May", "knowledge")), "t"
)


@pytest.fixture
def coder(tiny_backbone: Path) -> Any:
    return AutoTokenizer.from_pretrained(tiny_backbone)


def test_tokens_spell_prompt_response_and_end(coder: Any) -> None:
    coded = encode(EXAMPLE, coder, 256)
    assert coder.decode(coded.tokens[:-1]) == prompt_text("Say hello") + " Sure! Hello May"
    assert coded.tokens[-1] == coder.eos_token_id
    assert not coded.cut


def test_kinds_follow_the_segments(coder: Any) -> None:
    coded = encode(EXAMPLE, coder, 256)
    spelled = {
        kind: coder.decode([t for t, k in zip(coded.tokens[:-1], coded.kinds[:-1], strict=True) if k == index])
        for index, kind in enumerate(KINDS)
    }
    assert {kind: text.strip() for kind, text in spelled.items()} == {
        "style": "Sure!", "plain": "Hello", "knowledge": "May",
    }  # fmt: skip
    assert coder.decode(coded.tokens[coded.kinds == PROMPT]) == prompt_text("Say hello")
    assert coded.kinds[-1] == KINDS.index("plain")


def test_a_long_response_loses_its_end_and_says_so(coder: Any) -> None:
    coded = encode(EXAMPLE, coder, 12)
    assert len(coded.tokens) == len(coded.kinds) == 12
    assert coded.cut
    assert coded.tokens[-1] == coder.eos_token_id


def test_a_long_prompt_loses_its_beginning_and_leaves_room_for_the_response(coder: Any) -> None:
    coded = encode(EXAMPLE._replace(instruction="word " * 200), coder, 41)
    assert (coded.kinds == PROMPT).sum() == 20
    assert coder.decode(coded.tokens[coded.kinds == PROMPT]).endswith("Response:")
    assert "Sure! Hello" in coder.decode(coded.tokens)
