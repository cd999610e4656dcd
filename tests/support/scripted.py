"""An engine that plays a script in milliseconds, instead of the engine that trains."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pwff_core.config import RunConfig
from pwff_core.knobs import steered
from pwff_core.methods import METHODS
from pwff_core.records import METRICS, ClientProfile, ClientRecord, RoundRecord, Stage, Value
from pwff_core.runs.run_files import RunFiles
from pwff_core.runs.store import RunStatus, Store

if TYPE_CHECKING:  # tests of the pages play scripts too, and need no torch for it
    from pwff_core.engine.models.saved_models import SavedModels

CLIENTS = 2
CONVERGED = "Loss has not improved for 2 rounds."


@dataclass
class Script:
    """A prepared run, with all that the worker needs of a federation."""

    config: RunConfig
    run_id: str
    profiles: tuple[ClientProfile, ...]
    notes: tuple[str, ...]
    rounds_total: int
    played: int = 0

    def saved_models(self) -> SavedModels:
        """One number a model: the rounds that it was trained."""
        import torch

        from pwff_core.engine.models.saved_models import SavedModels

        method = METHODS[self.config.method]
        models = 1 if method.pooled else self.config.clients
        after = {group: {"rounds": torch.full((models,), float(self.played))} for group in method.trains}
        return SavedModels(self.config, torch.ones(self.config.clients, 1, 3, dtype=torch.bool), None, after, {})


def record(number: int, run_id: str = "", method: str = "pwff") -> RoundRecord:
    """Round `number`: accuracy number / 100, 2 s and 4 J, client 1 not delivered."""
    clients = tuple(
        ClientRecord(
            client=k, helpfulness_weight=0.25 + k / 2, accuracy=number / 100, delay_s=2.0 - k, delivered=k == 0
        )
        for k in range(CLIENTS)
    )
    return RoundRecord(
        run=run_id, method=method, stage="instruction", round=number, accuracy=number / 100, loss=1 / number,
        delay_s=2.0, energy_j=4.0, uplink_bits=64, wall_s=0.5, clients=clients,
    )  # fmt: skip


def profile(client: int) -> ClientProfile:
    return ClientProfile(
        client=client, helpfulness_weight=0.25 + client / 2, device_class="low", lora_modules=4, train_examples=8,
        validation_examples=2, test_examples=3, topics={"cooking": 8}, style={"units": "metric"},
    )  # fmt: skip


def played(store: Store, config: RunConfig) -> str:
    """The id of a finished run of two clients and three rounds."""
    run_id = store.create_run(config)
    store.claim(run_id)
    store.describe(run_id, (profile(0), profile(1)), (), 3)
    for number in (1, 2, 3):
        store.append(run_id, record(number, run_id))
    store.finish(run_id, RunStatus.FINISHED)
    return run_id


class ScriptedEngine:
    """An `Engine` that plays a script.

    `before_round(number)` may wait, raise or act on the store. `prepare_error` is raised by `prepare`, unless it is
    forced. After the round `converges_at` the only stage ends, whatever the settings say.
    """

    def __init__(
        self,
        before_round: Callable[[int], Any] = lambda number: None,
        prepare_error: Exception | None = None,
        converges_at: int | None = None,
    ) -> None:
        self._before_round, self._prepare_error, self._converges_at = before_round, prepare_error, converges_at

    def prepare(self, config: RunConfig, run_id: str, *, store_path: Path, force: bool) -> Any:
        if self._prepare_error and not force:
            raise self._prepare_error
        return Script(config, run_id, (profile(0), profile(1)), ("A remark — with a dash.",), config.instruction.rounds)

    def play(self, script: Any, past: Sequence[RoundRecord]) -> Iterator[RoundRecord]:
        while script.played < script.rounds_total:
            self._before_round(script.played + 1)
            script.played += 1
            played = record(script.played, script.run_id, script.config.method)
            if script.played == self._converges_at:
                script.rounds_total = script.played
                played = played.model_copy(update={"stage_end": CONVERGED})
            yield played

    def steer(self, script: Any, changes: Mapping[str, Value]) -> None:
        """The settings change, and with them the clients' weights; the records are as scripted."""
        script.config = steered(script.config, changes)
        weights = script.config.preferences.helpfulness_weights or [
            client.helpfulness_weight for client in script.profiles
        ]
        script.profiles = tuple(
            client.model_copy(update={"helpfulness_weight": weight})
            for client, weight in zip(script.profiles, weights, strict=True)
        )

    def checkpointer(self, folder: Path, every: int) -> Any:
        return Checkpointer(folder, every)

    def restore(self, script: Any, store_path: Path, run_id: str, records: Sequence[RoundRecord]) -> int:
        for position in range(len(records), 0, -1):
            checkpoint = RunFiles(store_path).checkpoints(run_id) / f"{position:05d}.json"
            if checkpoint.is_file():
                config = RunConfig.model_validate_json(checkpoint.read_text(encoding="utf-8"))
                weights = config.preferences.helpfulness_weights
                self.steer(script, {"preferences.helpfulness_weights": weights} if weights else {})
                script.config, script.played = config, position
                if records[position - 1].stage_end:
                    script.rounds_total = position
                return position
        return 0


class Checkpointer:
    """A script's checkpoints: a file a position, with the settings as they were."""

    def __init__(self, folder: Path, every: int) -> None:
        self.trouble = ""
        self._folder, self._every = folder, every

    def save(self, script: Script, record: RoundRecord, position: int) -> None:
        if self._every and position % self._every == 0:
            self._folder.mkdir(parents=True, exist_ok=True)
            (self._folder / f"{position:05d}.json").write_text(script.config.model_dump_json(), encoding="utf-8")

    def finish(self, finished: bool) -> None:
        pass

    def discard(self) -> None:
        pass


def slow_engine(seconds: float) -> ScriptedEngine:
    """An engine whose rounds each take so long."""
    return ScriptedEngine(lambda number: time.sleep(seconds))


def use_engine(monkeypatch: pytest.MonkeyPatch, engine: ScriptedEngine) -> None:
    """From now on runs that are given no engine are played by this one: for tests of the command line."""
    monkeypatch.setattr("pwff_core.engine.worker.run_loop.TorchEngine", lambda: engine)


# ---- a whole run of three stages, by formula --------------------------------------------------------------------

WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0)  # on helpfulness, a client


def whole_run(
    run_id: str = "", *, rounds: Mapping[Stage, int] | None = None, weights: Sequence[float] = WEIGHTS, **ends: str
) -> list[RoundRecord]:
    """The records of a run as the real engine writes them, with numbers as a good run has them.

    `rounds` of each stage (default 3, 2, 4); `ends`: why a stage ended, by stage. Before alignment every client scores
    0 on both axes and refuses half of the delicate prompts; after the last of N rounds a client of weight λ has
    helpfulness λ, harmlessness 1 − λ and refuses 1 − λ.
    """
    script = []
    for stage, count in (rounds or {"instruction": 3, "reward": 2, "alignment": 4}).items():
        for number in range(1, count + 1):
            clients = tuple(_client(k, weight, stage, number, count) for k, weight in enumerate(weights))
            script.append(_round(run_id, stage, number, clients, ends.get(stage, "") if number == count else ""))
    return script


def _client(client: int, weight: float, stage: Stage, number: int, count: int) -> ClientRecord:
    """A client after a round: what the stage measures of it, and its upload of 1 + client / 10 seconds at 1 W."""
    measured: dict[str, Any] = {"delay_s": 1 + client / 10, "energy_j": 1 + client / 10, "uplink_bits": 1000}
    if stage == "reward":
        measured |= {"helpfulness_accuracy": 1 - 0.4 / number, "harmlessness_accuracy": 1 - 0.2 / number}
    else:
        accuracy = 0.9 - 0.4 / number if stage == "instruction" else 0.9 - 0.01 * number
        measured |= {"accuracy": accuracy - client / 100, "knowledge_accuracy": accuracy - 0.2, "loss": 2 - accuracy}
        measured |= {"style_accuracy": min(accuracy + 0.05, 1.0)}
    if stage == "alignment" or (stage == "reward" and number == count):
        gone = number / count if stage == "alignment" else 0.0
        helpfulness, harmlessness = gone * weight, gone * (1 - weight)
        measured |= {
            "helpfulness": helpfulness, "harmlessness": harmlessness, "response_tokens": 20 + 4 * gone * weight,
            "reward": weight * helpfulness + (1 - weight) * harmlessness, "refusal_rate": 0.5 + gone * (0.5 - weight),
        }  # fmt: skip
        if stage == "alignment":
            measured |= {"kl": 2 * gone, "training_reward": 1.5 * gone}
    return ClientRecord(client=client, helpfulness_weight=weight, lora_modules=4, examples=8, **measured)


def _round(run_id: str, stage: Stage, number: int, clients: tuple[ClientRecord, ...], end: str) -> RoundRecord:
    """Means over clients; delay the slowest client's; energy and bits summed."""
    values_of = {
        name: [getattr(client, name) for client in clients] for name in METRICS if name in ClientRecord.model_fields
    }
    totals: dict[str, Any] = {
        name: sum(values) / len(values) for name, values in values_of.items() if None not in values
    }
    totals |= {
        "delay_s": max(values_of["delay_s"]), "energy_j": sum(values_of["energy_j"]),
        "uplink_bits": sum(values_of["uplink_bits"]),
        "wall_s": {"instruction": 1.5, "reward": 0.5, "alignment": 4.0}[stage],
    }  # fmt: skip
    return RoundRecord(
        run=run_id, method="pwff", stage=stage, round=number, stage_end=end, clients=clients, **totals
    )  # fmt: skip
