"""The Live page as tests open it: the page in AppTest, the store real, the engine a stand-in that does nothing."""

from __future__ import annotations

import pandas as pd
from streamlit.testing.v1 import AppTest
from streamlit.testing.v1.element_tree import Slider

from pwff_core.config import RunConfig
from pwff_core.knobs import with_changes
from pwff_core.records import ClientProfile, ClientRecord, RoundRecord, Stage
from pwff_core.runs.checkpoints import INFO_FILE, TENSORS_FILE, CheckpointInfo, folder_of
from pwff_core.runs.run_files import RunFiles
from pwff_core.runs.store import Store
from tests.support import scripted
from tests.support.pages import ROOT, query_value, without_exception

PAGE = str(ROOT / "app.py")  # the router: only there are links to other pages known
GPT2_PRICE = with_changes(RunConfig(), {"price_as": "gpt2"})
PLANNED: dict[Stage, int] = {"instruction": 3, "reward": 2, "alignment": 4}
THREE_STAGES = with_changes(
    GPT2_PRICE, {"clients": 5, **{f"{stage}.rounds": count for stage, count in PLANNED.items()}}
)


def opened(run: str | None = None) -> AppTest:
    page = AppTest.from_file(PAGE, default_timeout=30)
    if run is not None:
        page.query_params["run"] = run
    return without_exception(page.run())


def run_in_address(page: AppTest) -> str | None:
    return query_value(page, "run")


def typed(page: AppTest, path: str, text: str) -> AppTest:
    return without_exception(page.text_input(f"knob:{path}").set_value(text).run())


def tiles(page: AppTest) -> dict[str, str]:
    return {tile.label: str(tile.value) for tile in page.metric}


def prices(page: AppTest) -> dict[str, str]:
    """The tiles with the price of a round; those of a run may follow them."""
    return dict(list(tiles(page).items())[:5])


def weight_sliders(page: AppTest) -> list[Slider]:
    """The sliders of the clients' weights."""
    return [slider for slider in page.slider if str(slider.key).startswith("preferences:client:")]


def profile(client: int) -> ClientProfile:
    return ClientProfile(
        client=client, helpfulness_weight=0.25, device_class="mid", lora_modules=8, train_examples=40,
        validation_examples=8, test_examples=40, topics={"garden": 3, "chess": 9, "travel": 5, "music": 1},
        style={"units": "metric"},
    )  # fmt: skip


def round_record(run_id: str, number: int) -> RoundRecord:
    clients = tuple(
        ClientRecord(
            client=client, helpfulness_weight=0.25, accuracy=0.5 + 0.1 * number, loss=1.0, delay_s=2.0, energy_j=3.0
        )
        for client in range(2)
    )
    return RoundRecord(
        run=run_id, method="pwff", stage="instruction", round=number, accuracy=0.5 + 0.1 * number, loss=1.0,
        delay_s=2.0, energy_j=6.0, wall_s=1.5, clients=clients,
    )  # fmt: skip


def going(store: Store, rounds: int, config: RunConfig = GPT2_PRICE) -> str:
    """A run that this process has claimed, with some rounds."""
    run_id = store.create_run(config)
    store.claim(run_id)
    store.describe(run_id, [profile(0), profile(1)], ["two examples were cut."], config.instruction.rounds)
    for number in range(1, rounds + 1):
        store.append(run_id, round_record(run_id, number))
    return run_id


def in_stages(store: Store, rounds: int) -> str:
    """A run of three stages that this process has claimed, with some rounds."""
    run_id = store.create_run(THREE_STAGES)
    store.claim(run_id)
    store.describe(run_id, [profile(client) for client in range(5)], [], sum(PLANNED.values()))
    for number in range(rounds):
        store.append(run_id, scripted.whole_run(run_id)[number])
    return run_id


def charts(page: AppTest) -> list[str]:
    """The names of the page's charts."""
    return [box.label.removesuffix(" in numbers") for box in page.expander if box.label.endswith(" in numbers")]


def clients_of(page: AppTest) -> pd.DataFrame:
    frame: pd.DataFrame = next(frame.value for frame in page.dataframe if "Client" in frame.value)
    return frame


def marked(store: Store, run_id: str, *positions: int) -> None:
    """Writes a run's checkpoints after these rounds; their heads are all that pages read."""
    row, records = store.run(run_id), [record for _, record in store.rounds(run_id)]
    for position in positions:
        last = records[position - 1]
        checkpoint = CheckpointInfo(
            position=position, stage=last.stage, round=last.round, stage_end=last.stage_end, config=row.config,
            size=12_400_000, digest="", snapshot_s=0.01, write_s=0.1, written_at=1_800_000_000.0, made_with={},
        )  # fmt: skip
        folder = folder_of(RunFiles(store.path).checkpoints(run_id), position)
        folder.mkdir(parents=True)
        (folder / INFO_FILE).write_text(checkpoint.model_dump_json(), encoding="utf-8")
        (folder / TENSORS_FILE).write_bytes(b"tensors")
