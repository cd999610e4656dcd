"""The commands of pages for a run that plays; they are carried out between two of its rounds."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pwff_core.config import STEERABLE, RunConfig, next_round
from pwff_core.engine.worker.engine_protocol import Engine
from pwff_core.engine.worker.retry import Retry
from pwff_core.engine.worker.signals import Signals
from pwff_core.errors import ConfigError
from pwff_core.knobs import knobs, steered
from pwff_core.records import ClientProfile, RoundRecord, Steering, Value
from pwff_core.runs.store import Command, RunStatus, Store

if TYPE_CHECKING:
    from pwff_core.engine.setup import Federation

POLL_S = 0.2  # a paused worker looks so often whether it may go on
WEIGHTS = "preferences.helpfulness_weights"


class Control:
    """Stop, pause and steer. A command stays pending until it is carried out, so that pages show it."""

    def __init__(self, store: Store, run_id: str, engine: Engine, signals: Signals, retry: Retry) -> None:
        self._store, self._run_id, self._engine = store, run_id, engine
        self._signals, self._retry = signals, retry

    def await_commands(self) -> list[Command] | None:
        """The pending commands; None if the run is to stop. Waits while it is paused."""
        commands, paused = self._pending(), False
        while _request(commands) == "pause":  # changes that are made meanwhile become one steering
            if not paused:
                self._set_status(RunStatus.PAUSED)
                paused = True
            with self._signals.window():
                time.sleep(POLL_S)
            commands = self._pending()
        if _request(commands) == "stop":
            return None
        if paused:
            self._set_status(RunStatus.RUNNING)
        return commands

    def steer(
        self, federation: Federation, commands: Sequence[Command], records: Sequence[RoundRecord]
    ) -> Steering | None:
        """Carries commands out after the run's `records`; all changes are one steering, None if nothing changes."""
        if not commands:
            return None
        before, config = _steerable(federation.config, federation.profiles), federation.config
        for command in commands:
            try:
                config = steered(config, command.changes)
            except ConfigError as error:  # no reason to end the run
                self._retry.report(f"Settings not changed: {error}")
        after = _steerable(config, federation.profiles)
        changes = {path: value for path, value in after.items() if value != before[path]}
        steering = None
        if changes:
            self._engine.steer(federation, changes)
            stage, number = next_round(federation.config, records[-1] if records else None)
            past = {path: before[path] for path in changes}
            steering = Steering(
                position=len(records) + 1, stage=stage, round=number, before=past, changes=changes, at=time.time()
            )
        last = commands[-1].id
        self._retry(lambda: self._store.acknowledge(self._run_id, last, steering))
        return steering

    def _pending(self) -> list[Command]:
        return self._retry(lambda: self._store.pending_commands(self._run_id))

    def _set_status(self, status: RunStatus) -> None:
        self._retry(lambda: self._store.set_status(self._run_id, status))


def _request(commands: Sequence[Command]) -> str:
    """What the run is to do: "stop" if any command says so, otherwise the last of "pause" and "resume", or ""."""
    kinds = [command.kind for command in commands if command.kind != "steer"]
    return "stop" if "stop" in kinds else kinds[-1] if kinds else ""


def _steerable(config: RunConfig, profiles: Sequence[ClientProfile]) -> dict[str, Value]:
    """The values of all steerable settings; weights that were drawn from the seed come from the profiles."""
    entries = knobs(config)
    values: dict[str, Value] = {path: entries[path].value for path in STEERABLE}
    if values[WEIGHTS] is None:
        values[WEIGHTS] = tuple(profile.helpfulness_weight for profile in profiles)
    return values
