"""`pwff rank`: prompts, candidate responses, an estimate and a yes, verdicts, files."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from pwff_core.errors import ConfigError, RankingError
from pwff_core.methods import AXES
from pwff_core.tools.rank.cache import CachedVerdict, open_cache, read_cache
from pwff_core.tools.rank.pairs import axis_result, in_both_orders, results_table, round_robin, summarize, write_pairs
from pwff_core.tools.rank.prompt import Comparison
from pwff_core.tools.rank.requests import Outcome, Reply, estimate, estimate_text, send_all
from pwff_core.tools.rank.settings import RankingConfig

if TYPE_CHECKING:
    from pwff_core.tools.rank.client import Server


def rank(config: RankingConfig, folder: Path, *, yes: bool) -> int:
    """Ranks candidate responses and writes the pairs into `folder`; returns the exit code.

    0: every comparison is done, or as many as `limit` allows. 1: sending stopped early, or an axis has no pair; what
    there is, is written. 130: Ctrl-C, the same. PwffError if the settings are wrong or no request was answered. A later
    call with the same folder goes on: candidates.jsonl and verdicts.jsonl keep the work of this one.
    """
    server = _server(config)
    from pwff_core.tools.rank.candidates import load_prompts, sample_responses  # torch takes seconds to load

    prompts = load_prompts(config.source, config.prompts, config.seed)
    with tqdm(total=len(prompts), desc="Responses", unit="prompt") as bar:
        responses = sample_responses(config, prompts, folder / "candidates.jsonl", bar.update)
    comparisons = [c for prompt, texts in zip(prompts, responses, strict=True) for c in round_robin(prompt, texts)]
    cache = read_cache(folder / "verdicts.jsonl", CachedVerdict)
    keys = {comparison: comparison.key(str(config.model)) for comparison in in_both_orders(comparisons)}
    cached = {comparison: cache[key] for comparison, key in keys.items() if key in cache}
    outcome = Outcome({c: verdict for c, verdict in cached.items() if verdict.is_final(config.verdict_tokens)})
    unsent = {c: key for c, key in keys.items() if c not in outcome.verdicts}
    requests = dict(list(unsent.items())[: config.limit])
    _confirm(config, server, list(requests), yes=yes)
    interrupted = False
    try:
        if requests:
            _send(config, server, folder, outcome, requests)
    except KeyboardInterrupt:
        interrupted = True
        outcome.stop("Stopped by Ctrl-C.")
    if outcome.stopped and not outcome.verdicts:
        raise KeyboardInterrupt if interrupted else RankingError(outcome.stopped)
    code = _finish(config, server, folder, comparisons, len(prompts), outcome)
    return 130 if interrupted else code


def _server(config: RankingConfig) -> Server:
    """The server to ask. ConfigError if it cannot be used, the openai package is missing or no model is named."""
    if importlib.util.find_spec("openai") is None:
        raise ConfigError("`pwff rank` needs the package openai, which is not installed; pip install 'pwff[judge]'.")
    from pwff_core.tools.rank.client import resolve_server

    server = resolve_server(config.server, os.environ)
    if not (config.model or "").strip():
        raise ConfigError("--model is missing; say which model ranks, such as --model gpt-4o.")
    return server


def _confirm(config: RankingConfig, server: Server, requests: Sequence[Comparison], *, yes: bool) -> None:
    """Says what the requests will take; returns only after a yes. ConfigError without one."""
    if not requests:
        return
    plan = estimate_text(config, estimate(requests, config.verdict_tokens), server.origin)
    if yes:
        print(f"{plan}.", file=sys.stderr)
    elif not sys.stdin.isatty():
        raise ConfigError(f"This would send {plan}. Add --yes to agree, or call from a terminal.")
    else:
        print(f"This sends {plan}. Go on? [y/N] ", end="", file=sys.stderr, flush=True)
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            raise ConfigError("Nothing was asked; the candidate responses are kept.")


def _send(
    config: RankingConfig, server: Server, folder: Path, outcome: Outcome, requests: dict[Comparison, str]
) -> None:
    """Sends the requests, which have their keys in the cache beside them."""
    from pwff_core.tools.rank.client import RankingClient

    async def send() -> None:
        async with RankingClient(server, str(config.model), config.timeout_s, config.verdict_tokens) as client:
            await send_all(outcome, requests, client.compare, save, config.parallel, bar.update)

    def save(comparison: Comparison, reply: Reply) -> CachedVerdict:
        verdict = CachedVerdict(key=requests[comparison], room=config.verdict_tokens, **reply._asdict())
        writer.add(verdict)
        return verdict

    with (
        open_cache(folder / "verdicts.jsonl") as writer,
        tqdm(total=len(requests), desc="Verdicts", unit="request") as bar,
    ):
        asyncio.run(send())


def _finish(
    config: RankingConfig,
    server: Server,
    folder: Path,
    comparisons: Sequence[Comparison],
    prompts: int,
    outcome: Outcome,
) -> int:
    """Writes and shows what there is; returns the exit code."""
    verdicts = {comparison: entry.verdict for comparison, entry in outcome.verdicts.items()}
    results = {axis: axis_result(axis, comparisons, verdicts, outcome.failed) for axis in AXES}
    files = write_pairs(folder, results, summarize(config, server.origin, prompts, outcome, results))
    print(results_table(results))
    if outcome.stopped:
        print(f"pwff: {outcome.stopped} What was ranked is kept; the same call goes on from there.", file=sys.stderr)
    left = sum(result.dropped["not asked"] for result in results.values())
    if left and not outcome.stopped:
        print(f"pwff: {left:,} comparisons are left; the same call goes on with them.", file=sys.stderr)
    empty = [axis for axis, result in results.items() if not result.pairs]
    if empty:
        print(f"pwff: No pair on {' and '.join(empty)} was agreed on; the table says why.", file=sys.stderr)
    print(f"--reward.helpful-source {files[0]} --reward.harmless-source {files[1]} trains on them.", file=sys.stderr)
    return 1 if outcome.stopped or empty else 0
