"""A store in which all texts of people and models are hostile."""

from __future__ import annotations

import json

from pwff_core.config import RunConfig
from pwff_core.knobs import with_changes
from pwff_core.records import ClientProfile
from pwff_core.runs.run_files import RunFiles
from pwff_core.runs.store import RunStatus, Store
from tests.support import scripted

IMAGE = "<img src=x onerror=alert(1)>"
LINK = "[a](https://foreign.example)"
PICTURE = "![p](https://foreign.example/b.png)"
LATEX = "$x^2$"
FORMULA = "=cmd()"
NASTY = f"{FORMULA} {IMAGE} {LINK} {LATEX} </script>"  # of at most 80 characters: a name may be so long
LONG = f"{NASTY} {PICTURE} <script>alert(2)</script> <b>&lt;"
CONFIG = with_changes(
    RunConfig(), {"clients": 2, "data.topic_column": LONG, "price_as": "gpt2"}  # so that no backbone is read
)  # fmt: skip


def hostile_profile(client: int) -> ClientProfile:
    return scripted.profile(client).model_copy(update={"topics": {LONG: 8}, "style": {LONG: LONG}})


def plant(store: Store) -> dict[str, str]:
    """Adds four runs; returns their ids by state: finished, failed, going, waiting."""
    ids = {}
    for kind in ("finished", "failed", "going"):
        name = NASTY if kind == "finished" else f"{kind} {NASTY}"[:80]
        run_id = ids[kind] = store.create_run(CONFIG, name, comparison="abc" if kind == "failed" else "")
        store.claim(run_id)
        store.describe(run_id, (hostile_profile(0), hostile_profile(1)), (LONG,), 9)
        for record in scripted.whole_run(run_id, weights=(0.25, 0.75)):
            late = record.stage == "alignment"
            if kind != "going" or not late:
                store.append(run_id, record.model_copy(update={"stage_end": LONG if record.stage_end else ""}))
        if kind != "going":
            store.finish(run_id, RunStatus(kind), LONG)
    ids["waiting"] = store.create_run(CONFIG, NASTY, in_queue=True, comparison="abc")
    folder = RunFiles(store.path).models(ids["finished"])
    folder.mkdir(parents=True)
    prompts = {"delicate": [LONG], "ordinary": [LONG]}
    (folder / "saved.json").write_text(
        json.dumps({"moments": ["before", "after"], "prompts": prompts}), encoding="utf-8"
    )
    return ids
