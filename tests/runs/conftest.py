from __future__ import annotations

from pathlib import Path

import pytest

from pwff_core.runs.store import Store
from tests.support.launched import Launched


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "runs.sqlite"


@pytest.fixture
def store(path: Path) -> Store:
    return Store(path)


@pytest.fixture
def launched() -> Launched:
    return Launched()
