"""Three stages one after another: what each measures and uploads, and when it ends."""

from __future__ import annotations

import pytest
import torch

from pwff_core.config import RunConfig
from pwff_core.engine.federation import play, play_stage, run
from pwff_core.engine.setup import prepare
from pwff_core.knobs import with_changes
from pwff_core.methods import METHODS

ANY_METHOD = pytest.mark.parametrize("method", METHODS)


@ANY_METHOD
def test_every_method_plays_its_stages(whole: RunConfig, method: str) -> None:
    row = METHODS[method]
    prepared = prepare(with_changes(whole, {"method": method}))
    records = list(play(prepared))
    stages = ["instruction", "reward", "alignment"] if row.rewards else ["instruction"]
    assert [(record.stage, record.round) for record in records] == [(stage, n) for stage in stages for n in (1, 2)]
    assert [record.stage_end for record in records] == ["", "All 2 rounds are played."] * len(stages)
    assert all(len(record.clients) == 3 for record in records)
    assert prepared.rounds_total == len(records)
    by_stage = {record.stage: record for record in records}
    if not row.rewards:
        return
    learned, aligned = by_stage["reward"], by_stage["alignment"]
    assert (learned.helpfulness_accuracy is not None) == ("helpfulness" in row.rewards)
    assert (learned.harmlessness_accuracy is not None) == ("harmlessness" in row.rewards)
    assert learned.accuracy is None
    for record in (learned, aligned):  # before and after alignment, by the judge, whatever the method is rewarded for
        assert None not in (record.helpfulness, record.harmlessness, record.reward, record.refusal_rate)
    assert None not in (aligned.kl, aligned.training_reward, aligned.accuracy, aligned.response_tokens)
    assert records[2].helpfulness is None  # only the last round of reward learning has it


@ANY_METHOD
def test_uplink_of_reward_learning_and_alignment(whole: RunConfig, method: str) -> None:
    row = METHODS[method]
    prepared = prepare(with_changes(whole, {"method": method}))
    bits: dict[str, set[int]] = {}
    for record in play(prepared):
        bits.setdefault(record.stage, set()).update(client.uplink_bits for client in record.clients)
    if not row.rewards:
        assert set(bits) == {"instruction"}
        return
    head = (3 * 160 + 1) * 64 + 64 + 1  # the embedded encoder is 160 wide
    assert bits["reward"] == {32 * head * len(row.rewards) if row.uploads else 0}
    assert bits["alignment"] == bits["instruction"]  # critics stay at home


def test_reward_models_end_equal_where_they_are_averaged(whole: RunConfig) -> None:
    for method, equal in (("pwff", True), ("local", False)):
        prepared = prepare(with_changes(whole, {"method": method}))
        assert next(play_stage(prepared, "reward")).stage == "reward"
        for name, tensor in prepared.reward.models[0].tensors["helpfulness"].items():
            if name != "head.outer.bias":  # it shifts both scores of a pair, so that it is not learned
                assert torch.equal(tensor[0], tensor[1]) == equal


def test_the_judge_is_the_same_for_every_method_and_seed(whole: RunConfig) -> None:
    states = []
    for changes in ({"method": "pwff"}, {"method": "shepherd", "seed": 3}):
        prepared = prepare(with_changes(whole, changes))
        states.append(prepared.begin_alignment().judge.state())
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_same_seed_same_records_through_all_stages(whole: RunConfig) -> None:
    first, second = ([record.model_copy(update={"wall_s": 0.0}) for record in run(whole)] for _ in range(2))
    assert first == second


def test_a_stage_ends_when_it_stops_improving(whole: RunConfig) -> None:
    """With a learning rate that moves nothing, nothing improves after the first round."""
    stuck = {"instruction.rounds": 9, "instruction.patience": 2, "instruction.learning_rate": 1e-7}
    prepared = prepare(with_changes(whole, {**stuck, "reward.rounds": 1, "alignment.rounds": 1, "seed": 2}))
    assert prepared.rounds_total == 11
    records = [record for record in play(prepared) if record.stage == "instruction"]
    assert len(records) < 9
    assert records[-1].stage_end == "Loss has not improved for 2 rounds."
    assert not any(record.stage_end for record in records[:-1])
    assert prepared.rounds_total == len(records) + 2


def test_saved_models_are_from_before_and_after_alignment(whole: RunConfig) -> None:
    prepared = prepare(whole)
    for _ in play_stage(prepared, "instruction"):
        pass
    tuned = prepared.saved_models()
    assert tuned.before is None
    assert not tuned.judge
    for _ in play_stage(prepared, "reward"):
        pass
    prepared.begin_alignment()
    for _ in play_stage(prepared, "alignment"):
        pass
    saved = prepared.saved_models()
    assert saved.before is not None
    assert saved.judge
    assert saved.prompts["delicate"]
    for group, named in tuned.after.items():
        for name, tensor in named.items():
            assert torch.equal(saved.before[group][name], tensor)
            assert tensor.shape[0] == 3
    assert any(not torch.equal(saved.after["lora"][name], saved.before["lora"][name]) for name in saved.after["lora"])


def test_stages_priced_as_the_paper_s_models(whole: RunConfig) -> None:
    prepared = prepare(with_changes(whole, {"price_as": "gpt2"}))
    bits = {record.stage: record.clients[0].uplink_bits for record in play(prepared)}
    assert bits == {"instruction": 32 * 580_968, "reward": 32 * 2 * 147_585, "alignment": 32 * 580_968}
