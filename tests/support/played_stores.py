"""Runs of nine rounds that the test's own process plays."""

from __future__ import annotations

from pwff_core.config import AlignmentConfig, InstructionConfig, RewardConfig, RunConfig
from pwff_core.records import Steering
from pwff_core.runs.store import Store
from tests.support.scripted import profile, whole_run

# 3 + 2 + 4 rounds of five clients with weights 0 to 1, as `whole_run` scripts them
CONFIG = RunConfig(
    clients=5,
    instruction=InstructionConfig(rounds=3),
    reward=RewardConfig(rounds=2),
    alignment=AlignmentConfig(rounds=4),
)


def played(store: Store, rounds: int = 9, config: RunConfig = CONFIG, **ends: str) -> str:
    """A run that this process plays, after so many rounds."""
    run_id = store.create_run(config, "mine", comparison="fig4", owner="ada")
    store.claim(run_id)
    store.describe(run_id, [profile(client) for client in range(5)], ["a remark"], 9)
    for record in whole_run(run_id, **ends)[:rounds]:
        store.append(run_id, record)
    return run_id


def steered_at(position: int, changes: dict[str, float]) -> Steering:
    return Steering(position=position, stage="instruction", round=position, before={}, changes=changes, at=1.0)
