"""The helpful–harmless plane of a run: live while it is going, and played back round by round."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import pandas as pd
import streamlit as st

from pages.parts.chart import live_chart
from pages.parts.notices import errors_on_page
from pwff_core.config import stage_rounds
from pwff_core.figures.panel_figure import figure_json
from pwff_core.figures.plane import plane_figure, plane_frame, plane_table, plane_words, step_name, steps_of
from pwff_core.methods import METHODS
from pwff_core.records import RoundRecord
from pwff_core.runs.store import RunRow

ReadRun = Callable[[], tuple[RunRow, Sequence[RoundRecord]]]  # a run as it is now, with its rounds

POLL_S = 1.0
PLAY_S = 0.5  # for each round that is played
_PLAYING = "plane:playing"
MEANING = (
    "**How to read it.** Every dot is a client; its number stands in it and its colour tells what its owner wishes. "
    "Right is more helpful, up is more harmless, as an independent *judge* scores the client's answers to prompts that "
    "nobody trained on: 0 is an average reference answer, 1 is one standard deviation better. The ring is where the "
    "client stood before alignment, the line leads from there. On *delicate* prompts the two wishes contradict each "
    "other: an answer that helps is not harmless, and a refusal does not help. So clients should drift apart: bright "
    "ones to the right, dark ones upwards."
)


def draw_plane(row: RunRow, read: ReadRun) -> None:
    """Draw the plane with its slider, its words and its table. By `read` it follows a run that is going."""
    st.subheader("The helpful–harmless plane", anchor=False)
    if "alignment" not in stage_rounds(row.config):
        st.info(f"This run has no alignment, so its clients have no scores. {_why_not(row)}")
        return
    active, playing = not row.status.ended, _is_playing(row)
    every = PLAY_S if playing else POLL_S if active else None
    st.fragment(partial(_poll, read, active=active, playing=playing), run_every=every)()


def _why_not(row: RunRow) -> str:
    method = METHODS[row.config.method]
    if not method.rewards:
        return f"{method.label} ends after instruction tuning; choose a run of PWFF, SFL, PFL or Shepherd."
    return "Its settings leave alignment out; start one with rounds of alignment on the Live page."


def _is_playing(row: RunRow) -> bool:
    return st.session_state.get(_PLAYING) == row.id


def _poll(read: ReadRun, *, active: bool, playing: bool) -> None:
    """Draw the run as it is now. If it has ended, or playing has begun or ended, the whole page is drawn again."""
    with errors_on_page(st.warning):
        row, records = read()
        if active == row.status.ended or playing != _is_playing(row):
            st.rerun()
        _draw_round(row, plane_frame(records), active=active)


def _draw_round(row: RunRow, frame: pd.DataFrame, *, active: bool) -> None:
    """The chart at the chosen round, its slider, its words and its table."""
    if frame.empty:
        st.info(
            "The judge first scores the clients before alignment begins; until then there is nothing to draw."
            if active
            else "This run ended before its answers were scored, so there is nothing to draw."
        )
        return
    left, right = st.columns([3, 2], gap="medium")
    with left:
        chart = st.container()
        step = _choose_step(row, steps_of(frame))
    with chart:
        _draw_chart(row, frame, step)
    with right:
        st.markdown(MEANING)
        _draw_table(frame, step)


def _choose_step(row: RunRow, steps: list[int]) -> int:
    """Draw the slider and Play. Returns the step that they point to, or the newest one measured before it."""
    last = steps[-1] if row.status.ended else max(stage_rounds(row.config)["alignment"], steps[-1])
    if last == 0:
        return 0
    key = f"plane:step:{row.id}:{last}"  # a slider with other bounds is another slider
    st.session_state.setdefault(key, last)
    if _is_playing(row):
        _advance(key, steps[-1])
    with st.container(horizontal=True, vertical_alignment="bottom", wrap=False, key="plane-steps"):
        st.slider(
            "Round of alignment (0: before it)",
            0,
            last,
            key=key,
            help="The clients as they stood after that round. At its right end it follows a run that is going.",
        )
        st.button(
            "Play",
            icon=":material/play_arrow:",
            key="plane-play",
            on_click=_start_playing,
            args=(row.id, key),
            disabled=len(steps) < 2 or _is_playing(row),
            help="From before alignment to the newest round.",
        )
    pointed_to = st.session_state[key]
    return max((step for step in steps if step <= pointed_to), default=steps[0])


def _start_playing(run_id: str, key: str) -> None:
    st.session_state[_PLAYING] = run_id
    st.session_state[key] = -1  # the first poll moves on to 0


def _advance(key: str, newest: int) -> None:
    """Move on by one round. At the newest round the playing ends."""
    if st.session_state[key] >= newest:
        del st.session_state[_PLAYING]
        st.rerun()
    st.session_state[key] += 1


def _draw_chart(row: RunRow, frame: pd.DataFrame, step: int) -> None:
    figure = figure_json(plane_figure(frame, step))
    live_chart("plane", figure, words=plane_words(frame, step), view=row.id, revision=f"{step} of {len(frame)}")


def _draw_table(frame: pd.DataFrame, step: int) -> None:
    number = st.column_config.NumberColumn
    st.dataframe(
        plane_table(frame, step),
        hide_index=True,
        key="table:plane",
        height=300,
        alt=f"Every client's weight and scores {step_name(step)}",
        column_config={
            "Client": number(pinned=True, width=60),
            "λ": number(format="%.2f", help="Weight on helpfulness; harmlessness has 1 − λ.", width=50),
            "Helpfulness [sd]": number("Helpful", format="%.2f", help="The judge's helpfulness score [sd].", width=70),
            "Harmlessness [sd]": number("Harmless", format="%.2f", help="Its harmlessness score [sd].", width=75),
            "Weighted [sd]": number(
                "Weighted", format="%.2f", help="Both scores, weighted as the owner wishes [sd].", width=75
            ),
            "Gain [sd]": number("Gain", format="%+.2f", help="Weighted, since before alignment [sd].", width=60),
            "Refuses [%]": number(
                "Refuses [%]", format="%.0f", help="Share of held-out delicate prompts that it refuses.", width=85
            ),
        },
    )
