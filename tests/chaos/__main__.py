"""All of `make chaos`: kills, then faults, then the fuzz tests with many cases. The last line counts the kills.

python -m tests.chaos [--kills 200] [--seed 0] [--to build/chaos]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

from tests.chaos import faults, kills
from tests.chaos.reference import ROOT

FUZZ_CASES = 10_000


def main() -> int:
    """The exit code is 0 if nothing was lost, nothing differed, and no case of the fuzz tests failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--to", type=Path, default=ROOT / "build" / "chaos", metavar="FOLDER")
    options = parser.parse_args()
    kill_flags = ["--kills", f"{options.kills}", "--seed", f"{options.seed}", "--to", f"{options.to / 'kills.json'}"]
    kills_failed, last_line = kills.run(kill_flags)
    faults_failed = faults.main(["--to", f"{options.to / 'faults.json'}"])
    fuzz_command = [sys.executable, "-m", "pytest", "-q", "tests/fuzz"]
    fuzz_failed = subprocess.run(
        fuzz_command, cwd=ROOT, env=os.environ | {"PWFF_FUZZ_CASES": f"{FUZZ_CASES}"}
    ).returncode
    print(f"fuzz tests: {'passed' if fuzz_failed == 0 else f'failed (exit code {fuzz_failed})'}\n{last_line}")
    return 1 if kills_failed or faults_failed or fuzz_failed else 0


if __name__ == "__main__":
    sys.exit(main())
