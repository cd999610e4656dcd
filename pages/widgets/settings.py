"""The settings panel: every knob of a run, grouped as one thinks of them. To place a new knob, add its path here."""

from __future__ import annotations

from collections.abc import Mapping

import streamlit as st

from pages.widgets import knobs
from pages.widgets.words import plain, sentence
from pwff_core.config import PresetId, RunConfig, preset_config
from pwff_core.config import knobs as all_knobs
from pwff_core.methods import METHODS

PRESET_LABELS: dict[PresetId, str] = {"demo": "Demo", "paper": "Paper", "paper-as-printed": "Paper as printed"}
PRESET_WORDS: dict[PresetId, str] = {
    "demo": "Embedded model and texts: nothing is downloaded, a run takes about a minute.",
    "paper": "GPT-2 small on Alpaca, both from the Hub; LoRA rank 8, which fits the paper's figures. A GPU helps.",
    "paper-as-printed": "As Paper, with LoRA rank 96, as the paper's text prints it.",
}
SLIDERS: dict[str, tuple[str, ...]] = {
    "": ("clients",),
    "Channel": ("channel.snr_db", "channel.bandwidth_hz", "channel.transmit_power_w"),
    "Data": ("data.alpha", "data.knowledge_share"),
}
CHANNEL_MORE = ("channel.coherence_time_s", "channel.deadline_s")
DATA_MORE = ("data.source", "data.train_examples", "data.test_examples", "data.unseen_share")
TRAINING = (
    "instruction.rounds",
    "instruction.local_steps",
    "instruction.personal_steps",
    "instruction.batch_size",
    "instruction.learning_rate",
    "lora.rate_ratio",
)
MODEL_CHOICES = ("price_as", "float_bits", "lora.modules")
MODEL = ("lora.rank", "adapter.bottleneck", "backbone", "seed")
DRAWN = (
    *(path for group in SLIDERS.values() for path in group),
    "channel.fading",
    *CHANNEL_MORE,
    "data.personal_styles",
    *DATA_MORE,
    *TRAINING,
    *MODEL_CHOICES,
    *MODEL,
)
_BASE, _PRESET, _METHOD = "settings:base", "settings:preset", "settings:method"


def adopt(config: RunConfig) -> None:
    """Take a config's values over into the panel; what the panel does not show is kept behind it."""
    st.session_state[_BASE] = config
    st.session_state[_PRESET] = config.preset
    st.session_state[_METHOD] = config.method
    knobs.put(config, DRAWN)


def ready() -> bool:
    """Whether the panel has values in this session."""
    return _BASE in st.session_state


def panel(*, busy: bool) -> tuple[RunConfig | None, Mapping[str, str]]:
    """Draw the panel; the config it spells and no problem, or None and the problems by path."""
    base = st.session_state[_BASE].model_copy(
        update={"method": st.session_state[_METHOD], "preset": st.session_state[_PRESET]}
    )
    config, problems = knobs.answers(base, DRAWN)
    if busy:
        st.caption("A run is going. What you change here holds for the next one.")
    _start_from()
    _method()
    knobs.draw("clients", problems, slider=True)
    knobs.show_problem("", problems)
    _channel(problems)
    _data(problems)
    _expander("Training", TRAINING, (), problems, hint=f"searched: {METHODS[base.method].learning_rate:g}")
    _expander("Model and price of the link", MODEL, MODEL_CHOICES, problems)
    return config, problems


def _start_from() -> None:
    def take() -> None:
        seed, method = st.session_state[knobs.key_of("seed")], st.session_state[_METHOD]
        adopt(preset_config(st.session_state[_PRESET]))
        st.session_state[knobs.key_of("seed")], st.session_state[_METHOD] = seed, method

    st.selectbox(
        "Preset",
        list(PRESET_LABELS),
        format_func=lambda preset: PRESET_LABELS[preset],
        key=_PRESET,
        on_change=take,
        persist_state="session",
        help="Sets every knob below; the method and the seed stay.",
    )
    st.caption(PRESET_WORDS[st.session_state[_PRESET]])


def _method() -> None:
    st.selectbox(
        "Method",
        list(METHODS),
        format_func=lambda method: METHODS[method].label,
        key=_METHOD,
        persist_state="session",
        help="What is trained, what is uploaded and averaged, and what stays at home.",
    )
    st.caption(sentence(METHODS[st.session_state[_METHOD]].summary) + ".")


def _channel(problems: Mapping[str, str]) -> None:
    st.subheader("Channel", anchor=False)
    for path in SLIDERS["Channel"]:
        knobs.draw(path, problems, slider=True)
    knobs.draw("channel.fading", problems)
    _expander("Coherence time and deadline", CHANNEL_MORE, (), problems)
    knobs.show_problem("channel", problems)


def _data(problems: Mapping[str, str]) -> None:
    st.subheader("Data", anchor=False)
    for path in SLIDERS["Data"]:
        knobs.draw(path, problems, slider=True)
    knobs.draw("data.personal_styles", problems)
    _expander("Source and number of examples", DATA_MORE, (), problems)


def _expander(
    label: str, typed: tuple[str, ...], chosen: tuple[str, ...], problems: Mapping[str, str], hint: str = ""
) -> None:
    wrong = [path for path in (*typed, *chosen) if path in problems]
    with st.expander(f"{label} – please check" if wrong else label, expanded=bool(wrong), key=f"more:{label}"):
        for path in chosen:
            knobs.draw(path, problems)
        for path in typed:
            knobs.draw(path, problems, hint=hint)


def problem_words(problems: Mapping[str, str]) -> str:
    """What keeps a run from starting, for the place beside the Start button: each problem under its knob's own name."""
    labels = {path: entry.label for path, entry in all_knobs().items()}
    named = (
        f"{labels[path]}: {text.removeprefix(f'{path}: ')}" if path in labels else text
        for path, text in problems.items()
    )
    return plain(" ".join(sentence(text) for text in named))
