"""Randomness by name: each random draw of a run has its own generator, from the run's seed and a name."""

from __future__ import annotations

import zlib

import numpy as np


def _seed_sequence(seed: int, *names: str | int) -> np.random.SeedSequence:
    keys = [name if isinstance(name, int) else zlib.crc32(name.encode()) for name in names]
    return np.random.SeedSequence([seed, *keys])


def generator(seed: int, *names: str | int) -> np.random.Generator:
    """NumPy's generator for one purpose, e.g. `generator(config.seed, "channel", round)`."""
    return np.random.default_rng(_seed_sequence(seed, *names))


def torch_seed(seed: int, *names: str | int) -> int:
    """A seed for a `torch.Generator` of one purpose, below 2^63."""
    return int(_seed_sequence(seed, *names).generate_state(1, np.uint64)[0] >> 1)
