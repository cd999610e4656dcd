"""Stands in for a worker: prints how many threads its environment gives it."""

import os

print(os.environ.get("OMP_NUM_THREADS", "none"))
