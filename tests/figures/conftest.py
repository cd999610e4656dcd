"""The frame of a comparison, for the tests of its numbers and of its figures."""

from __future__ import annotations

import pandas as pd
import pytest

from pwff_core.figures.comparison import PlayedRun, runs_frame
from pwff_core.records import RoundRecord
from tests.support.rounds import PLANNED
from tests.support.scripted import whole_run


def shifted_run(accuracy: float, energy: float = 0.0) -> list[RoundRecord]:
    """The scripted run with this much more accuracy and energy in each round."""
    return [
        record.model_copy(
            update={
                "accuracy": None if record.accuracy is None else record.accuracy + accuracy,
                "energy_j": record.energy_j + energy,
            }
        )
        for record in whole_run()
    ]


@pytest.fixture
def frame() -> pd.DataFrame:
    """PFL on seed 1, PWFF on seeds 1 and 2; the second is 0.02 better and 2 J dearer a round."""
    return runs_frame(
        [
            PlayedRun("pfl", 1, shifted_run(-0.1)),
            PlayedRun("pwff", 1, shifted_run(0.0)),
            PlayedRun("pwff", 2, shifted_run(0.02, 2.0)),
        ],
        PLANNED,
    )
