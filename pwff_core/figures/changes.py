"""Settings that change during a run: which hold in a round, and each change in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pwff_core.config import RunConfig
from pwff_core.figures.frames import setting_parts
from pwff_core.knobs import knobs, steered
from pwff_core.records import Steering, Value

WEIGHTS = "preferences.helpfulness_weights"
FADING_NAMES = {"rayleigh": "Rayleigh", "awgn": "AWGN"}


def config_at(config: RunConfig, steerings: Sequence[Steering], position: int | None = None) -> RunConfig:
    """The settings in a round (counted over all stages from 1); None: those after all changes."""
    changes = [steering.changes for steering in steerings if position is None or steering.position <= position]
    return steered(config, *changes) if changes else config


def change_text(path: str, before: Value, after: Value) -> str:
    """One change, short: 'SNR 5 → 0 dB', 'Bandwidth 1 MHz → 500 kHz', 'preferences changed'."""
    if path == WEIGHTS:
        return "preferences changed"
    return f"{knobs()[path].label} {former_value_words(path, before, after)} → {value_words(path, after)}"


def former_value_words(path: str, before: Value, after: Value) -> str:
    """The value before a change, without its unit where the value after it has the same."""
    (number, unit), (_, unit_after) = _value_parts(path, before), _value_parts(path, after)
    return number if unit == unit_after else value_words(path, before)


def value_words(path: str, value: Value) -> str:
    """A setting's value with its unit: '0 dB', '2 MHz', 'AWGN'; the weights of all clients are 'λ'."""
    return " ".join(filter(None, _value_parts(path, value)))


def _value_parts(path: str, value: Value) -> tuple[str, str]:
    """A setting's value and its unit, which is "" for what is no number."""
    if path == WEIGHTS:
        return "λ", ""
    if not isinstance(value, int | float):
        return FADING_NAMES.get(str(value), str(value)), ""
    unit = knobs()[path].unit
    return (f"{value:g}", unit) if unit == "dB" else setting_parts(value, unit)


def changes_text(before: Mapping[str, Value], changes: Mapping[str, Value]) -> str:
    """Several changes in a line."""
    return ", ".join(change_text(path, before.get(path), value) for path, value in changes.items())


def steering_words(steering: Steering) -> str:
    """A steering in a sentence without its full stop: 'From round 7: SNR 5 → 0 dB'."""
    return f"From round {steering.position}: {changes_text(steering.before, steering.changes)}"
