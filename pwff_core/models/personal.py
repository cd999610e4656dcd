"""One client's model as files for other programs: a LoRA folder that `peft` loads, and the adapters beside it.

    adapter_config.json, adapter_model.safetensors    LoRA, for peft.PeftModel.from_pretrained(backbone, folder)
    adapters.safetensors, adapters.json               bottleneck adapters, and how each one is applied

Our LoRA modules of a block's query, key and value, each of rank r, are together one LoRA of rank 3r on the fused
projection (GPT-2's c_attn), whose B is block-diagonal:

    x [A_q A_k A_v] diag(B_q, B_k, B_v) · 3α/3r  =  [x A_q B_q, x A_k B_k, x A_v B_v] · α/r
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from pwff_core.errors import ModelError
from pwff_core.methods import METHODS
from pwff_core.models.saved import SavedModels, of_client
from pwff_core.records import When

_PARTS = "qkv"
_MODULES = {"attn_out": "attn.c_proj", "mlp_out": "mlp.c_proj", "block_out": ""}  # adapter site → GPT-2's module
_FORMULA = "y + gelu(y @ down + down_bias) @ up + up_bias"


def write_personal(folder: Path, saved: SavedModels, client: int, when: When) -> list[Path]:
    """Write one client's model into `folder`, which is made; returns the files' paths.

    ModelError for a client that is not there, for `before` without alignment, and for a method that trains no LoRA.
    OSError if the folder cannot be written.
    """
    tensors = of_client(saved, client, when)
    if "lora" not in tensors:
        raise ModelError(
            f"{METHODS[saved.config.method].label} trains no LoRA, so there is nothing for peft to load; "
            "choose a run of a method that does, such as PWFF."
        )
    folder.mkdir(parents=True, exist_ok=True)
    _peft_config(saved).save_pretrained(str(folder))
    save_file(
        _fused_lora(tensors["lora"], saved.placed[client]), folder / "adapter_model.safetensors", {"format": "pt"}
    )
    files = ["adapter_config.json", "adapter_model.safetensors"]
    if "adapters" in tensors:
        adapters = {name: tensor.contiguous() for name, tensor in tensors["adapters"].items()}
        save_file(adapters, folder / "adapters.safetensors", {"format": "pt"})
        text = json.dumps(_adapter_sites(adapters), indent=1) + "\n"
        (folder / "adapters.json").write_text(text, encoding="utf-8", newline="\n")
        files += ["adapters.safetensors", "adapters.json"]
    return [folder / name for name in files]


def _peft_config(saved: SavedModels) -> Any:
    from peft import LoraConfig  # seconds that only an export needs

    rank, backbone = len(_PARTS) * saved.config.lora.rank, saved.config.backbone
    return LoraConfig(
        # the embedded backbone has no name that another computer could find it by
        base_model_name_or_path=None if backbone == "demo" else backbone,
        task_type="CAUSAL_LM",
        r=rank,
        lora_alpha=len(_PARTS) * saved.config.lora.alpha,  # type: ignore[arg-type] # any number will do
        target_modules=["c_attn"],
        fan_in_fan_out=True,  # GPT-2 keeps its matrices as (inputs, outputs)
        inference_mode=True,
    )


def _fused_lora(lora: Mapping[str, Tensor], placed: Tensor) -> dict[str, Tensor]:
    """peft's tensors of every block: A (3r, d), and B (3d, 3r), which is zero where LoRA is not placed (blocks, 3)."""
    fused = {}
    for block, on in enumerate(placed.tolist()):
        a = [lora[f"h.{block}.attn.{part}.lora_a"] for part in _PARTS]  # (d, r) each
        b = [lora[f"h.{block}.attn.{part}.lora_b"] * own for part, own in zip(_PARTS, on, strict=True)]  # (r, d) each
        key = f"base_model.model.transformer.h.{block}.attn.c_attn"
        fused[f"{key}.lora_A.weight"] = torch.cat(a, dim=1).T.contiguous()
        fused[f"{key}.lora_B.weight"] = torch.block_diag(*b).T.contiguous()
    return fused


def _adapter_sites(adapters: Mapping[str, Tensor]) -> dict[str, Any]:
    """Where each adapter acts and which tensors it has, for whoever writes a few lines to apply them."""
    sites = []
    for name in adapters:
        site, _, tensor = name.rpartition(".")
        if tensor == "down":
            block, _, place = site.rpartition(".")  # "h.0", "attn_out"
            shapes = {key: list(adapters[f"{site}.{key}"].shape) for key in ("down", "down_bias", "up", "up_bias")}
            module = f"transformer.{block}.{_MODULES[place]}".rstrip(".")
            sites.append({"site": site, "module": module, "shapes": shapes})
    return {"output": _FORMULA, "y": "the module's output (…, d)", "gelu": "tanh approximation", "sites": sites}
