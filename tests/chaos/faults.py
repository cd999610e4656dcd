"""Plays the faults and prints a table: what the run does, what a page says, what is left afterwards.

python -m tests.chaos.faults [NAME …] [--side-by-side 2] [--to build/chaos/faults.json]
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.chaos import checkpoint_faults, clock_faults, disk_faults, process_faults
from tests.chaos.reference import ROOT, References
from tests.chaos.scene import Row, Scene, Skipped

FAULTS: tuple[Callable[[Scene], Row], ...] = (
    *disk_faults.FAULTS, *checkpoint_faults.FAULTS, *process_faults.FAULTS, *clock_faults.FAULTS,
)  # fmt: skip
HEAD = "| fault | what the run does | what a user sees | afterwards |\n|---|---|---|---|"


def name_of(fault: Callable[[Scene], Row]) -> str:
    """`process_faults.two_at_once` → "two at once"."""
    return fault.__name__.replace("_", " ")


def play_fault(fault: Callable[[Scene], Row], folder: Path, references: References) -> Row | None:
    """Plays a fault and prints its row; None if it cannot be made here, which is printed too."""
    scene = Scene(folder / name_of(fault).replace(" ", "-"), references)
    try:
        row = fault(scene)
    except Skipped as reason:
        print(f"{name_of(fault)}: left out: {reason}.", flush=True)
        return None
    except Exception as error:  # a fault that fails must not hide the others
        traceback.print_exception(error)
        row = Row(name_of(fault), "", "", f"{type(error).__name__}: {error}", False)
    finally:
        scene.close()
    print(line(row), flush=True)
    return row


def line(row: Row) -> str:
    """A row of the table, as Markdown."""
    cells = (row.fault, row.does, row.sees, row.afterwards)
    return "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |"


def main(arguments: Sequence[str] | None = None) -> int:
    """The second part of `make chaos`; the exit code is 0 if no fault lost a round or changed a result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [name_of(fault) for fault in FAULTS]
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"all, or some of {', '.join(names)}")
    parser.add_argument("--side-by-side", type=int, default=2, metavar="FAULTS")
    parser.add_argument("--to", type=Path, default=ROOT / "build" / "chaos" / "faults.json", metavar="FILE")
    options = parser.parse_args(arguments)
    if unknown := [name for name in options.names if name not in names]:
        parser.error(f"there is no fault called {', '.join(unknown)}; there are {', '.join(names)}")
    chosen = [fault for fault in FAULTS if not options.names or name_of(fault) in options.names]
    with (
        tempfile.TemporaryDirectory(prefix="pwff-faults-", ignore_cleanup_errors=True) as folder,
        ThreadPoolExecutor(options.side_by_side) as pool,
    ):
        references = References(Path(folder) / "references")
        played = pool.map(lambda fault: play_fault(fault, Path(folder), references), chosen)
        rows = [row for row in played if row]
    options.to.parent.mkdir(parents=True, exist_ok=True)
    options.to.write_text(json.dumps([row._asdict() for row in rows], indent=1, ensure_ascii=False) + "\n", "utf-8")
    print("\n".join(["", HEAD, *map(line, rows), ""]))
    bad = [row.fault for row in rows if not row.fine]
    print(f"{len(rows)} faults, {len(chosen) - len(rows)} left out, {len(bad)} with losses or differences")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
