"""The measurement itself, at its least."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import picture, precision, run
from benchmarks.scaling import TINY, against_backbones, against_clients
from benchmarks.work import QUICK, demo, round_rows
from pwff_core.engine.setup import prepare

ROOT = Path(__file__).resolve().parent.parent.parent
CONTRACT = ("name", "ours_s", "other_s", "ratio")


def measured(*only: str, to: Path) -> list[dict[str, object]]:
    command = [sys.executable, "benchmarks/run.py", "--quick", "--to", str(to), "--only", *only]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(to.read_text(encoding="utf-8"))


@pytest.mark.slow
def test_every_part_but_flower_gives_its_rows(tmp_path: Path) -> None:
    parts = ("instruction/peft", "instruction/sfttrainer", "instruction/matmul-limit", "alignment", "precision")
    rows = measured(*parts, to=tmp_path / "rows.json")
    assert [row["name"] for row in rows] == [
        *("instruction/peft", "instruction/peft-bfloat16"),
        *("instruction/sfttrainer", "instruction/sfttrainer-bfloat16"),
        *("instruction/matmul-limit", "instruction/matmul-limit-bfloat16"),
        "precision/bfloat16",
        *("alignment/sequential", "alignment/sequential-bfloat16"),
    ]  # fmt: skip
    for row in rows:
        assert tuple(row)[:4] == CONTRACT
        assert row["ratio"] == pytest.approx(row["other_s"] / row["ours_s"], rel=0.05)
    assert rows[-1]["ours_tokens"][0] > 0
    assert rows[-1]["other_tokens"][0] > 0


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("flwr") is None, reason="needs the extra bench: pip install 'pwff[bench]'")
def test_flower_trains_what_the_sfttrainers_train(tmp_path: Path) -> None:
    code = """
import json, sys
import torch
from benchmarks.flower import Simulation
from benchmarks.plain import plain_weights
from benchmarks.sfttrainer import SftLoop
from benchmarks.work import CohortLoop, demo
cohort = CohortLoop(demo(quick=True))
loop = SftLoop(cohort.clients, cohort.federation.placed)
loop.round()
simulation = Simulation(cohort.config, 1)
simulation.run(0)
upload = loop.models[0].groups["adapters"]
apart = max(float((simulation.arrays[name] - upload[name].detach()).abs().max()) for name in upload)
mean = sum(a * b for a, b in zip(loop.losses, loop.num_examples)) / sum(loop.num_examples)
print(json.dumps([apart, simulation.losses[0] - mean]))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    apart, loss = json.loads(done.stdout.splitlines()[-1])
    assert apart < 5e-4  # a step moves 5e-3
    assert abs(loss) < 1e-4


@pytest.mark.slow
def test_a_stage_in_bfloat16_ends_with_its_measures() -> None:
    means = precision.play("bfloat16", 1, **QUICK, **{"instruction.rounds": 1})
    assert set(means) <= set(precision.MEASURED)
    assert 0 < means["accuracy"] < 1 < means["loss"] + 1


@pytest.mark.slow
def test_players_of_more_clients_and_of_larger_backbones() -> None:
    time, memory = against_clients((2, 3), 1, "instruction", **QUICK)
    assert (time["name"], memory["name"], memory["unit"]) == ("scaling/clients-3", "memory/per-client", "MB")
    assert memory["ratio"] == memory["peak_mb"]["3"] - memory["peak_mb"]["2"]
    tiny, small = against_backbones(TINY, 1, **QUICK)
    assert small["parameters"] > tiny["parameters"]
    assert tiny["us_per_token"] > 0


@pytest.mark.parametrize(
    ("only", "count"),
    [
        ([], len(run.PARTS)),
        (["instruction"], 4),
        (["instruction/matmul-limit-bfloat16"], 1),
        (["memory/per-client"], 1),
        (["scaling/"], 2),
        (["alignment/sequential", "precision"], 2),
        (["nothing"], 0),
    ],
)
def test_parts_are_chosen_by_the_names_of_their_rows(only: list[str], count: int) -> None:
    assert len(run.parts_named(only)) == count


def test_rows_by_client_and_step_are_those_of_the_stage() -> None:
    config = demo(quick=True)
    clients = prepare(config).clients
    rows = round_rows(clients, 2)
    assert [len(batches) for batches in rows] == [config.instruction.local_steps] * config.clients
    examples = [{tuple(row.tokens) for row in split.train} for split in clients.splits]
    for batches, own in zip(rows, examples, strict=True):
        assert all(1 <= len(batch) <= config.instruction.batch_size for batch in batches)
        assert {tuple(row.tokens) for batch in batches for row in batch} <= own


def test_differences_of_bfloat16_stand_beside_the_noise() -> None:
    results = {
        f"{form} | {seed}": dict.fromkeys(precision.MEASURED, value)
        for form, values in (("float32", (0.90, 0.92, 0.94)), ("bfloat16", (0.91, 0.92, 0.92)))
        for seed, value in enumerate(values)
    }
    mean, greatest, noise = precision.differences(results, [0, 1, 2], "accuracy")
    assert (mean, greatest, noise) == pytest.approx((-0.01 / 3, -0.02, 0.02))
    assert precision.table(results, [0, 1, 2]).splitlines()[2].endswith("| -0.0033 | -0.0200 | 0.0200 | yes |")


def test_the_picture_shows_the_rows() -> None:
    ratio = {"ratio": 4.0, "ratio_min": 3.5, "ratio_max": 5.0}
    rows = {
        "instruction/peft": {"name": "instruction/peft", **ratio},
        "instruction/peft-bfloat16": {"name": "instruction/peft-bfloat16", **ratio, "ratio": 3.75},
        "scaling/clients-20": {
            "name": "scaling/clients-20",
            "ours_s": 2.0,
            "other_s": 4.5,
            "what": "x: ours_s 10 clients",
        },
        "backbone/1M": {"name": "backbone/1M", "parameters": 1e6, "us_per_token": 50.0},
    }
    half, bars, straight, clients, _, backbones = picture.figure(rows, "light").data
    assert (list(half.x), list(half.error_x.array), list(half.error_x.arrayminus)) == ([3.75], [1.25], [0.25])
    assert (list(bars.x), list(bars.error_x.array), list(bars.error_x.arrayminus)) == ([4.0], [1.0], [0.5])
    assert (list(clients.x), list(clients.y), list(straight.y)) == ([10, 20], [2.0, 4.5], [2.0, 4.0])
    assert (list(backbones.x), list(backbones.y)) == ([1.0], [50.0])
    assert picture.figure({}, "dark").layout.paper_bgcolor is None  # the theme's template has it
