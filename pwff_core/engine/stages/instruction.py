"""Stage 1, federated instruction tuning: supervised steps on response tokens, and how well a client's model answers.

`InstructionStage` is the stage as the round loop plays it; the functions below it are its parts. The loss of a batch
is the sum over clients of each client's own mean cross entropy of its response tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pwff_core.data.corpus import Kind
from pwff_core.data.encoding import KINDS, Encoded
from pwff_core.engine.models.cohort import Cohort
from pwff_core.engine.models.lm_head import LabelScores, label_scores
from pwff_core.engine.stages.batches import Batch, collate, passes, training_rows
from pwff_core.engine.stages.clients import Clients, Measures
from pwff_core.engine.stages.state import State, load_optimisers, optimiser_state, prefixed, under
from pwff_core.errors import ROUNDS_KEPT, TrainingError
from pwff_core.methods import Group, Method

ADAM_BETAS, ADAM_EPSILON = (0.9, 0.95), 1e-8
EVALUATION_ROWS = 5  # rows of every client in an evaluation batch; with few, little of it is padding


class Score(NamedTuple):
    """Held-out sums of one client; shares follow by division."""

    correct: NDArray[np.int64]  # (3,) tokens predicted right, by kind
    tokens: NDArray[np.int64]  # (3,) all tokens by kind
    loss: float  # summed cross entropy [nat]

    def accuracy(self, kind: Kind | None = None) -> float | None:
        """Share of tokens predicted right, of one kind or of all; None where there is no such token."""
        index = slice(None) if kind is None else KINDS.index(kind)
        tokens = int(np.sum(self.tokens[index]))
        return float(np.sum(self.correct[index]) / tokens) if tokens else None

    def mean_loss(self) -> float:
        """Cross entropy a response token [nat]."""
        return float(self.loss / self.tokens.sum())


class InstructionStage:
    """Federated instruction tuning of all clients."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        config, method = clients.config, clients.method
        self.learning_rate = config.instruction.learning_rate or method.learning_rate
        ratio = config.lora.rate_ratio if "adapters" in method.trains else 1.0
        self.optimisers = [new_optimiser(cohort, self.learning_rate, ratio) for cohort in clients.cohorts]
        self.num_examples = [float(len(split.train)) for split in clients.splits]  # what the average is weighted by

    def train(self, number: int) -> list[Measures]:
        """The local steps of round `number` (1 …), without measures. TrainingError when a loss is no longer finite."""
        clients, settings = self._clients, self._clients.config.instruction
        for index, (cohort, optimiser) in enumerate(zip(clients.cohorts, self.optimisers, strict=True)):
            for local in range(settings.local_steps):
                step = (number - 1) * settings.local_steps + local
                rows = [
                    training_rows(clients.splits[k].train, clients.config.seed, k, step, settings.batch_size)
                    for k in clients.in_cohort(index)
                ]
                if clients.method.pooled:
                    rows = [[row for client_rows in rows for row in client_rows]]
                batches = [
                    collate(part, clients.padding, clients.backbone.device)
                    for part in passes(rows, clients.tokens_at_once)
                ]
                groups = trained(clients.method, local, settings.local_steps, settings.personal_steps)
                losses = train_step(cohort, optimiser, batches, settings.gradient_clip, groups)
                check_finite(losses, clients.in_cohort(index), f"stage instruction, round {number}, step {local + 1}")
        return [{} for _ in clients.splits]

    def shared(self) -> list[dict[str, Tensor]]:
        """What goes up, stacked by client, a dict a cohort."""
        return uploaded(self._clients)

    def measure(self) -> list[Measures]:
        """Every client's model on the client's own held-out examples."""
        return accuracies(self._clients)

    def state(self) -> State:
        """What the stage remembers between two rounds, beside the policies."""
        return prefixed("optimiser", optimiser_state(self.optimisers))

    def load_state(self, state: State) -> None:
        """Restores what `state` returned."""
        load_optimisers(self.optimisers, under("optimiser", state))


def uploaded(clients: Clients) -> list[dict[str, Tensor]]:
    """The tensors of the policies that the method uploads, stacked by client, a dict a cohort."""
    return [
        {name: tensor for group in clients.method.uploads for name, tensor in cohort.tensors[group].items()}
        for cohort in clients.cohorts
    ]


def accuracies(clients: Clients) -> list[Measures]:
    """Accuracy and loss of every client's model on the client's own held-out examples."""
    scores: list[Score] = []
    for index, cohort in enumerate(clients.cohorts):
        rows = [clients.splits[k].held_out for k in clients.in_cohort(index)]
        if clients.method.pooled:
            scores += [evaluate(cohort, [own], clients.padding, clients.tokens_at_once)[0] for own in rows]
        else:
            scores += evaluate(cohort, rows, clients.padding, clients.tokens_at_once)
    return [
        {
            "accuracy": score.accuracy(),
            "knowledge_accuracy": score.accuracy("knowledge"),
            "style_accuracy": score.accuracy("style"),
            "loss": score.mean_loss(),
        }
        for score in scores
    ]


def trained(method: Method, step: int, steps: int, personal_steps: int) -> tuple[Group, ...]:
    """What a round's local step (0 … steps − 1) trains: first the personal tensors, on top of the average just
    received, then the uploaded ones.

    Trained together, each would leave to the other a part of what there is to learn, and the average then takes one of
    the parts away. The order is FedRep's (Collins et al., arXiv 2102.07078). Where nothing is personal, or nothing is
    uploaded, all tensors are trained together.
    """
    personal_steps = min(personal_steps, steps - 1)  # at least one step is left for the uploaded tensors
    if not personal_steps or not method.personal or not method.uploads:
        return method.trains
    return method.personal if step < personal_steps else method.uploads


def check_finite(losses: Tensor, clients: Sequence[int], where: str) -> None:
    """TrainingError that names the first of the `clients` whose loss (K,) is no longer finite."""
    not_finite = torch.nonzero(~torch.isfinite(losses))
    if len(not_finite):
        raise diverged(f"training loss of client {clients[int(not_finite[0])]}", where)


def diverged(what: str, where: str) -> TrainingError:
    """The error of a training whose numbers are no longer finite."""
    return TrainingError(f"The {what} is no longer a number ({where}). {ROUNDS_KEPT} Try a smaller learning rate.")


def new_optimiser(cohort: Cohort, learning_rate: float, lora_ratio: float = 1.0) -> torch.optim.AdamW:
    """AdamW without decay over the stack, so that every client has its own moments. LoRA's rate is `lora_ratio` × the
    adapters'."""
    rates = {"adapters": learning_rate, "lora": learning_rate * lora_ratio}
    groups = [{"params": list(tensors.values()), "lr": rates[group]} for group, tensors in cohort.tensors.items()]
    return torch.optim.AdamW(groups, betas=ADAM_BETAS, eps=ADAM_EPSILON, weight_decay=0.0, fused=True)


def token_scores(cohort: Cohort, batch: Batch) -> LabelScores:
    """Log probability of each response token (N,), and whether it is the most probable one.

    Logits are computed at response positions alone.
    """
    backbone = cohort.backbone
    with cohort.attached():
        hidden = backbone.hidden(batch.tokens)
    return label_scores(backbone.head, hidden.reshape(-1, hidden.shape[-1])[batch.at], batch.labels)


def client_losses(cohort: Cohort, batch: Batch, counts: Tensor | None = None) -> Tensor:
    """Each client's mean cross entropy over its response tokens (K,).

    `counts` (K,): how many response tokens there are, where the batch has only a part of them.
    """
    losses = -token_scores(cohort, batch).log_probs
    sums = losses.new_zeros(cohort.clients).index_add(0, batch.owner, losses)
    return sums / (response_tokens([batch], cohort.clients) if counts is None else counts)


def response_tokens(batches: Sequence[Batch], clients: int) -> Tensor:
    """How many response tokens each client has (K,), at least 1."""
    return torch.bincount(torch.cat([batch.owner for batch in batches]), minlength=clients).clamp(min=1)


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
    cohort: Cohort, optimiser: torch.optim.Optimizer, batches: Sequence[Batch], clip: float,
    groups: Sequence[Group] | None = None,
) -> Tensor:  # fmt: skip
    """One local step of every client of the cohort, on all tensors or on some `groups`; returns the losses (K,).

    The step is on the rows of all batches together: each batch adds its part of the gradient.
    """
    optimiser.zero_grad(set_to_none=True)
    cohort.train_only(cohort.tensors if groups is None else groups)
    counts = response_tokens(batches, cohort.clients)
    losses = torch.zeros(cohort.clients, device=counts.device)
    for batch in batches:
        part = client_losses(cohort, batch, counts)
        part.sum().backward()
        losses += part.detach()
    clip_per_client(cohort.parameters(), clip)
    optimiser.step()
    return losses


@torch.no_grad()
def evaluate(cohort: Cohort, rows: Sequence[Sequence[Encoded]], padding: int, tokens_at_once: int) -> list[Score]:
    """How each client's model predicts its own held-out responses. `rows`: one list of examples a client."""
    kinds = len(KINDS)
    size = cohort.clients * kinds
    correct, tokens = np.zeros(size, dtype=np.int64), np.zeros(size, dtype=np.int64)
    loss = np.zeros(cohort.clients)
    for part in passes(rows, tokens_at_once, EVALUATION_ROWS):
        batch = collate(part, padding, cohort.backbone.device)
        log_probs, right = token_scores(cohort, batch)
        owner, right = batch.owner.cpu(), right.cpu()
        cell = owner * kinds + batch.kinds.cpu()
        tokens += torch.bincount(cell, minlength=size).numpy()
        correct += torch.bincount(cell[right], minlength=size).numpy()
        loss -= torch.bincount(owner, log_probs.cpu().double(), minlength=cohort.clients).numpy()
    by_client = zip(correct.reshape(-1, kinds), tokens.reshape(-1, kinds), loss.tolist(), strict=True)
    return [Score(*sums) for sums in by_client]
