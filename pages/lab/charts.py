"""The Channel lab's charts: fading over time, rate against SNR, what crosses the air, and each method's costs."""

from __future__ import annotations

import math
from functools import lru_cache

import pandas as pd
import streamlit as st

from pages.parts.chart import folded_table, live_chart
from pages.parts.words import plain, setting_text
from pwff_core.config import ChannelConfig, RunConfig
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
from pwff_core.figures.frames import value_text
from pwff_core.figures.panel_figure import figure_json
from pwff_core.methods import METHODS, MethodId
from pwff_core.units import db_to_linear, with_prefix
from pwff_core.wireless.costs import Cost, method_costs, rounds_for
from pwff_core.wireless.link import awgn_rate_bps, estimate, expected_rate_bps
from pwff_core.wireless.payload import PARTS, Cell, Geometry, Part, fates
from pwff_core.wireless.sampling import Means, sampled_rates
from pwff_core.wireless.trace import Trace, deep_fade_share, draw_trace, through_s

TRACE_BLOCKS = 300
SAMPLE_SIZES = (30, 300, 3_000)  # blocks at each SNR
_SEED, _SAMPLE = "lab:seed", "lab:sample"
PART_LABELS: dict[Part, str] = {
    "adapters": "Adapters (stages 1, 3)",
    "lora": "LoRA (stages 1, 3)",
    "reward": "Reward models (stage 2)",
}


def _seed() -> int:
    """The seed of all random draws of the lab; "Draw again" counts it up."""
    return int(st.session_state.setdefault(_SEED, 0))


def _draw_again(key: str) -> None:
    def count_up() -> None:
        st.session_state[_SEED] = _seed() + 1

    st.button(
        "Draw again", key=key, icon=":material/casino:", on_click=count_up, help="New random gains, the same settings."
    )


def draw_chart(key: str, figure: str, words: str) -> None:
    """Draw a figure (JSON text); `words` say what it shows."""
    live_chart(key, figure, words=words, view="channel-lab", revision=f"{hash(figure)}")


def draw_numbers(key: str, heading: str, table: pd.DataFrame, words: str) -> None:
    """Draw a chart's numbers as a table under a heading that opens."""
    folded_table(heading, table, alt=words, keys=(f"more:{key}", f"table:{key}"))


# ---- fading ------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=16)
def _trace(channel: ChannelConfig, seed: int, span_s: float) -> Trace:
    return draw_trace(channel, TRACE_BLOCKS, seed, span_s=span_s)


def draw_fading(config: RunConfig, geometry: Geometry) -> None:
    channel, bits = config.channel, estimate(config, geometry).uplink_bits
    mean_rate = expected_rate_bps(channel)
    span = 2.0 * bits / mean_rate if bits else 1.0
    trace = _trace(channel, _seed(), span)
    st.markdown(f"{_fading_meaning(channel)} {plain(_fading_now(trace, channel, bits))}")
    _draw_again("lab-again-fading")
    words = fading_words(trace, channel, bits)
    draw_chart("lab-fading", figure_json(fading_figure(trace, channel, bits)), words)
    draw_numbers("lab-fading", "Every block in numbers", fading_table(trace, bits), words)


def _fading_meaning(channel: ChannelConfig) -> str:
    if channel.fading == "awgn":
        return (
            "**Without fading** the gain stays at its mean, 1 (that is 0 dB), and so does the rate. Choose *Rayleigh* "
            "among the knobs to see what a real radio link does."
        )
    if math.isinf(channel.coherence_time_s):
        return (
            "**One draw holds for the whole upload**, as the coherence time is infinite: a client is lucky or unlucky, "
            "and stays so. Press *Draw again* a few times."
        )
    return (
        "**A radio wave reaches the server over many paths**, and they add up or cancel out. So the power gain h jumps "
        f"about its mean, 1 (that is 0 dB), and stays the same only for a coherence time, here "
        f"{setting_text(channel.coherence_time_s, 's')}. In a *deep fade* (▼, more than 10 dB under the mean) hardly "
        "anything gets through. Where the gain is high the rate grows only like a logarithm, so the mean rate under "
        "fading is lower than the rate without it."
    )


def _fading_now(trace: Trace, channel: ChannelConfig, bits: int) -> str:
    mean, awgn = expected_rate_bps(channel), awgn_rate_bps(db_to_linear(channel.snr_db), channel.bandwidth_hz)
    parts = []
    if channel.fading == "rayleigh":
        parts.append(
            f"Fading costs {100 * (1 - mean / awgn):.0f} % of the rate: {value_text(mean, 'bit/s')} on average instead "
            f"of {value_text(awgn, 'bit/s')}. In the long run {100 * deep_fade_share(channel):.1f} % of the time is "
            "deep fades."
        )
    if not bits:
        return " ".join([*parts, "This method uploads nothing."])
    end = through_s(trace, bits)
    blocks = bits / mean / trace.stretch_s
    if end <= channel.deadline_s and math.isfinite(end):
        parts.append(f"This upload of {value_text(bits, 'bit')} is through after {value_text(end, 's')}.")
    elif channel.deadline_s <= trace.span_s:
        parts.append(f"By the deadline of {value_text(channel.deadline_s, 's')} it is not through: the upload is lost.")
    else:
        parts.append(
            f"A whole upload ({value_text(bits, 'bit')}) needs about {value_text(bits / mean, 's')}, that is "
            f"{blocks:,.0f} of these blocks; good and bad ones then even out."
        )
    return " ".join(parts)


# ---- rate against SNR --------------------------------------------------------------------------------------------


@lru_cache(maxsize=16)
def _sampled(snrs_db: tuple[float, ...], bandwidth_hz: float, blocks: int, seed: int) -> Means:
    return sampled_rates(snrs_db, bandwidth_hz, "rayleigh", blocks, seed)


def draw_rate(config: RunConfig, geometry: Geometry) -> None:
    channel = config.channel
    st.markdown(
        "**Formula and simulation, one over the other.** The dashed line is the rate without fading, the solid one "
        "its mean under Rayleigh fading in closed form. Each dot is the mean of really simulated blocks, with the "
        "interval that should hold the true mean in 95 of 100 cases. More blocks, shorter intervals: 100 times as "
        "many make them 10 times as short. The diamond is where your knobs are."
    )
    with st.container(horizontal=True, vertical_alignment="bottom", key="lab-rate-row"):
        blocks = st.segmented_control(
            "Simulated blocks at each SNR",
            SAMPLE_SIZES,
            format_func=lambda size: f"{size:,}",
            default=None if _SAMPLE in st.session_state else SAMPLE_SIZES[1],
            key=_SAMPLE,
            required=True,
            persist_state="session",
        )
        _draw_again("lab-again-rate")
    snrs = tuple(sample_snrs_db(channel.snr_db))
    sampled = _sampled(snrs, channel.bandwidth_hz, blocks, _seed())
    inside = rates_inside(snrs, sampled, channel.bandwidth_hz)
    words = (
        f"Mean rate over SNR with and without fading; {inside} of {len(snrs)} intervals of the simulation hold the "
        f"closed form. At {channel.snr_db:g} dB the link carries {value_text(expected_rate_bps(channel), 'bit/s')}."
    )
    draw_chart("lab-rate", figure_json(rate_figure(rate_curves(channel), snrs, sampled, channel)), words)
    draw_numbers("lab-rate", "Rates in numbers", rate_table(snrs, sampled, channel), words)
    st.caption(plain(words))


# ---- what crosses the air ----------------------------------------------------------------------------------------


def draw_crossing(config: RunConfig, geometry: Geometry) -> None:
    st.markdown(
        "**What a client uploads in a round, what it keeps, and what is not trained at all.** A method is nothing but "
        "this row; delay and energy follow from it. Uploading less is quicker, and what stays at home stays personal. "
        "The backbone itself, the big frozen model, never crosses the air."
    )
    st.table(crossing_table(config, geometry), alt="What each method uploads, keeps at home or does not train")
    st.caption(
        "↑ crosses the air · ⌂ stays at home (a client with fewer resources has fewer LoRA modules) · ∑ one model on "
        "everybody's pooled data, so no model is sent, but the data are · – not trained. Sizes are one "
        f"client's in one round, at {config.float_bits} bits a number; reward models are priced over DistilBERT."
    )


def crossing_table(config: RunConfig, geometry: Geometry) -> pd.DataFrame:
    """One row a method, with words and bits in every cell."""
    rows = {}
    for method in METHODS.values():
        cells = fates(method, geometry, config)
        parts = [_cell_text(part, cells[part], config.float_bits) for part in PARTS]
        rows[method.label] = [*parts, _sent_text(cells, config.float_bits)]
    columns = [*PART_LABELS.values(), "Sent in a round of stage 1 or 3"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("Method")


def _cell_text(part: Part, cell: Cell, float_bits: int) -> str:
    size = with_prefix(cell.num_params * float_bits, "bit")
    return {
        "uploaded": f"↑ **uploaded: {size}**",
        "home": f"⌂ at home: {'up to ' if part == 'lora' else ''}{size}",
        "pooled": f"∑ pooled: {size}",
        "untrained": "– not trained",
    }[cell.fate]


def _sent_text(cells: dict[Part, Cell], float_bits: int) -> str:
    sent = sum(cell.num_params for part, cell in cells.items() if cell.fate == "uploaded" and part != "reward")
    return with_prefix(float_bits * sent, "bit") if sent else "nothing"


# ---- delay and energy --------------------------------------------------------------------------------------------


@lru_cache(maxsize=16)
def _costs(config: RunConfig, geometry: Geometry, seed: int) -> dict[MethodId, Cost]:
    return method_costs(config, geometry, seed)


def draw_costs(config: RunConfig, geometry: Geometry) -> None:
    rounds = rounds_for(config.clients)
    st.markdown(
        f"**What a round costs under each method.** A round waits for the slowest of its {config.clients} clients, so "
        "it takes a little longer than the expected upload (hatched), and more so the more clients there are. Energy "
        "is power × time on the air, summed over clients: waiting for others costs none. The solid bar is the mean "
        f"of {rounds} simulated rounds; the whisker spans the middle 90 % of them."
    )
    _draw_again("lab-again-costs")
    costs = _costs(config, geometry, _seed())
    for column, quantity in zip(st.columns(2, gap="medium"), ("delay", "energy"), strict=True):
        with column:
            draw_chart(f"lab-{quantity}", figure_json(cost_figure(costs, quantity)), cost_words(costs, quantity))
    _lost_note(costs, config.channel)
    draw_numbers("lab-costs", "Delay and energy in numbers", cost_table(costs), "Delay and energy of each method")


def _lost_note(costs: dict[MethodId, Cost], channel: ChannelConfig) -> None:
    lost = {METHODS[name].label: float(cost.simulated.lost.mean()) for name, cost in costs.items()}
    if any(lost.values()):
        shares = ", ".join(f"{label} {100 * share:.0f} %" for label, share in lost.items() if share)
        st.warning(
            plain(
                f"The deadline of {value_text(channel.deadline_s, 's')} cuts uploads off: {shares} of them are lost. "
                "Their energy is spent all the same, and the server averages without them."
            )
        )
