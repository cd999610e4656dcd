"""A record's fields are fixed, it survives JSON, and every metric says what it is."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pwff_core.records import METRICS, ClientProfile, ClientRecord, RoundRecord

MEASURED = st.one_of(st.none(), st.floats(allow_nan=False))
CLIENTS = st.builds(
    ClientRecord,
    client=st.integers(0, 199),
    helpfulness_weight=st.floats(0, 1),
    accuracy=MEASURED,
    loss=MEASURED,
    snr_db=MEASURED,
    uplink_bits=st.integers(0, 2**53),
    delay_s=st.floats(0),
    delivered=st.booleans(),
)
ROUNDS = st.builds(
    RoundRecord,
    run=st.text(max_size=8),
    method=st.just("pwff"),
    stage=st.sampled_from(["instruction", "reward", "alignment"]),
    round=st.integers(1, 10_000),
    accuracy=MEASURED,
    delay_s=st.floats(0),
    clients=st.lists(CLIENTS, max_size=3).map(tuple),
)


def test_the_json_of_a_round_has_the_agreed_fields() -> None:
    record = RoundRecord(
        run="r1",
        method="pwff",
        stage="instruction",
        round=1,
        clients=(ClientRecord(client=0, helpfulness_weight=0.25),),
    )
    tree = json.loads(record.model_dump_json())
    agreed = {"run", "method", "stage", "round", "accuracy", "loss", "helpfulness", "harmlessness", "reward"}
    agreed |= {"delay_s", "energy_j", "uplink_bits", "wall_s", "clients"}
    assert agreed <= set(tree)
    client = {"client", "helpfulness_weight", "accuracy", "loss", "helpfulness", "harmlessness", "reward", "kl"}
    client |= {"snr_db", "rate_bps", "uplink_bits", "delay_s", "energy_j", "lora_modules", "examples"}
    assert client <= set(tree["clients"][0])
    assert tree["accuracy"] is tree["reward"] is tree["clients"][0]["kl"] is None  # not measured is null


@given(ROUNDS)
def test_a_record_survives_json(record: RoundRecord) -> None:
    assert RoundRecord.model_validate_json(record.model_dump_json()) == record


def test_nan_and_inf_survive_json() -> None:
    record = ClientRecord(client=0, helpfulness_weight=0.5, loss=math.nan, delay_s=math.inf)
    back = ClientRecord.model_validate_json(record.model_dump_json())
    assert back.loss is not None
    assert math.isnan(back.loss)
    assert back.delay_s == math.inf


def test_records_are_frozen_and_refuse_other_fields() -> None:
    record = ClientRecord(client=0, helpfulness_weight=0.5)
    with pytest.raises(ValidationError, match="frozen"):
        record.accuracy = 1.0  # type: ignore[misc]
    with pytest.raises(ValidationError, match="acuracy"):
        ClientRecord.model_validate({"client": 0, "helpfulness_weight": 0.5, "acuracy": 1.0})


def test_a_profile_survives_json() -> None:
    profile = ClientProfile(
        client=3, helpfulness_weight=0.7, device_class="mid", lora_modules=8, train_examples=40, validation_examples=10,
        test_examples=20, topics={"garden": 25, "travel": 15}, style={"opener": "greeting"}, facts_held=4,
    )  # fmt: skip
    assert ClientProfile.model_validate_json(profile.model_dump_json()) == profile


@pytest.mark.parametrize("name", METRICS)
def test_a_metric_is_a_field_of_a_round_and_says_what_it_is(name: str) -> None:
    metric = METRICS[name]
    assert name in RoundRecord.model_fields
    assert metric.label
    assert metric.help.endswith(".")
    # a unit in the name is the unit that is shown
    suffixes = {"_s": "s", "_j": "J", "_bits": "bit"}
    assert all(metric.unit == unit for suffix, unit in suffixes.items() if name.endswith(suffix))
