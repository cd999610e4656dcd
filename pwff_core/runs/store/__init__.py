"""The store of runs: SQLite files that the engine writes and the pages read. Only this room speaks SQL.

Two files lie side by side. `runs.sqlite` holds the runs and their rounds: a page adds the row of a new run, and from
then on the run's worker writes it. `runs.commands.sqlite` holds the commands of pages for workers, so that neither
waits for the other.

`store` has the one class that others use; `tables` and `commands` are the two files; `forks` is how runs go on; `rows`
is what comes out, `status` and `endings` tell how a run stands; `schema` has the tables and their upgrades;
`inspection` and `recovery` are for files that may be damaged; `connections` speaks to SQLite.
"""

from __future__ import annotations

from pwff_core.runs.store.commands import LEASE_S
from pwff_core.runs.store.connections import MAX_NAME
from pwff_core.runs.store.endings import CLAIM_WITHIN_S, EndKind, RunEnd, RunStatus
from pwff_core.runs.store.rows import Command, Lease, RunRow, RunSnapshot
from pwff_core.runs.store.schema import SCHEMA_VERSION
from pwff_core.runs.store.status import STALE_S
from pwff_core.runs.store.store import Store

__all__ = [
    "CLAIM_WITHIN_S",
    "LEASE_S",
    "MAX_NAME",
    "SCHEMA_VERSION",
    "STALE_S",
    "Command",
    "EndKind",
    "Lease",
    "RunEnd",
    "RunRow",
    "RunSnapshot",
    "RunStatus",
    "Store",
]
