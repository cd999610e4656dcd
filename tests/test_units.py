"""Decibels, prefixes and time spans, by hand and there and back."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pwff_core.units import db_to_linear, dbm_to_watt, linear_to_db, prefixed_unit, seconds_text, with_prefix


@pytest.mark.parametrize(("value_db", "ratio"), [(0, 1.0), (10, 10.0), (-30, 1e-3), (60, 1e6), (5, math.sqrt(10))])
def test_decibels_by_hand(value_db: float, ratio: float) -> None:
    assert db_to_linear(value_db) == pytest.approx(ratio, rel=1e-12)
    assert linear_to_db(ratio) == pytest.approx(value_db, abs=1e-12)


@given(st.floats(-200, 200))
def test_decibels_there_and_back(value_db: float) -> None:
    assert linear_to_db(db_to_linear(value_db)) == pytest.approx(value_db, abs=1e-9)


@pytest.mark.parametrize(("value_dbm", "watt"), [(0, 1e-3), (30, 1.0), (20, 0.1), (-30, 1e-6)])
def test_dbm(value_dbm: float, watt: float) -> None:
    assert dbm_to_watt(value_dbm) == pytest.approx(watt, rel=1e-12)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.716e6, "1.72 Mbit/s"),
        (18_590_976, "18.6 Mbit/s"),
        (2.5e12, "2.50 Tbit/s"),
        (999.4, "999 bit/s"),
        (999.6, "1.00 kbit/s"),  # rounds up into the next prefix
        (999_999, "1.00 Mbit/s"),
        (1.0, "1.00 bit/s"),
        (9.999, "10.0 bit/s"),
        (0.0108, "10.8 mbit/s"),
        (2.5e-6, "2.50 µbit/s"),
        (3e-7, "0.300 µbit/s"),
        (-4200, "-4.20 kbit/s"),
        (0, "0 bit/s"),
        (math.inf, "∞ bit/s"),
        (-math.inf, "−∞ bit/s"),
        (math.nan, "– bit/s"),
    ],
)
def test_numbers_with_a_prefix(value: float, text: str) -> None:
    assert with_prefix(value, "bit/s") == text


@given(st.floats(1e-6, 9e14), st.integers(2, 5))
def test_a_prefixed_number_reads_back_to_its_digits(value: float, digits: int) -> None:
    number, unit = with_prefix(value, "J", digits).split(" ")
    factor = {"TJ": 1e12, "GJ": 1e9, "MJ": 1e6, "kJ": 1e3, "J": 1.0, "mJ": 1e-3, "µJ": 1e-6}[unit]
    assert float(number) * factor == pytest.approx(value, rel=0.51 * 10 ** (1 - digits))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"),
        (8.26, "8.3 s"),
        (9.97, "10 s"),
        (59.4, "59 s"),
        (59.7, "1 min 00 s"),
        (125, "2 min 05 s"),
        (1231, "20 min 31 s"),
        (3599.8, "1 h 00 min"),
        (11_400, "3 h 10 min"),
        (math.inf, "∞"),
        (math.nan, "–"),
        (359_999, "99 h 59 min"),
        (360_000, "4 d 04 h"),
        (12_899_156, "149 d 07 h"),
    ],
)
def test_time_spans(seconds: float, text: str) -> None:
    assert seconds_text(seconds) == text


@pytest.mark.parametrize(
    ("largest", "unit", "expected"),
    [
        (1.716e6, "bit/s", (1e6, "Mbit/s")),
        (999.0, "J", (1.0, "J")),
        (0.02, "s", (1e-3, "ms")),
        (12_899_156.0, "s", (1.0, "s")),  # nobody counts in megaseconds
        (0.0, "J", (1.0, "J")),
        (math.inf, "J", (1.0, "J")),
        (1e-9, "J", (1e-6, "µJ")),
    ],
)
def test_a_unit_for_an_axis(largest: float, unit: str, expected: tuple[float, str]) -> None:
    assert prefixed_unit(largest, unit) == expected
