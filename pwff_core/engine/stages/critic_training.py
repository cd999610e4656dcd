"""Critics at work: what they make of a round's rollouts, and how they learn from it.

Critics learn from the round's rewards and from their own values as the round found them, never from what the policies
do meanwhile. So a cohort's critics learn all that a round teaches in one go, and the features that they look at, the
largest tensor of the stage, are there for one cohort at a time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from pwff_core.config import AlignmentConfig
from pwff_core.engine.models.critics import CriticBatch, Critics
from pwff_core.engine.stages import ppo
from pwff_core.engine.stages.instruction import ADAM_BETAS, ADAM_EPSILON, clip_per_client
from pwff_core.engine.stages.state import State
from pwff_core.methods import Axis


class Criticism:
    """The critics of a cohort's m models, and the optimiser over them."""

    def __init__(self, critics: Critics, settings: AlignmentConfig) -> None:
        self._critics, self._settings = critics, settings
        self.optimiser = torch.optim.AdamW(
            critics.parameters(), settings.critic_learning_rate, ADAM_BETAS, ADAM_EPSILON, 0.0, fused=True
        )

    def named(self) -> State:
        """The critics' own tensors by flat name, "helpfulness/head.inner.weight" …"""
        return {f"{axis}/{name}": tensor for axis, own in self._critics.tensors.items() for name, tensor in own.items()}

    def learn(
        self,
        prompts: Sequence[Sequence[str]],
        pieces: Sequence[Sequence[Sequence[str]]],
        rewards: Mapping[Axis, Tensor],
        mask: Tensor,
        warm_up: bool,
    ) -> dict[Axis, Tensor]:
        """Advantages (m, n, R) of each axis as the critics see them before this round's steps; then those steps.

        `rewards` (m, n, R) of each axis; `pieces` as in `Critics.prepare`.
        """
        settings = self._settings
        seen = self._critics.prepare(prompts, pieces, mask.shape[-1])
        if warm_up:
            self._warm_up(seen, rewards)
        values, returns, advantages = {}, {}, {}
        for axis, reward in rewards.items():
            values[axis] = self._valued(axis, seen)
            advantages[axis], returns[axis] = ppo.gae(
                reward, values[axis], mask, settings.discount, settings.gae_lambda
            )
        for _ in range(settings.local_steps * settings.critic_steps):
            self._step(seen, values, returns, settings.value_clip)
        return advantages

    def _warm_up(self, seen: CriticBatch, rewards: Mapping[Axis, Tensor]) -> None:
        """Critics start as reward models, which judge whole answers: first they learn what a prefix is worth.

        Their targets are plain returns, which need no critic.
        """
        settings = self._settings
        zero = torch.zeros_like(seen.mask, dtype=torch.float32)
        targets = {
            axis: ppo.gae(reward, zero, seen.mask, settings.discount, 1.0)[1] for axis, reward in rewards.items()
        }
        for _ in range(settings.critic_warmup):
            self._step(seen, targets, targets, math.inf)

    @torch.no_grad()
    def _valued(self, axis: Axis, seen: CriticBatch) -> Tensor:
        return torch.cat([self._critics.values(axis, seen, rows) for rows in seen.portions()], dim=1)

    def _step(self, seen: CriticBatch, old: Mapping[Axis, Tensor], returns: Mapping[Axis, Tensor], clip: float) -> None:
        self.optimiser.zero_grad(set_to_none=True)
        tokens = ppo.client_tokens(seen.mask)
        for axis, target in returns.items():
            for rows in seen.portions():
                values = self._critics.values(axis, seen, rows)
                losses = ppo.value_loss(values, old[axis][:, rows], target[:, rows], seen.mask[:, rows], clip, tokens)
                losses.sum().backward()
            clip_per_client([*self._critics.tensors[axis].values()], self._settings.gradient_clip)
        self.optimiser.step()
