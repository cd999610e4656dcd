"""Rounds of instruction tuning by hand, and the stages and changes of the scripted run."""

from __future__ import annotations

from pwff_core.figures.frames import spans_of
from pwff_core.records import ClientRecord, RoundRecord, Stage, Steering, Value

PLANNED: dict[Stage, int] = {"instruction": 3, "reward": 2, "alignment": 4}  # of `scripted.whole_run`


def _client(number: int, accuracy: float | None, delay_s: float) -> ClientRecord:
    return ClientRecord(
        client=number, helpfulness_weight=0.5, accuracy=accuracy, loss=1.0 + number, delay_s=delay_s,
        energy_j=2 * delay_s,
    )  # fmt: skip


def tuning_round(
    number: int, accuracies: tuple[float | None, ...] = (0.4, 0.6), style: float | None = 0.8
) -> RoundRecord:
    """A round whose clients have these accuracies, and delays of 1, 2, … s."""
    measured = [accuracy for accuracy in accuracies if accuracy is not None]
    delays = [1.0 + index for index in range(len(accuracies))]
    return RoundRecord(
        run="r", method="pwff", stage="instruction", round=number,
        accuracy=sum(measured) / len(measured) if measured else None, knowledge_accuracy=0.25, style_accuracy=style,
        loss=1.5, delay_s=max(delays), energy_j=2 * sum(delays), uplink_bits=64, wall_s=0.5,
        clients=tuple(_client(index, accuracy, delays[index]) for index, accuracy in enumerate(accuracies)),
    )  # fmt: skip


def steering(position: int, before: Value, after: Value, path: str = "channel.snr_db") -> Steering:
    """A change of one setting before the round at this position of the scripted run."""
    span = next(span for span in spans_of(PLANNED, []) if span.first <= position <= span.last)
    return Steering(
        position=position, stage=span.stage, round=position - span.first + 1,
        before={path: before}, changes={path: after}, at=0.0,
    )  # fmt: skip
