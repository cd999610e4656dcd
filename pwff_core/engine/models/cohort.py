"""A cohort: clients that train together over one frozen backbone.

Every personal tensor is stacked along a leading client axis and a batch is client-major, so one batched matrix product
serves all clients:

    x      (K·n, T, d)  viewed as  (K, n·T, d)
    LoRA   (Hu et al., arXiv 2106.09685)     A (K, d, r), B (K, r, d'):  y + (x A) B · α/r
    adapter (Houlsby et al., arXiv 1902.00751)  D (K, d, b), c (K, b), U (K, b, d), e (K, d):  y + gelu(y D + c) U + e

The clients' losses are summed, so each client's gradient is exactly its own; Adam is elementwise, so one optimiser over
the stack is K private optimisers. LoRA that a client does not place is multiplied by 0: it neither acts nor learns.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pwff_core.config import AdapterConfig, LoraConfig
from pwff_core.engine.models.backbone import AdapterSite, Backbone, Projection
from pwff_core.methods import Group


class Cohort:
    """The stacked adapters and LoRA of `clients` clients.

    `placed` (clients, blocks, 3) is true where a client has LoRA on (q, k, v). All clients start from the same numbers,
    drawn with `generator`; up-projections start at 0, so at first every client is exactly the backbone.
    """

    def __init__(
        self,
        backbone: Backbone,
        placed: Tensor,
        groups: Sequence[Group],
        adapter: AdapterConfig,
        lora: LoraConfig,
        generator: torch.Generator,
    ) -> None:
        self.backbone = backbone
        self.clients = placed.shape[0]
        self.placed = placed.to(backbone.device)
        self.scale = lora.alpha / lora.rank
        self.tensors: dict[Group, dict[str, nn.Parameter]] = {group: {} for group in groups}
        # Both groups are drawn whatever is trained, so that methods start from the same numbers.
        for site in backbone.adapters:
            self._add("adapters", self._new_adapter(site, adapter.bottleneck, generator))
        for block in backbone.attention:
            for projection in block:
                self._add("lora", self._new_lora(projection, lora.rank, generator))

    def _add(self, group: Group, fresh: dict[str, Tensor]) -> None:
        if group in self.tensors:
            for name, tensor in fresh.items():
                stacked = tensor.expand(self.clients, *tensor.shape).clone()
                self.tensors[group][name] = nn.Parameter(stacked.to(self.backbone.device))

    @staticmethod
    def _new_adapter(site: AdapterSite, bottleneck: int, generator: torch.Generator) -> dict[str, Tensor]:
        return {
            f"{site.name}.down": _uniform(site.width, bottleneck, generator),
            f"{site.name}.down_bias": torch.zeros(bottleneck),
            f"{site.name}.up": torch.zeros(bottleneck, site.width),
            f"{site.name}.up_bias": torch.zeros(site.width),
        }

    @staticmethod
    def _new_lora(projection: Projection, rank: int, generator: torch.Generator) -> dict[str, Tensor]:
        return {
            f"{projection.name}.lora_a": _uniform(projection.inputs, rank, generator),
            f"{projection.name}.lora_b": torch.zeros(rank, projection.outputs),
        }

    def frozen_copy(self) -> Cohort:
        """These clients' models as they are now, which no training changes."""
        copy = object.__new__(Cohort)
        copy.backbone, copy.clients, copy.placed, copy.scale = self.backbone, self.clients, self.placed, self.scale
        copy.tensors = {
            group: {name: nn.Parameter(t.detach().clone(), requires_grad=False) for name, t in named.items()}
            for group, named in self.tensors.items()
        }
        return copy

    def parameters(self) -> list[nn.Parameter]:
        """All stacked tensors, in a fixed order."""
        return [tensor for named in self.tensors.values() for tensor in named.values()]

    def train_only(self, groups: Collection[Group]) -> None:
        """From now on the tensors of these groups get gradients; an optimiser passes over the others."""
        for group, named in self.tensors.items():
            for tensor in named.values():
                tensor.requires_grad_(group in groups)

    @contextmanager
    def attached(self) -> Iterator[None]:
        """While this holds, the backbone computes for this cohort's clients, whose tensors are read on entering."""
        handles = []
        if "adapters" in self.tensors:
            handles += [site.module.register_forward_hook(self._adapter_hook(site)) for site in self.backbone.adapters]
        if "lora" in self.tensors:
            for index, block in enumerate(self.backbone.attention):
                placed = self.placed[:, index].to(torch.float32) * self.scale  # (K, 3)
                for module in dict.fromkeys(projection.module for projection in block):  # one of all three, or three
                    served = [
                        (projection, placed[:, slot, None, None])
                        for slot, projection in enumerate(block)
                        if projection.module is module
                    ]
                    handles.append(module.register_forward_hook(self._lora_hook(served)))
        # The hook of an adapter on a block's output runs after those inside the block: hooks fire as modules return.
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _adapter_hook(self, site: AdapterSite) -> Any:
        tensors, dtype = self.tensors["adapters"], self.backbone.dtype
        down, down_bias, up, up_bias = (
            tensors[f"{site.name}.{part}"].to(dtype) for part in ("down", "down_bias", "up", "up_bias")
        )
        # the bias is one more row, for an input that is always 1: so the sum with y is part of the product
        up = torch.cat([up, up_bias[:, None]], dim=1)  # (K, b + 1, d)
        down_bias = down_bias[:, None]

        def hook(module: nn.Module, inputs: Any, y: Tensor) -> Tensor:
            stacked = y.reshape(self.clients, -1, site.width)  # (K, n·T, d)
            inner = F.gelu(torch.baddbmm(down_bias, stacked, down), approximate="tanh")  # (K, n·T, b)
            return torch.baddbmm(stacked, F.pad(inner, (0, 1), value=1.0), up).view(y.shape)

        return hook

    def _lora_hook(self, served: Sequence[tuple[Projection, Tensor]]) -> Any:
        tensors, dtype = self.tensors["lora"], self.backbone.dtype
        first = served[0][0]
        into = torch.cat([tensors[f"{p.name}.lora_a"] for p, _ in served], dim=2).to(dtype)  # (K, d, 3r)
        # where q, k and v fill slices of one fused output, their B stand block-diagonally in (K, 3r, 3d)
        out = torch.cat(
            [
                F.pad(tensors[f"{p.name}.lora_b"] * scale, (p.offset, p.width - p.offset - p.outputs))
                for p, scale in served
            ],
            dim=1,
        ).to(dtype)

        def hook(module: nn.Module, inputs: tuple[Tensor, ...], y: Tensor) -> Tensor:
            x = inputs[0].reshape(self.clients, -1, first.inputs)  # (K, n·T, d)
            return torch.baddbmm(y.reshape(self.clients, -1, first.width), torch.bmm(x, into), out).view(y.shape)

        return hook


def _uniform(inputs: int, outputs: int, generator: torch.Generator) -> Tensor:
    """Kaiming-uniform with a = √5, as `peft` and `nn.Linear` start: U(−1/√d, 1/√d)."""
    bound = 1.0 / math.sqrt(inputs)
    return torch.empty(inputs, outputs).uniform_(-bound, bound, generator=generator)
