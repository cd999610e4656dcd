"""Reward models: a small fully connected head over an encoder, for helpfulness and, apart, for harmlessness.

The models of K clients are stacked along a leading client axis, as a cohort's adapters are. With a frozen encoder a
text's features are the same for all clients and all steps, so the encoder reads it once and a step is two small matrix
products; where the encoder is trained too, every client and axis has a whole encoder of its own.

A raw score has no unit, because the loss sees differences alone. So that two axes can be weighed against each other,
each is centred and scaled on the same reference answers: calibrated = (raw − mean) / sd.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from pwff_core.engine.models.critics import Critics
from pwff_core.engine.models.encoder import PADDING, EncodedTexts, Encoder, Text, pooled
from pwff_core.engine.models.stacked import (
    ENCODER,
    HEAD_TENSORS,
    ROWS_AT_ONCE,
    Named,
    encoder_states,
    head_scores,
    new_head,
    stack,
    trains_encoder,
)
from pwff_core.methods import AXES, Axis

LEAST_SD = 1e-6  # where all reference scores are almost equal


class RewardModels:
    """The stacked reward models of K clients, one an axis; scores are uncalibrated until `calibrate`."""

    def __init__(self, encoder: Encoder, tensors: Mapping[Axis, Named]) -> None:
        self.encoder = encoder
        self.tensors: dict[Axis, Named] = dict(tensors)
        self.clients = len(next(iter(tensors[next(iter(tensors))].values())))
        self.mean = {axis: torch.zeros(self.clients, device=encoder.device) for axis in tensors}
        self.sd = {axis: torch.ones(self.clients, device=encoder.device) for axis in tensors}

    @property
    def axes(self) -> tuple[Axis, ...]:
        """The axes that there are models of."""
        return tuple(self.tensors)

    @property
    def own_encoders(self) -> bool:
        """Whether every model has an encoder of its own, which is trained with it."""
        return any(trains_encoder(named) for named in self.tensors.values())

    def raw(self, axis: Axis, encoded: EncodedTexts, index: Tensor | None = None) -> Tensor:
        """Raw scores (K, n), differentiable, of encoded texts or of those of its rows that `index` (K, n) names.

        Texts of one client are scored by every client's model; a single model scores all clients' texts.
        ValueError where there are several of both and their numbers differ.
        """
        index = encoded.index if index is None else index
        if len(index) == 1:
            index = index.expand(self.clients, -1)
        if self.clients not in (1, len(index)):
            raise ValueError(f"{self.clients} reward models cannot score the texts of {len(index)} clients")
        named, rows = self.tensors[axis], index.reshape(self.clients, -1)
        if trains_encoder(named):
            ids, parts = encoded.tokens(rows)
            seen = (parts != PADDING)[:, :, None, None, :]
            features = pooled(encoder_states(self.encoder, named, ids, seen), parts)
        else:
            features = encoded.features[rows]
        return head_scores(named, features).view(index.shape)

    @torch.no_grad()
    def assess(self, axis: Axis, encoded: EncodedTexts, index: Tensor | None = None) -> Tensor:
        """Raw scores (K, n) without gradients; models with encoders of their own read in parts, to bound memory."""
        if not self.own_encoders:
            return self.raw(axis, encoded, index)
        parts = (encoded.index if index is None else index).split(ROWS_AT_ONCE, dim=1)
        return torch.cat([self.raw(axis, encoded, part) for part in parts], dim=1)

    def calibrate(self, references: Sequence[Text]) -> None:
        """From now on the reference answers have mean score 0 and standard deviation 1, on every axis and client."""
        encoded = EncodedTexts(self.encoder, [references])
        for axis in self.axes:
            scores = self.assess(axis, encoded)
            self.mean[axis] = scores.mean(1)
            self.sd[axis] = scores.std(1, correction=0).clamp(min=LEAST_SD)

    def score(self, axis: Axis, texts: EncodedTexts | Sequence[Sequence[Text]]) -> Tensor:
        """Calibrated scores (K, n) of K × n texts, in standard deviations of the references.

        The same `EncodedTexts` serve several axes and several reward models over one encoder.
        """
        encoded = texts if isinstance(texts, EncodedTexts) else EncodedTexts(self.encoder, texts)
        return (self.assess(axis, encoded) - self.mean[axis][:, None]) / self.sd[axis][:, None]

    def critics(self) -> Critics:
        """Critics that start from these models, in the same units."""
        return Critics(self.encoder, self.tensors, self.mean, self.sd)

    def part(self, clients: slice) -> RewardModels:
        """A copy of some clients' models, with their calibration."""
        copy = RewardModels(
            self.encoder,
            {
                axis: {name: nn.Parameter(tensor.detach()[clients].clone()) for name, tensor in named.items()}
                for axis, named in self.tensors.items()
            },
        )
        for axis in self.axes:
            copy.mean[axis], copy.sd[axis] = self.mean[axis][clients], self.sd[axis][clients]
        return copy

    def state(self) -> dict[str, Tensor]:
        """Everything by flat name, for saving: "helpfulness/head.inner.weight" …, "helpfulness/mean" and "…/sd"."""
        flat: dict[str, Tensor] = {}
        for axis, named in self.tensors.items():
            flat |= {f"{axis}/{name}": tensor.detach().cpu().contiguous() for name, tensor in named.items()}
            flat |= {f"{axis}/mean": self.mean[axis].cpu(), f"{axis}/sd": self.sd[axis].cpu()}
        return flat

    @classmethod
    def from_state(cls, encoder: Encoder, state: Mapping[str, Tensor]) -> RewardModels:
        """The models that `state` was taken from, over the same encoder."""
        # in the order in which they were made, not that of the file: sums of squares depend on the order
        names = (*HEAD_TENSORS, *(ENCODER + name for name, _ in encoder.model.named_parameters()))
        axes = [axis for axis in AXES if f"{axis}/mean" in state]
        models = cls(
            encoder,
            {axis: {name: nn.Parameter(state[f"{axis}/{name}"].to(encoder.device)) for name in names
                    if f"{axis}/{name}" in state}
             for axis in axes},
        )  # fmt: skip
        for axis in axes:
            models.mean[axis] = state[f"{axis}/mean"].to(encoder.device)
            models.sd[axis] = state[f"{axis}/sd"].to(encoder.device)
        return models


def new_reward_models(
    encoder: Encoder,
    axes: Sequence[Axis],
    clients: int,
    hidden: int,
    trainable: Literal["head", "all"],
    generator: torch.Generator,
) -> RewardModels:
    """Untrained models, the same numbers for every client; each axis has a head of its own."""
    # The heads of both axes are drawn whatever is trained, so that all methods start from the same numbers.
    heads = {axis: new_head(encoder.width, hidden, generator) for axis in AXES}
    weights = encoder.model.named_parameters() if trainable == "all" else ()
    own_encoder = {ENCODER + name: weight for name, weight in weights}
    return RewardModels(encoder, {axis: stack(heads[axis] | own_encoder, clients, encoder.device) for axis in axes})


def joined(parts: Sequence[RewardModels]) -> RewardModels:
    """The models of several chunks of clients as one stack, uncalibrated."""
    first = parts[0]
    return RewardModels(
        first.encoder,
        {
            axis: {
                name: nn.Parameter(torch.cat([part.tensors[axis][name].detach() for part in parts])) for name in named
            }
            for axis, named in first.tensors.items()
        },
    )
