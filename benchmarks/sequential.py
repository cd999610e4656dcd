"""Alignment as one writes it for one client, one client after another: `generate`, two forward passes, PPO steps.

The models are those of `plain.py`, the reward models and critics each client's own, the formulas those of `ppo.py`.
What a careful user would do is done: a client's prompts are answered in one batch, its log probabilities are taken from
the scores that `generate` computes anyway, minibatches hold rows of similar length, and a client that has moved too far
is done with its epoch at once. `tests/benchmarks/test_sequential.py` gives it the cohort's answers and finds the
cohort's weights after a round.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from benchmarks.plain import PlainClient, average, in_bfloat16, plain_clients
from pwff_core import seeds
from pwff_core.data.encoding import prompt_text
from pwff_core.engine.models.critics import CriticBatch
from pwff_core.engine.models.encoder import EncodedTexts, Text
from pwff_core.engine.setup import Federation
from pwff_core.engine.stages import ppo
from pwff_core.engine.stages.batches import LENGTH_JITTER
from pwff_core.engine.stages.instruction import ADAM_BETAS, ADAM_EPSILON, trained
from pwff_core.methods import Axis


class Answers(NamedTuple):
    """n answers of one client; an answer's end token, where it has one, is its last."""

    prompts: list[list[int]]
    responses: list[list[int]]
    log_probs: list[list[float]]  # of each token under the distribution that it was drawn from


Answer = Callable[[int, list[list[int]]], Answers]  # client, prompts → answers


class SequentialAlignment:
    """Rounds of PPO, client by client, from where the federation's policies are at this moment."""

    def __init__(self, federation: Federation, answer: Answer | None = None) -> None:
        self.federation, self.clients = federation, federation.clients
        self.settings, method = federation.config.alignment, federation.method
        self.policies = plain_clients(self.clients, federation.placed)
        self.references = plain_clients(self.clients, federation.placed)
        for policy in self.policies:
            rate = self.settings.learning_rate or method.alignment_rate
            policy.optimiser = policy.new_optimiser(rate, self.settings.lora_rate_ratio)
        learned = federation.reward.finish()
        self.rewards = [learned.part(slice(client, client + 1)) for client in range(federation.config.clients)]
        self.critics = [rewards.critics() for rewards in self.rewards]
        self.critic_optimisers = [
            torch.optim.AdamW(
                critics.parameters(), self.settings.critic_learning_rate, ADAM_BETAS, ADAM_EPSILON, 0.0, fused=True
            )
            for critics in self.critics
        ]
        self.answer = answer or self.generate
        self.played = 0
        self.tokens = 0  # written in the last round, by all clients

    def round(self) -> None:
        """The next round: each client answers and learns, then the adapters are averaged."""
        self.played += 1
        self.tokens = 0
        prompts = self.federation.alignment.prompts(self.played)
        for client, own_prompts in enumerate(prompts):
            self.train(client, own_prompts)
        average([policy.groups["adapters"] for policy in self.policies], [1.0] * len(self.policies))

    def autocast(self) -> torch.autocast:
        """Matrix products in bfloat16, where the frozen weights are."""
        return torch.autocast("cpu", torch.bfloat16, enabled=in_bfloat16(self.clients))

    @torch.no_grad()
    def generate(self, client: int, prompts: list[list[int]]) -> Answers:
        """Answers to all prompts in one batch, by transformers' `generate`."""
        end, longest = self.clients.padding, max(map(len, prompts))
        tokens = torch.tensor([[end] * (longest - len(prompt)) + prompt for prompt in prompts])
        seen = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
        with self.autocast():
            output = self.policies[client].model.generate(
                input_ids=tokens, attention_mask=seen, do_sample=True, temperature=self.settings.temperature, top_k=0,
                top_p=1.0, max_new_tokens=self.settings.max_new_tokens, eos_token_id=end, pad_token_id=end,
                use_cache=True, return_dict_in_generate=True, output_scores=True,
            )  # fmt: skip
        written = output.sequences[:, longest:]
        scores = torch.stack(output.scores, dim=1).float()  # (n, R, V), divided by the temperature already
        log_probs = scores.gather(2, written[..., None])[..., 0] - scores.logsumexp(-1)
        lengths = [row.index(end) + 1 if end in row else len(row) for row in written.tolist()]
        return Answers(
            prompts,
            [row[:length] for row, length in zip(written.tolist(), lengths, strict=True)],
            [row[:length] for row, length in zip(log_probs.tolist(), lengths, strict=True)],
        )

    def train(self, client: int, prompts: Sequence[str]) -> None:
        """One client's part of a round."""
        tokenizer, context = self.clients.backbone.tokenizer, self.clients.backbone.context
        room = context - min(self.settings.max_new_tokens, context // 2)
        texts_of_prompts = [prompt_text(prompt) for prompt in prompts]
        answers = self.answer(
            client, [tokenizer(text, verbose=False)["input_ids"][-room:] for text in texts_of_prompts]
        )
        self.tokens += sum(map(len, answers.responses))
        old, mask = stacked_rows(answers.log_probs)
        pieces = [["" if token == self.clients.padding else tokenizer.decode([token]) for token in response]
                  for response in answers.responses]  # fmt: skip
        texts = [
            Text(prompt, "".join(parts), response[-1] == self.clients.padding)
            for prompt, parts, response in zip(texts_of_prompts, pieces, answers.responses, strict=True)
        ]
        critic_batch = self.critics[client].prepare([texts_of_prompts], [pieces], mask.shape[-1])
        rewards = self.token_rewards(client, answers, texts, old, mask)
        if self.played == 1:
            self.warm_up(client, critic_batch, rewards, mask)
        values, returns, advantages = self.experience(client, critic_batch, rewards, mask)
        for epoch in range(self.settings.local_steps):
            self.improve_policy(client, answers, old, mask, advantages, epoch)
            for _ in range(self.settings.critic_steps):
                self.critic_step(client, critic_batch, values, returns, self.settings.value_clip, mask)

    @torch.no_grad()
    def token_rewards(
        self, client: int, answers: Answers, texts: list[Text], old: Tensor, mask: Tensor
    ) -> dict[Axis, Tensor]:
        """The reward of every token on each axis, (1, n, R)."""
        with self.autocast():
            before = log_probs(self.references[client], answers, range(len(texts)), mask, self.settings.temperature)
        encoded = EncodedTexts(self.rewards[client].encoder, [texts])
        return {
            axis: ppo.token_rewards(
                self.rewards[client].score(axis, encoded), old - before, mask, self.settings.kl_coefficient
            )
            for axis in self.federation.method.rewards
        }

    @torch.no_grad()
    def experience(
        self, client: int, critic_batch: CriticBatch, rewards: dict[Axis, Tensor], mask: Tensor
    ) -> tuple[dict[Axis, Tensor], dict[Axis, Tensor], Tensor]:
        """Values, returns, and advantages weighted by the client's preference."""
        values, returns, advantages = {}, {}, {}
        for axis, reward in rewards.items():
            values[axis] = self.critics[client].values(axis, critic_batch)
            advantages[axis], returns[axis] = ppo.gae(
                reward, values[axis], mask, self.settings.discount, self.settings.gae_lambda
            )
        wish = torch.tensor(self.clients.weights[client : client + 1])
        return values, returns, ppo.whiten(ppo.weighted(advantages, wish), mask)

    def improve_policy(
        self, client: int, answers: Answers, old: Tensor, mask: Tensor, advantages: Tensor, epoch: int
    ) -> None:
        """One epoch of clipped policy steps over the answers, in minibatches of similar length."""
        settings, policy = self.settings, self.policies[client]
        order = seeds.generator(self.clients.config.seed, "sequential", client, self.played, epoch)
        lengths = np.array([len(p) + len(r) for p, r in zip(answers.prompts, answers.responses, strict=True)])
        rows = (lengths + order.uniform(-LENGTH_JITTER, LENGTH_JITTER, len(lengths))).argsort()
        parts = np.array_split(rows, min(settings.minibatches, len(rows)))
        for step, turn in enumerate(order.permutation(len(parts)), start=epoch * len(parts)):
            chosen = parts[turn].tolist()
            steps = settings.local_steps * len(parts)
            policy.train_only(trained(self.clients.method, step, steps, settings.personal_steps))
            with self.autocast():
                new = log_probs(policy, answers, chosen, mask[:, chosen], settings.temperature)
            part = (new, old[:, chosen], advantages[:, chosen], mask[:, chosen])
            if ppo.approximate_kl(new.detach(), part[1], part[3]) > settings.kl_stop:
                break
            policy.step(ppo.policy_loss(*part, settings.clip).sum(), settings.gradient_clip)

    def warm_up(self, client: int, critic_batch: CriticBatch, rewards: dict[Axis, Tensor], mask: Tensor) -> None:
        """Trains the critics on returns before the first policy step."""
        zero = torch.zeros_like(mask, dtype=torch.float32)
        targets = {
            axis: ppo.gae(reward, zero, mask, self.settings.discount, 1.0)[1] for axis, reward in rewards.items()
        }
        for _ in range(self.settings.critic_warmup):
            self.critic_step(client, critic_batch, targets, targets, math.inf, mask)

    def critic_step(
        self, client: int, critic_batch: CriticBatch, old: dict[Axis, Tensor], returns: dict[Axis, Tensor], clip: float,
        mask: Tensor,
    ) -> None:  # fmt: skip
        """One step of one client's critics."""
        critics, optimiser = self.critics[client], self.critic_optimisers[client]
        optimiser.zero_grad(set_to_none=True)
        for axis, target in returns.items():
            ppo.value_loss(critics.values(axis, critic_batch), old[axis], target, mask, clip).sum().backward()
            torch.nn.utils.clip_grad_norm_(list(critics.tensors[axis].values()), self.settings.gradient_clip)
        optimiser.step()


def stacked_rows(rows: Sequence[Sequence[float]]) -> tuple[Tensor, Tensor]:
    """Rows of unequal lengths, padded, as (1, n, R), and the mask of their values."""
    lengths = torch.tensor([len(row) for row in rows])
    mask = torch.arange(int(lengths.max())) < lengths[:, None]
    values = torch.zeros(mask.shape).masked_scatter(mask, torch.tensor([value for row in rows for value in row]))
    return values[None], mask[None]


def log_probs(client: PlainClient, answers: Answers, chosen: Sequence[int], mask: Tensor, temperature: float) -> Tensor:
    """Log probability (1, n, R) of every response token of some answers; 0 where there is none."""
    rows = [answers.prompts[index] + answers.responses[index] for index in chosen]
    longest = max(map(len, rows))
    tokens = torch.tensor([row + [0] * (longest - len(row)) for row in rows])  # causality masks padding on the right
    logits = client.model(input_ids=tokens, use_cache=False).logits[:, :-1].float() / temperature
    picked = logits.gather(2, tokens[:, 1:, None])[..., 0] - logits.logsumexp(-1)  # (n, T − 1)
    result = torch.zeros(mask.shape[1:])
    places = [slice(len(answers.prompts[i]) - 1, len(answers.prompts[i] + answers.responses[i]) - 1) for i in chosen]
    values = torch.cat([row[place] for row, place in zip(picked, places, strict=True)])
    return result.masked_scatter(mask[0], values)[None]
