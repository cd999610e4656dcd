"""The paper's claims, each with what was measured and a verdict in words: a table, or on a phone a card each."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import streamlit as st

from pages.parts.words import count
from pwff_core.comparison.presets import FIGURES
from pwff_core.comparison.verdicts import RULE, Ruling, Verdict, tally

# a sign stands beside each word, so that no ruling is told by colour alone (assets/style.css)
SIGNS: dict[Ruling, str] = {
    Ruling.HOLDS: "✓",
    Ruling.FAILS: "✗",
    Ruling.WITHIN_NOISE: "≈",
    Ruling.ONE_SEED: "1",
    Ruling.NOT_MEASURED: "…",
}
_HEADS = ("The paper says", "Here", "Measured")


def draw_claims(verdicts: Sequence[Verdict]) -> None:
    """Draw how many claims have which verdict, the table of claims, and the rule of judging."""
    st.subheader("What the paper says, and what was measured", anchor=False)
    if not verdicts:
        st.caption("The paper says nothing about just these methods: its claims are in the choices Fig. 4 and Fig. 5.")
        return
    tallied = ", ".join(f"{number} × {ruling}" for ruling, number in tally(verdicts).items())
    st.caption(f"{count(len(verdicts), 'claim')}: {tallied}.")
    st.html(claims_html(verdicts))
    with st.expander("How a claim is judged", key="rule"):
        st.markdown(RULE)


def claims_html(verdicts: Sequence[Verdict]) -> str:
    """The table of claims as HTML. It has explicit roles, as a phone's style sheet makes blocks of its cells."""
    heads = "".join(f'<th role="columnheader" scope="col">{head}</th>' for head in _HEADS)
    rows = "".join(_row(verdict) for verdict in verdicts)
    return (
        f'<table class="pwff-claims" role="table" aria-label="Claims of the paper and verdicts">'
        f'<thead role="rowgroup"><tr role="row">{heads}</tr></thead><tbody role="rowgroup">{rows}</tbody></table>'
    )


def _row(verdict: Verdict) -> str:
    claim = f"{FIGURES[verdict.claim.figure].label}: {verdict.claim.sentence}"
    measured = f"<p>{_html(verdict.measured)}</p>" if verdict.seeds else ""
    kind = verdict.ruling.name.lower().replace("_", "-")
    return (
        f'<tr role="row" class="pwff-{kind}"><td role="cell">{_html(claim)}</td>'
        f'<td role="cell"><span aria-hidden="true">{SIGNS[verdict.ruling]}</span> {escape(verdict.ruling)}</td>'
        f'<td role="cell">{measured}<p>{_html(verdict.reason)}</p></td></tr>'
    )


def _html(words: str) -> str:
    """Words as HTML. A number and its per cent sign stay on one line."""
    return escape(words).replace(" %", "\u00a0%")
