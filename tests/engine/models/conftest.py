from __future__ import annotations

import pytest

from pwff_core.engine.models.encoder import Encoder, load_encoder
from tests.support.encoders import wordpiece_folder


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    """A tiny DistilBERT with random weights, for which every word of `tests.support.encoders` is a token."""
    return load_encoder(str(wordpiece_folder(tmp_path_factory.mktemp("wordpiece"))), "cpu")
