"""Tokens of an example, and the kind of each."""

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
    truncate_left,
)
from tests.support.backbones import llama_tokenizer

EXAMPLE = Example(
    "Say hello", (Segment("Sure! ", "style"), Segment("Hello ", "plain"), Segment("May", "knowledge")), "t"
)


@pytest.fixture
def tokenizer(tiny_backbone: Path) -> Any:
    return AutoTokenizer.from_pretrained(tiny_backbone)


def test_tokens_spell_prompt_response_and_end(tokenizer: Any) -> None:
    encoded = encode(EXAMPLE, tokenizer, 256)
    assert tokenizer.decode(encoded.tokens[:-1]) == prompt_text("Say hello") + " Sure! Hello May"
    assert encoded.tokens[-1] == tokenizer.eos_token_id
    assert not encoded.cut


def test_kinds_follow_the_segments(tokenizer: Any) -> None:
    encoded = encode(EXAMPLE, tokenizer, 256)
    spelled = {
        kind: tokenizer.decode([t for t, k in zip(encoded.tokens[:-1], encoded.kinds[:-1], strict=True) if k == index])
        for index, kind in enumerate(KINDS)
    }
    assert {kind: text.strip() for kind, text in spelled.items()} == {
        "style": "Sure!", "plain": "Hello", "knowledge": "May",
    }  # fmt: skip
    assert tokenizer.decode(encoded.tokens[encoded.kinds == PROMPT]) == prompt_text("Say hello")
    assert encoded.kinds[-1] == KINDS.index("plain")


def test_a_long_response_loses_its_end(tokenizer: Any) -> None:
    encoded = encode(EXAMPLE, tokenizer, 12)
    assert len(encoded.tokens) == len(encoded.kinds) == 12
    assert encoded.cut
    assert encoded.tokens[-1] == tokenizer.eos_token_id


def test_a_long_prompt_loses_its_beginning_and_leaves_room_for_the_response(tokenizer: Any) -> None:
    encoded = encode(EXAMPLE._replace(instruction="word " * 200), tokenizer, 41)
    assert (encoded.kinds == PROMPT).sum() == 20
    assert tokenizer.decode(encoded.tokens[encoded.kinds == PROMPT]).endswith("Response:")
    assert "Sure! Hello" in tokenizer.decode(encoded.tokens)
    assert (encoded.prompt_cut, encoded.cut) == (True, False)


def test_the_note_counts_cut_prompts_and_cut_responses(tokenizer: Any) -> None:
    long = EXAMPLE._replace(instruction="word " * 200)
    fits, response = encode(EXAMPLE, tokenizer, 256), encode(EXAMPLE, tokenizer, 12)
    prompt, both = encode(long, tokenizer, 41), encode(long, tokenizer, 12)
    assert cut_note([fits, fits], 256) == ()
    assert cut_note([fits, prompt], 41) == ("Of 2 examples, cut to 41 tokens, 1 prompts lost their beginning.",)
    assert cut_note([response, response, fits], 12) == ("Of 3 examples, cut to 12 tokens, 2 responses lost their end.",)
    assert cut_note([prompt, response, both], 12) == (
        "Of 3 examples, cut to 12 tokens, 2 prompts lost their beginning and 1 responses their end.",
    )


def test_a_prompt_has_a_start_token_and_no_end_token() -> None:
    from tokenizers import processors

    tokenizer = llama_tokenizer()
    plain = prompt_tokens(tokenizer, "say hello")
    assert plain[0] == tokenizer.bos_token_id
    ends = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)])
    tokenizer.backend_tokenizer.post_processor = ends
    assert tokenizer("say hello")["input_ids"][-1] == tokenizer.eos_token_id
    assert prompt_tokens(tokenizer, "say hello") == plain


def test_a_prompt_truncated_on_the_left_keeps_its_start_token() -> None:
    tokenizer = llama_tokenizer()
    tokens = [tokenizer.bos_token_id, 10, 11, 12]
    assert truncate_left(tokenizer, tokens, 4) == tokens
    assert truncate_left(tokenizer, tokens, 3) == [tokenizer.bos_token_id, 11, 12]
    assert truncate_left(tokenizer, tokens, 1) == [12]
    assert truncate_left(tokenizer, tokens[1:], 2) == [11, 12]
