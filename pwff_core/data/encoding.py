"""From examples to token ids: one prompt format for every source, and the kind of each response token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pwff_core.data.corpus import Example, Kind

KINDS: tuple[Kind, ...] = ("plain", "style", "knowledge")
PROMPT = -1  # the kind of a prompt's token, which is not predicted


def prompt_text(instruction: str, style_tags: str = "") -> str:
    """The prompt as the model reads it; the response follows after a space."""
    return f"{style_tags}Instruction: {instruction}\nResponse:"


def prompt_tokens(tokenizer: Any, prompt: str) -> list[int]:
    """Token ids of a prompt: with the tokenizer's start token, without its end token, as a response follows."""
    tokens: list[int] = tokenizer(prompt, add_special_tokens=True, verbose=False)["input_ids"]
    return tokens[:-1] if tokens and tokens[-1] == tokenizer.eos_token_id else tokens


def truncate_left(tokenizer: Any, tokens: list[int], max_length: int) -> list[int]:
    """The last `max_length` (at least 1) tokens of a prompt; a start token stays."""
    if len(tokens) <= max_length:
        return tokens
    start = tokens[:1] if max_length > 1 and tokens[0] == tokenizer.bos_token_id else []
    return start + tokens[len(tokens) - max_length + len(start) :]


class Encoded(NamedTuple):
    """One example as tokens."""

    tokens: NDArray[np.int64]  # (T,) prompt, response, end token
    kinds: NDArray[np.int8]  # (T,) PROMPT, or an index into KINDS
    cut: bool  # the response did not fit and was cut at its end
    prompt_cut: bool = False  # the prompt did not fit and lost its beginning


def encode(example: Example, tokenizer: Any, max_length: int) -> Encoded:
    """Tokens of an example, at most `max_length`; a prompt too long loses its beginning, a response its end.

    `tokenizer` is a fast tokenizer of `transformers` with an end token. Each response token has the kind of the
    segment that its last character belongs to; the end token is plain.
    """
    prompt = prompt_tokens(tokenizer, prompt_text(example.instruction))
    encoding = tokenizer(" " + example.text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    ends = np.cumsum([1 + len(example.response[0].text), *(len(segment.text) for segment in example.response[1:])])
    last = np.array([max(start, end - 1) for start, end in encoding["offset_mapping"]], dtype=np.int64)
    segments = np.searchsorted(ends, last, side="right").clip(max=len(ends) - 1)
    kinds = np.array([KINDS.index(segment.kind) for segment in example.response])[segments]

    room = max_length - 1  # for the end token
    whole_prompt, whole_response = prompt, encoding["input_ids"]
    prompt = truncate_left(tokenizer, prompt, room // 2) if len(prompt) + 1 > room else prompt
    response = whole_response[: room - len(prompt)]
    tokens = np.array([*prompt, *response, tokenizer.eos_token_id], dtype=np.int64)
    parts = [np.full(len(prompt), PROMPT), kinds[: len(response)], [KINDS.index("plain")]]
    return Encoded(
        tokens,
        np.concatenate(parts).astype(np.int8),
        cut=len(response) < len(whole_response),
        prompt_cut=len(prompt) < len(whole_prompt),
    )


def cut_note(rows: Sequence[Encoded], max_length: int) -> tuple[str, ...]:
    """A remark on examples that were too long; nothing where none was."""
    prompts, responses = sum(row.prompt_cut for row in rows), sum(row.cut for row in rows)
    if not prompts and not responses:
        return ()
    losses = [
        *([f"{prompts} prompts lost their beginning"] if prompts else []),
        *([f"{responses} responses their end"] if responses and prompts else []),
        *([f"{responses} responses lost their end"] if responses and not prompts else []),
    ]
    return (f"Of {len(rows)} examples, cut to {max_length} tokens, {' and '.join(losses)}.",)
