"""The Compare page without a browser: the store and the queue are real, the engine does nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from pages.comparison.cancel import NOTICE
from pages.comparison.claims import SIGNS, claims_html
from pages.comparison.results import ComparedRun, RunRounds, comparison_words, longest_stages, read_runs, state_words
from pages.comparison.setup import Setup, setup_words
from pwff_core.comparison.claims import CLAIMS
from pwff_core.comparison.presets import FIGURES, plan, run_label
from pwff_core.comparison.verdicts import Ruling, Verdict, verdict
from pwff_core.config import RunConfig
from pwff_core.errors import EngineError
from pwff_core.knobs import with_changes
from pwff_core.methods import MethodId
from pwff_core.records import RoundRecord, Steering
from pwff_core.runs import scheduler
from pwff_core.runs.store import RunStatus, Store
from tests.support import scripted
from tests.support.pages import ROOT, open_page, query_value, texts, without_exception

CONFIG = with_changes(
    RunConfig(), {"clients": 5, "instruction.rounds": 3, "reward.rounds": 2, "alignment.rounds": 4}
)  # fmt: skip


def open_compare(comparison: str | None = None) -> AppTest:
    return open_page("compare", **({} if comparison is None else {"comparison": comparison}))


def enter(page: AppTest, key: str, text: str) -> AppTest:
    return without_exception(page.text_input(key).set_value(text).run())


def choose_subject(page: AppTest, subject: str) -> AppTest:
    return without_exception(page.segmented_control(key="compare:what").set_value(subject).run())


def click(page: AppTest, button: str) -> AppTest:
    return without_exception(page.button(button).click().run())


def comparison_in_address(page: AppTest) -> str | None:
    return query_value(page, "comparison")


def states(page: AppTest) -> list[str]:
    column: list[str] = next(frame.value["State"].tolist() for frame in page.dataframe if "State" in frame.value)
    return column


def run_of(
    store: Store, method: MethodId, seed: int, comparison: str = "c0ffee00", end: RunStatus | None = RunStatus.FINISHED,
    rounds: int = 9, better: float = 0.0, message: str = "",
) -> str:  # fmt: skip
    """A scripted run of three stages that this process has claimed, `better` in reward."""
    config = with_changes(CONFIG, {"method": method, "seed": seed})
    run_id = store.create_run(config, run_label(config), comparison=comparison)
    store.claim(run_id)
    store.describe(run_id, [scripted.profile(client) for client in range(5)], [], 9)
    for record in scripted.whole_run(run_id)[:rounds]:
        store.append(run_id, _with_more_reward(record, better))
    if end:
        store.finish(run_id, end, message)
    return run_id


def _with_more_reward(record: RoundRecord, better: float) -> RoundRecord:
    if record.reward is None or record.helpfulness is None:
        return record
    return record.model_copy(
        update={"reward": record.reward + better, "helpfulness": record.helpfulness + better}
    )  # fmt: skip


def play_two_methods(store: Store) -> None:
    """PWFF and SFL on seeds 1 and 2, PWFF with 0.20 and 0.22 sd more."""
    for seed, better in ((1, 0.2), (2, 0.22)):
        run_of(store, "pwff", seed, better=better)
        run_of(store, "sfl", seed)


# setting up


def test_an_empty_store_says_what_start_will_do(store: Store) -> None:
    page = open_compare()
    assert "No comparison yet. Choose a figure of the paper below and press **Start**" in texts(page)
    assert "12 runs, one after another: how long is not known" in texts(page)
    assert "10 clients · 5 dB, 1 MHz, Rayleigh fading · 16 rounds" in texts(page)
    assert comparison_in_address(page) is None and not page.button("compare-start").disabled


def test_start_queues_every_run_and_launches_the_first(store: Store, launched: list[tuple[Path, str]]) -> None:
    page = enter(enter(enter(open_compare(), "compare:seeds", "1, 2"), "compare:knob:clients", "4"),
                 "compare:knob:instruction.rounds", "2")  # fmt: skip
    page = click(page, "compare-start")
    rows = store.runs()[::-1]
    assert [(row.config.method, row.config.seed) for row in rows] == [
        (m, s) for s in (1, 2) for m in FIGURES["fig4"].methods
    ]
    assert {(row.config.clients, row.rounds_total) for row in rows} == {(4, 2)}
    assert rows[0].name == "Fig. 4: PWFF, seed 1"
    assert launched == [(store.path, rows[0].id)]
    assert {row.comparison for row in rows} == {comparison_in_address(page)}
    assert states(page) == ["The engine starts", *(f"Waits, place {place} in the queue" for place in range(1, 8))]
    assert "0 of 8 runs finished." in texts(page)


def test_fig5_asks_for_the_rounds_of_all_stages(store: Store) -> None:
    page = choose_subject(open_compare(), "fig5")
    assert "SFL, PFL, Shepherd: reward and energy of alignment" in texts(page)
    page = enter(page, "compare:knob:alignment.rounds", "2")
    assert "16 + 4 + 2 rounds" in texts(page)
    page = enter(page, "compare:knob:alignment.rounds", "0")
    assert "Fig. 5 shows alignment, and alignment.rounds is 0; set it to 1 or more." in texts(page)
    assert page.button("compare-start").disabled


def test_any_methods_can_be_chosen(store: Store) -> None:
    page = choose_subject(open_compare(), "own")
    page = without_exception(page.multiselect(key="compare:methods").set_value(["local", "pwff"]).run())
    page = click(enter(page, "compare:seeds", "5"), "compare-start")
    assert [(row.config.method, row.config.seed, row.name) for row in store.runs()[::-1]] == [
        ("local", 5, "Compare: Local only, seed 5"), ("pwff", 5, "Compare: PWFF, seed 5"),
    ]  # fmt: skip


def test_the_settings_of_the_live_page_can_be_compared_with(store: Store) -> None:
    page = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60)
    without_exception(page.run())
    enter(page, "knob:channel.snr_db", "12")
    enter(page, "knob:clients", "6")
    without_exception(page.switch_page("pages/compare.py").run())
    assert "10 clients · 5 dB" in texts(page)
    without_exception(page.selectbox(key="compare:source").set_value("live").run())
    assert "6 clients · 12 dB" in texts(page)
    page = enter(page, "compare:knob:clients", "4")
    assert "4 clients · 12 dB" in texts(page)


@pytest.mark.parametrize(
    ("seeds", "message"),
    [
        ("1, x", "Seed: 'x' is not allowed; give a whole number from 0 to 2,147,483,647."),
        ("-1", "Seed: '-1' is not allowed"),
        ("", "A comparison needs at least one method and one seed."),
        (" ".join(str(seed) for seed in range(30)), "4 methods with 30 seeds are 120 runs; at most 100 are allowed."),
        ("<b>1</b>", "is not allowed; give a whole number"),
    ],
)
def test_seeds_that_are_not_allowed_are_answered_in_words(store: Store, seeds: str, message: str) -> None:
    page = enter(open_compare(), "compare:seeds", seeds)
    assert message in texts(page)
    assert page.button("compare-start").disabled
    assert store.runs() == []


def test_a_bad_answer_is_answered_at_its_knob(store: Store) -> None:
    page = enter(open_compare(), "compare:knob:clients", "1")
    assert "'1' is not allowed; give a whole number from 2 to 200." in texts(page)
    assert "A comparison cannot start like this. Clients: " in texts(page)
    assert all("\\\\" not in str(error.value) for error in page.error)  # no escape is shown as a letter
    assert page.button("compare-start").disabled


def test_the_duration_is_estimated_from_earlier_runs_of_the_same_work(store: Store) -> None:
    run_of(store, "pwff", 9, comparison="")
    page = enter(enter(open_compare(), "compare:knob:clients", "5"), "compare:seeds", "1")
    # 4 methods × 16 rounds of 1.5 s, as the script's rounds of instruction tuning took
    assert "4 runs, one after another: about 1 min 36 s of computing" in texts(page)


def test_an_engine_that_cannot_start_fails_its_run_in_words(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, run_id: str) -> None:
        raise EngineError("The engine cannot be started (no memory); check free memory.")

    monkeypatch.setattr(scheduler, "launch", refuse)
    page = click(enter(open_compare(), "compare:seeds", "1"), "compare-start")
    assert "PWFF, seed 1 failed: The engine cannot be started (no memory)" in texts(page)
    assert {row.status for row in store.runs()} == {RunStatus.FAILED}


# watching


def test_a_comparison_fills_in_with_verdicts_in_words(store: Store) -> None:
    play_two_methods(store)
    page = open_compare("c0ffee00")
    words = texts(page)
    assert "4 of 4 runs finished." in words
    assert "2 claims: 2 × holds." in words
    assert "PWFF gets more reward than SFL, by the paper&#x27;s sum" in words
    assert "PWFF is 0.21 ± 0.01 sd above SFL." in words
    assert [box.label for box in page.expander if box.label.endswith(" in numbers")] == [
        *("Accuracy in numbers", "Delay of a round in numbers", "Reward: helpfulness + harmlessness in numbers"),
        *("Reward, by each owner's wishes in numbers", "Energy of a round, all clients in numbers"),
        "Accuracy against energy so far in numbers",
    ]
    methods = next(frame.value for frame in page.dataframe if "Runs" in frame.value)
    assert methods["Reward by wishes [sd]"].tolist() == ["0.96 ± 0.01", "0.75 ± 0.00"]


def test_one_seed_gives_no_verdict(store: Store) -> None:
    run_of(store, "pwff", 1, better=0.2)
    run_of(store, "sfl", 1)
    assert "2 claims: 2 × one seed." in texts(open_compare("c0ffee00"))


def test_failed_stopped_and_steered_runs_are_left_out_and_the_page_says_so(store: Store) -> None:
    play_two_methods(store)
    run_of(store, "pwff", 3, end=RunStatus.FAILED, rounds=2, message="<b>It broke</b>.")
    run_of(store, "sfl", 3, end=RunStatus.STOPPED, rounds=2, message="Stopped after 2 of 9 rounds.")
    steered = run_of(store, "pwff", 4, better=-9.0, end=None)
    steering = Steering(
        position=2,
        stage="instruction",
        round=2,
        before={"channel.snr_db": 5.0},
        changes={"channel.snr_db": 9.0},
        at=0.0,
    )
    store.acknowledge(steered, 0, steering)
    store.finish(steered, RunStatus.FINISHED)
    run_of(store, "sfl", 4)
    page = open_compare("c0ffee00")
    words = texts(page)
    assert "6 of 8 runs finished; the others are left out." in words
    assert "PWFF, seed 3 failed: <b>It broke</b>." in words
    assert "PWFF, seed 4 was steered on the way, so table and verdicts leave it out." in words
    assert "seeds 1 and 2" in words and "PWFF is 0.21 ± 0.01 sd above SFL." in words
    assert states(page)[5] == "Stopped after 2 of 9 rounds."


class CountingStore(Store):
    """A store that notes from which row on rounds were read."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.reads: list[int] = []

    def rounds(self, run_id: str, after: int = 0) -> list[tuple[int, RoundRecord]]:
        self.reads.append(after)
        return super().rounds(run_id, after)


def test_each_round_is_read_once(store: Store) -> None:
    run_id = run_of(store, "pwff", 1, end=None, rounds=2)
    counting, cache = CountingStore(store.path), dict[str, RunRounds]()

    def rounds_read() -> int:
        (run,) = read_runs(counting, store.runs("c0ffee00"), cache)
        return len(run.records)

    assert (rounds_read(), rounds_read()) == (2, 2)
    store.append(run_id, scripted.whole_run(run_id)[2])
    assert rounds_read() == 3
    assert counting.reads == [0, 2]
    read_runs(counting, [], cache)
    assert cache == {}


def test_a_new_round_comes_up_at_the_next_poll(store: Store) -> None:
    run_id = run_of(store, "pwff", 1, end=None, rounds=2)
    page = open_compare("c0ffee00")
    assert states(page) == ["Running, 2 of 9 rounds"]
    store.append(run_id, scripted.whole_run(run_id)[2])
    assert states(without_exception(page.run())) == ["Running, 3 of 9 rounds"]


def test_earlier_comparisons_can_be_opened_again(store: Store) -> None:
    play_two_methods(store)
    run_of(store, "local", 7, comparison="beefbeef")
    page = open_compare()
    assert comparison_in_address(page) == "beefbeef"  # the newest
    assert "The paper says nothing about just these methods" in texts(page)
    page = without_exception(page.selectbox(key="compare:chosen").set_value("c0ffee00").run())
    assert comparison_in_address(page) == "c0ffee00" and "4 of 4 runs finished." in texts(page)


def test_an_address_with_nonsense_is_answered_with_a_notice(store: Store) -> None:
    play_two_methods(store)
    page = open_compare("<script>alert(1)</script>" + "x" * 1000)
    assert "There is no comparison '<script>alert(1)</script>xxxxxxxxxxxxxxx' in" in texts(page)
    assert comparison_in_address(page) == "c0ffee00"


def test_a_store_that_cannot_be_read_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "runs.sqlite"
    path.write_bytes(b"something else entirely" * 100)
    monkeypatch.setenv("PWFF_STORE", str(path))
    assert "is not a store of runs" in texts(open_compare())


# cancelling


def test_a_waiting_run_is_cancelled_at_once(store: Store) -> None:
    ids = [
        store.create_run(config, in_queue=True, comparison="c0ffee00") for config in plan(CONFIG, ("pwff", "sfl"), (1,))
    ]
    page = open_compare("c0ffee00")  # which launches the first
    page = without_exception(page.selectbox(key="compare:one").set_value(ids[1]).run())
    page = click(page, "cancel-one")
    assert "1 waiting run cancelled." in texts(page)
    assert states(page) == ["The engine starts", "Cancelled before it started."]


def test_a_running_run_is_stopped_after_asking(store: Store) -> None:
    run_id = run_of(store, "pwff", 1, end=None, rounds=2)
    waiting = store.create_run(CONFIG, in_queue=True, comparison="c0ffee00")
    page = click(open_compare("c0ffee00"), "cancel-all")
    assert store.run(waiting).status is RunStatus.STOPPED
    assert not store.stop_requested(run_id)
    assert "PWFF, seed 1: started already. Stop after the round that is being trained?" in texts(page)
    page = click(page, "stop-yes")
    assert store.stop_requested(run_id)
    assert states(page)[0] == "Stops after this round"
    assert "started already" not in texts(page)


def test_a_running_run_may_go_on_after_asking(store: Store) -> None:
    run_id = run_of(store, "pwff", 1, end=None, rounds=2)
    page = click(open_compare("c0ffee00"), "cancel-one")
    page = click(page, "stop-no")
    assert not store.stop_requested(run_id)
    assert "started already" not in texts(page)


def test_a_comparison_cancelled_before_it_began_shows_its_runs_alone(store: Store) -> None:
    run_id = store.create_run(CONFIG, in_queue=True, comparison="c0ffee00")
    store.cancel(run_id)
    page = open_compare("c0ffee00")
    assert states(page) == ["Cancelled before it started."]
    assert "0 of 1 run finished; the others are left out." in texts(page)
    assert not page.button("compare-start").disabled
    assert "What the paper says, and what was measured" not in [head.value for head in page.subheader]


# words


def test_states_in_words(store: Store) -> None:
    run_id = store.create_run(CONFIG)
    row = store.run(run_id)
    assert state_words(row, 0, 3) == "Waits, place 3 in the queue"
    assert state_words(row, 0, None) == "The engine starts"
    paused = row.model_copy(update={"status": RunStatus.PAUSED})
    assert state_words(paused, 2, None) == "Paused, 2 of 9 rounds"
    assert state_words(row.model_copy(update={"status": RunStatus.FINISHED}), 1, None) == "Finished, 1 round"
    assert state_words(row.model_copy(update={"status": RunStatus.STOPPED}), 2, None) == "Stopped after 2 rounds"


def test_a_comparison_in_words(store: Store) -> None:
    play_two_methods(store)
    rows = store.runs("c0ffee00")[::-1]
    assert comparison_words(rows).startswith("PWFF, SFL · seeds 1, 2 · 5 clients · ")
    assert comparison_words(rows[:1]).startswith("PWFF · seed 1 · ")


def test_a_stage_is_as_long_as_in_its_longest_run(store: Store) -> None:
    short = store.run(store.create_run(with_changes(CONFIG, {"method": "fedada", "instruction.rounds": 8})))
    whole = store.run(store.create_run(CONFIG))
    runs = [ComparedRun(short, [], False), ComparedRun(whole, [], False)]
    assert list(longest_stages(runs).items()) == [("instruction", 8), ("reward", 2), ("alignment", 4)]


def test_what_start_would_do_in_words() -> None:
    setup = Setup("Fig. 4", tuple(plan(RunConfig(clients=4), ("fedada",), (1, 2))), "")
    assert setup_words(setup, 75.0) == (
        "2 runs, one after another: about 1 min 15 s of computing, by earlier runs on this computer, and some seconds "
        "a start. Each has 4 clients · 5 dB, 1 MHz, Rayleigh fading · 16 rounds."
    )
    assert "how long is not known" in setup_words(setup, None)


def test_every_ruling_has_a_sign_beside_its_word() -> None:
    assert set(SIGNS) == set(Ruling)
    assert len(set(SIGNS.values())) == len(Ruling)
    html = claims_html([verdict(CLAIMS[0], [])])
    assert '<span aria-hidden="true">…</span> not measured' in html
    evil: Verdict = verdict(CLAIMS[0], [])._replace(reason="<script>alert(1)</script>")
    assert "<script>" not in claims_html([evil])


def test_notices_are_shown_once(store: Store) -> None:
    play_two_methods(store)
    page = open_compare()
    page.session_state[NOTICE] = "A notice."
    assert "A notice." in texts(without_exception(page.run()))
    assert "A notice." not in texts(without_exception(page.run()))
