"""The way through of `pwff rank`: prompts, candidate responses, an estimate and a yes, verdicts, files."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from pwff_core.errors import ConfigError, RankingError
from pwff_core.methods import AXES
from pwff_core.tools.rank.address import Server, server_of
from pwff_core.tools.rank.cache import KeptVerdict, keeping, read_kept
from pwff_core.tools.rank.estimate import estimate, in_words
from pwff_core.tools.rank.pairs import ranked, requests, round_robin
from pwff_core.tools.rank.prompt import Question
from pwff_core.tools.rank.prompts import load_prompts
from pwff_core.tools.rank.report import in_a_table, summarised, write
from pwff_core.tools.rank.requests import Asked, Reply, ask_all
from pwff_core.tools.rank.settings import RankingConfig


def rank(config: RankingConfig, folder: Path, *, yes: bool) -> int:
    """Rank candidate responses and write the pairs into `folder`; returns the exit code.

    0: all was asked, or as much as `limit` allows. 1: asking stopped early, or an axis has no pair; what there is, is
    written. 130: Ctrl-C, the same. PwffError for what cannot be begun, or was answered not once. A later call with the
    same folder goes on: candidates.jsonl and verdicts.jsonl hold what this one has.
    """
    server = server_of(config.server, os.environ)
    _check_begin(config)
    prompts = load_prompts(config.source, config.prompts, config.seed)
    questions = _questions(config, folder, prompts)
    kept = read_kept(folder / "verdicts.jsonl", KeptVerdict)
    keys = {question: question.key(str(config.model)) for question in requests(questions)}
    asked = Asked(
        {
            question: kept[key]
            for question, key in keys.items()
            if key in kept and kept[key].holds(config.verdict_tokens)
        }
    )
    todo = [question for question in keys if question not in asked.verdicts][: config.limit]
    _agree(config, server, todo, yes=yes)
    interrupted = False
    try:
        if todo:
            _ask(config, server, folder, asked, todo, keys)
    except KeyboardInterrupt:
        interrupted = True
        asked.stop("Stopped by Ctrl-C.")
    if asked.stopped and not asked.verdicts:
        raise KeyboardInterrupt if interrupted else RankingError(asked.stopped)
    code = _finish(config, server, folder, questions, len(prompts), asked)
    return 130 if interrupted else code


def _check_begin(config: RankingConfig) -> None:
    if not (config.model or "").strip():
        raise ConfigError("--model is missing; say which model ranks, such as --model gpt-4o.")
    if importlib.util.find_spec("openai") is None:
        raise ConfigError("`pwff rank` needs the package openai, which is not installed; pip install 'pwff[judge]'.")


def _questions(config: RankingConfig, folder: Path, prompts: Sequence[str]) -> list[Question]:
    from pwff_core.tools.rank.candidates import sampled  # torch takes seconds

    with tqdm(total=len(prompts), desc="Responses", unit="prompt") as bar:
        responses = sampled(config, prompts, folder / "candidates.jsonl", bar.update)
    return [
        question for prompt, texts in zip(prompts, responses, strict=True) for question in round_robin(prompt, texts)
    ]


def _agree(config: RankingConfig, server: Server, todo: Sequence[Question], *, yes: bool) -> None:
    """Says what asking takes; goes on only with a yes. ConfigError without one."""
    if not todo:
        return
    plan = in_words(config, estimate(todo, config.verdict_tokens), server.origin)
    if yes:
        print(f"{plan}.", file=sys.stderr)
    elif not sys.stdin.isatty():
        raise ConfigError(f"This would send {plan}. Add --yes to agree, or call from a terminal.")
    else:
        print(f"This sends {plan}. Go on? [y/N] ", end="", file=sys.stderr, flush=True)
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            raise ConfigError("Nothing was asked; the candidate responses are kept.")


def _ask(
    config: RankingConfig,
    server: Server,
    folder: Path,
    asked: Asked,
    todo: Sequence[Question],
    keys: dict[Question, str],
) -> None:
    from pwff_core.tools.rank.client import Ranker  # openai takes half a second

    async def ask() -> None:
        async with Ranker(server, str(config.model), config.timeout_s, config.verdict_tokens) as ranker:
            await ask_all(asked, todo, ranker.answer, keep, config.parallel, bar.update)

    def keep(question: Question, reply: Reply) -> KeptVerdict:
        entry = KeptVerdict(key=keys[question], room=config.verdict_tokens, **reply._asdict())
        keeper.add(entry)
        return entry

    with keeping(folder / "verdicts.jsonl") as keeper, tqdm(total=len(todo), desc="Verdicts", unit="request") as bar:
        asyncio.run(ask())


def _finish(
    config: RankingConfig, server: Server, folder: Path, questions: Sequence[Question], prompts: int, asked: Asked
) -> int:
    """Writes and shows what there is; returns the exit code."""
    verdicts = {question: entry.verdict for question, entry in asked.verdicts.items()}
    results = {axis: ranked(axis, questions, verdicts, asked.failed) for axis in AXES}
    files = write(folder, results, summarised(config, server.origin, prompts, asked, results))
    print(in_a_table(results))
    if asked.stopped:
        print(f"pwff: {asked.stopped} What was ranked is kept; the same call goes on from there.", file=sys.stderr)
    left = sum(result.dropped["not asked"] for result in results.values())
    if left and not asked.stopped:
        print(f"pwff: {left:,} comparisons are left; the same call goes on with them.", file=sys.stderr)
    empty = [axis for axis, result in results.items() if not result.pairs]
    if empty:
        print(f"pwff: No pair on {' and '.join(empty)} was agreed on; the table says why.", file=sys.stderr)
    print(f"--reward.helpful-source {files[0]} --reward.harmless-source {files[1]} trains on them.", file=sys.stderr)
    return 1 if asked.stopped or empty else 0
