"""What the worker needs of an engine: the one that trains, or a scripted one in tests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from pwff_core.config import RunConfig
from pwff_core.records import RoundRecord, Value

if TYPE_CHECKING:
    from pwff_core.engine.checkpointer import Checkpointer
    from pwff_core.engine.setup import Federation


class Engine(Protocol):
    """Prepares a federation, plays and steers it, and keeps and restores its states."""

    def prepare(self, config: RunConfig, run_id: str, *, store_path: Path, force: bool) -> Federation:
        """A loaded federation; `store_path` is where uploads lie, `force` skips the check of free memory."""

    def play(self, federation: Federation, past: Sequence[RoundRecord]) -> Iterator[RoundRecord]:
        """The rounds after `past`."""

    def steer(self, federation: Federation, changes: Mapping[str, Value]) -> None:
        """Changes settings between two rounds."""

    def checkpointer(self, folder: Path, every: int) -> Checkpointer:
        """Writes checkpoints into a folder, one after `every` so many rounds."""

    def restore(self, federation: Federation, store_path: Path, run_id: str, records: Sequence[RoundRecord]) -> int:
        """Loads the newest checkpoint within the records; returns its position, or 0."""


class TorchEngine:
    """The engine that trains. Each method imports torch only when it is called."""

    def prepare(self, config: RunConfig, run_id: str, *, store_path: Path, force: bool) -> Federation:
        """See `setup.prepare`."""
        from pwff_core.engine import setup

        return setup.prepare(config, run_id, store_path=store_path, force=force)

    def play(self, federation: Federation, past: Sequence[RoundRecord]) -> Iterator[RoundRecord]:
        """See `federation.play`."""
        from pwff_core.engine.federation import play

        return play(federation, past)

    def steer(self, federation: Federation, changes: Mapping[str, Value]) -> None:
        """See `federation.steer`."""
        from pwff_core.engine.federation import steer

        steer(federation, changes)

    def checkpointer(self, folder: Path, every: int) -> Checkpointer:
        """See `checkpointer.Checkpointer`."""
        from pwff_core.engine import checkpointer

        return checkpointer.Checkpointer(folder, every)

    def restore(self, federation: Federation, store_path: Path, run_id: str, records: Sequence[RoundRecord]) -> int:
        """See `checkpointer.restore`."""
        from pwff_core.engine import checkpointer

        return checkpointer.restore(federation, store_path, run_id, records)
