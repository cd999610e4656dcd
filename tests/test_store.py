from __future__ import annotations

import math
import os
import re
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pwff_core import liveness, store
from pwff_core.config import ChannelConfig, RunConfig, preset_config
from pwff_core.errors import StoreError
from pwff_core.liveness import Process
from pwff_core.records import RoundRecord
from pwff_core.store import RunStatus, Store
from tests.scripted import profile, record

CONFIG = RunConfig(clients=2)
ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "runs.sqlite"


def sql(path: Path, statement: str) -> None:
    connection = sqlite3.connect(path)
    with connection:
        connection.execute(statement)
    connection.close()


# what goes in comes out


def test_a_run_from_beginning_to_end(path: Path) -> None:
    engine, page = Store(path), Store(path, readonly=True)
    before = time.time()
    run_id = engine.create_run(CONFIG, "first try")
    queued = page.run(run_id)
    assert (queued.status, queued.rounds_done, queued.rounds_total) == (RunStatus.QUEUED, 0, 16 + 4 + 7)
    assert (queued.name, queued.config, queued.pid, queued.deleted) == ("first try", CONFIG, None, False)
    assert before <= queued.created_at <= time.time()

    engine.claim(run_id)
    engine.describe(run_id, (profile(0), profile(1)), ("cut – 3",), 2)
    engine.append(run_id, record(1))
    running = page.run(run_id)
    assert (running.status, running.pid, running.rounds_done) == (RunStatus.RUNNING, os.getpid(), 1)
    assert (running.profiles, running.notes, running.rounds_total) == ((profile(0), profile(1)), ("cut – 3",), 2)
    assert running.heartbeat_at is not None and running.heartbeat_at >= before

    engine.append(run_id, record(2))
    engine.finish(run_id, RunStatus.FINISHED)
    assert page.run(run_id).status is RunStatus.FINISHED
    assert [found for _, found in page.rounds(run_id)] == [record(1), record(2)]


def test_rounds_come_in_increments_and_by_run(path: Path) -> None:
    engine = Store(path)
    one, other = engine.create_run(CONFIG), engine.create_run(CONFIG)
    for number in (1, 2, 3):
        engine.append(one, record(number))
        engine.append(other, record(10 * number))
    seen = engine.rounds(one)
    assert [found.round for _, found in seen] == [1, 2, 3]
    assert engine.rounds(one, after=seen[1][0]) == [seen[2]]
    assert engine.rounds(one, after=seen[2][0]) == []
    assert engine.rounds("nosuchrun") == []


def test_runs_are_listed_newest_first(path: Path) -> None:
    engine = Store(path)
    ids = [engine.create_run(CONFIG, name) for name in "abc"]
    assert [row.id for row in engine.runs()] == ids[::-1]


def test_run_ids_fit_an_address_and_an_argument(path: Path) -> None:
    engine = Store(path)
    ids = {engine.create_run(CONFIG) for _ in range(20)}
    assert len(ids) == 20
    assert all(re.fullmatch(r"[a-z2-9]{8}", run_id) for run_id in ids)


def test_a_config_with_an_infinite_deadline_comes_back(path: Path) -> None:
    engine = Store(path)
    config = preset_config("paper").model_copy(update={"channel": ChannelConfig(deadline_s=math.inf, snr_db=-3.25)})
    assert engine.run(engine.create_run(config)).config == config


numbers = st.none() | st.floats(allow_nan=False)
records = st.builds(
    RoundRecord, run=st.text(st.characters(codec="utf-8"), max_size=8), method=st.sampled_from(["pwff", "local"]),
    stage=st.sampled_from(["instruction", "reward"]), round=st.integers(1, 10**6), accuracy=numbers, loss=numbers,
    delay_s=st.floats(allow_nan=False), uplink_bits=st.integers(0, 2**63), clients=st.just(record(1).clients),
)  # fmt: skip


@pytest.fixture(scope="module")
def shared_store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("shared") / "runs.sqlite")


@given(written=st.lists(records, max_size=4))
@settings(deadline=None, max_examples=30)  # the disk has its own time
def test_any_record_comes_back_as_it_was(shared_store: Store, written: list[RoundRecord]) -> None:
    run_id = shared_store.create_run(CONFIG)
    for one in written:
        shared_store.append(run_id, one)
    assert [found for _, found in shared_store.rounds(run_id)] == written
    assert shared_store.run(run_id).rounds_done == len(written)


def test_text_that_utf8_cannot_hold_is_replaced(path: Path) -> None:
    engine = Store(path)
    assert engine.run(engine.create_run(CONFIG, "caf\udce9")).name == "caf?"


# who may do what


def test_a_claimed_run_cannot_be_claimed_again(path: Path) -> None:
    engine = Store(path)
    run_id = engine.create_run(CONFIG)
    engine.claim(run_id)
    with pytest.raises(
        StoreError, match=rf"^Run {run_id} is running already \(process {os.getpid()}\); start a new run"
    ):
        engine.claim(run_id)


@pytest.mark.parametrize("status", [RunStatus.FINISHED, RunStatus.STOPPED, RunStatus.FAILED])
def test_an_ended_run_cannot_be_claimed(path: Path, status: RunStatus) -> None:
    engine = Store(path)
    run_id = engine.create_run(CONFIG)
    engine.claim(run_id)
    engine.finish(run_id, status)
    with pytest.raises(StoreError, match=f"is {status.value} already"):
        engine.claim(run_id)


def test_only_one_of_many_claims_succeeds(path: Path) -> None:
    engine = Store(path)
    run_id = engine.create_run(CONFIG)
    won, together = [], threading.Barrier(8)

    def claim() -> None:
        together.wait()
        try:
            engine.claim(run_id)
            won.append(1)
        except StoreError:
            pass

    threads = [threading.Thread(target=claim) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert won == [1]


def test_stop_is_asked_through_a_readonly_store_and_only_for_that_run(path: Path) -> None:
    engine, page = Store(path), Store(path, readonly=True)
    one, other = engine.create_run(CONFIG), engine.create_run(CONFIG)
    assert not engine.stop_requested(one)
    page.request_stop(one)
    assert engine.stop_requested(one)
    assert not engine.stop_requested(other)


def test_commands_lie_in_a_file_of_their_own(path: Path) -> None:
    engine = Store(path)
    run_id = engine.create_run(CONFIG)
    blocker = sqlite3.connect(path, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")  # a worker in the middle of writing
    engine.request_stop(run_id)
    blocker.execute("ROLLBACK")
    blocker.close()
    assert engine.commands_path == path.with_name("runs.commands.sqlite")
    assert engine.stop_requested(run_id)


def test_a_deleted_run_leaves_the_list_and_keeps_its_rounds(path: Path) -> None:
    engine = Store(path)
    run_id = engine.create_run(CONFIG)
    engine.append(run_id, record(1))
    engine.delete(run_id)
    assert engine.runs() == []
    assert engine.run(run_id).deleted
    assert [found for _, found in engine.rounds(run_id)] == [record(1)]
    with pytest.raises(StoreError, match="is deleted"):
        engine.claim(run_id)


def test_a_running_run_is_not_deleted(path: Path) -> None:
    engine = Store(path)
    run_id = engine.create_run(CONFIG)
    engine.claim(run_id)
    with pytest.raises(StoreError, match="stop it before you delete it"):
        engine.delete(run_id)
    assert not engine.run(run_id).deleted


def test_a_readonly_store_changes_nothing(path: Path) -> None:
    run_id = Store(path).create_run(CONFIG)
    page = Store(path, readonly=True)
    for change in (lambda: page.create_run(CONFIG), lambda: page.claim(run_id), lambda: page.append(run_id, record(1))):
        with pytest.raises(StoreError, match="opened for reading only"):
            change()


@pytest.mark.parametrize("run_id", ["nosuchid", "", "A B", "x' OR '1'='1", "caf\udce9", "../../etc", "z" * 500])
def test_an_id_without_a_run_is_one_sentence(path: Path, run_id: str) -> None:
    page = Store(path, readonly=True)
    calls: list[Callable[[], object]] = [lambda: page.run(run_id), lambda: page.request_stop(run_id)]
    for call in calls:
        with pytest.raises(
            StoreError, match="^There is no run ['\"].{0,60} in .*; `pwff runs` lists those there are.$"
        ):
            call()


# dead workers


def running(path: Path, process: Process, rounds: int) -> store.RunRow:
    engine = Store(path)
    run_id = engine.create_run(CONFIG)
    engine.claim(run_id)
    for number in range(1, rounds + 1):
        engine.append(run_id, record(number))
    sql(path, f"UPDATE runs SET pid = {process.pid}, process_started_at = {process.started_at}")
    return Store(path, readonly=True).run(run_id)


def test_a_run_whose_process_lives_is_running(path: Path) -> None:
    assert running(path, liveness.this_process(), 1).status is RunStatus.RUNNING


@pytest.mark.parametrize(
    ("rounds", "kept"), [(0, "no round was complete"), (1, "its 1 round is kept"), (7, "its 7 rounds are kept")]
)
def test_a_run_whose_process_is_gone_reads_as_failed(path: Path, rounds: int, kept: str) -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    row = running(path, Process(child.pid, time.time()), rounds)
    assert row.status is RunStatus.FAILED
    assert row.message == f"The engine stopped without a word (process {child.pid} is gone); {kept}."
    assert len(Store(path).rounds(row.id)) == rounds
    assert [found.status for found in Store(path).runs()] == [RunStatus.FAILED]


def test_another_process_with_the_same_id_is_not_the_worker(path: Path) -> None:
    mine = liveness.this_process()
    assert running(path, Process(mine.pid, mine.started_at - 3600), 2).status is RunStatus.FAILED


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no zombies")
def test_a_zombie_is_not_alive() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    import psutil

    process = Process(child.pid, psutil.Process(child.pid).create_time())
    assert liveness.alive(process)
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and nobody has asked for its exit code yet
    assert not liveness.alive(process)
    child.communicate()
    assert not liveness.alive(process)


def test_a_queued_run_that_nobody_takes_has_failed_after_a_minute(path: Path) -> None:
    engine = Store(path)
    run_id = engine.create_run(CONFIG)
    sql(path, "UPDATE runs SET created_at = created_at - 59")
    assert engine.run(run_id).status is RunStatus.QUEUED
    sql(path, "UPDATE runs SET created_at = created_at - 2")
    row = engine.run(run_id)
    assert (row.status, row.message) == (
        RunStatus.FAILED,
        "The engine did not start within 60 s; start the run again.",
    )
    engine.claim(run_id)  # a worker that was only slow may still take it
    assert engine.run(run_id).status is RunStatus.RUNNING


# files that cannot be used: one sentence, with the path and what to do


def refusal(path: Path, *, readonly: bool = False) -> str:
    with pytest.raises(StoreError) as caught:
        Store(path, readonly=readonly, patience_s=0.05)
    sentence = str(caught.value)
    assert str(path) in sentence or str(path.parent) in sentence
    assert "\n" not in sentence and sentence.endswith(".") and "$PWFF_STORE" in sentence and "--store" in sentence
    return sentence


@pytest.mark.parametrize("readonly", [False, True])
@pytest.mark.parametrize("content", [b"accuracy,loss\n0.5,1.2\n" * 100, b"\x00" * 5000, b"{}"])
def test_a_file_that_is_not_sqlite(path: Path, content: bytes, readonly: bool) -> None:
    path.write_bytes(content)
    assert "not an SQLite file" in refusal(path, readonly=readonly)
    assert path.read_bytes() == content


@pytest.mark.parametrize("readonly", [False, True])
def test_an_sqlite_file_of_another_program_is_left_alone(path: Path, readonly: bool) -> None:
    sql(path, "CREATE TABLE addresses (name)")
    before = path.read_bytes()
    assert "of another program" in refusal(path, readonly=readonly)
    assert path.read_bytes() == before


@pytest.mark.parametrize("readonly", [False, True])
def test_a_store_of_a_newer_version(path: Path, readonly: bool) -> None:
    Store(path)
    sql(path, "PRAGMA user_version = 2")
    assert "written by a newer pwff (format 2; this one reads up to 1); upgrade pwff" in refusal(
        path, readonly=readonly
    )


def test_a_run_of_another_version_is_left_out_of_the_list(path: Path) -> None:
    engine = Store(path)
    new, old = engine.create_run(CONFIG), engine.create_run(CONFIG)
    sql(path, f"UPDATE runs SET config = replace(config, 'snr_db', 'snr') WHERE id = '{old}'")
    assert [row.id for row in engine.runs()] == [new]
    with pytest.raises(
        StoreError, match=f"^Run {old} in .* was written by another version of pwff; open it with that.$"
    ):
        engine.run(old)


def test_a_folder_in_the_place_of_the_file(tmp_path: Path) -> None:
    assert "is a folder, not a store; name a file in it" in refusal(tmp_path)
    assert "is a folder" in refusal(tmp_path, readonly=True)


@pytest.mark.parametrize("readonly", [False, True])
def test_a_path_below_a_file(tmp_path: Path, readonly: bool) -> None:
    (tmp_path / "file").write_text("in the way")
    assert "folder" in refusal(tmp_path / "file" / "runs.sqlite", readonly=readonly)


def test_a_missing_folder_and_a_missing_file_are_made(tmp_path: Path) -> None:
    assert Store(tmp_path / "a b" / "ü%3f#" / "runs.sqlite", readonly=True).runs() == []
    assert (tmp_path / "a b" / "ü%3f#" / "runs.sqlite").is_file()


def test_a_locked_store(path: Path) -> None:
    run_id = Store(path).create_run(CONFIG)
    blocker = sqlite3.connect(path, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    assert "is locked by another program; close that program and try again" in refusal(path)
    assert Store(path, readonly=True).run(run_id).id == run_id  # a page reads on while somebody writes
    blocker.execute("ROLLBACK")
    blocker.close()
    Store(path)


def test_a_store_that_is_damaged_behind_its_header(path: Path) -> None:
    engine = Store(path)
    for _ in range(20):
        engine.create_run(CONFIG)
    sql(path, "PRAGMA wal_checkpoint(TRUNCATE)")
    content = path.read_bytes()
    path.write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))
    with pytest.raises(StoreError, match=r"cannot be used \(database disk image is malformed\); choose another file"):
        Store(path).runs()


@pytest.fixture
def unprivileged() -> Iterator[Path]:
    """A folder outside pytest's own, as a user whom file permissions stop (they do not stop root)."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        root = sys.platform != "win32" and os.geteuid() == 0
        if root:
            os.chown(folder, 65534, 65534)
            os.seteuid(65534)
        try:
            yield folder
        finally:
            if root:
                os.seteuid(0)
            folder.chmod(0o755)


posix_permissions = pytest.mark.skipif(sys.platform == "win32", reason="chmod does not protect folders on Windows")


@posix_permissions
def test_a_read_only_store(unprivileged: Path) -> None:
    path = unprivileged / "runs.sqlite"
    run_id = Store(path).create_run(CONFIG)
    path.chmod(0o444)
    assert "is read-only; allow writing to it" in refusal(path)
    assert Store(path, readonly=True).run(run_id).id == run_id


@posix_permissions
def test_a_read_only_folder(unprivileged: Path) -> None:
    unprivileged.chmod(0o555)
    assert "cannot be opened; check that it is there and that its folder allows writing" in refusal(
        unprivileged / "runs.sqlite"
    )
    assert "cannot be made (Permission denied)" in refusal(unprivileged / "sub" / "runs.sqlite")


# processes


WRITER = """
import sys
from pathlib import Path
from pwff_core.config import RunConfig
from pwff_core.store import Store
from tests.scripted import record
store = Store(Path(sys.argv[1]))
input()
run_id = store.create_run(RunConfig(clients=2), sys.argv[2])
for number in range(1, 41):
    store.append(run_id, record(number, run_id))
"""


def test_two_processes_write_while_this_one_reads(path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", WRITER, str(path)]
    writers = [subprocess.Popen([*command, name], stdin=subprocess.PIPE, env=environment) for name in ("one", "two")]
    page = Store(path, readonly=True)  # three processes may each be the first to make the file
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write(b"\n")
        writer.stdin.close()
    seen: dict[str, list[int]] = {}
    last: dict[str, int] = {}
    while any(writer.poll() is None for writer in writers) or not seen:
        _follow(page, seen, last)
    _follow(page, seen, last)
    assert [writer.wait() for writer in writers] == [0, 0]
    assert {page.run(run_id).name: rounds for run_id, rounds in seen.items()} == dict.fromkeys(
        ("one", "two"), [*range(1, 41)]
    )


def _follow(page: Store, seen: dict[str, list[int]], last: dict[str, int]) -> None:
    """What a page does each second."""
    for row in page.runs():
        for row_id, found in page.rounds(row.id, after=last.get(row.id, 0)):
            assert found.run == row.id
            seen.setdefault(row.id, []).append(found.round)
            last[row.id] = row_id
