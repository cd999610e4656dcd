"""Conversions between the units people speak and linear SI. No other module converts."""

from __future__ import annotations

import math


def db_to_linear(value_db: float) -> float:
    """Power ratio of a value in decibels: 10^(dB/10)."""
    return float(10.0 ** (value_db / 10.0))


def linear_to_db(ratio: float) -> float:
    """Decibels of a power ratio > 0."""
    return 10.0 * math.log10(ratio)


def dbm_to_watt(value_dbm: float) -> float:
    """Watts of a power in dBm (decibels over one milliwatt)."""
    return 1e-3 * db_to_linear(value_dbm)


_PREFIXES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""), (1e-3, "m"), (1e-6, "µ"))


def with_prefix(value: float, unit: str, digits: int = 3) -> str:
    """A number with an SI prefix for people to read: 1.716e6 bit/s → '1.72 Mbit/s'. NaN is '–'."""
    if value == 0 or not math.isfinite(value):
        return f"{_zero_or_no_number(value)} {unit}"
    rounded = float(f"{value:.{digits - 1}e}")  # first, so that 999.9 k becomes 1.00 M
    factor, prefix = next((row for row in _PREFIXES if abs(rounded) >= row[0]), _PREFIXES[-1])
    scaled = rounded / factor
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(scaled))))
    return f"{scaled:.{decimals}f} {prefix}{unit}"


def prefixed_unit(largest: float, unit: str) -> tuple[float, str]:
    """The factor to divide numbers up to `largest` by, and their unit then: 1.7e6 bit/s → (1e6, 'Mbit/s').

    Seconds get no prefix above 1, as people count in seconds and minutes and not in kiloseconds.
    """
    if largest == 0 or not math.isfinite(largest) or (unit == "s" and largest >= 1):
        return 1.0, unit
    factor, prefix = next((row for row in _PREFIXES if abs(largest) >= row[0]), _PREFIXES[-1])
    return factor, f"{prefix}{unit}"


def _zero_or_no_number(value: float) -> str:
    if math.isnan(value):
        return "–"
    return "0" if value == 0 else "∞" if value > 0 else "−∞"


_HOURS_TO_COUNT_IN_DAYS = 100


def seconds_text(seconds: float) -> str:
    """A time span in words short enough for a metric tile: '8.3 s', '2 min 05 s', '3 h 10 min', '149 d 07 h'."""
    if not math.isfinite(seconds):
        return _zero_or_no_number(seconds)
    if round(seconds) < 60:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    if hours < _HOURS_TO_COUNT_IN_DAYS:
        return f"{hours} h {minutes:02d} min"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours:02d} h"
