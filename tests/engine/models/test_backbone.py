"""Loading: safetensors folders as `save_pretrained` writes them, and a sentence for what cannot be loaded."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import errors as hub_errors
from safetensors.torch import load_file, save_file

from pwff_core.config import AdapterConfig, LoraConfig
from pwff_core.data.encoding import PROMPT, Encoded
from pwff_core.engine.models import pretrained
from pwff_core.engine.models.backbone import load_backbone, pick_device
from pwff_core.engine.models.cohort import Cohort
from pwff_core.engine.models.decoding import decode
from pwff_core.engine.stages.batches import collate
from pwff_core.engine.stages.instruction import new_optimiser, train_step
from pwff_core.errors import ModelError
from pwff_core.wireless.payload import GPT2_SMALL, geometry_of, num_adapter_params
from tests.support.backbones import family_folder, gpt2_small_folder, llama_tokenizer
from tests.support.encoders import wordpiece_folder


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


# ---- Llama type ----------------------------------------------------------------------------------------------------

FAMILIES = (
    *("Llama", "Mistral", "Ministral", "Qwen2", "Qwen3", "Gemma", "Gemma3Text", "Olmo2", "SmolLM3", "Granite"),
    *("StableLm", "Glm4", "SeedOss", "Exaone4"),
)
NARROW = ("StableLm",)  # its heads divide the hidden size between them


@pytest.mark.parametrize("family", FAMILIES)
def test_a_descendant_of_llama_is_recognised_by_its_layers(tmp_path: Path, family: str) -> None:
    folder = family_folder(tmp_path, family, **({} if family in NARROW else {"head_dim": 16}))
    backbone = load_backbone(str(folder), "cpu")
    assert [site.name for site in backbone.adapters[3:]] == ["h.1.attn_out", "h.1.mlp_out", "h.1.block_out"]
    query, key, value = backbone.attention[1]
    assert [part.name for part in backbone.attention[1]] == ["h.1.attn.q", "h.1.attn.k", "h.1.attn.v"]
    assert len({query.module, key.module, value.module}) == 3
    wide = 32 if family in NARROW else 64  # 4 heads of 8 or 16
    assert [(p.inputs, p.outputs, p.offset, p.width) for p in backbone.attention[1]] == [
        (32, wide, 0, wide), (32, wide // 2, 0, wide // 2), (32, wide // 2, 0, wide // 2),
    ]  # fmt: skip
    assert geometry_of(str(folder)) == (2, 32, wide, wide // 2, wide // 2)
    tokens = torch.arange(2, 30)[None]
    plain = backbone.model(input_ids=tokens).logits
    torch.testing.assert_close(backbone.logits(backbone.hidden(tokens)), plain, atol=1e-5, rtol=1e-5)


def test_tied_and_untied_heads_shards_and_formats_are_one_model(tmp_path: Path) -> None:
    tokens = torch.arange(2, 30)[None]

    def scores(name: str, precision: str = "float32", **how: Any) -> torch.Tensor:
        backbone = load_backbone(str(family_folder(tmp_path / name, **how)), "cpu", precision)
        with torch.no_grad():
            return backbone.logits(backbone.hidden(tokens))

    whole = scores("whole")
    assert torch.equal(scores("shards", shard="20KB"), whole)
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 2
    assert not torch.allclose(scores("tied", tie_word_embeddings=True), whole, atol=1e-2)
    for dtype in ("float16", "bfloat16"):
        stored = scores(dtype, dtype=dtype)
        assert stored.dtype == torch.float32
        torch.testing.assert_close(stored, whole, atol=0.05 * float(whole.abs().max()), rtol=0)
        assert not torch.equal(stored, whole)
        # bfloat16 numbers are the same whether they came by way of float32 or not
        folder = shutil.copytree(tmp_path / dtype, tmp_path / f"{dtype}-as-float32")
        named = {name: tensor.float() for name, tensor in load_file(folder / "model.safetensors").items()}
        save_file(named, folder / "model.safetensors", {"format": "pt"})
        edit(folder / "config.json", dtype="float32")
        long_way = load_backbone(str(folder), "cpu", "bfloat16")
        with torch.no_grad():
            assert torch.equal(scores(dtype, "bfloat16", dtype=dtype), long_way.logits(long_way.hidden(tokens)))


@pytest.mark.parametrize(
    ("changes", "limit", "context"),
    [({}, None, 64), ({}, 24, 24), ({"sliding_window": 16}, None, 16), ({"sliding_window": None}, None, 64)],
)
def test_the_context_is_the_smallest_of_all_limits(
    tmp_path: Path, changes: dict[str, Any], limit: int | None, context: int
) -> None:
    folder = family_folder(tmp_path, "Mistral", **changes)
    if limit:
        edit(folder / "tokenizer_config.json", model_max_length=limit)
    assert load_backbone(str(folder), "cpu").context == context


# ---- end tokens and vocabularies -------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", ["generation_config.json", "config.json"])
def test_the_end_token_may_be_the_first_of_a_list_in_the_settings(tmp_path: Path, file: str) -> None:
    folder = family_folder(tmp_path)
    llama_tokenizer(end=None).save_pretrained(folder)
    for name in ("generation_config.json", "config.json"):
        edit(folder / name, eos_token_id=[1, 7] if name == file else None)
    tokenizer = load_backbone(str(folder), "cpu").tokenizer
    assert (tokenizer.eos_token, tokenizer.eos_token_id) == ("</s>", 1)


def test_a_vocabulary_without_an_end_token_is_refused(tmp_path: Path) -> None:
    folder = family_folder(tmp_path)
    llama_tokenizer(end=None).save_pretrained(folder)
    for name in ("generation_config.json", "config.json"):
        edit(folder / name, eos_token_id=None)
    assert "lacks an end token" in problem(str(folder))


def test_a_vocabulary_larger_than_the_embedding_matrix_is_refused(tmp_path: Path) -> None:
    folder = family_folder(tmp_path)
    more = llama_tokenizer()
    more.add_tokens([f"<{number}>" for number in range(100)])
    more.save_pretrained(folder)
    assert "has 400 tokens, its embedding matrix 320 rows" in problem(str(folder))


@pytest.mark.parametrize("damage", [Path.unlink, lambda file: file.write_text("{}"), lambda file: file.write_text("")])
def test_a_missing_or_broken_tokenizer_is_refused(
    tiny_backbone: Path, tmp_path: Path, damage: Callable[[Path], object]
) -> None:
    folder = shutil.copytree(tiny_backbone, tmp_path / "dumb")
    damage(folder / "tokenizer.json")
    assert "tokenizer.json" in problem(str(folder))


# ---- what cannot be loaded -------------------------------------------------------------------------------------------


def edit(file: Path, **changes: Any) -> None:
    """Change some values of a JSON file; None removes a value."""
    settings = json.loads(file.read_text(encoding="utf-8")) | changes
    file.write_text(json.dumps({key: value for key, value in settings.items() if value is not None}), encoding="utf-8")


def problem(name: str, device: str = "cpu") -> str:
    with pytest.raises(ModelError) as caught:
        load_backbone(name, device)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_an_unknown_name_is_refused() -> None:
    begun = time.monotonic()
    assert "nobody/nothing" in problem("nobody/nothing")
    assert "--backbone demo" in problem("nobody/nothing")
    assert time.monotonic() - begun < 5  # HF_HUB_OFFLINE: nobody is asked


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("./nothing", "There is no folder ./nothing"),
        ("/nowhere/at/all", "There is no folder"),
        ("a/b/c", "There is no folder"),
        ("two words", "neither a folder here nor a name that the Hub allows"),
        (__file__, "is a file"),
    ],
)
def test_impossible_names_are_refused(name: str, words: str) -> None:
    assert words in problem(name)


def test_a_model_in_the_hub_s_cache_is_loaded_without_the_network(
    tmp_path: Path, tiny_backbone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def snapshot(name: str, allow_patterns: list[str], local_files_only: bool = False) -> str:
        asked.append(local_files_only)
        assert name == "somebody/gpt2-tiny"
        return str(tiny_backbone)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    assert load_backbone("somebody/gpt2-tiny", "cpu").context == 256
    assert asked and all(asked)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (hub_errors.GatedRepoError, "is gated: ask for access on its page"),
        (hub_errors.RepositoryNotFoundError, "The Hub has no model"),
        (hub_errors.LocalEntryNotFoundError, "nor in the Hub's local cache, and it could not be fetched"),
        (hub_errors.OfflineModeIsEnabled, "could not be fetched (OfflineModeIsEnabled)"),
    ],
)
def test_what_the_hub_refuses_is_explained(monkeypatch: pytest.MonkeyPatch, error: type[Exception], words: str) -> None:
    def snapshot(name: str, allow_patterns: list[str], local_files_only: bool = False) -> str:
        raise hub_errors.LocalEntryNotFoundError("not cached") if local_files_only else error.__new__(error)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    message = problem("somebody/model")
    assert words in message and message.endswith("use the embedded default: --backbone demo.")


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    assert "has no config.json, so it is no model" in problem(str(tmp_path))


def test_a_folder_without_safetensors_is_refused(tiny_backbone: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_backbone, tmp_path / "pickled")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    message = problem(str(folder))
    assert "has pickled weights only" in message and "save_pretrained(NEW)" in message
    (folder / "pytorch_model.bin").unlink()
    assert "has no weights" in problem(str(folder))


def test_a_peft_adapter_is_refused(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "gpt2"}', encoding="utf-8")
    assert "is a PEFT adapter, not a model; the model that it adapts is gpt2." in problem(str(tmp_path))


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ("{", "cannot be used"),
        ("[]", "cannot be used"),
        ("{}", "Should have a `model_type` key"),
        ('{"model_type": "nonesuch"}', "cannot be used"),
        ('{"model_type": "gpt2", "n_head": 0}', "cannot be used"),
        ('{"model_type": "llama", "hidden_size": "wide"}', "hidden_size"),
        ('{"model_type": "gpt2", "quantization_config": {"quant_method": "gptq", "bits": 4}}', "are quantised"),
        ('{"model_type": "bert"}', "is a bert model; a backbone is a causal language model of the GPT-2 family"),
        ('{"model_type": "distilbert"}', "is a distilbert model; a backbone is"),
        ('{"model_type": "t5"}', "is a t5 model; a backbone is"),
        ('{"model_type": "opt"}', "is a opt model; a backbone is"),
        ('{"model_type": "mixtral", "num_hidden_layers": 1}', "is a mixtral model; a backbone is"),
        ('{"model_type": "gemma2", "num_hidden_layers": 1}', "cannot be used as a backbone"),
        ('{"model_type": "other", "auto_map": {"AutoConfig": "code.Config"}}', "cannot be used"),
    ],
)
def test_a_config_that_does_not_fit_is_refused_before_weights_are_read(tmp_path: Path, config: str, words: str) -> None:
    (tmp_path / "config.json").write_text(config, encoding="utf-8")
    assert words in problem(str(tmp_path))


def test_an_encoder_is_refused(tmp_path: Path) -> None:
    assert "is a distilbert model; a backbone is a causal language model" in problem(str(wordpiece_folder(tmp_path)))


def test_a_family_that_rescales_its_logits_is_refused(tmp_path: Path) -> None:
    folder = family_folder(tmp_path, "Granite", logits_scaling=8.0)
    assert "rescales its vocabulary scores, as granite may" in problem(str(folder))


def without(name: str) -> Callable[[Path], None]:
    def remove(folder: Path) -> None:
        named = load_file(folder / "model.safetensors")
        del named[name]
        save_file(named, folder / "model.safetensors", {"format": "pt"})

    return remove


def cut_short(folder: Path) -> None:
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[:-100])


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (without("model.layers.1.mlp.up_proj.weight"), "lacks 1 of its weights, such as model.layers.1.mlp.up_proj"),
        (without("lm_head.weight"), "lacks 1 of its weights, such as lm_head.weight"),
        (cut_short, "are damaged"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b""), "are damaged"),
        (lambda folder: edit(folder / "config.json", intermediate_size=50), "do not fit its config.json"),
    ],
)  # fmt: skip
def test_incomplete_weights_are_refused(tmp_path: Path, damage: Callable[[Path], object], words: str) -> None:
    folder = family_folder(tmp_path)
    damage(folder)
    assert words in problem(str(folder))


def test_a_missing_shard_is_refused(tmp_path: Path) -> None:
    folder = family_folder(tmp_path, shard="20KB")
    shards = sorted(folder.glob("model-*.safetensors"))
    shards[1].unlink()
    assert f"lacks {shards[1].name}, which its index of weights names" in problem(str(folder))
    (folder / pretrained.INDEX).write_text("{", encoding="utf-8")
    assert f"lacks {pretrained.INDEX}" in problem(str(folder))


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_cuda_without_a_cuda_device_is_refused() -> None:
    with pytest.raises(ModelError, match="no CUDA device here"):
        pick_device("cuda")
    assert pick_device("auto") == torch.device("cpu")
    assert "no CUDA device here" in problem("demo", "cuda")


# ---- full size -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_gpt2_small_at_full_size(tmp_path: Path) -> None:
    backbone = load_backbone(str(gpt2_small_folder(tmp_path)), "cpu")
    assert (len(backbone.adapters), len(backbone.attention), backbone.context) == (36, 12, 1024)
    assert geometry_of(str(tmp_path)) == GPT2_SMALL
    placed = torch.ones(2, 12, 3, dtype=torch.bool)
    cohort = Cohort(
        backbone, placed, ("adapters", "lora"), AdapterConfig(), LoraConfig(), torch.Generator().manual_seed(0)
    )
    sizes = {group: sum(tensor[0].numel() for tensor in named.values()) for group, named in cohort.tensors.items()}
    assert sizes == {"adapters": 580_968, "lora": 442_368}
    assert num_adapter_params(GPT2_SMALL, 10) == 580_968
    kinds = torch.zeros(24, dtype=torch.int8).numpy()
    kinds[:4] = PROMPT
    rows = [[Encoded(torch.arange(2, 26).numpy(), kinds, cut=False)] for _ in range(2)]
    optimiser = new_optimiser(cohort, 1e-3)
    batch = collate(rows, 0, torch.device("cpu"))
    first, second = (train_step(cohort, optimiser, [batch], 1.0) for _ in range(2))
    assert (second < first).all()
    answers = decode(cohort, [[[5, 6, 7]], [[8, 9]]], 4, 0.7, torch.Generator().manual_seed(0))
    assert answers.tokens.shape == (2, 4)
