"""What the pages say about runs and settings."""

from __future__ import annotations

from pages.parts.words import (
    doubts,
    plain,
    resume_words,
    seconds_left,
    setting_text,
    settings_words,
    status_words,
)
from pwff_core.config import RunConfig
from pwff_core.engine.worker.catch_up import progress
from pwff_core.figures.frames import spans_of
from pwff_core.knobs import with_changes
from pwff_core.records import Stage
from pwff_core.runs.store import RunStatus, Store
from tests.support import scripted
from tests.support.live_page import PLANNED, going


def test_status_in_words(store: Store) -> None:
    run_id = store.create_run(RunConfig())
    planned: dict[Stage, int] = {"instruction": 16}
    assert status_words(store.run(run_id), [], spans_of(planned, [])) == "Waiting for the engine."
    run_id = going(store, 6)
    records = [record for _, record in store.rounds(run_id)]
    row, spans = store.run(run_id), spans_of(planned, records)
    assert status_words(row, records, spans) == "Round 7 of 16 · about 15 s left"  # 10 rounds of 1.5 s
    assert status_words(row, records, spans, frozenset({"stop"})) == (
        "Stopping after the round that is being trained (6 rounds done)."
    )
    stopped = row.model_copy(update={"status": RunStatus.STOPPED})
    assert status_words(stopped, records[:1], spans) == "Stopped after 1 round. What was measured is kept."
    finished = row.model_copy(update={"status": RunStatus.FINISHED})
    assert status_words(finished, records, spans) == "Finished: 6 rounds in 9.0 s of computing."


def test_a_run_that_is_held_up_says_why_and_that_nothing_is_lost(store: Store) -> None:
    held = store.run(going(store, 1)).model_copy(update={"status": RunStatus.STALLED, "message": "The disk is full."})
    words = status_words(held, [], (), frozenset({"stop"}))
    assert words == (
        "Held up after 1 round of 16: The disk is full. Its rounds are safe; should the engine end, the run can be "
        "resumed. It stops as soon as it goes on."
    )
    assert status_words(held, [], (), frozenset({"pause"})).endswith(" It pauses as soon as it goes on.")
    assert status_words(held, [], ()).endswith(" the run can be resumed.")


def test_a_run_that_plays_kept_rounds_again_says_so(store: Store) -> None:
    run_id = going(store, 6)
    records = [record for _, record in store.rounds(run_id)]
    spans = spans_of({"instruction": 16}, records)
    store.set_status(run_id, RunStatus.RUNNING, progress(5, 6))
    assert status_words(store.run(run_id), records, spans) == (
        "Catching up: round 5 of the 6 that are kept is played again; then the run goes on."
    )
    assert status_words(store.run(run_id), records, spans, frozenset({"stop"})).startswith("Stopping after the round")
    store.set_status(run_id, RunStatus.RUNNING)
    assert status_words(store.run(run_id), records, spans).startswith("Round 7 of 16")


def test_what_resume_would_do(store: Store) -> None:
    row = store.run(going(store, 6))
    assert resume_words(row, [4, 6]) == "Resume goes on after round 6; all that was measured stays."
    assert resume_words(row, [4, 5]) == resume_words(row, [5, 7]) == resume_words(row, [6])  # one round: soon done
    assert ", once rounds 5 to 6 have been computed again;" in resume_words(row, [4])
    assert ", once rounds 1 to 6 have been computed again;" in resume_words(row, [])
    assert resume_words(row.model_copy(update={"rounds_done": 0}), []).startswith("Resume starts it anew")


def test_status_says_which_stage_is_played_and_which_ended_early(store: Store) -> None:
    row = store.run(going(store, 1))
    assert status_words(row, [], spans_of(PLANNED, [])) == (
        "Stage 1 of 3, instruction tuning: round 1 of 3 is being trained."
    )
    records = scripted.whole_run(
        rounds={"instruction": 2, "reward": 2}, instruction="Loss has not improved for 1 rounds."
    )
    assert status_words(row, records[:2], spans_of(PLANNED, records[:2])) == (
        "Stage 2 of 3, reward learning: round 1 of 2 · about 21 s left. "  # 2 guesses of 1.5 s and 4 of 4.5 s
        "Instruction tuning ended after 2 of 3 rounds: Loss has not improved for 1 rounds"
    )


def test_time_left_is_reckoned_stage_by_stage() -> None:
    records = scripted.whole_run()  # rounds of 1.5, 0.5 and 4 s; guesses are in proportion 1 : 1 : 3
    left = {done: seconds_left(spans_of(PLANNED, records[:done]), records[:done]) for done in (0, 1, 4, 6, 9)}
    assert left == {0: None, 1: 2 * 1.5 + 2 * 1.5 + 4 * 4.5, 4: 1 * 0.5 + 4 * 1.5, 6: 3 * 4.0, 9: 0.0}


def test_a_reward_model_that_does_not_beat_chance_is_pointed_out() -> None:
    records = scripted.whole_run()
    assert doubts(spans_of(PLANNED, records), records) == []  # 80 and 90 %
    records[4] = records[4].model_copy(update={"helpfulness_accuracy": 0.55, "harmlessness_accuracy": 0.56})
    (warning,) = doubts(spans_of(PLANNED, records), records)
    assert warning.startswith("The helpfulness reward model ranks 55 % of held-out pairs right, and guessing gets 50 %")
    assert doubts(spans_of(PLANNED, records[:4]), records[:4]) == []  # it is still learning


def test_settings_in_words() -> None:
    assert (
        settings_words(RunConfig()) == "PWFF · 10 clients · 5 dB, 1 MHz, Rayleigh fading · 16 + 4 + 7 rounds · seed 0"
    )
    assert settings_words(with_changes(RunConfig(), {"method": "fedada"})).endswith(" · 16 rounds · seed 0")
    assert setting_text(1500, "Hz") == "1.5 kHz" and setting_text(100, "Hz") == "100 Hz"


def test_markdown_in_a_message_is_shown_letter_for_letter() -> None:
    assert plain("**a** [b](c) $x$") == r"\*\*a\*\* \[b\]\(c\) \$x\$"
