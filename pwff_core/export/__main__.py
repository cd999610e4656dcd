"""`python -m pwff_core.export FOLDER`: writes the zip of an ExportJob into its folder."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from pwff_core.errors import PwffError
from pwff_core.export.job import run_job

if __name__ == "__main__":
    try:
        run_job(Path(sys.argv[1]))
    except PwffError as error:
        print(json.dumps({"error": str(error)}), flush=True)
        sys.exit(2)
