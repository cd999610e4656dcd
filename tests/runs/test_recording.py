"""Recordings: a run as one JSON text, written and read back."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pwff_core.config import RunConfig, stage_rounds
from pwff_core.errors import StoreError
from pwff_core.knobs import with_changes
from pwff_core.paths import assets_dir
from pwff_core.records import Steering
from pwff_core.runs.recording import DEMO_ID, VERSION, from_json, recorded_demo, recording_of, to_json, versions
from pwff_core.runs.store import RunStatus, Store
from tests.support.scripted import WEIGHTS, profile, whole_run

CONFIG = with_changes(RunConfig(), {"clients": 5, "seed": 7, "instruction.rounds": 3, "reward.rounds": 2})
STEERING = Steering(
    position=4, stage="reward", round=1, before={"channel.snr_db": 5.0, "preferences.helpfulness_weights": None},
    changes={"channel.snr_db": -3.0, "preferences.helpfulness_weights": (0.0, 0.25, 0.5, 0.75, 1.0)}, at=12.5,
)  # fmt: skip


@pytest.fixture
def run_id(store: Store) -> str:
    """A run of five clients that was steered once and stopped after its sixth round."""
    run_id = store.create_run(CONFIG, "für Ω <b>")
    store.claim(run_id)
    store.describe(run_id, [profile(client) for client in range(len(WEIGHTS))], ["a remark"], 12)
    for number, record in enumerate(whole_run(run_id)[:6], start=1):
        if number == STEERING.position:
            store.acknowledge(run_id, 1, STEERING)
        store.append(run_id, record)
    store.finish(run_id, RunStatus.STOPPED, "Stopped after 6 of 12 rounds.")
    return run_id


def test_a_recording_holds_everything_that_the_store_has_of_a_run(store: Store, run_id: str) -> None:
    recording = recording_of(store, run_id)
    row = store.run(run_id)
    worker = {"pid": row.pid, "heartbeat_at": row.heartbeat_at}
    assert recording.row.model_copy(update=worker) == row
    assert recording.row.pid is None and recording.row.heartbeat_at is None
    assert recording.records == tuple(whole_run(run_id)[:6])
    assert recording.steerings == (STEERING,)
    assert recording.versions == versions()


def test_a_recording_is_read_back_unchanged(store: Store, run_id: str) -> None:
    recording = recording_of(store, run_id)
    text = to_json(recording)
    assert from_json(text) == recording
    assert to_json(from_json(text)) == text


def test_the_text_is_strict_json_with_a_line_a_round(store: Store, run_id: str) -> None:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    text = to_json(recording_of(store, run_id))
    tree = json.loads(text, parse_constant=refuse)
    assert (tree["format"], tree["version"], tree["name"]) == ("pwff-recording", 1, "für Ω <b>")
    assert tree["config"]["channel"]["deadline_s"] == "Infinity"
    assert {"python", "torch"} <= set(tree["versions"])
    assert [line.count('"stage":') for line in text.split('"rounds": [\n')[1].splitlines()[:6]] == [1] * 6
    assert not {"pid", "heartbeat_at", "deleted"} & set(tree)


def test_a_run_without_rounds_can_be_recorded(store: Store) -> None:
    recording = recording_of(store, store.create_run(RunConfig()))
    assert recording.records == () and recording.row.status is RunStatus.QUEUED
    assert from_json(to_json(recording)) == recording


def test_an_unknown_run_cannot_be_recorded(store: Store) -> None:
    with pytest.raises(StoreError, match="^There is no run 'nosuchid' in"):
        recording_of(store, "nosuchid")


def with_fields(text: str, **changes: Any) -> str:
    return json.dumps(json.loads(text) | changes)


def test_a_later_pwff_may_add_fields_and_a_newer_format_is_refused(store: Store, run_id: str) -> None:
    recording = recording_of(store, run_id)
    text = to_json(recording)
    assert from_json(with_fields(text, mood="good")) == recording
    with pytest.raises(StoreError, match=r"newer pwff \(format 2; this one reads up to 1\); upgrade pwff"):
        from_json(with_fields(text, version=VERSION + 1, rounds="told otherwise"))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "Invalid JSON: EOF while parsing"),
        ("PK\x03\x04", "Invalid JSON"),
        ("[" * 100_000, "Invalid JSON"),
        ("[]", "Input should be an object"),
        ("{}", "format: Field required"),
        ('{"format": "gif", "version": 1}', "format: Input should be 'pwff-recording'"),
        ('{"format": "pwff-recording", "version": "one"}', "version: Input should be a valid integer"),
        ('{"format": "pwff-recording", "version": 1}', "id: Field required"),
    ],
)
def test_another_file_is_refused_in_one_sentence(text: str, reason: str) -> None:
    with pytest.raises(StoreError) as error:
        from_json(text)
    assert str(error.value).startswith(f"This is not a recording of a run ({reason}")
    assert str(error.value).endswith("; `pwff export` writes one, called run.json.")


def test_an_inconsistent_recording_is_refused(store: Store, run_id: str) -> None:
    text = to_json(recording_of(store, run_id))
    rounds, profiles = json.loads(text)["rounds"], json.loads(text)["profiles"]
    broken: list[tuple[dict[str, Any], str]] = [
        ({"rounds": [rounds[0], rounds[2]]}, "round 2 of stage instruction is missing"),
        ({"rounds": [*rounds[3:], *rounds[:3]]}, "its stages are not in order"),
        ({"rounds": [*rounds, *rounds]}, "its stages are not in order"),
        ({"profiles": profiles[:3]}, "round 1 of stage instruction has clients that it does not describe"),
        ({"profiles": profiles[1:]}, "its clients are not numbered from 0"),
        ({"config": {"clients": 1}}, "config.clients: Input should be greater than or equal to 2"),
        ({"rounds": [rounds[0] | {"accuracy": "high"}]}, "rounds.0.accuracy: Input should be a valid number"),
        ({"status": "happy"}, "status: Input should be"),
    ]
    for changes, reason in broken:
        with pytest.raises(StoreError) as error:
            from_json(with_fields(text, **changes))
        assert reason in str(error.value)


@given(st.text())
def test_any_other_text_is_refused(text: str) -> None:
    with pytest.raises(StoreError, match="^This is not a recording of a run"):
        from_json(text)


# the run in assets


def test_the_recorded_demo_is_a_whole_run_of_the_demo() -> None:
    row, records, steerings, made_with = recorded_demo()
    assert (row.id, row.name, row.status) == (DEMO_ID, "Ten clients, wishes from 0 to 1", RunStatus.FINISHED)
    weights = [1.0, 0.889, 0.778, 0.667, 0.556, 0.444, 0.333, 0.222, 0.111, 0.0]
    assert row.config == with_changes(RunConfig(), {"seed": 1, "preferences.helpfulness_weights": weights})
    assert [profile.helpfulness_weight for profile in row.profiles] == weights
    played = {
        stage: [record.round for record in records if record.stage == stage] for stage in stage_rounds(row.config)
    }
    assert played == {"instruction": [*range(1, 17)], "reward": [*range(1, 5)], "alignment": [*range(1, 8)]}
    assert row.rounds_done == row.rounds_total == len(records) == 27
    assert {record.run for record in records} == {DEMO_ID}
    assert steerings == () and {"python", "pwff", "torch"} <= set(made_with)
    assert math.isclose(sum(record.wall_s for record in records), 83.6, abs_tol=0.1)


def test_the_recorded_demo_is_small_and_names_no_path() -> None:
    text = (assets_dir() / "recorded-demo.json").read_text(encoding="utf-8")
    assert len(text) < 300_000
    assert not any(word in text for word in ("/home", "/root", "/tmp", "/work", "\\\\", "C:"))
    assert to_json(recorded_demo()) == text
