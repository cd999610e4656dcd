"""Stage 3, federated alignment: PPO with two reward models and two critics, weighted by each owner's wishes.

A round of a client: answer prompts (a rollout), let the frozen reward models score the answers, estimate each token's
advantage for each preference with that preference's critic, add the two up by the owner's weights, improve adapters,
LoRA and critics. The reference is the client's own model as instruction tuning left it. `ppo.py` has the formulas,
`rollouts.py` the answers.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from pwff_core import seeds
from pwff_core.data.preferences import ClientPreferences, refuses
from pwff_core.engine.models.cohort import Cohort
from pwff_core.engine.models.encoder import EncodedTexts
from pwff_core.engine.models.reward_models import RewardModels
from pwff_core.engine.stages import ppo
from pwff_core.engine.stages.batches import LENGTH_JITTER
from pwff_core.engine.stages.clients import Clients
from pwff_core.engine.stages.critic_training import Criticism
from pwff_core.engine.stages.instruction import (
    accuracies,
    check_finite,
    clip_per_client,
    new_optimiser,
    trained,
    uploaded,
)
from pwff_core.engine.stages.rollouts import Rollouts, answer, log_probs, part_log_probs
from pwff_core.engine.stages.state import (
    State,
    fill,
    load_optimisers,
    optimiser_state,
    policies,
    prefixed,
    stacked,
    under,
)
from pwff_core.methods import AXES, Axis


class AlignmentStage:
    """Federated alignment of all clients. M, the number of models, is K, or 1 where everybody's data are pooled."""

    def __init__(
        self, clients: Clients, preferences: Sequence[ClientPreferences], rewards: RewardModels, judge: RewardModels
    ) -> None:
        self._clients, self._preferences, self._rewards, self._judge = clients, preferences, rewards, judge
        settings = clients.config.alignment
        self.references = [cohort.frozen_copy() for cohort in clients.cohorts]
        rate = settings.learning_rate or clients.method.alignment_rate
        self._optimisers = [new_optimiser(cohort, rate, settings.lora_rate_ratio) for cohort in clients.cohorts]
        self._criticism = [Criticism(rewards.part(models).critics(), settings) for models in self._models()]
        self._training_rewards = [math.nan] * clients.config.clients
        self.num_examples = [1.0] * clients.config.clients  # every client answers as many prompts

    @property
    def _wishes(self) -> Tensor:
        """(M,) weights on helpfulness, as the owners want it in this round."""
        weights = self._clients.weights
        return torch.tensor([float(np.mean(weights))] if self._clients.method.pooled else weights)

    def shared(self) -> list[dict[str, Tensor]]:
        """What goes up, stacked by client, a dict a cohort. Critics stay at home."""
        return uploaded(self._clients)

    def state(self) -> State:
        """What it remembers between two rounds, beside the policies: reference, reward models, judge, critics."""
        return (
            prefixed("reference", stacked(policies(self.references)))
            | prefixed("rewards", self._rewards.state())
            | prefixed("judge", self._judge.state())
            | prefixed("critics", stacked([criticism.named() for criticism in self._criticism]))
            | prefixed("optimiser", optimiser_state(self._optimisers))
            | prefixed("critics' optimiser", optimiser_state([criticism.optimiser for criticism in self._criticism]))
        )

    def load_state(self, state: State) -> None:
        """Puts back what changes from round to round; the reference, reward models and judge are the stage's start."""
        fill([criticism.named() for criticism in self._criticism], under("critics", state))
        load_optimisers(self._optimisers, under("optimiser", state))
        load_optimisers([one.optimiser for one in self._criticism], under("critics' optimiser", state))

    def train(self, number: int) -> None:
        """Round `number` (1 …) of PPO for every client. TrainingError when a loss is no longer finite."""
        config, settings = self._clients.config, self._clients.config.alignment
        rollouts = answer(self._clients, self.prompts(number), "rollouts", number)
        advantages = self._advantages(rollouts, self._rewarded(rollouts), number)
        for epoch in range(settings.local_steps):
            order = seeds.generator(config.seed, "minibatches", number, epoch)
            self._improve_policies(rollouts, advantages, epoch, order, f"stage alignment, round {number}")

    def _models(self) -> list[slice]:
        """Which of the M models each cohort has."""
        ends = np.cumsum([0, *(cohort.clients for cohort in self._clients.cohorts)]).tolist()
        return [slice(start, end) for start, end in itertools.pairwise(ends)]

    def prompts(self, number: int) -> list[list[str]]:
        """Round `number`'s prompts of every model: the next ones of each client's lists."""
        settings = self._clients.config.alignment
        delicate = round(settings.batch_size * settings.delicate_share)
        return self._by_model(
            [
                _turn(mine.delicate, delicate, number) + _turn(mine.ordinary, settings.batch_size - delicate, number)
                for mine in self._preferences
            ]
        )

    def test_prompts(self) -> tuple[list[list[str]], int]:
        """The held-out prompts of every model, and how many of a client's, which come first, are delicate."""
        settings = self._clients.config.alignment
        delicate = round(settings.test_prompts * settings.delicate_share)
        asked = [
            _turn(mine.test_delicate, delicate, 1) + _turn(mine.test_ordinary, settings.test_prompts - delicate, 1)
            for mine in self._preferences
        ]
        return self._by_model(asked), delicate

    def _by_model(self, prompts: list[list[str]]) -> list[list[str]]:
        """K × n prompts as M × n': the one model of pooled training answers everybody's."""
        return [sum(prompts, [])] if self._clients.method.pooled else prompts

    @torch.no_grad()
    def _rewarded(self, rollouts: Rollouts) -> dict[Axis, Tensor]:
        """Rewards a token of each axis, (M, n, R)."""
        clients, settings = self._clients, self._clients.config.alignment
        ratio = rollouts.log_probs - log_probs(self.references, rollouts, settings.temperature)
        encoded = EncodedTexts(self._rewards.encoder, rollouts.texts)
        scores = {axis: self._rewards.score(axis, encoded) for axis in clients.method.rewards}
        whole = ppo.weighted({axis: score[..., None] for axis, score in scores.items()}, self._wishes)
        self._training_rewards = whole.view(clients.config.clients, -1).mean(1).tolist()
        return {
            axis: ppo.token_rewards(score, ratio, rollouts.mask, settings.kl_coefficient)
            for axis, score in scores.items()
        }

    def _advantages(self, rollouts: Rollouts, rewards: dict[Axis, Tensor], number: int) -> Tensor:
        """Advantages (M, n, R), weighted by the owners' wishes and whitened. The critics learn on the way."""
        parts = []
        for models, criticism in zip(self._models(), self._criticism, strict=True):
            mask, theirs = rollouts.mask[models], {axis: reward[models] for axis, reward in rewards.items()}
            found = criticism.learn(rollouts.prompts[models], rollouts.pieces[models], theirs, mask, number == 1)
            parts.append(ppo.whiten(ppo.weighted(found, self._wishes[models]), mask))
        return torch.cat(parts)

    def _improve_policies(
        self, rollouts: Rollouts, advantages: Tensor, epoch: int, order: np.random.Generator, where: str
    ) -> None:
        """One epoch of clipped policy steps over all rollouts, in minibatches of similar length."""
        settings, device = self._clients.config.alignment, rollouts.mask.device
        jitter = torch.from_numpy(order.uniform(-LENGTH_JITTER, LENGTH_JITTER, rollouts.mask.shape[:2])).to(device)
        turns = order.permutation(min(settings.minibatches, rollouts.mask.shape[1]))  # the same for all models
        for index, (models, cohort) in enumerate(zip(self._models(), self._clients.cohorts, strict=True)):
            stopped = torch.zeros(cohort.clients, dtype=torch.bool, device=device)
            parts = rollouts.by_length(models, len(turns), jitter[models])
            for step, turn in enumerate(turns, start=epoch * len(parts)):
                steps = settings.local_steps * len(parts)
                cohort.train_only(trained(self._clients.method, step, steps, settings.personal_steps))
                self._optimisers[index].zero_grad(set_to_none=True)
                losses, moved = self._backward(cohort, models, parts[turn], rollouts, advantages)
                check_finite(losses, self._clients.members(index), where)
                stopped |= moved > settings.kl_stop
                clip_per_client(cohort.parameters(), settings.gradient_clip)
                _step_but(stopped, cohort.parameters(), self._optimisers[index])

    def _backward(
        self, cohort: Cohort, models: slice, chosen: Tensor, rollouts: Rollouts, advantages: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Gradients of a minibatch, the rows `chosen` (m, c), in as many passes as memory asks for.

        Returns each client's loss (m,) and how far its policy has moved from the rollouts' (mean KL a token).
        """
        settings = self._clients.config.alignment
        own = torch.arange(models.start, models.stop, device=chosen.device)[:, None]
        tokens = ppo.client_tokens(rollouts.mask[own, chosen])
        losses, moved = torch.zeros(tokens.shape, device=tokens.device), torch.zeros(tokens.shape, device=tokens.device)
        for rows in rollouts.passes(models, self._clients.tokens_at_once, chosen):
            part = rollouts.part(models, rows)
            new = part_log_probs(cohort, part, settings.temperature)
            mine = advantages[own, rows][..., : part.mask.shape[-1]]
            loss = ppo.policy_loss(new, part.log_probs, mine, part.mask, settings.clip, tokens)
            loss.sum().backward()
            losses += loss.detach()
            moved += ppo.approximate_kl(new.detach(), part.log_probs, part.mask, tokens)
        return losses, moved

    def measure(self) -> list[dict[str, float | None]]:
        """Every client's model: accuracy on its own data, and what the judge makes of its answers."""
        return [ours | said for ours, said in zip(accuracies(self._clients), self.judged(), strict=True)]

    @torch.no_grad()
    def judged(self) -> list[dict[str, float | None]]:
        """What the judge makes of every client's answers to held-out prompts, and how they read."""
        clients, settings = self._clients, self._clients.config.alignment
        asked, delicate = self.test_prompts()
        rollouts = answer(clients, asked, "test")
        ratio = rollouts.log_probs - log_probs(self.references, rollouts, settings.temperature)
        people = clients.config.clients
        by_client = (people, -1, ratio.shape[-1])
        kl = ppo.response_kl(ratio.view(by_client), rollouts.mask.view(by_client))
        lengths = rollouts.mask.sum(-1).view(people, -1).float().mean(1)
        encoded = EncodedTexts(self._judge.encoder, rollouts.texts)
        helpful, harmless = (self._judge.score(axis, encoded).view(people, -1).mean(1).tolist() for axis in AXES)
        refused = np.array([[refuses(text.response) for text in mine] for mine in rollouts.texts])
        refused = refused.reshape(people, -1)[:, :delicate]
        return [
            {
                "helpfulness": helpful[client],
                "harmlessness": harmless[client],
                "reward": weight * helpful[client] + (1.0 - weight) * harmless[client],
                "training_reward": _number(self._training_rewards[client]),
                "kl": float(kl[client]),
                "refusal_rate": float(refused[client].mean()) if delicate else None,
                "response_tokens": float(lengths[client]),
            }
            for client, weight in enumerate(clients.weights)
        ]


def _step_but(stopped: Tensor, parameters: Sequence[Tensor], optimiser: torch.optim.Optimizer) -> None:
    """An optimiser's step of all clients but those that are `stopped` (K,): Adam's momentum would move them too."""
    kept = [parameter.detach()[stopped] for parameter in parameters] if stopped.any() else []
    optimiser.step()
    with torch.no_grad():
        for parameter, before in zip(parameters, kept, strict=False):
            parameter[stopped] = before


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value


def _turn(prompts: Sequence[str], count: int, number: int) -> list[str]:
    """Round `number`'s share of a list that is gone through again and again."""
    return [prompts[((number - 1) * count + index) % len(prompts)] for index in range(count)]
