"""The head by blocks against PyTorch's own softmax over all logits at once."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pwff_core.engine.models.lm_head import label_scores

WORDS, WIDTH = 17, 6


def plain(head: nn.Linear, hidden: torch.Tensor, labels: torch.Tensor, temperature: float) -> torch.Tensor:
    return torch.log_softmax(head(hidden) / temperature, -1).gather(1, labels[:, None])[:, 0]


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("rows", [3, 8, 100])
def test_log_probs_and_their_gradient(bias: bool, temperature: float, rows: int) -> None:
    torch.manual_seed(0)
    head = nn.Linear(WIDTH, WORDS, bias=bias).requires_grad_(False)
    labels, outer = torch.randint(WORDS, (8,)), torch.randn(8)
    hidden, plain_hidden = (torch.arange(8 * WIDTH).view(8, WIDTH).sin().requires_grad_() for _ in range(2))
    scores = label_scores(head, hidden, labels, temperature, rows=rows)
    expected = plain(head, plain_hidden, labels, temperature)
    torch.testing.assert_close(scores.log_probs, expected)
    assert torch.equal(scores.best, head(hidden).argmax(-1) == labels)
    (scores.log_probs * outer).sum().backward()
    (expected * outer).sum().backward()
    torch.testing.assert_close(hidden.grad, plain_hidden.grad)


def test_hidden_states_in_bfloat16_have_log_probs_in_float32() -> None:
    torch.manual_seed(0)
    head = nn.Linear(WIDTH, WORDS, bias=False).requires_grad_(False)
    hidden = torch.randn(4, WIDTH).to(torch.bfloat16).requires_grad_()
    labels = torch.arange(4)
    scores = label_scores(head, hidden, labels)
    assert scores.log_probs.dtype == torch.float32
    torch.testing.assert_close(scores.log_probs, plain(head, hidden.detach().float(), labels, 1.0))
    scores.log_probs.sum().backward()
    assert hidden.grad is not None
    assert hidden.grad.dtype == torch.bfloat16


def test_logits_far_apart_stay_finite() -> None:
    head = nn.Linear(1, 2, bias=False).requires_grad_(False)
    head.weight.copy_(torch.tensor([[1000.0], [-1000.0]]))
    scores = label_scores(head, torch.ones(2, 1), torch.tensor([0, 1]))
    assert scores.log_probs.tolist() == [0.0, -2000.0]
    assert scores.best.tolist() == [True, False]
