"""Setting up a comparison: which methods, on which seeds, from which settings; and how long that will take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, get_args

import streamlit as st

from pages.parts.words import count, plain, sentence, settings_words
from pages.settings import fields, panel
from pwff_core.comparison.presets import FIGURES, FigureId, figure_config, plan
from pwff_core.comparison.timing import expected_seconds, same_work
from pwff_core.config import PreferencesConfig, RunConfig
from pwff_core.errors import ConfigError
from pwff_core.knobs import Problem
from pwff_core.methods import METHODS, MethodId
from pwff_core.runs.store import RunStatus, Store
from pwff_core.units import seconds_text

What = Literal["fig4", "fig5", "own"]
Source = Literal["demo", "live"]
WHAT_LABELS: dict[What, str] = {**{key: figure.label for key, figure in FIGURES.items()}, "own": "Own choice"}
SOURCE_LABELS: dict[Source, str] = {"demo": "the demo's", "live": "those of the Live page"}
SCOPE = "compare:"
_PATHS = ("clients", "instruction.rounds", "reward.rounds", "alignment.rounds")
_STAGE_NAMES = {"instruction": "instruction tuning", "reward": "reward learning", "alignment": "alignment"}
_WHAT, _METHODS, _SEEDS, _SOURCE, _EARLIER = (
    f"{SCOPE}{name}" for name in ("what", "methods", "seeds", "source", "earlier")
)
_MOST_EARLIER = 4  # finished runs whose rounds are read to tell how long it will take


class Setup(NamedTuple):
    """What is set up: the runs in their order, or why they cannot be."""

    label: str  # "Fig. 4", "Compare"
    runs: tuple[RunConfig, ...]
    problem: str


def draw_setup() -> Setup:
    """Draw the choices; what they come to."""
    if _WHAT not in st.session_state:
        st.session_state[_WHAT] = "fig4"
        st.session_state[_METHODS] = list(FIGURES["fig4"].methods)
        st.session_state[_SEEDS] = ", ".join(str(seed) for seed in FIGURES["fig4"].seeds)
        st.session_state[_SOURCE] = "demo"
        _take_over()
    what: What = st.segmented_control(
        "What to compare",
        get_args(What),
        format_func=lambda choice: WHAT_LABELS[choice],
        key=_WHAT,
        required=True,
        persist_state="session",
        help="The paper's two figures, or any methods.",
    )
    figure = FIGURES.get(what)
    methods = figure.methods if figure else _chosen_methods()
    if figure:
        names = ", ".join(METHODS[method].label for method in methods)
        st.caption(plain(f"{names}: {figure.summary}."))
    left, right = st.columns(2)
    with left:
        _seeds()
    with right:
        st.selectbox(
            "Settings",
            get_args(Source) if panel.ready() else ("demo",),
            format_func=lambda choice: SOURCE_LABELS[choice],
            key=_SOURCE,
            on_change=_take_over,
            persist_state="session",
            help="What all runs have in common: channel, data, training. The Live page's settings are those that you "
            "have made there since you opened this app.",
        )
    config, problems = _config(what)
    _sizes(what, problems)
    return _planned(what, config, problems, methods)


def _chosen_methods() -> Sequence[MethodId]:
    chosen: list[MethodId] = st.multiselect(
        "Methods",
        list(METHODS),
        format_func=lambda method: METHODS[method].label,
        key=_METHODS,
        persist_state="session",
        help="Each is run once with each seed.",
    )
    return chosen


def _seeds() -> None:
    st.text_input(
        "Seeds",
        key=_SEEDS,
        persist_state="session",
        live="0.6s",
        help="Whole numbers with commas between. Every method is run once with each. From one seed the spread is not "
        "known; three or more make a verdict possible.",
    )


def _base() -> tuple[RunConfig | None, Mapping[str, Problem]]:
    """The settings to start from."""
    if st.session_state[_SOURCE] == "live" and panel.ready():
        return panel.read_config()
    return RunConfig(), {}


def _take_over() -> None:
    """Callback: clients and rounds as in the settings to start from."""
    fields.set_values(_base()[0] or RunConfig(), _PATHS, SCOPE)


def _config(what: What) -> tuple[RunConfig | None, Mapping[str, Problem]]:
    base, problems = _base()
    if base is None:
        words = panel.problem_words(problems)
        return None, {"": Problem("", f"The Live page's settings cannot be used. {words}")}
    if what in FIGURES:  # its wishes are its own, for however many clients
        base = base.model_copy(update={"preferences": PreferencesConfig()})
    return fields.read_config(base, _PATHS, SCOPE)


def _sizes(what: What, problems: Mapping[str, Problem]) -> None:
    shown = _PATHS[:2] if what == "fig4" else _PATHS
    for column, path in zip(st.columns(len(shown)), shown, strict=True):
        with column:
            if stage := _STAGE_NAMES.get(path.partition(".")[0]):
                st.caption(sentence(stage))
            else:
                st.caption("All stages")
            fields.draw(path, problems, scope=SCOPE)


def _planned(
    what: What, config: RunConfig | None, problems: Mapping[str, Problem], methods: Sequence[MethodId]
) -> Setup:
    label = WHAT_LABELS[what] if what in FIGURES else "Compare"
    if config is None:
        return Setup(label, (), problems[""].words if "" in problems else panel.problem_words(problems))
    seeds = tuple(dict.fromkeys(st.session_state[_SEEDS].replace(",", " ").split()))
    try:
        figure: FigureId | None = next((known for known in get_args(FigureId) if known == what), None)
        shared = figure_config(figure, config) if figure else config
        return Setup(label, tuple(plan(shared, methods, seeds)), "")
    except ConfigError as error:
        return Setup(label, (), sentence(str(error)))


def setup_words(setup: Setup, seconds: float | None) -> str:
    """What Start would do, and how long that takes."""
    first = setup.runs[0]
    shared = settings_words(first).partition(" · ")[2].rpartition(" · ")[0]
    took = (
        f"about {seconds_text(seconds)} of computing, by earlier runs on this computer, and some seconds a start"
        if seconds is not None
        else "how long is not known, as no run with such settings has finished here yet"
    )
    return f"{count(len(setup.runs), 'run')}, one after another: {took}. Each has {shared}."


def seconds_of(store: Store, setup: Setup) -> float | None:
    """Seconds of computing by the newest finished runs that did the same work; None where there are none."""
    rows = [row for row in store.runs() if row.status is RunStatus.FINISHED and same_work(row.config, setup.runs[0])]
    known: dict[str, Any] = st.session_state.setdefault(_EARLIER, {})
    for row in rows[:_MOST_EARLIER]:
        if row.id not in known:
            known[row.id] = (row.config, [record for _, record in store.rounds(row.id)])
    return expected_seconds(setup.runs, [known[row.id] for row in rows[:_MOST_EARLIER]])
