"""The estimate's parts, counted again on a loaded model; and what is said where memory does not suffice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd.graph import saved_tensors_hooks

from pwff_core.config import RunConfig
from pwff_core.engine.models.backbone import Backbone, Sites, load_backbone
from pwff_core.engine.models.cohort import Cohort
from pwff_core.engine.models.decoding import CACHE_BYTES
from pwff_core.engine.models.encoder import load_encoder
from pwff_core.engine.models.memory import PASS_BYTES, check_memory, estimate, free_memory, tokens_of_pass
from pwff_core.engine.models.reward_models import new_reward_models
from pwff_core.engine.setup import prepare
from pwff_core.errors import ModelError
from pwff_core.knobs import with_changes
from pwff_core.methods import METHODS
from tests.support.backbones import family_folder

SMALL = {"precision": "float32", "clients": 3, "adapter.bottleneck": 4, "lora.rank": 2, "reward.hidden": 8}


def small(folder: Path, **changes: Any) -> RunConfig:
    return with_changes(RunConfig(), {**SMALL, "backbone": str(folder), **changes})


def numbers(model: Any) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def some_cohort(backbone: Backbone, config: RunConfig) -> Cohort:
    placed = torch.ones(config.clients, len(backbone.attention), 3, dtype=torch.bool)
    groups = METHODS[config.method].trains
    return Cohort(backbone, placed, groups, config.adapter, config.lora, torch.Generator().manual_seed(0))


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
@pytest.mark.parametrize("method", ["pwff", "fedada", "centralised"])
def test_weights_and_trained_parameters_equal_those_of_the_loaded_models(
    tiny_backbone: Path, tmp_path: Path, kind: str, method: str
) -> None:
    folder = tiny_backbone if kind == "gpt2" else family_folder(tmp_path)
    config = small(folder, method=method)
    need = estimate(config, 10)
    backbone, encoder = load_backbone(str(folder), "cpu"), load_encoder("demo", "cpu")
    read = 0 if method == "fedada" else numbers(encoder.model)  # FedAda ends after instruction tuning
    assert need.weights == 4 * (numbers(backbone.model) + read)
    cohort = some_cohort(backbone, config.model_copy(update={"clients": 1 if method == "centralised" else 3}))
    trained = sum(tensor.numel() for tensor in cohort.parameters())
    # each a number, a gradient and two moments; alignment keeps a reference too
    assert need.trained == trained * 4 * (4 if method == "fedada" else 5)


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_bfloat16_takes_two_bytes_a_parameter_but_for_the_head(tiny_backbone: Path, tmp_path: Path, kind: str) -> None:
    folder = tiny_backbone if kind == "gpt2" else family_folder(tmp_path)
    config = small(folder, precision="bfloat16", **{"reward.rounds": 0, "alignment.rounds": 0})
    model = load_backbone(str(folder), "cpu", "bfloat16").model
    need = estimate(config, 10)
    assert need.weights == sum(p.numel() * p.element_size() for p in model.parameters())
    plain = load_backbone(str(folder), "cpu").model
    assert need.loading == 4 * numbers(plain)  # stored in float32
    stored = small(family_folder(tmp_path / "half", dtype="bfloat16"), precision="bfloat16")
    assert estimate(stored, 10).loading == 2 * numbers(load_backbone(stored.backbone, "cpu").model)


@pytest.mark.parametrize("trainable", ["head", "all"])
def test_reward_models_count_for_every_client_and_axis(tiny_backbone: Path, trainable: str) -> None:
    config = small(tiny_backbone, **{"reward.trainable": trainable, "alignment.rounds": 0})
    encoder = load_encoder("demo", "cpu")
    models = new_reward_models(
        encoder, METHODS["pwff"].rewards, 3, config.reward.hidden, config.reward.trainable, torch.Generator()
    )
    trained = sum(tensor.numel() for named in models.tensors.values() for tensor in named.values())
    texts = 3 * 2 * 2 * (config.reward.train_pairs + config.reward.test_pairs)  # clients, axes, both answers
    features = texts * 3 * encoder.width if trainable == "head" else 0
    assert estimate(config, 10).rewards == 4 * (4 * trained + features)


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_a_pass_keeps_what_the_estimate_says(tiny_backbone: Path, tmp_path: Path, kind: str) -> None:
    folder = tiny_backbone if kind == "gpt2" else family_folder(tmp_path, hidden_size=64, intermediate_size=172)
    backbone = load_backbone(str(folder), "cpu")
    cohort = some_cohort(backbone, small(folder))
    constants = {tensor.untyped_storage().data_ptr() for tensor in (*backbone.model.parameters(), *cohort.parameters())}
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    tokens = torch.randint(2, 250, (9, 60))
    with saved_tensors_hooks(keep, lambda tensor: tensor), cohort.attached():
        hidden = backbone.hidden(tokens)
    kept_bytes = sum(size for place, size in kept.items() if place not in constants)
    allowed = PASS_BYTES / tokens_of_pass(Sites(backbone.attention, backbone.adapters), torch.float32)
    assert hidden.requires_grad
    assert 0.7 < kept_bytes / (tokens.numel() * allowed) < 1.1


@settings(max_examples=6)
@given(clients=st.integers(2, 200), batch=st.integers(1, 64), length=st.integers(8, 4096), more=st.integers(1, 9))
def test_more_of_anything_never_needs_less(
    tiny_backbone: Path, clients: int, batch: int, length: int, more: int
) -> None:
    def need(clients: int, batch: int, length: int) -> int:
        changes = {"clients": clients, "instruction.batch_size": batch, "data.max_length": length}
        return estimate(small(tiny_backbone, **changes), 10).total

    few = need(clients, batch, length)
    assert few <= need(clients, batch * more, length)
    assert few <= need(clients, batch, min(8192, length * more))
    assert few <= need(min(200, clients * more), batch, length)


def test_passes_and_answers_are_bounded(tiny_backbone: Path) -> None:
    heavy = {"instruction.batch_size": 1024, "alignment.batch_size": 4096, "alignment.max_new_tokens": 128}
    need = estimate(small(tiny_backbone, **heavy), 10)
    assert 0.99 * PASS_BYTES < need.activations <= PASS_BYTES
    assert need.cache == CACHE_BYTES


def test_a_model_too_large_is_refused_with_numbers(tmp_path: Path) -> None:
    from transformers import LlamaConfig

    LlamaConfig().save_pretrained(tmp_path)  # the config of Llama 2 with 7 billion parameters, without weights
    free = 24_000_000_000
    config = small(tmp_path, device="cpu", **{"reward.rounds": 0, "alignment.rounds": 0, "instruction.batch_size": 1})
    with pytest.raises(ModelError) as caught:
        check_memory(config, 10, free=free)
    assert str(caught.value) == (
        f"The run with the backbone {tmp_path} and 3 clients needs about 29 GB of memory: 27 GB weights, 920 MB "
        "activations, 600 MB program; 24 GB are free. Choose a smaller backbone or --precision bfloat16, or try all "
        "the same: pwff run --force."
    )
    check_memory(config, 10, free=free, force=True)
    half = with_changes(config, {"precision": "bfloat16"})
    with pytest.raises(ModelError, match="27 GB loading, 600 MB program; .* or one that is stored in bfloat16"):
        check_memory(half, 10, free=free)
    LlamaConfig(dtype="bfloat16").save_pretrained(tmp_path)
    check_memory(half, 10, free=free)


def test_a_run_checks_memory_before_it_loads(tiny_backbone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pwff_core.engine.models.memory.free_memory", lambda: 1000)
    config = small(tiny_backbone, **{"reward.rounds": 0, "alignment.rounds": 0, "data.train_examples": 4})
    with pytest.raises(ModelError, match="1.0 kB are free"):
        prepare(config)
    assert prepare(config, force=True).rounds_total == 16


def test_a_container_s_limit_counts(tmp_path: Path) -> None:
    unlimited = free_memory(tmp_path)
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("700000\n")
    (tmp_path / "memory.stat").write_text("anon 500000\ninactive_file 200000\n")
    assert free_memory(tmp_path) == pytest.approx(unlimited, rel=0.2)
    (tmp_path / "memory.max").write_text("1000000\n")
    own = psutil.Process().memory_info().rss
    assert free_memory(tmp_path) == pytest.approx(own + 500_000, abs=20e6)
