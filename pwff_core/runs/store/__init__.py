"""The store of runs: SQLite files that the engine writes and the pages read. Nothing else in the house speaks SQL.

Two files lie side by side. `runs.sqlite` holds the runs and their rounds: a page adds the row of a new run, and from
then on the run's worker writes it. `runs.commands.sqlite` holds what pages ask of a worker, so that neither waits for
the other.

A page that watches a run asks once a look: `Store.look(run_id, after=0, viewer="") -> Look` reads all of it.

`runs` has the one class that others use; `tables` and `commands` the two files; `work` what a worker writes; `forks`
how runs go on; `rows` what comes out, and `judging` how a run stands; `texts` what people put in; `schema` the tables,
how older files grow into them, and `copies` what is kept of those; `rescue` and `salvage` look at files that may be
damaged; `connections` how SQLite is spoken to.
"""

from __future__ import annotations

from pwff_core.runs.store.commands import LEASE_S
from pwff_core.runs.store.rows import Command, Lease, Look, RunRow, RunStatus
from pwff_core.runs.store.schema import SCHEMA_VERSION
from pwff_core.runs.store.status import CLAIM_WITHIN_S, STALE_S
from pwff_core.runs.store.store import Store
from pwff_core.runs.store.texts import MAX_NAME

__all__ = [
    "CLAIM_WITHIN_S",
    "LEASE_S",
    "MAX_NAME",
    "SCHEMA_VERSION",
    "STALE_S",
    "Command",
    "Lease",
    "Look",
    "RunRow",
    "RunStatus",
    "Store",
]
