"""Heads and encoders of K clients, stacked along a leading client axis, by the names of `nn.Linear` and DistilBERT.

The tensors of reward models and critics are `head.inner.weight` (K, h, 3d), `head.inner.bias` (K, h),
`head.outer.weight` (K, 1, h), `head.outer.bias` (K, 1) and, where the encoder is trained too, `encoder.…` (K, …) for
each of its weights.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from pwff_core.engine.models.encoder import FEATURES, Encoder

ENCODER = "encoder."
HEAD_TENSORS = ("head.inner.weight", "head.inner.bias", "head.outer.weight", "head.outer.bias")
ROWS_AT_ONCE = 8  # texts of a client that its own encoder reads at once
OUTPUT_SCALE = 0.1  # of the output layer at the start: first scores are so close that no pair starts far wrong

Named = dict[str, nn.Parameter]


def new_head(width: int, hidden: int, generator: torch.Generator) -> dict[str, Tensor]:
    """One head on features (…, 3d): the start of `nn.Linear`, U(−1/√inputs, 1/√inputs), with a small output layer."""
    inputs = FEATURES * width

    def uniform(fan_in: int, *shape: int) -> Tensor:
        bound = 1.0 / math.sqrt(fan_in)
        return torch.empty(shape).uniform_(-bound, bound, generator=generator)

    drawn = (
        uniform(inputs, hidden, inputs),
        uniform(inputs, hidden),
        uniform(hidden, 1, hidden) * OUTPUT_SCALE,
        uniform(hidden, 1) * OUTPUT_SCALE,
    )
    return dict(zip(HEAD_TENSORS, drawn, strict=True))


def stack(tensors: Mapping[str, Tensor], clients: int, device: torch.device) -> Named:
    """The same numbers for every client, as parameters (K, …) of their own."""
    return {
        name: nn.Parameter(tensor.detach().to(device).expand(clients, *tensor.shape).clone())
        for name, tensor in tensors.items()
    }


def trains_encoder(tensors: Mapping[str, Tensor]) -> bool:
    """Whether a reward model or critic has an encoder of its own, instead of the frozen one."""
    return any(name.startswith(ENCODER) for name in tensors)


def head_scores(tensors: Mapping[str, Tensor], features: Tensor) -> Tensor:
    """Scores (K, n) of features (K, n, 3d): Linear(3d → h), tanh-GELU, Linear(h → 1)."""
    inner = torch.baddbmm(tensors["head.inner.bias"][:, None], features, tensors["head.inner.weight"].mT)  # (K, n, h)
    inner = F.gelu(inner, approximate="tanh")
    outer = torch.baddbmm(tensors["head.outer.bias"][:, None], inner, tensors["head.outer.weight"].mT)  # (K, n, 1)
    return outer.squeeze(-1)


def encoder_states(encoder: Encoder, tensors: Mapping[str, Tensor], ids: Tensor, seen: Tensor) -> Tensor:
    """States (K, n, T, d) of tokens (K, n, T), each client's by its own encoder.

    `seen` says which keys a query looks at: (K, n, 1, 1, T), or (1, 1, T, T) for all clients.
    """
    weights = {name.removeprefix(ENCODER): tensor for name, tensor in tensors.items() if name.startswith(ENCODER)}

    def client_states(weights: dict[str, Tensor], ids: Tensor, seen: Tensor) -> Any:
        inputs = {"input_ids": ids, "attention_mask": seen}
        return functional_call(encoder.model, weights, (), inputs).last_hidden_state

    with sdpa_kernel(SDPBackend.MATH):  # vmap knows no batching rule for the fused kernels on a CPU
        by_client = vmap(client_states, in_dims=(0, 0, 0 if seen.dim() == 5 else None))
        return by_client(weights, ids, seen)  # type: ignore[no-any-return]
