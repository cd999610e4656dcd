"""Where the files of a store and of its runs lie: everything stands in one folder, beside `runs.sqlite`.

runs.sqlite  runs.commands.sqlite  uploads/SHA256.csv
checkpoints/RUN_ID/  models/RUN_ID/  logs/RUN_ID.log  logs/RUN_ID.talk.log
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from pwff_core.paths import checked_id


class RunFiles(NamedTuple):
    """The places of a store's files; nothing is read or made. StoreError for an id that cannot be part of a path."""

    store_path: Path

    @property
    def folder(self) -> Path:
        """The folder that holds all of them."""
        return self.store_path.absolute().parent

    @property
    def commands(self) -> Path:
        """The second database: what pages ask of workers."""
        return self.store_path.with_name(f"{self.store_path.stem}.commands{self.store_path.suffix}")

    @property
    def uploads(self) -> Path:
        """The folder of uploaded files."""
        return self.folder / "uploads"

    def checkpoints(self, run_id: str) -> Path:
        """The folder of a run's checkpoints."""
        return self.folder / "checkpoints" / checked_id(run_id)

    def models(self, run_id: str) -> Path:
        """The folder of a run's kept models."""
        return self.folder / "models" / checked_id(run_id)

    def log(self, run_id: str) -> Path:
        """What a run's worker prints, and the traceback of a failure."""
        return self.folder / "logs" / f"{checked_id(run_id)}.log"

    def chat_log(self, run_id: str) -> Path:
        """What a run's chat process prints."""
        return self.folder / "logs" / f"{checked_id(run_id)}.talk.log"
