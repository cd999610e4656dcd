"""The round loop: what is averaged, what stays, what is counted, what is lost."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pwff_core.config import RunConfig
from pwff_core.data.encoding import KINDS, PROMPT
from pwff_core.engine.aggregation import Server
from pwff_core.engine.federation import play, play_stage, run
from pwff_core.engine.setup import Federation, prepare
from pwff_core.engine.stages.clients import Clients, Measures
from pwff_core.engine.stages.instruction import InstructionStage, trained
from pwff_core.errors import TrainingError
from pwff_core.knobs import with_changes
from pwff_core.methods import METHODS
from pwff_core.records import RoundRecord

ANY_METHOD = pytest.mark.parametrize("method", METHODS)


def one_round(federation: Federation) -> RoundRecord:
    return next(play_stage(federation, "instruction"))


def server_of(federation: Federation) -> Server:
    stage = federation.instruction
    return Server(stage.shared(), stage.num_examples)


class BreakingStage(InstructionStage):
    """Its training leaves client 2 a model that is not finite."""

    def __init__(self, clients: Clients) -> None:
        super().__init__(clients)
        self.broken = clients.cohorts[0].tensors["lora"]["h.0.attn.v.lora_b"]

    def train(self, number: int) -> list[Measures]:
        with torch.no_grad():
            self.broken[2] = float("inf")
        return [{}, {}, {}]


def timeless_records(config: RunConfig) -> list[RoundRecord]:
    return [record.model_copy(update={"wall_s": 0.0}) for record in run(config)]


def test_same_seed_same_records_other_seed_others(config: RunConfig) -> None:
    first = timeless_records(config)
    assert first == timeless_records(config)
    assert first != timeless_records(with_changes(config, {"seed": 1}))


@ANY_METHOD
def test_every_method_learns_on_the_embedded_backbone(method: str) -> None:
    small = {
        "clients": 3,
        "instruction.rounds": 4,
        "data.train_examples": 32,
        "data.test_examples": 8,
        "reward.rounds": 0,
        "alignment.rounds": 0,
        "method": method,
    }
    records = list(run(with_changes(RunConfig(), small)))
    assert [record.round for record in records] == [1, 2, 3, 4]
    assert records[-1].loss < records[0].loss
    assert records[-1].knowledge_accuracy is not None
    assert all(len(record.clients) == 3 for record in records)


@ANY_METHOD
def test_uplink_bits_are_those_of_the_uploaded_tensors(config: RunConfig, method: str) -> None:
    prepared = prepare(with_changes(config, {"method": method}))
    uploaded = sum(
        tensor[0].numel()
        for group in METHODS[method].uploads
        for tensor in prepared.clients.cohorts[0].tensors[group].values()
    )
    record = one_round(prepared)
    assert [client.uplink_bits for client in record.clients] == [32 * uploaded] * 3
    assert record.uplink_bits == 3 * 32 * uploaded
    assert (uploaded > 0) == bool(METHODS[method].uploads)
    assert record.energy_j == pytest.approx(sum(client.delay_s for client in record.clients))  # at 1 W
    assert record.delay_s == max(client.delay_s for client in record.clients)


@ANY_METHOD
def test_uploads_end_equal_and_the_rest_stays_personal(config: RunConfig, method: str) -> None:
    prepared = prepare(with_changes(config, {"method": method}))
    one_round(prepared)
    (cohort,) = prepared.clients.cohorts
    for group, tensors in cohort.tensors.items():
        trained = [tensor for name, tensor in tensors.items() if name.endswith(("up", "lora_b"))]
        assert any(tensor.any() for tensor in trained)
        for tensor in trained:
            if group in METHODS[method].uploads:
                assert torch.equal(tensor[0], tensor[1])
                assert torch.equal(tensor[0], tensor[2])
        if group in METHODS[method].personal and not METHODS[method].pooled:
            assert not any(
                torch.equal(tensor[0], tensor[1]) for tensor in trained if tensor[0].any() and tensor[1].any()
            )


def test_the_average_is_weighted_by_examples(config: RunConfig) -> None:
    prepared = prepare(config)
    server = server_of(prepared)
    prepared.instruction.train(1)
    name = "h.1.block_out.up"
    before = prepared.clients.cohorts[0].tensors["adapters"][name].detach().numpy().copy()
    counts = np.array([profile.train_examples for profile in prepared.profiles])
    assert len(set(counts)) > 1
    server.average(np.array([True, True, True]))
    expected = sum(n * row for n, row in zip(counts, before, strict=True)) / counts.sum()
    np.testing.assert_allclose(server.copy[name].numpy(), expected, rtol=1e-5, atol=1e-8)


def test_a_lost_upload_is_left_out_of_the_average(config: RunConfig) -> None:
    prepared = prepare(config)
    server = server_of(prepared)
    prepared.instruction.train(1)
    name = "h.1.block_out.up"
    before = prepared.clients.cohorts[0].tensors["adapters"][name].detach().clone()
    server.average(np.array([False, True, False]))
    torch.testing.assert_close(server.copy[name], before[1])
    server.average(np.array([False, False, False]))
    torch.testing.assert_close(server.copy[name], before[1])


def test_lost_uploads_are_recorded(config: RunConfig) -> None:
    faded = with_changes(config, {"channel.coherence_time_s": "inf", "channel.deadline_s": 0.08, "clients": 10})
    records = list(run(faded))
    lost = [client for record in records for client in record.clients if not client.delivered]
    assert 0 < len(lost) < 20
    assert all(client.delay_s == 0.08 for client in lost)


def test_clients_in_several_cohorts_learn_the_same(config: RunConfig) -> None:
    one_cohort = list(run(config))
    prepared = Federation(config, cohort_size=2)
    assert [cohort.clients for cohort in prepared.clients.cohorts] == [2, 1]
    for expected, record in zip(one_cohort, play(prepared), strict=True):
        assert record.loss == pytest.approx(expected.loss, rel=1e-4)
        assert record.delay_s == expected.delay_s


def test_pooled_training_is_one_model_for_all(config: RunConfig) -> None:
    prepared = prepare(with_changes(config, {"method": "centralised"}))
    assert [cohort.clients for cohort in prepared.clients.cohorts] == [1]
    record = one_round(prepared)
    assert len({client.loss for client in record.clients}) == 3
    assert record.uplink_bits == 0


def test_accuracy_by_hand(config: RunConfig) -> None:
    """One client's accuracy, counted row by row on its own model without batches or padding."""
    prepared = prepare(config)
    record = one_round(prepared)
    (cohort,) = prepared.clients.cohorts
    right, total, loss = 0, 0, 0.0
    for row in prepared.clients.splits[1].held_out:
        with cohort.attached(), torch.no_grad():
            tokens = torch.from_numpy(row.tokens)
            logits = prepared.clients.backbone.logits(prepared.clients.backbone.hidden(tokens.repeat(3, 1)))[1]
        for position in range(1, len(row.tokens)):
            if row.kinds[position] != PROMPT:
                right += int(logits[position - 1].argmax() == tokens[position])
                loss -= float(torch.log_softmax(logits[position - 1], -1)[tokens[position]])
                total += 1
    assert record.clients[1].accuracy == right / total
    assert record.clients[1].loss == pytest.approx(loss / total, rel=1e-4)


def test_personal_tensors_are_trained_before_uploaded_ones() -> None:
    for row in METHODS.values():  # one personal step of two
        split = bool(row.personal and row.uploads)
        assert trained(row, 0, 2, 1) == (row.personal if split else row.trains)
        assert trained(row, 1, 2, 1) == (row.uploads if split else row.trains)


@pytest.mark.parametrize(
    ("local", "personal", "lora_steps", "adapter_steps"), [(3, 2, 2, 1), (2, 5, 1, 1), (3, 0, 3, 3), (1, 2, 1, 1)]
)
def test_optimiser_steps_of_each_group_in_a_round(
    config: RunConfig, local: int, personal: int, lora_steps: int, adapter_steps: int
) -> None:
    prepared = prepare(with_changes(config, {"instruction.local_steps": local, "instruction.personal_steps": personal}))
    stage = prepared.instruction
    stage.train(1)
    (cohort,), (optimiser,) = prepared.clients.cohorts, stage.optimisers
    for group, steps in (("lora", lora_steps), ("adapters", adapter_steps)):
        assert {int(optimiser.state[tensor]["step"]) for tensor in cohort.tensors[group].values()} == {steps}


def test_knowledge_and_style_tokens_are_scored_apart(config: RunConfig) -> None:
    prepared = prepare(config)
    kinds = np.concatenate([row.kinds for row in prepared.clients.splits[0].held_out])
    record = one_round(prepared).clients[0]
    assert (record.style_accuracy is not None) == bool((kinds == KINDS.index("style")).any())
    assert (record.knowledge_accuracy is not None) == bool((kinds == KINDS.index("knowledge")).any())


@pytest.mark.filterwarnings("ignore:invalid value")
def test_an_error_of_training_says_where_after_the_rounds_before_it(config: RunConfig) -> None:
    prepared = prepare(config)
    rounds = play(prepared)
    assert next(rounds).round == 1
    with torch.no_grad():
        prepared.clients.cohorts[0].tensors["lora"]["h.0.attn.v.lora_b"][1] = float("nan")
    with pytest.raises(TrainingError, match=r"client 1 .*stage instruction, round 2, step 1.*smaller learning rate"):
        next(rounds)


@pytest.mark.filterwarnings("ignore:invalid value")
def test_a_model_that_breaks_in_the_last_step_is_found_too(config: RunConfig) -> None:
    prepared = prepare(config)
    prepared.instruction = BreakingStage(prepared.clients)
    with pytest.raises(TrainingError, match="held-out loss of client 2 .*stage instruction, round 1"):
        one_round(prepared)


def test_profiles_describe_the_clients(config: RunConfig) -> None:
    prepared: Federation = prepare(with_changes(config, {"preferences.helpfulness_weights": [0.0, 0.25, 1.0]}))
    assert [profile.helpfulness_weight for profile in prepared.profiles] == [0.0, 0.25, 1.0]
    assert sorted(profile.lora_modules for profile in prepared.profiles) == [2, 4, 6]
    assert all(profile.style and profile.topics for profile in prepared.profiles)


def test_price_as_gpt2_changes_the_price_alone(config: RunConfig) -> None:
    own, priced = list(run(config)), list(run(with_changes(config, {"price_as": "gpt2"})))
    assert [r.accuracy for r in own] == [r.accuracy for r in priced]
    assert priced[0].clients[0].uplink_bits == 32 * 580_968


def test_bfloat16_weights_learn_about_the_same(config: RunConfig) -> None:
    full, half = (list(run(with_changes(config, {"precision": form})))[-1] for form in ("float32", "bfloat16"))
    assert half.loss == pytest.approx(full.loss, rel=0.01)
    assert half.loss != full.loss
