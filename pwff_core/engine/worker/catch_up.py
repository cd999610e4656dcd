"""How a resumed run comes back to where it stood: its state from a checkpoint, and what followed played again.

    restored state  →  rounds after it, played again and compared with those that are kept  →  the next new round

The rounds that are kept stay as they are, whatever comes out: nothing here writes to the store. Pages learn of it from
the run's message, which its worker sets before each round that is played again (`progress`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pwff_core.engine.worker.signals import Interruption
from pwff_core.records import RoundRecord, Stage, Steering
from pwff_core.runs.checkpoints import list_checkpoints
from pwff_core.runs.processes import cores

if TYPE_CHECKING:
    from pwff_core.engine.setup import Federation


RESUMING = "The engine loads the model, the data and the newest checkpoint."


class CaughtUp(NamedTuple):
    """A run that stands where its kept rounds end."""

    following: Iterator[RoundRecord]  # the rounds to come
    differing: list[int]  # positions of kept rounds that came out differently when they were played again


def caught_up(
    running: Federation,
    position: int,
    records: Sequence[RoundRecord],
    steerings: Sequence[Steering],
    interruption: Interruption,
    goes_on: Callable[[int], bool],
    keep: Callable[[RoundRecord, int], None],
) -> CaughtUp | None:
    """Brings a federation that stands after round `position` to the end of `records`; None if it is to stop before.

    Each round is played with the settings that held in it. The federation has the steerings up to `position` already.
    `goes_on` is asked before each round that is played again, with its position: False if the run is to stop.
    `keep` is told of every round that is there again, with its position: a checkpoint of it may have been lost.
    """
    from pwff_core.engine import federation

    def steer_into(number: int) -> None:
        for steering in steerings:
            if steering.position == number:
                federation.steer(running, steering.changes)

    following, differing = federation.play(running, records[:position]), []
    for number, kept in enumerate(records[position:], start=position + 1):
        if not goes_on(number):
            return None
        steer_into(number)
        with interruption.window():
            again = next(following, None)
        if again is None or not _same(again, kept):
            differing.append(number)
        if again is None or _place(again) != _place(kept):  # another stage has begun, or has not: as it was kept
            following = federation.play(running, records[:number])
        else:
            keep(kept, number)
    steer_into(len(records) + 1)
    return CaughtUp(following, differing)


def take_threads_up(store_path: Path, run_id: str) -> None:
    """As many threads as the run had before, where there are the cores for them: they decide the last digits."""
    known = list_checkpoints(store_path, run_id)
    threads = int(known[-1].made_with.get("threads", "0")) if known else 0
    if 0 < threads <= cores():
        import torch

        torch.set_num_threads(threads)


def progress(position: int, kept: int) -> str:
    """What the engine is at while it plays one of the kept rounds again."""
    return f"Catching up: round {position} of the {kept} that are kept is played again; then the run goes on."


def difference_note(positions: Sequence[int]) -> str:
    """What to tell of rounds that came out differently."""
    pieces: list[tuple[int, int]] = []
    for position in positions:
        if pieces and pieces[-1][1] == position - 1:
            pieces[-1] = (pieces[-1][0], position)
        else:
            pieces.append((position, position))
    named = ", ".join(f"{first}" if first == last else f"{first} to {last}" for first, last in pieces)
    subject, was = (f"Rounds {named}", "they were") if len(positions) > 1 else (f"Round {named}", "it was")
    return (
        f"{subject} came out differently when {was} played again after a resume, as happens on another computer or "
        "with other versions; what was kept stays as it was."
    )


def _same(again: RoundRecord, kept: RoundRecord) -> bool:
    """Whether two records say the same but for the seconds that the computer took."""
    return again.model_copy(update={"wall_s": kept.wall_s}) == kept


def _place(record: RoundRecord) -> tuple[Stage, int, bool]:
    return record.stage, record.round, bool(record.stage_end)
