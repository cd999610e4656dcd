"""A stand-in for `scheduler.launch` that starts no process."""

from __future__ import annotations

from pathlib import Path


class Launched(list[str]):
    """The ids of the runs that would have been launched."""

    def __call__(self, store_path: Path, run_id: str) -> None:
        self.append(run_id)
