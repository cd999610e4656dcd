"""Federated instruction tuning as one writes it with `peft`: a model a client, one client after another.

What a careful user would do is done: the ten models share their frozen weights in memory, so nothing is loaded or
swapped between clients; attention is `sdpa`; AdamW is fused; a batch is padded to its own longest row; there is no
logging and no checkpointing. In bfloat16 the frozen weights are loaded so, and PyTorch's autocast does the rest.
`tests/benchmarks/test_plain.py` shows that in float32 the weights after two rounds are pwff's.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoModelForCausalLM

from benchmarks.work import round_rows
from pwff_core.data.encoding import PROMPT, Encoded
from pwff_core.engine.models.saved_models import stacked
from pwff_core.engine.stages.clients import Clients
from pwff_core.engine.stages.instruction import ADAM_BETAS, ADAM_EPSILON, trained
from pwff_core.methods import Group
from pwff_core.paths import assets_dir

IGNORED = -100  # the label of a token without a loss


class Adapter(nn.Module):
    """A module with a bottleneck adapter (Houlsby et al., arXiv 1902.00751) behind it."""

    def __init__(self, inner: nn.Module, width: int, bottleneck: int) -> None:
        super().__init__()
        self.inner = inner
        self.down, self.up = nn.Linear(width, bottleneck), nn.Linear(bottleneck, width)

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        y = self.inner(*args, **kwargs)
        return y + self.up(F.gelu(self.down(y), approximate="tanh"))


class PlainClient:
    """One client's own model: the backbone with `peft` LoRA on q, k, v and adapters as modules, and its optimiser.

    q, k and v are one fused layer in GPT-2: LoRA of rank r on each is LoRA of rank 3r on it with a block-diagonal B.
    `placed` (blocks, 3) says which blocks of B learn; the others stay 0.
    """

    def __init__(self, backbone: nn.Module, clients: Clients, client: int, placed: Tensor) -> None:
        config = clients.config
        # deepcopy that leaves the frozen weights where they are: the models share them
        model = copy.deepcopy(backbone, {id(weight): weight for weight in backbone.parameters()})
        rank, width = config.lora.rank, model.config.n_embd
        lora = LoraConfig(r=3 * rank, lora_alpha=3 * config.lora.alpha, target_modules=["c_attn"], fan_in_fan_out=True)
        self.model = get_peft_model(model, lora)
        self.groups: dict[Group, dict[str, nn.Parameter]] = {"adapters": {}, "lora": {}}
        blocks = self.model.base_model.model.transformer.h
        for index, block in enumerate(blocks):
            layer = block.attn.c_attn
            self.groups["lora"] |= {f"h.{index}.a": layer.lora_A["default"].weight,
                                    f"h.{index}.b": layer.lora_B["default"].weight}  # fmt: skip
            slots = placed[index].repeat_interleave(width)[:, None]  # (3d, 1)
            mask = slots * torch.block_diag(*[torch.ones(width, rank)] * 3)  # (3d, 3r)
            layer.lora_B["default"].weight.register_hook(lambda gradient, mask=mask: gradient * mask)
            inner = (width, config.adapter.bottleneck)
            block.attn.c_proj = self._adapter(block.attn.c_proj, f"h.{index}.attn_out", *inner)
            block.mlp.c_proj = self._adapter(block.mlp.c_proj, f"h.{index}.mlp_out", *inner)
            blocks[index] = self._adapter(block, f"h.{index}.block_out", *inner)
        self._start(clients, client)
        rate = config.instruction.learning_rate or clients.method.learning_rate
        self.optimiser = self.new_optimiser(rate, config.lora.rate_ratio)

    def _adapter(self, inner: nn.Module, name: str, width: int, bottleneck: int) -> Adapter:
        adapter = Adapter(inner, width, bottleneck)
        for key, weight in (*adapter.down.named_parameters("down"), *adapter.up.named_parameters("up")):
            self.groups["adapters"][f"{name}.{key}"] = weight
        return adapter

    @torch.no_grad()
    def _start(self, clients: Clients, client: int) -> None:
        """Copies the weights that the cohort's client has now."""
        for group, named in plain_weights(clients, client).items():
            for name, tensor in named.items():
                self.groups[group][name].copy_(tensor)

    def new_optimiser(self, rate: float, lora_ratio: float) -> torch.optim.AdamW:
        """AdamW without decay; LoRA's rate is `lora_ratio` × the adapters'."""
        rates = {"adapters": rate, "lora": rate * lora_ratio}
        groups = [{"params": list(named.values()), "lr": rates[group]} for group, named in self.groups.items()]
        return torch.optim.AdamW(groups, betas=ADAM_BETAS, eps=ADAM_EPSILON, weight_decay=0.0, fused=True)

    def train_only(self, groups: Collection[Group]) -> None:
        """Gives gradients to these groups alone, from now on."""
        for group, named in self.groups.items():
            for weight in named.values():
                weight.requires_grad_(group in groups)

    def step(self, loss: Tensor, clip: float) -> None:
        """One step of AdamW down a loss, with the gradient clipped."""
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        learning = [weight for named in self.groups.values() for weight in named.values() if weight.requires_grad]
        nn.utils.clip_grad_norm_(learning, clip)
        self.optimiser.step()


def plain_weights(clients: Clients, client: int) -> dict[Group, dict[str, Tensor]]:
    """The weights of pwff's client in the plain model's names and layout, to start from and to compare with."""
    stacks = stacked(clients.cohorts)
    tensors = {group: {name: stack[client] for name, stack in named.items()} for group, named in stacks.items()}
    weights: dict[Group, dict[str, Tensor]] = {"adapters": {}, "lora": {}}
    for site in clients.backbone.adapters:
        for half in ("down", "up"):
            weights["adapters"][f"{site.name}.{half}.weight"] = tensors["adapters"][f"{site.name}.{half}"].T
            weights["adapters"][f"{site.name}.{half}.bias"] = tensors["adapters"][f"{site.name}.{half}_bias"]
    for index, block in enumerate(clients.backbone.attention):
        a, b = ([tensors["lora"][f"{part.name}.lora_{key}"] for part in block] for key in "ab")
        weights["lora"] |= {f"h.{index}.a": torch.cat(a, dim=1).T, f"h.{index}.b": torch.block_diag(*b).T}
    return weights


def plain_clients(clients: Clients, placed: np.ndarray) -> list[PlainClient]:
    """Every client's own model, with the weights that pwff's has now; `placed` (K, blocks, 3)."""
    name = clients.config.backbone
    source = str(assets_dir() / "backbone") if name == "demo" else name
    dtype = torch.bfloat16 if in_bfloat16(clients) else torch.float32
    backbone = AutoModelForCausalLM.from_pretrained(source, dtype=dtype, attn_implementation="sdpa")
    backbone.requires_grad_(False)
    return [PlainClient(backbone, clients, k, torch.from_numpy(blocks)) for k, blocks in enumerate(placed)]


def in_bfloat16(clients: Clients) -> bool:
    """Whether the frozen weights of both sides are in bfloat16."""
    return clients.config.precision == "bfloat16"


def padded(rows: Sequence[Encoded], padding: int) -> dict[str, Tensor]:
    """A batch as transformers' models take it. Padding on the right needs no attention mask, which costs time."""
    length = max(len(row.tokens) for row in rows)
    tokens = np.full((len(rows), length), padding, dtype=np.int64)
    labels = np.full((len(rows), length), IGNORED, dtype=np.int64)
    for index, row in enumerate(rows):
        tokens[index, : len(row.tokens)] = row.tokens
        labels[index, : len(row.tokens)] = np.where(row.kinds == PROMPT, IGNORED, row.tokens)
    return {"input_ids": torch.from_numpy(tokens), "labels": torch.from_numpy(labels)}


class PeftLoop:
    """Rounds of a loop over clients, each with its own `peft` model."""

    def __init__(self, clients: Clients, placed: np.ndarray) -> None:
        self.clients, self.models = clients, plain_clients(clients, placed)
        self.num_examples = [float(len(split.train)) for split in clients.splits]
        self.losses: list[list[float]] = []  # of the last round, by client and step
        self.played = 0

    def round(self) -> None:
        """The next round: each client trains, then the adapters are averaged."""
        self.played += 1
        rows = round_rows(self.clients, self.played)
        self.losses = [self.train(client, steps) for client, steps in zip(self.models, rows, strict=True)]
        average([model.groups["adapters"] for model in self.models], self.num_examples)

    def train(self, client: PlainClient, steps: Sequence[Sequence[Encoded]]) -> list[float]:
        """One client's local steps; their losses."""
        settings, losses = self.clients.config.instruction, []
        for step, rows in enumerate(steps):
            client.train_only(trained(self.clients.method, step, len(steps), settings.personal_steps))
            with torch.autocast("cpu", torch.bfloat16, enabled=in_bfloat16(self.clients)):
                loss = client.model(**padded(rows, self.clients.padding), use_cache=False).loss
            client.step(loss, settings.gradient_clip)
            losses.append(float(loss.detach()))
        return losses


@torch.no_grad()
def average(uploads: Sequence[dict[str, nn.Parameter]], num_examples: Sequence[float]) -> None:
    """Replaces the tensors of all uploads by their mean, weighted by numbers of examples."""
    weights = torch.tensor(num_examples) / sum(num_examples)
    for name in uploads[0]:
        mean = torch.tensordot(weights, torch.stack([upload[name] for upload in uploads]), dims=1)
        for upload in uploads:
            upload[name].copy_(mean)
