"""Settings that change while a run goes: what holds when, and each change in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pwff_core.config import RunConfig
from pwff_core.figures.frames import setting_text
from pwff_core.knobs import knobs, steered
from pwff_core.records import Steering, Value

WEIGHTS = "preferences.helpfulness_weights"
FADING_NAMES = {"rayleigh": "Rayleigh", "awgn": "AWGN"}


def config_at(config: RunConfig, steerings: Sequence[Steering], position: int | None = None) -> RunConfig:
    """The settings that hold in a round (counted over all stages from 1), or after all changes."""
    then = [one.changes for one in steerings if position is None or one.position <= position]
    return steered(config, *then) if then else config


def change_text(path: str, before: Value, after: Value) -> str:
    """One change, short: 'SNR 5 → 0 dB', 'Bandwidth 1 MHz → 500 kHz', 'preferences changed'."""
    if path == WEIGHTS:
        return "preferences changed"
    old, new = value_words(path, before), value_words(path, after)
    (number, _, unit), of_new = old.partition(" "), new.partition(" ")[2]
    return f"{knobs()[path].label} {number if unit == of_new else old} → {new}"


def value_words(path: str, value: Value) -> str:
    """A setting's value with its unit: '0 dB', '2 MHz', 'AWGN'; the weights of all clients are 'λ'."""
    if path == WEIGHTS:
        return "λ"
    if not isinstance(value, int | float):
        return FADING_NAMES.get(str(value), str(value))
    unit = knobs()[path].unit
    return f"{value:g} dB" if unit == "dB" else setting_text(value, unit)


def changes_text(before: Mapping[str, Value], changes: Mapping[str, Value]) -> str:
    """Several changes in a line."""
    return ", ".join(change_text(path, before.get(path), value) for path, value in changes.items())


def steering_words(steering: Steering) -> str:
    """A steering in a sentence without its full stop: 'From round 7: SNR 5 → 0 dB'."""
    return f"From round {steering.position}: {changes_text(steering.before, steering.changes)}"
