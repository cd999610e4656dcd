"""The store as commands open it: a word on what opening it has done."""

from __future__ import annotations

import sys
from pathlib import Path

from pwff_core.runs.store import Store

_PATIENCE_S = 1.0  # Ctrl-C waits no longer for a locked store; who plays a run tries again


def opened(path: Path, *, readonly: bool = False) -> Store:
    """The store at `path`. StoreError if there is none that can be used."""
    store = Store(path, readonly=readonly, patience_s=_PATIENCE_S)
    for copy in store.renewed:
        print(f"pwff: The store {store.path} was renewed; as it was, it is kept as {copy.name}.", file=sys.stderr)
    return store
