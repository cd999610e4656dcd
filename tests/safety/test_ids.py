"""Every id is checked where it becomes part of a path."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from pwff_core.errors import PwffError, StoreError
from pwff_core.export.build import comparison_bundle, run_bundle
from pwff_core.export.options import parse_options
from pwff_core.runs import chat, checkpoints
from pwff_core.runs.chat import Question
from pwff_core.runs.recording import from_json, recorded_demo, recording_of, to_json
from pwff_core.runs.run_files import RunFiles
from pwff_core.runs.store import Store
from tests.support import scripted
from tests.support.live_page import GPT2_PRICE

STORE = Path("/somewhere/runs.sqlite")
INTO_PATHS: dict[str, Callable[[str], object]] = {
    "models": lambda run_id: RunFiles(STORE).models(run_id),
    "chat log": lambda run_id: RunFiles(STORE).chat_log(run_id),
    "log": lambda run_id: RunFiles(STORE).log(run_id),
    "checkpoints": lambda run_id: RunFiles(STORE).checkpoints(run_id),
    "list checkpoints": lambda run_id: checkpoints.list_checkpoints(STORE, run_id),
    "kept models": lambda run_id: chat.kept_models(STORE, run_id),
    "delete models": lambda run_id: chat.delete_models(STORE, run_id),
    "delete checkpoints": lambda run_id: checkpoints.delete_checkpoints(STORE, run_id),
}
BAD = [
    "", ".", "..", "../x", "a/b", "a\\b", "/etc", "C:\\x", "a\0b", "abc\n", "ABC", "ä", "a b", "x" * 33, "x" * 10_000,
    "a;b", "-x", "%2e%2e", "²", "①",
]  # fmt: skip
TEXTS = st.one_of(
    st.text(), st.sampled_from(BAD), st.builds("{}{}".format, st.sampled_from(["../", "/", "\0"]), st.text())
)


@pytest.mark.parametrize("into", INTO_PATHS)
@pytest.mark.parametrize("run_id", BAD)
def test_a_bad_id_is_refused_where_it_would_become_a_path(into: str, run_id: str) -> None:
    with pytest.raises(StoreError, match=r"There is no run .{1,90}; an id is up to 32 lower-case letters and digits\."):
        INTO_PATHS[into](run_id)


@pytest.mark.parametrize("into", ["models", "chat log", "log", "checkpoints"])
@given(run_id=TEXTS)
@example(run_id="abc123")
def test_the_path_of_any_id_lies_in_its_folder(into: str, run_id: str) -> None:
    try:
        path = INTO_PATHS[into](run_id)
    except StoreError:
        return
    assert isinstance(path, Path)
    folder = {"models": "models", "chat log": "logs", "log": "logs", "checkpoints": "checkpoints"}[into]
    assert path.parent == STORE.parent / folder and path.name.startswith(run_id) and run_id


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("ids") / "runs.sqlite")


@given(run_id=TEXTS)
@settings(max_examples=40)
def test_a_store_takes_any_text_as_an_unknown_id(empty: Store, run_id: str) -> None:
    for method in (empty.run, empty.delete, empty.cancel, empty.steerings, empty.pending_commands, empty.request_stop):
        try:
            answer = method(run_id)
        except PwffError as error:
            assert len(str(error)) < 300
        else:
            assert answer == []


def test_exported_files_are_named_by_checked_ids_alone(tmp_path: Path) -> None:
    store = Store(tmp_path / "runs.sqlite")
    run_id = scripted.played(store, GPT2_PRICE)
    store.rename(run_id, "../../etc/passwd <b>")
    bundle = run_bundle(recording_of(store, run_id), parse_options("all"))
    names = [bundle.name, *bundle.figures, *bundle.tables, *bundle.texts]
    assert bundle.name == f"pwff-{run_id}"
    assert all(name.replace("-", "").replace("_", "").replace(".", "").isalnum() for name in names)


@given(TEXTS)
def test_a_recording_s_id_may_not_lead_out_of_a_folder(run_id: str) -> None:
    tree = json.loads(to_json(recorded_demo()._replace(records=())))
    assume(not run_id.isascii() or not run_id.isalnum() or run_id != run_id.lower() or len(run_id) > 32)
    with pytest.raises(StoreError, match=r"not a recording of a run \(id"):
        from_json(json.dumps(tree | {"id": run_id}))


@given(st.text())
def test_a_comparison_s_title_makes_a_plain_file_name(title: str) -> None:
    bundle = comparison_bundle(title, "", {}, {}, {}, GPT2_PRICE)
    assert set(bundle.name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-") and len(bundle.name) <= 45


@pytest.mark.parametrize("clients", [[], ["../x"], [0.5], [None], ["0; rm"]])
def test_a_client_is_a_number(clients: list[object]) -> None:
    with pytest.raises(ValueError, match="clients"):
        Question.model_validate({"instruction": "hello", "clients": clients})
