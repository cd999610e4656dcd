"""Processes that look like workers of a store and only sleep."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pwff_core.runs.processes import WORKER

SLEEPER = "import sys\nprint('here', flush=True)\nsys.stdin.read()\n"


@contextmanager
def engine(store_path: Path, run_id: str, module: str = WORKER) -> Iterator[subprocess.Popen[str]]:
    """A process with the command line of the worker of a run, until the block ends."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, *module.split(".")).with_suffix(".py")
        source.parent.mkdir(parents=True)
        for package in source.relative_to(folder).parents[:-1]:
            (folder / package / "__init__.py").touch()
        source.write_text(SLEEPER)
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", module, run_id, "--store", str(store_path)],
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
