"""Tokens of an example: the prompt is given, every response token knows what decides it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from pwff_core.data.corpus import Example, Segment
from pwff_core.data.encoding import (
    KINDS,
    PROMPT,
    cut_note,
    encode,
    prompt_text,
    prompt_tokens,
    without_beginning,
)
from tests.support.backbones import llama_tokenizer

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
    assert (coded.prompt_cut, coded.cut) == (True, False)


def test_what_was_cut_is_counted_apart(coder: Any) -> None:
    long = EXAMPLE._replace(instruction="word " * 200)
    fits, response = encode(EXAMPLE, coder, 256), encode(EXAMPLE, coder, 12)
    prompt, both = encode(long, coder, 41), encode(long, coder, 12)
    assert cut_note([fits, fits], 256) == ()
    assert cut_note([fits, prompt], 41) == ("Of 2 examples, cut to 41 tokens, 1 prompts lost their beginning.",)
    assert cut_note([response, response, fits], 12) == ("Of 3 examples, cut to 12 tokens, 2 responses lost their end.",)
    assert cut_note([prompt, response, both], 12) == (
        "Of 3 examples, cut to 12 tokens, 2 prompts lost their beginning and 1 responses their end.",
    )


def test_a_prompt_begins_and_does_not_end() -> None:
    from tokenizers import processors

    coder = llama_tokenizer()
    plain = prompt_tokens(coder, "say hello")
    assert plain[0] == coder.bos_token_id
    ends = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)])
    coder.backend_tokenizer.post_processor = ends
    assert coder("say hello")["input_ids"][-1] == coder.eos_token_id
    assert prompt_tokens(coder, "say hello") == plain


def test_a_prompt_without_its_beginning_still_has_its_start_token() -> None:
    coder = llama_tokenizer()
    tokens = [coder.bos_token_id, 10, 11, 12]
    assert without_beginning(coder, tokens, 4) == tokens
    assert without_beginning(coder, tokens, 3) == [coder.bos_token_id, 11, 12]
    assert without_beginning(coder, tokens, 1) == [12]
    assert without_beginning(coder, tokens[1:], 2) == [11, 12]
