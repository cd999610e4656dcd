"""Processes that look like workers of a store and only sleep."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SLEEPER = "import sys\nprint('here', flush=True)\nsys.stdin.read()\n"


@contextmanager
def engine(store_path: Path, run_id: str) -> Iterator[subprocess.Popen[str]]:
    """A process with the command line of the worker of a run, until the block ends."""
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder) / "pwff_core" / "engine"
        package.mkdir(parents=True)
        (package / "__init__.py").touch()
        (package.parent / "__init__.py").touch()
        (package / "worker.py").write_text(SLEEPER)
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "pwff_core.engine.worker", run_id, "--store", str(store_path)],
            env={**os.environ, "PYTHONPATH": folder},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        with process:
            assert process.stdout is not None and process.stdout.readline() == "here\n"
            try:
                yield process
            finally:
                process.kill()
