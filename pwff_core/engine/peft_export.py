"""One client's model as files for other programs: LoRA that `peft` loads, the adapters beside it, and a model card.

    adapter_config.json, adapter_model.safetensors    LoRA, for peft.PeftModel.from_pretrained(backbone, folder)
    adapters.safetensors, adapters.json               bottleneck adapters, and how each one is applied
    README.md                                         the model card

Where query, key and value are layers of their own (Llama type), so are their LoRA modules. Where they are one fused
layer (GPT-2's c_attn), our three modules of rank r are together one LoRA of rank 3r, whose B is block-diagonal:

    x [A_q A_k A_v] diag(B_q, B_k, B_v) · 3α/3r  =  [x A_q B_q, x A_k B_k, x A_v B_v] · α/r
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from safetensors.torch import save_file
from torch import Tensor, nn

from pwff_core.engine.models.backbone import Block, Sites, empty_backbone
from pwff_core.engine.models.pretrained import read_config
from pwff_core.engine.models.saved_models import SavedModels, load, of_client
from pwff_core.errors import ModelError
from pwff_core.methods import METHODS
from pwff_core.records import METRICS, RoundRecord, When
from pwff_core.runs.files import deliver
from pwff_core.runs.run_files import RunFiles
from pwff_core.runs.store import RunRow, Store

_ADAPTER_FORMULA = "y + gelu(y @ down + down_bias) @ up + up_bias"
_CARD_METRICS = ("accuracy", "helpfulness", "harmlessness", "reward", "refusal_rate", "kl")


def export_model(store: Store, run_id: str, client: int, when: When, folder: Path) -> list[Path]:
    """Write one client's model and its model card into `folder`, which is made; return the files' paths.

    StoreError if there is no such run or the folder cannot be written; ModelErrors as for `write_peft_folder`, and if
    the run's models are not kept.
    """
    row = store.run(run_id)
    saved = load(RunFiles(store.path).models(run_id))
    metrics = _last_metrics([record for _, record in store.rounds(run_id)], client, when)

    def write(inside: Path) -> list[Path]:
        files = write_peft_folder(inside, saved, client, when)
        stored_rank = json.loads((inside / "adapter_config.json").read_text(encoding="utf-8"))["r"]
        card = inside / "README.md"
        card.write_text(_model_card(row, client, when, metrics, stored_rank), encoding="utf-8", newline="\n")
        return [*files, card]

    return deliver(folder, write)


def write_peft_folder(folder: Path, saved: SavedModels, client: int, when: When) -> list[Path]:
    """Write one client's LoRA and adapters into `folder`, which is made; return the files' paths.

    ModelError if there is no such client, for `before` without alignment, for a method that trains no LoRA, and if
    the backbone's config.json, which names its modules, cannot be read. OSError if the folder cannot be written.
    """
    tensors = of_client(saved, client, when)
    if "lora" not in tensors:
        raise ModelError(
            f"{METHODS[saved.config.method].label} trains no LoRA, so there is nothing for peft to load; "
            "choose a run of a method that does, such as PWFF."
        )
    model, sites = empty_backbone(saved.config.backbone, read_config(saved.config.backbone, "backbone"))
    module_names = {module: name for name, module in model.named_modules()}
    folder.mkdir(parents=True, exist_ok=True)
    _peft_config(saved, sites, module_names).save_pretrained(str(folder))
    lora = _peft_lora(tensors["lora"], saved.placed[client], sites, module_names)
    save_file(lora, folder / "adapter_model.safetensors", {"format": "pt"})
    files = ["adapter_config.json", "adapter_model.safetensors"]
    if "adapters" in tensors:
        adapters = {name: tensor.contiguous() for name, tensor in tensors["adapters"].items()}
        save_file(adapters, folder / "adapters.safetensors", {"format": "pt"})
        text = json.dumps(_adapter_sites(adapters, sites, module_names), indent=1) + "\n"
        (folder / "adapters.json").write_text(text, encoding="utf-8", newline="\n")
        files += ["adapters.safetensors", "adapters.json"]
    return [folder / name for name in files]


def _projections_a_layer(block: Block) -> int:
    """3 where query, key and value are one fused layer, 1 where each is a layer of its own."""
    return len(block) // len({projection.module for projection in block})


def _peft_config(saved: SavedModels, sites: Sites, module_names: Mapping[nn.Module, str]) -> LoraConfig:
    fused, backbone = _projections_a_layer(sites.attention[0]), saved.config.backbone
    targets = {module_names[projection.module].rpartition(".")[2] for block in sites.attention for projection in block}
    return LoraConfig(
        # the embedded backbone has no name by which another computer could find it
        base_model_name_or_path=None if backbone == "demo" else backbone,
        task_type="CAUSAL_LM",
        r=fused * saved.config.lora.rank,
        lora_alpha=fused * saved.config.lora.alpha,  # type: ignore[arg-type] # any number will do
        target_modules=sorted(targets),
        fan_in_fan_out=fused > 1,  # GPT-2 keeps its matrices as (inputs, outputs)
        inference_mode=True,
    )


def _peft_lora(
    lora: Mapping[str, Tensor], placed: Tensor, sites: Sites, module_names: Mapping[nn.Module, str]
) -> dict[str, Tensor]:
    """peft's tensors of every layer: A (r, inputs) and B (outputs, r), zero where `placed` (blocks, 3) is false.

    In a fused layer A is (3r, inputs), and B (3·outputs, 3r) is block-diagonal.
    """
    peft_tensors = {}
    for block, placed_in_block in zip(sites.attention, placed.tolist(), strict=True):
        layers: dict[str, list[tuple[Tensor, Tensor]]] = {}
        for projection, is_placed in zip(block, placed_in_block, strict=True):
            a = lora[f"{projection.name}.lora_a"]  # (inputs, r)
            b = lora[f"{projection.name}.lora_b"] * is_placed  # (r, outputs)
            layers.setdefault(module_names[projection.module], []).append((a, b))
        for layer, pairs in layers.items():
            key = f"base_model.model.{layer}"
            peft_tensors[f"{key}.lora_A.weight"] = torch.cat([a for a, _ in pairs], dim=1).T.contiguous()
            peft_tensors[f"{key}.lora_B.weight"] = torch.block_diag(*(b for _, b in pairs)).T.contiguous()
    return peft_tensors


def _adapter_sites(
    adapters: Mapping[str, Tensor], sites: Sites, module_names: Mapping[nn.Module, str]
) -> dict[str, Any]:
    """The text of adapters.json: where each adapter acts, which tensors it has, and the formula that applies it."""
    described = []
    for site in sites.adapters:
        shapes = {key: list(adapters[f"{site.name}.{key}"].shape) for key in ("down", "down_bias", "up", "up_bias")}
        described.append({"site": site.name, "module": module_names[site.module], "shapes": shapes})
    return {
        "output": _ADAPTER_FORMULA,
        "y": "the module's output (…, d)",
        "gelu": "tanh approximation",
        "sites": described,
    }


def _last_metrics(records: Sequence[RoundRecord], client: int, when: When) -> list[tuple[str, float]]:
    """The client's newest value of each metric of the card, before or after alignment, as (metric, value)."""
    newest: dict[str, float] = {}
    for record in records:
        if (when == "before" and record.stage == "alignment") or client >= len(record.clients):
            continue
        newest |= {name: value for name, value in record.clients[client] if value is not None}
    return [(name, newest[name]) for name in _CARD_METRICS if name in newest]


def _model_card(row: RunRow, client: int, when: When, metrics: Sequence[tuple[str, float]], stored_rank: int) -> str:
    config, profile = row.config, row.profiles[client]
    fused = stored_rank != config.lora.rank
    stored = f"stored as one of rank {stored_rank} a block on the fused projection, " if fused else ""
    demo = config.backbone == "demo"
    base = "" if demo else f"base_model: {config.backbone}\n"
    backbone = 'assets_dir() / "backbone"' if demo else f'"{config.backbone}"'
    embedded = "from pwff_core.paths import assets_dir\n" if demo else ""
    weight = profile.helpfulness_weight
    metric_rows = "\n".join(f"| {METRICS[name].label} | {_card_number(name, value)} |" for name, value in metrics)
    style = ", ".join(profile.style.values()) or "none of its own"
    return f"""---
library_name: peft
{base}tags: [lora, federated-learning, pwff]
---
# Client {client} of run {row.id}, {when} alignment

One client's personal model from a federated fine-tuning run of pwff: LoRA on query, key and value, and bottleneck
adapters, on the frozen backbone `{config.backbone}`.

| | |
|---|---|
| Method | {METHODS[config.method].label}: {METHODS[config.method].summary} |
| Clients, seed | {config.clients}, {config.seed} |
| Wishes of this client's owner | helpfulness {weight:.2f}, harmlessness {1 - weight:.2f} |
| LoRA | rank {config.lora.rank}, α {config.lora.alpha:g}, {profile.lora_modules} modules; \
{stored}unplaced modules zero |
| Adapters | bottleneck {config.adapter.bottleneck} |
| House style | {style} |
{metric_rows}

## How to load

```python
from peft import PeftModel
from transformers import AutoModelForCausalLM
{embedded}
backbone = AutoModelForCausalLM.from_pretrained({backbone}, dtype="float32")
model = PeftModel.from_pretrained(backbone, "this folder")
```

That is the LoRA alone. What the client really says needs its adapters too, where the method trains them: load
`adapters.safetensors` and apply each to the output `y` of the module that `adapters.json` names.
Prompts read `Instruction: …\\nResponse:`, and the response begins after a space.

## Limits

Trained in a simulation for teaching and research, on few examples. Its manners, refusals included, are measured on
toy prompts only; it is no safe assistant. Scores are in standard deviations of the judge's scores on reference
answers, and comparable within pwff alone.
"""


def _card_number(name: str, value: float) -> str:
    unit = METRICS[name].unit
    return f"{100 * value:.1f} %" if unit == "%" else f"{value:.3f} {unit}".rstrip()
