"""pwff: personalized wireless federated fine-tuning of language models, to see, teach and research.

A frozen `RunConfig` goes in, a stream of `RoundRecord`s comes out, a process writes them to SQLite, pages read and draw
them.

    from pwff_core import RunConfig, run

    for record in run(RunConfig(method="pwff", seed=0)):
        print(record.round, record.accuracy, record.delay_s)

The modules of this folder are the vocabulary: config, knobs, methods, records, units, errors. `wireless` prices
uploads, `data` gives each client its examples, `engine` trains, `runs` keeps the records; `figures`, `comparison` and
`export` show them; `tools` and `cli` are the commands.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from pwff_core.config import RunConfig, preset_config
from pwff_core.records import ClientRecord, RoundRecord

if TYPE_CHECKING:
    from pwff_core.engine.federation import run

# PyTorch caches its preparation of a bfloat16 product, buffers included, for 1,024 shapes, twice over. Lengths of
# batches vary, so that would be gigabytes; a smaller cache is as fast. Torch reads the variables when it is loaded.
for _cache in ("LRU_CACHE_CAPACITY", "ONEDNN_PRIMITIVE_CACHE_CAPACITY"):
    os.environ.setdefault(_cache, "48")

__version__ = "0.1.0"
__all__ = ["ClientRecord", "RoundRecord", "RunConfig", "__version__", "preset_config", "run"]


def __getattr__(name: str) -> Any:
    """`run` is loaded on first use: it imports torch, which pages and `--help` do without."""
    if name == "run":
        from pwff_core.engine.federation import run

        return run
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
