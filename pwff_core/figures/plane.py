"""The helpful–harmless plane: every client a dot where its answers score, with a line from where it began.

The axes are the judge's scores, in standard deviations of reference answers. A client's colour is its weight on
helpfulness, on a scale that is perceptually uniform and safe for colour-blind people (cividis: Nuñez, Anderton and
Renslow, PLOS ONE 2018). The dot has the client's number too, so that colour never speaks alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.colors import sample_colorscale

from pwff_core.figures.theme import TEMPLATES, Theme
from pwff_core.records import ClientRecord, RoundRecord

SCALE = "Cividis"
_LIGHT_FROM = 0.47  # from this weight on dots are light, so their number is dark
_COLUMNS = ("step", "client", "weight", "helpfulness", "harmlessness", "reward", "refusal_rate")
_LINES_FROM, _LINES_SPAN = 0.3, 0.5  # lines have this part of the scale
_MARGIN = 0.08  # room around the dots, as a share of their spread
_MIN_SPREAD = 0.2  # [sd] smallest range of an axis
_AXES = {"helpfulness": "Helpfulness of the answers", "harmlessness": "Harmlessness of the answers"}


def plane_frame(records: Sequence[RoundRecord]) -> pd.DataFrame:
    """One row a client and step. Step 0 is the last round of reward learning, then come alignment's rounds.

    Columns: step, client, weight (on helpfulness), helpfulness, harmlessness, reward [sd], refusal_rate (NaN where not
    measured). Rounds without the judge's scores are left out.
    """
    before = [record for record in records if record.stage == "reward"][-1:]
    steps = [(0, record) for record in before]
    steps += [(record.round, record) for record in records if record.stage == "alignment"]
    rows = [_row(step, client) for step, record in steps for client in record.clients]
    frame = pd.DataFrame(rows, columns=list(_COLUMNS))
    return frame.dropna(subset=["helpfulness", "harmlessness"]).reset_index(drop=True)


def _row(step: int, client: ClientRecord) -> tuple[float, ...]:
    scores = (client.helpfulness, client.harmlessness, client.reward, client.refusal_rate)
    measured = (math.nan if score is None else score for score in scores)
    return (step, client.client, client.helpfulness_weight, *measured)


def steps_of(frame: pd.DataFrame) -> list[int]:
    """The steps that were measured, in order."""
    return [int(step) for step in sorted(frame["step"].unique())]


def step_name(step: int) -> str:
    """A step in words: 'before alignment', 'after round 3 of alignment'."""
    return f"after round {step} of alignment" if step else "before alignment"


def plane_figure(frame: pd.DataFrame, step: int, *, theme: Theme = "light") -> go.Figure:
    """The clients at a measured step, each with a line from where it began.

    The axes span all steps of the frame, so that dots move and axes do not.
    """
    figure = go.Figure(layout={"template": TEMPLATES[theme], "title": {"text": f"Clients {step_name(step)}"}})
    past = frame[frame["step"] <= step]
    for _, path in past.groupby("client"):
        figure.add_trace(_path(path))
    figure.add_trace(_starts(past))
    figure.add_trace(_dots(frame[frame["step"] == step]))
    for axis, update in (("helpfulness", figure.update_xaxes), ("harmlessness", figure.update_yaxes)):
        update(title_text=f"{_AXES[axis]} [sd] →", range=_span(frame[axis]), zeroline=False)
    return figure.update_layout(hovermode="closest", showlegend=False, margin={"b": 110}, height=500)


def _path(path: pd.DataFrame) -> go.Scatter:
    """A straight line from a client's first step to its last: ten full paths over each other show nothing."""
    ends = path.sort_values("step").iloc[[0, -1]]
    return go.Scatter(
        x=ends["helpfulness"].to_numpy(), y=ends["harmlessness"].to_numpy(), mode="lines", hoverinfo="skip",
        line={"color": _line_colours(path["weight"].iloc[:1])[0], "width": 1.5}, opacity=0.6,
    )  # fmt: skip


def _line_colours(weights: pd.Series) -> list[str]:
    """The scale without its ends, in which thin lines cannot be seen on dark or on white."""
    colours: list[str] = sample_colorscale(SCALE, (_LINES_FROM + _LINES_SPAN * weights).tolist())
    return colours


def _starts(frame: pd.DataFrame) -> go.Scatter:
    """A small ring where each client began."""
    first = frame[frame["step"] == frame["step"].min()]
    return go.Scatter(
        x=first["helpfulness"].to_numpy(), y=first["harmlessness"].to_numpy(), mode="markers", hoverinfo="skip",
        marker={"symbol": "circle-open", "size": 6, "color": _line_colours(first["weight"])},
    )  # fmt: skip


def _dots(now: pd.DataFrame) -> go.Scatter:
    bar = {
        "orientation": "h", "thickness": 10, "len": 0.9, "x": 0.5, "y": 0.0, "yref": "container", "yanchor": "bottom",
        "tickvals": [0.08, 0.5, 0.9], "ticktext": ["λ = 0: harmless first", "½", "λ = 1: helpful first"], "ticks": "",
        "outlinewidth": 0,
    }  # fmt: skip
    return go.Scatter(
        x=now["helpfulness"].to_numpy(), y=now["harmlessness"].to_numpy(), mode="markers+text",
        text=[str(int(client)) for client in now["client"]],
        textfont={"size": 12, "color": ["#000000" if weight >= _LIGHT_FROM else "#ffffff" for weight in now["weight"]]},
        marker={
            "size": 24, "color": now["weight"].to_numpy(), "colorscale": SCALE, "cmin": 0, "cmax": 1,
            "colorbar": bar, "line": {"width": 1.5, "color": "#8795a3"},
        },
        customdata=now[["weight", "reward", "refusal_rate"]].to_numpy() * np.array([1.0, 1.0, 100.0]),
        hovertemplate=(
            "<b>Client %{text}</b>, λ = %{customdata[0]:.2f}<br>helpfulness %{x:.2f} sd<br>harmlessness %{y:.2f} sd"
            "<br>weighted %{customdata[1]:.2f} sd<br>refuses %{customdata[2]:.0f} %<extra></extra>"
        ),
    )  # fmt: skip


def _span(values: pd.Series) -> list[float]:
    low, high = float(values.min()), float(values.max())
    room = _MARGIN * max(high - low, _MIN_SPREAD)
    return [low - room, high + room]


def plane_words(frame: pd.DataFrame, step: int) -> str:
    """What the plane shows at a step, in two sentences, for people who cannot see it."""
    now = frame[frame["step"] == step]
    helpful, harmless = now.loc[now["weight"].idxmax()], now.loc[now["weight"].idxmin()]

    def scores(row: pd.Series) -> str:
        return (
            f"client {int(row['client'])} (λ = {row['weight']:.2f}) at helpfulness {row['helpfulness']:.2f} and "
            f"harmlessness {row['harmlessness']:.2f} sd"
        )

    return (
        f"{len(now)} clients {step_name(step)} in the plane of helpfulness and harmlessness. "
        f"Most for helpfulness: {scores(helpful)}; most for harmlessness: {scores(harmless)}."
    )


def plane_table(frame: pd.DataFrame, step: int) -> pd.DataFrame:
    """The numbers behind the plane at a step, clients by falling weight on helpfulness."""
    now = frame[frame["step"] == step].sort_values(["weight", "client"], ascending=[False, True])
    start = frame[frame["step"] == frame["step"].min()].set_index("client")["reward"]
    return pd.DataFrame(
        {
            "Client": now["client"].astype(int).to_numpy(),
            "λ": now["weight"].to_numpy(),
            "Helpfulness [sd]": now["helpfulness"].to_numpy(),
            "Harmlessness [sd]": now["harmlessness"].to_numpy(),
            "Weighted [sd]": now["reward"].to_numpy(),
            "Gain [sd]": now["reward"].to_numpy() - start.loc[now["client"]].to_numpy(),
            "Refuses [%]": 100.0 * now["refusal_rate"].to_numpy(),
        }
    )
