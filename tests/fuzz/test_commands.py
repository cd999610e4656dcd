"""Any command to a run that plays is carried out or refused in a sentence, and no round is lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pwff_core.config import STEERABLE, RunConfig
from pwff_core.engine.worker import play_run
from pwff_core.errors import PwffError
from pwff_core.knobs import steered, with_changes
from pwff_core.runs.store import RunStatus, Store
from pwff_core.runs.store.commands import Commands
from tests.support import scripted
from tests.support.fuzz_cases import fuzzed
from tests.support.fuzz_material import is_a_sentence, numbers, texts, values

CONFIG = with_changes(
    RunConfig(), {"clients": 2, "instruction.rounds": 3, "reward.rounds": 0, "alignment.rounds": 0}
)  # fmt: skip
changes = st.dictionaries(
    st.one_of(st.sampled_from(STEERABLE), texts),
    st.one_of(values, numbers, st.tuples(st.floats(0, 1), st.floats(0, 1))),
    max_size=3,
)
viewers = st.one_of(st.sampled_from(["", "me", "you"]), texts)
commands = st.one_of(
    st.tuples(st.just("steer"), viewers, changes),
    st.tuples(st.sampled_from(["pause", "resume", "request_stop", "take_over", "rename", "cancel", "delete"]), viewers),
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(Path(tmp_path_factory.mktemp("commands")) / "runs.sqlite")


def send(store: Store, run_id: str, command: tuple[Any, ...]) -> None:
    kind, viewer, *rest = command
    method = getattr(store, kind)
    try:
        method(run_id, *([] if kind in ("cancel", "delete") else [viewer]), *rest)
    except PwffError as error:
        assert is_a_sentence(str(error), 40_000)


@given(sent=st.lists(commands, max_size=6))
@fuzzed(0.015, few=4)
def test_commands_lose_no_round(store: Store, sent: list[tuple[Any, ...]]) -> None:
    run_id = store.create_run(CONFIG)

    def before_round(number: int) -> None:
        for command in sent[number - 1 :: 3]:
            send(store, run_id, command)
        # past the lease, as nobody is there to end a pause
        Commands(store.commands_path, 5.0).post(run_id, "resume", "")

    engine = scripted.ScriptedEngine(before_round)
    yielded = [record.round for record in play_run(store, run_id, engine=engine)]
    row = store.run(run_id)
    assert row.status in (RunStatus.FINISHED, RunStatus.STOPPED)
    kept = [record.round for _, record in store.rounds(run_id)]
    assert kept == yielded == list(range(1, len(kept) + 1)) and row.rounds_done == len(kept)
    assert len(kept) == 3 or row.status is RunStatus.STOPPED
    config = steered(row.config, *(steering.changes for steering in store.steerings(run_id)))  # all are allowed
    assert config.clients == 2
    assert run_id in [row.id for row in store.runs()]
    store.delete(run_id)  # so that the next case's list is as short
