"""A recording that plays like a live run, at 1 to 20 times its pace and from any round.

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
from pages.server.cache import Cache
from pwff_core.errors import StoreError
from pwff_core.figures.frames import planned_stages
from pwff_core.records import RoundRecord
from pwff_core.runs.recording import DEMO_ID, Recording, recorded_demo, recording_of
from pwff_core.runs.store import RunStatus, Store

SPEEDS = (1, 2, 5, 10, 20)
POLL_S = 0.5
_AIM_S = 60.0  # a replay begins at the speed that comes nearest to this
_CUT = "The recording ends here; the run was still going when it was made."
_PLACE = "replay:clock"
_RECORDINGS = Cache(4)


class Place(NamedTuple):
    """Where a replay stands, in seconds of the run's own computing."""

    run_id: str
    at_s: float  # when it was last set
    since: float | None  # the clock then; None while it stands still
    speed: int


def recording_for(store: Store | None, run_id: str) -> Recording:
    """The recording that an address asks for: the recorded demo, or a run of the store.

    StoreError of one sentence if there is none, it was deleted, is still going or has no round.
    """
    if run_id == DEMO_ID:
        return recorded_demo()
    if store is None:
        raise StoreError("The store of runs cannot be opened, so nothing but the recorded demo can be replayed.")
    row = store.run(run_id)
    if row.deleted:
        raise StoreError(f"Run {row.id} was deleted, so it cannot be replayed.")
    if not row.status.ended:
        raise StoreError(f"Run {row.id} has not ended; it can be replayed once it has.")
    if not row.rounds_done:
        raise StoreError(f"Run {row.id} has no rounds, so there is nothing to replay.")
    # a run that has ended is read once: it changes only by another name, or by going on
    return _RECORDINGS.get((store.path, row.id, row.name, row.rounds_done), lambda: recording_of(store, run_id))


def round_ends(recording: Recording) -> list[float]:
    """When each round ended, in seconds of computing since the first began."""
    return list(accumulate(record.wall_s for record in recording.records))


def fitting_speed(recording: Recording) -> int:
    """The speed at which the whole recording takes about a minute."""
    whole = sum(record.wall_s for record in recording.records)
    return min(SPEEDS, key=lambda speed: abs(whole / speed - _AIM_S))


def played_so_far(recording: Recording, rounds: int) -> Recording:
    """The recording as the run stood after so many of its rounds: running, until all of them are there."""
    row, records, steerings, versions = recording
    if rounds >= len(records):
        cut = {} if row.status.ended else {"status": RunStatus.STOPPED, "message": _CUT}
        return recording._replace(row=row.model_copy(update=cut))
    played = records[:rounds]
    ended = {record.stage: record.round for record in played if record.stage_end}
    planned = planned_stages(row.config, row.rounds_total, records)
    total = sum(ended.get(stage, count) for stage, count in planned.items())  # it falls when a stage ends early
    playing = {"status": RunStatus.RUNNING, "message": "", "rounds_done": rounds, "rounds_total": total}
    held = tuple(steering for steering in steerings if steering.position <= rounds + 1)
    return Recording(row.model_copy(update=playing), played, held, versions)


def draw_replay(
    recording: Recording,
    draw: Callable[[Recording], None],
    leave: Callable[[], None] | None = None,
    *,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """The controls, and by `draw` the run as it stood; both are drawn anew while the replay plays.

    `leave` is the callback of a button that closes the replay; None where there is nothing else to show.
    """
    if leave:
        st.button("Close the replay", icon=":material/close:", key="replay:leave", on_click=leave)
    player = Player(recording, clock)
    playing = player.playing
    st.fragment(partial(_draw_frame, player, draw, playing), run_every=POLL_S if playing else None)()


class Player:
    """A recording and where this session's replay of it stands."""

    def __init__(self, recording: Recording, clock: Callable[[], float]) -> None:
        self.recording, self.ends, self._clock = recording, round_ends(recording), clock

    @property
    def place(self) -> Place:
        """Where the replay was last set; it starts when the recording is first drawn."""
        place: Place | None = st.session_state.get(_PLACE)
        if place is None or place.run_id != self.recording.row.id:
            place = Place(self.recording.row.id, 0.0, self._clock(), fitting_speed(self.recording))
            st.session_state[_PLACE] = place
        return place

    @property
    def at_s(self) -> float:
        """Seconds of the run's computing that are played."""
        place = self.place
        return place.at_s if place.since is None else place.at_s + (self._clock() - place.since) * place.speed

    @property
    def playing(self) -> bool:
        """Whether the replay goes on by itself."""
        return self.place.since is not None and self.at_s < self.ends[-1]

    def set(self, *, at_s: float | None = None, going: bool | None = None, speed: int | None = None) -> None:
        """Callback: the replay goes on from here, with what is given changed."""
        place, whole = self.place, self.ends[-1]
        at_s = min(self.at_s, whole) if at_s is None else at_s
        going = place.since is not None if going is None else going
        since = self._clock() if going and at_s < whole else None
        st.session_state[_PLACE] = Place(place.run_id, at_s, since, speed or place.speed)


def _draw_frame(player: Player, draw: Callable[[Recording], None], playing: bool) -> None:
    """The replay at this moment. When playing begins or ends the page is drawn again, for another pace."""
    if playing != player.playing:
        st.rerun()
    rounds = bisect_right(player.ends, player.at_s)
    _draw_controls(player, rounds)
    recording = played_so_far(player.recording, rounds)
    if rounds < len(player.ends):
        recording = recording._replace(records=_at_speed(recording.records, player.place.speed))
    draw(recording)


def _at_speed(records: Sequence[RoundRecord], speed: int) -> tuple[RoundRecord, ...]:
    """Rounds with the seconds that they take in this replay, so that the time left is the replay's."""
    return tuple(record.model_copy(update={"wall_s": record.wall_s / speed}) for record in records)


def _draw_controls(player: Player, rounds: int) -> None:
    """What is played, how far it is, its buttons and, while it stands still, a slider over its rounds.

    While it plays there is no slider: the browser sends a slider's place back with each poll, and a late poll would
    bring an old place that reads as one that somebody chose.
    """
    row, ends = player.recording.row, player.ends
    playing, at_end = player.playing, rounds == len(ends)
    name = row.name or f"run {row.id}"
    with st.container(border=True, key="replay"):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.badge("Recorded" if row.id == DEMO_ID else "Replay", icon=":material/history:", color="orange")
            st.markdown(f"**{plain(name)}** · {rounds} of {len(ends)} rounds · at {player.place.speed} × its pace")
        with st.container(horizontal=True, vertical_alignment="bottom", key="replay-controls"):
            _button("From the start", "skip_previous", "start", partial(player.set, at_s=0.0, going=True))
            if playing:
                _button("Pause", "pause", "play", partial(player.set, going=False))
            else:
                _button("Play", "play_arrow", "play", partial(player.set, going=True, at_s=0.0 if at_end else None))
            _button("To the end", "skip_next", "end", partial(player.set, at_s=ends[-1]), disabled=at_end)
            _draw_speed(player)
        if playing:
            st.caption("Pause it to go to any round.")
        else:
            _draw_slider(player, rounds)


def _draw_speed(player: Player) -> None:
    place = player.place
    key = f"replay:speed:{place.run_id}"
    st.session_state[key] = place.speed

    def change() -> None:
        player.set(speed=st.session_state[key])

    st.segmented_control(
        "Speed", SPEEDS, key=key, required=True, on_change=change, format_func="{} ×".format,
        help="1 × is the pace at which the run was computed.",
    )  # fmt: skip


def _draw_slider(player: Player, rounds: int) -> None:
    key, ends = f"replay:round:{player.recording.row.id}", player.ends
    st.session_state[key] = rounds

    def jump() -> None:
        chosen = st.session_state[key]
        player.set(at_s=ends[chosen - 1] if chosen else 0.0)

    st.slider("Round", 0, len(ends), key=key, on_change=jump, help="Shows the run as it stood after that round.")


def _button(label: str, icon: str, key: str, click: Callable[[], Any], *, disabled: bool = False) -> None:
    st.button(label, icon=f":material/{icon}:", key=f"replay:{key}", on_click=click, disabled=disabled)
