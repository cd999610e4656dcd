"""Loading: safetensors folders as `from_pretrained` writes them, and a sentence for what cannot be loaded."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from pwff_core.errors import ModelError
from pwff_core.models.backbone import load_backbone, pick_device


def test_sites_are_three_a_block(tiny_backbone: Path) -> None:
    backbone = load_backbone(str(tiny_backbone), "cpu")
    assert [site.name for site in backbone.adapters[:4]] == [
        "h.0.attn_out",
        "h.0.mlp_out",
        "h.0.block_out",
        "h.1.attn_out",
    ]
    assert [p.name for p in backbone.attention[1]] == ["h.1.attn.q", "h.1.attn.k", "h.1.attn.v"]
    assert [p.offset for p in backbone.attention[1]] == [0, 32, 64]
    assert not any(parameter.requires_grad for parameter in backbone.model.parameters())


def test_hidden_states_ignore_padding_on_the_right(tiny_backbone: Path) -> None:
    backbone = load_backbone(str(tiny_backbone), "cpu")
    short, padded = torch.tensor([[5, 6, 7]]), torch.tensor([[5, 6, 7, 0, 0]])
    torch.testing.assert_close(backbone.hidden(short), backbone.hidden(padded)[:, :3], atol=1e-6, rtol=0)


def test_the_fused_activation_is_the_same_function(tiny_backbone: Path) -> None:
    from transformers import GPT2LMHeadModel

    plain = GPT2LMHeadModel.from_pretrained(tiny_backbone)
    assert plain.config.activation_function == "gelu_new"
    tokens = torch.arange(2, 30)[None]
    backbone = load_backbone(str(tiny_backbone), "cpu")
    with torch.no_grad():
        torch.testing.assert_close(backbone.logits(backbone.hidden(tokens)), plain(tokens).logits, atol=1e-5, rtol=0)


def problem(name: str, device: str = "cpu") -> str:
    with pytest.raises(ModelError) as caught:
        load_backbone(name, device)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_name_that_is_nowhere() -> None:
    assert "nobody/nothing" in problem("nobody/nothing")
    assert "--backbone demo" in problem("nobody/nothing")


def test_a_folder_that_is_no_model(tmp_path: Path) -> None:
    assert "cannot be loaded as a causal language model" in problem(str(tmp_path))


def test_a_folder_without_safetensors(tiny_backbone: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_backbone, tmp_path / "pickled")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    assert "safetensors" in problem(str(folder))


def test_another_family(tmp_path: Path, tiny_backbone: Path) -> None:
    from transformers import AutoTokenizer, OPTConfig, OPTForCausalLM

    config = OPTConfig(
        vocab_size=302, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, ffn_dim=16, word_embed_proj_dim=16,
        max_position_embeddings=32,
    )  # fmt: skip
    OPTForCausalLM(config).save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(tiny_backbone).save_pretrained(tmp_path)
    assert "is a opt model" in problem(str(tmp_path))


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_cuda_asked_for_and_absent() -> None:
    with pytest.raises(ModelError, match="no CUDA device here"):
        pick_device("cuda")
    assert pick_device("auto") == torch.device("cpu")
