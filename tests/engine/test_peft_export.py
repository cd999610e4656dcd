from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, PreTrainedModel

from pwff_core.config import AdapterConfig, LoraConfig, RunConfig
from pwff_core.engine.models.backbone import load_backbone
from pwff_core.engine.models.cohort import Cohort
from pwff_core.engine.models.saved_models import SavedModels, cohort_of, load, save, stacked
from pwff_core.engine.peft_export import export_model
from pwff_core.errors import ModelError, StoreError
from pwff_core.methods import METHODS
from pwff_core.records import ClientRecord, RoundRecord, When
from pwff_core.runs.run_files import RunFiles
from pwff_core.runs.store import RunStatus, Store
from tests.support.scripted import profile, record


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "runs.sqlite")


TOKENS = torch.arange(2, 32).view(2, 15)
PLACED = torch.tensor([[[0, 0, 1], [1, 1, 1]], [[1, 0, 1], [0, 0, 0]]], dtype=torch.bool)


def kept_run(store: Store, tiny_backbone: Path, method: str = "pwff", aligned: bool = True) -> str:
    """A finished run of two clients whose models, with random numbers, are kept with it."""
    config = RunConfig.model_validate(
        {"method": method, "clients": 2, "seed": 5, "backbone": str(tiny_backbone), "device": "cpu"}
    ).model_copy(update={"adapter": AdapterConfig(bottleneck=3), "lora": LoraConfig(rank=2, alpha=5.0)})
    run_id = store.create_run(config)
    store.claim(run_id)
    store.describe(run_id, (profile(0), profile(1)), (), 2)
    for stage, reward in (("reward", 0.125), ("alignment", 0.5)):
        numbers = {"helpfulness": 1.0, "harmlessness": -1.0, "reward": reward, "refusal_rate": 0.75}
        clients = tuple(ClientRecord(client=k, helpfulness_weight=0.25 + k / 2, **numbers) for k in range(2))
        fields = record(1, run_id).model_dump() | {"stage": stage, "clients": clients}
        store.append(run_id, RoundRecord.model_validate(fields))
    store.finish(run_id, RunStatus.FINISHED)
    backbone, groups = load_backbone(str(tiny_backbone), "cpu"), METHODS[config.method].trains
    moments = []
    for seed in range(2):
        generator = torch.Generator().manual_seed(seed)
        cohort = Cohort(backbone, PLACED, groups, config.adapter, config.lora, generator)
        for tensor in cohort.parameters():
            tensor.data.normal_(std=0.2, generator=generator)
        moments.append(stacked([cohort]))
    before, after = moments
    save(RunFiles(store.path).models(run_id), SavedModels(config, PLACED, before if aligned else None, after, {}))
    return run_id


def apply_adapters(model: PeftModel, folder: Path) -> None:
    """What adapters.json says, in a few plain lines: as someone without this package would write it."""
    tensors = load_file(folder / "adapters.safetensors")
    sites = json.loads((folder / "adapters.json").read_text(encoding="utf-8"))["sites"]
    modules = dict(model.base_model.model.named_modules())
    for site in sites:
        down, down_bias, up, up_bias = (tensors[f"{site['site']}.{part}"] for part in site["shapes"])

        def hook(module: Any, inputs: Any, y: Any, down=down, down_bias=down_bias, up=up, up_bias=up_bias) -> Any:
            return y + torch.nn.functional.gelu(y @ down + down_bias, approximate="tanh") @ up + up_bias

        modules[site["module"]].register_forward_hook(hook)


def plain_backbone(tiny_backbone: Path) -> PreTrainedModel:
    return AutoModelForCausalLM.from_pretrained(tiny_backbone).eval()


def logits_of(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=TOKENS).logits


def own_logits(store: Store, run_id: str, client: int, when: When, *groups: str) -> torch.Tensor:
    """The same by our own code, of some groups of the client's tensors."""
    saved = load(RunFiles(store.path).models(run_id))
    backbone = load_backbone(saved.config.backbone, "cpu")
    cohort = cohort_of(backbone, saved, [client], when)
    cohort.tensors = {group: named for group, named in cohort.tensors.items() if group in groups}
    with torch.no_grad(), cohort.attached():
        return backbone.logits(backbone.hidden(TOKENS))


@pytest.mark.parametrize(("client", "when"), [(0, "after"), (1, "after"), (1, "before")])
def test_peft_with_the_adapters_computes_what_the_client_does(
    store: Store, tiny_backbone: Path, tmp_path: Path, client: int, when: When
) -> None:
    run_id = kept_run(store, tiny_backbone)
    files = export_model(store, run_id, client, when, tmp_path / "out")
    assert [file.name for file in files] == [
        "adapter_config.json", "adapter_model.safetensors", "adapters.safetensors", "adapters.json", "README.md",
    ]  # fmt: skip
    assert all(file.is_file() for file in files)
    model = PeftModel.from_pretrained(plain_backbone(tiny_backbone), tmp_path / "out").eval()
    lora_alone = logits_of(model)
    torch.testing.assert_close(lora_alone, own_logits(store, run_id, client, when, "lora"), atol=1e-5, rtol=0)
    apply_adapters(model, tmp_path / "out")
    whole = logits_of(model)
    torch.testing.assert_close(whole, own_logits(store, run_id, client, when, "adapters", "lora"), atol=1e-5, rtol=0)
    bare = logits_of(plain_backbone(tiny_backbone))
    assert (lora_alone - bare).abs().max() > 1e-2 and (whole - lora_alone).abs().max() > 1e-2


def test_the_model_card_describes_the_model(store: Store, tiny_backbone: Path, tmp_path: Path) -> None:
    run_id = kept_run(store, tiny_backbone)
    card = export_model(store, run_id, 1, "after", tmp_path)[-1].read_text(encoding="utf-8")
    assert card.startswith(f"---\nlibrary_name: peft\nbase_model: {tiny_backbone}\ntags: [lora")
    assert f"# Client 1 of run {run_id}, after alignment" in card
    assert "| Wishes of this client's owner | helpfulness 0.75, harmlessness 0.25 |" in card
    assert "| LoRA | rank 2, α 5, 4 modules; stored as one of rank 6 a block" in card
    assert "| Reward | 0.500 sd |" in card and "| Refusals | 75.0 % |" in card
    assert f'from_pretrained("{tiny_backbone}", dtype="float32")' in card
    assert "Prompts read `Instruction: …\\nResponse:`" in card
    before = export_model(store, run_id, 1, "before", tmp_path)[-1].read_text(encoding="utf-8")
    assert "| Reward | 0.125 sd |" in before


def test_a_missing_model_is_refused(store: Store, tiny_backbone: Path, tmp_path: Path) -> None:
    run_id = kept_run(store, tiny_backbone, aligned=False)
    with pytest.raises(ModelError, match=r"^There is no client 2; this run's clients are 0 to 1\.$"):
        export_model(store, run_id, 2, "after", tmp_path / "out")
    with pytest.raises(ModelError, match="so there is no before"):
        export_model(store, run_id, 0, "before", tmp_path / "out")
    with pytest.raises(ModelError, match="^FedAda trains no LoRA, so there is nothing for peft to load;"):
        export_model(store, kept_run(store, tiny_backbone, "fedada"), 0, "after", tmp_path / "out")
    with pytest.raises(ModelError, match="^There are no models in"):
        export_model(store, store.create_run(RunConfig()), 0, "after", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match=r"^Cannot write into .*file"):
        export_model(store, run_id, 0, "after", tmp_path / "file")
