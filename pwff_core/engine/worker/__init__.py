"""The engine as a process: `python -m pwff_core.engine.worker RUN_ID --store PATH` plays a run into the store.

`recorded` is that run as a stream, and the one place where a run meets the store; the command line's `pwff run` draws
from it too. A run ends as *finished*, *stopped* (a page's Stop, Ctrl-C, SIGTERM) or *failed*, and keeps its rounds.
Whatever ended it, `recorded` goes on with it once it is queued again.

`stream` is the way through: claim, prepare, play, write, end. `catching_up` brings a resumed run back to where it
stood; `control` hears what pages ask; `patience` outlasts a store that cannot be written at the moment; `pulse` is the
heartbeat; `interruption` breaks the computing off; `failures` and `rescue` are for bad ends.
"""

from __future__ import annotations

from pwff_core.engine.worker.stream import recorded

__all__ = ["recorded"]
