"""Stage 1, federated instruction tuning: supervised steps on response tokens, and how well a client's model answers.

The loss of a batch is the sum over clients of each client's own mean cross entropy, over response tokens alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from pwff_core.data.corpus import Kind
from pwff_core.data.encoding import KINDS, Encoded
from pwff_core.methods import Group
from pwff_core.models.cohort import Cohort
from pwff_core.stages.batches import Batch, collate, evaluation_rows

ADAM_BETAS, ADAM_EPSILON = (0.9, 0.95), 1e-8
EVALUATION_ROWS = 5  # rows of every client in an evaluation batch; with few, little of it is padding


class Score(NamedTuple):
    """Held-out sums of one client; shares follow by division."""

    correct: NDArray[np.int64]  # (3,) right tokens by kind
    tokens: NDArray[np.int64]  # (3,) all tokens by kind
    loss: float  # summed cross entropy [nat]

    def accuracy(self, kind: Kind | None = None) -> float | None:
        """Share of tokens predicted right, of one kind or whole; None where there is no such token."""
        index = slice(None) if kind is None else KINDS.index(kind)
        tokens = int(np.sum(self.tokens[index]))
        return float(np.sum(self.correct[index]) / tokens) if tokens else None

    def mean_loss(self) -> float:
        """Cross entropy a response token [nat]."""
        return float(self.loss / self.tokens.sum())


def new_optimiser(cohort: Cohort, learning_rate: float, lora_ratio: float = 1.0) -> torch.optim.AdamW:
    """AdamW without decay over the stack: a private optimiser a client. LoRA's rate is `lora_ratio` × the adapters'."""
    rates = {"adapters": learning_rate, "lora": learning_rate * lora_ratio}
    groups = [{"params": list(tensors.values()), "lr": rates[group]} for group, tensors in cohort.tensors.items()]
    return torch.optim.AdamW(groups, betas=ADAM_BETAS, eps=ADAM_EPSILON, weight_decay=0.0, fused=True)


def client_losses(cohort: Cohort, batch: Batch) -> tuple[Tensor, Tensor]:
    """Each client's mean cross entropy over its response tokens (K,), and the tokens predicted right (N,).

    Vocabulary scores are computed at response positions alone.
    """
    with cohort.attached(), _precision(cohort):
        hidden = cohort.backbone.hidden(batch.tokens)
        logits = cohort.backbone.logits(hidden.reshape(-1, hidden.shape[-1])[batch.at]).float()
    losses = F.cross_entropy(logits, batch.labels, reduction="none")
    sums = losses.new_zeros(cohort.clients).index_add(0, batch.owner, losses)
    counts = torch.bincount(batch.owner, minlength=cohort.clients).clamp(min=1)
    return sums / counts, logits.detach().argmax(-1) == batch.labels


def _precision(cohort: Cohort) -> AbstractContextManager[None]:
    """Autocast to bfloat16 where the frozen weights are."""
    half = cohort.backbone.attention[0][0].module.weight.dtype == torch.bfloat16
    return torch.autocast(cohort.backbone.device.type, dtype=torch.bfloat16, enabled=half)


def clip_per_client(parameters: Sequence[Tensor], most: float) -> Tensor:
    """Scale each client's gradient to norm ≤ `most`, in place; returns the norms before (K,)."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    squares = [gradient.flatten(1).pow(2).sum(1) for gradient in gradients]
    norms = torch.stack(squares).sum(0).sqrt()
    factors = (most / (norms + 1e-6)).clamp(max=1.0)
    for gradient in gradients:
        gradient.mul_(factors.view(-1, *[1] * (gradient.dim() - 1)))
    return norms


def train_step(
    cohort: Cohort, optimiser: torch.optim.Optimizer, batch: Batch, clip: float, groups: Sequence[Group] | None = None
) -> Tensor:
    """One local step of every client of the cohort, of all it trains or of some `groups`; returns the losses (K,)."""
    optimiser.zero_grad(set_to_none=True)
    cohort.train_only(cohort.tensors if groups is None else groups)
    losses, _ = client_losses(cohort, batch)
    losses.sum().backward()
    clip_per_client(cohort.parameters(), clip)
    optimiser.step()
    return losses.detach()


@torch.no_grad()
def evaluate(cohort: Cohort, rows: Sequence[Sequence[Encoded]], padding: int) -> list[Score]:
    """How each client's model predicts its own held-out responses. `rows`: one list of examples a client."""
    kinds = len(KINDS)
    correct = np.zeros((cohort.clients, kinds), dtype=np.int64)
    tokens = np.zeros((cohort.clients, kinds), dtype=np.int64)
    loss = np.zeros(cohort.clients)
    batched = [evaluation_rows(mine, EVALUATION_ROWS) for mine in rows]
    for index in range(max(len(mine) for mine in batched)):
        batch = collate([mine[index] if index < len(mine) else [] for mine in batched], padding, cohort.backbone.device)
        means, right = client_losses(cohort, batch)
        cell = (batch.owner * kinds + batch.kinds).cpu()
        size = cohort.clients * kinds
        tokens += torch.bincount(cell, minlength=size).view(-1, kinds).numpy()
        correct += torch.bincount(cell[right.cpu()], minlength=size).view(-1, kinds).numpy()
        counts = torch.bincount(batch.owner, minlength=cohort.clients).cpu().numpy()
        loss += means.cpu().double().numpy() * counts
    return [Score(correct[client], tokens[client], float(loss[client])) for client in range(cohort.clients)]
