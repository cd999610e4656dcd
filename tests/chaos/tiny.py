"""The run that is killed: three short stages, some uploads that come too late, and one change of settings."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import NamedTuple

from pwff_core.config import RunConfig
from pwff_core.knobs import with_changes
from pwff_core.records import RoundRecord, Value
from pwff_core.runs.run_files import RunFiles
from pwff_core.runs.store import Store

os.environ["OMP_NUM_THREADS"] = "1"  # of all processes: the order of a sum must not depend on idle cores

CHANGES: dict[str, Value] = {"channel.snr_db": 5.4, "preferences.helpfulness_weights": (0.9, 0.2)}
"""Asked of every run once while it plays: afterwards other uploads are lost, and alignment has other aims."""
TINY: dict[str, object] = {
    "clients": 2, "device": "cpu", "channel.deadline_s": 1.2, "data.train_examples": 8, "data.test_examples": 2,
    "instruction.rounds": 4, "instruction.local_steps": 2, "instruction.batch_size": 2,
    "reward.rounds": 2, "reward.local_steps": 2, "reward.batch_size": 2, "reward.train_pairs": 4,
    "reward.test_pairs": 2, "alignment.rounds": 3, "alignment.batch_size": 2, "alignment.minibatches": 1,
    "alignment.local_steps": 1, "alignment.personal_steps": 0, "alignment.max_new_tokens": 12,
    "alignment.test_prompts": 2, "alignment.critic_warmup": 2, "alignment.critic_steps": 1,
}  # fmt: skip


class Outcome(NamedTuple):
    """A run's result, without what differs between two equal runs: its id and its seconds."""

    records: tuple[str, ...]
    models: dict[str, str]  # file → its digest

    def differing(self, other: Outcome) -> list[str]:
        """Names of all that differs in any bit: "round 3", "after.safetensors"."""
        longer = max(len(self.records), len(other.records))
        rounds = [
            f"round {number}"
            for number in range(1, longer + 1)
            if self.records[number - 1 : number] != other.records[number - 1 : number]
        ]
        files = sorted(self.models.keys() | other.models.keys())
        return rounds + [name for name in files if self.models.get(name) != other.models.get(name)]


def config(**changes: object) -> RunConfig:
    """The tiny run; changes by dotted path, with a double underscore for the dot."""
    return with_changes(RunConfig(), TINY | {path.replace("__", "."): value for path, value in changes.items()})


def outcome(store: Store, run_id: str) -> Outcome:
    """The result of a run that has ended."""
    records = (without_run_and_time(record) for _, record in store.rounds(run_id))
    return Outcome(tuple(records), weights(RunFiles(store.path).models(run_id)))


def without_run_and_time(record: RoundRecord) -> str:
    """A record without the run's id and its seconds."""
    return record.model_dump_json(exclude={"run", "wall_s"})


def weights(folder: Path) -> dict[str, str]:
    """The digests of a run's final models: what was trained, before and after alignment, and the judge."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("*.safetensors")}
