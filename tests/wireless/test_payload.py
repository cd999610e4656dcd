from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from safetensors import safe_open
from torch import nn
from transformers import GPT2Config, LlamaConfig, LlamaForCausalLM

from pwff_core.config import RunConfig, preset_config
from pwff_core.knobs import with_changes
from pwff_core.methods import METHODS
from pwff_core.paths import assets_dir
from pwff_core.wireless.link import ergodic_rate_bps
from pwff_core.wireless.payload import (
    GPT2_SMALL,
    Geometry,
    fates,
    geometry_of,
    num_adapter_params,
    num_head_params,
    num_lora_params,
    num_reward_upload_params,
    num_upload_params,
    pricing_geometry,
    uplink_bits,
)

TINY = Geometry(blocks=2, width=6, query=6, key=6, value=6)


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_the_paper_s_numbers_by_hand() -> None:
    assert num_adapter_params(GPT2_SMALL, 10) == 36 * (2 * 768 * 10 + 10 + 768) == 36 * 16_138 == 580_968
    assert num_lora_params(GPT2_SMALL, 8) == 36 * 2 * 768 * 8 == 442_368
    assert num_lora_params(GPT2_SMALL, 96) == 36 * 2 * 768 * 96 == 5_308_416


def test_rank_8_fits_the_paper_s_figure_5_and_rank_96_does_not() -> None:
    adapters = num_adapter_params(GPT2_SMALL, 10)
    saved = {rank: 1 - adapters / (adapters + num_lora_params(GPT2_SMALL, rank)) for rank in (8, 96)}
    assert saved[8] == pytest.approx(0.432, abs=5e-4)  # "43 % less energy than PFL"
    assert saved[96] > 0.9
    assert num_lora_params(GPT2_SMALL, 8) < adapters < num_lora_params(GPT2_SMALL, 96)  # Shepherd is cheapest only at 8


@pytest.mark.parametrize(("width", "bottleneck", "blocks"), [(768, 10, 12), (6, 2, 2), (64, 5, 3)])
def test_adapters_against_torch(width: int, bottleneck: int, blocks: int) -> None:
    adapter = nn.Sequential(nn.Linear(width, bottleneck), nn.GELU(), nn.Linear(bottleneck, width))
    assert num_adapter_params(Geometry(blocks, width, width, width, width), bottleneck) == 3 * blocks * count(adapter)


def test_lora_against_peft_with_grouped_queries() -> None:
    config = LlamaConfig(
        hidden_size=12, intermediate_size=16, num_hidden_layers=2, num_attention_heads=3, num_key_value_heads=1,
        head_dim=6, vocab_size=11,
    )  # fmt: skip
    with torch.device("meta"):
        model = get_peft_model(LlamaForCausalLM(config), LoraConfig(r=4, target_modules=["q_proj", "k_proj", "v_proj"]))
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    assert num_lora_params(Geometry(2, 12, 18, 6, 6), 4) == trained == 2 * 4 * (3 * 12 + 18 + 6 + 6)


@given(blocks=st.integers(1, 48), width=st.integers(1, 4096), rank=st.integers(1, 256))
def test_sizes_are_proportional_to_blocks_and_rank(blocks: int, width: int, rank: int) -> None:
    block = Geometry(1, width, width, width, width)
    many = block._replace(blocks=blocks)
    assert num_lora_params(many, rank) == blocks * rank * num_lora_params(block, 1)
    assert num_adapter_params(many, rank) == blocks * num_adapter_params(block, rank)


ADAPTERS = 6 * (2 * 6 * 2 + 2 + 6)  # 6 adapters, d = 6 and b = 2
LORA = 6 * 3 * (6 + 6)  # 6 modules, r = 3


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("pwff", {"adapters": ADAPTERS}),
        ("vanilla_fl", {"adapters": ADAPTERS, "lora": LORA}),
        ("fedada", {"adapters": ADAPTERS}),
        ("fedlora", {"lora": LORA}),
        ("local", {}),
        ("centralised", {}),
    ],
)
def test_each_method_uploads_its_groups_of_the_paper(method: str, expected: dict[str, int]) -> None:
    config = with_changes(RunConfig(), {"adapter.bottleneck": 2, "lora.rank": 3, "method": method})
    assert num_upload_params(METHODS[config.method], TINY, config) == expected


def test_every_method_uploads_the_groups_of_its_row() -> None:
    for method in METHODS.values():
        assert set(num_upload_params(method, TINY, RunConfig())) == set(method.uploads)


def test_pwff_over_vanilla_fl_at_the_paper_s_scale() -> None:
    config = preset_config("paper")
    bits = {
        name: uplink_bits(num_upload_params(METHODS[name], GPT2_SMALL, config), config.float_bits)
        for name in ("pwff", "vanilla_fl", "fedlora")
    }
    assert bits["pwff"] / bits["vanilla_fl"] == pytest.approx(0.568, abs=5e-4)
    assert bits["fedlora"] < bits["pwff"]


@pytest.mark.parametrize("modules", ["by-device", "all"])
def test_averaged_lora_is_uploaded_from_all_sites_of_every_device(modules: str) -> None:
    config = with_changes(RunConfig(), {"lora.modules": modules})
    assert num_upload_params(METHODS["fedlora"], GPT2_SMALL, config) == {"lora": 442_368}


def test_bits_are_parameters_times_bits_a_parameter() -> None:
    assert uplink_bits({"adapters": 7, "lora": 5}, 32) == 384
    assert uplink_bits({"adapters": 7, "lora": 5}, 16) == 192
    assert uplink_bits({}, 32) == 0


def test_the_link_can_be_priced_as_gpt2() -> None:
    own, gpt2 = RunConfig(), RunConfig(price_as="gpt2")
    assert pricing_geometry(own, TINY) == TINY
    assert pricing_geometry(own, None) is None
    assert pricing_geometry(gpt2, TINY) == pricing_geometry(gpt2, None) == GPT2_SMALL
    assert num_upload_params(METHODS["pwff"], TINY, gpt2) == {"adapters": 580_968}
    assert num_upload_params(METHODS["pwff"], TINY, own) == {"adapters": 6 * (2 * 6 * 10 + 10 + 6)}


# ---- geometry without loading -----------------------------------------------------------------------------------


def test_gpt2_small_has_the_sizes_of_transformers() -> None:
    config = GPT2Config()
    assert geometry_of("gpt2") == GPT2_SMALL == (config.n_layer, *(config.n_embd,) * 4)


def test_the_demo_s_geometry_is_its_weights() -> None:
    geometry = geometry_of("demo")
    assert geometry is not None
    (weights,) = (assets_dir() / "backbone").glob("*.safetensors")
    with safe_open(weights, "pt") as tensors:
        shapes = {name: tensors.get_slice(name).get_shape() for name in tensors.keys()}
    fused = [shape for name, shape in shapes.items() if name.endswith("attn.c_attn.weight")]
    assert len(fused) == geometry.blocks
    assert fused[0] == [geometry.width, geometry.query + geometry.key + geometry.value]


def test_a_local_folder_of_either_type(tmp_path: Path) -> None:
    GPT2Config(n_layer=3, n_embd=24, n_head=2).save_pretrained(tmp_path / "gpt2")
    assert geometry_of(str(tmp_path / "gpt2")) == Geometry(3, 24, 24, 24, 24)
    LlamaConfig(hidden_size=64, num_hidden_layers=5, num_attention_heads=8, num_key_value_heads=2).save_pretrained(
        tmp_path / "llama"
    )
    assert geometry_of(str(tmp_path / "llama")) == Geometry(5, 64, 64, 16, 16)


@pytest.mark.parametrize("family", ["Llama", "Mistral", "Qwen2", "Qwen3", "Gemma", "Gemma3Text", "Olmo2", "SmolLM3"])
def test_the_geometry_of_llama_s_descendants_is_that_of_their_layers(tmp_path: Path, family: str) -> None:
    config = getattr(transformers, f"{family}Config")(
        vocab_size=11, hidden_size=24, intermediate_size=16, num_hidden_layers=3, num_attention_heads=6,
        num_key_value_heads=2, head_dim=10, bos_token_id=0, eos_token_id=1, pad_token_id=None,
    )  # fmt: skip
    config.save_pretrained(tmp_path)
    with torch.device("meta"):
        layers = transformers.AutoModelForCausalLM.from_config(config).model.layers
    own = layers[0].self_attn
    loaded = (
        len(layers),
        own.q_proj.in_features,
        *(part.out_features for part in (own.q_proj, own.k_proj, own.v_proj)),
    )
    assert geometry_of(str(tmp_path)) == loaded == (3, 24, 60, 20, 20)


def test_a_first_llama_shares_no_heads(tmp_path: Path) -> None:
    text = '{"model_type": "llama", "hidden_size": 64, "num_attention_heads": 8, "num_hidden_layers": 5}'
    (tmp_path / "config.json").write_text(text, encoding="utf-8")
    assert geometry_of(str(tmp_path)) == Geometry(5, 64, 64, 64, 64)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "not JSON",
        "[]",
        "{}",
        '{"model_type": "bert"}',
        '{"model_type": "bert", "hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 1}',
        '{"model_type": "gpt2"}',
        '{"model_type": "gpt2", "n_layer": null, "n_embd": 4}',
        '{"model_type": "llama", "hidden_size": 8, "num_attention_heads": 0, "num_hidden_layers": 1}',
    ],
)
def test_a_config_of_another_kind_has_no_geometry(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text, encoding="utf-8")
    assert geometry_of(str(tmp_path)) is None


def test_an_unknown_backbone_has_no_geometry_before_it_is_loaded(tmp_path: Path) -> None:
    assert geometry_of("some-lab/some-model") is None
    assert geometry_of(str(tmp_path / "missing")) is None
    (tmp_path / "file").write_text(json.dumps({}), encoding="utf-8")
    assert geometry_of(str(tmp_path / "file")) is None


def test_a_reward_model_s_head_by_hand() -> None:
    # 3·768 inputs and a bias to 64 units, 64 weights and a bias to the score
    assert num_head_params(768, 64) == 2305 * 64 + 64 + 1 == 147_585


def test_reward_payload_follows_the_row_and_what_is_trained() -> None:
    both = with_changes(RunConfig(), {"reward.hidden": 64})
    assert num_reward_upload_params(METHODS["pwff"], both) == 2 * 147_585
    assert num_reward_upload_params(METHODS["sfl"], both) == 147_585  # helpfulness alone
    assert num_reward_upload_params(METHODS["local"], both) == 0
    whole = with_changes(RunConfig(), {"reward.trainable": "all"})
    # one whole reward model at 5 dB and 1 MHz: about twenty minutes on the air
    seconds = 32 * num_reward_upload_params(METHODS["sfl"], whole) / ergodic_rate_bps(10**0.5, 1e6)
    assert seconds == pytest.approx(1239, abs=2)


# ---- what crosses the air, part by part ---------------------------------------------------------------------------


def test_every_part_of_every_method_has_one_fate() -> None:
    config = preset_config("paper")
    rows = {
        name: " ".join(cell.fate for cell in fates(method, GPT2_SMALL, config).values())
        for name, method in METHODS.items()
    }
    assert rows == {
        "pwff": "uploaded home uploaded",
        "vanilla_fl": "uploaded uploaded untrained",
        "fedada": "uploaded untrained untrained",
        "fedlora": "untrained uploaded untrained",
        "sfl": "uploaded home uploaded",
        "pfl": "uploaded uploaded uploaded",
        "shepherd": "untrained uploaded uploaded",
        "local": "home home home",
        "centralised": "pooled pooled pooled",
    }


def test_the_uploaded_parts_have_the_sizes_that_the_link_is_priced_by() -> None:
    config = with_changes(RunConfig(), {"price_as": "gpt2"})
    for method in METHODS.values():
        cells = fates(method, TINY, config)
        sent = {part: cell.num_params for part, cell in cells.items() if cell.fate == "uploaded"}
        assert sent.pop("reward", 0) == num_reward_upload_params(method, config)
        assert sent == num_upload_params(method, TINY, config)
        assert all(cell.num_params > 0 or cell.fate == "untrained" for cell in cells.values())
    assert fates(METHODS["pwff"], TINY, config)["lora"] == ("home", 442_368)
    assert fates(METHODS["sfl"], TINY, config)["reward"] == ("uploaded", 147_585)  # one reward, one head
    assert fates(METHODS["local"], TINY, config)["reward"] == ("home", 2 * 147_585)
