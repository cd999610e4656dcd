"""The settings panel: every knob of a run, in groups. To place a new knob, add its path here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

import streamlit as st

from pages.parts.words import plain, sentence
from pages.settings import fields, preferences, uploads
from pages.settings.choices import choose
from pwff_core.config import PresetId, RunConfig, preset_config
from pwff_core.figures.frames import STAGE_NAMES
from pwff_core.knobs import Problem, knobs
from pwff_core.methods import METHODS, Method
from pwff_core.records import Stage
from pwff_core.runs import limits

PRESET_LABELS: dict[PresetId, str] = {"demo": "Demo", "paper": "Paper", "paper-as-printed": "Paper as printed"}
ENDS_EARLY = "So a run ends after stage 1: no rewards are learned, and preferences play no part."
PRESET_WORDS: dict[PresetId, str] = {
    "demo": "Embedded models and texts: nothing is downloaded, a run takes a few minutes.",
    "paper": "GPT-2 small on Alpaca, both from the Hub; LoRA rank 8, which fits the paper's figures. A GPU helps.",
    "paper-as-printed": "As Paper, with LoRA rank 96, as the paper's text prints it.",
}


class Group(NamedTuple):
    """Paths of knobs under one heading that opens. `more` lie behind a switch, as a class rarely needs them."""

    first: tuple[str, ...]
    more: tuple[str, ...] = ()

    @property
    def paths(self) -> tuple[str, ...]:
        """All paths of the group."""
        return (*self.first, *self.more)


class Marker(NamedTuple):
    """The words beside the knobs that stay live while a run is going."""

    label: str
    icon: str
    colour: Literal["green", "blue", "orange"]
    channel: str  # what moving a knob of the channel does
    preferences: str
    choice: Callable[[], None] | None  # draws the choice of what they do, if there is one
    steers: bool = False  # whether they change the run that is going


SLIDERS: dict[str, tuple[str, ...]] = {
    "": ("clients",),
    "Channel": ("channel.snr_db", "channel.bandwidth_hz", "channel.transmit_power_w"),
    "Data": ("data.alpha", "data.knowledge_share"),
}
CHANNEL_MORE = Group(("channel.coherence_time_s", "channel.deadline_s"))
DATA_MORE = Group(
    ("data.source", "data.train_examples", "data.test_examples", "data.unseen_share"),
    ("data.max_length", "data.topic_column", "data.topics", "data.max_rows"),
)
STAGES: dict[Stage, Group] = {
    "instruction": Group(
        ("instruction.rounds", "instruction.local_steps", "instruction.personal_steps", "instruction.learning_rate"),
        ("instruction.batch_size", "lora.rate_ratio", "instruction.gradient_clip", "instruction.patience"),
    ),
    "reward": Group(
        ("reward.rounds", "reward.local_steps", "reward.train_pairs", "reward.trainable"),
        (
            *("reward.batch_size", "reward.learning_rate", "reward.hidden", "reward.test_pairs", "reward.encoder"),
            *("reward.helpful_source", "reward.harmless_source", "reward.patience"),
        ),
    ),
    "alignment": Group(
        (
            *("alignment.rounds", "alignment.batch_size", "alignment.delicate_share", "alignment.kl_coefficient"),
            *("alignment.learning_rate", "alignment.test_prompts"),
        ),
        (
            *("alignment.local_steps", "alignment.minibatches", "alignment.personal_steps"),
            *("alignment.lora_rate_ratio", "alignment.clip"),
            *("alignment.critic_learning_rate", "alignment.critic_steps", "alignment.critic_warmup"),
            *("alignment.value_clip", "alignment.discount", "alignment.gae_lambda", "alignment.kl_stop"),
            *("alignment.gradient_clip", "alignment.temperature", "alignment.max_new_tokens", "alignment.patience"),
        ),
    ),
}
MODEL = Group(
    ("price_as", "float_bits", "lora.modules", "lora.rank", "adapter.bottleneck", "backbone", "seed"),
    ("lora.alpha", "device", "precision", "checkpoint_every"),
)
PATHS = (
    *(path for group in SLIDERS.values() for path in group),
    *("channel.fading", "data.personal_styles"),
    *(path for group in (CHANNEL_MORE, DATA_MORE, *STAGES.values(), MODEL) for path in group.paths),
)
ADOPTED = "settings:adopted"  # session key: how often a config was adopted, which moves knobs without a hand
_BASE, _PRESET, _METHOD = "settings:base", "settings:preset", "settings:method"


def adopt(config: RunConfig) -> None:
    """Take a config over into the panel, as far as this app allows it. Settings without a knob are kept too."""
    config = limits.clamp(config)
    st.session_state[ADOPTED] = st.session_state.get(ADOPTED, 0) + 1
    st.session_state[_BASE] = config
    st.session_state[_PRESET] = config.preset
    st.session_state[_METHOD] = config.method
    fields.set_values(config, PATHS)
    preferences.adopt(config.preferences, config.clients)


def ready() -> bool:
    """Whether the panel has values in this session."""
    return _BASE in st.session_state


def read_config() -> tuple[RunConfig | None, dict[str, Problem]]:
    """The config that the panel's answers spell and no problem, or None and the problems by path. Nothing is drawn."""
    base = st.session_state[_BASE].model_copy(
        update={
            "method": st.session_state[_METHOD],
            "preset": st.session_state[_PRESET],
            "preferences": preferences.read(fields.whole_number("clients")),
        }
    )
    return fields.read_config(base, PATHS)


def draw_panel(marker: Marker | None = None, refusal: str = "") -> tuple[RunConfig | None, Mapping[str, Problem]]:
    """Draw the panel. Returns the config it spells and no problem, or None and the problems by path.

    While a run is going, `marker` says what the live knobs do to it, and `refusal` why it would not take their values.
    """
    method, clients = METHODS[st.session_state[_METHOD]], fields.whole_number("clients")
    config, problems = read_config()
    if marker:
        st.caption("A run is going. **Channel** and **Preferences** say what they do to it; all else is for the next.")
    _preset()
    _method()
    fields.draw("clients", problems, slider=True)
    fields.show_problem("", problems)
    _channel(problems, marker, refusal)
    st.subheader("Preferences", anchor=False)
    if marker:
        _mark(marker, marker.preferences)
    preferences.draw(clients, has_rewards=bool(method.rewards))
    _data(problems)
    st.subheader("Training", anchor=False)
    for number, (stage, group) in enumerate(STAGES.items(), start=1):
        unused = "" if stage == "instruction" or method.rewards else f" (not with {method.label})"
        searched = {"instruction": method.learning_rate, "alignment": method.alignment_rate}
        hint = f"searched: {searched[stage]:g}" if stage in searched else ""
        _expander(f"Stage {number}: {STAGE_NAMES[stage]}{unused}", group, problems, key=stage, hint=hint)
    _expander("Model and price of the link", MODEL, problems, key="model")
    return config, problems


def _preset() -> None:
    def take_over() -> None:
        seed, method = st.session_state[fields.key_of("seed")], st.session_state[_METHOD]
        adopt(preset_config(st.session_state[_PRESET]))
        st.session_state[fields.key_of("seed")], st.session_state[_METHOD] = seed, method

    preset = choose(
        "Preset",
        {preset: PRESET_LABELS[preset] for preset in limits.bounded(knobs()["preset"]).choices},
        key=_PRESET,
        on_change=take_over,
        help="Sets every knob below; the method and the seed stay.",
    )
    st.caption(PRESET_WORDS[preset])


def choose_method(key: str, help: str) -> Method:
    """Draw the choice of a method. Returns the row of the one that is chosen."""
    names = {method_id: method.label for method_id, method in METHODS.items()}
    return METHODS[choose("Method", names, key=key, help=help)]


def _method() -> None:
    method = choose_method(
        _METHOD, "What is trained, what is uploaded and averaged, what stays at home, and what alignment rewards."
    )
    st.caption(f"{sentence(method.summary)}.{'' if method.rewards else ' ' + ENDS_EARLY}")
    with st.popover("All methods", key="methods", width="stretch"):
        for row in METHODS.values():
            st.markdown(f"**{row.label}**: {plain(row.summary)}.")


def _mark(marker: Marker, words: str) -> None:
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.badge(marker.label, icon=f":material/{marker.icon}:", color=marker.colour)
        st.caption(words)


def _channel(problems: Mapping[str, Problem], marker: Marker | None, refusal: str) -> None:
    st.subheader("Channel", anchor=False)
    if marker:
        _mark(marker, marker.channel)
        if marker.choice:
            marker.choice()
    if refusal and "channel" not in problems:
        st.error(plain(refusal))
    for path in SLIDERS["Channel"]:
        fields.draw(path, problems, slider=True)
    fields.draw("channel.fading", problems)
    of_next = " of the next run" if marker and marker.steers else ""
    _expander(f"Coherence time and deadline{of_next}", CHANNEL_MORE, problems, key="channel")
    fields.show_problem("channel", problems)


def _data(problems: Mapping[str, Problem]) -> None:
    st.subheader("Data", anchor=False)
    for path in SLIDERS["Data"]:
        fields.draw(path, problems, slider=True)
    fields.draw("data.personal_styles", problems)
    _expander("Source and number of examples", DATA_MORE, problems, key="data", draw_above=uploads.draw)


def _expander(
    label: str,
    group: Group,
    problems: Mapping[str, Problem],
    *,
    key: str,
    hint: str = "",
    draw_above: Callable[[], None] | None = None,
) -> None:
    """A group's knobs that this app offers, below what `draw_above` draws. It is open if a knob has a problem.

    `hint` is shown in the box of a learning rate that is not given.
    """
    wrong = set(group.paths) & set(problems)
    with st.expander(f"{label} – please check" if wrong else label, expanded=bool(wrong), key=f"more:{key}"):
        if draw_above:
            draw_above()
        for path in filter(limits.offered, group.first):
            fields.draw(path, problems, hint=hint if path.endswith("learning_rate") else "")
        if not group.more:
            return
        wants_more = st.toggle("More settings", key=f"all:{key}", persist_state="session")
        if wants_more or wrong & set(group.more):
            for path in filter(limits.offered, group.more):
                fields.draw(path, problems)


def problem_words(problems: Mapping[str, Problem]) -> str:
    """What keeps a run from starting, for the place beside the Start button: each problem under its knob's label."""
    labels = {path: knob.label for path, knob in knobs().items()}
    named = (
        f"{labels[path]}: {problem.words}" if path in labels else str(problem) for path, problem in problems.items()
    )
    return plain(" ".join(sentence(text) for text in named))
