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
from pwff_core.data.encoding import prompt_text
from pwff_core.data.preferences import JUDGE_SEED, Pair, Preferences, Reference
from pwff_core.engine.models.encoder import EncodedTexts, Encoder, Text
from pwff_core.engine.models.reward_models import RewardModels, joined, new_reward_models
from pwff_core.engine.models.stacked import ENCODER, ROWS_AT_ONCE
from pwff_core.engine.stages.clients import COHORT_SIZE, Clients, Measures
from pwff_core.engine.stages.instruction import ADAM_BETAS, ADAM_EPSILON, check_finite
from pwff_core.engine.stages.state import State, fill, load_optimisers, optimiser_state, prefixed, stacked, under
from pwff_core.methods import AXES, Axis

ENCODER_RATE = 0.1  # of the head's learning rate, for an encoder that is trained too
JUDGE_STEPS, JUDGE_BATCH, JUDGE_HIDDEN, JUDGE_RATE = 120, 64, 64, 3e-3


class PairBatch(NamedTuple):
    """m pairs of each of K clients; a client with fewer has some of weight 0."""

    texts: Tensor  # (K, m, 2) the better and the worse answer, as rows of the encoded texts
    ties: Tensor  # (K, m) bool
    weights: Tensor  # (K, m) 1.0, or 0.0 for a place that only fills up

    def of(self, clients: range) -> PairBatch:
        """The pairs of some clients."""
        return PairBatch(*(tensor[clients.start : clients.stop] for tensor in self))

    def pooled(self) -> PairBatch:
        """Everybody's pairs, as if they were one client's."""
        return PairBatch(self.texts.flatten(0, 1)[None], self.ties.flatten()[None], self.weights.flatten()[None])


def text_of(instruction: str, response: str, ended: bool = True) -> Text:
    """An answer as the reward models read it: the policy's own prompt, then the response after a space."""
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
    """AdamW without decay over the stack; an encoder that is trained too has a tenth of the head's rate."""
    named = [item for axis in models.axes for item in models.tensors[axis].items()]
    heads = [tensor for name, tensor in named if not name.startswith(ENCODER)]
    encoders = [tensor for name, tensor in named if name.startswith(ENCODER)]
    groups = [{"params": heads, "lr": learning_rate}]
    if encoders:
        groups.append({"params": encoders, "lr": learning_rate * ENCODER_RATE})
    return torch.optim.AdamW(groups, betas=ADAM_BETAS, eps=ADAM_EPSILON, weight_decay=0.0, fused=True)


def train_step(
    models: RewardModels,
    optimiser: torch.optim.Optimizer,
    encoded: EncodedTexts,
    batches: Mapping[Axis, PairBatch],
    texts_at_once: int = ROWS_AT_ONCE,
) -> Tensor:
    """One step of every model; returns each one's mean loss (axes, K).

    `texts_at_once`: most texts of a client in a pass, where every model has an encoder of its own.
    """
    optimiser.zero_grad(set_to_none=True)
    losses = []
    for axis in models.axes:
        num_pairs = batches[axis].weights.sum(1)
        loss = torch.zeros_like(num_pairs)
        for batch in _portions(models, batches[axis], texts_at_once):
            scores = models.raw(axis, encoded, batch.texts.flatten(1)).unflatten(1, (-1, 2))  # (K, m, 2)
            pair_losses = bradley_terry(scores[..., 0], scores[..., 1], batch.ties) * batch.weights
            part = pair_losses.sum(1) / num_pairs
            part.sum().backward()
            loss += part.detach()
        losses.append(loss)
    optimiser.step()
    return torch.stack(losses)


def _portions(models: RewardModels, batch: PairBatch, texts_at_once: int) -> list[PairBatch]:
    """The pairs of each pass: all at once, or few where every model has an encoder of its own."""
    if not models.own_encoders:
        return [batch]
    return [PairBatch(*parts) for parts in zip(*(tensor.split(texts_at_once // 2, 1) for tensor in batch), strict=True)]


class Pairs:
    """All pairs of some clients, encoded once: their texts, and at which of the encoded rows each pair's texts are."""

    def __init__(self, encoder: Encoder, owned: Sequence[Mapping[Axis, Sequence[Pair]]], axes: Sequence[Axis]) -> None:
        every_pair = [pair for by_axis in owned for axis in axes for pair in by_axis[axis]]
        texts = [text_of(pair.instruction, answer) for pair in every_pair for answer in (pair.chosen, pair.rejected)]
        self.encoded = EncodedTexts(encoder, [texts])
        rows = self.encoded.index.view(-1, 2).cpu().numpy()
        ties = np.array([pair.tie for pair in every_pair], dtype=bool)
        self._rows: list[dict[Axis, NDArray[np.int64]]] = []  # of every client, (n, 2)
        self._ties: list[dict[Axis, NDArray[np.bool_]]] = []
        start = 0
        for by_axis in owned:
            ends = np.cumsum([start, *(len(by_axis[axis]) for axis in axes)])
            spans = {axis: slice(ends[i], ends[i + 1]) for i, axis in enumerate(axes)}
            self._rows.append({axis: rows[span] for axis, span in spans.items()})
            self._ties.append({axis: ties[span] for axis, span in spans.items()})
            start = int(ends[-1])

    def counts(self, axis: Axis) -> list[int]:
        """How many pairs every client has."""
        return [len(by_axis[axis]) for by_axis in self._rows]

    def batch(self, axis: Axis, chosen: Sequence[NDArray[np.int64]]) -> PairBatch:
        """Every client's `chosen` pairs, by their places in the client's list."""
        most = max(len(places) for places in chosen)
        texts = np.zeros((len(chosen), most, 2), dtype=np.int64)
        ties, weights = np.zeros((len(chosen), most), dtype=bool), np.zeros((len(chosen), most), dtype=np.float32)
        for client, places in enumerate(chosen):
            texts[client, : len(places)] = self._rows[client][axis][places]
            ties[client, : len(places)] = self._ties[client][axis][places]
            weights[client, : len(places)] = 1.0
        device = self.encoded.encoder.device
        return PairBatch(*(torch.from_numpy(array).to(device) for array in (texts, ties, weights)))

    def all(self, axis: Axis) -> PairBatch:
        """Every pair of every client."""
        return self.batch(axis, [np.arange(count) for count in self.counts(axis)])


class RewardStage:
    """Every client's reward models, the optimisers over them, and the pairs that they learn and are measured on."""

    def __init__(
        self, clients: Clients, preferences: Preferences, encoder: Encoder, cohort_size: int = COHORT_SIZE
    ) -> None:
        self._clients, self.preferences, self.encoder = clients, preferences, encoder
        self.axes = clients.method.rewards
        owners, owned = range(len(preferences.clients)), preferences.clients
        self.training = Pairs(encoder, [client.train for client in owned], self.axes)
        self.held_out = Pairs(encoder, [client.test for client in owned], self.axes)
        self.cohorts = [owners[start : start + cohort_size] for start in range(0, len(owners), cohort_size)]
        if clients.method.pooled:
            self.cohorts = [owners]
        self.models = [self._new_models(1 if clients.method.pooled else len(cohort)) for cohort in self.cohorts]
        rate = clients.config.reward.learning_rate
        self.optimisers = [new_optimiser(models, rate) for models in self.models]
        # what the average is weighted by
        self.num_examples = [float(sum(len(client.train[axis]) for axis in self.axes)) for client in owned]
        self.notes = _cut_notes(encoder, self.training.encoded, self.held_out.encoded)

    def train(self, number: int) -> list[Measures]:
        """The local steps of round `number` (1 …), without measures. TrainingError when a loss is no longer finite."""
        settings, pooled = self._clients.config.reward, self._clients.method.pooled
        for local in range(settings.local_steps):
            step = (number - 1) * settings.local_steps + local
            batches = {axis: self._batch(axis, step) for axis in self.axes}
            for cohort, models, optimiser in zip(self.cohorts, self.models, self.optimisers, strict=True):
                part = {axis: batch.pooled() if pooled else batch.of(cohort) for axis, batch in batches.items()}
                losses = train_step(models, optimiser, self.training.encoded, part)
                for axis, axis_losses in zip(self.axes, losses, strict=True):
                    check_finite(axis_losses, cohort, f"stage reward, {axis}, round {number}, step {local + 1}")
        return [{} for _ in self.preferences.clients]

    def shared(self) -> list[dict[str, Tensor]]:
        """What goes up, stacked by client, a dict a cohort: "helpfulness/head.inner.weight" …; empty if nothing does.

        These are the models' own tensors: writing into them gives the clients new models.
        """
        return self._named_tensors() if self._clients.method.uploads else [{} for _ in self.models]

    def state(self) -> State:
        """What the stage remembers between two rounds: the reward models and their optimisers' moments."""
        models = prefixed("models", stacked(self._named_tensors()))
        return models | prefixed("optimiser", optimiser_state(self.optimisers))

    def load_state(self, state: State) -> None:
        """Restores what `state` returned."""
        fill(self._named_tensors(), under("models", state))
        load_optimisers(self.optimisers, under("optimiser", state))

    def measure(self) -> list[Measures]:
        """Every client's loss and pairwise accuracies on its held-out pairs; None for an axis without such pairs.

        Ties count in the loss, a mean over axes, and not in an accuracy.
        """
        results: dict[Axis, tuple[list[float], list[float | None]]] = {}
        for axis in self.axes:
            held_out = self.held_out.all(axis)
            scores = [
                models.assess(axis, self.held_out.encoded, held_out.of(cohort).texts.flatten(1))
                for cohort, models in zip(self.cohorts, self.models, strict=True)
            ]
            results[axis] = _losses_and_accuracies(torch.cat(scores).unflatten(1, (-1, 2)), held_out)
        measured: list[Measures] = []
        for client in range(self._clients.config.clients):
            measures: Measures = {f"{axis}_accuracy": None for axis in AXES}
            measures |= {f"{axis}_accuracy": accuracies[client] for axis, (_, accuracies) in results.items()}
            measures["loss"] = float(np.mean([losses[client] for losses, _ in results.values()]))
            measured.append(measures)
        return measured

    def finish(self) -> RewardModels:
        """The models as they are now, of all clients (a single one where training is pooled), calibrated."""
        models = joined(self.models)
        models.calibrate([text_of(*reference) for reference in self.preferences.references])
        return models

    def train_judge(self) -> RewardModels:
        """The judge of this run's answers: see `train_judge`."""
        return train_judge(self.encoder, self.preferences.judge, self.preferences.references)

    def _new_models(self, clients: int) -> RewardModels:
        config = self._clients.config
        generator = torch.Generator().manual_seed(seeds.torch_seed(config.seed, "reward models"))
        return new_reward_models(
            self.encoder, self.axes, clients, config.reward.hidden, config.reward.trainable, generator
        )

    def _batch(self, axis: Axis, step: int) -> PairBatch:
        seed, size = self._clients.config.seed, self._clients.config.reward.batch_size
        counts = self.training.counts(axis)
        chosen = [pair_rows(count, seed, axis, client, step, size) for client, count in enumerate(counts)]
        return self.training.batch(axis, chosen)

    def _named_tensors(self) -> list[State]:
        return [
            {f"{axis}/{name}": tensor for axis in self.axes for name, tensor in models.tensors[axis].items()}
            for models in self.models
        ]


def _cut_notes(encoder: Encoder, *encoded: EncodedTexts) -> tuple[str, ...]:
    cut, total = sum(texts.cut for texts in encoded), sum(len(texts.rows) for texts in encoded)
    if not cut:
        return ()
    return (
        f"{cut} of {total} texts of preference pairs are longer than the encoder's {encoder.context} tokens and lost "
        "their beginning.",
    )


def _losses_and_accuracies(scores: Tensor, pairs: PairBatch) -> tuple[list[float], list[float | None]]:
    """Each client's mean loss, and the share of its pairs that are ranked right, from scores (K, m, 2)."""
    losses = bradley_terry(scores[..., 0], scores[..., 1], pairs.ties) * pairs.weights
    decided = (pairs.weights > 0) & ~pairs.ties
    right = ((scores[..., 0] > scores[..., 1]) & decided).sum(1).tolist()
    means = losses.sum(1) / pairs.weights.sum(1)
    shares = [hits / total if total else None for hits, total in zip(right, decided.sum(1).tolist(), strict=True)]
    return means.tolist(), shares


def train_judge(
    encoder: Encoder, pairs: Mapping[Axis, Sequence[Pair]], references: Sequence[Reference]
) -> RewardModels:
    """The yardstick of answers: one head an axis, trained on pairs that no client has, calibrated.

    Its seed and settings are fixed, so that it is the same for every method and every seed of a run.
    """
    generator = torch.Generator().manual_seed(seeds.torch_seed(JUDGE_SEED, "judge"))
    models = new_reward_models(encoder, AXES, 1, JUDGE_HIDDEN, "head", generator)
    optimiser = new_optimiser(models, JUDGE_RATE)
    training = Pairs(encoder, [pairs], AXES)
    for step in range(JUDGE_STEPS):
        chosen = {axis: pair_rows(training.counts(axis)[0], JUDGE_SEED, axis, 0, step, JUDGE_BATCH) for axis in AXES}
        train_step(models, optimiser, training.encoded, {axis: training.batch(axis, [chosen[axis]]) for axis in AXES})
    models.calibrate([text_of(*reference) for reference in references])
    return models
