"""Stage 3, federated alignment: PPO with two reward models and two critics, weighted by each owner's preferences.

In a round each client answers prompts (rollouts), the frozen reward models score the answers, each preference's critic
estimates each token's advantage, the owner's weights add the two advantages up, and PPO improves adapters, LoRA and
critics. The reference is the client's own model as instruction tuning left it. `ppo.py` has the formulas, `rollouts.py`
the answers, `critic_training.py` the critics' steps.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence

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
from pwff_core.engine.stages.clients import Clients, Measures
from pwff_core.engine.stages.critic_training import CriticTrainer
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
    """Federated alignment of all clients. M, the number of models, is K, or 1 where all clients' data are pooled."""

    def __init__(
        self, clients: Clients, preferences: Sequence[ClientPreferences], rewards: RewardModels, judge: RewardModels
    ) -> None:
        self._clients, self.preferences, self.rewards, self.judge = clients, preferences, rewards, judge
        settings = clients.config.alignment
        self.references = [cohort.frozen_copy() for cohort in clients.cohorts]
        rate = settings.learning_rate or clients.method.alignment_rate
        self._optimisers = [new_optimiser(cohort, rate, settings.lora_rate_ratio) for cohort in clients.cohorts]
        self._critics = [CriticTrainer(rewards.part(models).critics(), settings) for models in self._models()]
        self.num_examples = [1.0] * clients.config.clients  # every client answers as many prompts

    @property
    def _helpfulness_weights(self) -> Tensor:
        """Each model's weight on helpfulness in this round, (M,)."""
        weights = self._clients.weights
        return torch.tensor([float(np.mean(weights))] if self._clients.method.pooled else weights)

    def shared(self) -> list[dict[str, Tensor]]:
        """What goes up, stacked by client, a dict a cohort. Critics stay at home."""
        return uploaded(self._clients)

    def state(self) -> State:
        """What the stage remembers between rounds, beside the policies: reference, reward models, judge, critics."""
        return (
            prefixed("reference", stacked(policies(self.references)))
            | prefixed("rewards", self.rewards.state())
            | prefixed("judge", self.judge.state())
            | prefixed("critics", stacked([trainer.named_tensors() for trainer in self._critics]))
            | prefixed("optimiser", optimiser_state(self._optimisers))
            | prefixed("critics' optimiser", optimiser_state([trainer.optimiser for trainer in self._critics]))
        )

    def load_state(self, state: State) -> None:
        """Restores what changes between rounds; reference, reward models and judge are set when the stage begins."""
        fill([trainer.named_tensors() for trainer in self._critics], under("critics", state))
        load_optimisers(self._optimisers, under("optimiser", state))
        load_optimisers([trainer.optimiser for trainer in self._critics], under("critics' optimiser", state))

    def train(self, number: int) -> list[Measures]:
        """Round `number` (1 …) of PPO for every client; returns what the reward models make of the rollouts.

        TrainingError when a loss is no longer finite.
        """
        config, settings = self._clients.config, self._clients.config.alignment
        rollouts = answer(self._clients, self.prompts(number), "rollouts", number)
        scores = self._scores(rollouts)
        advantages = self._advantages(rollouts, self._token_rewards(rollouts, scores), number)
        for epoch in range(settings.local_steps):
            order = seeds.generator(config.seed, "minibatches", number, epoch)
            self._improve_policies(rollouts, advantages, epoch, order, f"stage alignment, round {number}")
        return self._training_rewards(scores)

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
                _turn(own.delicate, delicate, number) + _turn(own.ordinary, settings.batch_size - delicate, number)
                for own in self.preferences
            ]
        )

    def test_prompts(self) -> tuple[list[list[str]], int]:
        """The held-out prompts of every model, and how many of a client's, which come first, are delicate."""
        settings = self._clients.config.alignment
        delicate = round(settings.test_prompts * settings.delicate_share)
        prompts = [
            _turn(own.test_delicate, delicate, 1) + _turn(own.test_ordinary, settings.test_prompts - delicate, 1)
            for own in self.preferences
        ]
        return self._by_model(prompts), delicate

    def _by_model(self, prompts: list[list[str]]) -> list[list[str]]:
        """K × n prompts as M × n': the one model of pooled training answers everybody's."""
        return [sum(prompts, [])] if self._clients.method.pooled else prompts

    @torch.no_grad()
    def _scores(self, rollouts: Rollouts) -> dict[Axis, Tensor]:
        """Each reward model's scores of the answers, (M, n) for each axis."""
        texts = EncodedTexts(self.rewards.encoder, rollouts.texts)
        return {axis: self.rewards.score(axis, texts) for axis in self._clients.method.rewards}

    @torch.no_grad()
    def _token_rewards(self, rollouts: Rollouts, scores: Mapping[Axis, Tensor]) -> dict[Axis, Tensor]:
        """Rewards of every token, (M, n, R) for each axis."""
        settings = self._clients.config.alignment
        log_ratio = rollouts.log_probs - log_probs(self.references, rollouts, settings.temperature)
        return {
            axis: ppo.token_rewards(score, log_ratio, rollouts.mask, settings.kl_coefficient)
            for axis, score in scores.items()
        }

    def _training_rewards(self, scores: Mapping[Axis, Tensor]) -> list[Measures]:
        """Each client's mean score of its rollouts, weighted by the owner's preferences."""
        by_answer = ppo.weighted({axis: score[..., None] for axis, score in scores.items()}, self._helpfulness_weights)
        rewards = by_answer.view(self._clients.config.clients, -1).mean(1).tolist()
        return [{"training_reward": None if math.isnan(reward) else reward} for reward in rewards]

    def _advantages(self, rollouts: Rollouts, rewards: Mapping[Axis, Tensor], number: int) -> Tensor:
        """Advantages (M, n, R), weighted by the owners' preferences and whitened. The critics learn on the way."""
        parts = []
        for models, trainer in zip(self._models(), self._critics, strict=True):
            mask, own_rewards = rollouts.mask[models], {axis: reward[models] for axis, reward in rewards.items()}
            by_axis = trainer.learn(
                rollouts.prompts[models], rollouts.pieces[models], own_rewards, mask, warm_up=number == 1
            )
            parts.append(ppo.whiten(ppo.weighted(by_axis, self._helpfulness_weights[models]), mask))
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
                losses, moved = self.backward(cohort, models, parts[turn], rollouts, advantages)
                check_finite(losses, self._clients.in_cohort(index), where)
                stopped |= moved > settings.kl_stop
                clip_per_client(cohort.parameters(), settings.gradient_clip)
                _step_but(stopped, cohort.parameters(), self._optimisers[index])

    def backward(
        self, cohort: Cohort, models: slice, chosen: Tensor, rollouts: Rollouts, advantages: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Gradients of a minibatch, the rows `chosen` (m, c), in as many passes as the memory needs.

        Returns each client's loss (m,) and how far its policy has moved from the rollouts' (mean KL a token).
        """
        settings = self._clients.config.alignment
        own = torch.arange(models.start, models.stop, device=chosen.device)[:, None]
        tokens = ppo.client_tokens(rollouts.mask[own, chosen])
        losses, moved = torch.zeros(tokens.shape, device=tokens.device), torch.zeros(tokens.shape, device=tokens.device)
        for rows in rollouts.passes(models, self._clients.tokens_at_once, chosen):
            part = rollouts.part(models, rows)
            new = part_log_probs(cohort, part, settings.temperature)
            part_advantages = advantages[own, rows][..., : part.mask.shape[-1]]
            loss = ppo.policy_loss(new, part.log_probs, part_advantages, part.mask, settings.clip, tokens)
            loss.sum().backward()
            losses += loss.detach()
            moved += ppo.approximate_kl(new.detach(), part.log_probs, part.mask, tokens)
        return losses, moved

    def measure(self) -> list[Measures]:
        """Every client's model: accuracy on its own data, and how the judge scores its answers."""
        return [measures | judged for measures, judged in zip(accuracies(self._clients), self.judged(), strict=True)]

    @torch.no_grad()
    def judged(self) -> list[Measures]:
        """The judge's scores of every client's answers to held-out prompts, and other measures of the answers."""
        clients, settings = self._clients, self._clients.config.alignment
        prompts, num_delicate = self.test_prompts()
        rollouts = answer(clients, prompts, "test")
        log_ratio = rollouts.log_probs - log_probs(self.references, rollouts, settings.temperature)
        num_clients = clients.config.clients
        by_client = (num_clients, -1, log_ratio.shape[-1])
        kl = ppo.response_kl(log_ratio.view(by_client), rollouts.mask.view(by_client))
        lengths = rollouts.mask.sum(-1).view(num_clients, -1).float().mean(1)
        texts = EncodedTexts(self.judge.encoder, rollouts.texts)
        helpful, harmless = (self.judge.score(axis, texts).view(num_clients, -1).mean(1).tolist() for axis in AXES)
        refused = np.array([[refuses(text.response) for text in own] for own in rollouts.texts])
        refused = refused.reshape(num_clients, -1)[:, :num_delicate]
        return [
            {
                "helpfulness": helpful[client],
                "harmlessness": harmless[client],
                "reward": weight * helpful[client] + (1.0 - weight) * harmless[client],
                "kl": float(kl[client]),
                "refusal_rate": float(refused[client].mean()) if num_delicate else None,
                "response_tokens": float(lengths[client]),
            }
            for client, weight in enumerate(clients.weights)
        ]


def _step_but(stopped: Tensor, parameters: Sequence[Tensor], optimiser: torch.optim.Optimizer) -> None:
    """An optimiser's step of all clients but those that are `stopped` (K,): Adam's momentum would move them too."""
    former = [parameter.detach()[stopped] for parameter in parameters] if stopped.any() else []
    optimiser.step()
    with torch.no_grad():
        for parameter, values in zip(parameters, former, strict=False):
            parameter[stopped] = values


def _turn(prompts: Sequence[str], count: int, number: int) -> list[str]:
    """Round `number`'s share of a list, which starts again at its end."""
    return [prompts[((number - 1) * count + index) % len(prompts)] for index in range(count)]
