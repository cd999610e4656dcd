"""Stage 2, federated reward learning: a helpfulness and a harmlessness model from pairs of answers.

The loss is Bradley and Terry's (1952; for rewards: Ouyang et al., arXiv 2203.02155), and a tie is half a win for either
answer. A batch's loss is the sum over clients and axes of each one's own mean, so every model's gradient is its own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from pwff_core import seeds
from pwff_core.config import RunConfig
from pwff_core.data.encoding import prompt_text
from pwff_core.data.preferences import JUDGE_SEED, ClientPreferences, Pair, Reference
from pwff_core.engine.models.encoder import EncodedTexts, Encoder, Text
from pwff_core.engine.models.reward_models import RewardModels, joined, new_reward_models
from pwff_core.engine.models.stacked import ENCODER, ROWS_AT_ONCE
from pwff_core.engine.stages.clients import COHORT_SIZE
from pwff_core.engine.stages.instruction import ADAM_BETAS, ADAM_EPSILON, check_finite
from pwff_core.engine.stages.state import State, fill, load_optimisers, optimiser_state, prefixed, stacked, under
from pwff_core.methods import AXES, Axis, Method

ENCODER_RATE = 0.1  # of the head's learning rate, for an encoder that is trained too
JUDGE_STEPS, JUDGE_BATCH, JUDGE_HIDDEN, JUDGE_RATE = 120, 64, 64, 3e-3


class Compared(NamedTuple):
    """m pairs of each of K clients; a client with fewer has some of weight 0."""

    texts: Tensor  # (K, m, 2) the better and the worse one, as rows of the encoded texts
    ties: Tensor  # (K, m) bool
    weights: Tensor  # (K, m) 1.0, or 0.0 for a place that only fills up

    def of(self, clients: range) -> Compared:
        """The pairs of some clients."""
        return Compared(*(tensor[clients.start : clients.stop] for tensor in self))

    def together(self) -> Compared:
        """Everybody's pairs, as of one client."""
        return Compared(self.texts.flatten(0, 1)[None], self.ties.flatten()[None], self.weights.flatten()[None])


def text_of(instruction: str, response: str, ended: bool = True) -> Text:
    """An answer as the scorers read it: the policy's own prompt, then the response after a space."""
    return Text(prompt_text(instruction), f" {response}", ended)


def bradley_terry(better: Tensor, worse: Tensor, ties: Tensor) -> Tensor:
    """−log σ(d) with d = better − worse; for a tie −½ [log σ(d) + log σ(−d)]. All of one shape."""
    gap = better - worse
    win = -F.logsigmoid(gap)
    return torch.where(ties, 0.5 * (win - F.logsigmoid(-gap)), win)


def pair_rows(count: int, seed: int, axis: Axis, client: int, step: int, size: int) -> NDArray[np.int64]:
    """Which of a client's `count` pairs are in the batch of `step` (0 …); an epoch shows every pair once.

    A function of its arguments alone: nothing is remembered between rounds.
    """
    batches = math.ceil(count / size)
    epoch, turn = divmod(step, batches)
    order = seeds.generator(seed, "pairs", axis, client, epoch).permutation(count)
    return np.array_split(order, batches)[turn]


def new_optimiser(models: RewardModels, learning_rate: float) -> torch.optim.AdamW:
    """AdamW without decay over the stack; an encoder that is trained too goes at a tenth of the head's rate."""
    named = [pair for axis in models.axes for pair in models.tensors[axis].items()]
    heads = [tensor for name, tensor in named if not name.startswith(ENCODER)]
    encoders = [tensor for name, tensor in named if name.startswith(ENCODER)]
    groups = [{"params": heads, "lr": learning_rate}]
    if encoders:
        groups.append({"params": encoders, "lr": learning_rate * ENCODER_RATE})
    return torch.optim.AdamW(groups, betas=ADAM_BETAS, eps=ADAM_EPSILON, weight_decay=0.0, fused=True)


def train_step(
    models: RewardModels, optimiser: torch.optim.Optimizer, encoded: EncodedTexts, batches: Mapping[Axis, Compared]
) -> Tensor:
    """One step of every model; returns each one's mean loss (axes, K)."""
    optimiser.zero_grad(set_to_none=True)
    losses = []
    for axis in models.axes:
        whole = batches[axis].weights.sum(1)
        loss = torch.zeros_like(whole)
        for batch in _portions(models, batches[axis]):
            scores = models.raw(axis, encoded, batch.texts.flatten(1)).unflatten(1, (-1, 2))  # (K, m, 2)
            each = bradley_terry(scores[..., 0], scores[..., 1], batch.ties) * batch.weights
            mine = each.sum(1) / whole
            mine.sum().backward()
            loss += mine.detach()
        losses.append(loss)
    optimiser.step()
    return torch.stack(losses)


def _portions(models: RewardModels, batch: Compared) -> list[Compared]:
    """The pairs whose texts are read at once: all, or few where every model has an encoder of its own."""
    if not models.own_encoders:
        return [batch]
    return [Compared(*parts) for parts in zip(*(tensor.split(ROWS_AT_ONCE // 2, 1) for tensor in batch), strict=True)]


class Pairs:
    """All pairs of some clients, read once: their texts, and where in the encoded texts each pair's texts stand."""

    def __init__(self, encoder: Encoder, pairs: Sequence[Mapping[Axis, Sequence[Pair]]], axes: Sequence[Axis]) -> None:
        told = [pair for mine in pairs for axis in axes for pair in mine[axis]]
        texts = [text_of(pair.instruction, answer) for pair in told for answer in (pair.chosen, pair.rejected)]
        self.encoded = EncodedTexts(encoder, [texts])
        places = self.encoded.index.view(-1, 2).cpu().numpy()
        ties = np.array([pair.tie for pair in told], dtype=bool)
        self._index: list[dict[Axis, NDArray[np.int64]]] = []  # of every client, (n, 2)
        self._ties: list[dict[Axis, NDArray[np.bool_]]] = []
        start = 0
        for mine in pairs:
            ends = np.cumsum([start, *(len(mine[axis]) for axis in axes)])
            spans = {axis: slice(ends[i], ends[i + 1]) for i, axis in enumerate(axes)}
            self._index.append({axis: places[span] for axis, span in spans.items()})
            self._ties.append({axis: ties[span] for axis, span in spans.items()})
            start = int(ends[-1])

    def counts(self, axis: Axis) -> list[int]:
        """Pairs of every client."""
        return [len(mine[axis]) for mine in self._index]

    def picked(self, axis: Axis, rows: Sequence[NDArray[np.int64]]) -> Compared:
        """The pairs of every client at its `rows`."""
        most = max(len(mine) for mine in rows)
        index = np.zeros((len(rows), most, 2), dtype=np.int64)
        ties, weights = np.zeros((len(rows), most), dtype=bool), np.zeros((len(rows), most), dtype=np.float32)
        for client, mine in enumerate(rows):
            index[client, : len(mine)] = self._index[client][axis][mine]
            ties[client, : len(mine)] = self._ties[client][axis][mine]
            weights[client, : len(mine)] = 1.0
        device = self.encoded.encoder.device
        return Compared(*(torch.from_numpy(part).to(device) for part in (index, ties, weights)))

    def all(self, axis: Axis) -> Compared:
        """Every pair of every client."""
        return self.picked(axis, [np.arange(count) for count in self.counts(axis)])


class RewardStage:
    """Every client's reward models, the optimisers over them, and the pairs that they learn and are measured on."""

    def __init__(
        self,
        config: RunConfig,
        method: Method,
        clients: Sequence[ClientPreferences],
        encoder: Encoder,
        cohort_size: int = COHORT_SIZE,
    ) -> None:
        self.config, self.method, self.axes, self.cohort_size = config, method, method.rewards, cohort_size
        self.training = Pairs(encoder, [mine.train for mine in clients], self.axes)
        self.held_out = Pairs(encoder, [mine.test for mine in clients], self.axes)
        everybody = range(len(clients))
        self.members = [everybody[at : at + cohort_size] for at in range(0, len(clients), cohort_size)]
        if method.pooled:
            self.members = [everybody]
        self.models = [
            _start(encoder, self.axes, 1 if method.pooled else len(members), config) for members in self.members
        ]
        self.optimisers = [new_optimiser(models, config.reward.learning_rate) for models in self.models]
        # what the average is weighted by
        self.num_examples = [float(sum(len(mine.train[axis]) for axis in self.axes)) for mine in clients]
        self.notes = _cut_notes(encoder, self.training.encoded, self.held_out.encoded)

    def train(self, number: int) -> None:
        """The local steps of round `number` (1 …). TrainingError when a loss is no longer finite."""
        for local in range(self.config.reward.local_steps):
            step = (number - 1) * self.config.reward.local_steps + local
            batches = {axis: self._batch(axis, step) for axis in self.axes}
            for members, models, optimiser in zip(self.members, self.models, self.optimisers, strict=True):
                mine = {
                    axis: batch.together() if self.method.pooled else batch.of(members)
                    for axis, batch in batches.items()
                }
                losses = train_step(models, optimiser, self.training.encoded, mine)
                for axis, theirs in zip(self.axes, losses, strict=True):
                    check_finite(theirs, members, f"stage reward, {axis}, round {number}, step {local + 1}")

    def _batch(self, axis: Axis, step: int) -> Compared:
        seed, size = self.config.seed, self.config.reward.batch_size
        counts = self.training.counts(axis)
        rows = [pair_rows(count, seed, axis, client, step, size) for client, count in enumerate(counts)]
        return self.training.picked(axis, rows)

    def shared(self) -> list[dict[str, Tensor]]:
        """What goes up, stacked by client, a dict a chunk: "helpfulness/head.inner.weight" …; empty where nothing does.

        These are the models' own tensors: who writes into them gives the clients new models.
        """
        return self._named() if self.method.uploads else [{} for _ in self.models]

    def _named(self) -> list[State]:
        return [
            {f"{axis}/{name}": tensor for axis in self.axes for name, tensor in models.tensors[axis].items()}
            for models in self.models
        ]

    def state(self) -> State:
        """What it remembers between two rounds: the reward models and what their optimisers know."""
        return prefixed("models", stacked(self._named())) | prefixed("optimiser", optimiser_state(self.optimisers))

    def load_state(self, state: State) -> None:
        """Puts back what `state` took."""
        fill(self._named(), under("models", state))
        load_optimisers(self.optimisers, under("optimiser", state))

    def measure(self) -> list[dict[str, float | None]]:
        """Every client's loss and pairwise accuracies on its held-out pairs; None for an axis without such pairs.

        Ties count in the loss, a mean over axes, and not in an accuracy.
        """
        found: dict[Axis, tuple[list[float], list[float | None]]] = {}
        for axis in self.axes:
            held_out = self.held_out.all(axis)
            parts = [
                models.assess(axis, self.held_out.encoded, held_out.of(members).texts.flatten(1))
                for members, models in zip(self.members, self.models, strict=True)
            ]
            found[axis] = _judged(torch.cat(parts).unflatten(1, (-1, 2)), held_out)
        measured: list[dict[str, float | None]] = []
        for client in range(self.config.clients):
            mine: dict[str, float | None] = {f"{axis}_accuracy": None for axis in AXES}
            mine |= {f"{axis}_accuracy": shares[client] for axis, (_, shares) in found.items()}
            mine["loss"] = float(np.mean([losses[client] for losses, _ in found.values()]))
            measured.append(mine)
        return measured

    def finish(self, references: Sequence[Reference]) -> RewardModels:
        """The models as they are now, of all clients (a single one where training is pooled), calibrated."""
        models = joined(self.models)
        models.calibrate([text_of(*reference) for reference in references])
        return models


def _start(encoder: Encoder, axes: Sequence[Axis], clients: int, config: RunConfig) -> RewardModels:
    generator = torch.Generator().manual_seed(seeds.torch_seed(config.seed, "reward models"))
    return new_reward_models(encoder, axes, clients, config.reward.hidden, config.reward.trainable, generator)


def _cut_notes(encoder: Encoder, *encoded: EncodedTexts) -> tuple[str, ...]:
    cut, total = sum(texts.cut for texts in encoded), sum(len(texts.rows) for texts in encoded)
    if not cut:
        return ()
    return (
        f"{cut} of {total} texts of preference pairs are longer than the encoder's {encoder.context} tokens and lost "
        "their beginning.",
    )


def _judged(scores: Tensor, pairs: Compared) -> tuple[list[float], list[float | None]]:
    """Each client's mean loss, and the share of its pairs that are ranked right, from scores (K, m, 2)."""
    losses = bradley_terry(scores[..., 0], scores[..., 1], pairs.ties) * pairs.weights
    counted = (pairs.weights > 0) & ~pairs.ties
    right = ((scores[..., 0] > scores[..., 1]) & counted).sum(1).tolist()
    means = losses.sum(1) / pairs.weights.sum(1)
    shares = [hits / total if total else None for hits, total in zip(right, counted.sum(1).tolist(), strict=True)]
    return means.tolist(), shares


def train_judge(
    encoder: Encoder, pairs: Mapping[Axis, Sequence[Pair]], references: Sequence[Reference]
) -> RewardModels:
    """The yardstick: one head an axis, trained on pairs that no client has, calibrated.

    Its seed and settings are fixed, so that it is the same for every method and every seed of a run.
    """
    generator = torch.Generator().manual_seed(seeds.torch_seed(JUDGE_SEED, "judge"))
    models = new_reward_models(encoder, AXES, 1, JUDGE_HIDDEN, "head", generator)
    optimiser = new_optimiser(models, JUDGE_RATE)
    read = Pairs(encoder, [pairs], AXES)
    for step in range(JUDGE_STEPS):
        rows = {axis: pair_rows(read.counts(axis)[0], JUDGE_SEED, axis, 0, step, JUDGE_BATCH) for axis in AXES}
        train_step(models, optimiser, read.encoded, {axis: read.picked(axis, [rows[axis]]) for axis in AXES})
    models.calibrate([text_of(*reference) for reference in references])
    return models
