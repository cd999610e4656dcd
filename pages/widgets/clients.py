"""The table of clients: who each one is, and how it stands after the last round."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from pwff_core.records import METRICS, ClientRecord, RoundRecord
from pwff_core.store import RunRow

_MAIN_TOPICS = 3


def client_table(row: RunRow, last: RoundRecord | None) -> pd.DataFrame:
    """One row a client: who it is, and how it stands after the last round. Shares as percentages."""
    measured = {client.client: client for client in last.clients} if last else {}
    rows = []
    for profile in row.profiles:
        now = measured.get(profile.client)
        topics = sorted(profile.topics, key=lambda topic: -profile.topics[topic])[:_MAIN_TOPICS]
        rows.append(
            {
                "Client": profile.client,
                "Device": profile.device_class,
                "LoRA": profile.lora_modules,
                "Examples": profile.train_examples,
                "Helpful": profile.helpfulness_weight,
                "Accuracy": _percent(now, "accuracy"),
                "Knowledge": _percent(now, "knowledge_accuracy"),
                "Style": _percent(now, "style_accuracy"),
                "Delay": now.delay_s if now else None,
                "Energy": now.energy_j if now else None,
                "Averaged": now.delivered if now else None,
                "Main topics": ", ".join(topics),
                "House style": ", ".join(profile.style.values()) or "–",
            }
        )
    return pd.DataFrame(rows)


def _percent(record: ClientRecord | None, name: str) -> float | None:
    value = getattr(record, name) if record else None
    return None if value is None else 100.0 * value


def draw_clients(row: RunRow, last: RoundRecord | None) -> None:
    """The table of clients, once the engine has said who they are."""
    if not row.profiles:
        return
    st.subheader("Clients", anchor=False)
    number, text = st.column_config.NumberColumn, st.column_config.TextColumn
    st.dataframe(
        client_table(row, last),
        hide_index=True,
        key="table:clients",
        alt="Every client: device, data, wishes, and its numbers after the last round",
        column_config={
            "Client": number(pinned=True, width=60),
            "Device": text(help="Device class: it decides how many LoRA modules fit.", width=65),
            "LoRA": number(help="Number of low-rank modules placed on this client.", width=55),
            "Examples": number(help="Training examples.", width=75),
            "Helpful": number(
                "Helpful λ", format="%.2f", help="Weight on helpfulness; harmlessness has 1 − λ.", width=80
            ),
            "Accuracy": number("Accuracy [%]", help=METRICS["accuracy"].help, format="%.1f", width=95),
            "Knowledge": number("Knowledge [%]", help=METRICS["knowledge_accuracy"].help, format="%.1f", width=105),
            "Style": number("Style [%]", help=METRICS["style_accuracy"].help, format="%.1f", width=75),
            "Delay": number(
                "Delay [s]", format="%.3g", help="Time of this client's upload in the last round.", width=75
            ),
            "Energy": number(
                "Energy [J]", format="%.3g", help="Transmit energy of this client in the last round.", width=80
            ),
            "Averaged": st.column_config.CheckboxColumn(
                help="Off: the upload missed the deadline and was left out of the average.", width=75
            ),
            "Main topics": text(help="Topics with most training examples.", width="medium"),
            "House style": text(help="The conventions that this client's own texts follow.", width="large"),
        },
    )
