"""What a round will cost on the air, before any training."""

from __future__ import annotations

import math

import streamlit as st

from pages.parts.words import GROUP_LABELS, sentence
from pwff_core.config import RunConfig, stage_rounds
from pwff_core.figures.frames import value_text
from pwff_core.methods import METHODS, Group
from pwff_core.units import with_prefix
from pwff_core.wireless.link import Estimate, estimate
from pwff_core.wireless.payload import Geometry, geometry_of, num_adapter_params, num_lora_params, pricing_geometry


def link_geometry(config: RunConfig) -> Geometry | None:
    """The geometry that the link is priced by; None if only the loaded model can tell it."""
    return pricing_geometry(config, geometry_of(config.backbone))


def group_bits(config: RunConfig, geometry: Geometry) -> dict[Group, int]:
    """Bits of each tensor group of one client, uploaded or not, with LoRA at all its sites."""
    numbers: dict[Group, int] = {
        "adapters": num_adapter_params(geometry, config.adapter.bottleneck),
        "lora": num_lora_params(geometry, config.lora.rank),
    }
    return {group: config.float_bits * count for group, count in numbers.items()}


def price_words(config: RunConfig, geometry: Geometry) -> str:
    """What is uploaded and what stays at home, with sizes."""
    method, bits = METHODS[config.method], group_bits(config, geometry)
    up = " and ".join(f"{GROUP_LABELS[group]} ({with_prefix(bits[group], 'bit')})" for group in method.uploads)
    home = " and ".join(f"{GROUP_LABELS[group]} (up to {with_prefix(bits[group], 'bit')})" for group in method.personal)
    parts = [f"Each client uploads {up}." if up else "Nothing crosses the air."]
    if home and not method.pooled:
        parts.append(f"{sentence(home)} {'stays' if len(method.personal) == 1 else 'stay'} at home.")
    return " ".join(parts)


def draw_price(config: RunConfig) -> None:
    """Tiles with the payload, rate, seconds and joules of a round, by the present settings."""
    geometry = link_geometry(config)
    if geometry is None:
        st.info("How much this backbone uploads is known once it is loaded. Priced as GPT-2 small, it can be told now.")
        return
    link = estimate(config, geometry)
    _tiles(config, link)
    gpt2 = ", priced as GPT-2 small" if config.price_as == "gpt2" else ""
    of_stages = " of instruction tuning or alignment" if len(stage_rounds(config)) > 1 else ""
    st.caption(
        f"Expected for a round{of_stages}, before any training; the channel is simulated{gpt2}. "
        f"{price_words(config, geometry)}"
    )
    deadline_s = config.channel.deadline_s
    if math.isfinite(deadline_s) and link.delay_s >= deadline_s:
        st.warning(
            f"The deadline of {value_text(deadline_s, 's')} is shorter than the expected upload: most uploads will "
            "be lost. Allow more time, more bandwidth or a smaller payload."
        )


def _tiles(config: RunConfig, link: Estimate) -> None:
    rate = (
        "Mean rate under Rayleigh fading: E[R] = B · e^(1/γ̄) · E1(1/γ̄) / ln 2."
        if config.channel.fading == "rayleigh"
        else "Without fading: R = B · log2(1 + γ̄)."
    )
    delay = "T = S / E[R]. A round waits for its slowest client, so it takes somewhat longer."
    with st.container(key="tiles:price"):
        st.metric("A client uploads", value_text(link.uplink_bits, "bit"), help="S = bits per number × numbers sent.")
        st.metric("Link rate", value_text(link.rate_bps, "bit/s"), help=rate)
        st.metric("Upload time", value_text(link.delay_s, "s"), help=delay)
        st.metric("Energy, one client", value_text(link.energy_j, "J"), help="E = P · T in a round.")
        st.metric("Energy, all clients", value_text(link.round_energy_j, "J"), help="K · E in a round.")
