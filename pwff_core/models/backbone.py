"""The frozen causal language model that all clients share, and the sites where adapters and LoRA attach."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from pwff_core.errors import ModelError
from pwff_core.paths import assets_dir

GELU_SAME = {"gelu_new": "gelu_pytorch_tanh"}  # the same function, fused: several times faster on a CPU


class Projection(NamedTuple):
    """A linear layer, or a slice of a fused one, that a LoRA module adds to."""

    name: str  # "h.0.attn.q"
    module: nn.Module
    inputs: int
    outputs: int
    offset: int  # of this slice in the module's output
    width: int  # of the module's whole output


class AdapterSite(NamedTuple):
    """A module whose output (…, d) an adapter adds to."""

    name: str  # "h.0.attn_out"
    module: nn.Module
    width: int


class Backbone(NamedTuple):
    """A loaded model: frozen weights, tokenizer, sites by block."""

    model: Any  # transformers' PreTrainedModel with a language-model head
    tokenizer: Any  # a fast tokenizer with an end token
    attention: tuple[tuple[Projection, ...], ...]  # a block's (query, key, value)
    adapters: tuple[AdapterSite, ...]  # three a block
    context: int  # most tokens of a sequence
    device: torch.device

    def hidden(self, tokens: torch.Tensor) -> torch.Tensor:
        """Last hidden states (B, T, d) of tokens (B, T); padding stands on the right, so causality alone masks it."""
        return self.model.base_model(input_ids=tokens, use_cache=False).last_hidden_state  # type: ignore[no-any-return]

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Vocabulary scores (…, V) of hidden states (…, d)."""
        return self.model.get_output_embeddings()(hidden)  # type: ignore[no-any-return]

    def autocast(self) -> AbstractContextManager[None]:
        """Matrix products in bfloat16 where the frozen weights are; nothing changes where they are float32."""
        half = self.attention[0][0].module.weight.dtype == torch.bfloat16
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=half)


def pick_device(wanted: str) -> torch.device:
    """`auto` takes CUDA where there is one. ModelError if CUDA is asked for and absent."""
    if wanted == "cuda" and not torch.cuda.is_available():
        raise ModelError("device = cuda, but PyTorch finds no CUDA device here. Use --device auto or --device cpu.")
    return torch.device("cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu")


def load_backbone(name: str, device: str = "auto", precision: str = "float32") -> Backbone:
    """Load and freeze a GPT-2-family model: `demo`, a folder, or a Hub id. Weights come from safetensors alone.

    ModelError if it cannot be had, is no causal language model of a known family, or has no fast tokenizer.
    """
    import transformers

    transformers.utils.logging.disable_progress_bar()
    source = str(assets_dir() / "backbone") if name == "demo" else name
    try:
        model = transformers.AutoModelForCausalLM.from_pretrained(
            source, dtype=torch.float32, use_safetensors=True, attn_implementation="sdpa"
        )
        tokenizer = transformers.AutoTokenizer.from_pretrained(source, use_fast=True)
    except (OSError, ValueError) as error:
        raise ModelError(_why_not(name, error)) from None
    if model.config.model_type != "gpt2":
        raise ModelError(f"{name} is a {model.config.model_type} model; GPT-2-family models are supported.")
    if tokenizer.eos_token_id is None or not tokenizer.is_fast:
        raise ModelError(f"The tokenizer of {name} lacks an end token or a fast version (tokenizer.json); add one.")
    _fuse_activation(model)
    model.requires_grad_(False).eval().to(pick_device(device))
    if precision == "bfloat16":
        _halve_products(model)
    attention, adapters = _gpt2_sites(model)
    return Backbone(model, tokenizer, attention, adapters, model.config.n_positions, model.device)


def _why_not(name: str, error: Exception) -> str:
    if Path(name).exists():
        return (
            f"{name} cannot be loaded as a causal language model with safetensors weights: {str(error).splitlines()[0]}"
        )
    if name == "demo":
        return (
            f"The embedded backbone is missing from {assets_dir()}. Get a complete checkout, or run `make foundation`."
        )
    return (
        f"The backbone {name!r} is neither a folder here nor in the Hub's local cache, and it could not be fetched. "
        "Check the name and the network, or use the embedded default: --backbone demo."
    )


def _fuse_activation(model: Any) -> None:
    from transformers.activations import ACT2FN

    fused = GELU_SAME.get(model.config.activation_function)
    for block in model.transformer.h if fused else ():
        block.mlp.act = ACT2FN[fused]


def _halve_products(model: Any) -> None:
    """The weights of the blocks' matrix products in bfloat16; norms, embeddings and the head stay float32."""
    for block in model.transformer.h:
        for module in (block.attn.c_attn, block.attn.c_proj, block.mlp.c_fc, block.mlp.c_proj):
            module.to(torch.bfloat16)


def _gpt2_sites(model: Any) -> tuple[tuple[tuple[Projection, ...], ...], tuple[AdapterSite, ...]]:
    attention, adapters = [], []
    width = model.config.n_embd
    for index, block in enumerate(model.transformer.h):
        name = f"h.{index}"
        attention.append(
            tuple(
                Projection(f"{name}.attn.{part}", block.attn.c_attn, width, width, slot * width, 3 * width)
                for slot, part in enumerate("qkv")
            )
        )
        adapters += [
            AdapterSite(f"{name}.attn_out", block.attn.c_proj, width),
            AdapterSite(f"{name}.mlp_out", block.mlp.c_proj, width),
            AdapterSite(f"{name}.block_out", block, width),
        ]
    return tuple(attention), tuple(adapters)
