"""The work of every comparison: rounds of a run as pwff plays them, and their batches for the other side."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from pwff_core.config import RunConfig
from pwff_core.data.encoding import Encoded
from pwff_core.engine.aggregation import Server
from pwff_core.engine.setup import prepare
from pwff_core.engine.stages.batches import training_rows
from pwff_core.engine.stages.clients import Clients
from pwff_core.engine.stages.rollouts import answer
from pwff_core.knobs import with_changes
from pwff_core.records import Stage

QUICK: dict[str, object] = {  # the least that is still the same work, for the smoke tests
    "clients": 2, "instruction.local_steps": 2, "instruction.personal_steps": 1, "data.train_examples": 6,
    "data.test_examples": 2, "alignment.batch_size": 2, "alignment.max_new_tokens": 6, "alignment.test_prompts": 2,
    "alignment.minibatches": 2, "alignment.local_steps": 1, "alignment.personal_steps": 1,
    "alignment.critic_warmup": 1, "alignment.critic_steps": 1, "reward.local_steps": 2, "reward.train_pairs": 8,
    "reward.test_pairs": 4,
}  # fmt: skip


def demo(quick: bool = False, **changes: object) -> RunConfig:
    """The demo on the processor in float32, or the least run that does the same; `changes` by dotted path."""
    return with_changes(RunConfig(), {"device": "cpu", "precision": "float32", **(QUICK if quick else {}), **changes})


class CohortLoop:
    """A prepared run of pwff, whose rounds are played up to the average: without the radio, without tests.

    Every upload arrives, so that the other side has the same average to compute.
    """

    def __init__(self, config: RunConfig, stage: Stage = "instruction") -> None:
        self.config = config
        self.federation = prepare(config)
        if stage == "alignment":
            self.federation.stage("reward").train(1)
            self.federation.begin_alignment()
        self.stage = self.federation.stage(stage)
        self.server = Server(self.stage.shared(), self.stage.num_examples)
        self.played = 0

    @property
    def clients(self) -> Clients:
        """The clients with their examples and models."""
        return self.federation.clients

    def round(self) -> None:
        """The next round: all clients train, the server averages."""
        self.played += 1
        self.stage.train(self.played)
        self.server.average(np.ones(self.config.clients, dtype=bool))

    def answer_tokens(self) -> int:
        """Response tokens that the next round of alignment will write: its draws depend on its number alone."""
        number = self.played + 1
        return int(answer(self.clients, self.stage.prompts(number), "rollouts", number).mask.sum())


def round_rows(clients: Clients, number: int) -> list[list[list[Encoded]]]:
    """Round `number`'s examples (1 …): by client, by local step, the rows of the batch."""
    settings = clients.config.instruction
    first = (number - 1) * settings.local_steps
    return [
        [
            training_rows(split.train, clients.config.seed, client, step, settings.batch_size)
            for step in range(first, first + settings.local_steps)
        ]
        for client, split in enumerate(clients.splits)
    ]


def seconds(action: Callable[[], object]) -> float:
    """Seconds that an action takes."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start
