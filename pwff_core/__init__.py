"""pwff: personalized wireless federated fine-tuning of language models, to see, teach and research.

The way through: a frozen `RunConfig` goes in, a stream of `RoundRecord`s comes out, a process writes them to SQLite,
pages read them and draw.

    from pwff_core import RunConfig, run

    for record in run(RunConfig(method="pwff", seed=0)):
        print(record.round, record.accuracy, record.delay_s)

`config` and `methods` say what a run is; `data`, `models` and `wireless` are its ingredients; `stages` let clients
learn; `federation` plays the rounds; `store`, `worker` and `cli` keep them; `figures` and `export` show them.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from pwff_core.config import RunConfig, preset_config
from pwff_core.records import ClientRecord, RoundRecord

if TYPE_CHECKING:
    from pwff_core.engine.federation import run

# PyTorch keeps what it prepared for a bfloat16 product of a shape, buffers included, for 1,024 shapes twice over.
# Batches have ever other lengths, so that would be gigabytes; fewer are as fast. Read when torch is loaded: later.
for _cache in ("LRU_CACHE_CAPACITY", "ONEDNN_PRIMITIVE_CACHE_CAPACITY"):
    os.environ.setdefault(_cache, "48")

__version__ = "0.1.0"
__all__ = ["ClientRecord", "RoundRecord", "RunConfig", "__version__", "preset_config", "run"]


def __getattr__(name: str) -> Any:
    """`run` is loaded when it is first asked for: it brings torch, and pages and `--help` do without."""
    if name == "run":
        from pwff_core.engine.federation import run

        return run
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
