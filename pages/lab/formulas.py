"""Every formula of the link with the present numbers in it, as mathematics and as plain text, with its source."""

from __future__ import annotations

import math
import re
from typing import NamedTuple

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from pages.parts.words import GROUP_LABELS, count, plain, setting_text
from pwff_core.config import RunConfig
from pwff_core.figures.frames import value_text
from pwff_core.methods import METHODS
from pwff_core.units import db_to_linear, with_prefix
from pwff_core.wireless.link import (
    awgn_rate_bps,
    ergodic_rate_bps,
    estimate,
    expected_rate_bps,
    outage_probability,
)
from pwff_core.wireless.payload import (
    ADAPTERS_PER_BLOCK,
    DISTILBERT_WIDTH,
    Geometry,
    num_adapter_params,
    num_head_params,
    num_lora_params,
    num_reward_upload_params,
    num_upload_params,
    pricing_geometry,
)

_GOLDSMITH = "A. Goldsmith, Wireless Communications, 2005"
_TSE = "D. Tse and P. Viswanath, Fundamentals of Wireless Communication, 2005"
_PAPER = "arXiv 2404.13238v2, section V"


class Formula(NamedTuple):
    """One formula in symbols and with numbers, and its result."""

    name: str
    symbols: str  # LaTeX
    numbers: str  # LaTeX
    result: str  # for people, with its unit
    meaning: str
    source: str


def tex(text: str) -> str:
    """A number with its unit, as people read it, in LaTeX: '1.716 Mbit/s' → 1.716\\ \\text{Mbit/s}; 1e+06 → 10^{6}."""
    number, _, unit = text.partition(" ")
    number = re.sub(r"(.+)e([+-]\d+)", lambda match: f"{match[1]} \\cdot 10^{{{int(match[2])}}}", number)
    number = number.replace(",", "{,}")
    if not unit:
        return number
    micro, rest = ("\\mu", unit[1:]) if unit[0] == "µ" else ("", unit)
    return f"{number}\\ {micro}\\text{{{rest.replace('%', chr(92) + '%')}}}"


def _ratio(value: float) -> str:
    """A number without a unit: four digits, or all of them before the point."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def _exact(value: float, unit: str) -> str:
    return with_prefix(value, unit, digits=4)


def formulas(config: RunConfig, geometry: Geometry) -> list[Formula]:
    """All formulas in the order of computing: SNR, rate, size, bits, delay, energy, outage."""
    return [*_rates(config), *_sizes(config, geometry), *_costs(config, geometry), _outage(config, geometry)]


def _rates(config: RunConfig) -> list[Formula]:
    channel = config.channel
    snr, band = db_to_linear(channel.snr_db), setting_text(channel.bandwidth_hz, "Hz")
    awgn, ergodic = awgn_rate_bps(snr, channel.bandwidth_hz), ergodic_rate_bps(snr, channel.bandwidth_hz)
    product = ergodic_rate_bps(snr, 1.0) * math.log(2.0)
    return [
        Formula(
            "SNR as a ratio", r"\bar\gamma = 10^{\,\mathrm{dB}/10}",
            f"10^{{\\,{channel.snr_db:g}/10}} = {tex(_ratio(snr))}",
            _ratio(snr), "How much stronger than the noise the signal is.", "the definition of the decibel",
        ),
        Formula(
            "Rate without fading", r"R = B\,\log_2(1+\bar\gamma)",
            f"{tex(band)} \\cdot \\log_2({tex(_ratio(1 + snr))}) = {tex(_exact(awgn, 'bit/s'))}", _exact(awgn, "bit/s"),
            "What a link of this bandwidth and SNR can carry at most.", f"{_GOLDSMITH}, eq. 4.1",
        ),
        Formula(
            "Mean rate under Rayleigh fading",
            r"\mathbb{E}[R] = B\,\frac{e^{x}\,E_1(x)}{\ln 2},\quad x = \frac{1}{\bar\gamma}",
            f"{tex(band)} \\cdot \\frac{{{tex(_ratio(product))}}}{{0.6931}} = {tex(_exact(ergodic, 'bit/s'))}",
            _exact(ergodic, "bit/s"),
            f"The rate averaged over all gains; here x = {_ratio(1 / snr)} and eˣ · E1(x) = {_ratio(product)}. E1 is "
            "the exponential integral."
            + ("" if channel.fading == "rayleigh" else " Not used now: fading is off."),
            f"{_GOLDSMITH}, section 4.2.3",
        ),
    ]  # fmt: skip


def _sizes(config: RunConfig, geometry: Geometry) -> list[Formula]:
    priced = pricing_geometry(config, geometry)
    sites, d, b, r = ADAPTERS_PER_BLOCK * priced.blocks, priced.width, config.adapter.bottleneck, config.lora.rank
    adapters, lora = num_adapter_params(priced, b), num_lora_params(priced, r)
    wide = 3 * d + priced.query + priced.key + priced.value
    return [
        Formula(
            "Numbers in the adapters", r"N_A = 3n\,(2\,d\,b + b + d)",
            f"{sites} \\cdot (2 \\cdot {d} \\cdot {b} + {b} + {d}) \\\\ &= {sites} \\cdot "
            f"{tex(f'{adapters // sites:,}')} = {tex(f'{adapters:,}')}",
            f"{adapters:,}",
            f"{sites} adapters, 3 in each of n = {priced.blocks} blocks: from the model's width d = {d} down to the "
            f"bottleneck b = {b} and up again, with biases.",
            f"Houlsby et al., arXiv 1902.00751, section 2.1; their number: {_PAPER}-A",
        ),
        Formula(
            "Numbers in LoRA", r"N_L = n\,r\,(3\,d + d_q + d_k + d_v)",
            f"{priced.blocks} \\cdot {r} \\cdot {tex(f'{wide:,}')} = {tex(f'{lora:,}')}", f"{lora:,}",
            f"Rank r = {r} on the query, the key and the value projection of each block: two thin matrices each.",
            "Hu et al., arXiv 2106.09685, section 4.1",
        ),
    ]  # fmt: skip


def _costs(config: RunConfig, geometry: Geometry) -> list[Formula]:
    channel, method, link = config.channel, METHODS[config.method], estimate(config, geometry)
    numbers = num_upload_params(method, geometry, config)
    sent = " + ".join(tex(f"{size:,}") for size in numbers.values()) or "0"
    groups = " and ".join(GROUP_LABELS[group] for group in numbers) or "nothing"
    bits, rate = _exact(link.uplink_bits, "bit"), _exact(expected_rate_bps(channel), "bit/s")
    delay, power = _exact(link.delay_s, "s"), setting_text(channel.transmit_power_w, "W")
    late = link.delay_s >= channel.deadline_s
    of_a_round = [
        Formula(
            f"Payload of {method.label}", r"S = \text{bits per number} \cdot N",
            f"{config.float_bits} \\cdot ({sent}) = {tex(bits)}", bits,
            f"{method.label} uploads {groups}, {count(config.float_bits, 'bit')} a number, in every round of "
            "instruction tuning and alignment.", f"{_PAPER}-A",
        ),
        Formula(
            "Time of an upload", r"T = \min\!\left(\frac{S}{\mathbb{E}[R]},\ T_{\max}\right)" if late
            else r"T = \frac{S}{\mathbb{E}[R]}",
            f"\\frac{{{tex(bits)}}}{{{tex(rate)}}} = {tex(_exact(link.uplink_bits / expected_rate_bps(channel), 's'))}"
            + (f" \\to {tex(delay)}" if late else ""), delay,
            "What many short coherence blocks approach. A round waits for its slowest client, so it takes longer: see "
            "Delay and energy." + (" The deadline ends it before it is through." if late else ""), _PAPER,
        ),
        Formula(
            "Energy of a round", r"E = K\,P\,T",
            f"{config.clients} \\cdot {tex(power)} \\cdot {tex(delay)} = {tex(_exact(link.round_energy_j, 'J'))}",
            _exact(link.round_energy_j, "J"),
            f"One client spends {_exact(link.energy_j, 'J')} on sending; all {config.clients} are summed.", _PAPER,
        ),
    ]  # fmt: skip
    return [*of_a_round, *_reward_cost(config)]


def _reward_cost(config: RunConfig) -> list[Formula]:
    method = METHODS[config.method]
    total, hidden = num_reward_upload_params(method, config), config.reward.hidden
    if not total:
        return []
    bits, models = config.float_bits * total, len(method.rewards)
    seconds = bits / expected_rate_bps(config.channel)
    return [
        Formula(
            "Payload of reward learning", r"S_2 = \text{bits per number} \cdot M \cdot N_R",
            f"{config.float_bits} \\cdot {models} \\cdot {tex(f'{total // models:,}')} = {tex(_exact(bits, 'bit'))}",
            _exact(bits, "bit"),
            f"{count(models, 'reward model')} a client; of each the head is uploaded, "
            f"{num_head_params(DISTILBERT_WIDTH, hidden):,} numbers ({hidden} inner units)"
            f"{' and the whole encoder' if config.reward.trainable == 'all' else ' over a frozen DistilBERT'}. "
            f"That takes {value_text(seconds, 's')} a round.", f"{_PAPER}-A",
        )
    ]  # fmt: skip


def _outage(config: RunConfig, geometry: Geometry) -> Formula:
    channel, link = config.channel, estimate(config, geometry)
    snr, finite = db_to_linear(channel.snr_db), math.isfinite(channel.deadline_s)
    rate = link.uplink_bits / channel.deadline_s if finite else expected_rate_bps(channel)
    spectral = rate / channel.bandwidth_hz
    chance = outage_probability(rate, snr, channel.bandwidth_hz)
    why = (
        f"To be through within {value_text(channel.deadline_s, 's')} the upload needs {value_text(rate, 'bit/s')}."
        if finite
        else f"There is no deadline now; asked for is the mean rate itself, {value_text(rate, 'bit/s')}."
    )
    return Formula(
        "Outage of a single draw", r"p = 1 - \exp\!\left(-\frac{2^{R/B}-1}{\bar\gamma}\right)",
        f"1 - \\exp\\!\\left(-\\frac{{2^{{{tex(_ratio(spectral))}}}-1}}{{{tex(_ratio(snr))}}}\\right) "
        f"= {tex(f'{100 * chance:.3g} %')}",
        f"{100 * chance:.3g} %",
        f"The chance that one Rayleigh gain, kept for the whole upload, carries less than a rate R. {why}",
        f"{_TSE}, section 5.4.1",
    )  # fmt: skip


def draw_formulas(config: RunConfig, geometry: Geometry) -> None:
    """Draw a card for each formula, two in a row."""
    st.markdown("**Every formula, with the numbers of your knobs put in.** Move a knob and watch which of them change.")
    cards = formulas(config, geometry)
    for first in range(0, len(cards), 2):  # a row for each pair, so that a phone shows them in their order
        for column, formula in zip(st.columns(2, gap="medium"), cards[first : first + 2], strict=False):
            _card(column, formula)


def _card(place: DeltaGenerator, formula: Formula) -> None:
    with place, st.container(border=True):
        st.markdown(f"**{plain(formula.name)}: {plain(formula.result)}**")
        symbols = formula.symbols.replace(" = ", " &= ", 1)
        st.latex(f"\\begin{{aligned}} {symbols} \\\\ &= {formula.numbers} \\end{{aligned}}")
        st.caption(plain(f"{formula.meaning} Source: {formula.source}."))
