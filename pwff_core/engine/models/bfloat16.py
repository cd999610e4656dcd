"""A frozen backbone in bfloat16, and attention for it on a CPU.

Weights and activations of all blocks are bfloat16, so that a pass moves half the bytes and matrix products take the
CPU's own instructions for it. The head stays float32: log probabilities, which losses and PPO's ratios are made of,
are not rounded. What is trained stays float32 too, and is rounded where it meets an activation.

On a CPU two things are computed in a faster way:

- The backward pass of PyTorch's fused attention is several times slower in bfloat16 than in float32; two batched
  products and a softmax are faster than either for sequences of up to SHORT tokens.
- GELU's tanh form takes two to three times as long as its exact form x Φ(x) (both: Hendrycks and Gimpel, arXiv
  1606.08415). The two differ by 5e-4 at most.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SHORT = 256  # tokens; the products keep a (T, T) matrix a head, which the fused kernel does not
ATTENTION = "pwff_bfloat16"  # the name that transformers knows our attention function by


def pick_precision(wanted: str, device: torch.device) -> torch.dtype:
    """`auto` takes bfloat16 where the device has instructions of its own to multiply it, float32 elsewhere."""
    if wanted == "auto":
        return torch.bfloat16 if _multiplies_bfloat16(device) else torch.float32
    return torch.bfloat16 if wanted == "bfloat16" else torch.float32


def _multiplies_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16"))


def to_bfloat16(model: Any, device: torch.device) -> None:
    """Turn a frozen transformers model into bfloat16 for a device, all but its language-model head.

    Where the head shares the embedding's weights, it gets a copy of its own.
    """
    head = copy.deepcopy(model.get_output_embeddings()).float()
    for parameter in model.base_model.parameters():  # buffers, as of rotary positions, stay exact
        parameter.data = parameter.data.to(torch.bfloat16)
    model.set_output_embeddings(head)
    if device.type == "cpu":
        _register()
        model.set_attn_implementation(ATTENTION)
        _exact_gelu(model)


def _register() -> None:
    from transformers import AttentionInterface

    AttentionInterface.register(ATTENTION, causal_attention)  # without a mask of its own: transformers then makes none


def _exact_gelu(model: Any) -> None:
    from transformers.activations import ACT2FN

    tanh_form = type(ACT2FN["gelu_pytorch_tanh"])
    for module in model.modules():
        for name, child in module.named_children():
            if isinstance(child, tanh_form):
                setattr(module, name, nn.GELU())


def causal_attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None,
    scaling: float | None = None, *, short: int = SHORT, **_: Any,
) -> tuple[Tensor, None]:  # fmt: skip
    """Causal attention (B, T, heads, w) of query (B, heads, T, w), key and value (B, shared heads, T, w).

    A transformers attention function, without dropout and masks: padding stands on the right. Sequences longer than
    `short` tokens go through the fused kernel, in float32.
    """
    batch, heads, length, width = query.shape
    groups = heads // key.shape[1]
    if groups > 1:
        key, value = (part.repeat_interleave(groups, dim=1) for part in (key, value))
    scale = width**-0.5 if scaling is None else scaling
    if length > short:
        y = F.scaled_dot_product_attention(query.float(), key.float(), value.float(), is_causal=True, scale=scale)
        return y.to(value.dtype).transpose(1, 2), None
    query, key, value = (part.reshape(batch * heads, length, -1) for part in (query, key, value))
    unseen = torch.full((length, length), -torch.inf, dtype=query.dtype, device=query.device).triu(1)
    att = torch.baddbmm(unseen, query, key.mT, alpha=scale).softmax(-1)  # (B·heads, T, T)
    return torch.bmm(att, value).view(batch, heads, length, -1).transpose(1, 2), None
