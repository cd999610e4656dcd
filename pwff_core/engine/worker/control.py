"""What pages ask of a run that plays: heard between two of its rounds."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pwff_core.config import STEERABLE, RunConfig, next_round
from pwff_core.engine.worker.retry import Patience, tell
from pwff_core.engine.worker.signals import Interruption
from pwff_core.errors import ConfigError
from pwff_core.knobs import knobs, steered
from pwff_core.records import ClientProfile, RoundRecord, Steering, Value
from pwff_core.runs.store import Command, RunStatus, Store

if TYPE_CHECKING:
    from pwff_core.engine.setup import Federation

LOOK_S = 0.2  # so often a paused worker looks whether it may go on
WEIGHTS = "preferences.helpfulness_weights"


class Control:
    """Stop, pause and steer. What was asked for and is not done yet stays posted, so that pages show it."""

    def __init__(self, store: Store, run_id: str, interruption: Interruption, patient: Patience) -> None:
        self._store, self._run_id, self._interruption, self._patient = store, run_id, interruption, patient

    def heard(self) -> list[Command] | None:
        """What was asked for and is not done yet; None if the run is to stop. Waits while it is paused."""
        posted, paused = self._posted(), False
        while _wish(posted) == "pause":  # nothing is taken before it goes on: changes made meanwhile are one steering
            if not paused:
                self._say(RunStatus.PAUSED)
                paused = True
            with self._interruption.window():
                time.sleep(LOOK_S)
            posted = self._posted()
        if _wish(posted) == "stop":
            return None
        if paused:
            self._say(RunStatus.RUNNING)
        return posted

    def steer(self, running: Federation, posted: Sequence[Command], records: Sequence[RoundRecord]) -> Steering | None:
        """Does what was asked for, after the run's `records`: all changes are one steering, None if nothing changes."""
        if not posted:
            return None
        before, wanted = _steerable(running.config, running.profiles), running.config
        for command in posted:
            try:
                wanted = steered(wanted, command.changes)
            except ConfigError as error:  # no reason to end the run
                tell(f"Settings not changed: {error}")
        after = _steerable(wanted, running.profiles)
        changes = {path: value for path, value in after.items() if value != before[path]}
        steering = None
        if changes:
            from pwff_core.engine import federation

            federation.steer(running, changes)
            stage, number = next_round(running.config, records[-1] if records else None)
            past = {path: before[path] for path in changes}
            steering = Steering(
                position=len(records) + 1, stage=stage, round=number, before=past, changes=changes, at=time.time()
            )
        last = posted[-1].id
        self._patient(lambda: self._store.acknowledge(self._run_id, last, steering))
        return steering

    def _posted(self) -> list[Command]:
        return self._patient(lambda: self._store.pending_commands(self._run_id))

    def _say(self, status: RunStatus) -> None:
        self._patient(lambda: self._store.set_status(self._run_id, status))


def _wish(posted: Sequence[Command]) -> str:
    """What the run is to do: "stop" if that was ever asked for, otherwise the last of "pause" and "resume", or ""."""
    kinds = [command.kind for command in posted if command.kind != "steer"]
    return "stop" if "stop" in kinds else kinds[-1] if kinds else ""


def _steerable(config: RunConfig, profiles: Sequence[ClientProfile]) -> dict[str, Value]:
    """What can be steered, as it is; weights that were drawn from the seed are the profiles'."""
    known = knobs(config)
    values: dict[str, Value] = {path: known[path].value for path in STEERABLE}
    if values[WEIGHTS] is None:
        values[WEIGHTS] = tuple(profile.helpfulness_weight for profile in profiles)
    return values
