"""The KV cache of answers that are being written, a token a step: keys and values of all their tokens.

transformers' models compute the steps, for every family alike. This module does what they would do too slowly:

- Keys and values are written in place, into chunks of BLOCK places. transformers' own caches copy the whole past every
  step (DynamicCache) or always attend to the longest past that there may be (StaticCache).
- Rows that have ended are removed: the last rows of the batch move into their places. So clients have unequally many
  rows, and only their own adapters and LoRA, which are small, compute with padding between them.
- With one query a row, attention is two plain batched products a chunk; fused kernels are slower by half.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pwff_core.engine.models.cohort import AdapterWeights, Cohort, Hook, LoraWeights
from pwff_core.errors import TrainingError

BLOCK = 16  # places of a chunk
COMPACT_EVERY = 4  # steps between two removals of ended rows
ATTENTION = "pwff_kv_cache"  # the name that transformers knows our attention function by

Chunks = list[Tensor]  # keys or values of one block, each chunk (at least B, shared heads, places, width)


class KVCache:
    """B rows that are being written; `prefill` reads their prompts, then each `step` adds a token to every row.

    For transformers' models this is the cache of a step: they call `update` in every block.
    """

    def __init__(self, cohort: Cohort, prompts: Sequence[Sequence[int]], rows: Tensor) -> None:
        self._cohort, self._backbone = cohort, cohort.backbone
        self.rows = rows  # (B,) which of all prompts; client-major at first, equally many of every client
        self._prompts = [prompts[row] for row in rows.tolist()]
        # (B,) the client of each row
        self._client = torch.arange(cohort.clients, device=rows.device).repeat_interleave(len(rows) // cohort.clients)
        self._prompt_lengths = torch.tensor([len(prompt) for prompt in self._prompts], device=rows.device)  # (B,)
        self._longest = self._used = int(self._prompt_lengths.max())  # places of the prompts; places taken so far
        places = torch.arange(self._longest, device=rows.device)
        # (B, 1, 1, places): what is added to attention scores, 0 where a token is and −∞ elsewhere
        self._mask = _additive(places >= self._longest - self._prompt_lengths[:, None])[:, None, None]
        self._chunks: list[tuple[Chunks, Chunks]] = []  # keys and values, by block
        self._layout: _Layout | None = None  # None: every client has equally many rows, in order

    def prefill(self, padding: int, tokens_at_once: int) -> Tensor:
        """Read the prompts, in parts of at most so many tokens; return their last hidden states (B, d).

        TrainingError where a client's model has diverged.
        """
        by_client = torch.arange(len(self.rows), device=self.rows.device).view(self._cohort.clients, -1)  # (K, B/K)
        split = by_client.split(max(1, tokens_at_once // (self._cohort.clients * self._longest)), dim=1)
        parts = [part.flatten() for part in split]
        with self._cohort.attached(), _attention(self._backbone.model, "sdpa"):
            last = [self._prefill_part(part, padding) for part in parts]
        hidden = torch.cat(last)[torch.cat(parts).argsort()]
        if not torch.isfinite(hidden).all():
            raise TrainingError(
                "A client's model gives scores that are not numbers, so it cannot answer: its training has diverged. "
                "Try a smaller learning rate."
            )
        return hidden

    def _prefill_part(self, part: Tensor, padding: int) -> Tensor:
        """Last hidden states (b, d) of the prompts of some rows (b,), padded on the left."""
        prompts = [self._prompts[row] for row in part.tolist()]
        longest = max(map(len, prompts))
        tokens = torch.tensor([[padding] * (longest - len(prompt)) + list(prompt) for prompt in prompts])  # (b, T)
        places = torch.arange(longest)
        start = torch.tensor([longest - len(prompt) for prompt in prompts])[:, None]  # (b, 1) place of the first token
        seen = (places[:, None] >= places) & (places >= start[..., None])  # (b, query, key)
        seen |= torch.eye(longest, dtype=torch.bool)  # a padding token sees itself: softmax over nothing would be NaN
        mask = _additive(seen[:, None]).to(self.rows.device, self._backbone.dtype)
        positions = (places - start).clamp(min=0).to(mask.device)
        cache = _Prefill(self._chunks, part, len(self.rows), self._longest)
        return self._forward(tokens.to(mask.device), positions, mask, cache)

    @contextmanager
    def attached(self) -> Iterator[None]:
        """While this holds, `step` may be called, and the backbone computes for these rows alone."""
        from transformers import AttentionInterface

        AttentionInterface.register(ATTENTION, _attend)
        with (
            self._cohort.hooked(self._adapter_hook, self._lora_hook),
            _attention(self._backbone.model, ATTENTION),
        ):
            yield

    def step(self, latest: Tensor, unfinished: Tensor) -> Tensor:
        """Read one more token a row; return the last hidden states (B, d).

        `latest` holds the newest token of every prompt, `unfinished` whether its answer goes on: both are of all
        prompts, not of this batch's rows alone. Every few steps B becomes smaller, see `rows`.
        """
        step = self._used - self._longest
        if step % COMPACT_EVERY == 0:
            self.compact(unfinished)
        if step % BLOCK == 0:
            self._mask = F.pad(self._mask, (0, BLOCK), value=-torch.inf)
        self._mask[..., self._used] = 0.0
        # an ended row may stand past the context until it is removed
        positions = (self._prompt_lengths + step).clamp(max=self._backbone.context - 1)
        hidden = self._forward(latest[self.rows, None], positions[:, None], self._mask, self)
        self._used += 1
        return hidden

    def _forward(self, tokens: Tensor, positions: Tensor, mask: Tensor, cache: Any) -> Tensor:
        """Last hidden states (b, d) of tokens (b, T)."""
        hidden: Tensor = self._backbone.model.base_model(
            input_ids=tokens, position_ids=positions, attention_mask=mask, past_key_values=cache, use_cache=True
        ).last_hidden_state
        return hidden[:, -1]

    def update(self, keys: Tensor, values: Tensor, block: int) -> tuple[Chunks, Chunks]:
        """Add a step's keys and values (B, shared heads, 1, width) of one block; return all that its queries see."""
        place = (self._used - self._longest) % BLOCK
        for chunks, new in zip(self._chunks[block], (keys, values), strict=True):
            if place == 0:
                chunks.append(new.new_zeros(len(new), new.shape[1], BLOCK, new.shape[3]))
            chunks[-1][: len(new), :, place] = new[:, :, 0]
        return self._chunks[block]

    def compact(self, unfinished: Tensor) -> None:
        """Remove the rows that have ended: unfinished ones from the end of the batch take their places."""
        going = unfinished[self.rows]  # (B,)
        count = int(going.sum())
        if count == len(going):
            return
        free, last = (~going[:count]).nonzero()[:, 0], count + going[count:].nonzero()[:, 0]
        chunks = [chunk for block in self._chunks for chunks in block for chunk in chunks]
        for tensor in (self.rows, self._client, self._prompt_lengths, self._mask, *chunks):
            tensor[free] = tensor[last]
        self.rows, self._client, self._prompt_lengths, self._mask = (
            tensor[:count] for tensor in (self.rows, self._client, self._prompt_lengths, self._mask)
        )
        self._layout = _layout_of(self._client, self._cohort.clients)

    # The clients' own adapters and LoRA, as in `Cohort.attached`, for rows that need not be equally many.

    def _adapter_hook(self, weights: AdapterWeights) -> Hook:
        def hook(module: nn.Module, inputs: Any, y: Tensor) -> Tensor:
            return y.add_(self._by_row(torch.bmm(weights.inner(self._by_client(y)), weights.up)))

        return hook

    def _lora_hook(self, weights: LoraWeights) -> Hook:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], y: Tensor) -> Tensor:
            return y.add_(self._by_row(torch.bmm(torch.bmm(self._by_client(inputs[0]), weights.a), weights.b)))

        return hook

    def _by_client(self, x: Tensor) -> Tensor:
        """Rows (B, 1, d) by client (K, m, d), with zeros where a client has fewer than m rows."""
        clients = self._cohort.clients
        if self._layout is None:
            return x.reshape(clients, -1, x.shape[-1])
        spread = x.new_zeros(clients * self._layout.most, x.shape[-1])
        return spread.index_copy_(0, self._layout.slots, x[:, 0]).view(clients, self._layout.most, -1)

    def _by_row(self, x: Tensor) -> Tensor:
        """By client (K, m, d) back to rows (B, 1, d)."""
        flat = x.flatten(0, 1)
        return (flat if self._layout is None else flat.index_select(0, self._layout.slots))[:, None]


@dataclass(frozen=True)
class _Prefill:
    """The cache of transformers' models while they read the prompts of some rows."""

    chunks: list[tuple[Chunks, Chunks]]
    rows: Tensor  # (b,) of the batch's B
    batch: int  # B
    longest: int  # places of the batch's longest prompt

    def update(self, keys: Tensor, values: Tensor, block: int) -> tuple[Tensor, Tensor]:
        """Keep a block's keys and values (b, shared heads, T, width), which are all that its queries see."""
        if block == len(self.chunks):
            self.chunks.append(([], []))
        for chunks, new in zip(self.chunks[block], (keys, values), strict=True):
            if not chunks:
                chunks.append(new.new_zeros(self.batch, new.shape[1], self.longest, new.shape[3]))
            chunks[0][self.rows, :, self.longest - new.shape[2] :] = new
        return keys, values


class _Layout(NamedTuple):
    """Where rows stand when clients have unequally many."""

    slots: Tensor  # (B,) a row's place in K × m of clients and their rows
    most: int  # m


def _layout_of(client: Tensor, clients: int) -> _Layout:
    """Places of rows in K × m, in order; `client` (B,) says whose they are."""
    counts = torch.bincount(client, minlength=clients)  # (K,)
    order = client.argsort(stable=True)
    nth = torch.arange(len(client), device=order.device) - (counts.cumsum(0) - counts)[client[order]]
    most = int(counts.max())
    return _Layout(torch.empty_like(order).scatter(0, order, client[order] * most + nth), most)


def _attend(
    module: nn.Module, query: Tensor, keys: Sequence[Tensor], values: Sequence[Tensor], attention_mask: Tensor,
    scaling: float | None = None, **_: Any,
) -> tuple[Tensor, None]:  # fmt: skip
    """A transformers attention function for one query a row (B, heads, 1, width), over chunks of keys and values.

    Heads that share keys and values are queries of one product.
    """
    rows, heads, width = len(query), query.shape[1], query.shape[3]
    shared = keys[0].shape[1]
    queries = query.reshape(rows * shared, heads // shared, width) * (width**-0.5 if scaling is None else scaling)
    scores = [torch.bmm(queries, chunk[:rows].flatten(0, 1).mT) for chunk in keys]
    att = torch.cat(scores, -1).view(rows, heads, -1).float() + attention_mask[:, :, 0]  # (B, heads, places)
    att = att.softmax(-1).to(query.dtype).view(rows * shared, heads // shared, -1)
    shares = att.split([chunk.shape[2] for chunk in values], dim=-1)
    y = torch.bmm(shares[0], values[0][:rows].flatten(0, 1))  # (B·shared, heads / shared, width)
    for share, chunk in zip(shares[1:], values[1:], strict=True):
        y.baddbmm_(share, chunk[:rows].flatten(0, 1))
    return y.view(rows, 1, heads, width), None


def _additive(seen: Tensor) -> Tensor:
    """A mask that is added to attention scores: 0 where a key is seen, −∞ elsewhere."""
    return torch.zeros(seen.shape, device=seen.device).masked_fill(~seen, -torch.inf)


@contextmanager
def _attention(model: Any, name: str) -> Iterator[None]:
    """While this holds, the model computes attention by the function of that name."""
    before = model.config._attn_implementation
    model.set_attn_implementation(name)
    try:
        yield
    finally:
        model.set_attn_implementation(before)
