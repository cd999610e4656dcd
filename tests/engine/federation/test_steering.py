"""Settings that change between two rounds: no earlier round changes, and later ones are as if configured so."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import pytest
import torch

from pwff_core import seeds
from pwff_core.config import RunConfig
from pwff_core.engine.federation import play, run, steer
from pwff_core.engine.setup import Federation, prepare
from pwff_core.errors import ConfigError
from pwff_core.knobs import with_changes
from pwff_core.records import RoundRecord, Value
from pwff_core.wireless.link import transfer

WEIGHTS = "preferences.helpfulness_weights"


def played(federation: Federation, changes: Mapping[int, Mapping[str, Value]]) -> Iterator[RoundRecord]:
    """The rounds of a run that is steered just before those that `changes` names, counted over all stages from 1."""
    records = play(federation)
    for position in range(1, federation.rounds_total + 1):
        if position in changes:
            steer(federation, changes[position])
        yield next(records).model_copy(update={"wall_s": 0.0})


def whole_run(config: RunConfig) -> list[RoundRecord]:
    return [record.model_copy(update={"wall_s": 0.0}) for record in run(config)]


def test_a_changed_channel_holds_from_its_round_on(config: RunConfig) -> None:
    config = with_changes(config, {"instruction.rounds": 4})
    plain = whole_run(config)
    changes: dict[str, Value] = {"channel.snr_db": 15.0, "channel.bandwidth_hz": 2e6, "channel.transmit_power_w": 0.5}
    records = list(played(prepare(config), {3: changes}))
    assert records[:2] == plain[:2]
    better = with_changes(config, changes).channel
    for record, unsteered in zip(records[2:], plain[2:], strict=True):
        bits = np.array([client.uplink_bits for client in record.clients])
        sent = transfer(bits, better, seeds.generator(config.seed, "channel", "instruction", record.round))
        assert [client.delay_s for client in record.clients] == sent.delay_s.tolist()
        assert [client.energy_j for client in record.clients] == sent.energy_j.tolist()
        assert record.delay_s == sent.delay_s.max() < unsteered.delay_s
        assert record.energy_j == pytest.approx(0.5 * sent.delay_s.sum())
        assert record.loss == unsteered.loss  # every upload arrived, so learning is the same


def test_fading_can_be_switched_off(config: RunConfig) -> None:
    first, second = played(prepare(config), {2: {"channel.fading": "awgn"}})
    assert len({client.delay_s for client in first.clients}) == 3
    assert len({client.delay_s for client in second.clients}) == 1  # all have the same rate


def test_lost_uploads_are_lost_to_learning_too(config: RunConfig) -> None:
    config = with_changes(config, {"channel.deadline_s": 5.0, "instruction.rounds": 3})
    records = list(played(prepare(config), {2: {"channel.snr_db": -30.0}}))
    assert [sum(client.delivered for client in record.clients) for record in records] == [3, 0, 0]
    assert records[2].loss != whole_run(config)[2].loss


def same_weight(weight: float) -> dict[str, Value]:
    return {WEIGHTS: (weight,) * 3}


def test_preferences_changed_before_the_start_are_as_configured(config: RunConfig) -> None:
    steered, configured = prepare(config), prepare(with_changes(config, same_weight(1.0)))
    steer(steered, same_weight(1.0))
    assert steered.config == configured.config
    assert steered.profiles == configured.profiles
    assert steered.clients.weights == configured.clients.weights


def test_preferences_changed_at_alignment_are_as_configured_from_there_on(whole: RunConfig) -> None:
    """Two rounds each of instruction tuning and reward learning, where preferences play no part; then alignment."""
    plain, configured = whole_run(whole), whole_run(with_changes(whole, same_weight(1.0)))
    steered = list(played(prepare(whole), {5: same_weight(1.0), 6: same_weight(0.0)}))
    assert steered[:4] == plain[:4]
    assert steered[4] == configured[4] != plain[4]
    assert all(client.helpfulness_weight == 1.0 for client in steered[4].clients)
    # and once more within the stage: the rewards of the last round, and what they teach
    assert [client.reward for client in steered[5].clients] == [client.harmlessness for client in steered[5].clients]
    assert steered[5].training_reward != configured[5].training_reward


def test_pooled_training_follows_the_mean_preference(whole: RunConfig) -> None:
    whole = with_changes(whole, {"method": "centralised"})
    configured = whole_run(with_changes(whole, {WEIGHTS: (1.0, 1.0, 0.25)}))
    steered = list(played(prepare(whole), {5: {WEIGHTS: (1.0, 1.0, 0.25)}}))
    assert steered[4:] == configured[4:]


def test_models_are_saved_with_the_preferences_at_the_end_of_the_run(config: RunConfig) -> None:
    federation = prepare(config)
    before = [profile.helpfulness_weight for profile in federation.profiles]
    list(played(federation, {2: {WEIGHTS: (0.0, 0.5, 1.0)}}))
    assert federation.saved_models().config.preferences.helpfulness_weights == (0.0, 0.5, 1.0)
    assert [profile.helpfulness_weight for profile in federation.profiles] == [0.0, 0.5, 1.0] != before


def test_preferences_given_as_harmlessness_are_replaced(config: RunConfig) -> None:
    federation = prepare(with_changes(config, {"preferences.harmlessness_weights": (0.0, 0.5, 1.0)}))
    steer(federation, same_weight(0.25))
    assert federation.clients.weights == [0.25] * 3
    assert federation.config.preferences.harmlessness_weights is None


def test_a_change_of_the_channel_leaves_drawn_preferences_as_they_are(config: RunConfig) -> None:
    federation = prepare(config)
    before = (list(federation.clients.weights), federation.profiles)
    steer(federation, {"channel.snr_db": 0.0})
    assert (federation.clients.weights, federation.profiles) == before


@pytest.mark.parametrize("changes", [{"seed": 3}, {"channel.snr_db": 99.0}, {WEIGHTS: (0.5,)}])
def test_a_change_that_is_not_allowed_changes_nothing(config: RunConfig, changes: dict[str, Value]) -> None:
    federation = prepare(config)
    before = (federation.config, list(federation.clients.weights), federation.profiles)
    with pytest.raises(ConfigError):
        steer(federation, {"channel.fading": "awgn", **changes})
    assert (federation.config, federation.clients.weights, federation.profiles) == before


def test_steering_touches_no_model(config: RunConfig) -> None:
    federation = prepare(config)
    (cohort,) = federation.clients.cohorts
    before = {name: tensor.detach().clone() for name, tensor in cohort.tensors["lora"].items()}
    steer(federation, {"channel.snr_db": 0.0, **same_weight(0.5)})
    assert all(torch.equal(cohort.tensors["lora"][name], tensor) for name, tensor in before.items())
