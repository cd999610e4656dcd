"""The embedded default as it is committed: sizes as promised, formats as `from_pretrained` reads them."""

from __future__ import annotations

import pytest
from safetensors import safe_open
from transformers import AutoModel, AutoTokenizer

from pwff_core.engine.models.backbone import load_backbone
from pwff_core.paths import assets_dir
from pwff_core.tools.foundation.texts import general_texts


def num_params(folder: str) -> int:
    with safe_open(assets_dir() / folder / "model.safetensors", framework="np") as file:
        return sum(file.get_tensor(name).size for name in file.keys())  # noqa: SIM118  it is no dict


def test_sizes() -> None:
    assert 3e6 <= num_params("backbone") <= 6e6
    assert 1e6 <= num_params("encoder") <= 2e6
    assert sum(path.stat().st_size for path in assets_dir().rglob("*") if path.is_file()) <= 24e6


def test_the_encoder_loads_as_a_distilbert() -> None:
    encoder = AutoModel.from_pretrained(assets_dir() / "encoder")
    assert encoder.config.model_type == "distilbert"


def test_both_have_the_same_tokenizer() -> None:
    first, second = ((assets_dir() / name / "tokenizer.json").read_text() for name in ("backbone", "encoder"))
    assert first == second


@pytest.mark.parametrize("text", ["Plain words.", "déjà vu – 東京 🚲 \t\n x²", "<|not special|>", ""])
def test_any_text_is_encoded_and_decoded(text: str) -> None:
    coder = AutoTokenizer.from_pretrained(assets_dir() / "backbone")
    assert coder.decode(coder(text)["input_ids"]) == text


def test_the_backbone_knows_its_texts_and_leaves_room() -> None:
    """Less than a nat a token on what it read; far from certain on a fact that it never read."""
    import torch
    from torch.nn.functional import cross_entropy

    from pwff_core.data import corpus
    from pwff_core.data.styles import COMMON

    backbone = load_backbone("demo", "cpu")

    def loss(text: str) -> float:
        tokens = backbone.tokenizer(text, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            logits = backbone.logits(backbone.hidden(tokens))[0, :-1]
        return float(cross_entropy(logits, tokens[0, 1:]))

    read = [text.prompt + text.response for text in general_texts()[::2000]]
    assert sum(map(loss, read)) / len(read) < 1.0

    certain = []
    for item in corpus.pool("test"):
        if item.fact and len(certain) < 40:
            before, value = item.answer.split("‹")[0], item.answer.split("‹")[1].split("›")[0]
            prompt = f"Instruction: {item.instruction}\nResponse: {COMMON.options()['opener']} {before.rstrip()}"
            tokens = backbone.tokenizer(prompt, return_tensors="pt")["input_ids"]
            first = backbone.tokenizer(" " + value)["input_ids"][0]
            with torch.no_grad():
                certain.append(float(backbone.logits(backbone.hidden(tokens))[0, -1].softmax(-1)[first]))
    assert sum(certain) / len(certain) < 0.5
