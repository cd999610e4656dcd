"""Devices and preference weights of the clients."""

from __future__ import annotations

import numpy as np
import pytest

from pwff_core.config import RunConfig
from pwff_core.data.client_profiles import PLACEMENT, device_classes, helpfulness_weights, placement
from pwff_core.knobs import with_changes
from pwff_core.methods import METHODS


def test_device_classes_are_even() -> None:
    classes = device_classes(with_changes(RunConfig(), {"clients": 11}))
    assert sorted(classes.count(name) for name in PLACEMENT) == [3, 4, 4]


def test_personal_lora_has_n_2n_or_3n_modules_by_device() -> None:
    config = RunConfig()
    classes = device_classes(config)
    placed = placement(config, METHODS["pwff"], classes, blocks=12)
    modules = {"low": 12, "mid": 24, "high": 36}
    assert [int(row.sum()) for row in placed] == [modules[name] for name in classes]


@pytest.mark.parametrize("method", ["vanilla_fl", "fedlora", "centralised"])
def test_averaged_or_pooled_lora_is_everywhere(method: str) -> None:
    config = RunConfig()
    assert placement(config, METHODS[method], device_classes(config), blocks=4).all()


def test_lora_can_be_set_to_all_modules() -> None:
    config = with_changes(RunConfig(), {"lora.modules": "all"})
    assert placement(config, METHODS["pwff"], device_classes(config), blocks=4).all()


def test_weights_are_as_configured_or_drawn() -> None:
    three = {"clients": 3}
    given = with_changes(RunConfig(), three | {"preferences.helpfulness_weights": [0.1, 0.5, 1.0]})
    assert helpfulness_weights(given) == [0.1, 0.5, 1.0]
    mirrored = with_changes(RunConfig(), three | {"preferences.harmlessness_weights": [0.1, 0.5, 1.0]})
    assert helpfulness_weights(mirrored) == [0.9, 0.5, 0.0]
    drawn = helpfulness_weights(with_changes(RunConfig(), {"clients": 200}))
    assert all(0 <= weight <= 1 for weight in drawn)
    assert np.mean(drawn) == pytest.approx(0.5, abs=0.08)
    assert drawn != helpfulness_weights(with_changes(RunConfig(), {"clients": 200, "seed": 1}))
