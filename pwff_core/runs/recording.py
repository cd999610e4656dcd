"""A run as one JSON text: exported as run.json, and replayed as if it were live.

The text holds everything that the store has of a run except what belongs to one computer: settings, clients, notes, the
steerings, every round, and the versions of the packages that played it. The format has a version of its own.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from itertools import groupby
from typing import Literal, NamedTuple, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from pwff_core.config import RunConfig
from pwff_core.errors import StoreError
from pwff_core.paths import assets_dir
from pwff_core.records import ClientProfile, RoundRecord, Stage, Steering
from pwff_core.runs.store import RunRow, RunStatus, Store

Format = Literal["pwff-recording"]
FORMAT: Format = "pwff-recording"
VERSION = 1
DEMO_ID = "recorded"  # of the run in assets; a store's ids have no "o", so none is equal
_VERSIONED = ("pwff", "torch", "transformers", "numpy")
_STAGES: tuple[Stage, ...] = get_args(Stage)


class Recording(NamedTuple):
    """A run with all its rounds, away from the store."""

    row: RunRow  # without process, and not deleted
    records: tuple[RoundRecord, ...]
    steerings: tuple[Steering, ...]
    versions: Mapping[str, str]  # package → its version when the run was written


class _Head(BaseModel):
    """The fields at the start of every version of the format."""

    format: Format
    version: int


class _Document(_Head):
    """The whole text. Unknown fields are ignored, so that a later pwff may add some."""

    model_config = ConfigDict(frozen=True, ser_json_inf_nan="strings")

    id: str = Field(pattern=r"^[a-z0-9]{1,32}$")  # a part of the names of files that are taken home
    name: str
    created_at: float
    status: RunStatus
    message: str
    config: RunConfig
    profiles: tuple[ClientProfile, ...]
    notes: tuple[str, ...]
    rounds_total: int
    versions: dict[str, str]
    steerings: tuple[Steering, ...]
    rounds: tuple[RoundRecord, ...]

    @model_validator(mode="after")
    def _rounds_follow_each_other(self) -> Self:
        stages = [stage for stage, _ in groupby(self.rounds, key=lambda record: record.stage)]
        if stages != [stage for stage in _STAGES if stage in stages]:
            raise ValueError("its stages are not in order")
        for stage, records in groupby(self.rounds, key=lambda record: record.stage):
            for number, record in enumerate(records, start=1):
                if record.round != number:
                    raise ValueError(f"round {number} of stage {stage} is missing")
        return self

    @model_validator(mode="after")
    def _every_client_has_a_profile(self) -> Self:
        numbers = [profile.client for profile in self.profiles]
        if numbers != list(range(len(numbers))):
            raise ValueError("its clients are not numbered from 0")
        for record in self.rounds:
            if not {client.client for client in record.clients} <= set(numbers):
                raise ValueError(f"round {record.round} of stage {record.stage} has clients that it does not describe")
        return self


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide what a run measures, as far as they are installed."""
    installed = {"python": platform.python_version()}
    for package in _VERSIONED:
        try:
            installed[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return installed


def recording_of(store: Store, run_id: str) -> Recording:
    """A run of the store as it stands now. StoreError if there is none of that id."""
    row = store.run(run_id)
    records = tuple(record for _, record in store.rounds(run_id))
    local = {"pid": None, "heartbeat_at": None, "deleted": False, "rounds_done": len(records)}
    return Recording(row.model_copy(update=local), records, tuple(store.steerings(run_id)), versions())


def to_json(recording: Recording) -> str:
    """The recording as text, a line a round. An infinite number is the text "Infinity"."""
    row, records, steerings, made_with = recording
    values = {name: getattr(row, name) for name in _Document.model_fields if name in RunRow.model_fields}
    document = _Document(
        format=FORMAT, version=VERSION, **values, versions=dict(made_with), steerings=steerings, rounds=records
    )
    head = json.dumps(json.loads(document.model_dump_json(exclude={"rounds"})), indent=1, ensure_ascii=False)
    rounds = ",\n".join(record.model_dump_json() for record in records)
    return head.removesuffix("\n}") + f',\n "rounds": [\n{rounds}\n ]\n}}\n'


def from_json(text: str) -> Recording:
    """The recording that `to_json` wrote. StoreError of one sentence for any other text, or one of a newer pwff."""
    try:
        head = _Head.model_validate_json(text)
        if head.version > VERSION:
            raise StoreError(
                f"This recording was written by a newer pwff (format {head.version}; this one reads up to {VERSION}); "
                "upgrade pwff to play it."
            )
        document = _Document.model_validate_json(text)
    except ValidationError as error:
        raise StoreError(
            f"This is not a recording of a run ({_first_problem(error)}); `pwff export` writes one, called run.json."
        ) from None
    values = {name: getattr(document, name) for name in _Document.model_fields if name in RunRow.model_fields}
    row = RunRow(**values, rounds_done=len(document.rounds), pid=None, heartbeat_at=None, deleted=False)
    return Recording(row, document.rounds, document.steerings, document.versions)


def _first_problem(error: ValidationError) -> str:
    """The first place where the text departs from the format, and how."""
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    what = first["msg"].removeprefix("Value error, ").rstrip(".")
    return f"{where}: {what}" if where else what


@cache
def recorded_demo() -> Recording:
    """The run that ships in assets: the demo's three stages, ten clients whose preferences are spread from 0 to 1."""
    return from_json((assets_dir() / "recorded-demo.json").read_text(encoding="utf-8"))
