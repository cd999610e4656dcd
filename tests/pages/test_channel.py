"""The Channel lab without a browser: everything follows the knobs, and nothing is stored or started."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from pages.lab.charts import crossing_table
from pages.lab.formulas import formulas, tex
from pages.lab.knobs import PATHS, SLIDERS
from pwff_core.config import RunConfig, preset_config
from pwff_core.knobs import with_changes
from pwff_core.methods import METHODS
from pwff_core.wireless.payload import GPT2_SMALL, geometry_of
from tests.support.pages import ROOT, texts, without_exception

PAPER = preset_config("paper")
TABS = ("Fading", "Rate", "What crosses the air", "Delay and energy", "Formulas", "Exhibits")


@pytest.fixture(autouse=True)
def _empty_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PWFF_STORE", str(tmp_path / "runs.sqlite"))


def open_lab(tab: str = "Fading", **answers: str) -> AppTest:
    """The lab at a tab, with answers entered at knobs; "__" stands for the dot of a path."""
    page = AppTest.from_file(str(ROOT / "pages" / "channel.py"), default_timeout=60)
    page.session_state["lab-tab"] = tab
    page.run()
    for path, text in answers.items():
        page.session_state["lab-tab"] = tab
        page.text_input(f"lab-knob:{path.replace('__', '.')}").set_value(text)
    page.session_state["lab-tab"] = tab
    return without_exception(page.run())


def tiles(page: AppTest) -> dict[str, str]:
    return {tile.label: str(tile.value) for tile in page.metric}


# ---- knobs -------------------------------------------------------------------------------------------------------


def test_it_opens_with_the_papers_numbers() -> None:
    page = open_lab()
    assert tiles(page) == {
        "A client uploads": "18.6 Mbit",
        "Link rate": "1.72 Mbit/s",
        "Upload time": "10.8 s",
        "Energy, one client": "10.8 J",
        "Energy, all clients": "108 J",
    }
    assert "Fading costs 17 % of the rate" in texts(page)
    assert "1,083 of these blocks" in texts(page)


@pytest.mark.parametrize("tab", TABS)
def test_every_tab_follows_a_knob(tab: str) -> None:
    before, after = open_lab(tab), open_lab(tab, channel__snr_db="20", lora__rank="16")
    assert tiles(after)["Link rate"] == "5.88 Mbit/s"
    if tab == "What crosses the air":
        assert "28.3 Mbit" in after.table[0].value.to_string()
    else:
        assert before.get("bidi_component") or before.latex
        assert [str(part.value) for part in (*before.markdown, *before.latex)] != [
            str(part.value) for part in (*after.markdown, *after.latex)
        ] or before.get("bidi_component")[0].proto != after.get("bidi_component")[0].proto


def test_another_size_keeps_the_link() -> None:
    page = open_lab(channel__snr_db="10")
    page.segmented_control("lab:size").set_value("paper-as-printed").run()
    assert page.text_input("lab-knob:lora.rank").value == "96"
    assert page.text_input("lab-knob:channel.snr_db").value == "10"
    page.selectbox("lab:method").set_value("vanilla_fl").run()
    assert tiles(page)["A client uploads"] == "188 Mbit"  # (580,968 + 5,308,416) · 32
    page.segmented_control("lab:size").set_value("demo").run()
    assert page.text_input("lab-knob:lora.rank").value == "8"
    assert tiles(page)["A client uploads"].endswith("Mbit")
    assert tiles(page)["A client uploads"] != "32.7 Mbit"


@pytest.mark.parametrize(
    ("path", "text", "allowed"),
    [
        ("channel.snr_db", "sixty", "a number from -30 to 60 dB"),
        ("channel.bandwidth_hz", "0", "from 1,000 to 1,000,000,000 Hz"),
        ("channel.deadline_s", "-1", "at least 0.001 s, or inf"),
        ("clients", "2.5", "a whole number from 2 to 200"),
        ("lora.rank", "", "a whole number from 1 to 4,096"),
        ("channel.snr_db", "<b>", "a number from -30 to 60 dB"),
    ],
)
def test_bad_input_is_answered_at_its_knob(path: str, text: str, allowed: str) -> None:
    page = open_lab()
    page.text_input(f"lab-knob:{path}").set_value(text).run()
    assert not page.exception
    errors = [str(error.value).replace("\\", "") for error in page.error]
    assert len(errors) == 2  # at the knob, and where the charts would be
    assert all(allowed in error for error in errors)
    assert not page.metric


def test_one_draw_needs_a_deadline_and_says_so() -> None:
    page = open_lab(channel__coherence_time_s="inf")
    assert "the mean delay of such a link is infinite" in texts(page)
    page.text_input("lab-knob:channel.deadline_s").set_value("20").run()
    assert not page.error
    assert "One draw holds for the whole upload" in texts(page)


@pytest.mark.parametrize("tab", TABS)
@pytest.mark.parametrize(
    "state",
    [
        {"channel__snr_db": "-30", "channel__bandwidth_hz": "1000"},
        {"channel__snr_db": "60", "channel__bandwidth_hz": "1e9"},
        {"channel__deadline_s": "0.001"},
        {"channel__coherence_time_s": "1e9"},
        {"clients": "200", "lora__rank": "4096"},
    ],
)
def test_extremes_draw_something(tab: str, state: dict[str, str]) -> None:
    page = open_lab(tab, **state)
    assert not page.error
    assert tiles(page)["Link rate"].endswith("bit/s")


def test_a_deadline_that_cuts_uploads_off_is_said() -> None:
    words = texts(open_lab("Delay and energy", channel__deadline_s="10"))
    assert "PFL 100 %" in words
    assert "FedLoRA" not in words.split("cuts uploads off")[1]
    assert "the upload is lost" in texts(open_lab(channel__deadline_s="1"))


def test_methods_that_send_nothing_have_no_progress() -> None:
    page = open_lab()
    page.selectbox("lab:method").set_value("local").run()
    assert "This method uploads nothing." in texts(page)
    page.session_state["lab-tab"] = "Exhibits"
    page.run()
    assert not page.exception
    assert "there is no delay" in texts(page)


def test_draw_again_draws_new_gains() -> None:
    page = open_lab()
    first = page.dataframe[0].value["Gain"].tolist()
    page.button("lab-again-fading").click().run()
    second = page.dataframe[0].value["Gain"].tolist()
    assert len(first) == len(second) == 300
    assert first != second
    page.run()
    assert page.dataframe[0].value["Gain"].tolist() == second


# ---- to and from the Live page -----------------------------------------------------------------------------------


def test_the_live_page_changes_only_when_asked_to() -> None:
    page = open_lab(channel__snr_db="12")
    assert "knob:channel.snr_db" not in page.session_state
    page.button("lab-give").click().run()
    assert page.session_state["knob:channel.snr_db"] == "12"
    assert page.session_state["knob:price_as"] == "gpt2"  # the demo's model, priced as the lab is
    assert page.session_state["knob:instruction.rounds"] == str(RunConfig().instruction.rounds)
    assert "The Live page has these settings now" in texts(page)


def test_settings_are_taken_from_the_live_page() -> None:
    page = open_lab()
    page.button("lab-give").click().run()
    page.session_state["knob:channel.snr_db"] = "17"
    page.session_state["settings:method"] = "pfl"
    page.button("lab-take").click().run()
    assert page.text_input("lab-knob:channel.snr_db").value == "17"
    assert page.selectbox("lab:method").value == "pfl"
    page.session_state["knob:channel.snr_db"] = "nonsense"
    page.button("lab-take").click().run()
    assert "mend them there first" in texts(page)
    assert page.text_input("lab-knob:channel.snr_db").value == "17"


def test_every_knob_of_the_lab_can_be_drawn() -> None:
    page = open_lab()
    drawn = {widget.key for widget in (*page.text_input, *page.segmented_control) if widget.key}
    assert {f"lab-knob:{path}" for path in PATHS if path != "price_as"} <= drawn
    assert {f"lab-slider:{path}" for path in SLIDERS} <= {slider.key for slider in page.select_slider}


# ---- what crosses the air ----------------------------------------------------------------------------------------


def test_the_table_says_in_words_and_bits_where_each_part_goes() -> None:
    table = crossing_table(PAPER, GPT2_SMALL)
    assert list(table.index) == [method.label for method in METHODS.values()]
    assert table.loc["PWFF"].tolist() == [
        "↑ **uploaded: 18.6 Mbit**",
        "⌂ at home: up to 14.2 Mbit",
        "↑ **uploaded: 9.45 Mbit**",
        "18.6 Mbit",
    ]
    assert table.loc["FedLoRA"].tolist() == ["– not trained", "↑ **uploaded: 14.2 Mbit**", "– not trained", "14.2 Mbit"]
    assert table.loc["Local only"].iloc[-1] == "nothing"
    assert table.loc["Centralised"].iloc[0] == "∑ pooled: 18.6 Mbit"
    assert table.loc["PFL"].iloc[-1] == "32.7 Mbit"


# ---- formulas ----------------------------------------------------------------------------------------------------


def results(config: RunConfig) -> dict[str, str]:
    geometry = geometry_of(config.backbone)
    assert geometry is not None
    return {formula.name: formula.result for formula in formulas(config, geometry)}


def test_the_papers_numbers_stand_in_the_formulas() -> None:
    assert results(PAPER) == {
        "SNR as a ratio": "3.162",
        "Rate without fading": "2.057 Mbit/s",
        "Mean rate under Rayleigh fading": "1.716 Mbit/s",
        "Numbers in the adapters": "580,968",
        "Numbers in LoRA": "442,368",
        "Payload of PWFF": "18.59 Mbit",
        "Time of an upload": "10.83 s",
        "Energy of a round": "108.3 J",
        "Payload of reward learning": "9.445 Mbit",
        "Outage of a single draw": "51.5 %",  # 1 − exp(−(2^1.716 − 1)/3.162)
    }
    vanilla = results(with_changes(PAPER, {"method": "vanilla_fl"}))
    assert vanilla["Time of an upload"] == "19.08 s"
    assert "Payload of reward learning" not in vanilla


def test_the_numbers_in_a_formula_give_its_result() -> None:
    adapters = next(f for f in formulas(PAPER, GPT2_SMALL) if f.name == "Numbers in the adapters")
    assert "36 \\cdot (2 \\cdot 768 \\cdot 10 + 10 + 768)" in adapters.numbers
    assert "16{,}138" in adapters.numbers
    assert 36 * (2 * 768 * 10 + 10 + 768) == 580_968
    lora = next(f for f in formulas(PAPER, GPT2_SMALL) if f.name == "Numbers in LoRA")
    assert lora.numbers == "12 \\cdot 8 \\cdot 4{,}608 = 442{,}368"


def test_a_deadline_ends_the_upload_in_the_formula_too() -> None:
    by_name = {f.name: f for f in formulas(with_changes(PAPER, {"channel.deadline_s": 5.0}), GPT2_SMALL)}
    assert by_name["Time of an upload"].result == "5.000 s"
    assert "T_{\\max}" in by_name["Time of an upload"].symbols
    assert "3.72 Mbit/s" in by_name["Outage of a single draw"].meaning  # 18.59 Mbit in 5 s


@pytest.mark.parametrize("changes", [
    {"channel.snr_db": -30.0}, {"channel.snr_db": 60.0}, {"channel.bandwidth_hz": 1e9}, {"method": "local"},
    {"channel.deadline_s": 1e-3}, {"channel.transmit_power_w": 1e-3}, {"channel.fading": "awgn"},
])  # fmt: skip
def test_formulas_are_well_formed_and_finite_everywhere(changes: dict[str, object]) -> None:
    for formula in formulas(with_changes(PAPER, changes), GPT2_SMALL):
        latex = formula.symbols + formula.numbers
        assert latex.count("{") == latex.count("}")
        assert not re.search(r"\bnan\b|\binf\b|None", latex + formula.result)
        assert formula.meaning.endswith(".")
        assert formula.source


@pytest.mark.parametrize(
    ("text", "latex"),
    [
        ("1.716 Mbit/s", "1.716\\ \\text{Mbit/s}"),
        ("580,968", "580{,}968"),
        ("51.5 %", "51.5\\ \\text{\\%}"),
        ("2.00 µs", "2.00\\ \\mu\\text{s}"),
        ("2.5e-06", "2.5 \\cdot 10^{-6}"),
    ],
)
def test_numbers_in_latex(text: str, latex: str) -> None:
    assert tex(text) == latex
