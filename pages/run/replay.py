"""A recording played again, at 1 to 20 times its pace and from any round, so that it looks like a run that goes.

The clock is the session's own: it counts seconds of the run's computing (`wall_s` of its rounds), and a round is there
once the clock has come to its end. Nothing is written to the store.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Callable, Sequence
from functools import partial
from itertools import accumulate
from typing import Any, NamedTuple

import streamlit as st

from pages.parts.words import plain
from pwff_core.errors import StoreError
from pwff_core.figures.frames import planned_stages
from pwff_core.records import RoundRecord
from pwff_core.runs.recording import DEMO_ID, Recording, recorded_demo, recording_of
from pwff_core.runs.store import RunStatus, Store

SPEEDS = (1, 2, 5, 10, 20)
POLL_S = 0.5
_AIM_S = 60.0  # a replay begins at the speed that comes nearest to this
_CUT = "The recording ends here; the run was still going when it was made."
_KEPT, _CLOCK = "replay:recording", "replay:clock"


class Clock(NamedTuple):
    """Where a replay stands, in seconds of the run's own computing."""

    run_id: str
    at_s: float  # when it was last set
    since: float | None  # time.monotonic() then; None while it stands still
    speed: int

    def now(self) -> float:
        """Seconds of the run's computing that are played."""
        return self.at_s if self.since is None else self.at_s + (time.monotonic() - self.since) * self.speed


def recording_for(store: Store | None, asked: str) -> Recording:
    """The recording that an address asks for: the one in assets under its own id, else a run of the store.

    StoreError of one sentence if there is none, it was deleted, is still going or has no round.
    """
    if asked == DEMO_ID:
        return recorded_demo()
    if store is None:
        raise StoreError("The store of runs cannot be opened, so nothing but the recorded demo can be replayed.")
    row = store.run(asked)
    if row.deleted:
        raise StoreError(f"Run {row.id} was deleted, so it cannot be replayed.")
    if not row.status.ended:
        raise StoreError(f"Run {row.id} has not ended; it can be replayed once it has.")
    if not row.rounds_done:
        raise StoreError(f"Run {row.id} has no rounds, so there is nothing to replay.")
    kept: Recording | None = st.session_state.get(_KEPT)
    if kept is None or (kept.row.id, kept.row.name) != (row.id, row.name):  # read once: its rounds stay as they are
        kept = st.session_state[_KEPT] = recording_of(store, asked)
    return kept


def ends_of(recording: Recording) -> list[float]:
    """When each round was through, in seconds of computing since the first began."""
    return list(accumulate(record.wall_s for record in recording.records))


def fitting_speed(recording: Recording) -> int:
    """The speed at which the whole recording takes about a minute."""
    whole = sum(record.wall_s for record in recording.records)
    return min(SPEEDS, key=lambda speed: abs(whole / speed - _AIM_S))


def so_far(recording: Recording, rounds: int) -> Recording:
    """The recording as the run stood after so many of its rounds: running, until all of them are there."""
    row, records, steerings, versions = recording
    if rounds >= len(records):
        cut = {} if row.status.ended else {"status": RunStatus.STOPPED, "message": _CUT}
        return recording._replace(row=row.model_copy(update=cut))
    played = records[:rounds]
    over = {record.stage: record.round for record in played if record.stage_end}
    planned = planned_stages(row.config, row.rounds_total, records)
    total = sum(over.get(stage, count) for stage, count in planned.items())  # it falls when a stage ends early
    going = {"status": RunStatus.RUNNING, "message": "", "rounds_done": rounds, "rounds_total": total}
    held = tuple(steering for steering in steerings if steering.position <= rounds + 1)
    return Recording(row.model_copy(update=going), played, held, versions)


def draw_replay(
    recording: Recording, draw: Callable[[Recording], None], leave: Callable[[], None] | None = None
) -> None:
    """The controls, and by `draw` the run as it stood; both are drawn anew while the replay plays.

    `leave` is a callback for a person who has seen enough, where there is something else to see.
    """
    if leave:
        st.button("Close the replay", icon=":material/close:", key="replay:leave", on_click=leave)
    playing = _playing(recording)
    st.fragment(partial(_look, recording, draw, playing), run_every=POLL_S if playing else None)()


def _look(recording: Recording, draw: Callable[[Recording], None], playing: bool) -> None:
    """One look at the replay. When playing begins or ends the page is drawn again, for another pace of looking."""
    if playing != _playing(recording):
        st.rerun()
    clock, ends = _clock(recording), ends_of(recording)
    rounds = bisect_right(ends, clock.now())
    _controls(recording, clock, rounds)
    now = so_far(recording, rounds)
    draw(now if rounds == len(ends) else now._replace(records=_hurried(now.records, clock.speed)))


def _hurried(records: Sequence[RoundRecord], speed: int) -> tuple[RoundRecord, ...]:
    """Rounds that took as long as they take here, so that the time left is told as it will be."""
    return tuple(record.model_copy(update={"wall_s": record.wall_s / speed}) for record in records)


def _clock(recording: Recording) -> Clock:
    """The session's clock of this recording; it starts when the recording is first looked at."""
    clock: Clock | None = st.session_state.get(_CLOCK)
    if clock is None or clock.run_id != recording.row.id:
        clock = Clock(recording.row.id, 0.0, time.monotonic(), fitting_speed(recording))
        st.session_state[_CLOCK] = clock
    return clock


def _playing(recording: Recording) -> bool:
    clock = _clock(recording)
    return clock.since is not None and clock.now() < ends_of(recording)[-1]


def _set(
    recording: Recording, *, at_s: float | None = None, going: bool | None = None, speed: int | None = None
) -> None:
    """Callback: the clock goes on from here, with what is given changed."""
    clock, whole = _clock(recording), ends_of(recording)[-1]
    at_s = min(clock.now(), whole) if at_s is None else at_s
    going = clock.since is not None if going is None else going
    since = time.monotonic() if going and at_s < whole else None
    st.session_state[_CLOCK] = Clock(clock.run_id, at_s, since, speed or clock.speed)


def _controls(recording: Recording, clock: Clock, rounds: int) -> None:
    """What is played, how far it is, its buttons and, while it stands still, a slider over its rounds.

    Not while it plays: a slider that the server moves is sent back by the browser with the next look, and a late look
    would bring an old place that reads as one that somebody chose.
    """
    ends, playing = ends_of(recording), _playing(recording)
    over = rounds == len(ends)
    name = recording.row.name or f"run {recording.row.id}"
    with st.container(border=True, key="replay"):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.badge("Recorded" if recording.row.id == DEMO_ID else "Replay", icon=":material/history:", color="orange")
            st.markdown(f"**{plain(name)}** · {rounds} of {len(ends)} rounds · at {clock.speed} × its pace")
        with st.container(horizontal=True, vertical_alignment="bottom", key="replay-controls"):
            _button("From the start", "skip_previous", "start", partial(_set, recording, at_s=0.0, going=True))
            if playing:
                _button("Pause", "pause", "play", partial(_set, recording, going=False))
            else:
                again = {"at_s": 0.0} if over else {}
                _button("Play", "play_arrow", "play", partial(_set, recording, going=True, **again))
            _button("To the end", "skip_next", "end", partial(_set, recording, at_s=ends[-1]), disabled=over)
            _speed(recording, clock)
        if playing:
            st.caption("Pause it to go to any round.")
        else:
            _round(recording, rounds)


def _speed(recording: Recording, clock: Clock) -> None:
    key = f"replay:speed:{clock.run_id}"
    st.session_state[key] = clock.speed

    def change() -> None:
        _set(recording, speed=st.session_state[key])

    st.segmented_control(
        "Speed", SPEEDS, key=key, required=True, on_change=change, format_func="{} ×".format,
        help="1 × is the pace at which the run was computed.",
    )  # fmt: skip


def _round(recording: Recording, rounds: int) -> None:
    key, ends = f"replay:round:{recording.row.id}", ends_of(recording)
    st.session_state[key] = rounds

    def jump() -> None:
        chosen = st.session_state[key]
        _set(recording, at_s=ends[chosen - 1] if chosen else 0.0)

    st.slider("Round", 0, len(ends), key=key, on_change=jump, help="Shows the run as it stood after that round.")


def _button(label: str, icon: str, key: str, click: Callable[[], Any], *, disabled: bool = False) -> None:
    st.button(label, icon=f":material/{icon}:", key=f"replay:{key}", on_click=click, disabled=disabled)
