"""The engine as a process: `python -m pwff_core.engine.worker RUN_ID --store PATH` plays a run into the store.

`play_run` is that run as a stream, and the one place where a run meets the store; `pwff run` draws from it too. A run
ends as *finished*, *stopped* (a page's Stop, Ctrl-C, SIGTERM) or *failed*, and keeps its rounds. However it ended, a
run that was not finished goes on once it is queued again.

`run_loop` claims, prepares, plays, writes and ends a run. `catch_up` brings a resumed run back to where it stood;
`control` carries out the commands of pages; `retry` outlasts a store that cannot be written for a while; `heartbeat`
says that the worker is there; `signals` interrupt the computing; `failures` is for bad ends; `engine` is what trains.
"""

from __future__ import annotations

from pwff_core.engine.worker.engine_protocol import Engine
from pwff_core.engine.worker.run_loop import play_run
from pwff_core.engine.worker.timing import Timing

__all__ = ["Engine", "Timing", "play_run"]
