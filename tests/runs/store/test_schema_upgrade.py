"""Schema upgrade: an older store is upgraded in one transaction, after a backup; a newer one is refused."""

from __future__ import annotations

import hashlib
import signal
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from pwff_core.errors import StoreError
from pwff_core.runs import processes
from pwff_core.runs.store import RunStatus, Store, connections, schema
from tests.support.older_stores import CONFIG, STEERING, contents, older
from tests.support.scripted import record
from tests.support.store_tables import sql

VERSIONS = [1, 2]


def commands_of(path: Path) -> Path:
    return path.with_name("runs.commands.sqlite")


def test_released_schema_steps_never_change() -> None:
    """Stores in use were made by exactly these steps."""
    steps = [*schema.RUNS[:2], *schema.COMMANDS[:2]]
    digests = [hashlib.blake2b(step.encode(), digest_size=4).hexdigest() for step in steps]
    assert digests == ["f6f580cc", "28223cb1", "a5ec8976", "3ff91ab8"]


@pytest.mark.parametrize("readonly", [False, True])
@pytest.mark.parametrize("version", VERSIONS)
def test_an_upgraded_store_keeps_its_runs(path: Path, version: int, readonly: bool) -> None:
    older(path, version)
    store = Store(path, readonly=readonly)
    assert {row.id: row.rounds_done for row in store.runs()} == {"finished": 3, "stopped": 2, "forgotten": 0}
    assert [record for _, record in store.rounds("finished")] == [record(number, "finished") for number in (1, 2, 3)]
    assert store.steerings("finished") == ([STEERING] if version > 1 else [])
    row = store.run("stopped")
    assert (row.status, row.name, row.parent, row.forked_at, row.owner) == ("stopped", "my stopped", "", 0, "")
    assert store.pending("forgotten") == {"stop"}
    waiting = store.run("forgotten")
    assert waiting.status is (RunStatus.QUEUED if version > 1 else RunStatus.FAILED)
    assert [row.id for row in store.queue()] == (["forgotten"] if version > 1 else [])
    assert store.run("deleted").deleted


@pytest.mark.parametrize("version", VERSIONS)
def test_an_upgraded_store_can_be_used(path: Path, version: int) -> None:
    older(path, version)
    store = Store(path)
    store.requeue("stopped", in_queue=False)
    store.claim("stopped")
    store.append("stopped", record(3, "stopped"))
    child = store.fork("finished", 2, {"channel.snr_db": 0.0}, in_queue=True)
    assert [record.round for _, record in store.rounds("stopped")] == [1, 2, 3]
    assert [record.round for _, record in store.rounds(child)] == [1, 2]
    assert store.queue()[-1].id == child  # behind the runs in the queue
    store.restore("deleted")
    assert "deleted" in [row.id for row in store.runs()]


@pytest.mark.parametrize("version", VERSIONS)
def test_an_upgrade_leaves_a_backup(path: Path, version: int) -> None:
    older(path, version)
    before, commands_before = contents(path), contents(commands_of(path))
    store = Store(path, readonly=True)
    backup = path.with_name(f"runs.v{version}-backup.sqlite")
    command_backups = (
        [path.with_name(f"runs.commands.v{version}-backup.sqlite")] if version < len(schema.COMMANDS) else []
    )
    assert store.renewed == [backup, *command_backups]
    assert contents(backup) == before
    assert all(contents(file) == commands_before for file in command_backups)
    with closing(sqlite3.connect(backup)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (version,)
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert Store(path).renewed == []  # it was upgraded already
    assert (schema.backups(path), schema.backups(commands_of(path))) == ([backup], command_backups)
    names = {file.name for file in path.parent.iterdir()} - {f"{path.name}-wal", f"{path.name}-shm"}
    assert names == {path.name, commands_of(path).name, backup.name, *(file.name for file in command_backups)}


def test_a_backup_holds_what_is_in_the_log(path: Path) -> None:
    older(path, 2)
    with closing(sqlite3.connect(path)) as connection:  # an open connection keeps the log
        connection.execute("UPDATE runs SET name = 'late' WHERE id = 'stopped'")
        connection.commit()
        (backup,) = Store(path).renewed
        assert ("stopped", "late") in [row[:2] for row in contents(backup)["runs"]]


def test_a_backup_never_replaces_another(path: Path) -> None:
    older(path, 2)
    Store(path)
    for file in path.parent.glob("runs.sqlite*"):
        file.unlink()
    commands_of(path).unlink()
    older(path, 2)  # somebody has put it back, or used the older pwff
    assert [file.name for file in Store(path).renewed] == ["runs.v2-backup-2.sqlite"]
    assert [file.name for file in schema.backups(path)] == ["runs.v2-backup-2.sqlite", "runs.v2-backup.sqlite"]


def test_only_one_of_many_openers_upgrades_a_store(path: Path) -> None:
    older(path, 2)
    with ThreadPoolExecutor(8) as pool:
        stores = list(pool.map(lambda _: Store(path, readonly=True, timeout_s=60.0), range(8)))
    assert sum(len(store.renewed) for store in stores) == 1
    assert [len(store.runs()) for store in stores] == [3] * 8


def test_without_a_backup_there_is_no_upgrade(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    older(path, 2)
    before = contents(path)

    def full(source: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(schema, "sync", full)
    with pytest.raises(StoreError, match="was not renewed: a copy of it cannot be written .*No space left") as caught:
        Store(path)
    assert caught.value.passing
    assert contents(path) == before
    assert schema.backups(path) == [] and not list(path.parent.glob("*.new"))


DIES = """
import os, signal, sys
from pathlib import Path
from pwff_core.runs.store import Store, schema
moment = sys.argv[2]
if moment == "copying":
    schema.sync = lambda path: os.kill(os.getpid(), signal.SIGKILL)
else:
    class Step(str):
        def split(self, separator):
            statements = str.split(self, separator)
            yield from statements[: len(statements) if moment == "all" else int(moment)]
            os.kill(os.getpid(), signal.SIGKILL)
    runs = (*schema.RUNS[:2], Step(schema.RUNS[2]))
    from pwff_core.runs.store import store as module
    module.RUNS = runs
Store(Path(sys.argv[1]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
@pytest.mark.parametrize("moment", ["copying", "0", "3", "all"])
def test_an_upgrade_that_is_killed_leaves_the_store_as_it_was(path: Path, moment: str) -> None:
    older(path, 2)
    before = contents(path)
    command = [sys.executable, "-c", DIES, str(path), moment]
    process = subprocess.run(command, env=processes.environment(), timeout=120, check=False)
    assert process.returncode == -signal.SIGKILL
    assert contents(path) == before  # the older pwff can still use it
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (2,)
    store = Store(path)
    assert len(store.runs()) == 3 and len(store.renewed) == 1
    assert [record.round for _, record in store.rounds("finished")] == [1, 2, 3]


@pytest.mark.parametrize("readonly", [False, True])
@pytest.mark.parametrize(("name", "newest"), [("runs.sqlite", 3), ("runs.commands.sqlite", 2)])
def test_a_file_of_a_newer_version_is_refused_and_left_alone(
    path: Path, name: str, newest: int, readonly: bool
) -> None:
    store = Store(path)
    store.create_run(CONFIG)
    file = path.with_name(name)
    sql(file, f"PRAGMA user_version = {newest + 1}")
    before = file.read_bytes()
    refusal = f"was written by a newer pwff \\(format {newest + 1}; this one reads up to {newest}\\); upgrade pwff or "
    with pytest.raises(StoreError, match=refusal) as caught:
        Store(path, readonly=readonly)
    assert str(file) in str(caught.value) and not caught.value.passing
    assert file.read_bytes() == before


def test_store_errors_say_whether_they_pass(path: Path) -> None:
    store = Store(path, timeout_s=0.0)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="is locked by another program") as locked:
            store.create_run(CONFIG)
        other.execute("ROLLBACK")
    with (
        pytest.raises(StoreError, match="has no room left on its disk; make room") as full,
        connections.connected(path, "rw", 0.0) as connection,
    ):
        connection.execute("PRAGMA max_page_count = 1")
        connection.execute("CREATE TABLE filling (text)")
    with (
        pytest.raises(StoreError, match="is read-only; allow writing") as read_only,
        connections.connected(path, "ro", 0.0) as connection,
    ):
        connection.execute("DELETE FROM runs")
    for file in path.parent.glob("runs*"):
        file.unlink()
    with pytest.raises(StoreError, match="cannot be opened; check that it is there") as removed:
        store.create_run(CONFIG)
    assert [caught.value.passing for caught in (locked, full, read_only, removed)] == [True] * 4
    Store(path)
    with pytest.raises(StoreError, match="There is no run") as unknown:
        store.run("nosuchid")
    path.write_bytes(b"x" * 5000)
    with pytest.raises(StoreError, match="not an SQLite file") as other_file:
        store.runs()
    assert [caught.value.passing for caught in (unknown, other_file)] == [False] * 2
