"""How many cases the fuzz tests try, and how many they have tried.

The ordinary suite tries a few, the same each time. `PWFF_FUZZ_CASES=10000 pytest tests/fuzz` tries at least so many in
total, others each time; hypothesis prints how to repeat a failure.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec

from hypothesis import HealthCheck, settings

VARIABLE = "PWFF_FUZZ_CASES"
WANTED = int(os.environ.get(VARIABLE, "0"))  # 0: the ordinary suite's
tried: Counter[str] = Counter()
P = ParamSpec("P")


def fuzzed(share: float, few: int = 20) -> Callable[[Callable[P, None]], Callable[P, None]]:
    """Decorates a test under @given, which gets this share of all cases, ordinarily `few`; each is counted."""

    def wrap(test: Callable[P, None]) -> Callable[P, None]:
        @wraps(test)
        def counting(*args: P.args, **kwargs: P.kwargs) -> None:
            tried[f"{test.__module__.rpartition('.')[2]}: {test.__name__}"] += 1
            test(*args, **kwargs)

        unhurried = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture]
        return settings(
            max_examples=math.ceil(WANTED * share) if WANTED else few,
            derandomize=not WANTED,
            database=None,
            deadline=None,
            print_blob=True,
            suppress_health_check=unhurried,
        )(counting)

    return wrap
