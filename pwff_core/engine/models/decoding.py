"""Decoding: every client of a cohort answers its prompts, all in one batch, a token a step.

Prompts are padded on the left, so that all rows write their next token at the same place; `kv_cache.py` makes a step
cheap. Keys and values of all tokens are the largest thing there is, so their size is bounded: where all rows would be
too many, one batch is written after another, and prompts are read a part at a time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from pwff_core.engine.models.cohort import Cohort
from pwff_core.engine.models.kv_cache import KVCache
from pwff_core.errors import ModelError

CACHE_BYTES = 2**30  # of keys and values at once; rows beyond wait for their turn
PREFILL_TOKENS = 4096  # of all clients, padding included, that are read at once


class Answers(NamedTuple):
    """What K clients answered to n prompts each; N is the length of the longest answer."""

    tokens: Tensor  # (K·n, N) int64, padded with the end token
    lengths: Tensor  # (K·n,) int64, tokens before the end token; where the answer ended, the end token is one more
    ended: Tensor  # (K·n,) bool; false where the answer was cut off
    log_probs: Tensor  # (K·n, N) of each token under the distribution that it was drawn from; 0 after the end


def decode(
    cohort: Cohort,
    prompts: Sequence[Sequence[Sequence[int]]],
    max_new_tokens: int,
    temperature: float,
    generator: torch.Generator,
) -> Answers:
    """Sample an answer of at most `max_new_tokens` to each of K × n prompts of token ids; temperature 0 is greedy.

    A row ends with its end token, or where the backbone's context is full. The random numbers of a row are its own:
    they do not depend on what others are asked. ModelError for a prompt longer than the context; TrainingError where
    a client's model has diverged.
    """
    # one uniform number a token: far fewer than `torch.multinomial` draws, which takes one for every word there is
    shape = (max_new_tokens, sum(map(len, prompts)))
    return decode_drawn(cohort, prompts, temperature, torch.rand(shape, generator=generator, device=generator.device))


@torch.no_grad()
def decode_drawn(
    cohort: Cohort,
    prompts: Sequence[Sequence[Sequence[int]]],
    temperature: float,
    draws: Tensor,
    *,
    cache_bytes: int = CACHE_BYTES,
    prefill_tokens: int = PREFILL_TOKENS,
) -> Answers:
    """The same with given uniform numbers: `draws` (longest answer, K·n) in [0, 1), one a token.

    Memory is bounded by `cache_bytes` and `prefill_tokens`; the answers do not depend on them.
    """
    backbone, end = cohort.backbone, cohort.backbone.tokenizer.eos_token_id
    rows = [prompt for client_prompts in prompts for prompt in client_prompts]
    longest = max(map(len, rows))
    if longest > backbone.context:
        raise ModelError(f"A prompt has {longest} tokens; this backbone reads {backbone.context}. Shorten the prompt.")
    lengths, max_new_tokens = [len(row) for row in rows], len(draws)
    room = (backbone.context - torch.tensor(lengths, device=backbone.device)).clamp(max=max_new_tokens)  # (K·n,)
    answers = torch.full((len(rows), max_new_tokens), end, device=backbone.device)
    log_probs = torch.zeros(len(rows), max_new_tokens, device=backbone.device)
    draws = draws.to(backbone.device)
    for chosen in _batches(cohort, lengths, max_new_tokens, cache_bytes):
        cache = KVCache(cohort, rows, chosen)
        hidden = cache.prefill(end, prefill_tokens)
        _write(cohort, cache, hidden, room, temperature, draws, answers, log_probs)
    ends = (answers != end).sum(1)
    ended = ends < room
    steps = int((ends + ended).max())
    return Answers(answers[:, :steps], ends, ended, log_probs[:, :steps])


def _batches(cohort: Cohort, lengths: Sequence[int], max_new_tokens: int, cache_bytes: int) -> list[Tensor]:
    """Which rows (K·m,) of the K·n are written together, client-major: as many as the cache may hold.

    Where there are several batches, the prompts of each are of similar length.
    """
    by_client = torch.tensor(lengths).view(cohort.clients, -1)  # (K, n)
    rows = by_client.shape[1]
    width = sum(key.outputs + value.outputs for _, key, value in cohort.backbone.attention)  # numbers a token
    row_bytes = width * (int(by_client.max()) + max_new_tokens) * cohort.backbone.dtype.itemsize
    batches = math.ceil(rows / max(1, cache_bytes // (row_bytes * cohort.clients)))
    order = by_client.argsort(dim=1, stable=True) if batches > 1 else torch.arange(rows).expand_as(by_client)
    first = torch.arange(cohort.clients)[:, None] * rows
    return [part.flatten().to(cohort.backbone.device) for part in (first + order).tensor_split(batches, dim=1)]


def _write(
    cohort: Cohort, cache: KVCache, hidden: Tensor, room: Tensor, temperature: float,
    draws: Tensor, answers: Tensor, log_probs: Tensor,
) -> None:  # fmt: skip
    """Write the answers of the cache's rows into `answers`, and their log probabilities.

    `hidden` (B, d) are the last states of the rows' prompts; all other tensors are of all prompts.
    """
    backbone, end = cohort.backbone, cohort.backbone.tokenizer.eos_token_id
    unfinished = torch.zeros_like(room, dtype=torch.bool)
    unfinished[cache.rows] = room[cache.rows] > 0
    steps = int(room[cache.rows].max())
    with cache.attached():
        for step in range(steps):
            if step:
                hidden = cache.step(answers[:, step - 1], unfinished)
            rows = cache.rows
            token, log_prob = _sample(backbone.logits(hidden), temperature, draws[step, rows])
            going = unfinished[rows]
            answers[rows, step] = torch.where(going, token, end)
            log_probs[rows, step] = torch.where(going, log_prob, 0.0)
            unfinished[rows] = going & (token != end) & (step + 1 < room[rows])
            if not unfinished.any():
                break


def _sample(logits: Tensor, temperature: float, draws: Tensor) -> tuple[Tensor, Tensor]:
    """A token (B,) for each row of logits (B, V), and its log probability (B,).

    It is the one at which the cumulated probability passes the row's draw in [0, 1).
    """
    if temperature == 0.0:
        return logits.argmax(-1), torch.zeros_like(logits[:, 0])
    probs = torch.softmax(logits / temperature, -1)
    cumulated = probs.cumsum(-1)
    # the draw is scaled by the whole sum, which rounding leaves a little off 1: so some token always passes it
    token = torch.searchsorted(cumulated, draws[:, None] * cumulated[:, -1:], right=True)
    return token[:, 0], probs.gather(1, token)[:, 0].log()
