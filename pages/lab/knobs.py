"""The Channel lab's knobs: the link and what is sent over it. Their answers are not those of the Live page."""

from __future__ import annotations

from collections.abc import Mapping

import streamlit as st

from pages.parts.words import plain, sentence
from pages.settings import fields
from pages.settings import panel as settings
from pages.settings.choices import choose
from pwff_core.config import PresetId, RunConfig, preset_config
from pwff_core.knobs import Problem

SCOPE = "lab-"
SLIDERS = ("channel.snr_db", "channel.bandwidth_hz", "channel.transmit_power_w")
LINK = ("channel.fading", "channel.coherence_time_s", "channel.deadline_s")
SENT = ("lora.rank", "adapter.bottleneck")
PATHS = (*SLIDERS, *LINK, "clients", *SENT, "float_bits", "price_as")
_BASE, _METHOD, _NOTICE = "lab:base", "lab:method", "lab:notice"
# the presets as sizes of an upload; choosing one sets the model, the rank and the bottleneck
SIZES: dict[PresetId, str] = {"paper": "Paper", "paper-as-printed": "As printed", "demo": "Demo"}
SIZE_WORDS: dict[PresetId, str] = {
    "paper": "GPT-2 small; the LoRA rank starts at 8, which fits the paper's figures.",
    "paper-as-printed": "GPT-2 small; the LoRA rank starts at 96, as the paper's text prints it.",
    "demo": "The small embedded model of the demo.",
}
_SIZE = "lab:size"


def adopt(config: RunConfig) -> None:
    """Take a config's link, payload and method over into the lab."""
    st.session_state[_BASE], st.session_state[_METHOD] = config, config.method
    st.session_state[_SIZE] = _size_of(config)
    fields.set_values(config, PATHS, SCOPE)


def _size_of(config: RunConfig) -> PresetId:
    """The preset whose upload is closest to a config's."""
    if config.backbone != "gpt2" and config.price_as == "backbone":
        return "demo"
    return "paper-as-printed" if config.lora.rank == preset_config("paper-as-printed").lora.rank else "paper"


def draw_panel() -> tuple[RunConfig | None, Mapping[str, Problem]]:
    """Draw the knobs. Returns the config that they spell and no problem, or None and the problems by path."""
    if _BASE not in st.session_state:
        adopt(preset_config("paper"))
    base = st.session_state[_BASE].model_copy(update={"method": st.session_state[_METHOD]})
    config, problems = fields.read_config(base, PATHS, SCOPE)
    if notice := st.session_state.pop(_NOTICE, None):
        st.info(plain(notice), icon=":material/info:")
    st.subheader("The link", anchor=False)
    for path in SLIDERS:
        fields.draw(path, problems, slider=True, scope=SCOPE)
    for path in LINK:
        fields.draw(path, problems, scope=SCOPE)
    fields.show_problem("channel", problems)
    st.subheader("What is sent", anchor=False)
    _size()
    _method()
    for path in ("clients", *SENT):
        fields.draw(path, problems, slider=True, scope=SCOPE)
    fields.draw("float_bits", problems, scope=SCOPE)
    fields.show_problem("", problems)
    _exchange(config)
    return config, problems


def _size() -> None:
    def take_over() -> None:
        preset = preset_config(st.session_state[_SIZE])
        st.session_state[_BASE] = preset
        fields.set_values(preset, (*SENT, "price_as"), SCOPE)

    size = choose(
        "Priced as",
        SIZES,
        key=_SIZE,
        as_row=True,
        on_change=take_over,
        help="Whose adapters and LoRA cross the air. Sets rank and bottleneck below; the link stays as it is.",
    )
    backbone = st.session_state[_BASE].backbone
    has_own_size = size == "demo" and backbone != "demo"
    st.caption(plain(f"The model {backbone} with its own numbers." if has_own_size else SIZE_WORDS[size]))


def _method() -> None:
    method = settings.choose_method(
        _METHOD, "Whose upload the tiles, the progress under the fading and the formulas are about."
    )
    st.caption(plain(f"{sentence(method.summary)}."))


def _exchange(config: RunConfig | None) -> None:
    st.caption("These knobs are the lab's own; a run on the Live page is not changed by them.")
    with st.container(horizontal=True, key="lab-exchange"):
        st.button(
            "Use on the Live page",
            key="lab-give",
            icon=":material/upload:",
            on_click=_set_live_page,
            args=(config,),
            disabled=config is None,
            help="Sets link, clients, rank, bottleneck, bits and price there, for the next run.",
        )
        st.button(
            "Take from the Live page",
            key="lab-take",
            icon=":material/download:",
            on_click=_take_from_live_page,
            disabled=not settings.ready(),
            help="Sets these knobs as the Live page's are." if settings.ready() else "Visit the Live page first.",
        )


def _set_live_page(config: RunConfig) -> None:
    """Callback: set the Live page's knobs to the lab's. Its model stays, priced as GPT-2 small if the lab's is."""
    if not settings.ready():
        settings.adopt(RunConfig())
    as_gpt2 = config.model_copy(update={"price_as": "gpt2"}) if config.backbone == "gpt2" else config
    fields.set_values(as_gpt2, PATHS)
    st.session_state[_NOTICE] = "The Live page has these settings now, for its next run."


def _take_from_live_page() -> None:
    """Callback: set the lab's knobs to the Live page's, if all of those are allowed."""
    config, _ = settings.read_config()
    if config is None:
        st.session_state[_NOTICE] = "Some of the Live page's settings are not allowed; mend them there first."
        return
    adopt(config)
    st.session_state[_NOTICE] = "These are the Live page's settings."
