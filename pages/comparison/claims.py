"""The paper's claims beside what was measured, each with a verdict in words: a table, on a phone a card each."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import streamlit as st

from pages.parts.words import count
from pwff_core.comparison.presets import FIGURES
from pwff_core.comparison.verdicts import RULE, Ruling, Verdict, tally

# a sign beside the word, so that neither colour nor shape speaks alone; the classes are in assets/style.css
SIGNS: dict[Ruling, str] = {
    Ruling.HOLDS: "✓",
    Ruling.FAILS: "✗",
    Ruling.WITHIN_NOISE: "≈",
    Ruling.ONE_SEED: "1",
    Ruling.NOT_MEASURED: "…",
}
_HEADS = ("The paper says", "Here", "Measured")


def draw_claims(found: Sequence[Verdict]) -> None:
    """The table of claims, how many of them hold, and how that is judged."""
    st.subheader("What the paper says, and what was measured", anchor=False)
    if not found:
        st.caption("The paper says nothing about just these methods: its claims are in the choices Fig. 4 and Fig. 5.")
        return
    counted = ", ".join(f"{number} × {ruling}" for ruling, number in tally(found).items())
    st.caption(f"{count(len(found), 'claim')}: {counted}.")
    st.html(claims_html(found))
    with st.expander("How a claim is judged", key="rule"):
        st.markdown(RULE)


def claims_html(found: Sequence[Verdict]) -> str:
    """The table of claims as HTML; roles are said outright, as a phone's style sheet makes blocks of its cells."""
    heads = "".join(f'<th role="columnheader" scope="col">{head}</th>' for head in _HEADS)
    rows = "".join(_row(verdict) for verdict in found)
    return (
        f'<table class="pwff-claims" role="table" aria-label="Claims of the paper and verdicts">'
        f'<thead role="rowgroup"><tr role="row">{heads}</tr></thead><tbody role="rowgroup">{rows}</tbody></table>'
    )


def _row(verdict: Verdict) -> str:
    said = f"{FIGURES[verdict.claim.figure].label}: {verdict.claim.sentence}"
    measured = f"<p>{_text(verdict.measured)}</p>" if verdict.seeds else ""
    kind = verdict.ruling.name.lower().replace("_", "-")
    return (
        f'<tr role="row" class="pwff-{kind}"><td role="cell">{_text(said)}</td>'
        f'<td role="cell"><span aria-hidden="true">{SIGNS[verdict.ruling]}</span> {escape(verdict.ruling)}</td>'
        f'<td role="cell">{measured}<p>{_text(verdict.reason)}</p></td></tr>'
    )


def _text(words: str) -> str:
    """Words as HTML; a number and its sign of percent stay on one line."""
    return escape(words).replace(" %", "\u00a0%")
