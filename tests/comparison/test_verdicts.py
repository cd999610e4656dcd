"""Verdicts: by hand, against scipy's own tests, and on the measured runs of the benchmarks."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from pwff_core.comparison.claims import CLAIMS, Claim, claims_of
from pwff_core.comparison.outcomes import MEASURES, Outcome
from pwff_core.comparison.presets import FIGURES
from pwff_core.comparison.verdicts import RULE, Pair, Ruling, tally, verdict, verdict_table, verdicts
from pwff_core.config import RunConfig
from pwff_core.methods import MethodId
from pwff_core.paths import root_dir

MORE_REWARD = Claim("fig5", "PWFF gets more reward than SFL.", "reward", "higher", "pwff", ("sfl",))
LESS_DELAY = Claim("fig4", "PWFF has less delay.", "delay_s_a_round", "lower", "pwff", ("vanilla_fl",), by_payload=True)
HIGHEST = Claim("fig4", "PWFF has the highest accuracy.", "tuned_accuracy", "higher", "pwff", ("fedada", "fedlora"))
RATIO = CLAIMS[-1]


def outcomes(measure: str, of: Mapping[MethodId, Sequence[float]], bits: float = 1e6) -> list[Outcome]:
    """Outcomes of seeds 1, 2, …, each method with its numbers in that order."""
    empty = dict.fromkeys(MEASURES) | {"uplink_bits_a_round": bits}
    return [
        Outcome(f"{method}{seed}", RunConfig(method=method, seed=seed), empty | {measure: value})
        for method, values in of.items()
        for seed, value in enumerate(values, start=1)
    ]


def test_a_claim_that_holds_by_hand() -> None:
    # differences 0.2, 0.1, 0.3: mean 0.2, deviation 0.1; t(95 %, 2) = 2.920: half width 2.920·0.1/√3 = 0.1686
    judged = verdict(MORE_REWARD, outcomes("reward", {"pwff": (0.5, 0.3, 0.7), "sfl": (0.3, 0.2, 0.4)}))
    (pair,) = judged.pairs
    assert pair.values == pytest.approx((0.2, 0.1, 0.3))
    assert (pair.mean, pair.deviation) == pytest.approx((0.2, 0.1))
    assert pair.half_width(0.05) == pytest.approx(2.919986 * 0.1 / math.sqrt(3), rel=1e-6)
    assert judged.ruling is Ruling.HOLDS  # 0.2 − 0.1686 > 0
    assert judged.seeds == (1, 2, 3)
    over = "mean ± standard deviation over seeds 1, 2 and 3"
    assert judged.measured == f"PWFF 0.50 ± 0.20 sd, SFL 0.30 ± 0.10 sd ({over})"
    assert judged.reason == (
        "PWFF is 0.20 ± 0.10 sd above SFL. That is more than chance: the 95 % interval leaves out zero."
    )


def test_a_little_more_spread_is_within_noise() -> None:
    # differences 0.2, 0.0, 0.4: mean 0.2, deviation 0.2; 0.2 − 2.920·0.2/√3 = −0.137
    judged = verdict(MORE_REWARD, outcomes("reward", {"pwff": (0.5, 0.2, 0.8), "sfl": (0.3, 0.2, 0.4)}))
    assert judged.ruling is Ruling.WITHIN_NOISE
    assert judged.reason == "PWFF is 0.20 ± 0.20 sd above SFL. The difference to SFL may be chance."


def test_the_other_way_round_does_not_hold() -> None:
    judged = verdict(MORE_REWARD, outcomes("reward", {"sfl": (0.5, 0.3, 0.7), "pwff": (0.3, 0.2, 0.4)}))
    assert judged.ruling is Ruling.FAILS
    assert judged.reason == (
        "PWFF is 0.20 ± 0.10 sd below SFL. Against SFL it is the other way round, by more than chance."
    )


def test_lower_is_the_claims_side_where_it_says_so() -> None:
    runs = outcomes("delay_s_a_round", {"pwff": (1.0, 1.1), "vanilla_fl": (2.0, 2.11)})
    judged = verdict(LESS_DELAY, runs)
    assert judged.ruling is Ruling.HOLDS
    assert judged.reason == (
        "PWFF is 1.005 ± 0.007 s below Vanilla FL. That is more than chance: the 95 % interval leaves out zero. "
        "By construction: delay and energy follow from what is uploaded in a round, PWFF 1.00 Mbit and "
        "Vanilla FL 1.00 Mbit."
    )
    swapped = outcomes("delay_s_a_round", {"vanilla_fl": (1.0, 1.1), "pwff": (2.0, 2.11)})
    assert verdict(LESS_DELAY, swapped).ruling is Ruling.FAILS


def test_a_difference_on_one_seed_is_not_judged() -> None:
    judged = verdict(MORE_REWARD, outcomes("reward", {"pwff": (0.5,), "sfl": (0.3,)}))
    assert (judged.ruling, judged.seeds) == (Ruling.ONE_SEED, (1,))
    assert judged.measured == "PWFF 0.50 sd, SFL 0.30 sd (seed 1)"
    assert judged.reason == (
        "PWFF is 0.20 sd above SFL. On the one seed that was run; the spread is not known, so this is no verdict."
    )


def test_a_seed_counts_if_all_methods_have_it() -> None:
    runs = outcomes("reward", {"pwff": (0.5, 0.3, 9.0), "sfl": (0.3, 0.2)})
    judged = verdict(MORE_REWARD, runs)
    assert judged.seeds == (1, 2)
    assert judged.pairs[0].values == pytest.approx((0.2, 0.1))


def test_a_claim_that_was_not_measured_says_why() -> None:
    assert verdict(MORE_REWARD, []).reason == "Not measured: no finished run of PWFF and SFL measured it."
    pwff = outcomes("reward", {"pwff": (0.5,)})
    assert verdict(MORE_REWARD, pwff).reason == "Not measured: no finished run of SFL measured it."
    other_seed = [*pwff, *outcomes("reward", {"sfl": (0.1, 0.2)})[1:]]
    assert verdict(MORE_REWARD, other_seed).reason == "Not measured: no seed is finished by all of them."
    assert verdict(MORE_REWARD, other_seed).ruling is Ruling.NOT_MEASURED


def test_the_highest_is_higher_than_each_of_the_others() -> None:
    clear = {"pwff": (0.9, 0.91, 0.92), "fedada": (0.8, 0.81, 0.83)}
    both = outcomes("tuned_accuracy", clear | {"fedlora": (0.7, 0.72, 0.72)})
    assert verdict(HIGHEST, both).ruling is Ruling.HOLDS
    tie = verdict(HIGHEST, outcomes("tuned_accuracy", clear | {"fedlora": (0.9, 0.92, 0.91)}))
    assert tie.ruling is Ruling.WITHIN_NOISE
    assert "The difference to FedLoRA may be chance." in tie.reason
    beaten = verdict(HIGHEST, outcomes("tuned_accuracy", clear | {"fedlora": (0.95, 0.96, 0.975)}))
    assert beaten.ruling is Ruling.FAILS
    assert "Against FedLoRA it is the other way round" in beaten.reason


def test_one_of_several_others_needs_a_clearer_lead_than_a_single_other() -> None:
    # differences to FedLoRA −0.03, −0.02, −0.05: mean 0.0333, deviation 0.0153, t = 3.78, p = 0.032
    behind = {"pwff": (0.9, 0.9, 0.9), "fedlora": (0.93, 0.92, 0.95)}
    alone = HIGHEST._replace(others=("fedlora",))
    assert verdict(alone, outcomes("tuned_accuracy", behind)).ruling is Ruling.FAILS  # 0.032 < 0.05
    both = outcomes("tuned_accuracy", behind | {"fedada": (0.8, 0.8, 0.8)})
    assert verdict(HIGHEST, both).ruling is Ruling.WITHIN_NOISE  # 0.032 > 0.05 / 2


def test_no_difference_at_all_is_within_noise() -> None:
    assert (
        verdict(MORE_REWARD, outcomes("reward", {"pwff": (0.5, 0.3), "sfl": (0.5, 0.3)})).ruling is Ruling.WITHIN_NOISE
    )


@pytest.mark.parametrize(
    ("ratios", "ruling"),
    [
        ((0.568, 0.570, 0.572), Ruling.HOLDS),  # ± 4.303·0.002/√3 = 0.005: all of it in 0.55 … 0.59
        ((0.55, 0.57, 0.59), Ruling.WITHIN_NOISE),  # ± 0.05
        ((0.680, 0.681, 0.682), Ruling.FAILS),
        ((0.57,), Ruling.ONE_SEED),
    ],
)
def test_a_ratio_is_judged_by_its_two_sided_interval(ratios: tuple[float, ...], ruling: Ruling) -> None:
    runs = outcomes("energy_j_a_round", {"pwff": [100 * ratio for ratio in ratios], "pfl": [100.0] * len(ratios)})
    judged = verdict(RATIO, runs)
    assert judged.ruling is ruling
    assert judged.pairs[0].values == pytest.approx(ratios)


def test_a_ratio_in_words() -> None:
    judged = verdict(RATIO, outcomes("energy_j_a_round", {"pwff": (56.8, 57.0, 57.2), "pfl": (100.0, 100.0, 100.0)}))
    assert judged.reason.startswith(
        "PWFF needs 57.0 ± 0.2 % of what PFL needs, 43 % less. The 95 % interval is 56.5 to 57.5 %; "
        "the claim is read as 55 to 59 %. By construction: "
    )


numbers = st.floats(-1.0, 1.0).map(lambda value: round(value, 3))
pairs = st.lists(st.tuples(numbers, numbers), min_size=2, max_size=6)


@given(pairs)
def test_against_scipys_paired_t_test(seeds: list[tuple[float, float]]) -> None:
    pwff, sfl = zip(*seeds, strict=True)
    differences = [a - b for a, b in seeds]
    if max(differences) - min(differences) < 1e-9:
        return  # the t-test is not defined without any spread
    ruling = verdict(MORE_REWARD, outcomes("reward", {"pwff": pwff, "sfl": sfl})).ruling
    more = float(stats.ttest_rel(pwff, sfl, alternative="greater").pvalue)
    less = float(stats.ttest_rel(pwff, sfl, alternative="less").pvalue)
    if min(abs(more - 0.05), abs(less - 0.05)) > 1e-6:
        assert ruling is (Ruling.HOLDS if more < 0.05 else Ruling.FAILS if less < 0.05 else Ruling.WITHIN_NOISE)


@given(st.lists(st.floats(0.1, 1.0), min_size=2, max_size=6).filter(lambda values: max(values) - min(values) > 1e-3))
def test_half_width_is_half_of_scipys_interval(values: list[float]) -> None:
    pair = Pair("pfl", tuple(values))
    low, high = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    assert pair.half_width(0.025) == pytest.approx((high - low) / 2)


def benchmark(figure: int) -> dict[str, Any]:
    """Measured numbers by "split | data | method | seed"."""
    results: dict[str, Any] = json.loads((root_dir() / "benchmarks" / f"figure{figure}.json").read_text())
    return results


@pytest.mark.parametrize(
    ("data", "ruling"),
    [("non-IID, personal styles", "holds"), ("non-IID, one style", "does not hold"), ("IID", "does not hold")],
)
def test_fig4_as_it_was_measured(data: str, ruling: str) -> None:
    results = benchmark(4)
    accuracy = {
        m: [results[f"test | {data} | {m} | {s}"]["accuracy"] for s in (1, 2, 3)] for m in FIGURES["fig4"].methods
    }
    highest, delay = verdicts(outcomes("tuned_accuracy", accuracy), FIGURES["fig4"].methods)
    assert highest.ruling == ruling
    assert delay.ruling is Ruling.NOT_MEASURED


def test_fig5_as_it_was_measured() -> None:
    results = benchmark(5)
    runs = [
        Outcome(
            "run",
            RunConfig(method=method, seed=seed),
            dict.fromkeys(MEASURES)
            | {
                "reward_sum": result["helpfulness"][1] + result["harmlessness"][1],
                "reward": result["reward"][1],
                "energy_j_a_round": result["energy_j"] / 8,
            },
        )
        for method in FIGURES["fig5"].methods
        for seed in (1, 2, 3)
        for result in [results[f"test | {method} | {seed}"]]
    ]
    judged = verdicts(runs, FIGURES["fig5"].methods)
    assert [(v.claim.subject, v.claim.others[0], v.claim.measure, str(v.ruling)) for v in judged] == [
        ("pwff", "sfl", "reward_sum", "holds"),
        ("pwff", "sfl", "reward", "holds"),
        ("pwff", "shepherd", "reward_sum", "within noise"),
        ("pwff", "shepherd", "reward", "holds"),
        ("shepherd", "pwff", "reward_sum", "within noise"),
        ("shepherd", "pwff", "reward", "within noise"),
        ("shepherd", "pwff", "energy_j_a_round", "holds"),
        ("pwff", "pfl", "energy_j_a_round", "holds"),
    ]
    assert "57.0 ± 0.3 % of what PFL needs, 43 % less" in judged[-1].reason


def test_verdicts_as_a_table_and_counted() -> None:
    runs = outcomes("delay_s_a_round", {"pwff": (1.0, 1.1), "vanilla_fl": (2.0, 2.1)})
    judged = verdicts(runs, ["pwff", "vanilla_fl"])
    (row,) = verdict_table(judged).to_dict("records")
    (claim,) = claims_of(["pwff", "vanilla_fl"])
    assert (row["Figure"], row["The paper says"], row["Verdict"]) == ("Fig. 4", claim.sentence, "holds")
    assert tally(judged) == {Ruling.HOLDS: 1}
    assert list(verdict_table([]).columns) == ["Figure", "The paper says", "Verdict", "Measured", "Why"]


def test_the_rule_names_every_ruling_that_is_judged() -> None:
    for ruling in (Ruling.HOLDS, Ruling.FAILS, Ruling.WITHIN_NOISE):
        assert f"**{ruling}**" in RULE
