"""The frozen language-model head and its softmax: log probabilities of given tokens, a block of rows at a time.

The logits of all rows at once would be the largest tensor of a pass: GPT-2 has 50,257 a token. The head is frozen, so
the gradient with respect to a hidden state is known as soon as its logits are:

    ∂ log p(label) / ∂ logits = (onehot(label) − softmax(logits / T)) / T

A block's logits serve the forward and the backward pass while they are at hand, and are then forgotten.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

ROWS = 256  # of a block: with fewer, the products of a large vocabulary are slow; with more, logits leave the cache


class LabelScores(NamedTuple):
    """How N labels do among all V words."""

    log_probs: Tensor  # (N,) float32
    best: Tensor  # (N,) bool: no other word is more probable


def label_scores(
    head: Any, hidden: Tensor, labels: Tensor, temperature: float = 1.0, *, rows: int = ROWS
) -> LabelScores:
    """log p(label) of labels (N,) after hidden states (N, d), at a temperature; `rows` of the N at a time.

    `head` is a frozen linear layer (d → V). Differentiable with respect to the hidden states alone.
    """
    return LabelScores(*_LabelScores.apply(hidden, labels, head.weight, head.bias, temperature, rows))  # type: ignore[no-untyped-call]


class _LabelScores(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, labels: Tensor, weight: Tensor, bias: Tensor | None, temperature: float, rows: int
    ) -> tuple[Tensor, Tensor]:
        log_probs = torch.empty(len(labels), device=hidden.device)
        best = torch.empty(len(labels), dtype=torch.bool, device=hidden.device)
        trains = ctx.needs_input_grad[0]
        gradient = torch.empty(hidden.shape, device=hidden.device) if trains else hidden
        for start in range(0, len(labels), rows):
            part = slice(start, start + rows)
            logits = F.linear(hidden[part].float(), weight, bias).div_(temperature)  # (rows, V)
            label = labels[part, None]  # (rows, 1)
            label_logit, highest = logits.gather(1, label), logits.amax(1, keepdim=True)  # (rows, 1) each
            best[part] = (label_logit == highest)[:, 0]
            exp = logits.sub_(highest).exp_()  # (rows, V)
            total = exp.sum(1, keepdim=True)
            log_probs[part] = (label_logit - highest - total.log())[:, 0]
            if trains:
                onehot_minus_softmax = exp.div_(-total)
                onehot_minus_softmax.scatter_add_(1, label, torch.ones_like(label_logit))
                torch.mm(onehot_minus_softmax, weight, out=gradient[part])
        ctx.save_for_backward(gradient)
        ctx.mark_non_differentiable(best)
        ctx.temperature, ctx.dtype = temperature, hidden.dtype
        return log_probs, best

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor, None, None, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return (gradient * (outer[0] / ctx.temperature)[:, None]).to(ctx.dtype), None, None, None, None, None
