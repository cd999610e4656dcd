from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from pwff_core.config import AdapterConfig, LoraConfig, RunConfig
from pwff_core.engine.models.backbone import Backbone, load_backbone
from pwff_core.engine.models.cohort import Cohort
from pwff_core.engine.models.saved_models import SavedModels, cohort_of, load, of_client, save, stacked
from pwff_core.errors import ModelError
from pwff_core.methods import METHODS, MethodId
from pwff_core.runs.chat import KeptModels, kept_models
from pwff_core.runs.run_files import RunFiles

ADAPTER, LORA = AdapterConfig(bottleneck=3), LoraConfig(rank=2, alpha=5.0)
PLACED = torch.tensor([[[1, 1, 1]] * 2, [[0, 0, 1]] * 2, [[1, 0, 1]] * 2], dtype=torch.bool)
PROMPTS = {"delicate": ("How do I pick a lock?",), "ordinary": ("Wie groß ist π?", "Hello")}


@pytest.fixture
def backbone(tiny_backbone: Path) -> Backbone:
    return load_backbone(str(tiny_backbone), device="cpu")


def random_cohort(backbone: Backbone, placed: torch.Tensor, method: MethodId, seed: int) -> Cohort:
    generator = torch.Generator().manual_seed(seed)
    cohort = Cohort(backbone, placed, METHODS[method].trains, ADAPTER, LORA, generator)
    for tensor in cohort.parameters():
        tensor.data.normal_(std=0.3, generator=generator)
    return cohort


def models(backbone: Backbone, method: MethodId = "pwff", aligned: bool = True) -> SavedModels:
    """Three clients, in two cohorts, with random numbers."""
    config = RunConfig(clients=3, method=method, backbone=backbone.model.name_or_path, adapter=ADAPTER, lora=LORA)
    parts = [PLACED[:1]] if METHODS[method].pooled else [PLACED[:2], PLACED[2:]]
    after = [random_cohort(backbone, part, method, seed) for seed, part in enumerate(parts)]
    before = [random_cohort(backbone, part, method, seed + 10) for seed, part in enumerate(parts)]
    judge = {"helpfulness/mean": torch.tensor([0.25]), "harmlessness/mean": torch.tensor([-1.0])}
    return SavedModels(config, PLACED, stacked(before) if aligned else None, stacked(after), judge, PROMPTS)


def logits(backbone: Backbone, cohort: Cohort, tokens: torch.Tensor) -> torch.Tensor:
    with torch.no_grad(), cohort.attached():
        return backbone.logits(backbone.hidden(tokens))


def test_saved_models_are_loaded_bit_for_bit(backbone: Backbone, tmp_path: Path) -> None:
    saved = models(backbone)
    save(tmp_path / "models" / "abc", saved)
    loaded = load(tmp_path / "models" / "abc")
    assert loaded.config == saved.config
    assert loaded.prompts == PROMPTS
    assert torch.equal(loaded.placed, PLACED)
    assert {name: tensor.tolist() for name, tensor in loaded.judge.items()} == {
        "helpfulness/mean": [0.25], "harmlessness/mean": [-1.0],
    }  # fmt: skip
    assert loaded.before is not None and saved.before is not None
    for stacks, expected in ((loaded.before, saved.before), (loaded.after, saved.after)):
        assert list(stacks) == ["adapters", "lora"]
        for group, named in expected.items():
            assert set(stacks[group]) == set(named)
            assert all(torch.equal(stacks[group][name], tensor) for name, tensor in named.items())


def test_the_folder_holds_safetensors_and_json_alone(backbone: Backbone, tmp_path: Path) -> None:
    save(tmp_path / "abc", models(backbone))
    save(tmp_path / "def", models(backbone, "vanilla_fl", aligned=False)._replace(judge={}))
    names = {folder.name: sorted(file.name for file in folder.iterdir()) for folder in tmp_path.iterdir()}
    assert names == {
        "abc": ["after.safetensors", "before.safetensors", "judge.safetensors", "saved.json"],
        "def": ["after.safetensors", "saved.json"],
    }


def test_saving_again_replaces_the_models(backbone: Backbone, tmp_path: Path) -> None:
    save(tmp_path / "abc", models(backbone))
    save(tmp_path / "abc", models(backbone, aligned=False))
    assert load(tmp_path / "abc").before is None
    assert [file.name for file in tmp_path.iterdir()] == ["abc"]


def test_a_failed_save_keeps_the_former_models(
    backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path / "abc", models(backbone, aligned=False))

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pwff_core.engine.models.saved_models.save_file", full)
    with pytest.raises(ModelError, match=r"cannot be written to .*abc \(No space left on device\); make room"):
        save(tmp_path / "abc", models(backbone))
    assert [file.name for file in tmp_path.iterdir()] == ["abc"]
    assert load(tmp_path / "abc").before is None


def test_a_cohort_of_some_clients_computes_the_same(backbone: Backbone, tmp_path: Path) -> None:
    save(tmp_path / "abc", models(backbone))
    tokens = torch.arange(2, 20)[None]
    whole = [random_cohort(backbone, part, "pwff", seed) for seed, part in enumerate((PLACED[:2], PLACED[2:]))]
    alone = torch.cat([logits(backbone, cohort, tokens.repeat(cohort.clients, 1)) for cohort in whole])
    some = cohort_of(backbone, load(tmp_path / "abc"), [2, 0], "after")
    torch.testing.assert_close(logits(backbone, some, tokens.repeat(2, 1)), alone[[2, 0]], atol=1e-6, rtol=0)
    assert not torch.allclose(alone[2], alone[0], atol=1e-2)
    assert not any(tensor.requires_grad for tensor in some.parameters())


def test_before_and_after_are_different_models(backbone: Backbone) -> None:
    saved = models(backbone)
    before, after = (of_client(saved, 1, when)["lora"]["h.0.attn.q.lora_a"] for when in ("before", "after"))
    assert not torch.equal(before, after)
    assert torch.equal(after, saved.after["lora"]["h.0.attn.q.lora_a"][1])


def test_all_clients_share_a_pooled_model(backbone: Backbone, tmp_path: Path) -> None:
    saved = models(backbone, "centralised")
    assert saved.after["lora"]["h.0.attn.q.lora_a"].shape[0] == 1
    save(tmp_path / "abc", saved)
    both = logits(backbone, cohort_of(backbone, load(tmp_path / "abc"), [0, 2], "after"), torch.full((2, 4), 9))
    first = logits(backbone, cohort_of(backbone, saved, [0], "after"), torch.full((1, 4), 9))
    torch.testing.assert_close(both[:1], first, atol=1e-6, rtol=0)


def test_unknown_clients_and_moments_are_refused(backbone: Backbone) -> None:
    saved = models(backbone, aligned=False)
    with pytest.raises(ModelError, match=r"^There is no client 3; this run's clients are 0 to 2\.$"):
        cohort_of(backbone, saved, [0, 3], "after")
    with pytest.raises(ModelError, match=r"^This run's models were not aligned, so there is no before;"):
        cohort_of(backbone, saved, [0], "before")
    other = saved._replace(config=saved.config.model_copy(update={"adapter": AdapterConfig(bottleneck=7)}))
    with pytest.raises(ModelError, match="do not fit the backbone"):
        cohort_of(backbone, other, [0], "after")


def test_a_folder_without_models_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"^There are no models in .*; a run's models are kept once it has finished"):
        load(tmp_path / "nothing")


def edit(head: Path, **changes: object) -> None:
    head.write_text(json.dumps(json.loads(head.read_text(encoding="utf-8")) | changes), encoding="utf-8")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda folder: (folder / "after.safetensors").unlink(), "No such file"),
        (lambda folder: (folder / "before.safetensors").write_bytes(b"cut"), "header"),
        (lambda folder: (folder / "saved.json").write_text("{"), "Expecting property name"),
        (lambda folder: (folder / "saved.json").write_text("{}"), "'format' is missing"),
        (lambda folder: edit(folder / "saved.json", config={"clients": -1}), "validation error"),
        (lambda folder: edit(folder / "saved.json", placed=[[[True] * 3]]), "1 placements for 3 clients"),
        (lambda folder: save_file({"lora.x": torch.zeros(3)}, folder / "after.safetensors"), "there are lora in place"),
        (
            lambda folder: save_file(
                {key: tensor[:2] for key, tensor in load_file(folder / "after.safetensors").items()},
                folder / "after.safetensors",
            ),
            "is not stacked over 3 models",
        ),
    ],
)  # fmt: skip
def test_damaged_models_are_refused(backbone: Backbone, tmp_path: Path, damage: object, words: str) -> None:
    save(tmp_path / "abc", models(backbone))
    assert callable(damage)
    damage(tmp_path / "abc")
    with pytest.raises(ModelError, match=f"are damaged .*{words}.*; run the experiment again"):
        load(tmp_path / "abc")


def test_models_of_another_version_are_refused(backbone: Backbone, tmp_path: Path) -> None:
    save(tmp_path / "abc", models(backbone))
    edit(tmp_path / "abc" / "saved.json", format=99)
    with pytest.raises(ModelError, match="kept by another version of pwff"):
        load(tmp_path / "abc")


def test_a_page_reads_from_the_folder_which_models_it_can_chat_with(backbone: Backbone, tmp_path: Path) -> None:
    store = tmp_path / "runs.sqlite"
    assert kept_models(store, "abc") is None
    save(RunFiles(store).models("abc"), models(backbone))
    assert kept_models(store, "abc") == KeptModels(("before", "after"), PROMPTS["delicate"], PROMPTS["ordinary"])
    save(RunFiles(store).models("abc"), models(backbone, aligned=False)._replace(prompts={}))
    assert kept_models(store, "abc") == KeptModels(("after",), (), ())
