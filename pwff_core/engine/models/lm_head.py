"""The frozen language-model head and its softmax: log probabilities of given tokens, a block of rows at a time.

Scores of all rows at once would be the largest tensor of a pass: GPT-2 has 50,257 of them a token. The head is frozen,
so the gradient with respect to a hidden state is known as soon as its scores are:

    ∂ log p(label) / ∂ scores = (onehot(label) − softmax(scores / T)) / T

A block's scores serve forwards and backwards while they are at hand, and are then forgotten.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

ROWS = 256  # of a block: with fewer, the products of a large vocabulary are slow; with more, scores leave the cache


class LabelScores(NamedTuple):
    """How N labels do among all words."""

    log_probs: Tensor  # (N,) float32
    best: Tensor  # (N,) bool: no other word is more probable


def label_scores(head: Any, hidden: Tensor, labels: Tensor, temperature: float = 1.0) -> LabelScores:
    """log p(label) of labels (N,) after hidden states (N, d), at a temperature.

    `head` is a frozen linear layer (d → words). Differentiable with respect to the hidden states alone.
    """
    return LabelScores(*_LabelScores.apply(hidden, labels, head.weight, head.bias, temperature))  # type: ignore[no-untyped-call]


class _LabelScores(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, labels: Tensor, weight: Tensor, bias: Tensor | None, temperature: float
    ) -> tuple[Tensor, Tensor]:
        found = torch.empty(len(labels), device=hidden.device)
        best = torch.empty(len(labels), dtype=torch.bool, device=hidden.device)
        trains = ctx.needs_input_grad[0]
        gradient = torch.empty(hidden.shape, device=hidden.device) if trains else hidden
        for start in range(0, len(labels), ROWS):
            rows = slice(start, start + ROWS)
            scores = F.linear(hidden[rows].float(), weight, bias).div_(temperature)  # (ROWS, words)
            label = labels[rows, None]
            own, most = scores.gather(1, label), scores.amax(1, keepdim=True)
            best[rows] = (own == most)[:, 0]
            weights = scores.sub_(most).exp_()
            whole = weights.sum(1, keepdim=True)
            found[rows] = (own - most - whole.log())[:, 0]
            if trains:
                minus_softmax = weights.div_(-whole)
                minus_softmax.scatter_add_(1, label, torch.ones_like(own))
                torch.mm(minus_softmax, weight, out=gradient[rows])
        ctx.save_for_backward(gradient)
        ctx.mark_non_differentiable(best)
        ctx.temperature, ctx.dtype = temperature, hidden.dtype
        return found, best

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor, None, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return (gradient * (outer[0] / ctx.temperature)[:, None]).to(ctx.dtype), None, None, None, None
