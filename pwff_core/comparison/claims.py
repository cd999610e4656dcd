"""CLAIMS: what the paper says about its Fig. 4 and Fig. 5 (arXiv 2404.13238v2, section V-B), as rows, in our words."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal, NamedTuple

from pwff_core.comparison.presets import FIGURES, FigureId
from pwff_core.methods import MethodId

Relation = Literal["higher", "lower", "ratio"]


class Claim(NamedTuple):
    """One sentence of the paper in a form that runs can show: `subject` is higher or lower than each of `others`.

    With the relation `ratio`, subject / other equals `ratio` up to `tolerance`.
    """

    figure: FigureId
    sentence: str
    measure: str  # key of MEASURES
    relation: Relation
    subject: MethodId
    others: tuple[MethodId, ...]
    by_payload: bool = False  # follows from the uploaded bits alone, whatever is learned
    ratio: float = 1.0
    tolerance: float = 0.0

    @property
    def methods(self) -> tuple[MethodId, ...]:
        """All methods that the claim is about."""
        return (self.subject, *self.others)


def _others(figure: FigureId, subject: MethodId) -> tuple[MethodId, ...]:
    return tuple(method for method in FIGURES[figure].methods if method != subject)


_BY_SUM = "by the paper's sum, helpfulness + harmlessness"
_BY_WEIGHTS = "by each owner's own weights"
CLAIMS: tuple[Claim, ...] = (
    Claim("fig4", "PWFF has the highest accuracy.", "tuned_accuracy", "higher", "pwff", _others("fig4", "pwff")),
    Claim("fig4", "A round of PWFF has less delay than one of Vanilla FL.", "delay_s_a_round", "lower", "pwff",
          ("vanilla_fl",), by_payload=True),
    Claim("fig5", f"PWFF gets more reward than SFL, {_BY_SUM}.", "reward_sum", "higher", "pwff", ("sfl",)),
    Claim("fig5", f"PWFF gets more reward than SFL, {_BY_WEIGHTS}.", "reward", "higher", "pwff", ("sfl",)),
    Claim("fig5", f"PWFF gets more reward than Shepherd, {_BY_SUM}.", "reward_sum", "higher", "pwff", ("shepherd",)),
    Claim("fig5", f"PWFF gets more reward than Shepherd, {_BY_WEIGHTS}.", "reward", "higher", "pwff", ("shepherd",)),
    Claim("fig5", f"Shepherd gets the least reward, {_BY_SUM}.", "reward_sum", "lower", "shepherd",
          _others("fig5", "shepherd")),
    Claim("fig5", f"Shepherd gets the least reward, {_BY_WEIGHTS}.", "reward", "lower", "shepherd",
          _others("fig5", "shepherd")),
    Claim("fig5", "Shepherd needs the least energy.", "energy_j_a_round", "lower", "shepherd",
          _others("fig5", "shepherd"), by_payload=True),
    Claim("fig5", "PWFF needs 43 % less energy than PFL.", "energy_j_a_round", "ratio", "pwff", ("pfl",),
          by_payload=True, ratio=0.57, tolerance=0.02),
)  # fmt: skip


def claims_of(methods: Collection[MethodId]) -> list[Claim]:
    """The claims about these methods and no other: those that their runs can decide."""
    return [claim for claim in CLAIMS if set(claim.methods) <= set(methods)]
