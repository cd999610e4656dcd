"""Alignment as a stage: what it moves, what it leaves, and that two critics on one axis are one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pwff_core.config import RunConfig
from pwff_core.engine.setup import Federation, prepare
from pwff_core.engine.stages.alignment import AlignmentStage
from pwff_core.engine.stages.clients import Clients
from pwff_core.engine.stages.rollouts import answer
from pwff_core.knobs import with_changes


@pytest.fixture
def config(tiny_backbone: Path) -> RunConfig:
    changes = {
        "backbone": str(tiny_backbone), "clients": 3, "data.train_examples": 4, "data.test_examples": 2,
        "data.max_length": 64, "device": "cpu", "reward.rounds": 1, "reward.local_steps": 2, "reward.train_pairs": 8,
        "reward.test_pairs": 4, "alignment.batch_size": 4, "alignment.max_new_tokens": 6, "alignment.test_prompts": 3,
        "alignment.critic_warmup": 3, "alignment.critic_steps": 2, "alignment.learning_rate": 1e-2,
        "preferences.helpfulness_weights": [0.0, 0.5, 1.0], "precision": "float32",
    }  # fmt: skip
    return with_changes(RunConfig(), changes)


def aligned(config: RunConfig) -> tuple[Federation, AlignmentStage]:
    """A federation at the first round of alignment."""
    federation = prepare(config)
    federation.reward.train(1)
    return federation, federation.begin_alignment()


def tensors_of(clients: Clients) -> dict[str, torch.Tensor]:
    return {
        f"{group}/{name}": tensor.detach().clone()
        for group, named in clients.cohorts[0].tensors.items()
        for name, tensor in named.items()
    }


def test_only_policies_and_critics_change(config: RunConfig) -> None:
    federation, stage = aligned(config)
    start = tensors_of(federation.clients)
    rewards = federation.reward.shared()[0]
    frozen = {name: tensor.detach().clone() for name, tensor in rewards.items()}
    stage.train(1)
    after = tensors_of(federation.clients)
    assert all(
        not torch.equal(start[name][k], after[name][k]) for k in range(3) for name in start if name.endswith("up")
    )
    for name, tensor in rewards.items():
        assert torch.equal(tensor, frozen[name])
    for name, tensor in tensors_of(replace(federation.clients, cohorts=stage.references)).items():
        assert torch.equal(tensor, start[name])
    assert not set(stage.shared()[0]) & set(frozen)  # critics stay at home


def test_before_any_step_all_policies_equal_the_reference(config: RunConfig) -> None:
    _, stage = aligned(config)
    measured = stage.measure()
    assert [measures["kl"] for measures in measured] == pytest.approx([0.0] * 3, abs=1e-5)
    assert all("training_reward" not in measures for measures in measured)
    for measures, weight in zip(measured, (0.0, 0.5, 1.0), strict=True):
        by_weight = weight * measures["helpfulness"] + (1 - weight) * measures["harmlessness"]
        assert measures["reward"] == pytest.approx(by_weight)


def test_all_weight_on_one_axis_is_one_critic(config: RunConfig) -> None:
    """PWFF with λ = 1 for all gets SFL's gradients: the second reward model and critic then change nothing.

    Gradients are compared and not weights: where a gradient is next to 0, Adam makes a whole step of its rounding.
    """
    one_step = {"alignment.local_steps": 1, "alignment.minibatches": 1, "preferences.helpfulness_weights": [1.0] * 3}
    gradients = []
    for method in ("pwff", "sfl"):
        federation, stage = aligned(with_changes(config, {**one_step, "method": method}))
        stage.train(1)
        gradients.append([tensor.grad for tensor in federation.clients.cohorts[0].parameters()])
    compared = 0
    for two_critics, one_critic in zip(*gradients, strict=True):
        assert two_critics is not None
        assert one_critic is not None
        torch.testing.assert_close(two_critics, one_critic, atol=1e-5, rtol=0)
        compared += int((two_critics.abs() > 1e-2).sum())
    assert compared > 100  # each client's gradient is clipped to norm 1, so there is something to compare


def test_a_client_that_moved_too_far_stops_until_the_next_round(config: RunConfig) -> None:
    """With a tiny limit the first minibatch, where nobody has moved yet, is the only one that counts."""
    once = with_changes(config, {"alignment.local_steps": 1, "alignment.minibatches": 1, "alignment.personal_steps": 0})
    federation, stage = aligned(once)
    stage.train(1)
    first = tensors_of(federation.clients)
    federation, stage = aligned(with_changes(once, {"alignment.local_steps": 3, "alignment.kl_stop": 1e-4}))
    stage.train(1)
    for name, tensor in tensors_of(federation.clients).items():
        torch.testing.assert_close(tensor, first[name])


def test_a_minibatch_in_several_passes_is_the_same_step(config: RunConfig) -> None:
    """Gradients of a whole step, whose rows are read one at a time or together, and what decides on stopping."""
    federation, stage = aligned(with_changes(config, {"alignment.minibatches": 1, "alignment.local_steps": 1}))
    (cohort,), results = federation.clients.cohorts, []
    rollouts = answer(federation.clients, stage.prompts(1), "rollouts", 1)
    rollouts = rollouts._replace(log_probs=rollouts.log_probs - 0.1 * rollouts.mask)  # as if the policy had moved
    advantages = torch.randn(rollouts.mask.shape, generator=torch.Generator().manual_seed(0)) * rollouts.mask
    models, rows = slice(0, 3), torch.tensor([[0, 1, 2], [3, 1, 2], [0, 2, 3]])
    passes: list[int] = []
    for most_tokens in (1, 10_000):
        federation.clients.tokens_at_once = most_tokens
        passes += [part.shape[1] for part in rollouts.passes(models, most_tokens, rows)]
        for tensor in cohort.parameters():
            tensor.grad = None
        losses, moved = stage.backward(cohort, models, rows, rollouts, advantages)
        results.append([losses, moved, *(tensor.grad.clone() for tensor in cohort.parameters())])
    assert passes == [1, 1, 1, 3]
    for split, whole in zip(*results, strict=True):
        torch.testing.assert_close(split, whole, atol=1e-6, rtol=1e-4)
    assert (results[0][1] > 4e-3).all()  # e^0.1 − 1 − 0.1 = 0.0052


@pytest.mark.slow
@pytest.mark.parametrize("cohort_size", [1, 2])
def test_chunks_of_clients_give_the_same_round(config: RunConfig, cohort_size: int) -> None:
    """Gradients of the first step, what the critics learned and what is measured, whatever is stacked with what."""
    one_step = with_changes(config, {"alignment.local_steps": 1, "alignment.minibatches": 1})
    outcomes = []
    for size in (10, cohort_size):
        federation = Federation(one_step, cohort_size=size)
        federation.reward.train(1)
        stage = federation.begin_alignment()
        before = stage.measure()
        stage.train(1)
        stacks = zip(*(cohort.parameters() for cohort in federation.clients.cohorts), strict=True)
        outcomes.append((before, [torch.cat([tensor.grad for tensor in tensors]) for tensors in stacks]))
    (whole, gradients), (chunks, others) = outcomes
    for whole_measures, chunk_measures in zip(whole, chunks, strict=True):
        assert whole_measures == pytest.approx(chunk_measures, abs=1e-4)
    for whole_gradient, chunk_gradient in zip(gradients, others, strict=True):
        torch.testing.assert_close(whole_gradient, chunk_gradient, atol=1e-5, rtol=0)
    assert max(float(gradient.abs().max()) for gradient in gradients) > 1e-2


def test_prompts_of_following_rounds_differ(config: RunConfig) -> None:
    federation, stage = aligned(config)
    rounds = [stage.prompts(number) for number in (1, 2)]
    delicate = set(stage.preferences[0].delicate)
    for prompts in rounds:
        assert [len(own) for own in prompts] == [4, 4, 4]
        assert sum(prompt in delicate for prompt in prompts[0]) == round(4 * config.alignment.delicate_share)
    assert not set(rounds[0][0]) & set(rounds[1][0])


def test_pooled_alignment_is_one_model_with_all_clients_prompts(config: RunConfig) -> None:
    federation, stage = aligned(with_changes(config, {"method": "centralised"}))
    assert [len(own) for own in stage.prompts(1)] == [12]
    training, measured = stage.train(1), stage.measure()
    assert len(measured) == 3
    assert [cohort.clients for cohort in federation.clients.cohorts] == [1]
    assert len(training) == 3
    assert all(measures["training_reward"] is not None for measures in training)
