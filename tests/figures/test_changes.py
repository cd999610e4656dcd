"""The settings of a steered run in a round, and its changes in words."""

from __future__ import annotations

import pytest

from pwff_core.config import RunConfig
from pwff_core.figures.changes import WEIGHTS, changes_text, config_at, steering_words
from pwff_core.knobs import with_changes
from pwff_core.records import Value
from tests.support.rounds import steering

CONFIG = with_changes(RunConfig(), {"channel.snr_db": 0.0})


def test_settings_hold_from_their_position_on() -> None:
    changes = [steering(2, 0.0, 10.0), steering(7, 1e6, 2e6, "channel.bandwidth_hz"), steering(8, 10.0, -5.0)]
    channels = [config_at(CONFIG, changes, position).channel for position in (1, 2, 6, 7, 8)]
    assert [(channel.snr_db, channel.bandwidth_hz) for channel in channels] == [
        (0.0, 1e6), (10.0, 1e6), (10.0, 1e6), (10.0, 2e6), (-5.0, 2e6),
    ]  # fmt: skip
    assert config_at(CONFIG, changes) == with_changes(CONFIG, {"channel.snr_db": -5.0, "channel.bandwidth_hz": 2e6})
    assert config_at(CONFIG, []) is CONFIG


@pytest.mark.parametrize(
    ("path", "before", "after", "text"),
    [
        ("channel.snr_db", 5.0, 0.0, "SNR 5 → 0 dB"),
        ("channel.snr_db", -2.5, 12.25, "SNR -2.5 → 12.25 dB"),
        ("channel.bandwidth_hz", 1e6, 2e6, "Bandwidth 1 → 2 MHz"),
        ("channel.bandwidth_hz", 1e6, 2e5, "Bandwidth 1 MHz → 200 kHz"),
        ("channel.transmit_power_w", 1.0, 0.5, "Transmit power 1 W → 500 mW"),
        ("channel.fading", "rayleigh", "awgn", "Fading Rayleigh → AWGN"),
        (WEIGHTS, None, (0.0, 1.0), "preferences changed"),
    ],
)
def test_a_change_in_words(path: str, before: Value, after: Value, text: str) -> None:
    assert changes_text({path: before}, {path: after}) == text
    assert steering_words(steering(4, before, after, path)) == f"From round 4: {text}"
