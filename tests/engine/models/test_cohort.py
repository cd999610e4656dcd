"""The cohort equals the plain way: every client alone, with `peft` LoRA, adapters as modules, and a loop."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import LoraConfig as PeftLora
from peft import get_peft_model
from torch import nn

from pwff_core.config import AdapterConfig, LoraConfig
from pwff_core.data.encoding import PROMPT, Encoded
from pwff_core.engine.models.backbone import Backbone, load_backbone
from pwff_core.engine.models.cohort import Cohort
from pwff_core.engine.stages.batches import collate, passes
from pwff_core.engine.stages.instruction import ADAM_BETAS, ADAM_EPSILON, client_losses, new_optimiser, train_step

RANK, ALPHA, BOTTLENECK, STEPS, RATE, CLIP = 4, 8.0, 5, 12, 3e-3, 0.5
PLACED = torch.tensor([[[1, 1, 1], [1, 1, 1]], [[0, 0, 1], [0, 0, 1]], [[1, 0, 1], [1, 0, 0]]], dtype=torch.bool)


@pytest.fixture
def backbone(tiny_backbone: Path) -> Backbone:
    return load_backbone(str(tiny_backbone), device="cpu")


def new_cohort(backbone: Backbone, placed: torch.Tensor = PLACED) -> Cohort:
    return Cohort(
        backbone, placed, ("adapters", "lora"), AdapterConfig(bottleneck=BOTTLENECK),
        LoraConfig(rank=RANK, alpha=ALPHA), torch.Generator().manual_seed(1),
    )  # fmt: skip


def some_rows(seed: int) -> list[list[Encoded]]:
    """Two rows for each of three clients, of lengths 7 … 24."""
    generator = np.random.default_rng(seed)

    def row() -> Encoded:
        length = int(generator.integers(7, 25))
        kinds = np.zeros(length, dtype=np.int8)
        kinds[: int(generator.integers(2, 5))] = PROMPT
        return Encoded(generator.integers(2, 250, length), kinds, cut=False)

    return [[row(), row()] for _ in range(3)]


class PlainAdapter(nn.Module):
    """A module with an adapter behind it, as a single client would have it."""

    def __init__(self, inner: nn.Module, width: int) -> None:
        super().__init__()
        self.inner = inner
        self.down, self.up = nn.Linear(width, BOTTLENECK), nn.Linear(BOTTLENECK, width)

    def forward(self, *args: object, **kwargs: object) -> torch.Tensor:
        y = self.inner(*args, **kwargs)
        return y + self.up(nn.functional.gelu(self.down(y), approximate="tanh"))


def plain_client(backbone: Backbone, cohort: Cohort, client: int) -> nn.Module:
    """One client's own model: peft LoRA of rank 3r with block-diagonal B on c_attn, and the adapters."""
    model = copy.deepcopy(backbone.model)
    model = get_peft_model(
        model, PeftLora(r=3 * RANK, lora_alpha=3 * ALPHA, target_modules=["c_attn"], fan_in_fan_out=True)
    )
    blocks = model.base_model.model.transformer.h
    for index, block in enumerate(blocks):
        layer = block.attn.c_attn
        a = torch.cat([cohort.tensors["lora"][f"h.{index}.attn.{p}.lora_a"][client] for p in "qkv"], dim=1)
        layer.lora_A["default"].weight.data.copy_(a.detach().T)
        mask = torch.zeros_like(layer.lora_B["default"].weight)
        width = mask.shape[0] // 3
        for slot in range(3):
            if PLACED[client, index, slot]:
                mask[slot * width : (slot + 1) * width, slot * RANK : (slot + 1) * RANK] = 1
        layer.lora_B["default"].weight.register_hook(lambda gradient, mask=mask: gradient * mask)
        block.attn.c_proj = PlainAdapter(block.attn.c_proj, width)
        block.mlp.c_proj = PlainAdapter(block.mlp.c_proj, width)
        for site, module in (("attn_out", block.attn.c_proj), ("mlp_out", block.mlp.c_proj)):
            copy_adapter(cohort, f"h.{index}.{site}", client, module)
        blocks[index] = PlainAdapter(block, width)
        copy_adapter(cohort, f"h.{index}.block_out", client, blocks[index])
    return model


def copy_adapter(cohort: Cohort, name: str, client: int, module: PlainAdapter) -> None:
    tensors = cohort.tensors["adapters"]
    module.down.weight.data.copy_(tensors[f"{name}.down"][client].detach().T)
    module.down.bias.data.copy_(tensors[f"{name}.down_bias"][client].detach())
    module.up.weight.data.copy_(tensors[f"{name}.up"][client].detach().T)
    module.up.bias.data.copy_(tensors[f"{name}.up_bias"][client].detach())


def plain_loss(model: nn.Module, rows: list[Encoded]) -> torch.Tensor:
    """Mean cross entropy over all response tokens of the rows, each row run by itself."""
    losses = []
    for row in rows:
        tokens = torch.from_numpy(row.tokens)[None]
        logits = model(input_ids=tokens).logits[0, :-1]
        wanted = torch.from_numpy(row.kinds[1:] != PROMPT)
        losses.append(nn.functional.cross_entropy(logits[wanted], tokens[0, 1:][wanted], reduction="none"))
    return torch.cat(losses).mean()


def train_plain(model: nn.Module, client: int) -> None:
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=RATE, betas=ADAM_BETAS, eps=ADAM_EPSILON, weight_decay=0.0)
    for step in range(STEPS):
        optimiser.zero_grad()
        plain_loss(model, some_rows(step)[client]).backward()
        nn.utils.clip_grad_norm_(trained, CLIP)
        optimiser.step()


def test_cohort_equals_each_client_alone_with_peft(backbone: Backbone) -> None:
    cohort = new_cohort(backbone)
    alone = [plain_client(backbone, cohort, client) for client in range(3)]
    optimiser = new_optimiser(cohort, RATE)
    for step in range(STEPS):
        train_step(cohort, optimiser, [collate(some_rows(step), 0, torch.device("cpu"))], CLIP)

    for client, model in enumerate(alone):
        train_plain(model, client)
        for index, wrapped in enumerate(model.base_model.model.transformer.h):
            block, layer = wrapped.inner, wrapped.inner.attn.c_attn
            a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
            width = b.shape[0] // 3
            for slot, part in enumerate("qkv"):
                stacked = {key: cohort.tensors["lora"][f"h.{index}.attn.{part}.lora_{key}"][client] for key in "ab"}
                rank, rows = slice(slot * RANK, (slot + 1) * RANK), slice(slot * width, (slot + 1) * width)
                torch.testing.assert_close(stacked["a"], a[rank].T, atol=1e-5, rtol=0)
                torch.testing.assert_close(stacked["b"], b[rows, rank].T, atol=1e-5, rtol=0)
                assert bool(stacked["b"].any()) == bool(PLACED[client, index, slot])
            for site, module in (
                ("attn_out", block.attn.c_proj),
                ("mlp_out", block.mlp.c_proj),
                ("block_out", wrapped),
            ):
                stacked = {
                    k: cohort.tensors["adapters"][f"h.{index}.{site}.{k}"][client] for k in ("down", "up", "up_bias")
                }
                torch.testing.assert_close(stacked["down"], module.down.weight.T, atol=1e-5, rtol=0)
                torch.testing.assert_close(stacked["up"], module.up.weight.T, atol=1e-5, rtol=0)
                torch.testing.assert_close(stacked["up_bias"], module.up.bias, atol=1e-5, rtol=0)


def test_a_fresh_cohort_is_exactly_the_backbone(backbone: Backbone) -> None:
    tokens = torch.arange(2, 20)[None].repeat(3, 1)
    bare = backbone.hidden(tokens)
    cohort = new_cohort(backbone)
    with cohort.attached():
        torch.testing.assert_close(backbone.hidden(tokens), bare, atol=1e-6, rtol=0)


def test_a_detached_backbone_computes_as_before(backbone: Backbone) -> None:
    tokens = torch.arange(2, 20)[None].repeat(3, 1)
    bare = backbone.hidden(tokens)
    cohort = new_cohort(backbone)
    with torch.no_grad():
        for tensor in cohort.parameters():
            tensor.add_(0.1)
    with cohort.attached():
        assert not torch.allclose(backbone.hidden(tokens), bare, atol=1e-3)
    torch.testing.assert_close(backbone.hidden(tokens), bare, atol=0, rtol=0)


def test_gradients_of_one_client_do_not_reach_another(backbone: Backbone) -> None:
    cohort = new_cohort(backbone)
    losses = client_losses(cohort, collate(some_rows(0), 0, torch.device("cpu")))
    losses[1].backward()
    for tensor in cohort.parameters():
        assert tensor.grad is not None
        assert not tensor.grad[0].any()
        assert not tensor.grad[2].any()
    assert cohort.tensors["adapters"]["h.0.attn_out.up"].grad[1].any()


def test_a_step_in_parts_equals_the_whole_step(backbone: Backbone) -> None:
    whole, parted = new_cohort(backbone), new_cohort(backbone)
    rows, device = some_rows(0), torch.device("cpu")
    split = [collate(part, 0, device) for part in passes(rows, tokens_at_once=1)]
    assert len(split) == 2
    losses = [
        train_step(cohort, torch.optim.SGD(cohort.parameters(), 1.0), batches, 1e6)
        for cohort, batches in ((whole, [collate(rows, 0, device)]), (parted, split))
    ]
    torch.testing.assert_close(*losses)
    for tensor, expected in zip(whole.parameters(), parted.parameters(), strict=True):
        torch.testing.assert_close(tensor, expected, atol=1e-6, rtol=1e-5)
