"""Whether a claim of the paper holds on finished runs, judged by differences between methods on the same seeds.

A seed decides data, preferences, start and channel. So two methods on one seed differ by the method alone, and their
difference spreads much less than either of them. With n such differences of mean m and sample standard deviation s,
m − t·s/√n is a one-sided lower bound (Student's t, n − 1 degrees of freedom, t its 95 % point).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from enum import StrEnum
from operator import sub, truediv
from typing import NamedTuple

import pandas as pd
from scipy.stats import t as student

from pwff_core.comparison.claims import Claim, claims_of
from pwff_core.comparison.outcomes import MEASURES, Outcome, mean_text, spread_text
from pwff_core.comparison.presets import FIGURES
from pwff_core.methods import METHODS, MethodId
from pwff_core.units import with_prefix

CONFIDENCE = 0.95
RULE = (
    "Methods are compared on the same seeds: the difference is taken seed by seed, and judged by Student's t. "
    "A claim **holds** where the one-sided 95 % interval of the mean difference lies on the claim's side, for each "
    "method that it names. It **does not hold** where the interval lies on the other side for one of them (of several, "
    "each gets its share of the 5 %). Everything between is **within noise**: more seeds may tell. A ratio holds where "
    "its whole two-sided 95 % interval lies within two points of the paper's, and does not hold where all of it lies "
    "outside. From **one seed** nothing is known about the spread: the difference is told, and not judged."
)


class Ruling(StrEnum):
    """What the runs say about a claim."""

    HOLDS = "holds"
    FAILS = "does not hold"
    WITHIN_NOISE = "within noise"
    ONE_SEED = "one seed"
    NOT_MEASURED = "not measured"


class Pair(NamedTuple):
    """The subject of a claim beside one other method: differences (or ratios) on the same seeds, in SI units."""

    other: MethodId
    values: tuple[float, ...]  # one a seed: subject − other, or subject / other if the claim is about a ratio

    @property
    def mean(self) -> float:
        """Mean over seeds."""
        return statistics.fmean(self.values)

    @property
    def deviation(self) -> float:
        """Sample standard deviation over at least two seeds."""
        return statistics.stdev(self.values)

    def half_width(self, tail: float) -> float:
        """t·s/√n: the truth lies this far beyond the mean on one side with probability `tail`."""
        count = len(self.values)
        return float(student.ppf(1.0 - tail, count - 1)) * self.deviation / math.sqrt(count)


class Verdict(NamedTuple):
    """A claim, what was measured, and what follows from that, in words."""

    claim: Claim
    ruling: Ruling
    measured: str  # of each method, mean ± standard deviation
    reason: str  # the differences and what follows, in sentences
    pairs: tuple[Pair, ...] = ()
    seeds: tuple[int, ...] = ()


def verdicts(outcomes: Sequence[Outcome], methods: Sequence[MethodId]) -> list[Verdict]:
    """A verdict on every claim about these methods, from finished runs."""
    return [verdict(claim, outcomes) for claim in claims_of(methods)]


def verdict(claim: Claim, outcomes: Sequence[Outcome]) -> Verdict:
    """What finished runs say about a claim. A seed counts if every method of the claim has a value on it."""
    values = _by_seed(claim, outcomes)
    seeds = sorted(set.intersection(*(set(of_method) for of_method in values.values())))
    if not seeds:
        missing = [METHODS[method].label for method, of_method in values.items() if not of_method]
        why = (
            f"no finished run of {_enumerate(missing)} measured it" if missing else "no seed is finished by all of them"
        )
        return Verdict(claim, Ruling.NOT_MEASURED, "–", f"Not measured: {why}.")
    combine = truediv if claim.relation == "ratio" else sub
    subject = values[claim.subject]
    pairs = tuple(
        Pair(other, tuple(float(combine(subject[seed], values[other][seed])) for seed in seeds))
        for other in claim.others
    )
    unit = MEASURES[claim.measure].unit
    measured = ", ".join(
        f"{METHODS[method].label} {spread_text(claim.measure, [values[method][seed] for seed in seeds])} {unit}"
        for method in claim.methods
    )
    ruling = _ruling(claim, pairs)
    reason = f"{_differences(claim, pairs)} {_conclusion(claim, pairs, ruling)} {_payload(claim, outcomes)}".rstrip()
    return Verdict(claim, ruling, f"{measured} ({_seed_words(seeds)})", reason, pairs, tuple(seeds))


def _by_seed(claim: Claim, outcomes: Sequence[Outcome]) -> dict[MethodId, dict[int, float]]:
    """The claim's measure by method and seed."""
    values: dict[MethodId, dict[int, float]] = {method: {} for method in claim.methods}
    for outcome in outcomes:
        value = outcome.values[claim.measure]
        if outcome.config.method in values and value is not None:
            values[outcome.config.method][outcome.config.seed] = value
    return values


def _ruling(claim: Claim, pairs: Sequence[Pair]) -> Ruling:
    if len(pairs[0].values) < 2:
        return Ruling.ONE_SEED
    if claim.relation == "ratio":
        return _ratio_ruling(claim, pairs[0])
    if all(_supports(claim, pair) for pair in pairs):
        return Ruling.HOLDS
    return Ruling.FAILS if any(_contradicts(claim, pair, len(pairs)) for pair in pairs) else Ruling.WITHIN_NOISE


def _supports(claim: Claim, pair: Pair) -> bool:
    """Whether the truth lies on the claim's side. All pairs must support it, so each has the whole 5 % for error.

    Berger, Technometrics 1982.
    """
    return _side(claim) * pair.mean - pair.half_width(1.0 - CONFIDENCE) > 0.0


def _contradicts(claim: Claim, pair: Pair, pairs: int) -> bool:
    """Whether the truth lies on the other side. One of the pairs is enough, so they share the 5 % (Bonferroni)."""
    return -_side(claim) * pair.mean - pair.half_width((1.0 - CONFIDENCE) / pairs) > 0.0


def _side(claim: Claim) -> int:
    return 1 if claim.relation == "higher" else -1


def _ratio_ruling(claim: Claim, pair: Pair) -> Ruling:
    half_width = pair.half_width((1.0 - CONFIDENCE) / 2.0)
    distance = abs(pair.mean - claim.ratio)
    if distance + half_width <= claim.tolerance:
        return Ruling.HOLDS
    return Ruling.FAILS if distance - half_width > claim.tolerance else Ruling.WITHIN_NOISE


def _differences(claim: Claim, pairs: Sequence[Pair]) -> str:
    """'PWFF is 2.3 ± 0.3 points above Vanilla FL, 0.1 ± 0.2 points below FedAda.'"""
    subject = METHODS[claim.subject].label
    if claim.relation == "ratio":
        (pair,) = pairs
        spread = f" ± {100 * pair.deviation:.1f}" if len(pair.values) > 1 else ""
        saved = f"{abs(1 - pair.mean):.0%} {'less' if pair.mean <= 1 else 'more'}".replace("%", " %")
        other = METHODS[pair.other].label
        return f"{subject} needs {100 * pair.mean:.1f}{spread} % of what {other} needs, {saved}."
    return f"{subject} is {_enumerate([_difference(claim.measure, pair) for pair in pairs])}."


def _difference(measure: str, pair: Pair) -> str:
    scale, unit = MEASURES[measure].scale, MEASURES[measure].unit
    spread = scale * pair.deviation if len(pair.values) > 1 else None
    text = mean_text(measure, abs(scale * pair.mean), spread)
    side = "above" if pair.mean >= 0 else "below"
    return f"{text} {'points' if unit == '%' else unit} {side} {METHODS[pair.other].label}"


def _conclusion(claim: Claim, pairs: Sequence[Pair], ruling: Ruling) -> str:
    if ruling is Ruling.ONE_SEED:
        return "On the one seed that was run; the spread is not known, so this is no verdict."
    if claim.relation == "ratio":
        half_width = 100 * pairs[0].half_width((1.0 - CONFIDENCE) / 2.0)
        low, high = 100 * pairs[0].mean - half_width, 100 * pairs[0].mean + half_width
        claimed = f"{100 * (claim.ratio - claim.tolerance):.0f} to {100 * (claim.ratio + claim.tolerance):.0f} %"
        return f"The 95 % interval is {low:.1f} to {high:.1f} %; the claim is read as {claimed}."
    if ruling is Ruling.HOLDS:
        return f"That is more than chance: {'each' if len(pairs) > 1 else 'the'} 95 % interval leaves out zero."
    if ruling is Ruling.FAILS:
        against = [METHODS[pair.other].label for pair in pairs if _contradicts(claim, pair, len(pairs))]
        return f"Against {_enumerate(against)} it is the other way round, by more than chance."
    unsure = [METHODS[pair.other].label for pair in pairs if not _supports(claim, pair)]
    return f"The difference to {_enumerate(unsure)} may be chance."


def _payload(claim: Claim, outcomes: Sequence[Outcome]) -> str:
    """The payloads that a claim about delay or energy follows from; "" for other claims."""
    if not claim.by_payload:
        return ""
    bits = {outcome.config.method: outcome.values["uplink_bits_a_round"] or 0.0 for outcome in outcomes}
    payloads = _enumerate([f"{METHODS[method].label} {with_prefix(bits[method], 'bit')}" for method in claim.methods])
    return f"By construction: delay and energy follow from what is uploaded in a round, {payloads}."


def _enumerate(names: Sequence[str]) -> str:
    """'A', 'A and B', 'A, B and C'."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _seed_words(seeds: Sequence[int]) -> str:
    if len(seeds) == 1:
        return f"seed {seeds[0]}"
    return f"mean ± standard deviation over seeds {_enumerate([str(seed) for seed in seeds])}"


def verdict_table(judged: Sequence[Verdict]) -> pd.DataFrame:
    """One row a claim, in words: figure, claim of the paper, verdict, what was measured, and why."""
    return pd.DataFrame(
        [(FIGURES[v.claim.figure].label, v.claim.sentence, str(v.ruling), v.measured, v.reason) for v in judged],
        columns=["Figure", "The paper says", "Verdict", "Measured", "Why"],
    )


def tally(judged: Sequence[Verdict]) -> Mapping[Ruling, int]:
    """How many claims have each ruling. A ruling that no claim has is left out."""
    return {ruling: count for ruling in Ruling if (count := sum(v.ruling is ruling for v in judged))}
