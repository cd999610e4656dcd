"""The table of clients: each one's profile, and its numbers after the last round."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import pyarrow as pa
import streamlit as st

from pages.server.cache import Cache
from pwff_core.figures.panel_figure import safe_cell
from pwff_core.records import METRICS, RoundRecord
from pwff_core.runs.store import RunRow

_MAIN_TOPICS = 3
_LATER: dict[str, str] = {  # metric of a later stage → title of its column
    "reward": "Reward", "helpfulness": "Helpfulness", "harmlessness": "Harmlessness", "refusal_rate": "Refusals",
    "kl": "KL", "response_tokens": "Answer",
}  # fmt: skip
_MEASURED: dict[str, str] = {
    **_LATER, "accuracy": "Accuracy", "knowledge_accuracy": "Knowledge", "style_accuracy": "Style",
    "delay_s": "Delay", "energy_j": "Energy",
}  # fmt: skip
_HELP = {
    "delay_s": "Time of this client's upload in the last round.",
    "energy_j": "Transmit energy of this client in the last round.",
}
MOST_TABLES = 48
_TABLES = Cache(MOST_TABLES)
_FORMATS = {"%": "%.1f", "sd": "%+.2f", "nat": "%.2f", "tokens": "%.1f"}


def client_table(row: RunRow, records: Sequence[RoundRecord]) -> pd.DataFrame:
    """One row a client, with shares in per cent. A number that no stage has measured has no column.

    A number is from the last stage that measured it, so the accuracy after instruction tuning stays while rewards are
    learned.
    """
    latest: dict[int, dict[str, Any]] = {}
    for record in {record.stage: record for record in records}.values():  # the last of each stage, in their order
        for client in record.clients:
            measured = {name: value for name, value in client if value is not None}
            latest.setdefault(client.client, {}).update(measured)
    rows = []
    for profile in row.profiles:
        numbers = latest.get(profile.client, {})
        topics = sorted(profile.topics, key=lambda topic: -profile.topics[topic])[:_MAIN_TOPICS]
        rows.append(
            {
                "Client": profile.client,
                "Helpful": profile.helpfulness_weight,
                **{name: _in_unit(numbers, name) for name in _MEASURED},
                "Averaged": numbers.get("delivered"),
                "Device": profile.device_class,
                "LoRA": profile.lora_modules,
                "Examples": profile.train_examples,
                "Main topics": safe_cell(", ".join(topics)),
                "House style": safe_cell(", ".join(profile.style.values()) or "–"),
            }
        )
    table = pd.DataFrame(rows)
    return table.drop(columns=[name for name in _LATER if table[name].isna().all()])


def _in_unit(numbers: Mapping[str, Any], name: str) -> float | None:
    value = numbers.get(name)
    return 100.0 * value if value is not None and METRICS[name].unit == "%" else value


def draw_clients(row: RunRow, records: Sequence[RoundRecord], *, key: str = "") -> None:
    """Draw the table of clients once their profiles are known. `key` stands before the table's own key."""
    if not row.profiles:
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        st.subheader("Clients", anchor=False, width="content")
        st.page_link(
            "pages/clients.py", label="Meet the clients", icon=":material/forum:", query_params={"run": row.id}
        )
    number, text = st.column_config.NumberColumn, st.column_config.TextColumn
    st.dataframe(
        _as_sent(row, records, key),
        hide_index=True,
        key=f"{key}table:clients",
        alt="Every client: device, data, wishes, and its numbers after the last round",
        column_config={
            "Client": number(pinned=True, width=60),
            "Device": text(help="Device class: it decides how many LoRA modules fit.", width=65),
            "LoRA": number(help="Number of low-rank modules placed on this client.", width=55),
            "Examples": number(help="Training examples.", width=75),
            "Helpful": number(
                "Helpful λ", format="%.2f", help="Weight on helpfulness; harmlessness has 1 − λ.", width=80
            ),
            **{name: _column(name) for name in _MEASURED},
            "Averaged": st.column_config.CheckboxColumn(
                help="Off: the upload missed the deadline and was left out of the average.", width=75
            ),
            "Main topics": text(help="Topics with most training examples.", width="medium"),
            "House style": text(help="The conventions that this client's own texts follow.", width="large"),
        },
    )


def _as_sent(row: RunRow, records: Sequence[RoundRecord], scope: str) -> pa.Table:
    """The table of clients as it is sent, made once for all browsers."""
    state = scope, row.id, row.created_at, len(row.profiles), len(records)
    return _TABLES.get(state, lambda: pa.Table.from_pandas(client_table(row, records)))


def _column(name: str) -> Any:
    """The configuration of a measured column; Streamlit does not export its type."""
    metric = METRICS[name]
    title = f"{_MEASURED[name]} [{metric.unit}]"
    return st.column_config.NumberColumn(
        title, help=_HELP.get(name, metric.help), format=_FORMATS.get(metric.unit, "%.3g"), width=25 + 7 * len(title)
    )
