"""A store file that cannot be used is refused in one sentence, which says why and what to do."""

from __future__ import annotations

import codecs
import os
import sqlite3
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from pwff_core.config import RunConfig
from pwff_core.errors import StoreError
from pwff_core.runs.store import Store, schema
from pwff_core.runs.store.connections import connected
from tests.support.older_stores import older
from tests.support.store_tables import sql

CONFIG = RunConfig(clients=2)


def refusal(path: Path, *, readonly: bool = False) -> str:
    with pytest.raises(StoreError) as caught:
        Store(path, readonly=readonly, timeout_s=0.05)
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


def test_only_the_older_file_is_upgraded(path: Path) -> None:
    older(path, 1)
    path.unlink()
    Store(path).create_run(CONFIG)
    assert Store(path, readonly=True).lease("finished") is None


def test_an_upgrade_that_fails_leaves_the_store_as_it_was(path: Path) -> None:
    older(path, 1)
    with pytest.raises(StoreError, match="table runs already exists"):
        schema.prepare(path, (*schema.RUNS[:2], f"{schema.RUNS[2]}; CREATE TABLE runs (name)"), 5.0)
    assert len(Store(path).runs()) == 3  # the next upgrade succeeds


def test_a_run_with_unknown_settings_is_not_listed(path: Path) -> None:
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


def test_a_missing_folder_and_file_are_made(tmp_path: Path) -> None:
    assert Store(tmp_path / "a b" / "ü%3f#" / "runs.sqlite", readonly=True).runs() == []
    assert (tmp_path / "a b" / "ü%3f#" / "runs.sqlite").is_file()


def test_a_locked_store(path: Path) -> None:
    run_id = Store(path).create_run(CONFIG)
    blocker = sqlite3.connect(path, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    assert "is locked by another program; close that program and try again" in refusal(path)
    assert Store(path, readonly=True).run(run_id).id == run_id  # a page can read while another program writes
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
    """A folder outside pytest's own, with a user for whom file permissions hold (for root they do not)."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        root = sys.platform != "win32" and os.geteuid() == 0
        if root:
            codecs.lookup("ascii")  # loaded now: this user may not read Python's own files
            os.chown(folder, 65534, 65534)
            os.seteuid(65534)
        try:
            yield folder
        finally:
            if root:
                os.seteuid(0)
            folder.chmod(0o755)


posix_permissions = pytest.mark.skipif(sys.platform == "win32", reason="chmod does not protect folders on Windows")


@contextmanager
def memory_for(more: int) -> Iterator[None]:
    """Limits this process to so many more bytes of memory."""
    import resource

    before = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + more, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not limit a process's memory")
@pytest.mark.parametrize(
    ("more", "query"),
    [(0, "PRAGMA user_version"), (20_000_000, "SELECT hex(zeroblob(200000000))")],  # SQLITE_IOERR_SHMMAP, a MemoryError
)
def test_lack_of_memory_is_reported_as_such(path: Path, more: int, query: str) -> None:
    Store(path)
    with pytest.raises(StoreError) as caught, memory_for(more), connected(path, "rw", 0.05) as connection:
        connection.execute(query).fetchone()
    advice = "close other programs and try again, or choose another file with --store or $PWFF_STORE."
    assert str(caught.value) == f"The store {path} cannot be used for lack of memory; {advice}"
    assert caught.value.passing
    assert Store(path).runs() == []


@posix_permissions
def test_a_read_only_store(unprivileged: Path) -> None:
    path = unprivileged / "runs.sqlite"
    run_id = Store(path).create_run(CONFIG)
    path.chmod(0o444)
    assert "is read-only; allow writing to it" in refusal(path)
    assert Store(path, readonly=True).run(run_id).id == run_id


@posix_permissions
def test_a_closed_store_is_read_from_a_read_only_folder(unprivileged: Path) -> None:
    path = unprivileged / "runs.sqlite"
    run_id = Store(path).create_run(CONFIG)
    assert sorted(file.name for file in unprivileged.iterdir()) == ["runs.commands.sqlite", "runs.sqlite"]
    unprivileged.chmod(0o555)
    page = Store(path, readonly=True)
    assert page.snapshot(run_id).row.id == page.run(run_id).id == run_id
    with pytest.raises(StoreError, match="allow") as caught:
        page.pause(run_id, "me")
    assert caught.value.passing


@posix_permissions
def test_an_unreadable_log_is_an_error(unprivileged: Path) -> None:
    path = unprivileged / "runs.sqlite"
    run_id = Store(path).create_run(CONFIG)
    with closing(sqlite3.connect(path)) as other:
        other.execute("UPDATE runs SET name = 'in the log'")
        other.commit()
        copies = {file.name: file.read_bytes() for file in unprivileged.glob("runs.sqlite*")}
    (unprivileged / "torn").mkdir()
    for name in ("runs.sqlite", "runs.sqlite-wal"):  # without the index, which cannot be made here
        (unprivileged / "torn" / name).write_bytes(copies[name])
    (unprivileged / "torn").chmod(0o555)
    with pytest.raises(StoreError, match="cannot be|read-only"):
        Store(unprivileged / "torn" / "runs.sqlite", readonly=True).run(run_id)
    (unprivileged / "torn").chmod(0o755)
    assert Store(unprivileged / "torn" / "runs.sqlite").run(run_id).name == "in the log"


@posix_permissions
def test_a_read_only_folder(unprivileged: Path) -> None:
    unprivileged.chmod(0o555)
    assert "cannot be opened; check that it is there and that its folder allows writing" in refusal(
        unprivileged / "runs.sqlite"
    )
    assert "cannot be made (Permission denied)" in refusal(unprivileged / "sub" / "runs.sqlite")


def test_an_open_connection_keeps_the_log(path: Path) -> None:
    store = Store(path)
    log = path.with_name(f"{path.name}-wal")
    with store.keep_log_open():
        run_id = store.create_run(RunConfig())
        kept = log.stat().st_ino
        Store(path, readonly=True).run(run_id)
        store.rename(run_id, "another connection has opened and closed")
        assert log.stat().st_ino == kept
    assert not log.exists()
    store.rename(run_id, "the last connection takes the log away")
    assert not log.exists()


def test_keep_log_open_works_without_a_store(path: Path) -> None:
    store = Store(path)
    path.unlink()
    with pytest.raises(ValueError, match="meanwhile"), store.keep_log_open():
        raise ValueError("meanwhile")
