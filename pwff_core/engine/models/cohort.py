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
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pwff_core.config import AdapterConfig, LoraConfig
from pwff_core.engine.models.backbone import AdapterSite, Backbone, Projection
from pwff_core.methods import Group

Hook: TypeAlias = Callable[[nn.Module, Any, Tensor], Tensor]  # PyTorch's forward hook: module, inputs, output


class AdapterWeights(NamedTuple):
    """The adapters of one site as a pass multiplies by them, in the backbone's dtype."""

    down: Tensor  # (K, d, b)
    down_bias: Tensor  # (K, 1, b)
    up: Tensor  # (K, b + 1, d); the last row is the bias, for an input that is always 1, so one product adds both

    def inner(self, x: Tensor) -> Tensor:
        """gelu(x D + c) of x (K, m, d), and the 1 that the bias is multiplied by: (K, m, b + 1)."""
        inner = F.gelu(torch.baddbmm(self.down_bias, x, self.down), approximate="tanh")  # (K, m, b)
        return F.pad(inner, (0, 1), value=1.0)


class LoraWeights(NamedTuple):
    """The LoRA of one module as a pass multiplies by it, in the backbone's dtype; p of q, k, v are the module's."""

    a: Tensor  # (K, d, p·r)
    b: Tensor  # (K, p·r, d'), times α/r, and 0 where a client places none; block-diagonal where q, k and v are fused


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
        # Both groups are drawn whatever is trained, so that all methods start from the same numbers.
        for site in backbone.adapters:
            self._add("adapters", _new_adapter(site, adapter.bottleneck, generator))
        for block in backbone.attention:
            for projection in block:
                self._add("lora", _new_lora(projection, lora.rank, generator))

    def _add(self, group: Group, tensors: dict[str, Tensor]) -> None:
        """Give every client a copy of these tensors, if the group is trained."""
        if group in self.tensors:
            for name, tensor in tensors.items():
                stacked = tensor.expand(self.clients, *tensor.shape).clone()
                self.tensors[group][name] = nn.Parameter(stacked.to(self.backbone.device))

    def frozen_copy(self) -> Cohort:
        """A copy of these clients' models as they are now, which no training changes."""
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

    def adapter_weights(self, site: AdapterSite) -> AdapterWeights:
        """The adapters of a site, as they are now; differentiable."""
        tensors, dtype = self.tensors["adapters"], self.backbone.dtype
        down, down_bias, up, up_bias = (
            tensors[f"{site.name}.{part}"].to(dtype) for part in ("down", "down_bias", "up", "up_bias")
        )
        return AdapterWeights(down, down_bias[:, None], torch.cat([up, up_bias[:, None]], dim=1))

    def lora_weights(self, projections: Sequence[Projection], placed: Tensor) -> LoraWeights:
        """The LoRA of one module's p projections, as it is now; differentiable. `placed` is (K, p)."""
        tensors, dtype = self.tensors["lora"], self.backbone.dtype
        scale = placed.to(torch.float32) * self.scale  # (K, p)
        a = torch.cat([tensors[f"{p.name}.lora_a"] for p in projections], dim=2)  # (K, d, p·r)
        rows = [
            F.pad(
                tensors[f"{p.name}.lora_b"] * scale[:, index, None, None],  # (K, r, outputs)
                (p.offset, p.width - p.offset - p.outputs),  # this projection's slice of a fused output
            )
            for index, p in enumerate(projections)
        ]
        return LoraWeights(a.to(dtype), torch.cat(rows, dim=1).to(dtype))

    @contextmanager
    def attached(self) -> Iterator[None]:
        """While this holds, the backbone computes for this cohort's clients, whose tensors are read on entering."""
        with self.hooked(self._adapter_hook, self._lora_hook):
            yield

    @contextmanager
    def hooked(
        self, adapter_hook: Callable[[AdapterWeights], Hook], lora_hook: Callable[[LoraWeights], Hook]
    ) -> Iterator[None]:
        """While this holds, these hooks change the outputs of the modules that adapters and LoRA act on."""
        handles = []
        if "adapters" in self.tensors:
            for site in self.backbone.adapters:
                handles.append(site.module.register_forward_hook(adapter_hook(self.adapter_weights(site))))
        if "lora" in self.tensors:
            for block, placed in zip(self.backbone.attention, self.placed.unbind(1), strict=True):  # placed: (K, 3)
                for module in dict.fromkeys(projection.module for projection in block):  # one of all three, or three
                    slots = [slot for slot, projection in enumerate(block) if projection.module is module]
                    weights = self.lora_weights([block[slot] for slot in slots], placed[:, slots])
                    handles.append(module.register_forward_hook(lora_hook(weights)))
        # The hook of an adapter on a block's output runs after those inside the block: hooks fire as modules return.
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _adapter_hook(self, weights: AdapterWeights) -> Hook:
        def hook(module: nn.Module, inputs: Any, y: Tensor) -> Tensor:
            stacked = y.reshape(self.clients, -1, y.shape[-1])  # (K, n·T, d)
            return torch.baddbmm(stacked, weights.inner(stacked), weights.up).view(y.shape)

        return hook

    def _lora_hook(self, weights: LoraWeights) -> Hook:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], y: Tensor) -> Tensor:
            x = inputs[0].reshape(self.clients, -1, inputs[0].shape[-1])  # (K, n·T, d)
            stacked = y.reshape(self.clients, -1, y.shape[-1])  # (K, n·T, d')
            return torch.baddbmm(stacked, torch.bmm(x, weights.a), weights.b).view(y.shape)

        return hook


def _new_adapter(site: AdapterSite, bottleneck: int, generator: torch.Generator) -> dict[str, Tensor]:
    return {
        f"{site.name}.down": _uniform(site.width, bottleneck, generator),
        f"{site.name}.down_bias": torch.zeros(bottleneck),
        f"{site.name}.up": torch.zeros(bottleneck, site.width),
        f"{site.name}.up_bias": torch.zeros(site.width),
    }


def _new_lora(projection: Projection, rank: int, generator: torch.Generator) -> dict[str, Tensor]:
    return {
        f"{projection.name}.lora_a": _uniform(projection.inputs, rank, generator),
        f"{projection.name}.lora_b": torch.zeros(rank, projection.outputs),
    }


def _uniform(inputs: int, outputs: int, generator: torch.Generator) -> Tensor:
    """Kaiming-uniform with a = √5, as `peft` and `nn.Linear` start: U(−1/√inputs, 1/√inputs), (inputs, outputs)."""
    bound = 1.0 / math.sqrt(inputs)
    return torch.empty(inputs, outputs).uniform_(-bound, bound, generator=generator)
