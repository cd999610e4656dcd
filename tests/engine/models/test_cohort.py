"""The cohort equals the plain way: every client alone, with `peft` LoRA, adapters as modules, and a loop."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from peft import LoraConfig as PeftLora
from peft import get_peft_model
from torch import nn

from pwff_core.engine.models.backbone import Backbone, load_backbone
from pwff_core.engine.models.cohort import Cohort
from pwff_core.engine.stages.batches import collate, passes
from pwff_core.engine.stages.instruction import client_losses, train_step
from tests.support.plain_clients import (
    ALPHA,
    PLACED,
    RANK,
    PlainAdapter,
    assert_same_adapter,
    new_cohort,
    some_rows,
    train_cohort,
    train_plain,
)

STEPS = 12


@pytest.fixture
def backbone(tiny_backbone: Path) -> Backbone:
    return load_backbone(str(tiny_backbone), device="cpu")


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
        block.attn.c_proj = PlainAdapter(block.attn.c_proj, cohort, f"h.{index}.attn_out", client)
        block.mlp.c_proj = PlainAdapter(block.mlp.c_proj, cohort, f"h.{index}.mlp_out", client)
        blocks[index] = PlainAdapter(block, cohort, f"h.{index}.block_out", client)
    return model


def test_cohort_equals_each_client_alone_with_peft(backbone: Backbone) -> None:
    cohort = new_cohort(backbone)
    alone = [plain_client(backbone, cohort, client) for client in range(3)]
    train_cohort(cohort, STEPS, padding=0)
    for client, model in enumerate(alone):
        train_plain(model, client, STEPS)
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
            sites = {"attn_out": block.attn.c_proj, "mlp_out": block.mlp.c_proj, "block_out": wrapped}
            for site, module in sites.items():
                assert_same_adapter(cohort, f"h.{index}.{site}", client, module, atol=1e-5)


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
