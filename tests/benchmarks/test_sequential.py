"""The sequential alignment does the cohort's work: given its answers, it finds its weights."""

from __future__ import annotations

import pytest
import torch

from benchmarks.sequential import Answers, SequentialAlignment, log_probs, stacked_rows
from benchmarks.work import CohortLoop, demo
from pwff_core.engine.stages.rollouts import Rollouts, answer
from tests.support.encoders import wordpiece_folder
from tests.support.weights import assert_moved_alike, weights_now


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> CohortLoop:
    encoder = wordpiece_folder(tmp_path_factory.mktemp("encoder"), context=128)
    # with one minibatch there is no order of them, in which the two would differ
    changes = {"alignment.minibatches": 1, "alignment.local_steps": 2, "reward.encoder": str(encoder)}
    return CohortLoop(demo(quick=True, **changes), "alignment")


def answers_of(rollouts: Rollouts, client: int, prompts: list[list[int]]) -> Answers:
    lengths = rollouts.mask[client].sum(-1).tolist()
    cut = [tensor[client].tolist() for tensor in (rollouts.labels, rollouts.log_probs)]
    return Answers(prompts, *[[row[:n] for row, n in zip(rows, lengths, strict=True)] for rows in cut])


def test_with_the_cohort_s_answers_the_weights_are_the_cohort_s(cohort: CohortLoop) -> None:
    rollouts = answer(cohort.clients, cohort.stage.prompts(1), "rollouts", 1)
    alone = SequentialAlignment(cohort.federation, lambda client, prompts: answers_of(rollouts, client, prompts))
    start = weights_now(cohort)
    written = cohort.answer_tokens()
    cohort.round()
    alone.round()
    assert_moved_alike(start, cohort, alone.policies)
    assert alone.tokens == written


def test_generate_has_the_probabilities_of_a_forward_pass(cohort: CohortLoop) -> None:
    alone = SequentialAlignment(cohort.federation)
    answers = alone.generate(0, [[5, 6, 7, 8], [9, 10]])
    assert all(1 <= len(response) <= cohort.config.alignment.max_new_tokens for response in answers.responses)
    drawn, mask = stacked_rows(answers.log_probs)
    with torch.no_grad():
        computed = log_probs(alone.policies[0], answers, [0, 1], mask, cohort.config.alignment.temperature)
    torch.testing.assert_close(computed, drawn, atol=1e-4, rtol=0)


def test_rows_of_unequal_lengths_are_stacked() -> None:
    values, mask = stacked_rows([[1.0, 2.0], [3.0]])
    assert values.tolist() == [[[1.0, 2.0], [3.0, 0.0]]]
    assert mask.tolist() == [[[True, True], [True, False]]]
