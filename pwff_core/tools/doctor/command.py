"""`pwff doctor`: the checklist; with --mend, after everything that could be repaired."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from pwff_core.errors import ConfigError
from pwff_core.tools.doctor import computer, files, leftovers, runs
from pwff_core.tools.doctor.findings import Finding, as_json, as_text, healthy
from pwff_core.tools.doctor.repair import repair
from pwff_core.tools.doctor.snapshot import take_snapshot


def run(path: Path, *, mend_it: bool, purge_deleted: bool, json: bool) -> int:
    """Prints the checklist of a store and its computer; exit code 1 if a problem remains.

    Repairs are reported on stderr. ConfigError for flags that disagree.
    """
    if purge_deleted and not mend_it:
        raise ConfigError("--purge-deleted removes runs for good, so it needs --mend beside it.")
    for sentence in repair(path, purge_deleted=purge_deleted) if mend_it else ():
        print(f"Mended: {sentence}", file=sys.stderr, flush=True)
    findings = list(examine(path))
    print("\n".join(map(as_json, findings)) if json else as_text(findings))
    return 0 if healthy(findings) else 1


def examine(path: Path) -> Iterator[Finding]:
    """The whole checklist; nothing is changed."""
    snapshot = take_snapshot(path)
    yield from files.findings(snapshot)
    if snapshot.sound:
        yield from runs.findings(snapshot)
        yield from leftovers.findings(snapshot)
    yield from computer.findings(snapshot.path)
