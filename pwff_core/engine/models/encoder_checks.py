"""Whether a model can be the encoder: it is tried out as it loads, not looked up by name.

Reward models read a text whole, padded on the right; critics read it under a causal mask, query by key; where encoders
are trained too, K of them read at once, through `torch.func.vmap`. A family that does all three correctly fits. Some
need the mask in another form (`adapt_masks`); others mix neighbouring tokens outside their attention, so no mask keeps
them from seeing later tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from pwff_core.errors import ModelError

TRIED, LEFT_OUT = 8, 3  # tokens of the text that is tried; how many of its last the shorter text leaves out
TOLERANCE = 1e-3  # of the largest state; float32 rounds a thousand times finer
UNTOUCHED = 1e-6  # of the largest state: what rounding alone may change in a causal model's states
FITTING = (
    "What fits is a bidirectional encoder with safetensors weights: DistilBERT, BERT, RoBERTa, XLM-R, ELECTRA, MPNet, "
    "ModernBERT and their like."
)


def check_kind(name: str, config: Any) -> None:
    """ModelError where a model's config says that it is no encoder, before its weights are read."""
    from transformers.models.auto import modeling_auto

    kind = config.model_type
    masked = modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES
    if config.is_encoder_decoder:
        raise ModelError(f"{name} is a {kind} model, an encoder with a decoder. {FITTING}")
    if kind in modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and kind not in masked:
        raise ModelError(f"{name} is a {kind} model, a causal language model. {FITTING}")


def positions(name: str, model: nn.Module) -> int:
    """Most tokens of a text. ModelError where the model's config does not say.

    RoBERTa and its like count positions from the one after their padding's; those up to there are never used.
    """
    most: int | None = getattr(model.config, "max_position_embeddings", None)
    if most is None:
        raise ModelError(f"{name} does not say how long a text it reads (max_position_embeddings). {FITTING}")
    for place, module in model.named_modules():
        if place.endswith("position_embeddings") and getattr(module, "padding_idx", None) is not None:
            return most - int(module.padding_idx) - 1
    return most


def adapt_masks(model: Any) -> None:
    """Let the model take a boolean mask (n or 1, 1, T or 1, T), query by key, in whatever form it needs the mask."""
    needs_addend = model.config._attn_implementation == "eager"
    local = "sliding_attention" in (getattr(model.config, "layer_types", None) or ())

    def adapt(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        seen = kwargs.get("attention_mask")
        if seen is None or seen.dim() != 4:
            return args, kwargs
        if local:
            mask: Any = {"full_attention": seen, "sliding_attention": seen & _window(seen, model.config.sliding_window)}
        else:
            mask = _addend(seen)
        return args, kwargs | {"attention_mask": mask}

    if needs_addend or local:
        model.register_forward_pre_hook(adapt, with_kwargs=True)


def _addend(seen: Tensor) -> Tensor:
    """What eager attention adds to its scores: 0 where a key is seen, as low as float32 goes where it is not."""
    return torch.zeros_like(seen, dtype=torch.float32).masked_fill(~seen, torch.finfo(torch.float32).min)


def _window(seen: Tensor, reach: int) -> Tensor:
    """(T, T), true where query and key are at most `reach` tokens apart."""
    place = torch.arange(seen.shape[-1], device=seen.device)
    return (place[:, None] - place).abs() <= reach


@torch.no_grad()
def check_reading(name: str, model: Any, tokens: Sequence[int], padding: int, context: int) -> None:
    """ModelError unless the model reads as reward models and critics need it to; see the module's docstring.

    `tokens` are ids of plain words; a few of them make up the text that is tried, more where layers see a window alone.
    """
    kind, longest = model.config.model_type, TRIED + (getattr(model.config, "sliding_window", None) or 0)
    ids = torch.tensor([[tokens[i * 7 % len(tokens)] for i in range(min(longest, context))]], device=model.device)
    short = ids[:, :-LEFT_OUT]
    try:
        fault = _fault(model, ids, short, padding)
    except Exception as error:  # noqa: BLE001  whatever a model raises, it cannot read under such masks
        why = (str(error) or type(error).__name__).splitlines()[0]
        raise ModelError(f"{name} is a {kind} model, which cannot read as critics do ({why}). {FITTING}") from None
    if fault:
        raise ModelError(f"{name} is a {kind} model, {fault}. {FITTING}")


def _fault(model: Any, ids: Tensor, short: Tensor, padding: int) -> str:
    """In which way a model reads wrongly, as the end of a sentence; "" where it reads correctly.

    `ids` (1, T) are a text, `short` (1, t) its beginning.
    """
    length, kept = ids.shape[1], short.shape[1]

    def read(tokens: Tensor, seen: Tensor) -> Tensor:
        return model(input_ids=tokens, attention_mask=seen).last_hidden_state  # type: ignore[no-any-return]

    padded = nn.functional.pad(short, (0, length - kept), value=padding)
    every = torch.ones_like(ids, dtype=torch.bool)
    alone = read(short, every[:, :kept])
    if _same(read(ids, every)[:, :kept], read(padded, every)[:, :kept], UNTOUCHED):
        return "whose states know nothing of what follows a token"
    real = torch.arange(length, device=ids.device)[None] < kept  # (1, T)
    if not _same(read(padded, real)[:, :kept], alone):
        return "whose states change with the padding beside a text"
    causal = torch.ones(length, length, dtype=torch.bool, device=ids.device).tril()[None, None]
    prefix = read(ids, causal)
    if not _same(prefix[:, :kept], read(short, causal[..., :kept, :kept])):
        return "whose states know of later tokens even under a causal mask"
    weights = {place: tensor[None] for place, tensor in model.named_parameters()}  # stacked, of a single client

    def read_with(weights: dict[str, Tensor], tokens: Tensor, seen: Tensor) -> Tensor:
        inputs = {"input_ids": tokens, "attention_mask": seen}
        return functional_call(model, weights, (), inputs).last_hidden_state  # type: ignore[no-any-return]

    with sdpa_kernel(SDPBackend.MATH):
        stacked = vmap(read_with, in_dims=(0, 0, None))(weights, ids[None], causal)
        filled = vmap(read_with)(weights, padded[None], real[None, :, None, None, :])
    if not (_same(stacked[0], prefix) and _same(filled[0, :, :kept], alone)):
        return "which reads differently where clients' encoders are stacked"
    return ""


def _same(first: Tensor, second: Tensor, tolerance: float = TOLERANCE) -> bool:
    """Whether no state differs by more than this share of the largest."""
    return bool((first - second).abs().max() <= tolerance * second.abs().max())
