"""Whether a model can be the encoder: tried out as it loads, not looked up by name.

Reward models read a text whole, padded on the right; critics read it under a causal mask, query by key; encoders that
are trained too are read K at a time, through `torch.func.vmap`. A family that does all three rightly will do. Some need
the mask in another form (`adapt_masks`); others mix neighbouring tokens beside their attention, so that no mask keeps
them from seeing what is yet to come.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from pwff_core.errors import ModelError

TRIED, LEFT_OUT = 8, 3  # tokens of the text that is tried, and how many the shorter text beside it lacks at its end
TOLERANCE = 1e-3  # of the largest state; float32 rounds a thousand times finer
UNTOUCHED = 1e-6  # of the same: what rounding alone may change in a causal model's states
FITTING = (
    "What fits is a bidirectional encoder with safetensors weights: DistilBERT, BERT, RoBERTa, XLM-R, ELECTRA, MPNet, "
    "ModernBERT and their like."
)


def check_kind(name: str, config: Any) -> None:
    """ModelError where a model's config says that it is no encoder, before its weights are read."""
    from transformers.models.auto import modeling_auto as known

    kind = config.model_type
    if config.is_encoder_decoder:
        raise ModelError(f"{name} is a {kind} model, an encoder with a decoder. {FITTING}")
    if kind in known.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and kind not in known.MODEL_FOR_MASKED_LM_MAPPING_NAMES:
        raise ModelError(f"{name} is a {kind} model, a causal language model. {FITTING}")


def positions(name: str, model: nn.Module) -> int:
    """Most tokens of a text. ModelError where the model's config does not say.

    RoBERTa and its like count positions from the one after their padding's, so the ones up to there go unused.
    """
    most: int | None = getattr(model.config, "max_position_embeddings", None)
    if most is None:
        raise ModelError(f"{name} does not say how long a text it reads (max_position_embeddings). {FITTING}")
    for place, module in model.named_modules():
        if place.endswith("position_embeddings") and getattr(module, "padding_idx", None) is not None:
            return most - int(module.padding_idx) - 1
    return most


def adapt_masks(model: Any) -> None:
    """From now on the model takes a boolean mask (n or 1, 1, T or 1, T), query by key, whatever form it needs it in."""
    added = model.config._attn_implementation == "eager"
    local = "sliding_attention" in (getattr(model.config, "layer_types", None) or ())

    def adapt(_: nn.Module, args: tuple[Any, ...], given: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        seen = given.get("attention_mask")
        if seen is None or seen.dim() != 4:
            return args, given
        if local:
            mask: Any = {"full_attention": seen, "sliding_attention": seen & _window(seen, model.config.sliding_window)}
        else:
            mask = _addend(seen)
        return args, given | {"attention_mask": mask}

    if added or local:
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

    `tokens` are ids of plain words; a few are read, more where layers look at a window of the text alone.
    """
    kind, longest = model.config.model_type, TRIED + (getattr(model.config, "sliding_window", None) or 0)
    ids = torch.tensor([[tokens[i * 7 % len(tokens)] for i in range(min(longest, context))]], device=model.device)
    short = ids[:, :-LEFT_OUT]
    try:
        wrong = _wrong(model, ids, short, padding)
    except Exception as error:  # noqa: BLE001  whatever a model raises, it cannot read so
        why = (str(error) or type(error).__name__).splitlines()[0]
        raise ModelError(f"{name} is a {kind} model, which cannot read as critics do ({why}). {FITTING}") from None
    if wrong:
        raise ModelError(f"{name} is a {kind} model, {wrong}. {FITTING}")


def _wrong(model: Any, ids: Tensor, short: Tensor, padding: int) -> str:
    """What a model does otherwise than an encoder has to, in words; "" where all is right."""
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
    own = {place: tensor[None] for place, tensor in model.named_parameters()}  # as of a single client

    def one(weights: dict[str, Tensor], tokens: Tensor, seen: Tensor) -> Tensor:
        given = {"input_ids": tokens, "attention_mask": seen}
        return functional_call(model, weights, (), given).last_hidden_state  # type: ignore[no-any-return]

    with sdpa_kernel(SDPBackend.MATH):
        stacked = vmap(one, in_dims=(0, 0, None))(own, ids[None], causal)
        filled = vmap(one)(own, padded[None], real[None, :, None, None, :])
    if not (_same(stacked[0], prefix) and _same(filled[0, :, :kept], alone)):
        return "which reads otherwise where clients' encoders are stacked"
    return ""


def _same(first: Tensor, second: Tensor, tolerance: float = TOLERANCE) -> bool:
    return bool((first - second).abs().max() <= tolerance * second.abs().max())
