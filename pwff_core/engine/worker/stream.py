"""A run as a stream: the one place where a run meets the store."""

from __future__ import annotations

from collections.abc import Callable, Generator

from pwff_core.engine.worker.failures import as_failure
from pwff_core.engine.worker.heartbeat import Pulse
from pwff_core.engine.worker.retry import Patience
from pwff_core.engine.worker.run_loop import Life
from pwff_core.engine.worker.signals import Interruption
from pwff_core.errors import TakenOverError
from pwff_core.records import RoundRecord
from pwff_core.runs.run_files import RunFiles
from pwff_core.runs.store import CLAIM_WITHIN_S, Store


def recorded(
    store: Store, run_id: str, *, force: bool = False, told: Callable[[str], None] = lambda words: None
) -> Generator[RoundRecord, None, None]:
    """Claims a queued run, plays it, and yields each new round once the store has it.

    A run that has rounds already goes on after them. While the store cannot be written for a reason that may pass, the
    run waits. Whatever happens, the store says how the run ended before this returns or raises, if it is there to be
    told: PwffError (TrainingError for lack of memory, EngineError for what nobody foresaw) if it failed, StoreError if
    it was deleted or taken over or the store has gone, KeyboardInterrupt if a signal stopped it. Closing the stream
    early stops the run. `force` plays it whatever memory is free. `told` hears what a resumed run is at until its first
    new round, as pages show it: a sentence each time, then "".
    """
    interruption = Interruption()
    patient = Patience(interruption)
    with interruption.installed():
        patient(lambda: store.claim(run_id), within_s=CLAIM_WITHIN_S)  # after that it is taken for one that never began
        pulse = Pulse(store, run_id, interruption)
        life = Life(store, run_id, interruption, patient, pulse, told)
        with store.keep_log_open(), pulse.beating():
            try:
                yield from _failing_in_words(life, store, run_id, interruption, force)
            except TakenOverError as error:
                raise life.leave(error) from None
            except KeyboardInterrupt:
                if pulse.lost:
                    raise life.leave(pulse.lost) from None
                life.break_off()
                raise
            except GeneratorExit:
                life.break_off()
                raise


def _failing_in_words(
    life: Life, store: Store, run_id: str, interruption: Interruption, force: bool
) -> Generator[RoundRecord, None, None]:
    """The run's rounds; what goes wrong is written down as a sentence."""
    try:
        yield from life.rounds(force)
    except TakenOverError:
        raise
    except Exception as error:
        if interruption.pending:  # the code that was broken off has made another error of it
            raise KeyboardInterrupt from error
        raise life.fail(as_failure(error, RunFiles(store.path).log(run_id))) from error
