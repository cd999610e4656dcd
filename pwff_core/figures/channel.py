"""The channel as charts: a link's fading over time, its rate against SNR, and the cost of each method on the air."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from numpy.typing import NDArray

from pwff_core.config import ChannelConfig
from pwff_core.figures.frames import value_text
from pwff_core.figures.theme import BLUE, CLEAR, GREEN, GREY, PURPLE, TEMPLATES, VERMILLION, Theme
from pwff_core.methods import METHODS, MethodId
from pwff_core.units import db_to_linear, linear_to_db, prefixed_unit
from pwff_core.wireless.costs import Cost
from pwff_core.wireless.link import awgn_rate_bps, ergodic_rate_bps, expected_rate_bps
from pwff_core.wireless.sampling import Means
from pwff_core.wireless.trace import DEEP_FADE, Trace, progress

Quantity = Literal["delay", "energy"]
_QUANTITIES: dict[Quantity, tuple[str, str]] = {
    "delay": ("Delay of a round", "s"),
    "energy": ("Energy of a round, all clients", "J"),
}
_DEEP_DB = linear_to_db(DEEP_FADE)
_LOW_SNR_DB, _HIGH_SNR_DB = -10.0, 30.0  # range of the curves, which the present SNR may widen
_WHISKER_PERCENT = (5, 95)  # percentiles of the simulated rounds


class Curves(NamedTuple):
    """The closed forms over SNR, every array (m,)."""

    snr_db: NDArray[np.float64]
    awgn_bps: NDArray[np.float64]
    ergodic_bps: NDArray[np.float64]


def fading_figure(trace: Trace, channel: ChannelConfig, bits: int, *, theme: Theme = "light") -> go.Figure:
    """Gain, rate and the progress of an upload of `bits` over one time axis; 0 leaves out the progress."""
    time = np.append(trace.start_s, trace.span_s)  # (n + 1,): the last step ends with the trace
    gain_db, rate = 10.0 * np.log10(trace.gain), trace.rate_bps
    awgn = awgn_rate_bps(db_to_linear(channel.snr_db), channel.bandwidth_hz)
    factor, unit = prefixed_unit(max(float(rate.max()), awgn), "bit/s")
    traces = [_step(time, gain_db, "gain h (above), rate R (below)", "y", "dB")]
    deep = gain_db < _DEEP_DB
    if deep.any():
        traces.append(_deep_fades(time[:-1][deep] + trace.stretch_s / 2, gain_db[deep]))
    traces.append(_step(time, rate / factor, "rate R", "y2", unit))
    if channel.fading == "rayleigh":
        traces.append(_level(time, expected_rate_bps(channel) / factor, "mean rate E[R]", PURPLE, "longdashdot", "y2"))
        traces.append(_level(time, float(rate.mean()) / factor, "mean rate of this draw", GREEN, "dash", "y2"))
    for level, axis in ((0.0, "y"), (awgn / factor, "y2")):
        traces.append(_level(time, level, "without fading", GREY, "dot", axis))
    parts = ["Gain h [dB]", f"Rate R [{unit}]"]
    if bits:
        parts.append("Upload [%]")
        traces += _progress(time, trace, bits, expected_rate_bps(channel))
    return go.Figure(traces, _stacked_layout(parts, trace.span_s, theme))


def _step(x: NDArray[np.float64], y: NDArray[np.float64], name: str, axis: str, unit: str) -> go.Scatter:
    return go.Scatter(
        x=x, y=np.append(y, y[-1]), name=name, yaxis=axis, mode="lines", showlegend=axis == "y",
        line={"color": BLUE, "width": 1.5, "shape": "hv"}, hovertemplate=f"%{{y:.3g}} {unit}",
    )  # fmt: skip


def _level(x: NDArray[np.float64], y: float, name: str, colour: str, dash: str, axis: str) -> go.Scatter:
    """A level line. The legend has it once, even if it is in both charts."""
    return go.Scatter(
        x=[x[0], x[-1]], y=[y, y], name=name, yaxis=axis, mode="lines", hoverinfo="skip", legendgroup=name,
        line={"color": colour, "dash": dash, "width": 2}, showlegend=axis == "y2",
    )  # fmt: skip


def _deep_fades(x: NDArray[np.float64], y: NDArray[np.float64]) -> go.Scatter:
    return go.Scatter(
        x=x, y=y, name=f"deep fade, below {_DEEP_DB:.0f} dB".replace("-", "−"), mode="markers", hoverinfo="skip",
        marker={"symbol": "triangle-down", "size": 8, "color": VERMILLION},
    )  # fmt: skip


def _progress(time: NDArray[np.float64], trace: Trace, bits: int, mean_rate: float) -> list[go.Scatter]:
    """The share of the upload that is through, and a straight line at the mean rate."""
    share = 100.0 * progress(trace, bits)
    end = min(bits / mean_rate, float(time[-1]))
    return [
        go.Scatter(
            x=time, y=share, name="through so far", yaxis="y3", mode="lines",
            line={"color": BLUE, "width": 3}, hovertemplate="%{y:.3g} %",
        ),
        go.Scatter(
            x=[0.0, end], y=[0.0, 100.0 * end * mean_rate / bits], name="at the mean rate", yaxis="y3",
            mode="lines", showlegend=False, hoverinfo="skip", line={"color": PURPLE, "dash": "longdashdot", "width": 2},
        ),
    ]  # fmt: skip


def _stacked_layout(titles: list[str], span_s: float, theme: Theme) -> dict[str, Any]:
    """A layout of charts, one above the other, over one time axis."""
    room, gap = 1.0 / len(titles), 0.05
    axes: dict[str, Any] = {}
    for place, title in enumerate(titles):
        top = 1.0 - place * room
        axes[f"yaxis{place + 1 if place else ''}"] = {
            "domain": [max(top - room + (gap if place < len(titles) - 1 else 0.0), 0.0), top],
            "title": {"text": title}, "anchor": "x",
        }  # fmt: skip
    lowest = f"y{len(titles)}"
    return {
        "template": TEMPLATES[theme], "title": {"text": "One client's link over time"},
        "height": 190 * len(titles) + 60, **axes,
        "xaxis": {"title": {"text": "Time [s]"}, "anchor": lowest, "range": [0, span_s],
                  "unifiedhovertitle": {"text": "%{x:.4g} s"}},
        "margin": {"b": 96},
    }  # fmt: skip


def fading_words(trace: Trace, channel: ChannelConfig, bits: int) -> str:
    """What the fading chart shows, for people who cannot see it."""
    deep = int((trace.gain < DEEP_FADE).sum())
    progress_words = f" {100 * float(progress(trace, bits)[-1]):.0f} % of the upload gets through." if bits else ""
    low, high = (linear_to_db(float(edge)) for edge in (trace.gain.min(), trace.gain.max()))
    return (
        f"Gain and rate of one client's link over {value_text(trace.span_s, 's')}. The gain goes from {low:.1f} to "
        f"{high:.1f} dB, with {deep} of {len(trace.gain)} stretches in a deep fade; the rate is "
        f"{value_text(float(trace.rate_bps.mean()), 'bit/s')} on average, where "
        f"{value_text(expected_rate_bps(channel), 'bit/s')} are expected.{progress_words}"
    )


def fading_table(trace: Trace, bits: int) -> pd.DataFrame:
    """The numbers behind the fading chart, one row a block."""
    factor, unit = prefixed_unit(float(trace.rate_bps.max()), "bit/s")
    table = pd.DataFrame({
        "Block": np.arange(1, len(trace.gain) + 1), "Begins [s]": trace.start_s, "Gain": trace.gain,
        "Gain [dB]": 10.0 * np.log10(trace.gain), f"Rate [{unit}]": trace.rate_bps / factor,
    })  # fmt: skip
    if bits:
        table["Upload through at its end [%]"] = 100.0 * progress(trace, bits)[1:]
    return table


def sample_snrs_db(snr_db: float) -> list[float]:
    """SNRs to simulate at [dB]: the present one, and every 4 dB over the range of the curves."""
    low, high = _snr_range_db(snr_db)
    return sorted({snr_db, *(float(level) for level in np.arange(math.ceil(low / 4) * 4, high + 1e-9, 4))})


def _snr_range_db(snr_db: float) -> tuple[float, float]:
    return min(_LOW_SNR_DB, snr_db), max(_HIGH_SNR_DB, snr_db)


def rate_curves(channel: ChannelConfig, points: int = 81) -> Curves:
    """The AWGN capacity and the ergodic Rayleigh rate over SNR."""
    snrs = np.linspace(*_snr_range_db(channel.snr_db), points)
    linear = [db_to_linear(float(snr_db)) for snr_db in snrs]
    rates = (
        np.array([mean(snr, channel.bandwidth_hz) for snr in linear]) for mean in (awgn_rate_bps, ergodic_rate_bps)
    )
    return Curves(snrs, *rates)


def rate_figure(
    curves: Curves, snrs_db: Sequence[float], sampled: Means, channel: ChannelConfig, *, theme: Theme = "light"
) -> go.Figure:
    """Both closed forms, the simulated means with their intervals, and a marker at the present SNR.

    Args:
        curves: the closed forms (`rate_curves`).
        snrs_db: the simulated SNRs [dB].
        sampled: the mean rates at them (`sampled_rates`).
        channel: the present link.
        theme: light or dark.
    """
    factor, unit = prefixed_unit(float(curves.awgn_bps.max()), "bit/s")
    now = expected_rate_bps(channel)
    hover, side = f"%{{y:.4g}} {unit}", "right" if channel.snr_db < 15 else "left"
    bars = {
        "type": "data", "array": (sampled.high - sampled.mean) / factor, "thickness": 1.5, "width": 4, "color": BLUE,
    }  # fmt: skip
    traces = [
        go.Scatter(x=curves.snr_db, y=curves.awgn_bps / factor, name="no fading: B·log2(1 + γ̄)", mode="lines",
                   line={"color": GREY, "dash": "dash", "width": 2}, hovertemplate=hover),
        go.Scatter(x=curves.snr_db, y=curves.ergodic_bps / factor, name="Rayleigh: E[R]", mode="lines",
                   line={"color": PURPLE, "width": 2.5}, hovertemplate=hover),
        go.Scatter(x=snrs_db, y=sampled.mean / factor, name="simulated, 95 % interval", mode="markers", error_y=bars,
                   marker={"color": BLUE, "symbol": "circle", "size": 7}, hovertemplate=hover),
        go.Scatter(x=[channel.snr_db], y=[now / factor], name="now", mode="markers+text", hoverinfo="skip",
                   text=[f"<b>{now / factor:.4g} {unit}</b>"], textposition=f"bottom {side}",
                   marker={"color": CLEAR, "symbol": "diamond", "size": 15,
                           "line": {"color": VERMILLION, "width": 2.5}}),
    ]  # fmt: skip
    return go.Figure(traces, {
        "template": TEMPLATES[theme], "title": {"text": "Rate against SNR"}, "height": 440, "margin": {"b": 90},
        "xaxis": {"title": {"text": "Mean SNR γ̄ [dB]"}, "range": [curves.snr_db[0] - 1, curves.snr_db[-1] + 1],
                  "unifiedhovertitle": {"text": "%{x:.3g} dB"}},
        "yaxis": {"title": {"text": f"Rate [{unit}]"}, "rangemode": "tozero"},
        "shapes": [{"type": "line", "x0": channel.snr_db, "x1": channel.snr_db, "xref": "x", "y0": 0, "y1": 1,
                    "yref": "paper", "line": {"color": VERMILLION, "dash": "dot", "width": 1.5}}],
    })  # fmt: skip


def rates_inside(snrs_db: Sequence[float], sampled: Means, bandwidth_hz: float) -> int:
    """The number of simulated intervals that contain the ergodic rate."""
    ergodic = np.array([ergodic_rate_bps(db_to_linear(snr_db), bandwidth_hz) for snr_db in snrs_db])
    return int(((sampled.low <= ergodic) & (ergodic <= sampled.high)).sum())


def rate_table(snrs_db: Sequence[float], sampled: Means, channel: ChannelConfig) -> pd.DataFrame:
    """The numbers behind the rate chart, one row a simulated SNR."""
    linear = [db_to_linear(snr_db) for snr_db in snrs_db]
    ergodic = np.array([ergodic_rate_bps(snr, channel.bandwidth_hz) for snr in linear])
    awgn = np.array([awgn_rate_bps(snr, channel.bandwidth_hz) for snr in linear])
    factor, unit = prefixed_unit(float(awgn.max()), "bit/s")
    return pd.DataFrame({
        "SNR [dB]": snrs_db, f"No fading [{unit}]": awgn / factor, f"Rayleigh E[R] [{unit}]": ergodic / factor,
        f"Simulated [{unit}]": sampled.mean / factor, f"95 % from [{unit}]": sampled.low / factor,
        f"to [{unit}]": sampled.high / factor,
    })  # fmt: skip


def cost_figure(costs: Mapping[MethodId, Cost], quantity: Quantity, *, theme: Theme = "light") -> go.Figure:
    """Bars of every method: the closed form, and the mean of the simulated rounds with their spread."""
    title, unit = _QUANTITIES[quantity]
    expected, rounds = _values(costs, quantity)
    mean = rounds.mean(axis=1)
    low, high = np.percentile(rounds, _WHISKER_PERCENT, axis=1)
    factor, axis_unit = prefixed_unit(float(max(expected.max(), high.max())), unit)
    labels = [METHODS[name].label for name in costs]
    texts = [value_text(value, unit) if value else "nothing is sent" for value in mean.tolist()]
    positions = ["auto" if value else "outside" for value in mean.tolist()]
    up, down = (np.where(mean > 0, edge / factor, np.nan) for edge in (high - mean, mean - low))
    whisker = {
        "type": "data", "array": up, "arrayminus": down, "thickness": 1.5, "width": 4, "color": VERMILLION,
    }  # fmt: skip
    hover = f"%{{x:.4g}} {axis_unit}"
    traces = [
        go.Bar(y=labels, x=mean / factor, name=f"simulated, {_rounds_name(rounds)}", orientation="h", text=texts,
               textposition=positions, insidetextanchor="start", error_x=whisker, hovertemplate=hover, textangle=0,
               marker={"color": BLUE}, insidetextfont={"color": "#ffffff"}, constraintext="none"),
        go.Bar(y=labels, x=expected / factor, name="expected (closed form)", orientation="h", hovertemplate=hover,
               marker={"color": CLEAR, "line": {"color": PURPLE, "width": 1.5},
                       "pattern": {"shape": "/", "fgcolor": PURPLE, "size": 6}}),
    ]  # fmt: skip
    return go.Figure(traces, {
        "template": TEMPLATES[theme], "title": {"text": title}, "height": 470, "barmode": "group", "bargap": 0.3,
        "margin": {"b": 90}, "hovermode": "y unified",
        "xaxis": {"title": {"text": f"{title} [{axis_unit}]"}, "rangemode": "tozero"},
        "yaxis": {"autorange": "reversed", "ticks": ""}, "legend": {"traceorder": "normal"},
    })  # fmt: skip


def _rounds_name(rounds: NDArray[np.float64]) -> str:
    return f"{rounds.shape[1]} rounds"


def _values(costs: Mapping[MethodId, Cost], quantity: Quantity) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Expected (methods,) and simulated (methods, rounds) [s or J]."""
    if quantity == "delay":
        pairs = [(cost.expected.delay_s, cost.simulated.delay_s) for cost in costs.values()]
    else:
        pairs = [(cost.expected.round_energy_j, cost.simulated.energy_j) for cost in costs.values()]
    return np.array([expected for expected, _ in pairs]), np.stack([rounds for _, rounds in pairs])


def cost_words(costs: Mapping[MethodId, Cost], quantity: Quantity) -> str:
    """What the bars show, for people who cannot see them."""
    title, unit = _QUANTITIES[quantity]
    _, rounds = _values(costs, quantity)
    means = (
        f"{METHODS[name].label} {value_text(float(mean), unit)}"
        for name, mean in zip(costs, rounds.mean(axis=1), strict=True)
    )
    return f"{title}, mean of {rounds.shape[1]} simulated rounds: {', '.join(means)}."


def cost_table(costs: Mapping[MethodId, Cost]) -> pd.DataFrame:
    """The numbers behind both charts of bars, one row a method."""
    delays, energies = _values(costs, "delay"), _values(costs, "energy")
    low, high = np.percentile(delays[1], _WHISKER_PERCENT, axis=1)
    return pd.DataFrame({
        "Method": [METHODS[name].label for name in costs],
        "Upload of a client [Mbit]": [cost.expected.uplink_bits / 1e6 for cost in costs.values()],
        "Expected delay [s]": delays[0], "Simulated delay [s]": delays[1].mean(axis=1),
        "5 % of rounds below [s]": low, "5 % above [s]": high,
        "Expected energy [J]": energies[0], "Simulated energy [J]": energies[1].mean(axis=1),
        "Uploads lost [%]": [100.0 * float(cost.simulated.lost.mean()) for cost in costs.values()],
    })  # fmt: skip
