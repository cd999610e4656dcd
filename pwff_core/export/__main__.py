"""`python -m pwff_core.export FOLDER`: writes the zip that a Preparation has laid out in the folder."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from pwff_core.errors import PwffError
from pwff_core.export.job import prepare

if __name__ == "__main__":
    try:
        prepare(Path(sys.argv[1]))
    except PwffError as error:
        print(json.dumps({"error": str(error)}), flush=True)
        sys.exit(2)
