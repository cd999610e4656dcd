"""Encoders of many families, each against plain transformers, and a sentence for every model that cannot be one."""

from __future__ import annotations

import copy
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from transformers import AutoConfig, AutoModel, AutoTokenizer, BertTokenizerFast, DistilBertTokenizerFast

from pwff_core.engine.models.encoder import (
    PADDING,
    EncodedTexts,
    Encoder,
    Text,
    load_encoder,
)
from pwff_core.engine.models.encoder_checks import FITTING
from pwff_core.engine.models.reward_models import new_reward_models
from pwff_core.engine.models.stacked import ENCODER, encoder_states
from pwff_core.engine.stages.reward import bradley_terry
from pwff_core.errors import ModelError
from pwff_core.wireless.payload import DISTILBERT_PARAMS, DISTILBERT_WIDTH, num_head_params
from tests.support.encoders import (
    FAMILIES,
    WORDS,
    family_folder,
    plain_features,
    prompt_length,
    wordpiece_folder,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return wordpiece_folder(tmp_path_factory.mktemp("wordpiece"))


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Encoder]:
    folder = family_folder(tmp_path_factory.mktemp(request.param), request.param)
    return folder, load_encoder(str(folder), "cpu")


SAID = [Text("say hello there", " good fine no"), Text("please", " bad", ended=False), Text("no", " say fine")]


def causal(length: int) -> torch.Tensor:
    return torch.ones(length, length, dtype=torch.bool).tril()[None, None]


def test_features_equal_those_of_transformers_alone(family: tuple[Path, Encoder]) -> None:
    folder, encoder = family
    plain, coder = AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    encoded = EncodedTexts(encoder, [SAID])
    for place, text in enumerate(SAID):
        ids = coder(text.prompt + text.response, return_tensors="pt").input_ids  # with the family's own start and end
        states = plain(input_ids=ids[:, : None if text.ended else -1]).last_hidden_state[0]
        expected = plain_features(states, prompt_length(text.prompt))
        torch.testing.assert_close(encoded.features[place], expected, atol=1e-5, rtol=0)


def test_a_causal_state_equals_that_of_its_prefix_alone(family: tuple[Path, Encoder]) -> None:
    encoder = family[1]
    ids, _ = encoder.padded(encoder.tokenise([Text("say hello there", " good fine no bad please", ended=False)])[0])
    states = encoder.states(ids, causal(ids.shape[1]))
    for end in range(1, ids.shape[1] + 1):
        alone = encoder.states(ids[:, :end], causal(end))
        torch.testing.assert_close(states[:, end - 1], alone[:, -1], atol=1e-5, rtol=0)


@pytest.mark.parametrize("family", ["bert", "roberta", "xlm-roberta", "electra"], indirect=True)
def test_a_causal_state_equals_that_of_the_family_s_own_decoder(family: tuple[Path, Encoder]) -> None:
    folder, encoder = family
    config = AutoConfig.from_pretrained(folder, is_decoder=True)
    decoder = AutoModel.from_pretrained(folder, config=config).eval()
    ids, _ = encoder.padded(encoder.tokenise(SAID[:1])[0])
    own = decoder(input_ids=ids, use_cache=False).last_hidden_state
    torch.testing.assert_close(encoder.states(ids, causal(ids.shape[1])), own, atol=1e-5, rtol=0)


def test_stacked_encoders_equal_each_client_s_alone(family: tuple[Path, Encoder]) -> None:
    folder, encoder = family
    generator = torch.Generator().manual_seed(1)
    own = {
        ENCODER + name: torch.stack([weight + 0.05 * torch.randn(weight.shape, generator=generator) for _ in range(2)])
        for name, weight in encoder.model.named_parameters()
    }
    rows, _ = encoder.tokenise(SAID)
    ids, parts = encoder.padded(rows)
    whole = encoder_states(encoder, own, ids.expand(2, -1, -1), (parts != PADDING).expand(2, -1, -1)[:, :, None, None])
    left = encoder_states(encoder, own, ids.expand(2, -1, -1), causal(ids.shape[1]))
    for client in range(2):
        alone = load_encoder(str(folder), "cpu")
        alone.model.load_state_dict({name[8:]: tensor[client] for name, tensor in own.items()}, strict=False)
        for place, row in enumerate(rows):
            length = row.shape[1]
            unpadded = torch.from_numpy(row[:1])
            seen = alone.states(unpadded, torch.ones(1, length, dtype=torch.bool))
            torch.testing.assert_close(whole[client, place, :length], seen[0], atol=1e-5, rtol=0)
            seen = alone.states(unpadded, causal(length))
            torch.testing.assert_close(left[client, place, :length], seen[0], atol=1e-5, rtol=0)


def test_every_weight_of_an_encoder_is_used(family: tuple[Path, Encoder]) -> None:
    encoder = family[1]
    model = copy.deepcopy(encoder.model).requires_grad_(True)
    model(input_ids=torch.tensor([[5, 6, 7]])).last_hidden_state.square().sum().backward()
    assert [name for name, weight in model.named_parameters() if weight.grad is None] == []


def test_the_longest_text_is_read_whole(family: tuple[Path, Encoder]) -> None:
    encoder = family[1]
    [(tokens, _)], cut = encoder.tokenise([Text("say " * 40, " good")])
    assert (len(tokens), cut) == (encoder.context, 1)
    learned = [name for name, _ in encoder.model.named_parameters() if "position_embeddings" in name]
    ids = torch.tensor([[5] * encoder.context])
    assert encoder.states(ids, torch.ones_like(ids).bool()).shape == (1, encoder.context, encoder.width)
    if learned:
        longer = torch.tensor([[5] * (encoder.context + 1)])
        with pytest.raises((IndexError, RuntimeError)):
            encoder.states(longer, torch.ones_like(longer).bool())


def test_start_and_end_tokens_serve_as_cls_and_sep(tmp_path: Path) -> None:
    path = family_folder(tmp_path, "roberta") / "tokenizer_config.json"
    config = json.loads(path.read_text())
    config |= {"bos_token": config.pop("cls_token"), "eos_token": config.pop("sep_token")}
    path.write_text(json.dumps(config))
    [(tokens, _)], _ = (encoder := load_encoder(str(tmp_path), "cpu")).tokenise([Text("say", " good")])
    assert encoder.tokenizer.convert_ids_to_tokens(tokens) == ["<s>", "say", "Ġgood", "</s>"]


# What cannot be an encoder


def problem(name: object) -> str:
    with pytest.raises(ModelError) as caught:
        load_encoder(str(name), "cpu")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def saved(model: Any, folder: Path) -> Path:
    """The model with the tokenizer that BERT's kin have."""
    BertTokenizerFast(vocab={word: place for place, word in enumerate(WORDS)}).save_pretrained(folder)
    model.save_pretrained(folder)
    return folder


def test_missing_encoders_are_refused(folder: Path, tmp_path: Path) -> None:
    assert "--reward.encoder demo" in problem("nobody/nothing")
    assert "has no config.json" in problem(tmp_path)
    cut = shutil.copytree(folder, tmp_path / "cut") / "model.safetensors"
    cut.write_bytes(cut.read_bytes()[:-100])
    assert "cannot be loaded as an encoder" in problem(cut.parent)


def test_pickled_weights_are_not_read(folder: Path, tmp_path: Path) -> None:
    pickled = shutil.copytree(folder, tmp_path / "pickled")
    torch.save(load_encoder(str(folder), "cpu").model.state_dict(), pickled / "pytorch_model.bin")
    (pickled / "model.safetensors").unlink()
    assert "has pickled weights only, which may run code as they load" in problem(pickled)


def test_language_models_are_refused(tiny_backbone: Path, tmp_path: Path) -> None:
    assert "is a gpt2 model, a causal language model. What fits is a bidirectional encoder" in problem(tiny_backbone)
    config = transformers.T5Config(vocab_size=len(WORDS), d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2)
    message = problem(saved(transformers.T5Model(config), tmp_path))
    assert "is a t5 model, an encoder with a decoder. What fits" in message


SIZES = {
    "vocab_size": len(WORDS), "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
    "intermediate_size": 16, "max_position_embeddings": 24, "initializer_range": 0.2,
}  # fmt: skip


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: transformers.BertModel(transformers.BertConfig(**SIZES, is_decoder=True)), "nothing of what follows"),
        (lambda: transformers.FNetModel(transformers.FNetConfig(**SIZES)), "change with the padding"),
        (
            lambda: transformers.MobileBertModel(
                transformers.MobileBertConfig(**SIZES, embedding_size=16, intra_bottleneck_size=8, true_hidden_size=8)
            ),
            "later tokens even under a causal mask",
        ),
        (lambda: transformers.DebertaV2Model(transformers.DebertaV2Config(**SIZES)), "cannot read as critics do"),
    ],
    ids=["a causal BERT", "FNet", "MobileBERT", "DeBERTa"],
)
def test_models_that_read_wrongly_are_refused(make: Callable[[], Any], why: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    message = problem(saved(make(), tmp_path))
    assert why in message
    assert message.endswith(FITTING)


def test_an_encoder_that_lacks_weights_is_refused(folder: Path, tmp_path: Path) -> None:
    deeper = shutil.copytree(folder, tmp_path / "deeper")
    config = json.loads((deeper / "config.json").read_text())
    (deeper / "config.json").write_text(json.dumps(config | {"n_layers": 3}))
    assert "lacks weights of its encoder, such as transformer.layer.2." in problem(deeper)


def test_tokenizers_that_do_not_fit_are_refused(folder: Path, tmp_path: Path) -> None:
    other = shutil.copytree(folder, tmp_path / "other")
    path = other / "tokenizer_config.json"
    kept = {name: value for name, value in json.loads(path.read_text()).items() if name != "cls_token"}
    path.write_text(json.dumps(kept | {"tokenizer_class": "PreTrainedTokenizerFast"}))
    assert "lacks a cls (or bos), sep (or eos) or pad token" in problem(other)
    larger = shutil.copytree(folder, tmp_path / "larger")
    words = (*WORDS, "more", "than", "it", "knows")
    DistilBertTokenizerFast(vocab={word: place for place, word in enumerate(words)}).save_pretrained(larger)
    assert "has 21 tokens and its encoder 17; give a matching pair." in problem(larger)
    without = shutil.copytree(folder, tmp_path / "without", ignore=shutil.ignore_patterns("tokenizer*"))
    assert "has no tokenizer; add its files" in problem(without)


# As large as the paper's


@pytest.mark.slow
def test_a_full_size_distilbert_trains(tmp_path: Path) -> None:
    words = (*WORDS[:5], *(f"w{place}" for place in range(30_522 - 5)))
    DistilBertTokenizerFast(vocab={word: place for place, word in enumerate(words)}).save_pretrained(tmp_path)
    transformers.DistilBertForMaskedLM(transformers.DistilBertConfig()).save_pretrained(tmp_path)
    encoder = load_encoder(str(tmp_path), "cpu")
    assert sum(weight.numel() for weight in encoder.model.parameters()) == DISTILBERT_PARAMS == 66_362_880
    assert (encoder.context, encoder.width) == (512, DISTILBERT_WIDTH)
    generator = random.Random(0)
    texts = [Text(" ".join(generator.choices(words[5:], k=30)), f" w{place} w7") for place in range(64)]
    encoded = EncodedTexts(encoder, [texts])
    models = new_reward_models(encoder, ("helpfulness",), 1, 64, "all", torch.Generator().manual_seed(0))
    assert sum(tensor.numel() for tensor in models.tensors["helpfulness"].values()) == (
        DISTILBERT_PARAMS + num_head_params(DISTILBERT_WIDTH, 64)
    )
    assert encoded.features.shape == (64, 3 * 768)
    four = torch.arange(4)[None]
    before = models.raw("helpfulness", encoded, four)
    optimiser = torch.optim.AdamW([*models.tensors["helpfulness"].values()], 1e-4)
    bradley_terry(before[:, :2], before[:, 2:], torch.zeros(1, 2, dtype=torch.bool)).mean().backward()
    optimiser.step()
    gaps = [scores[:, :2] - scores[:, 2:] for scores in (before.detach(), models.assess("helpfulness", encoded, four))]
    assert float(gaps[1].mean()) > float(gaps[0].mean())
