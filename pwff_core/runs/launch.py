"""Starting the engine: a run's worker as a process of its own, which outlives the page that asked for it.

Light, so that pages may import it without bringing in what the worker needs.
"""

from __future__ import annotations

import subprocess
import threading
from pathlib import Path

from pwff_core.errors import EngineError
from pwff_core.runs import processes
from pwff_core.runs.run_files import RunFiles

_started: list[subprocess.Popen[bytes]] = []  # those that have not ended


def launch(store_path: Path, run_id: str) -> None:
    """Starts `python -m pwff_core.engine.worker RUN_ID --store PATH` in a session of its own.

    EngineError if it cannot start.

    Relative paths of the run's config mean what they mean here: the worker keeps the working folder. Of several runs
    that may play at a time each gets its share of the cores.
    """
    _started[:] = [process for process in _started if process.poll() is None]
    command = processes.module_command("pwff_core.engine.worker", run_id, "--store", str(store_path.absolute()))
    log = RunFiles(store_path).log(run_id)
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=processes.environment() | processes.core_share(),
                start_new_session=True,
                creationflags=processes.creation_flags(),
            )
    except OSError as error:
        raise EngineError(
            f"The engine cannot be started ({error}); check free memory and the folder {log.parent}."
        ) from None
    _started.append(process)
    # a worker that has ended is reaped at once, not left as a zombie until the next launch
    threading.Thread(target=process.wait, name=f"worker {run_id}", daemon=True).start()
