"""A federation that plays a script in milliseconds, in the place of the one that trains."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any, NamedTuple

import pwff_core
from pwff_core.config import RunConfig
from pwff_core.records import ClientProfile, ClientRecord, RoundRecord

CLIENTS = 2


class Script(NamedTuple):
    config: RunConfig
    run_id: str
    profiles: tuple[ClientProfile, ...]
    notes: tuple[str, ...]
    rounds_total: int


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


def federation(
    before_round: Callable[[int], Any] = lambda number: None, prepare_error: Exception | None = None
) -> ModuleType:
    """A module with `prepare` and `play`; `before_round(number)` may wait, raise or act on the store."""

    def prepare(config: RunConfig, run_id: str = "") -> Script:
        if prepare_error:
            raise prepare_error
        return Script(config, run_id, (profile(0), profile(1)), ("A remark — with a dash.",), config.instruction.rounds)

    def play(script: Script) -> Iterator[RoundRecord]:
        for number in range(1, script.rounds_total + 1):
            before_round(number)
            yield record(number, script.run_id, script.config.method)

    module: Any = ModuleType("pwff_core.federation")
    module.prepare, module.play = prepare, play
    return module


def install(module: ModuleType) -> None:
    """Puts the module in the federation's place, for a process of its own that a test starts."""
    sys.modules["pwff_core.federation"] = module
    setattr(pwff_core, "federation", module)  # noqa: B010 - the package has no such attribute before


def install_slow(seconds: float) -> None:
    """Rounds that each take so long."""
    install(federation(lambda number: time.sleep(seconds)))
