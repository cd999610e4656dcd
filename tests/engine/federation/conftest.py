from __future__ import annotations

from pathlib import Path

import pytest

from pwff_core.config import RunConfig
from pwff_core.knobs import with_changes


@pytest.fixture
def config(tiny_backbone: Path) -> RunConfig:
    return with_changes(
        RunConfig(),
        {
            "backbone": str(tiny_backbone), "clients": 3, "data.train_examples": 8, "data.test_examples": 4,
            "data.max_length": 64, "precision": "float32",
            "instruction.rounds": 2, "instruction.local_steps": 2, "instruction.batch_size": 2,
            "instruction.personal_steps": 1, "instruction.learning_rate": 1e-2, "device": "cpu",
            "reward.rounds": 0, "alignment.rounds": 0,
        },
    )  # fmt: skip


@pytest.fixture
def whole(config: RunConfig) -> RunConfig:
    """All three stages, each as short as possible."""
    return with_changes(
        config,
        {
            "reward.rounds": 2, "reward.local_steps": 3, "reward.train_pairs": 8, "reward.test_pairs": 6,
            "alignment.rounds": 2, "alignment.batch_size": 4, "alignment.test_prompts": 4,
            "alignment.max_new_tokens": 6, "alignment.critic_warmup": 2, "alignment.critic_steps": 2,
        },
    )  # fmt: skip
