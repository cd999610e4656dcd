"""Decoding: every client of a cohort answers its prompts, all in one batch, a token a step.

Prompts are padded on the left, so that all rows write their next token at the same place; `unfinished.py` says how a
step is made cheap. Keys and values of all tokens are the largest thing there is, so their size is bounded: rows that
would be too many are written one batch after another, and prompts are read a part at a time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from pwff_core.engine.models.cohort import Cohort
from pwff_core.engine.models.kv_cache import Unfinished
from pwff_core.errors import ModelError

KEPT_BYTES = 2**30  # of keys and values at once; rows beyond wait for their turn
PROMPT_TOKENS = 4096  # of all clients, padding included, that are read at once


class Answers(NamedTuple):
    """What K clients answered to n prompts each; N is the length of the longest answer."""

    tokens: Tensor  # (K·n, N) int64, padded with the end token
    lengths: Tensor  # (K·n,) int64, tokens before the end token, which is one more where there is one
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
    cohort: Cohort, prompts: Sequence[Sequence[Sequence[int]]], temperature: float, draws: Tensor
) -> Answers:
    """The same with given uniform numbers: `draws` (longest answer, K·n) in [0, 1), one a token."""
    backbone, end = cohort.backbone, cohort.backbone.tokenizer.eos_token_id
    rows = [prompt for mine in prompts for prompt in mine]
    longest = max(map(len, rows))
    if longest > backbone.context:
        raise ModelError(f"A prompt has {longest} tokens; this backbone reads {backbone.context}. Shorten the prompt.")
    lengths, most = [len(row) for row in rows], len(draws)
    room = (backbone.context - torch.tensor(lengths, device=backbone.device)).clamp(max=most)  # (K·n,)
    answers = torch.full((len(rows), most), end, device=backbone.device)
    log_probs = torch.zeros(len(rows), most, device=backbone.device)
    for chosen in _turns(cohort, lengths, most):
        _write(cohort, rows, chosen, room, temperature, draws.to(backbone.device), answers, log_probs)
    ends = (answers != end).sum(1)
    ended = ends < room
    steps = int((ends + ended).max())
    return Answers(answers[:, :steps], ends, ended, log_probs[:, :steps])


def _turns(cohort: Cohort, lengths: Sequence[int], max_new_tokens: int) -> list[Tensor]:
    """Which rows (K·m,) of the K·n are written together, client-major: as many as may be kept, of similar length."""
    each = torch.tensor(lengths).view(cohort.clients, -1)
    width = sum(key.outputs + value.outputs for _, key, value in cohort.backbone.attention)  # numbers a token
    row = width * (int(each.max()) + max_new_tokens) * cohort.backbone.dtype.itemsize
    turns = math.ceil(each.shape[1] / max(1, KEPT_BYTES // (row * cohort.clients)))
    order = each.argsort(dim=1, stable=True) if turns > 1 else torch.arange(each.shape[1]).expand_as(each)
    first = torch.arange(cohort.clients)[:, None] * each.shape[1]
    return [part.flatten().to(cohort.backbone.device) for part in (first + order).tensor_split(turns, dim=1)]


def _write(
    cohort: Cohort, prompts: Sequence[Sequence[int]], chosen: Tensor, room: Tensor, temperature: float,
    draws: Tensor, answers: Tensor, log_probs: Tensor,
) -> None:  # fmt: skip
    """Write the answers to the chosen prompts into `answers`, and their log probabilities."""
    backbone, end = cohort.backbone, cohort.backbone.tokenizer.eos_token_id
    unfinished = torch.zeros_like(room, dtype=torch.bool)
    unfinished[chosen] = room[chosen] > 0
    batch = Unfinished(cohort, prompts, chosen)
    hidden = batch.read(end, PROMPT_TOKENS)
    with batch.proceeding():
        for step in range(int(room[chosen].max())):
            if step:
                hidden = batch.proceed(answers[:, step - 1], unfinished)
            mine = batch.rows
            token, probable = _choose(backbone.logits(hidden), temperature, draws[step, mine])
            going = unfinished[mine]
            answers[mine, step] = torch.where(going, token, end)
            log_probs[mine, step] = torch.where(going, probable, 0.0)
            unfinished[mine] = going & (token != end) & (step + 1 < room[mine])
            if not unfinished.any():
                break


def _choose(logits: Tensor, temperature: float, draws: Tensor) -> tuple[Tensor, Tensor]:
    """A token a row (B,) of scores (B, V), where the cumulated probability passes the row's draw in [0, 1), and its log
    probability (B,)."""
    if temperature == 0.0:
        return logits.argmax(-1), torch.zeros_like(logits[:, 0])
    probabilities = torch.softmax(logits / temperature, -1)
    cumulated = probabilities.cumsum(-1)
    # the draw is scaled by the whole sum, which rounding leaves a little off 1: so some token always passes it
    chosen = torch.searchsorted(cumulated, draws[:, None] * cumulated[:, -1:], right=True)
    return chosen[:, 0], probabilities.gather(1, chosen)[:, 0].log()
