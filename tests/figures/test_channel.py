"""The channel as charts."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest

from pwff_core.config import ChannelConfig, preset_config
from pwff_core.figures.channel import (
    cost_figure,
    cost_table,
    cost_words,
    fading_figure,
    fading_table,
    fading_words,
    rate_curves,
    rate_figure,
    rate_table,
    rates_inside,
    sample_snrs_db,
)
from pwff_core.figures.panel_figure import figure_json
from pwff_core.knobs import with_changes
from pwff_core.methods import METHODS
from pwff_core.wireless.costs import method_costs
from pwff_core.wireless.payload import GPT2_SMALL
from pwff_core.wireless.sampling import Means, sampled_rates
from pwff_core.wireless.trace import Trace, draw_trace

PAPER = preset_config("paper")
BITS = 580_968 * 32
# 0, −20 and 10 dB; at 0 dB SNR log2(1 + h) is 1, 0.0144 and 3.459 bit/s/Hz
TRACE = Trace(np.array([0.0, 2.0, 4.0]), 2.0, np.array([1.0, 0.01, 10.0]), 1e6 * np.log2([2.0, 1.01, 11.0]))
FLAT = ChannelConfig(snr_db=0)


def trace_of(figure: go.Figure, prefix: str) -> Any:
    return next(trace for trace in figure.data if trace.name.startswith(prefix))


def test_fading_has_steps_and_marked_deep_fades() -> None:
    figure = fading_figure(TRACE, FLAT, 10_000_000)
    gain, deep = trace_of(figure, "gain"), trace_of(figure, "deep fade, below −10 dB")
    np.testing.assert_allclose(gain.x, [0, 2, 4, 6])
    np.testing.assert_allclose(gain.y, [0, -20, 10, 10])
    assert gain.line.shape == "hv"
    assert (list(deep.x), deep.y[0]) == ([3.0], pytest.approx(-20))
    assert list(figure.layout.xaxis.range) == [0, 6]


def test_rate_levels_are_the_closed_forms_and_the_mean_of_the_draw() -> None:
    figure = fading_figure(TRACE, FLAT, 0)
    assert figure.layout.yaxis2.title.text == "Rate R [Mbit/s]"
    levels = {trace.name: trace.y[0] for trace in figure.data if trace.yaxis == "y2" and len(trace.y) == 2}
    assert levels["without fading"] == pytest.approx(1.0)  # log2(1 + 1)
    assert levels["mean rate of this draw"] == pytest.approx((1 + math.log2(1.01) + math.log2(11)) / 3)
    assert levels["mean rate E[R]"] == pytest.approx(0.8603, abs=5e-4)  # e·E1(1)/ln 2
    assert "yaxis3" not in figure.layout.to_plotly_json()  # nothing is uploaded


def test_the_progress_of_an_upload_ends_at_100_percent() -> None:
    figure = fading_figure(TRACE, FLAT, 4_000_000)
    np.testing.assert_allclose(trace_of(figure, "through so far").y, [0, 50, 50 + 50 * math.log2(1.01), 100])
    even = trace_of(figure, "at the mean rate")
    assert even.y[-1] == pytest.approx(100)
    assert even.x[-1] == pytest.approx(4 / 0.8603, rel=1e-3)


def test_fading_in_words_and_numbers() -> None:
    words = fading_words(TRACE, FLAT, 10_000_000)
    assert "-20.0 to 10.0 dB, with 1 of 3 stretches in a deep fade" in words
    table = fading_table(TRACE, 4_000_000)
    assert table["Gain [dB]"].tolist() == pytest.approx([0, -20, 10])
    assert table["Upload through at its end [%]"].iloc[0] == pytest.approx(50)
    assert "Upload through at its end [%]" not in fading_table(TRACE, 0)


def test_without_fading_only_the_capacity_is_drawn() -> None:
    channel = ChannelConfig(fading="awgn")
    figure = fading_figure(draw_trace(channel, 5, 0, span_s=1.0), channel, 0)
    assert {trace.name for trace in figure.data} == {"gain h (above), rate R (below)", "rate R", "without fading"}


@pytest.mark.parametrize(("snr_db", "low", "high"), [(5.0, -10, 30), (-30.0, -30, 30), (60.0, -10, 60)])
def test_the_curves_reach_the_present_snr(snr_db: float, low: float, high: float) -> None:
    curves = rate_curves(ChannelConfig(snr_db=snr_db))
    assert (curves.snr_db[0], curves.snr_db[-1]) == (low, high)
    assert np.all(curves.ergodic_bps < curves.awgn_bps)
    snrs = sample_snrs_db(snr_db)
    assert snr_db in snrs
    assert low <= min(snrs) < max(snrs) <= high


def test_simulated_rates_lie_over_the_closed_form() -> None:
    snrs = sample_snrs_db(5.0)
    sampled = sampled_rates(snrs, 1e6, "rayleigh", 300, 0)
    figure = rate_figure(rate_curves(PAPER.channel), snrs, sampled, PAPER.channel)
    dots = trace_of(figure, "simulated")
    np.testing.assert_allclose(dots.y, sampled.mean / 1e6)
    np.testing.assert_allclose(dots.error_y.array, (sampled.high - sampled.low) / 2e6)
    now = trace_of(figure, "now")
    assert (now.x[0], now.y[0]) == (5.0, pytest.approx(1.716, abs=5e-4))
    assert now.text[0] == "<b>1.716 Mbit/s</b>"
    table = rate_table(snrs, sampled, PAPER.channel).set_index("SNR [dB]")
    assert table.loc[5.0, "No fading [Mbit/s]"] == pytest.approx(2.057, abs=5e-4)
    assert table.loc[5.0, "Rayleigh E[R] [Mbit/s]"] == pytest.approx(1.716, abs=5e-4)


def test_intervals_around_the_closed_form_are_counted() -> None:
    sampled = Means(np.ones(3), np.array([0.0, 0.9, 1.8]), np.array([0.8, 2.0, 9.0]))
    assert rates_inside([0.0, 0.0, 5.0], sampled, 1.0) == 0  # 0.860 and 1.716 bit/s
    assert rates_inside([0.0, 5.0, 5.0], sampled, 1.0) == 1


def test_bars_are_means_of_rounds_beside_expected_values() -> None:
    costs = method_costs(PAPER, GPT2_SMALL, 0)
    figure = cost_figure(costs, "delay")
    simulated, expected = figure.data
    assert list(simulated.y) == [method.label for method in METHODS.values()]
    assert expected.x[0] == pytest.approx(10.83, abs=5e-3)
    assert expected.marker.pattern.shape == "/"  # not colour alone
    rounds = costs["pwff"].simulated.delay_s
    assert simulated.x[0] == pytest.approx(rounds.mean())
    assert simulated.x[0] + simulated.error_x.array[0] == pytest.approx(np.percentile(rounds, 95))
    assert list(simulated.text[-2:]) == ["nothing is sent"] * 2
    assert math.isnan(simulated.error_x.array[-1])
    assert trace_of(cost_figure(costs, "energy"), "expected").x[0] == pytest.approx(108.3, abs=0.05)
    assert "PWFF 11.1 s" in cost_words(costs, "delay")


def test_costs_in_numbers() -> None:
    table = cost_table(method_costs(PAPER, GPT2_SMALL, 0)).set_index("Method")
    assert table.loc["PWFF", "Upload of a client [Mbit]"] == pytest.approx(18.590976)
    assert table.loc["PFL", "Expected delay [s]"] == pytest.approx(19.08, abs=5e-3)
    assert table["Uploads lost [%]"].tolist() == [0.0] * 9
    late = cost_table(method_costs(with_changes(PAPER, {"channel.deadline_s": 10.0}), GPT2_SMALL, 0)).set_index(
        "Method"
    )
    assert late.loc["PFL", "Uploads lost [%]"] == 100.0
    assert late.loc["Shepherd", "Uploads lost [%]"] == 0.0


@pytest.mark.parametrize("channel", [
    {"snr_db": -30}, {"snr_db": 60, "bandwidth_hz": 1e9}, {"bandwidth_hz": 1e3, "snr_db": -30},
    {"deadline_s": 1e-3}, {"coherence_time_s": math.inf, "deadline_s": 1.0}, {"coherence_time_s": 1e6},
])  # fmt: skip
def test_extreme_links_are_drawn_without_a_gap(channel: dict[str, float]) -> None:
    config = with_changes(PAPER, {f"channel.{name}": value for name, value in channel.items()})
    link = config.channel
    snrs = sample_snrs_db(link.snr_db)
    figures = [
        fading_figure(draw_trace(link, 300, 0, span_s=20.0), link, BITS),
        rate_figure(rate_curves(link), snrs, sampled_rates(snrs, link.bandwidth_hz, "rayleigh", 30, 0), link),
        *(cost_figure(method_costs(config, GPT2_SMALL, 0), quantity) for quantity in ("delay", "energy")),
    ]
    for figure in figures:
        tree = json.loads(figure_json(figure))
        assert all(trace["x"] and trace["y"] for trace in tree["data"])
        for trace in figure.data:
            numbers = [value for axis in (trace.x, trace.y) for value in axis if not isinstance(value, str)]
            assert np.all(np.isfinite(np.array(numbers, dtype=float)))


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_figures_state_their_theme(theme: Any) -> None:
    figure = fading_figure(TRACE, FLAT, 0, theme=theme)
    assert figure.layout.template.layout.paper_bgcolor == {"light": "#ffffff", "dark": "#10161c"}[theme]
