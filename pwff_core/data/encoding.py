"""From examples to token ids: one prompt format for every source, and what each response token is for."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pwff_core.data.corpus import Example, Kind

KINDS: tuple[Kind, ...] = ("plain", "style", "knowledge")
PROMPT = -1  # the kind of a token that is given, not predicted


def prompt_text(instruction: str, style_tags: str = "") -> str:
    """The prompt as the model reads it; the response follows after a space."""
    return f"{style_tags}Instruction: {instruction}\nResponse:"


class Encoded(NamedTuple):
    """One example as tokens."""

    tokens: NDArray[np.int64]  # (T,) prompt, response, end token
    kinds: NDArray[np.int8]  # (T,) PROMPT, or an index into KINDS
    cut: bool  # the response did not fit and was cut at its end


def encode(example: Example, tokenizer: Any, max_length: int) -> Encoded:
    """Tokens of an example, at most `max_length`; a prompt too long loses its beginning, a response its end.

    `tokenizer` is a fast tokenizer of `transformers` with an end token. Each response token has the kind of the
    segment that its last character belongs to; the end token is plain.
    """
    prompt = tokenizer(prompt_text(example.instruction), add_special_tokens=True, verbose=False)["input_ids"]
    if prompt and prompt[-1] == tokenizer.eos_token_id:
        prompt = prompt[:-1]
    coded = tokenizer(" " + example.text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    ends = np.cumsum([1 + len(example.response[0].text), *(len(segment.text) for segment in example.response[1:])])
    last = np.array([max(start, end - 1) for start, end in coded["offset_mapping"]], dtype=np.int64)
    owner = np.searchsorted(ends, last, side="right").clip(max=len(ends) - 1)
    kinds = np.array([KINDS.index(segment.kind) for segment in example.response])[owner]

    room = max_length - 1  # for the end token
    prompt = prompt[-(room // 2) :] if len(prompt) + 1 > room else prompt
    fits = room - len(prompt)
    response = coded["input_ids"][:fits]
    tokens = np.array([*prompt, *response, tokenizer.eos_token_id], dtype=np.int64)
    told = np.concatenate([np.full(len(prompt), PROMPT), kinds[:fits], [KINDS.index("plain")]]).astype(np.int8)
    return Encoded(tokens, told, cut=len(coded["input_ids"]) > fits)
