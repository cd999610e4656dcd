"""`pwff resume` and `pwff fork`: runs that go on, and the errors for those that cannot."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from pwff_core import cli
from pwff_core.config import STEERABLE
from pwff_core.engine.worker.catch_up import RESUMING
from pwff_core.records import RoundRecord
from pwff_core.runs.store import RunStatus, Store
from tests.support.cli_output import FIVE_ROUNDS, SHORT, error_line, forkable, play_with
from tests.support.scripted import ScriptedEngine, played, record


def interrupted_at(monkeypatch: pytest.MonkeyPatch, path: Path, number: int) -> str:
    """The id of a run of three rounds that Ctrl-C stopped in that round; what plays afterwards is not stopped."""
    play_with(monkeypatch, ScriptedEngine(lambda n: signal.raise_signal(signal.SIGINT) if n == number else None))
    assert cli.main(["run", *SHORT]) == 130
    play_with(monkeypatch, ScriptedEngine())
    return Store(path).runs()[0].id


# resume


def test_resume_goes_on_where_the_run_stood(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_id = interrupted_at(monkeypatch, path, 3)
    assert f"`pwff resume {run_id}` goes on with it." in capsys.readouterr().err
    assert cli.main(["resume"]) == 0  # the latest
    output = capsys.readouterr()
    row = Store(path).run(run_id)
    assert (row.status, row.rounds_done) == (RunStatus.FINISHED, 3)
    assert [played_round for _, played_round in Store(path).rounds(run_id)] == [record(n, run_id) for n in (1, 2, 3)]
    assert "67%" in output.err and "2/3" in output.err and "3/3" in output.err  # the bar begins where the run stood
    table = [" ".join(line.split()) for line in output.out.splitlines()]
    assert "Delay 2.00 s 2.00 s 6.00 s" in table  # of all rounds
    assert f"Run {run_id} is finished;" in output.err


def test_the_bar_says_that_rounds_are_played_again(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_id = interrupted_at(monkeypatch, path, 3)
    (path.parent / "checkpoints" / run_id / "00002.json").unlink()
    capsys.readouterr()
    outputs: list[tuple[str, str]] = []  # of `pwff runs` and of the bar, in each round

    def list_runs(number: int) -> None:
        cli.main(["runs"])
        table, bar = capsys.readouterr()
        outputs.append((table, bar))

    play_with(monkeypatch, ScriptedEngine(list_runs))
    assert cli.main(["resume", run_id]) == 0
    (table_2, bar_2), (table_3, bar_3) = outputs
    catching_up = "Catching up: round 2 of the 2 that are kept is played again; then the run goes on."
    assert catching_up in table_2 and catching_up not in table_3
    assert bar_2.index(RESUMING) < bar_2.index(catching_up) and catching_up not in bar_3
    assert "instruction: accuracy 3.0 %" in capsys.readouterr().err


def test_resume_json_is_one_object_a_new_round(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_id = interrupted_at(monkeypatch, path, 2)
    capsys.readouterr()
    assert cli.main(["resume", run_id[:5], "--json"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [RoundRecord.model_validate_json(line).round for line in lines] == [2, 3]


def test_ctrl_c_in_a_resumed_run_says_how_to_resume_it(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_id = interrupted_at(monkeypatch, path, 1)
    play_with(monkeypatch, ScriptedEngine(lambda n: signal.raise_signal(signal.SIGINT) if n == 3 else None))
    assert cli.main(["resume", run_id]) == 130
    assert f"They are kept as run {run_id}; `pwff resume {run_id}` goes on with it." in capsys.readouterr().err
    assert Store(path).run(run_id).rounds_done == 2


def test_a_finished_run_is_not_resumed(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_id = played(Store(path), FIVE_ROUNDS)
    assert error_line(capsys, "resume", run_id) == (
        f"Run {run_id} is finished (3 of 3 rounds), so nothing is left to play; `pwff fork {run_id}` goes on from an "
        "earlier round with other settings."
    )


def test_a_run_that_plays_is_not_resumed(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = Store(path)
    run_id = store.create_run(FIVE_ROUNDS)
    store.claim(run_id)
    where = f"Run {run_id} plays already, in process {os.getpid()} (0 of {store.run(run_id).rounds_total} rounds);"
    assert error_line(capsys, "resume", run_id) == f"{where} `pwff app` shows it."
    store.set_status(run_id, RunStatus.PAUSED)
    error = error_line(capsys, "resume", run_id)
    assert error == f"{where} it is paused: press Resume on the Live page (`pwff app`)."


def test_a_queued_run_is_not_resumed(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = Store(path)
    waiting, begun = store.create_run(FIVE_ROUNDS, in_queue=True), store.create_run(FIVE_ROUNDS)
    assert error_line(capsys, "resume", waiting) == (
        f"Run {waiting} waits in the queue and starts when its turn comes; `pwff runs` tells where it stands, "
        "`pwff app` shows it."
    )
    assert "has been launched and starts soon" in error_line(capsys, "resume", begun)


@pytest.mark.parametrize("command", ["resume", "fork"])
def test_an_unknown_run_names_the_newest(path: Path, capsys: pytest.CaptureFixture[str], command: str) -> None:
    assert error_line(capsys, command) == f"There is no run 'latest' in {path}; there are none yet."
    run_id = Store(path).create_run(FIVE_ROUNDS)
    error = error_line(capsys, command, "nosuchid")
    assert error == f"There is no run 'nosuchid' in {path}; the newest are {run_id}."


# fork


def test_fork_plays_a_new_run_from_the_latest_checkpoint(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parent = forkable(path)
    assert cli.main(["fork", parent, "--channel.snr-db", "12", "--name", "louder", "--json"]) == 0
    output = capsys.readouterr()
    store = Store(path)
    row = store.runs()[0]
    assert (row.parent, row.forked_at, row.name, row.status) == (parent, 3, "louder", RunStatus.FINISHED)
    assert [RoundRecord.model_validate_json(line).round for line in output.out.splitlines()] == [4, 5]
    assert f"Run {row.id} goes on from round 3 of run {parent}." in output.err
    (steering,) = store.steerings(row.id)
    assert (steering.position, steering.changes) == (4, {"channel.snr_db": 12.0})
    assert store.run(parent).rounds_done == 3  # as it was


def test_fork_after_a_given_round(path: Path) -> None:
    parent = forkable(path)
    assert cli.main(["fork", parent, "--after", "1", "--channel.fading", "awgn"]) == 0
    row = Store(path).runs()[0]
    assert (row.forked_at, row.rounds_done) == (1, 5)


def test_list_prints_the_rounds_to_fork_after(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_id = forkable(path)
    assert cli.main(["fork", run_id, "--list"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ["after", "round", "size", "written"]
    assert [line[:5] for line in lines[2:]] == [
        ["1", "instruction", "1", "1.00", "kB"],
        ["3", "instruction", "3", "3.00", "kB"],
    ]
    assert cli.main(["fork", run_id, "--list", "--json"]) == 0
    points = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(point["position"], point["stage"], point["round"], point["size"]) for point in points] == [
        (1, "instruction", 1, 1000),
        (3, "instruction", 3, 3000),
    ]
    assert len(Store(path).runs()) == 1


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ("--after 2", "Run {id} cannot be forked after round 2; it can be forked after round 1, 3."),
        (
            "--after last",
            "--after: 'last' is not allowed; give latest, or a round as `pwff fork {id} --list` counts them.",
        ),
        ("--channel.snr-db 200", "channel.snr_db: 200 is not allowed; give a number from -30 to 60 dB."),
        (
            "--clients 5",
            "--clients cannot be changed in a fork, as it shares rounds; what can be is "
            + ", ".join(f"--{path.replace('_', '-')}" for path in STEERABLE)
            + ".",
        ),
        (
            "--channel.snr 5",
            "Unknown flag --channel.snr; did you mean --channel.snr-db? `pwff fork --help` lists all flags.",
        ),
    ],
)
def test_a_fork_that_is_refused_adds_no_run(
    path: Path, capsys: pytest.CaptureFixture[str], words: str, error: str
) -> None:
    run_id = forkable(path)
    assert error_line(capsys, "fork", run_id, *words.split()) == error.format(id=run_id)
    assert [row.id for row in Store(path).runs()] == [run_id]


def test_a_run_without_checkpoints_cannot_be_forked(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_id = played(Store(path), FIVE_ROUNDS)
    error = f"Run {run_id} cannot be forked: it keeps no checkpoint that a round is left to play after."
    assert error_line(capsys, "fork", run_id) == error
    assert cli.main(["fork", run_id, "--list"]) == 0
    assert capsys.readouterr().out == f"{error}\n"
