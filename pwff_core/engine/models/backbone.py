"""The frozen causal language model that all clients share, and the sites where adapters and LoRA attach.

Two kinds of model fit. What decides is the layers of their blocks, not a list of names:

    GPT-2 family    transformer.h[i]: one fused attn.c_attn for query, key and value; attn.c_proj, mlp.c_proj
    Llama type      layers[i]: self_attn.q_proj, k_proj, v_proj, o_proj; mlp.down_proj. Heads may share keys and values
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import nn

from pwff_core.engine.models.bfloat16 import pick_precision, to_bfloat16
from pwff_core.engine.models.pretrained import first_line, quiet, read_config, skeleton, weights_folder
from pwff_core.errors import ModelError

FUSED_GELU = {"gelu_new": "gelu_pytorch_tanh"}  # the same function, fused: several times faster on a CPU
FITS = (
    "a backbone is a causal language model of the GPT-2 family (such as gpt2 or distilgpt2) or of Llama type (such as "
    "Llama, Mistral, Qwen2, Qwen3, Gemma): separate q_proj, k_proj, v_proj, o_proj and down_proj layers in every block"
)
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")


class Projection(NamedTuple):
    """A linear layer, or a slice of a fused one, that a LoRA module adds to."""

    name: str  # "h.0.attn.q", the same for every family
    module: nn.Module
    inputs: int
    outputs: int
    offset: int  # of this slice in the module's output
    width: int  # of the module's whole output


Block: TypeAlias = tuple[Projection, Projection, Projection]  # query, key, value


class AdapterSite(NamedTuple):
    """A module whose output (…, d) an adapter adds to."""

    name: str  # "h.0.attn_out"
    module: nn.Module
    width: int


class Sites(NamedTuple):
    """The modules of a model that LoRA and adapters act on."""

    attention: tuple[Block, ...]
    adapters: tuple[AdapterSite, ...]  # three a block


class Backbone(NamedTuple):
    """A loaded model: frozen weights, tokenizer, and the sites of LoRA and adapters."""

    model: Any  # transformers' PreTrainedModel with a language-model head
    tokenizer: Any  # a fast tokenizer with an end token
    attention: tuple[Block, ...]
    adapters: tuple[AdapterSite, ...]  # three a block
    context: int  # most tokens of a sequence
    device: torch.device

    @property
    def dtype(self) -> torch.dtype:
        """The number format of the blocks' matrices."""
        return next(self.attention[0][0].module.parameters()).dtype

    def hidden(self, tokens: torch.Tensor) -> torch.Tensor:
        """Last hidden states (B, T, d) of tokens (B, T). Padding stands on the right, so causality alone masks it."""
        return self.model.base_model(input_ids=tokens, use_cache=False).last_hidden_state  # type: ignore[no-any-return]

    @property
    def head(self) -> Any:
        """The linear layer from last hidden states to logits; always float32."""
        return self.model.get_output_embeddings()

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Logits (…, V) of hidden states (…, d), in float32."""
        return self.head(hidden.float())  # type: ignore[no-any-return]


def pick_device(wanted: str) -> torch.device:
    """The device for `auto`, `cpu` or `cuda`; `auto` takes CUDA where it is. ModelError for `cuda` without CUDA."""
    if wanted == "cuda" and not torch.cuda.is_available():
        raise ModelError("device = cuda, but PyTorch finds no CUDA device here. Use --device auto or --device cpu.")
    return torch.device("cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu")


def load_backbone(name: str, device: str = "auto", precision: str = "float32") -> Backbone:
    """Load and freeze a model of the GPT-2 family or of Llama type: `demo`, a folder, or a Hub id.

    Weights come from safetensors alone. ModelError if the model cannot be had, is of another kind or incomplete, or if
    its tokenizer does not fit.
    """
    torch_device = pick_device(device)
    dtype = pick_precision(precision, torch_device)
    config = read_config(name, "backbone")
    empty_backbone(name, config)  # a model that does not fit is refused before gigabytes are fetched and read
    folder = weights_folder(name, "backbone")
    model = _load_weights(name, folder, config, dtype)
    tokenizer = _load_tokenizer(name, folder, model)
    model.requires_grad_(False).eval()
    attention, adapters = sites_of(name, model)
    context = min(context_of(config), tokenizer.model_max_length)
    backbone = Backbone(model, tokenizer, attention, adapters, context, torch_device)
    _check_head(name, backbone)
    _fuse_activation(model)
    if dtype == torch.bfloat16:
        to_bfloat16(model, torch_device)
    model.to(torch_device)
    return backbone


def empty_backbone(name: str, config: Any) -> tuple[Any, Sites]:
    """The model that a config describes, without memory for its weights, and its sites. ModelError if it is unfit."""
    from transformers import AutoModelForCausalLM

    try:
        model = skeleton(AutoModelForCausalLM, config, "sdpa")
    except (ValueError, TypeError, LookupError, ArithmeticError, RuntimeError, ImportError) as error:
        if type(config) not in AutoModelForCausalLM._model_mapping:
            raise _unfit(name, config) from None
        raise ModelError(f"{name} cannot be used as a backbone: {first_line(error)}") from None
    return model, sites_of(name, model)


def sites_of(name: str, model: Any) -> Sites:
    """The sites of a model, with or without weights. ModelError if it is of a kind that does not fit."""
    blocks = getattr(model.base_model, "layers", None)
    if model.config.model_type == "gpt2":
        return _gpt2_sites(model)
    if isinstance(blocks, nn.ModuleList) and len(blocks) and all(_is_llama_block(block) for block in blocks):
        return _llama_sites(blocks)
    raise _unfit(name, model.config)


def _unfit(name: str, config: Any) -> ModelError:
    return ModelError(f"{name} is a {config.model_type} model; {FITS}.")


def _load_weights(name: str, folder: Path, config: Any, dtype: torch.dtype) -> Any:
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM

    auto: Any = AutoModelForCausalLM
    # for bfloat16 the weights are read as they are stored, so memory never holds more bytes than the file
    stored = "auto" if dtype == torch.bfloat16 else torch.float32
    try:
        with quiet():
            model, report = auto.from_pretrained(
                folder, config=config, dtype=stored, use_safetensors=True, attn_implementation="sdpa",
                local_files_only=True, trust_remote_code=False, output_loading_info=True, ignore_mismatched_sizes=True,
            )  # fmt: skip
    except SafetensorError as error:
        raise ModelError(
            f"The weights of {name} are damaged ({first_line(error).rstrip('.')}); fetch or copy them again."
        ) from None
    except (OSError, ValueError) as error:
        raise ModelError(f"{name} cannot be loaded as a causal language model: {first_line(error)}") from None
    # transformers would draw missing weights at random
    if missing := sorted(report["missing_keys"]):
        raise ModelError(f"{name} lacks {len(missing)} of its weights, such as {missing[0]}. Give a complete model.")
    if wrong := sorted(str(key[0]) for key in report["mismatched_keys"]):
        raise ModelError(f"The weights of {name} do not fit its config.json: {wrong[0]} has another size.")
    model.config.pad_token_id = None  # gpt2 would warn of padding without a mask; causality alone masks ours
    return model


def _load_tokenizer(name: str, folder: Path, model: Any) -> Any:
    """The model's own tokenizer; where it has no end token, the model's config may name one."""
    from transformers import AutoTokenizer

    fault = None
    try:
        with quiet():
            tokenizer = AutoTokenizer.from_pretrained(
                folder, use_fast=True, local_files_only=True, trust_remote_code=False
            )
    except Exception as error:  # of many types; that of `tokenizers` is a bare Exception
        fault = first_line(error)
    # without its files transformers may make up an empty tokenizer
    if fault or not any((folder / file).is_file() for file in TOKENIZER_FILES):
        raise ModelError(
            f"The tokenizer of {name} cannot be loaded ({(fault or 'it has no files').rstrip('.')}); put the "
            "tokenizer.json of this model into its folder."
        )
    rows = model.get_input_embeddings().num_embeddings
    if len(tokenizer) > rows:
        raise ModelError(
            f"The tokenizer of {name} has {len(tokenizer):,} tokens, its embedding matrix {rows:,} rows; give the "
            "tokenizer that belongs to this model."
        )
    if tokenizer.eos_token_id is None:
        tokenizer.eos_token = _end_token(model, tokenizer)
    if tokenizer.eos_token_id is None or not tokenizer.is_fast:
        raise ModelError(f"The tokenizer of {name} lacks an end token or a fast version (tokenizer.json); add one.")
    return tokenizer


def _end_token(model: Any, tokenizer: Any) -> str | None:
    """The first special token that generation_config.json or config.json names as an end token, or None.

    Where a file names none, its config class may have a default, which can be the number of any word.
    """
    for config in (model.generation_config, model.config):
        ends = getattr(config, "eos_token_id", None)
        for end in ends if isinstance(ends, list) else [ends]:
            if end in tokenizer.added_tokens_decoder:
                token: str = tokenizer.convert_ids_to_tokens(end)
                return token
    return None


def context_of(config: Any) -> int:
    """Most tokens of a sequence: the smaller of a model's positions and its attention window.

    Within one window, attention covers all earlier tokens, so decoding can ignore it.
    """
    limits = (getattr(config, name, None) for name in ("n_positions", "max_position_embeddings", "sliding_window"))
    return min(int(limit) for limit in limits if limit)


@torch.no_grad()
def _check_head(name: str, backbone: Backbone) -> None:
    """ModelError where logits are more than head times hidden states: some families scale or squash them."""
    tokens = torch.tensor([[0, 1]])
    logits = backbone.head(backbone.hidden(tokens))
    if not torch.allclose(logits, backbone.model(input_ids=tokens).logits, rtol=1e-5, atol=1e-5):
        raise ModelError(f"{name} rescales its vocabulary scores, as {backbone.model.config.model_type} may; {FITS}.")


def _fuse_activation(model: Any) -> None:
    from transformers.activations import ACT2FN

    fused = FUSED_GELU.get(getattr(model.config, "activation_function", ""))
    for block in model.transformer.h if fused else ():
        block.mlp.act = ACT2FN[fused]


def _gpt2_sites(model: Any) -> Sites:
    attention: list[Block] = []
    adapters: list[AdapterSite] = []
    width = model.config.n_embd
    for index, block in enumerate(model.transformer.h):
        fused = block.attn.c_attn
        query, key, value = (
            Projection(f"h.{index}.attn.{part}", fused, width, width, slot * width, 3 * width)
            for slot, part in enumerate("qkv")
        )
        attention.append((query, key, value))
        adapters += _adapter_sites(index, block.attn.c_proj, block.mlp.c_proj, block, width)
    return Sites(tuple(attention), tuple(adapters))


def _is_llama_block(block: nn.Module) -> bool:
    attention, mlp = getattr(block, "self_attn", None), getattr(block, "mlp", None)
    layers = [getattr(attention, f"{part}_proj", None) for part in "qkvo"] + [getattr(mlp, "down_proj", None)]
    return all(type(layer) is nn.Linear for layer in layers)


def _llama_sites(blocks: Any) -> Sites:
    attention: list[Block] = []
    adapters: list[AdapterSite] = []
    for index, block in enumerate(blocks):
        attn = block.self_attn
        query, key, value = (
            Projection(f"h.{index}.attn.{part}", layer, layer.in_features, layer.out_features, 0, layer.out_features)
            for part, layer in zip("qkv", (attn.q_proj, attn.k_proj, attn.v_proj), strict=True)
        )
        attention.append((query, key, value))
        adapters += _adapter_sites(index, attn.o_proj, block.mlp.down_proj, block, attn.o_proj.out_features)
    return Sites(tuple(attention), tuple(adapters))


def _adapter_sites(
    index: int, attention: nn.Module, mlp: nn.Module, block: nn.Module, width: int
) -> tuple[AdapterSite, ...]:
    return tuple(
        AdapterSite(f"h.{index}.{place}", module, width)
        for place, module in (("attn_out", attention), ("mlp_out", mlp), ("block_out", block))
    )
