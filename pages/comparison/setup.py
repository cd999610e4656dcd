"""Setting up a comparison: which methods, on which seeds, from which settings; and how long that will take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, get_args

import streamlit as st

from pages.parts.words import count, plain, sentence, shared_settings_words
from pages.settings import fields, panel
from pages.settings.choices import choose
from pwff_core.comparison.presets import FIGURES, FigureId, figure_config, plan
from pwff_core.comparison.timing import expected_seconds, same_work
from pwff_core.config import PreferencesConfig, RunConfig
from pwff_core.errors import ConfigError
from pwff_core.knobs import Problem
from pwff_core.methods import METHODS, MethodId
from pwff_core.records import RoundRecord
from pwff_core.runs.store import RunStatus, Store
from pwff_core.units import seconds_text

Subject = Literal["fig4", "fig5", "own"]
Source = Literal["demo", "live"]
SUBJECT_LABELS: dict[Subject, str] = {**{key: figure.label for key, figure in FIGURES.items()}, "own": "Own choice"}
SOURCE_LABELS: dict[Source, str] = {"demo": "the demo's", "live": "those of the Live page"}
SCOPE = "compare:"
_SIZES: dict[str, str] = {  # the knobs of this page, each with the stages that it is about
    "clients": "All stages",
    "instruction.rounds": "Instruction tuning",
    "reward.rounds": "Reward learning",
    "alignment.rounds": "Alignment",
}
_SIZES_OF_FIG4 = ("clients", "instruction.rounds")
_SUBJECT, _METHODS, _SEEDS, _SOURCE, _EARLIER = (
    f"{SCOPE}{name}" for name in ("what", "methods", "seeds", "source", "earlier")
)
_MOST_EARLIER = 4  # finished runs whose rounds are read for an estimate of the time


class Setup(NamedTuple):
    """The runs that are set up, in their order, or the problem with them."""

    label: str  # "Fig. 4", "Compare"
    runs: tuple[RunConfig, ...]
    problem: str  # Markdown


def draw_setup() -> Setup:
    """Draw the choices. Returns what they amount to."""
    if _SUBJECT not in st.session_state:
        st.session_state[_SUBJECT] = "fig4"
        st.session_state[_METHODS] = list(FIGURES["fig4"].methods)
        st.session_state[_SEEDS] = ", ".join(str(seed) for seed in FIGURES["fig4"].seeds)
        st.session_state[_SOURCE] = "demo"
        _take_over_sizes()
    subject = choose(
        "What to compare", SUBJECT_LABELS, key=_SUBJECT, as_row=True, help="The paper's two figures, or any methods."
    )
    figure = FIGURES.get(subject)
    methods = figure.methods if figure else _choose_methods()
    if figure:
        names = ", ".join(METHODS[method].label for method in methods)
        st.caption(plain(f"{names}: {figure.summary}."))
    left, right = st.columns(2)
    with left:
        _seeds()
    with right:
        choose(
            "Settings",
            SOURCE_LABELS if panel.ready() else {"demo": SOURCE_LABELS["demo"]},
            key=_SOURCE,
            on_change=_take_over_sizes,
            help="What all runs have in common: channel, data, training. The Live page's settings are those that you "
            "have made there since you opened this app.",
        )
    base, problems = _base_config()
    if base is None:
        _draw_sizes(subject, {})
        return Setup(_label(subject), (), f"The Live page's settings cannot be used. {panel.problem_words(problems)}")
    if figure:  # it has preferences of its own, for any number of clients
        base = base.model_copy(update={"preferences": PreferencesConfig()})
    config, problems = fields.read_config(base, _SIZES, SCOPE)
    _draw_sizes(subject, problems)
    if config is None:
        return Setup(_label(subject), (), panel.problem_words(problems))
    return _planned(subject, config, methods)


def _choose_methods() -> Sequence[MethodId]:
    methods: list[MethodId] = st.multiselect(
        "Methods",
        list(METHODS),
        format_func=lambda method: METHODS[method].label,
        key=_METHODS,
        persist_state="session",
        help="Each is run once with each seed.",
    )
    return methods


def _seeds() -> None:
    st.text_input(
        "Seeds",
        key=_SEEDS,
        persist_state="session",
        live="0.6s",
        help="Whole numbers with commas between. Every method is run once with each. From one seed the spread is not "
        "known; three or more make a verdict possible.",
    )


def _base_config() -> tuple[RunConfig | None, Mapping[str, Problem]]:
    """The settings to start from, or None and the problems of the Live page's."""
    if st.session_state[_SOURCE] == "live" and panel.ready():
        return panel.read_config()
    return RunConfig(), {}


def _take_over_sizes() -> None:
    """Callback: clients and rounds as in the settings to start from."""
    fields.set_values(_base_config()[0] or RunConfig(), _SIZES, SCOPE)


def _draw_sizes(subject: Subject, problems: Mapping[str, Problem]) -> None:
    paths = _SIZES_OF_FIG4 if subject == "fig4" else tuple(_SIZES)
    for column, path in zip(st.columns(len(paths)), paths, strict=True):
        with column:
            st.caption(_SIZES[path])
            fields.draw(path, problems, scope=SCOPE)


def _label(subject: Subject) -> str:
    return FIGURES[subject].label if subject in FIGURES else "Compare"


def _planned(subject: Subject, config: RunConfig, methods: Sequence[MethodId]) -> Setup:
    seeds = tuple(dict.fromkeys(st.session_state[_SEEDS].replace(",", " ").split()))
    figure_id: FigureId | None = next((figure_id for figure_id in get_args(FigureId) if figure_id == subject), None)
    try:
        shared = figure_config(figure_id, config) if figure_id else config
        return Setup(_label(subject), tuple(plan(shared, methods, seeds)), "")
    except ConfigError as error:
        return Setup(_label(subject), (), plain(sentence(str(error))))


def setup_words(setup: Setup, seconds: float | None) -> str:
    """What Start would do, and how long that takes."""
    duration = (
        f"about {seconds_text(seconds)} of computing, by earlier runs on this computer, and some seconds a start"
        if seconds is not None
        else "how long is not known, as no run with such settings has finished here yet"
    )
    shared = shared_settings_words(setup.runs[0])
    return f"{count(len(setup.runs), 'run')}, one after another: {duration}. Each has {shared}."


def expected_duration_s(store: Store, setup: Setup) -> float | None:
    """Seconds of computing, by the newest finished runs that did the same work; None if there are none."""
    rows = [row for row in store.runs() if row.status is RunStatus.FINISHED and same_work(row.config, setup.runs[0])]
    earlier: dict[str, tuple[RunConfig, list[RoundRecord]]] = st.session_state.setdefault(_EARLIER, {})
    for row in rows[:_MOST_EARLIER]:
        if row.id not in earlier:
            earlier[row.id] = (row.config, [record for _, record in store.rounds(row.id)])
    return expected_seconds(setup.runs, [earlier[row.id] for row in rows[:_MOST_EARLIER]])
