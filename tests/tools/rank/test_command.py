"""`pwff rank` from prompts to files: its requests, its cache, its files and its output."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pwff_core import cli
from pwff_core.data.preference_files import read_pairs
from pwff_core.data.preferences import Pair
from pwff_core.tools.rank.client import RETRIES
from pwff_core.tools.rank.requests import MAX_FAILED, MAX_UNREADABLE
from tests.support.ranking_samples import PROMPTS, responses
from tests.support.ranking_server import TOKENS_IN, TOKENS_OUT, Arrived, Fault, Loopback, failure

KEPT = "What was ranked is kept; the same call goes on from there."


def summary(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    return content


def last_line(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().err.splitlines()[-1]


# files


def test_reward_learning_reads_the_pairs_of_a_fair_model(
    words: list[str], loopback: Loopback, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([*words, "--price-in", "2", "--price-out", "10"]) == 0
    to = tmp_path / "to"
    better = {prompt: responses(prompt)[::-1] for prompt in PROMPTS}  # the longer one first
    helpful, left_out = read_pairs(str(to / "helpfulness.jsonl"), 100)
    assert left_out == []
    assert sorted(helpful) == sorted(Pair(prompt, *both) for prompt, both in better.items())
    harmless, _ = read_pairs(str(to / "harmlessness.jsonl"), 100)
    assert sorted(harmless) == sorted(Pair(prompt, *both[::-1]) for prompt, both in better.items())
    assert len(loopback.comparisons) == len(set(loopback.comparisons)) == 16
    swapped = {arrived._replace(first=arrived.second, second=arrived.first) for arrived in loopback.comparisons}
    assert swapped == set(loopback.comparisons)
    output = capsys.readouterr()
    lines = [line.split() for line in output.out.splitlines()]
    assert lines[2] == ["helpfulness", "4", "4", "0", "0", "0", "0", "0", "0", "50", "%"]
    assert lines[3] == ["harmlessness", "4", "4", "0", "0", "0", "0", "0", "0", "50", "%"]
    assert f"16 requests to small at {loopback.url.removesuffix('/v1')} with about " in output.err
    assert "Verdicts: 100%" in output.err and "16/16" in output.err
    assert output.err.splitlines()[-1] == (
        f"--reward.helpful-source {to / 'helpfulness.jsonl'} --reward.harmless-source {to / 'harmlessness.jsonl'} "
        "trains on them."
    )


def test_the_summary_counts_comparisons_tokens_and_cost(words: list[str], loopback: Loopback, tmp_path: Path) -> None:
    loopback.verdict = lambda comparison: "T" if comparison.prompt == "Why?" else "A"
    assert cli.main([*words, "--price-in", "2", "--price-out", "10", "--seed", "3"]) == 1
    content = summary(tmp_path / "to")
    axis = {
        "compared": 4,
        "agreed": 0,
        "dropped": {
            "tie": 1, "disagreed": 3, "unreadable": 0, "circular": 0, "unanswered": 0, "not asked": 0,
        },
        "first_share": 1.0,
    }  # fmt: skip
    assert content["axes"] == {"helpfulness": axis, "harmlessness": axis}
    assert content["requests"] == {"this call": 16, "verdicts in all": 16}
    assert content["tokens"] == {"in": 16 * TOKENS_IN, "out": 16 * TOKENS_OUT, "verdicts without a count": 0}
    assert content["cost"] == (1600 * 2 + 16 * 10) / 1e6
    assert (content["model"], content["prompts"], content["settings"]["seed"]) == ("small", 4, 3)
    assert content["server"] == loopback.url.removesuffix("/v1")
    assert content["versions"]["openai"].startswith("3.")
    assert "less harmful" in content["instructions"]["harmlessness"]
    assert content["stopped"] is None


def test_a_model_that_always_says_a_leaves_no_pair(
    words: list[str], loopback: Loopback, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    loopback.verdict = lambda comparison: "A"
    assert cli.main(words) == 1
    output = capsys.readouterr()
    assert "pwff: No pair on helpfulness and harmlessness was agreed on; the table says why.\n" in output.err
    assert output.out.splitlines()[2].split() == ["helpfulness", "4", "0", "0", "4", "0", "0", "0", "0", "100", "%"]
    assert (tmp_path / "to" / "helpfulness.jsonl").read_bytes() == b""
    assert len(loopback.bodies) == 16


def test_more_candidates_are_all_compared(words: list[str], loopback: Loopback, tmp_path: Path) -> None:
    assert cli.main([*words, "--candidates", "3", "--prompts", "2"]) == 0
    assert len(loopback.bodies) == 2 * 2 * 3 * 2  # prompts, axes, pairs of three, positions
    assert len(read_pairs(str(tmp_path / "to" / "helpfulness.jsonl"), 100)[0]) == 6


# a later call


def test_a_second_call_sends_no_request_twice(
    words: list[str], loopback: Loopback, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([*words, "--limit", "5", "--parallel", "1"]) == 0
    assert "pwff: 6 comparisons are left; the same call goes on with them.\n" in capsys.readouterr().err
    first = summary(tmp_path / "to")
    assert len(loopback.bodies) == first["requests"]["this call"] == 5
    assert sum(axis["dropped"]["not asked"] for axis in first["axes"].values()) == 6  # of 8; two are through
    assert cli.main(words) == 0
    assert len(loopback.comparisons) == len(set(loopback.comparisons)) == 16
    assert summary(tmp_path / "to")["requests"] == {"this call": 11, "verdicts in all": 16}
    capsys.readouterr()
    assert cli.main([word for word in words if word != "--yes"]) == 0  # nothing to agree to
    assert len(loopback.bodies) == 16
    assert "requests to" not in capsys.readouterr().err


def test_unreadable_answers_are_requested_again_only_with_more_room(
    words: list[str], loopback: Loopback, tmp_path: Path
) -> None:
    loopback.verdict = lambda comparison: "Hm." if comparison.prompt == "Why?" else "T"
    assert cli.main(words) == 1
    assert cli.main(words) == 1
    assert len(loopback.bodies) == 16
    loopback.verdict = lambda comparison: "T"
    assert cli.main([*words, "--verdict-tokens", "4000"]) == 1
    assert {body["max_tokens"] for body in loopback.bodies[16:]} == {4000}
    assert [comparison.prompt for comparison in loopback.comparisons[16:]] == ["Why?"] * 4
    assert summary(tmp_path / "to")["axes"]["helpfulness"]["dropped"]["tie"] == 4


def test_another_model_gets_requests_of_its_own(words: list[str], loopback: Loopback) -> None:
    assert cli.main(words) == 0
    assert cli.main([*words, "--model", "large"]) == 0
    assert [body["model"] for body in loopback.bodies] == ["small"] * 16 + ["large"] * 16


@pytest.fixture
def default_interrupt() -> Iterator[None]:
    """Ctrl-C interrupts, also where the tests were started in the background, which ignores it."""
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, previous)


@pytest.mark.skipif(os.name != "posix", reason="Ctrl-C is a signal")
@pytest.mark.usefixtures("default_interrupt")
def test_ctrl_c_keeps_the_verdicts(
    words: list[str], loopback: Loopback, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(comparison: Arrived) -> str:
        if len(loopback.bodies) == 6:
            os.kill(os.getpid(), signal.SIGINT)
        return "T"

    loopback.verdict = interrupt
    assert cli.main([*words, "--parallel", "1"]) == 130
    output = capsys.readouterr().err
    assert f"pwff: Stopped by Ctrl-C. {KEPT}\n" in output and "Traceback" not in output
    assert summary(tmp_path / "to")["stopped"] == "Stopped by Ctrl-C."
    verdicts = summary(tmp_path / "to")["requests"]["verdicts in all"]
    assert verdicts in (5, 6)  # the sixth may have come before the signal was seen
    assert cli.main(words) == 1  # ties alone
    assert len(loopback.bodies) - 6 == 16 - verdicts


# failures


def test_unreadable_answers_in_a_row_stop_it_with_a_summary(
    words: list[str], loopback: Loopback, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words += ["--candidates", "4", "--parallel", "1"]  # 96 requests
    loopback.verdict = lambda comparison: "A" if len(loopback.bodies) % 2 else "B"
    assert cli.main([*words, "--limit", "4"]) == 1
    loopback.verdict = lambda comparison: "I am a teapot."
    capsys.readouterr()
    assert cli.main(words) == 1
    assert len(loopback.bodies) == 4 + MAX_UNREADABLE
    assert (
        f"pwff: {MAX_UNREADABLE} answers in a row named neither A nor B nor a tie; the last one began "
        f"'I am a teapot.'. Choose another --model, or give it room with --verdict-tokens. {KEPT}\n"
    ) in capsys.readouterr().err
    content = summary(tmp_path / "to")
    assert content["axes"]["helpfulness"]["agreed"] == 2  # the four of the first call
    assert len(read_pairs(str(tmp_path / "to" / "helpfulness.jsonl"), 100)[0]) == 2


def test_a_server_that_never_answers_is_one_sentence_and_no_file(
    words: list[str], loopback: Loopback, tmp_path: Path, waits: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    loopback.always(failure(500, "Out of memory."))
    assert cli.main([*words, "--parallel", "1"]) == 2
    host = loopback.url.removesuffix("/v1")
    assert last_line(capsys) == f"pwff: {host} answered with status 500. It says: Out of memory."
    assert len(loopback.bodies) == RETRIES + 1
    assert sorted(file.name for file in (tmp_path / "to").iterdir()) == ["candidates.jsonl", "verdicts.jsonl"]


def test_failed_requests_are_counted_and_sent_again_by_the_next_call(
    words: list[str], loopback: Loopback, tmp_path: Path
) -> None:
    loopback.faults = {3: failure(400, "Filtered."), 9: Fault(200, b"hello")}
    assert cli.main([*words, "--parallel", "1"]) == 0
    axes = summary(tmp_path / "to")["axes"].values()
    assert sum(axis["dropped"]["unanswered"] for axis in axes) == 2
    assert sum(axis["agreed"] for axis in axes) == 6
    assert cli.main(words) == 0
    assert summary(tmp_path / "to")["requests"] == {"this call": 2, "verdicts in all": 16}
    assert sum(axis["agreed"] for axis in summary(tmp_path / "to")["axes"].values()) == 8


def test_failures_in_a_row_stop_it(
    words: list[str], loopback: Loopback, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    loopback.faults = dict.fromkeys(range(4, 100), Fault(200, b"hello"))
    assert cli.main([*words, "--parallel", "1"]) == 1
    assert len(loopback.bodies) == 4 + MAX_FAILED
    assert f"is no chat completion; is its address right? {KEPT}" in capsys.readouterr().err
    assert summary(tmp_path / "to")["stopped"].endswith("is its address right?")


def test_a_rate_limit_in_the_middle_keeps_the_verdicts(words: list[str], loopback: Loopback, tmp_path: Path) -> None:
    loopback.faults = {8: failure(429, "Tomorrow.", ("Retry-After", "86400"))}
    assert cli.main([*words, "--parallel", "1"]) == 1
    assert summary(tmp_path / "to")["requests"] == {"this call": 9, "verdicts in all": 8}
    assert cli.main(words) == 0
    assert len(loopback.bodies) == 9 + 8


def test_no_more_requests_than_allowed_are_under_way(words: list[str], loopback: Loopback) -> None:
    assert cli.main([*words, "--parallel", "3"]) == 0
    assert 1 <= loopback.most_at_once <= 3
    assert len(set(loopback.comparisons)) == 16
