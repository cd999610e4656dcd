"""From verdicts to preference pairs: which comparisons there are, which are agreed on, and the files of them."""

from __future__ import annotations

import itertools
import json
import platform
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from pwff_core.methods import AXES, Axis
from pwff_core.runs.files import deliver
from pwff_core.tools.rank.prompt import Comparison, Verdict, instruction
from pwff_core.tools.rank.requests import Outcome, cost
from pwff_core.tools.rank.settings import RankingConfig
from pwff_core.tools.text_table import table

_PACKAGES = ("pwff", "openai", "torch", "transformers")
Dropped = Literal["tie", "disagreed", "unreadable", "circular", "unanswered", "not asked"]
REASONS: tuple[Dropped, ...] = get_args(Dropped)


class Preference(NamedTuple):
    """A row in TRL's preference format."""

    prompt: str
    chosen: str
    rejected: str


class AxisResult(NamedTuple):
    """The comparisons of one axis: pairs agreed on, and counts of dropped ones by reason."""

    pairs: tuple[Preference, ...]
    dropped: dict[Dropped, int]
    first_share: float | None  # of the verdicts for one response, the share for the one shown first; ½ without bias

    @property
    def compared(self) -> int:
        """All comparisons, agreed on or dropped."""
        return len(self.pairs) + sum(self.dropped.values())


def round_robin(prompt: str, responses: Sequence[str]) -> list[Comparison]:
    """Every two distinct, non-empty responses, on each axis.

    n responses give n(n−1)/2 pairs an axis, each for two requests. A tournament would compare n−1 pairs alone, at the
    same price a pair, and would have to infer the others, which takes for granted that verdicts are transitive.
    """
    distinct = [text for text in dict.fromkeys(responses) if text]
    return [Comparison(axis, prompt, *two) for axis in AXES for two in itertools.combinations(distinct, 2)]


def in_both_orders(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """The requests to send: each comparison, followed by the same with positions swapped."""
    return [ordered for comparison in comparisons for ordered in (comparison, comparison.swapped())]


def agree(verdict: Verdict, swapped: Verdict) -> Literal["first", "second"] | Dropped:
    """The better response by two verdicts on a pair, or why there is none.

    Positions are those of the first verdict; for the second one the responses were swapped.
    """
    if "unreadable" in (verdict, swapped):
        return "unreadable"
    if verdict == "tie" or swapped == "tie":
        return "tie"
    if verdict == swapped:  # the same position, so the other response
        return "disagreed"
    return "first" if verdict == "first" else "second"


def axis_result(
    axis: Axis,
    comparisons: Sequence[Comparison],
    verdicts: Mapping[Comparison, Verdict],
    failed: Collection[Comparison],
) -> AxisResult:
    """The preference pairs of an axis by the verdicts so far; `failed` requests got no answer.

    Pairs of one prompt that contradict each other in a circle (a over b, b over c, c over a) are dropped together.
    """
    dropped: Counter[Dropped] = Counter()
    by_prompt: dict[str, list[Preference]] = {}
    for comparison in comparisons:
        if comparison.axis != axis:
            continue
        both = (comparison, comparison.swapped())
        if not all(request in verdicts for request in both):
            dropped["unanswered" if any(request in failed for request in both) else "not asked"] += 1
            continue
        outcome = agree(verdicts[both[0]], verdicts[both[1]])
        if outcome == "first" or outcome == "second":
            winner = both[outcome == "second"]
            pair = Preference(comparison.prompt, winner.first, winner.second)
            by_prompt.setdefault(comparison.prompt, []).append(pair)
        else:
            dropped[outcome] += 1
    pairs = [pair for of_prompt in by_prompt.values() for pair in without_circles(of_prompt)]
    dropped["circular"] = sum(map(len, by_prompt.values())) - len(pairs)
    choices = [v for request, v in verdicts.items() if request.axis == axis and v in ("first", "second")]
    first_share = choices.count("first") / len(choices) if choices else None
    return AxisResult(tuple(pairs), {reason: dropped[reason] for reason in REASONS}, first_share)


def without_circles(pairs: Sequence[Preference]) -> list[Preference]:
    """The pairs of one prompt whose rejected response is not, through other pairs, preferred to their chosen one."""
    better: dict[str, set[str]] = {}
    for pair in pairs:
        better.setdefault(pair.chosen, set()).add(pair.rejected)
    return [pair for pair in pairs if pair.chosen not in _reachable(pair.rejected, better)]


def _reachable(start: str, edges: Mapping[str, set[str]]) -> set[str]:
    """All nodes of a graph that lie behind `start`."""
    reached, open_nodes = set[str](), [start]
    while open_nodes:
        new = edges.get(open_nodes.pop(), set()) - reached
        reached |= new
        open_nodes += new
    return reached


def write_pairs(folder: Path, results: Mapping[Axis, AxisResult], summary: Mapping[str, Any]) -> list[Path]:
    """helpfulness.jsonl and harmlessness.jsonl in TRL's preference format, and summary.json: all of them or none.

    StoreError if the folder cannot be written.
    """

    def fill(aside: Path) -> list[Path]:
        files = []
        for axis, result in results.items():
            lines = [json.dumps(pair._asdict(), ensure_ascii=False) + "\n" for pair in result.pairs]
            files.append(aside / f"{axis}.jsonl")
            files[-1].write_text("".join(lines), encoding="utf-8", newline="\n")
        files.append(aside / "summary.json")
        files[-1].write_text(json.dumps(summary, indent=1, ensure_ascii=False) + "\n", encoding="utf-8", newline="\n")
        return files

    return deliver(folder, fill)


def summarize(
    config: RankingConfig, origin: str, prompts: int, outcome: Outcome, results: Mapping[Axis, AxisResult]
) -> dict[str, Any]:
    """The content of summary.json, by which a reader can judge the pairs and make them again.

    It has no key, and of the server's address the origin alone.
    """
    verdicts = list(outcome.verdicts.values())
    tokens_in = sum(verdict.tokens_in or 0 for verdict in verdicts)
    tokens_out = sum(verdict.tokens_out or 0 for verdict in verdicts)
    return {
        "model": config.model,
        "server": origin,
        "settings": config.model_dump(exclude={"model", "server"}),
        "prompts": prompts,
        "axes": {
            axis: {
                "compared": result.compared,
                "agreed": len(result.pairs),
                "dropped": result.dropped,
                "first_share": result.first_share,
            }
            for axis, result in results.items()
        },
        "requests": {"this call": outcome.requests, "verdicts in all": len(verdicts)},
        "tokens": {
            "in": tokens_in,
            "out": tokens_out,
            "verdicts without a count": sum(None in (v.tokens_in, v.tokens_out) for v in verdicts),
        },
        "cost": cost(config, tokens_in, tokens_out),
        "stopped": outcome.stopped or None,
        "instructions": {axis: instruction(axis) for axis in results},
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in _PACKAGES}},
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def results_table(results: Mapping[Axis, AxisResult]) -> str:
    """A row an axis: pairs compared, agreed on, and dropped by reason."""
    header = ("", "compared", "agreed", *REASONS, "first named")
    rows = [
        (
            axis,
            *(f"{count}" for count in (result.compared, len(result.pairs), *result.dropped.values())),
            "–" if result.first_share is None else f"{100 * result.first_share:.0f} %",
        )
        for axis, result in results.items()
    ]
    return table(header, rows)
