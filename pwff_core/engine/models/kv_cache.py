"""Answers that are still being written: a token a step for each, and the keys and values of all their tokens.

transformers' models compute the steps, for every family alike; what is done here is what they would do too slowly.

- Keys and values (a KV cache) are written in place, into chunks of BLOCK places. transformers' own caches copy the
  whole past every step (DynamicCache) or always attend to the longest past that there may be (StaticCache).
- A row that has ended leaves: the last rows of the batch move into the places of those before. So clients have
  unequally many rows, and only their own adapters and LoRA, which are small, compute with padding between them.
- With one query a row, attention is two plain batched products a chunk; fused kernels are slower by half.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pwff_core.engine.models.backbone import AdapterSite, Projection
from pwff_core.engine.models.cohort import Cohort
from pwff_core.errors import TrainingError

BLOCK = 16  # places of a chunk
LEAVE = 4  # steps from one leaving to the next
ATTENTION = "pwff_unfinished"


class Unfinished:
    """The rows that are being written. For transformers' models it is a cache: they call `update` in every block."""

    def __init__(self, cohort: Cohort, prompts: Sequence[Sequence[int]], rows: Tensor) -> None:
        self._cohort, self._backbone = cohort, cohort.backbone
        self.rows = rows  # (B,) which of all prompts; client-major at first, equally many of every client
        mine = [prompts[row] for row in rows.tolist()]
        self._prompts = mine
        self._owner = torch.arange(cohort.clients, device=rows.device).repeat_interleave(len(rows) // cohort.clients)
        self._sizes = torch.tensor([len(prompt) for prompt in mine], device=rows.device)  # (B,) tokens of prompts
        self._longest = self._used = int(self._sizes.max())  # places of the prompts; places taken so far
        # added to attention scores (B, 1, 1, places): 0 where a token is, −∞ elsewhere
        places = torch.arange(self._longest, device=rows.device)
        self._mask = _additive(places >= self._longest - self._sizes[:, None])[:, None, None]
        # a block's chunks of keys and of values, each (at least B, shared heads, places, width)
        self._kept: list[tuple[list[Tensor], list[Tensor]]] = []
        self._reading: Tensor | None = None  # (b,) rows whose prompts are being read
        self._slots: Tensor | None = None  # (B,) a row's place in K × m of clients and their rows; None: they are equal
        self._most = 0  # m

    def read(self, padding: int, tokens_at_once: int) -> Tensor:
        """Last hidden states (B, d) of the prompts, which are read in parts of at most so many tokens.

        TrainingError where a client's model has diverged.
        """
        found: Tensor | None = None
        each = torch.arange(len(self.rows), device=self.rows.device).view(self._cohort.clients, -1)
        with self._cohort.attached(), _attention(self._backbone.model, "sdpa"):
            for part in each.split(max(1, tokens_at_once // (self._cohort.clients * self._longest)), dim=1):
                self._reading = part.flatten()
                last = self._read_part([self._prompts[row] for row in self._reading.tolist()], padding)
                found = last.new_empty(len(self.rows), last.shape[-1]) if found is None else found
                found[self._reading] = last
        self._reading = None
        assert found is not None  # a batch has rows
        if not torch.isfinite(found).all():
            raise TrainingError(
                "A client's model gives scores that are not numbers, so it cannot answer: its training has diverged. "
                "Try a smaller learning rate."
            )
        return found

    def _read_part(self, prompts: Sequence[Sequence[int]], padding: int) -> Tensor:
        longest = max(map(len, prompts))
        tokens = torch.tensor([[padding] * (longest - len(row)) + list(row) for row in prompts])
        places = torch.arange(longest)
        start = torch.tensor([longest - len(row) for row in prompts])[:, None]  # (b, 1) the place of the first token
        seen = (places[:, None] >= places) & (places >= start[..., None])  # (b, query, key)
        seen |= torch.eye(longest, dtype=torch.bool)  # padding sees itself, or it were NaN
        mask = _additive(seen[:, None]).to(self.rows.device, self._backbone.dtype)
        return self._forward(tokens.to(mask.device), (places - start).clamp(min=0).to(mask.device), mask)

    @contextmanager
    def proceeding(self) -> Iterator[None]:
        """While this holds, `proceed` may be called, and the backbone computes for these rows alone."""
        from transformers import AttentionInterface

        AttentionInterface.register(ATTENTION, _attend)
        tensors, handles = self._cohort.tensors, []
        if "adapters" in tensors:
            handles += [site.module.register_forward_hook(self._adapter(site)) for site in self._backbone.adapters]
        if "lora" in tensors:
            for block, placed in zip(self._backbone.attention, self._cohort.placed.unbind(1), strict=True):
                for module in dict.fromkeys(projection.module for projection in block):
                    slots = [slot for slot, projection in enumerate(block) if projection.module is module]
                    lora = self._lora([block[slot] for slot in slots], placed[:, slots])
                    handles.append(module.register_forward_hook(lora))
        try:
            with _attention(self._backbone.model, ATTENTION):
                yield
        finally:
            for handle in handles:
                handle.remove()

    def proceed(self, latest: Tensor, unfinished: Tensor) -> Tensor:
        """Last hidden states (B, d) after one more token a row; both arguments are of all prompts."""
        step = self._used - self._longest
        if step % LEAVE == 0:
            self._leave(unfinished)
        if step % BLOCK == 0:
            self._mask = F.pad(self._mask, (0, BLOCK), value=-torch.inf)
        self._mask[..., self._used] = 0.0
        # a row that has ended may stand past the context until it leaves
        positions = (self._sizes + step).clamp(max=self._backbone.context - 1)
        hidden = self._forward(latest[self.rows, None], positions[:, None], self._mask)
        self._used += 1
        return hidden

    def _forward(self, tokens: Tensor, positions: Tensor, mask: Tensor) -> Tensor:
        hidden: Tensor = self._backbone.model.base_model(
            input_ids=tokens, position_ids=positions, attention_mask=mask, past_key_values=self, use_cache=True
        ).last_hidden_state
        return hidden[:, -1]

    def update(self, keys: Tensor, values: Tensor, block: int) -> tuple[Any, Any]:
        """Keep a block's new keys and values (B, shared heads, T, width); returns what its queries may look at."""
        if self._reading is not None:
            if block == len(self._kept):
                self._kept.append(([], []))
            for kept, new in zip(self._kept[block], (keys, values), strict=True):
                if not kept:
                    kept.append(new.new_zeros(len(self.rows), new.shape[1], self._longest, new.shape[3]))
                kept[0][self._reading, :, self._longest - new.shape[2] :] = new
            return keys, values
        place = (self._used - self._longest) % BLOCK
        for kept, new in zip(self._kept[block], (keys, values), strict=True):
            if place == 0:
                kept.append(new.new_zeros(len(new), new.shape[1], BLOCK, new.shape[3]))
            kept[-1][: len(new), :, place] = new[:, :, 0]
        return self._kept[block]

    def _leave(self, unfinished: Tensor) -> None:
        """Rows that have ended leave: unfinished ones from the end of the batch take their places."""
        todo = unfinished[self.rows]
        count = int(todo.sum())
        if count == len(todo):
            return
        free, last = (~todo[:count]).nonzero()[:, 0], count + todo[count:].nonzero()[:, 0]
        chunks = [chunk for block in self._kept for chunks in block for chunk in chunks]
        for tensor in (self.rows, self._owner, self._sizes, self._mask, *chunks):
            tensor[free] = tensor[last]
        self.rows, self._owner, self._sizes, self._mask = (
            tensor[:count] for tensor in (self.rows, self._owner, self._sizes, self._mask)
        )
        counts = torch.bincount(self._owner, minlength=self._cohort.clients)
        order = self._owner.argsort(stable=True)
        nth = torch.arange(count, device=order.device) - (counts.cumsum(0) - counts)[self._owner[order]]
        self._most = int(counts.max())
        self._slots = torch.empty_like(order).scatter(0, order, self._owner[order] * self._most + nth)

    # The clients' own adapters and LoRA, as in `Cohort`, for rows that need not be equally many.

    def _spread(self, x: Tensor) -> Tensor:
        """Rows (B, 1, d) by client (K, m, d), with zeros where a client has fewer than m."""
        clients = self._cohort.clients
        if self._slots is None:
            return x.reshape(clients, -1, x.shape[-1])
        spread = x.new_zeros(clients * self._most, x.shape[-1])
        return spread.index_copy_(0, self._slots, x[:, 0]).view(clients, self._most, -1)

    def _gathered(self, spread: Tensor) -> Tensor:
        """The opposite."""
        flat = spread.flatten(0, 1)
        return (flat if self._slots is None else flat.index_select(0, self._slots))[:, None]

    def _adapter(self, site: AdapterSite) -> Any:
        tensors, dtype = self._cohort.tensors["adapters"], self._backbone.dtype
        down, down_bias, up, up_bias = (
            tensors[f"{site.name}.{part}"].to(dtype) for part in ("down", "down_bias", "up", "up_bias")
        )
        up = torch.cat([up, up_bias[:, None]], dim=1)  # (K, b + 1, d): the bias, for an input that is always 1
        down_bias = down_bias[:, None]

        def hook(module: nn.Module, inputs: Any, y: Tensor) -> Tensor:
            inner = F.gelu(torch.baddbmm(down_bias, self._spread(y), down), approximate="tanh")
            return y.add_(self._gathered(torch.bmm(F.pad(inner, (0, 1), value=1.0), up)))

        return hook

    def _lora(self, served: Sequence[Projection], placed: Tensor) -> Any:
        """Of the projections of one module; `placed` (K, projections)."""
        tensors, dtype = self._cohort.tensors["lora"], self._backbone.dtype
        into = torch.cat([tensors[f"{part.name}.lora_a"] for part in served], dim=2)  # (K, d, projections · r)
        rank = into.shape[2] // len(served)
        out = into.new_zeros(len(into), into.shape[2], served[0].width)
        for index, part in enumerate(served):
            scale = placed[:, index, None, None] * self._cohort.scale
            own = tensors[f"{part.name}.lora_b"] * scale
            out[:, index * rank : (index + 1) * rank, part.offset : part.offset + part.outputs] = own
        into, out = into.to(dtype), out.to(dtype)

        def hook(module: nn.Module, inputs: tuple[Tensor, ...], y: Tensor) -> Tensor:
            return y.add_(self._gathered(torch.bmm(torch.bmm(self._spread(inputs[0]), into), out)))

        return hook


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
    whole = torch.cat(scores, -1).view(rows, heads, -1).float() + attention_mask[:, :, 0]
    weights = whole.softmax(-1).to(query.dtype).view(rows * shared, heads // shared, -1)
    shares = weights.split([chunk.shape[2] for chunk in values], dim=-1)
    mixed = torch.bmm(shares[0], values[0][:rows].flatten(0, 1))
    for share, chunk in zip(shares[1:], values[1:], strict=True):
        mixed.baddbmm_(share, chunk[:rows].flatten(0, 1))
    return mixed.view(rows, 1, heads, width), None


def _additive(seen: Tensor) -> Tensor:
    return torch.zeros(seen.shape, device=seen.device).masked_fill(~seen, -torch.inf)


@contextmanager
def _attention(model: Any, way: str) -> Iterator[None]:
    """While this holds, the model computes attention this way."""
    usual = model.config._attn_implementation
    model.set_attn_implementation(way)
    try:
        yield
    finally:
        model.set_attn_implementation(usual)
