"""One client's model as files for other programs: a LoRA folder that `peft` loads, and the adapters beside it.

    adapter_config.json, adapter_model.safetensors    LoRA, for peft.PeftModel.from_pretrained(backbone, folder)
    adapters.safetensors, adapters.json               bottleneck adapters, and how each one is applied

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
from safetensors.torch import save_file
from torch import Tensor, nn

from pwff_core.engine.models.backbone import Projection, Sites, empty_backbone
from pwff_core.engine.models.pretrained import read_config
from pwff_core.engine.models.saved_models import SavedModels, of_client
from pwff_core.errors import ModelError
from pwff_core.methods import METHODS
from pwff_core.records import When

_FORMULA = "y + gelu(y @ down + down_bias) @ up + up_bias"


def write_personal(folder: Path, saved: SavedModels, client: int, when: When) -> list[Path]:
    """Write one client's model into `folder`, which is made; returns the files' paths.

    ModelError for a client that is not there, for `before` without alignment, for a method that trains no LoRA, and
    where the backbone's config.json, which names its modules, cannot be read.
    OSError if the folder cannot be written.
    """
    tensors = of_client(saved, client, when)
    if "lora" not in tensors:
        raise ModelError(
            f"{METHODS[saved.config.method].label} trains no LoRA, so there is nothing for peft to load; "
            "choose a run of a method that does, such as PWFF."
        )
    model, sites = empty_backbone(saved.config.backbone, read_config(saved.config.backbone, "backbone"))
    modules = {module: name for name, module in model.named_modules()}
    folder.mkdir(parents=True, exist_ok=True)
    _peft_config(saved, sites, modules).save_pretrained(str(folder))
    lora = _peft_lora(tensors["lora"], saved.placed[client], sites, modules)
    save_file(lora, folder / "adapter_model.safetensors", {"format": "pt"})
    files = ["adapter_config.json", "adapter_model.safetensors"]
    if "adapters" in tensors:
        adapters = {name: tensor.contiguous() for name, tensor in tensors["adapters"].items()}
        save_file(adapters, folder / "adapters.safetensors", {"format": "pt"})
        text = json.dumps(_adapter_sites(adapters, sites, modules), indent=1) + "\n"
        (folder / "adapters.json").write_text(text, encoding="utf-8", newline="\n")
        files += ["adapters.safetensors", "adapters.json"]
    return [folder / name for name in files]


def _fused(block: Sequence[Projection]) -> int:
    """How many of a block's projections lie in one layer."""
    return len(block) // len({part.module for part in block})


def _peft_config(saved: SavedModels, sites: Sites, modules: Mapping[nn.Module, str]) -> Any:
    from peft import LoraConfig  # seconds that only an export needs

    fused, backbone = _fused(sites.attention[0]), saved.config.backbone
    targets = {modules[part.module].rpartition(".")[2] for block in sites.attention for part in block}
    return LoraConfig(
        # the embedded backbone has no name that another computer could find it by
        base_model_name_or_path=None if backbone == "demo" else backbone,
        task_type="CAUSAL_LM",
        r=fused * saved.config.lora.rank,
        lora_alpha=fused * saved.config.lora.alpha,  # type: ignore[arg-type] # any number will do
        target_modules=sorted(targets),
        fan_in_fan_out=fused > 1,  # GPT-2 keeps its matrices as (inputs, outputs)
        inference_mode=True,
    )


def _peft_lora(
    lora: Mapping[str, Tensor], placed: Tensor, sites: Sites, modules: Mapping[nn.Module, str]
) -> dict[str, Tensor]:
    """peft's tensors of every layer: A (r, inputs) and B (outputs, r), zero where LoRA is not placed (blocks, 3).

    In a fused layer A is (3r, inputs), and B (3·outputs, 3r) block-diagonal.
    """
    named = {}
    for block, own in zip(sites.attention, placed.tolist(), strict=True):
        layers: dict[str, list[tuple[Tensor, Tensor]]] = {}
        for part, on in zip(block, own, strict=True):
            a, b = lora[f"{part.name}.lora_a"], lora[f"{part.name}.lora_b"] * on  # (inputs, r), (r, outputs)
            layers.setdefault(modules[part.module], []).append((a, b))
        for layer, pairs in layers.items():
            key = f"base_model.model.{layer}"
            named[f"{key}.lora_A.weight"] = torch.cat([a for a, _ in pairs], dim=1).T.contiguous()
            named[f"{key}.lora_B.weight"] = torch.block_diag(*(b for _, b in pairs)).T.contiguous()
    return named


def _adapter_sites(adapters: Mapping[str, Tensor], sites: Sites, modules: Mapping[nn.Module, str]) -> dict[str, Any]:
    """Where each adapter acts and which tensors it has, for whoever writes a few lines to apply them."""
    told = []
    for site in sites.adapters:
        shapes = {key: list(adapters[f"{site.name}.{key}"].shape) for key in ("down", "down_bias", "up", "up_bias")}
        told.append({"site": site.name, "module": modules[site.module], "shapes": shapes})
    return {"output": _FORMULA, "y": "the module's output (…, d)", "gelu": "tanh approximation", "sites": told}
