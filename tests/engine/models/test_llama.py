"""Llama-type backbones: a cohort equals every client alone with `peft`, and decoding with a cache decoding without."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from peft import LoraConfig as PeftLora
from peft import PeftModel, get_peft_model
from torch import nn
from transformers import AutoModelForCausalLM

from pwff_core.config import AdapterConfig, LoraConfig, RunConfig
from pwff_core.data.corpus import Example, Segment
from pwff_core.data.encoding import PROMPT, encode
from pwff_core.engine.models.backbone import Backbone, load_backbone
from pwff_core.engine.models.cohort import Cohort
from pwff_core.engine.models.decoding import decode
from pwff_core.engine.models.saved_models import SavedModels, stacked
from pwff_core.engine.peft_export import write_peft_folder
from pwff_core.engine.stages.batches import collate
from tests.support.backbones import CONTEXT, family_folder
from tests.support.plain_clients import (
    ALPHA,
    BOTTLENECK,
    PLACED,
    RANK,
    PlainAdapter,
    assert_same_adapter,
    new_cohort,
    train_cohort,
    train_plain,
)

STEPS = 6
LAYERS = ("q_proj", "k_proj", "v_proj")
FAMILIES = ("Llama", "Mistral", "Qwen2", "Qwen3", "Gemma", "Gemma3Text", "Olmo2")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return family_folder(tmp_path_factory.mktemp("llama"))


@pytest.fixture
def backbone(folder: Path) -> Backbone:
    return load_backbone(str(folder), device="cpu")


def plain_client(backbone: Backbone, cohort: Cohort, client: int) -> nn.Module:
    """One client's own model: peft LoRA where the client places it, and the adapters as modules."""
    placed = [
        f"model.layers.{index}.self_attn.{LAYERS[slot]}"
        for index in range(2) for slot in range(3) if PLACED[client, index, slot]
    ]  # fmt: skip
    peft = PeftLora(r=RANK, lora_alpha=ALPHA, target_modules=placed)  # type: ignore[arg-type]
    model = get_peft_model(copy.deepcopy(backbone.model), peft)
    layers = model.base_model.model.model.layers
    for index, block in enumerate(layers):
        for slot, part in enumerate("qkv"):
            if PLACED[client, index, slot]:
                layer = getattr(block.self_attn, LAYERS[slot])
                a = cohort.tensors["lora"][f"h.{index}.attn.{part}.lora_a"][client]
                layer.lora_A["default"].weight.data.copy_(a.detach().T)
        block.self_attn.o_proj = PlainAdapter(block.self_attn.o_proj, cohort, f"h.{index}.attn_out", client)
        block.mlp.down_proj = PlainAdapter(block.mlp.down_proj, cohort, f"h.{index}.mlp_out", client)
        layers[index] = PlainAdapter(block, cohort, f"h.{index}.block_out", client)
    return model


def test_cohort_equals_each_client_alone_with_peft(backbone: Backbone) -> None:
    cohort = new_cohort(backbone)
    alone = [plain_client(backbone, cohort, client) for client in range(3)]
    train_cohort(cohort, STEPS, padding=1)
    for client, model in enumerate(alone):
        train_plain(model, client, STEPS)
        for index, wrapped in enumerate(model.base_model.model.model.layers):
            block = wrapped.inner
            for slot, part in enumerate("qkv"):
                a, b = (cohort.tensors["lora"][f"h.{index}.attn.{part}.lora_{key}"][client] for key in "ab")
                assert bool(b.any()) == bool(PLACED[client, index, slot])
                if PLACED[client, index, slot]:
                    layer = getattr(block.self_attn, LAYERS[slot])
                    torch.testing.assert_close(a, layer.lora_A["default"].weight.T, atol=1e-4, rtol=0)
                    torch.testing.assert_close(b, layer.lora_B["default"].weight.T, atol=1e-4, rtol=0)
            sites = {"attn_out": block.self_attn.o_proj, "mlp_out": block.mlp.down_proj, "block_out": wrapped}
            for site, module in sites.items():
                assert_same_adapter(cohort, f"h.{index}.{site}", client, module, atol=1e-4)


@torch.no_grad()
def greedy(cohort: Cohort, client: int, prompt: list[int], most: int) -> list[int]:
    """The answer without its end token, by a whole pass for every token."""
    tokens = list(prompt)
    while len(tokens) < min(len(prompt) + most, cohort.backbone.context):
        with cohort.attached():
            hidden = cohort.backbone.hidden(torch.tensor([tokens] * cohort.clients))[client, -1]
        tokens.append(int(cohort.backbone.logits(hidden).argmax()))
        if tokens[-1] == cohort.backbone.tokenizer.eos_token_id:
            return tokens[len(prompt) : -1]
    return tokens[len(prompt) :]


@pytest.mark.parametrize("family", FAMILIES)
def test_decoding_with_a_cache_equals_decoding_without(tmp_path: Path, family: str) -> None:
    cohort = new_cohort(load_backbone(str(family_folder(tmp_path, family)), "cpu"), seed=2)
    prompts = [[[5, 6, 7], [9, 8, 7, 6, 5, 4, 3, 2]], [[11, 12], [5, 6, 7]], [[200], [5, 6, 7]]]
    answers = decode(cohort, prompts, 20, 0.0, torch.Generator())
    written = [row[:length] for row, length in zip(answers.tokens.tolist(), answers.lengths.tolist(), strict=True)]
    assert written == [greedy(cohort, client, prompt, 20) for client in range(3) for prompt in prompts[client]]
    assert (
        len({tuple(answer) for answer in written}) >= 4 and max(len(set(row)) for row in written) >= 3
    )  # a telling case


def test_an_answer_ends_where_the_context_is_full(backbone: Backbone) -> None:
    cohort = new_cohort(backbone, seed=2)
    prompt = list(range(2, 2 + CONTEXT - 5))
    answers = decode(cohort, [[prompt]] * 3, 20, 0.0, torch.Generator())
    assert answers.tokens.shape == (3, 5)
    assert answers.tokens[1].tolist() == greedy(cohort, 1, prompt, 20)


def test_prompts_begin_with_the_tokenizer_s_start_token_and_padding_is_not_learned(backbone: Backbone) -> None:
    tokenizer = backbone.tokenizer
    assert tokenizer.pad_token is None
    example = Example("say hello", (Segment("Hello there.", "plain"),), "greeting")
    row = encode(example, tokenizer, CONTEXT)
    assert row.tokens[0] == tokenizer.bos_token_id and (row.tokens == tokenizer.bos_token_id).sum() == 1
    assert row.tokens[-1] == tokenizer.eos_token_id
    batch = collate([[row, row], [row]], tokenizer.eos_token_id, torch.device("cpu"))
    assert len(batch.at) == 3 * int((row.kinds != PROMPT).sum())


@pytest.mark.parametrize("client", [0, 1, 2])
def test_a_client_s_lora_is_a_folder_that_peft_loads(
    folder: Path, backbone: Backbone, tmp_path: Path, client: int
) -> None:
    cohort = new_cohort(backbone, seed=3)
    config = RunConfig(
        clients=3, backbone=str(folder), adapter=AdapterConfig(bottleneck=BOTTLENECK),
        lora=LoraConfig(rank=RANK, alpha=ALPHA),
    )  # fmt: skip
    write_peft_folder(tmp_path, SavedModels(config, PLACED, None, stacked([cohort]), {}), client, "after")
    tokens = torch.arange(2, 32).view(2, 15)
    del cohort.tensors["adapters"]
    with torch.no_grad(), cohort.attached():
        own = backbone.logits(backbone.hidden(tokens.repeat(3, 1)))
    plain = AutoModelForCausalLM.from_pretrained(folder).eval()
    with torch.no_grad():
        bare = plain(tokens).logits
        by_peft = PeftModel.from_pretrained(plain, tmp_path).eval()(input_ids=tokens).logits
    torch.testing.assert_close(by_peft, own.view(3, 2, 15, -1)[client], atol=1e-4, rtol=0)
    assert (by_peft - bare).abs().max() > 0.1
