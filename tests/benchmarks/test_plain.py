"""Both sides of a comparison do the same work: from the same start, the same losses and the same weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks.plain import PeftLoop, padded
from benchmarks.sfttrainer import SftLoop
from benchmarks.work import CohortLoop, demo, round_rows
from pwff_core.config import RunConfig
from tests.support.weights import assert_moved_alike, weights_now


@pytest.fixture
def config(tiny_backbone: Path) -> RunConfig:
    return demo(quick=True, backbone=str(tiny_backbone))


def test_the_peft_loop_learns_what_the_cohort_learns(config: RunConfig) -> None:
    cohort = CohortLoop(config)
    start = weights_now(cohort)
    loop = PeftLoop(cohort.clients, cohort.federation.placed)
    for _ in range(2):
        cohort.round()
        loop.round()
    assert_moved_alike(start, cohort, loop.models)


def test_sfttrainer_has_the_same_losses_and_learns_the_same(config: RunConfig) -> None:
    cohort = CohortLoop(config)
    start = weights_now(cohort)
    bare, loop = (make(cohort.clients, cohort.federation.placed) for make in (PeftLoop, SftLoop))
    for _ in range(2):
        cohort.round()
        bare.round()
        loop.round()
        assert loop.losses == pytest.approx([sum(losses) / len(losses) for losses in bare.losses], abs=1e-4)
    assert_moved_alike(start, cohort, loop.models)


@pytest.mark.parametrize("make", [PeftLoop, SftLoop])
def test_in_bfloat16_others_learn_about_the_same(config: RunConfig, make: type[PeftLoop] | type[SftLoop]) -> None:
    losses = []
    for precision in ("float32", "bfloat16"):
        cohort = CohortLoop(config.model_copy(update={"precision": precision}))
        loop = make(cohort.clients, cohort.federation.placed)
        loop.round()
        assert loop.models[0].model.get_input_embeddings().weight.dtype == getattr(torch, precision)
        assert {weight.dtype for named in loop.models[0].groups.values() for weight in named.values()} == {
            torch.float32
        }
        losses.append(torch.tensor(loop.losses))
    torch.testing.assert_close(*losses, atol=0.02, rtol=0)
    assert not torch.equal(*losses)


def test_the_loop_s_models_share_their_frozen_weights(config: RunConfig) -> None:
    clients = CohortLoop(config).clients
    models = PeftLoop(clients, torch.ones(2, 2, 3, dtype=torch.bool).numpy()).models
    frozen = [
        {weight.data_ptr() for weight in model.model.parameters() if not weight.requires_grad} for model in models
    ]
    assert frozen[0] == frozen[1]
    own = [{weight.data_ptr() for weight in model.model.parameters() if weight.requires_grad} for model in models]
    assert not own[0] & own[1]


def test_a_batch_is_padded_to_its_longest_row_and_prompts_have_no_label(config: RunConfig) -> None:
    clients = CohortLoop(config).clients
    rows = round_rows(clients, 1)[0][0]
    batch = padded(rows, clients.padding)
    assert batch["input_ids"].shape == (len(rows), max(len(row.tokens) for row in rows))
    for row, tokens, labels in zip(rows, batch["input_ids"].tolist(), batch["labels"].tolist(), strict=True):
        length = len(row.tokens)
        assert tokens == [*row.tokens, *[clients.padding] * (len(tokens) - length)]
        expected = [token if kind >= 0 else -100 for token, kind in zip(row.tokens, row.kinds, strict=True)]
        assert labels == [*expected, *[-100] * (len(labels) - length)]
