"""How critics learn from a round's rollouts, and the advantages that they estimate.

Critics learn from the round's rewards and from their own values at its beginning, never from the policies' steps. So a
cohort's critics do all of a round's steps at once, and their features, the largest tensor of the stage, are in memory
for one cohort at a time.
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


class CriticTrainer:
    """The critics of a cohort's m models, and the optimiser over them."""

    def __init__(self, critics: Critics, settings: AlignmentConfig) -> None:
        self._critics, self._settings = critics, settings
        self.optimiser = torch.optim.AdamW(
            critics.parameters(), settings.critic_learning_rate, ADAM_BETAS, ADAM_EPSILON, 0.0, fused=True
        )

    def named_tensors(self) -> State:
        """The critics' own tensors by flat name, "helpfulness/head.inner.weight" …"""
        return {
            f"{axis}/{name}": tensor for axis, named in self._critics.tensors.items() for name, tensor in named.items()
        }

    def learn(
        self,
        prompts: Sequence[Sequence[str]],
        pieces: Sequence[Sequence[Sequence[str]]],
        rewards: Mapping[Axis, Tensor],
        mask: Tensor,
        *,
        warm_up: bool,
    ) -> dict[Axis, Tensor]:
        """Estimates advantages (m, n, R) for each axis by the critics before this round's steps; then does those steps.

        `rewards` (m, n, R) of each axis; `pieces` as in `Critics.prepare`.
        """
        settings = self._settings
        batch = self._critics.prepare(prompts, pieces, mask.shape[-1])
        if warm_up:
            self._warm_up(batch, rewards)
        values, returns, advantages = {}, {}, {}
        for axis, reward in rewards.items():
            values[axis] = self._values(axis, batch)
            advantages[axis], returns[axis] = ppo.gae(
                reward, values[axis], mask, settings.discount, settings.gae_lambda
            )
        for _ in range(settings.local_steps * settings.critic_steps):
            self._step(batch, values, returns, settings.value_clip)
        return advantages

    def _warm_up(self, batch: CriticBatch, rewards: Mapping[Axis, Tensor]) -> None:
        """Critics start as reward models, which score whole answers: first they learn what a prefix is worth.

        Their targets are plain returns, which no critic has to estimate.
        """
        settings = self._settings
        zero = torch.zeros_like(batch.mask, dtype=torch.float32)
        targets = {
            axis: ppo.gae(reward, zero, batch.mask, settings.discount, 1.0)[1] for axis, reward in rewards.items()
        }
        for _ in range(settings.critic_warmup):
            self._step(batch, targets, targets, math.inf)

    @torch.no_grad()
    def _values(self, axis: Axis, batch: CriticBatch) -> Tensor:
        return torch.cat([self._critics.values(axis, batch, rows) for rows in batch.portions()], dim=1)

    def _step(
        self, batch: CriticBatch, old: Mapping[Axis, Tensor], returns: Mapping[Axis, Tensor], clip: float
    ) -> None:
        self.optimiser.zero_grad(set_to_none=True)
        tokens = ppo.client_tokens(batch.mask)
        for axis, target in returns.items():
            for rows in batch.portions():
                values = self._critics.values(axis, batch, rows)
                losses = ppo.value_loss(values, old[axis][:, rows], target[:, rows], batch.mask[:, rows], clip, tokens)
                losses.sum().backward()
            clip_per_client([*self._critics.tensors[axis].values()], self._settings.gradient_clip)
        self.optimiser.step()
