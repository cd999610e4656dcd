"""The store of runs: SQLite files that the engine writes and the pages read. Nothing else in the house speaks SQL.

Two files lie side by side. `runs.sqlite` holds the runs and their rounds: a page adds the row of a new run, and from
then on the run's worker writes it. `runs.commands.sqlite` holds what pages ask of a worker, so that neither waits for
the other.

`runs` has the one class that others use; `commands` the second file; `rows` what comes out; `texts` what people put
in; `schema` the tables and how older files grow into them; `connections` how SQLite is spoken to.
"""

from __future__ import annotations

from pwff_core.store.commands import LEASE_S
from pwff_core.store.rows import CLAIM_WITHIN_S, Command, Lease, RunRow, RunStatus
from pwff_core.store.runs import Store
from pwff_core.store.schema import SCHEMA_VERSION
from pwff_core.store.texts import MAX_NAME

__all__ = [
    "CLAIM_WITHIN_S",
    "LEASE_S",
    "MAX_NAME",
    "SCHEMA_VERSION",
    "Command",
    "Lease",
    "RunRow",
    "RunStatus",
    "Store",
]
