"""`python -m pwff_core …` is `pwff …`."""

from __future__ import annotations

import sys

from pwff_core.cli import main

if __name__ == "__main__":
    sys.exit(main())
