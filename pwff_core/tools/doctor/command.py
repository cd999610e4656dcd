"""`pwff doctor`: the checklist, and with --mend what was done about it first."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from pwff_core.errors import ConfigError
from pwff_core.tools.doctor import computer, files, leftovers, runs
from pwff_core.tools.doctor.findings import Finding, as_json, as_text, healthy
from pwff_core.tools.doctor.repair import mend
from pwff_core.tools.doctor.snapshot import looked_at


def run(path: Path, *, mend_it: bool, purge_deleted: bool, json: bool) -> int:
    """Prints what there is to say of a store and its computer; exit code 1 if a problem remains.

    What is mended is told on stderr. ConfigError for flags that disagree.
    """
    if purge_deleted and not mend_it:
        raise ConfigError("--purge-deleted removes runs for good, so it needs --mend beside it.")
    for done in mend(path, purge_deleted=purge_deleted) if mend_it else ():
        print(f"Mended: {done}", file=sys.stderr, flush=True)
    found = list(examine(path))
    print("\n".join(map(as_json, found)) if json else as_text(found))
    return 0 if healthy(found) else 1


def examine(path: Path) -> Iterator[Finding]:
    """The whole checklist; nothing is changed."""
    patient = looked_at(path)
    yield from files.findings(patient)
    if patient.sound:
        yield from runs.findings(patient)
        yield from leftovers.findings(patient)
    yield from computer.findings(patient.path)
