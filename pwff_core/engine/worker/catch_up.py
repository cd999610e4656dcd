"""How a resumed run gets back to where it stood: a checkpoint is restored, and the rounds after it are played again.

    restored state  →  rounds after it, played again and compared with those that are kept  →  the next new round

The stored rounds stay as they are, whatever comes out: nothing here writes to the store. `progress` is the run's
message meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pwff_core.engine.worker.engine_protocol import Engine
from pwff_core.engine.worker.signals import Signals
from pwff_core.records import RoundRecord, Stage, Steering
from pwff_core.runs.checkpoints import list_checkpoints
from pwff_core.runs.processes import cores

if TYPE_CHECKING:
    from pwff_core.engine.setup import Federation


RESUMING = "The engine loads the model, the data and the newest checkpoint."


class CaughtUp(NamedTuple):
    """A federation that stands where the stored rounds end."""

    following: Iterator[RoundRecord]  # the rounds to come
    differing: list[int]  # positions of stored rounds that came out differently when they were played again


def catch_up(
    engine: Engine,
    federation: Federation,
    position: int,
    records: Sequence[RoundRecord],
    steerings: Sequence[Steering],
    signals: Signals,
    may_play: Callable[[int], bool],
    keep: Callable[[RoundRecord, int], None],
) -> CaughtUp | None:
    """Brings a federation that stands after round `position` to the end of `records`; None if it is to stop before.

    Each round is played with the settings that held in it; the federation has the steerings up to `position` already.
    `may_play` is called with a round's position before it is played again: False if the run is to stop. `keep` is
    called with every round that was played again and its position: a checkpoint of it may have been lost.
    """

    def steer_into(number: int) -> None:
        for steering in steerings:
            if steering.position == number:
                engine.steer(federation, steering.changes)

    following, differing = engine.play(federation, records[:position]), []
    for number, stored in enumerate(records[position:], start=position + 1):
        if not may_play(number):
            return None
        steer_into(number)
        with signals.window():
            replayed = next(following, None)
        if replayed is None or not _same(replayed, stored):
            differing.append(number)
        if replayed is None or _place(replayed) != _place(stored):  # the stored rounds decide when a stage ended
            following = engine.play(federation, records[:number])
        else:
            keep(stored, number)
    steer_into(len(records) + 1)
    return CaughtUp(following, differing)


def restore_threads(store_path: Path, run_id: str, available: int | None = None) -> None:
    """Sets the run's former number of threads, which decides the last digits, if there are the cores for them."""
    checkpoints = list_checkpoints(store_path, run_id)
    threads = int(checkpoints[-1].made_with.get("threads", "0")) if checkpoints else 0
    if 0 < threads <= (available or cores()):
        import torch

        torch.set_num_threads(threads)


def progress(position: int, kept: int) -> str:
    """The run's message while it plays a stored round again."""
    return f"Catching up: round {position} of the {kept} that are kept is played again; then the run goes on."


def difference_note(positions: Sequence[int]) -> str:
    """The note on rounds that came out differently."""
    spans: list[tuple[int, int]] = []
    for position in positions:
        if spans and spans[-1][1] == position - 1:
            spans[-1] = (spans[-1][0], position)
        else:
            spans.append((position, position))
    listed = ", ".join(f"{first}" if first == last else f"{first} to {last}" for first, last in spans)
    subject, was = (f"Rounds {listed}", "they were") if len(positions) > 1 else (f"Round {listed}", "it was")
    return (
        f"{subject} came out differently when {was} played again after a resume, as happens on another computer or "
        "with other versions; what was kept stays as it was."
    )


def _same(replayed: RoundRecord, stored: RoundRecord) -> bool:
    """Whether two records are equal but for the seconds that the computer took."""
    return replayed.model_copy(update={"wall_s": stored.wall_s}) == stored


def _place(record: RoundRecord) -> tuple[Stage, int, bool]:
    return record.stage, record.round, bool(record.stage_end)
