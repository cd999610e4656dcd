"""The pieces of PPO: by hand, against plain loops, by their properties, and on problems with a known answer."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from pwff_core.engine.stages.ppo import (
    approximate_kl,
    client_tokens,
    gae,
    policy_loss,
    response_kl,
    token_rewards,
    value_loss,
    weighted,
    whiten,
)
from pwff_core.methods import Axis

SHAPE = (3, 4, 6)  # clients, answers, tokens
SEEDS = st.integers(0, 10_000)


def random_tensor(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape or SHAPE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def random_mask(seed: int) -> Tensor:
    """Answers of 1 … R tokens."""
    lengths = torch.randint(1, SHAPE[2] + 1, SHAPE[:2], generator=torch.Generator().manual_seed(seed))
    return torch.arange(SHAPE[2]) < lengths[..., None]


def tensor(*rows: list[float]) -> Tensor:
    """One client's answers (1, n, R)."""
    return torch.tensor([rows], dtype=torch.float64)


def mask_of(*lengths: int) -> Tensor:
    return (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None])[None]


def assert_close(actual: Tensor, expected: object) -> None:
    torch.testing.assert_close(actual, torch.as_tensor(expected, dtype=actual.dtype), atol=1e-9, rtol=1e-9)


def test_token_rewards_by_hand() -> None:
    score = torch.tensor([[2.0, -1.0]], dtype=torch.float64)
    rewards = token_rewards(score, tensor([0.5, -0.5, 1.0], [2.0, 9.0, 9.0]), mask_of(3, 1), kl_coefficient=0.1)
    assert_close(rewards, tensor([-0.05, 0.05, 2.0 - 0.1], [-1.0 - 0.2, 0.0, 0.0]))


def test_gae_by_hand() -> None:
    # γ = 0.5, λ = 0.5.  δ_2 = 4 − 2 = 2;  δ_1 = 0 + 0.5·2 − 3 = −2;  δ_0 = 1 + 0.5·3 − 1 = 1.5
    # Â_2 = 2;  Â_1 = −2 + 0.25·2 = −1.5;  Â_0 = 1.5 + 0.25·(−1.5) = 1.125
    advantages, returns = gae(tensor([1.0, 0.0, 4.0]), tensor([1.0, 3.0, 2.0]), mask_of(3), 0.5, 0.5)
    assert_close(advantages, tensor([1.125, -1.5, 2.0]))
    assert_close(returns, tensor([2.125, 1.5, 4.0]))


@given(SEEDS, st.floats(0, 1), st.floats(0, 1))
def test_gae_equals_its_definition(seed: int, discount: float, gae_lambda: float) -> None:
    rewards, values, mask = random_tensor(seed), random_tensor(seed + 1), random_mask(seed)
    advantages, returns = gae(rewards, values, mask, discount, gae_lambda)
    for client in range(SHAPE[0]):
        for row in range(SHAPE[1]):
            length = int(mask[client, row].sum())
            r, v = rewards[client, row].tolist()[:length], [*values[client, row].tolist()[:length], 0.0]
            delta = [r[t] + discount * v[t + 1] - v[t] for t in range(length)]
            for t in range(length):
                summed = sum((discount * gae_lambda) ** k * delta[t + k] for k in range(length - t))
                assert advantages[client, row, t].item() == pytest.approx(summed, abs=1e-9)
                assert returns[client, row, t].item() == pytest.approx(summed + v[t], abs=1e-9)
    assert not advantages[~mask].any()
    assert not returns[~mask].any()


@given(SEEDS)
def test_gae_without_discount_is_returns_minus_values(seed: int) -> None:
    rewards, values, mask = random_tensor(seed), random_tensor(seed + 1), random_mask(seed)
    advantages, returns = gae(rewards, values, mask, 1.0, 1.0)
    to_come = (rewards * mask).flip(-1).cumsum(-1).flip(-1)  # rewards from here to the end
    assert_close(advantages, (to_come - values) * mask)
    assert_close(returns, to_come * mask)


@given(SEEDS, st.floats(0, 1), st.floats(0, 1))
def test_weighted_advantages_are_those_of_the_weighted_reward(seed: int, discount: float, gae_lambda: float) -> None:
    """Two critics, λ-weighted = one critic of the weighted values: GAE is linear."""
    mask, weights = random_mask(seed), torch.rand(3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    rewards: dict[Axis, Tensor] = {"helpfulness": random_tensor(seed), "harmlessness": random_tensor(seed + 1)}
    values: dict[Axis, Tensor] = {"helpfulness": random_tensor(seed + 2), "harmlessness": random_tensor(seed + 3)}
    apart: dict[Axis, Tensor] = {
        axis: gae(rewards[axis], values[axis], mask, discount, gae_lambda)[0] for axis in rewards
    }
    whole, _ = gae(weighted(rewards, weights), weighted(values, weights), mask, discount, gae_lambda)
    assert_close(weighted(apart, weights), whole)


@given(SEEDS, st.floats(0, 2))
def test_the_weighted_sum_carries_the_kl_penalty_exactly_once(seed: int, kl_coefficient: float) -> None:
    mask, log_ratio = random_mask(seed), random_tensor(seed)
    weights = torch.rand(3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    scores: dict[Axis, Tensor] = {
        "helpfulness": random_tensor(seed + 1, 3, 4),
        "harmlessness": random_tensor(seed + 2, 3, 4),
    }
    apart: dict[Axis, Tensor] = {axis: token_rewards(s, log_ratio, mask, kl_coefficient) for axis, s in scores.items()}
    summed = weighted(apart, weights).sum(-1)
    assert_close(summed, weighted(scores, weights) - kl_coefficient * (log_ratio * mask).sum(-1))


def test_weights_by_hand() -> None:
    parts: dict[Axis, Tensor] = {"helpfulness": torch.ones(3, 2, 2), "harmlessness": torch.full((3, 2, 2), 5.0)}
    mixed = weighted(parts, torch.tensor([1.0, 0.0, 0.75]))
    assert_close(mixed[:, 0, 0], [1.0, 5.0, 2.0])


def test_a_single_preference_is_not_weighted() -> None:
    part = random_tensor(0)
    assert torch.equal(weighted({"helpfulness": part}, torch.tensor([0.0, 0.3, 1.0])), part)


@pytest.mark.parametrize(("weight", "axis"), [(1.0, "helpfulness"), (0.0, "harmlessness")])
def test_with_both_weights_on_one_axis_two_critics_equal_one(weight: float, axis: Axis) -> None:
    mask, log_ratio, old = random_mask(0), random_tensor(1), random_tensor(2)
    scores: dict[Axis, Tensor] = {"helpfulness": random_tensor(3, 3, 4), "harmlessness": random_tensor(4, 3, 4)}
    values: dict[Axis, Tensor] = {"helpfulness": random_tensor(5), "harmlessness": random_tensor(6)}

    def gradient(axes: list[Axis]) -> Tensor:
        estimates: dict[Axis, Tensor] = {}
        for name in axes:
            rewards = token_rewards(scores[name], log_ratio, mask, 0.2)
            estimates[name] = gae(rewards, values[name], mask, 1.0, 0.95)[0]
        advantages = whiten(weighted(estimates, torch.full((3,), weight, dtype=torch.float64)), mask)
        new = (old + 0.3 * random_tensor(7)).requires_grad_()
        policy_loss(new, old, advantages, mask, 0.2).sum().backward()
        assert new.grad is not None
        return new.grad

    assert gradient([axis]).any()
    assert_close(gradient(["helpfulness", "harmlessness"]), gradient([axis]))


@given(SEEDS)
def test_whitened_advantages_have_mean_0_and_deviation_1_per_client(seed: int) -> None:
    mask = random_mask(seed)
    scales, shifts = torch.tensor([1.0, 20.0, 0.05]), torch.tensor([0.0, 7.0, -3.0])
    advantages = random_tensor(seed) * scales[:, None, None] + shifts[:, None, None]
    white = whiten(advantages, mask)
    for client in range(3):
        real = white[client][mask[client]]
        assert real.mean().item() == pytest.approx(0.0, abs=1e-6)
        assert real.std(correction=0).item() == pytest.approx(1.0, abs=1e-5)
    assert not white[~mask].any()


def test_equal_advantages_whiten_to_zero() -> None:
    assert not whiten(tensor([3.0, 3.0, 3.0]), mask_of(3)).any()


def test_policy_loss_by_hand() -> None:
    # ε = 0.2; ratios 1.5, 0.5, 1.1 with advantages +, +, −; then 1.5 and 0.5 with −
    ratios, advantages = tensor([1.5, 0.5, 1.1], [1.5, 0.5, 9.0]), tensor([1.0, 1.0, -1.0], [-1.0, -1.0, 9.0])
    new = ratios.log().requires_grad_()
    losses = policy_loss(new, torch.zeros_like(new), advantages, mask_of(3, 2), clip=0.2)
    # the smaller of the two: 1.2, 0.5, −1.1, −1.5, −0.8
    assert_close(losses.detach(), [-(1.2 + 0.5 - 1.1 - 1.5 - 0.8) / 5])
    losses.sum().backward()
    # d/d log π of −min = −ρ Â where the clip does not hold, else 0
    assert new.grad is not None
    assert_close(new.grad * 5, tensor([0.0, -0.5, 1.1], [1.5, 0.0, 0.0]))


@given(SEEDS)
def test_at_the_first_minibatch_the_gradient_is_the_unclipped_one(seed: int) -> None:
    mask, advantages, old = random_mask(seed), random_tensor(seed), random_tensor(seed + 1)
    new = old.clone().requires_grad_()
    losses = policy_loss(new, old, advantages, mask, 0.2)
    assert approximate_kl(new.detach(), old, mask).tolist() == [0.0, 0.0, 0.0]
    (gradient,) = torch.autograd.grad(losses.sum(), new)
    plain = old.clone().requires_grad_()
    expected = sum(-(plain[k][mask[k]] * advantages[k][mask[k]]).mean() for k in range(3))
    assert_close(gradient, torch.autograd.grad(expected, plain)[0])


def test_a_client_s_loss_is_its_own() -> None:
    mask, old, advantages = random_mask(0), random_tensor(1), random_tensor(2)
    new = (old + 0.3 * random_tensor(3)).requires_grad_()
    for loss in (policy_loss(new, old, advantages, mask, 0.2), value_loss(new, old, advantages, mask, 0.2)):
        (gradient,) = torch.autograd.grad(loss[1], new, retain_graph=True)
        assert gradient[1].any()
        assert not gradient[[0, 2]].any()


@given(SEEDS, st.integers(1, 3))
def test_parts_of_a_minibatch_add_up_to_the_whole(seed: int, cut: int) -> None:
    mask, old, advantages = random_mask(seed), random_tensor(seed + 1), random_tensor(seed + 2)
    new, parts = old + 0.3 * random_tensor(seed + 3), (slice(0, cut), slice(cut, SHAPE[1]))
    tokens = client_tokens(mask)
    assert tokens.tolist() == [int(client_mask.sum()) for client_mask in mask]
    for loss in (policy_loss, value_loss):
        whole = loss(new, old, advantages, mask, 0.2)
        assert_close(sum(loss(new[:, p], old[:, p], advantages[:, p], mask[:, p], 0.2, tokens) for p in parts), whole)
    moved = sum(approximate_kl(new[:, p], old[:, p], mask[:, p], tokens) for p in parts)
    assert_close(moved, approximate_kl(new, old, mask))


def test_value_loss_by_hand() -> None:
    # clip 0.2: a value may count as moved from 0 by 0.2 at most; the worse of both squares holds
    values, returns = tensor([1.0, 0.1, -1.0], [5.0, 9.0, 9.0]), tensor([1.0, 1.0, 1.0], [5.0, 0.0, 0.0])
    loss = value_loss(values, torch.zeros_like(values), returns, mask_of(3, 1), clip=0.2)
    assert_close(loss, [0.5 * (0.8**2 + 0.9**2 + 2.0**2 + 4.8**2) / 4])
    plain = value_loss(values, torch.zeros_like(values), returns, mask_of(3, 1), clip=math.inf)
    assert_close(plain, [0.5 * (0.0 + 0.9**2 + 2.0**2 + 0.0) / 4])


def test_approximate_kl_by_hand() -> None:
    new = tensor([math.log(2.0), math.log(0.5), 0.0], [7.0, 7.0, 7.0])
    old = tensor([0.0, 0.0, 0.0], [7.0, 0.0, 0.0])
    # (2 − 1 − ln 2), (½ − 1 + ln 2), 0, 0
    assert_close(approximate_kl(new, old, mask_of(3, 1)), [0.5 / 4])


@given(SEEDS)
def test_approximate_kl_is_never_negative(seed: int) -> None:
    assert (approximate_kl(random_tensor(seed), random_tensor(seed + 1), random_mask(seed)) >= 0).all()


def test_kl_estimates_are_unbiased() -> None:
    """Tokens in the exact shares of π_old: the estimates are the KL divergences themselves."""
    old, new = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64), torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64)
    drawn = torch.tensor([0] * 5 + [1] * 3 + [2] * 2)
    log_old, log_new = (p.log()[drawn].view(1, 10, 1) for p in (old, new))
    divergence = float((old * (old / new).log()).sum())
    everywhere = torch.ones(1, 10, 1, dtype=torch.bool)
    assert_close(approximate_kl(log_new, log_old, everywhere), [divergence])
    assert_close(response_kl(log_old - log_new, everywhere), [divergence])


def test_response_kl_by_hand() -> None:
    assert_close(response_kl(tensor([0.5, -0.1, 0.2], [1.0, 9.0, 9.0]), mask_of(3, 1)), [(0.6 + 1.0) / 2])


@given(SEEDS, st.sampled_from([-1e3, 1e3]))
def test_values_outside_the_mask_have_no_effect(seed: int, noise: float) -> None:
    mask, tensors = random_mask(seed), [random_tensor(seed + index) for index in range(3)]
    noisy = [torch.where(mask, t, noise * (index + 1)) for index, t in enumerate(tensors)]

    def everything(a: Tensor, b: Tensor, c: Tensor) -> list[Tensor]:
        return [
            token_rewards(random_tensor(seed, 3, 4), a, mask, 0.2), *gae(a, b, mask, 0.9, 0.9), whiten(a, mask),
            policy_loss(a, b, c, mask, 0.2), value_loss(a, b, c, mask, 0.2), approximate_kl(a, b, mask),
            response_kl(a, mask),
        ]  # fmt: skip

    for result, expected in zip(everything(*noisy), everything(*tensors), strict=True):
        assert_close(result, expected)


# Problems with a known answer: policies over arms, played with every arm in exactly its share (no sampling noise).

PLAYS = 2000  # a client's answers of a round


def played(probabilities: Tensor) -> Tensor:
    """Arms (K, PLAYS), each as often as its probability (K, arms) says."""
    places = (torch.arange(PLAYS, dtype=torch.float64) + 0.5) / PLAYS
    return torch.searchsorted(probabilities.detach().cumsum(-1), places.expand(len(probabilities), -1).contiguous())


def trained_bandit(
    scores: dict[Axis, Tensor], weights: Tensor, reference: Tensor, kl_coefficient: float, rounds: int, rate: float,
    white: bool,
) -> Tensor:  # fmt: skip
    """Probabilities (K, arms) after PPO on one-token answers; a critic an axis that learns its own expected reward."""
    clients = len(weights)
    logits = reference.log().expand(clients, -1).clone().requires_grad_()
    critics: dict[Axis, Tensor] = {axis: torch.zeros(clients, dtype=torch.float64) for axis in scores}
    mask = torch.ones(clients, PLAYS, 1, dtype=torch.bool)
    for _ in range(rounds):
        arms = played(logits.softmax(-1))
        old = logits.log_softmax(-1).detach().gather(1, arms)[..., None]
        log_ratio = old - reference.log()[arms][..., None]
        estimates: dict[Axis, Tensor] = {}
        for axis, score in scores.items():
            rewards = token_rewards(score[arms], log_ratio, mask, kl_coefficient)
            estimates[axis], returns = gae(rewards, critics[axis][:, None, None].expand_as(rewards), mask, 1.0, 0.95)
            critics[axis] = returns.mean((1, 2))
        advantages = weighted(estimates, weights)
        advantages = whiten(advantages, mask) if white else advantages
        for _ in range(2):
            new = logits.log_softmax(-1).gather(1, arms)[..., None]
            (gradient,) = torch.autograd.grad(policy_loss(new, old, advantages, mask, 0.2).sum(), logits)
            with torch.no_grad():
                logits -= rate * gradient
    return logits.softmax(-1).detach()


def test_in_a_two_armed_bandit_each_client_takes_the_arm_that_its_weights_prefer() -> None:
    scores: dict[Axis, Tensor] = {  # the first arm helps, the second does no harm
        "helpfulness": torch.tensor([1.0, 0.0], dtype=torch.float64),
        "harmlessness": torch.tensor([-0.5, 0.5], dtype=torch.float64),
    }
    weights, even = torch.tensor([0.9, 0.6, 0.4, 0.1], dtype=torch.float64), torch.full((2,), 0.5, dtype=torch.float64)
    probabilities = trained_bandit(scores, weights, even, 0.0, rounds=60, rate=0.5, white=True)
    # λ·1 + (1 − λ)·(−½) > (1 − λ)·½ where λ > ½
    assert (probabilities[:2, 0] > 0.99).all()
    assert (probabilities[2:, 1] > 0.99).all()


@pytest.mark.parametrize("kl_coefficient", [0.5, 1.0])
def test_with_a_kl_penalty_the_policy_reaches_the_known_optimum(kl_coefficient: float) -> None:
    """max E[r] − β KL(π ‖ π_ref) is reached by π* ∝ π_ref exp(r / β)."""
    scores: dict[Axis, Tensor] = {
        "helpfulness": torch.tensor([1.0, 0.0, 0.3], dtype=torch.float64),
        "harmlessness": torch.tensor([-0.5, 0.5, 0.4], dtype=torch.float64),
    }
    weights = torch.tensor([1.0, 0.5, 0.2], dtype=torch.float64)
    reference = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64)
    probabilities = trained_bandit(scores, weights, reference, kl_coefficient, rounds=150, rate=0.5, white=False)
    for client, weight in enumerate(weights.tolist()):
        reward = weight * scores["helpfulness"] + (1 - weight) * scores["harmlessness"]
        optimum = reference * (reward / kl_coefficient).exp()
        torch.testing.assert_close(probabilities[client], optimum / optimum.sum(), atol=2e-3, rtol=0)


def test_credit_reaches_the_token_that_earned_it() -> None:
    """Two-token answers, paid at the end for the first token alone: only the first choice is learned."""
    rows = torch.tensor([[[0, 0], [0, 1], [1, 0], [1, 1]]])  # all four answers, equally often
    score = (rows[..., 0] == 1).double()
    first, second = (torch.zeros(2, dtype=torch.float64, requires_grad=True) for _ in range(2))
    new = torch.stack([first.log_softmax(-1)[rows[..., 0]], second.log_softmax(-1)[rows[..., 1]]], dim=-1)
    mask = torch.ones_like(new, dtype=torch.bool)
    values = torch.stack([torch.full_like(score, 0.5), score], dim=-1)  # what a true critic knows before each token
    advantages, _ = gae(token_rewards(score, torch.zeros_like(new), mask, 0.0), values, mask, 1.0, 0.95)
    assert_close(advantages[0], [[-0.5, 0.0], [-0.5, 0.0], [0.5, 0.0], [0.5, 0.0]])
    policy_loss(new, new.detach(), advantages, mask, 0.2).sum().backward()
    assert first.grad is not None
    assert second.grad is not None
    assert first.grad[1] < 0 < first.grad[0]
    assert_close(second.grad, [0.0, 0.0])
