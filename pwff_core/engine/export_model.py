"""One client's model for other programs: a LoRA folder for peft, the adapters beside it, and a model card."""

from __future__ import annotations

import json
from pathlib import Path

from pwff_core.methods import METHODS
from pwff_core.records import METRICS, RoundRecord, When
from pwff_core.runs.files import deliver
from pwff_core.runs.run_files import RunFiles
from pwff_core.runs.store import RunRow, Store

_ON_THE_CARD = ("accuracy", "helpfulness", "harmlessness", "reward", "refusal_rate", "kl")


def export_model(store: Store, run_id: str, client: int, when: When, folder: Path) -> list[Path]:
    """Writes one client's model into `folder`, which is made, with a model card; returns the files' paths.

    A LoRA folder that `peft.PeftModel.from_pretrained(backbone, folder)` loads, the adapters beside it, and README.md.
    StoreError if there is no such run or the folder cannot be written; ModelError if the run's models are not kept,
    have no such client, no state before alignment or no LoRA.
    """
    from pwff_core.engine import peft_export
    from pwff_core.engine.models import saved_models  # torch, which the pages do without

    row = store.run(run_id)
    models = saved_models.load(RunFiles(store.path).models(run_id))
    measured = _measured([record for _, record in store.rounds(run_id)], client, when)

    def write(inside: Path) -> list[Path]:
        files = peft_export.write_personal(inside, models, client, when)
        card = inside / "README.md"
        stored = json.loads((inside / "adapter_config.json").read_text(encoding="utf-8"))["r"]
        card.write_text(_model_card(row, client, when, measured, stored), encoding="utf-8", newline="\n")
        return [*files, card]

    return deliver(folder, write)


def _measured(records: list[RoundRecord], client: int, when: When) -> list[tuple[str, float]]:
    """The client's last numbers at that moment, as (metric, value)."""
    until = [record for record in records if when == "after" or record.stage != "alignment"]
    found: dict[str, float] = {}
    for record in until:
        for name, value in record.clients[client] if client < len(record.clients) else ():
            if name in _ON_THE_CARD and value is not None:
                found[name] = value
    return [(name, found[name]) for name in _ON_THE_CARD if name in found]


def _model_card(row: RunRow, client: int, when: When, measured: list[tuple[str, float]], stored_rank: int) -> str:
    config, profile = row.config, row.profiles[client]
    fused = stored_rank != config.lora.rank
    stored = f"stored as one of rank {stored_rank} a block on the fused projection, " if fused else ""
    demo = config.backbone == "demo"
    base = "" if demo else f"base_model: {config.backbone}\n"
    backbone = 'assets_dir() / "backbone"' if demo else f'"{config.backbone}"'
    embedded = "from pwff_core.paths import assets_dir\n" if demo else ""
    weight = profile.helpfulness_weight
    numbers = "\n".join(f"| {METRICS[name].label} | {_card_number(name, value)} |" for name, value in measured)
    style = ", ".join(profile.style.values()) or "none of its own"
    return f"""---
library_name: peft
{base}tags: [lora, federated-learning, pwff]
---
# Client {client} of run {row.id}, {when} alignment

One client's personal model from a federated fine-tuning run of pwff: LoRA on query, key and value, and bottleneck
adapters, on the frozen backbone `{config.backbone}`.

| | |
|---|---|
| Method | {METHODS[config.method].label}: {METHODS[config.method].summary} |
| Clients, seed | {config.clients}, {config.seed} |
| Wishes of this client's owner | helpfulness {weight:.2f}, harmlessness {1 - weight:.2f} |
| LoRA | rank {config.lora.rank}, α {config.lora.alpha:g}, {profile.lora_modules} modules; \
{stored}unplaced modules zero |
| Adapters | bottleneck {config.adapter.bottleneck} |
| House style | {style} |
{numbers}

## How to load

```python
from peft import PeftModel
from transformers import AutoModelForCausalLM
{embedded}
backbone = AutoModelForCausalLM.from_pretrained({backbone}, dtype="float32")
model = PeftModel.from_pretrained(backbone, "this folder")
```

That is the LoRA alone. What the client really says needs its adapters too, where the method trains them: load
`adapters.safetensors` and apply each to the output `y` of the module that `adapters.json` names.
Prompts read `Instruction: …\\nResponse:`, and the response begins after a space.

## Limits

Trained in a simulation for teaching and research, on few examples. Its manners, refusals included, are measured on
toy prompts only; it is no safe assistant. Scores are in standard deviations of the judge's scores on reference
answers, and comparable within pwff alone.
"""


def _card_number(name: str, value: float) -> str:
    unit = METRICS[name].unit
    return f"{100 * value:.1f} %" if unit == "%" else f"{value:.3f} {unit}".rstrip()
