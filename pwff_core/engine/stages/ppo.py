"""Proximal policy optimisation for K clients with two preferences each: pure functions of tensors.

How this differs from the paper (PWFF, arXiv 2404.13238v2, "Step 3: Federated Alignment Tuning"):
1. The reward models score whole answers, so the reward arrives at an answer's last token; the paper speaks of immediate
   rewards and leaves open when they come. An answer that is cut off at the longest length ends there like any other:
   its score is that of the cut text, and no value is added for what might have followed.
2. A KL penalty is paid at every token against the policy as instruction tuning left it; the paper names none, and
   without one a policy drifts to text that only the reward models like. The penalty has no preference: it is in both
   preferences' rewards, and as λ + (1 − λ) = 1 the weighted sum carries it exactly once.
3. The λ-weighting is of advantages. Generalised advantage estimation is linear in rewards and values, so this is the
   advantage of the weighted reward with the weighted critic, exactly; but each critic learns one preference alone, like
   the reward model that it starts from, and stays valid when an owner moves the weights between rounds.
And from the textbook (PPO, Schulman et al., arXiv 1707.06347; GAE, arXiv 1506.02438; language models, Ziegler et al.,
arXiv 1909.08593):
4. Every mean is a client's own, over its real tokens: the sum of the K losses gives each client exactly the gradient
   that it would have alone.
5. Advantages are whitened to mean 0 and standard deviation 1, per client, over all its answers of a round and before
   they are split into minibatches; the mean is not added back.
6. The critics have an optimiser of their own, so there is no value coefficient; and there is no entropy bonus: the KL
   penalty keeps the policy from collapsing.
7. The KL coefficient is fixed, not adapted to a target.

Notation: K clients, n answers of each, at most R tokens an answer, the end token included. A `mask` (K, n, R) is true
at real tokens, which are the first ones of their row; finite values at other places have no effect. Where the answers
are only a part of a minibatch, `tokens` (K,) is the number of real tokens in the whole minibatch: means divide by it,
so that the parts' losses and gradients add up to the whole minibatch's.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from pwff_core.methods import Axis


def token_rewards(score: Tensor, log_ratio: Tensor, mask: Tensor, kl_coefficient: float) -> Tensor:
    """Rewards (K, n, R): −β log(π/π_ref) at every token, and the answer's score at its last one (1909.08593, eq. 2).

    `score` (K, n); `log_ratio` (K, n, R) of the policy that answered to the reference.
    """
    last = mask & ~F.pad(mask[..., 1:], (0, 1))  # (K, n, R): true where no token follows
    return torch.where(mask, last * score[..., None] - kl_coefficient * log_ratio, 0.0)


def gae(rewards: Tensor, values: Tensor, mask: Tensor, discount: float, gae_lambda: float) -> tuple[Tensor, Tensor]:
    """Generalised advantage estimates and returns, both (K, n, R) and 0 where there is no token (1506.02438, eq. 16).

    δ_t = r_t + γ V_{t+1} − V_t,   Â_t = δ_t + γλ Â_{t+1},   return_t = Â_t + V_t.   After the last token V and Â are 0.
    """
    values = torch.where(mask, values, 0.0)
    delta = torch.where(mask, rewards, 0.0) + discount * F.pad(values[..., 1:], (0, 1)) - values
    advantage, backwards = torch.zeros_like(delta[..., 0]), []
    for step in reversed(range(delta.shape[-1])):
        advantage = delta[..., step] + discount * gae_lambda * advantage
        backwards.append(advantage)
    advantages = torch.stack(backwards[::-1], dim=-1)
    return advantages, advantages + values


def weighted(parts: Mapping[Axis, Tensor], helpfulness_weight: Tensor) -> Tensor:
    """λ · helpfulness + (1 − λ) · harmlessness of tensors (K, …), λ (K,) in [0, 1].

    A method with one preference has its part alone, whatever the weights.
    """
    if len(parts) == 1:
        return next(iter(parts.values()))
    helpful, harmless = parts["helpfulness"], parts["harmlessness"]
    weight = helpfulness_weight.to(helpful).view(-1, *[1] * (helpful.dim() - 1))
    return weight * helpful + (1.0 - weight) * harmless


def whiten(advantages: Tensor, mask: Tensor) -> Tensor:
    """Advantages (K, n, R) with mean 0 and standard deviation 1 over each client's real tokens; 0 if all are equal."""
    centred = torch.where(mask, advantages - _client_mean(advantages, mask)[:, None, None], 0.0)
    deviation = _client_mean(centred.square(), mask).sqrt()
    return centred / (deviation + 1e-8)[:, None, None]


def policy_loss(
    log_probs: Tensor, old: Tensor, advantages: Tensor, mask: Tensor, clip: float, tokens: Tensor | None = None
) -> Tensor:
    """Each client's clipped surrogate loss (K,).

    −E[min(ρ Â, clip(ρ, 1−ε, 1+ε) Â)] with ρ = π/π_old (1707.06347, eq. 7). `log_probs` and `old` (K, n, R).
    """
    ratio = torch.where(mask, log_probs - old, 0.0).exp()
    surrogate = torch.minimum(ratio * advantages, ratio.clamp(1.0 - clip, 1.0 + clip) * advantages)
    return -_client_mean(surrogate, mask, tokens)


def value_loss(
    values: Tensor, old: Tensor, returns: Tensor, mask: Tensor, clip: float, tokens: Tensor | None = None
) -> Tensor:
    """Each client's clipped value loss (K,): ½ E[max((V − G)², (V_clipped − G)²)], V_clipped = old ± `clip` at most.

    As in OpenAI's Baselines (ppo2); an infinite `clip` leaves the plain half mean square. All tensors (K, n, R).
    """
    clipped = old + (values - old).clamp(-clip, clip)
    worse = torch.maximum((values - returns).square(), (clipped - returns).square())
    return 0.5 * _client_mean(worse, mask, tokens)


def approximate_kl(log_probs: Tensor, old: Tensor, mask: Tensor, tokens: Tensor | None = None) -> Tensor:
    """KL(π_old ‖ π) [nat a token] of each client (K,), estimated from tokens that π_old wrote; never negative.

    Schulman's k3, E[(ρ − 1) − log ρ] with ρ = π/π_old (joschu.net/blog/kl-approx.html): unbiased, of low variance.
    """
    log_ratio = torch.where(mask, log_probs - old, 0.0)
    return _client_mean(torch.expm1(log_ratio) - log_ratio, mask, tokens)


def response_kl(log_ratio: Tensor, mask: Tensor) -> Tensor:
    """KL(π ‖ π_ref) [nat a response] of each client (K,): the mean over responses of the summed log ratio (K, n, R).

    Unbiased where π itself wrote the responses; from few of them it can come out negative.
    """
    return torch.where(mask, log_ratio, 0.0).sum(-1).mean(-1)


def client_tokens(mask: Tensor) -> Tensor:
    """Each client's number of real tokens (K,), at least 1."""
    return mask.sum((1, 2)).clamp(min=1)


def _client_mean(values: Tensor, mask: Tensor, tokens: Tensor | None = None) -> Tensor:
    """Mean (K,) over each client's real tokens of (K, n, R); 0 for a client without any."""
    return torch.where(mask, values, 0.0).sum((1, 2)) / (client_tokens(mask) if tokens is None else tokens)
