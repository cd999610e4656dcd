"""Decoding: every client of a cohort answers its prompts, all in one batch, a token a step.

Prompts are padded on the left, so that all rows write their next token at the same place. What a step costs is what it
computes and copies for rows that are still being written, so:

- Keys and values of earlier tokens are kept (a KV cache) in buffers that are written in place and grow by BLOCK places.
  transformers' own caches copy the whole past every step (DynamicCache) or always attend to the longest past that
  there may be (StaticCache).
- When the buffers are full, rows that have ended leave the batch, as far as every client keeps equally many.
- On a CPU attention is two plain batched products: with one query a row that is twice as fast as the fused kernel.

Ten clients × 16 answers of at most 64 tokens with the embedded backbone on one core: 2.4 s; with rows that stay to the
end 3.1 s, with the fused kernel 2.7 s; with DynamicCache 3.7 s, with StaticCache 3.1 s.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from pwff_core.errors import ModelError, TrainingError
from pwff_core.models.backbone import Backbone
from pwff_core.models.cohort import Cohort

BLOCK = 8  # steps between which the batch and its buffers keep their size


class Answers(NamedTuple):
    """What K clients answered to n prompts each; N is the length of the longest answer."""

    tokens: Tensor  # (K·n, N) int64, padded with the end token
    lengths: Tensor  # (K·n,) int64, tokens before the end token, which is one more where there is one
    ended: Tensor  # (K·n,) bool; false where the answer was cut off
    log_probs: Tensor  # (K·n, N) of each token under the distribution that it was drawn from; 0 after the end


@torch.no_grad()
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
    backbone, end = cohort.backbone, cohort.backbone.tokenizer.eos_token_id
    rows = [prompt for mine in prompts for prompt in mine]
    longest = max(map(len, rows))
    if longest > backbone.context:
        raise ModelError(f"A prompt has {longest} tokens; this backbone reads {backbone.context}. Shorten the prompt.")
    sizes = torch.tensor([len(row) for row in rows], device=backbone.device)
    room = (backbone.context - sizes).clamp(max=max_new_tokens)  # (K·n,)
    answers = torch.full((len(rows), max_new_tokens), end, device=backbone.device)
    log_probs = torch.zeros(len(rows), max_new_tokens, device=backbone.device)
    # one uniform number a token: far fewer than `torch.multinomial` draws, which takes one for every word there is
    draws = torch.rand(max_new_tokens, len(rows), generator=generator, device=generator.device).to(backbone.device)
    unfinished, step = room > 0, 0
    with cohort.attached(), backbone.autocast(), _plain_attention(backbone):
        batch = _Batch(cohort, sizes)
        while unfinished.any():
            hidden = batch.proceed(answers[:, step - 1], unfinished) if step else batch.read(rows, end)
            mine = batch.rows
            chosen, probable = _choose(backbone.logits(hidden).float(), temperature, draws[step, mine])
            answers[mine, step] = torch.where(unfinished[mine], chosen, end)
            log_probs[mine, step] = torch.where(unfinished[mine], probable, 0.0)
            step += 1
            unfinished[mine] &= (chosen != end) & (step < room[mine])
    lengths = (answers != end).sum(1)
    ended = lengths < room
    return Answers(answers[:, :step], lengths, ended, log_probs[:, :step])


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


class _Batch:
    """The rows that are being written, equally many of each client, and the keys and values of all their tokens.

    It is what transformers' models call a cache: they call `update` in every block.
    """

    def __init__(self, cohort: Cohort, sizes: Tensor) -> None:
        self._backbone, self._clients = cohort.backbone, cohort.clients
        self.rows = torch.arange(len(sizes), device=sizes.device)  # (B,) which of all rows, client-major
        self._sizes = sizes  # (B,) prompt tokens
        self._longest = self._used = int(sizes.max())  # places of the prompts; places taken so far
        # added to attention scores (B, 1, 1, places in the buffers): 0 where a token is, −∞ elsewhere
        places = torch.arange(self._longest + BLOCK, device=sizes.device)
        taken = (places >= self._longest - sizes[:, None]) & (places < self._longest)
        self._mask = _additive(taken[:, None, None])
        self._kept: list[tuple[Tensor, Tensor]] = []  # a block's keys and values (B, heads, places, d / heads)

    def read(self, prompts: Sequence[Sequence[int]], padding: int) -> Tensor:
        """Last hidden states (B, d) of the prompts."""
        tokens = torch.tensor([[padding] * (self._longest - len(row)) + list(row) for row in prompts])
        places = torch.arange(self._longest, device=self._sizes.device)
        start = (self._longest - self._sizes)[:, None]  # (B, 1) the place of a row's first token
        seen = (places[:, None] >= places) & (places >= start[..., None])  # (B, query, key)
        seen |= torch.eye(self._longest, dtype=torch.bool, device=seen.device)  # padding sees itself, or it were NaN
        hidden = self._forward(tokens.to(seen.device), (places - start).clamp(min=0), _additive(seen[:, None]))
        if not torch.isfinite(hidden).all():
            raise TrainingError(
                "A client's model gives scores that are not numbers, so it cannot answer: its training has diverged. "
                "Try a smaller learning rate."
            )
        return hidden

    def proceed(self, latest: Tensor, unfinished: Tensor) -> Tensor:
        """Last hidden states (B, d) after one more token a row; both arguments are of all rows (K·n,)."""
        if self._used == self._mask.shape[-1]:
            self._resize(unfinished)
        self._mask[..., self._used] = 0.0
        # a row that has ended may stand past the context until it leaves
        positions = (self._sizes + self._used - self._longest).clamp(max=self._backbone.context - 1)
        hidden = self._forward(latest[self.rows, None], positions[:, None], self._mask)
        self._used += 1
        return hidden

    def _forward(self, tokens: Tensor, positions: Tensor, mask: Tensor) -> Tensor:
        hidden: Tensor = self._backbone.model.base_model(
            input_ids=tokens, position_ids=positions, attention_mask=mask, past_key_values=self, use_cache=True
        ).last_hidden_state
        return hidden[:, -1]

    def update(self, keys: Tensor, values: Tensor, block: int) -> tuple[Tensor, Tensor]:
        """Keep a block's new keys and values; returns all that its queries may look at."""
        if block == len(self._kept):  # the prompts
            grown = (0, 0, 0, BLOCK)
            self._kept.append((F.pad(keys, grown), F.pad(values, grown)))
            return keys, values
        for kept, new in zip(self._kept[block], (keys, values), strict=True):
            kept[:, :, self._used] = new[:, :, 0]
        return self._kept[block]

    def _resize(self, unfinished: Tensor) -> None:
        """Room for BLOCK more tokens; as many rows a client as the client that has the most still to do."""
        todo = unfinished[self.rows].view(self._clients, -1)  # (K, m)
        most = int(todo.sum(1).max())
        first = torch.arange(self._clients, device=todo.device)[:, None] * todo.shape[1]
        stay = (first + todo.int().argsort(dim=1, descending=True, stable=True)[:, :most]).flatten()
        self.rows, self._sizes = self.rows[stay], self._sizes[stay]
        self._mask = F.pad(self._mask[stay], (0, BLOCK), value=-torch.inf)
        grown = (0, 0, 0, BLOCK)
        self._kept = [(F.pad(keys[stay], grown), F.pad(values[stay], grown)) for keys, values in self._kept]


def _additive(seen: Tensor) -> Tensor:
    return torch.zeros(seen.shape, device=seen.device).masked_fill(~seen, -torch.inf)


@contextmanager
def _plain_attention(backbone: Backbone) -> Iterator[None]:
    """While this holds, the backbone on a CPU computes attention without the fused kernel."""
    usual = backbone.model.config._attn_implementation
    if backbone.device.type == "cpu":
        backbone.model.set_attn_implementation("eager")
    try:
        yield
    finally:
        backbone.model.set_attn_implementation(usual)
