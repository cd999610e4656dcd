"""Three exhibits of what does not add up in the paper, each with numbers that are computed here and now."""

from __future__ import annotations

from functools import lru_cache

import streamlit as st

from pages.lab.charts import draw_chart, draw_numbers
from pages.parts.words import plain
from pwff_core.config import ChannelConfig, RunConfig, preset_config
from pwff_core.figures.exhibits import (
    lost_figure,
    mean_delay_figure,
    mean_delay_table,
    rank_figure,
    rank_table,
    upload_figure,
    upload_table,
)
from pwff_core.figures.frames import value_text
from pwff_core.figures.panel_figure import figure_json
from pwff_core.units import with_prefix
from pwff_core.wireless.exhibits import (
    BLOCKS_AN_UPLOAD,
    CLAIMED_SAVING,
    Settling,
    fitting_ranks,
    paper_rank,
    reward_uploads,
    settling,
)
from pwff_core.wireless.link import estimate
from pwff_core.wireless.payload import Geometry

_HIGHEST_RANK = 128
_SEED = "lab:exhibit-seed"


def draw_exhibits(config: RunConfig, geometry: Geometry) -> None:
    st.markdown(
        "**Three things in the paper that do not add up at first sight, and what lies behind them.** The rate, and so "
        "every time below, is that of your knobs."
    )
    _rank_story(config)
    st.divider()
    _mean_story(config, geometry)
    st.divider()
    _reward_story(config)


# ---- rank 8 against 96 -------------------------------------------------------------------------------------------


def _rank_story(config: RunConfig) -> None:
    printed, used = preset_config("paper-as-printed").lora.rank, preset_config("paper").lora.rank
    fits = " and ".join(f"{rank}" for rank in fitting_ranks(CLAIMED_SAVING, _HIGHEST_RANK))
    text, figure = paper_rank(printed), paper_rank(used)
    st.subheader(f"1. Rank {printed} in the text, rank {used} in the figures", anchor=False)
    left, right = st.columns([2, 3], gap="medium")
    with left:
        st.markdown(
            _prose(
                f"The paper prints LoRA rank {printed}. Fig. 5 says that PWFF, which uploads adapters alone, needs "
                f"{100 * CLAIMED_SAVING:.0f} % less energy than PFL, which uploads LoRA too, and that Shepherd, which "
                "uploads LoRA alone, needs the least. Energy is power × time, and time follows the numbers that are "
                "sent, so both claims can be checked by counting."
            )
        )
        st.markdown(
            _prose(
                f"At rank {printed} the adapters are {text.adapters:,} numbers and LoRA {text.lora:,}: adapters alone "
                f"would save {100 * text.lora_share:.1f} %, and LoRA alone would cost {text.lora / text.adapters:.1f} "
                f"times the adapters, not the least. At rank {used} LoRA is {figure.lora:,} numbers: adapters alone "
                f"save {100 * figure.lora_share:.1f} %, and LoRA alone is the cheapest. Of all ranks up to "
                f"{_HIGHEST_RANK}, only {fits} gives {100 * CLAIMED_SAVING:.0f} %. So the figures were most likely "
                f"made with rank {used}: that is our inference, the paper does not say so."
            )
        )
    marked = {f"rank {used} (figures)": figure, f"rank {printed} (text)": text}
    if config.lora.rank not in (printed, used) and config.lora.rank <= _HIGHEST_RANK:
        marked[f"rank {config.lora.rank} (your knob)"] = paper_rank(config.lora.rank)
    words = (
        f"Share of PFL's upload over the rank. At rank {used} PWFF uploads {100 * figure.adapter_share:.1f} % and "
        f"Shepherd {100 * figure.lora_share:.1f} %; at rank {printed} PWFF {100 * text.adapter_share:.1f} % and "
        f"Shepherd {100 * text.lora_share:.1f} %. Fig. 5 says {100 * (1 - CLAIMED_SAVING):.0f} % for PWFF."
    )
    with right:
        draw_chart("exhibit-rank", figure_json(rank_figure(marked, CLAIMED_SAVING)), words)
    draw_numbers("exhibit-rank", "Ranks in numbers", rank_table(list(marked.values())), "Ranks in numbers")


# ---- a mean that is infinite -------------------------------------------------------------------------------------


@lru_cache(maxsize=8)
def _settling(bits: int, channel: ChannelConfig, seed: int) -> Settling:
    return settling(bits, channel, seed)


def _mean_story(config: RunConfig, geometry: Geometry) -> None:
    bits = estimate(config, geometry).uplink_bits
    st.subheader("2. The mean delay that does not exist, and its cure", anchor=False)
    if not bits:
        st.info("This method uploads nothing, so there is no delay. Choose another method among the knobs.")
        return
    seed = int(st.session_state.setdefault(_SEED, 0))
    # only what matters here, so that other knobs need no new simulation
    link = ChannelConfig(snr_db=config.channel.snr_db, bandwidth_hz=config.channel.bandwidth_hz)
    delays = _settling(bits, link, seed)
    left, right = st.columns(2, gap="medium")
    with left:
        st.markdown(_prose(_mean_words(delays)))
    with right:
        st.markdown(_prose(_cure_words(delays)))
    with left:
        draw_chart("exhibit-mean", figure_json(mean_delay_figure(delays)), _mean_words(delays))
    with right:
        draw_chart("exhibit-lost", figure_json(lost_figure(delays)), _lost_words(delays))
    st.button("Simulate anew", key="exhibit-again", icon=":material/casino:", on_click=_simulate_anew)
    draw_numbers("exhibit-mean", "Mean delays in numbers", mean_delay_table(delays), "Mean delays in numbers")


def _simulate_anew() -> None:
    st.session_state[_SEED] += 1


def _mean_words(delays: Settling) -> str:
    first = delays.one_draw[0]
    return (
        "Give every upload a single Rayleigh gain. A gain near 0 has a rate near 0, and although such gains are rare, "
        "the delay S / R grows so fast there that the mean over all gains is infinite. A simulation shows it: the mean "
        "of more and more uploads never settles, it climbs, in jumps, with each new record of bad luck. Of the first "
        f"repetition it is {value_text(float(first[99]), 's')} after 100 uploads and "
        f"{value_text(float(first[-1]), 's')} after {len(first):,}. A round that waits for its slowest client is worse "
        "still."
    )


def _cure_words(delays: Settling) -> str:
    means = " and ".join(
        f"{value_text(float(delays.blocks[blocks][-1]), 's')} with {blocks}" for blocks in BLOCKS_AN_UPLOAD
    )
    return (
        "A real channel does not stay bad: after its coherence time it draws anew. An upload that lasts over many "
        f"blocks gets the average of good and bad ones, and its mean delay settles: {means} blocks an upload, near "
        f"S / E[R] = {value_text(delays.limit_s, 's')}. So pwff draws a gain a coherence block. Where one draw has to "
        "do, a deadline is the other cure: what is not through by then is lost, with the chance of the outage formula."
    )


def _lost_words(delays: Settling) -> str:
    middle = int(abs(delays.deadlines_s - 2 * delays.limit_s).argmin())
    return (
        f"Share of uploads lost over the deadline. At {value_text(float(delays.deadlines_s[middle]), 's')}, about "
        f"twice S / E[R], it is {100 * delays.lost_one_draw[middle]:.0f} % with one draw and "
        + " and ".join(
            f"{100 * lost[middle]:.0f} % with {blocks} blocks" for blocks, lost in delays.lost_blocks.items()
        )
        + "."
    )


# ---- a whole DistilBERT ------------------------------------------------------------------------------------------


def _reward_story(config: RunConfig) -> None:
    uploads = reward_uploads(config)
    whole, head = uploads.whole, uploads.head
    st.subheader(f"3. {plain(value_text(whole.delay_s, 's'))} for one reward model", anchor=False)
    left, right = st.columns([2, 3], gap="medium")
    with left:
        st.markdown(
            _prose(
                "In stage 2 the clients send reward models: by the paper's letter a whole DistilBERT each. With the "
                f"{uploads.rounded.name} numbers that one usually quotes for it, that is "
                f"{with_prefix(uploads.rounded.bits, 'bit')} and {uploads.rounded.delay_s:,.0f} s on this link; "
                f"counted exactly, with its head, {whole.num_params:,} numbers and {whole.delay_s:,.0f} s. There are "
                "two of them, one for each kind of reward, in every round."
            )
        )
        st.markdown(
            _prose(
                f"A head alone, on an encoder that everyone has and nobody trains, is {head.num_params:,} numbers: "
                f"{value_text(head.delay_s, 's')}, {whole.num_params / head.num_params:,.0f} times less. So pwff "
                "trains the head by default; the knob Trainable on the Live page has the paper's letter."
            )
        )
    rows = [uploads.whole, uploads.adapters, uploads.head]
    words = "Time of one upload: " + ", ".join(f"{row.name} {value_text(row.delay_s, 's')}" for row in rows) + "."
    with right:
        draw_chart("exhibit-reward", figure_json(upload_figure(rows)), words)
    draw_numbers("exhibit-reward", "Uploads in numbers", upload_table(rows), "Uploads in numbers")


def _prose(text: str) -> str:
    """Text that Markdown shows as it is, with no line break before a per cent sign."""
    return plain(text.replace(" %", "\u00a0%"))
