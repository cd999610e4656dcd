"""`run(config)` yields one RoundRecord a round: the round loop and nothing else.

    clients train  →  uploads cross the channel  →  the server averages what arrived  →  every client's model is tested

A run plays up to three stages like this, one after the other: instruction tuning, reward learning, alignment. The
method's row says which stages there are and what is uploaded. Downloads are free and lossless, as in the paper.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from pwff_core import seeds
from pwff_core.config import RunConfig, stage_rounds
from pwff_core.engine.aggregation import Server
from pwff_core.engine.setup import Federation, prepare
from pwff_core.engine.stages.clients import Measures
from pwff_core.engine.stages.early_stopping import end_reason
from pwff_core.engine.stages.instruction import diverged
from pwff_core.knobs import steered
from pwff_core.records import ClientRecord, RoundRecord, Stage, Value
from pwff_core.wireless.link import Transfer, transfer
from pwff_core.wireless.payload import num_reward_upload_params, num_upload_params

MEAN_FIELDS = tuple(  # of a round's record: means over its clients
    name
    for name, field in RoundRecord.model_fields.items()
    if name in ClientRecord.model_fields and field.default is None
)
BEFORE_ALIGNMENT = ("helpfulness", "harmlessness", "reward", "refusal_rate", "response_tokens")


def run(config: RunConfig, run_id: str = "") -> Iterator[RoundRecord]:
    """Play a whole run, a record a round. The same config gives the same records but for `wall_s`."""
    yield from play(prepare(config, run_id))


def steer(federation: Federation, changes: Mapping[str, Value]) -> None:
    """Change settings between two rounds; they hold from the next one on, and for the models that are kept.

    ConfigError for a setting that is not STEERABLE or a value that is not allowed; then nothing has changed.
    """
    federation.clients.config = steered(federation.config, changes)


def play(federation: Federation, past: Sequence[RoundRecord] = ()) -> Iterator[RoundRecord]:
    """The rounds of a prepared run, stage by stage, or those that follow `past`.

    The federation has to stand at the end of `past`, which says what stages are over. TrainingError when a loss is no
    longer finite, after the rounds before it.
    """
    ended = {record.stage: record.round for record in past if record.stage_end}
    federation.rounds = stage_rounds(federation.config) | ended
    aligns = "alignment" in federation.rounds
    if "reward" not in ended:  # a round that is played again may have ended reward learning, where `past` has not
        federation.alignment = None
    elif aligns and federation.alignment is None:  # restored at the end of reward learning
        federation.begin_alignment()

    if "instruction" in federation.rounds:
        yield from play_stage(federation, "instruction", past)
    if "reward" in federation.rounds:
        for record in play_stage(federation, "reward", past):
            if record.stage_end and aligns:
                begun = time.perf_counter()
                # the judge is trained, the reward models are frozen, and the policies as they are become the references
                alignment = federation.begin_alignment()
                record = _with_answers(record, alignment.judged(), begun)
            yield record
    if aligns:
        yield from play_stage(federation, "alignment", past)


def play_stage(federation: Federation, name: Stage, past: Sequence[RoundRecord] = ()) -> Iterator[RoundRecord]:
    """The rounds of one stage that follow those in `past`; the last record says why the stage ends."""
    records = [record for record in past if record.stage == name]
    if records and records[-1].stage_end:
        return
    stage, most_rounds = federation.stage(name), federation.rounds[name]
    server = Server(stage.shared(), stage.num_examples)  # between rounds its copy is what every client has
    while not records or not records[-1].stage_end:
        begun, number = time.perf_counter(), len(records) + 1
        sent, trained = play_round(federation, name, server, number)
        measured = [training | held_out for training, held_out in zip(trained, stage.measure(), strict=True)]
        _check_finite(measured, name, number)
        record = _record(federation, name, number, server, sent, measured)
        reason = end_reason(federation.config, [*records, record], most_rounds)
        records.append(record.model_copy(update={"stage_end": reason, "wall_s": time.perf_counter() - begun}))
        federation.rounds[name] = number if reason else most_rounds
        yield records[-1]


def play_round(federation: Federation, name: Stage, server: Server, number: int) -> tuple[Transfer, list[Measures]]:
    """One round up to the average: the clients train, what they upload crosses the channel, the server averages.

    Returns the uploads, and what each client's training measures of itself.
    """
    trained = federation.stage(name).train(number)
    bits = np.full(federation.config.clients, priced_bits(federation, name, server), dtype=np.int64)
    generator = seeds.generator(federation.config.seed, "channel", name, number)
    sent = transfer(bits, federation.config.channel, generator)
    server.average(sent.delivered)
    return sent, trained


def priced_bits(federation: Federation, name: Stage, server: Server) -> int:
    """Bits that one client uploads a round: counted from the tensors, or the paper's models' where so priced."""
    config, num_params = federation.config, server.num_params
    if config.price_as != "backbone" and name == "reward":
        num_params = num_reward_upload_params(federation.method, config)
    elif config.price_as != "backbone":
        num_params = sum(num_upload_params(federation.method, federation.geometry, config).values())
    return num_params * config.float_bits


def _check_finite(measured: Sequence[Measures], name: Stage, number: int) -> None:
    for client, measures in enumerate(measured):
        loss = measures.get("loss")
        if loss is not None and not math.isfinite(loss):
            raise diverged(f"held-out loss of client {client}", f"stage {name}, round {number}")


def _record(
    federation: Federation, name: Stage, number: int, server: Server, sent: Transfer, measured: Sequence[Measures]
) -> RoundRecord:
    bits, weights = priced_bits(federation, name, server), federation.clients.weights
    clients = tuple(
        ClientRecord.model_validate(
            {
                "client": client,
                "helpfulness_weight": weights[client],
                "snr_db": float(sent.snr_db[client]) if bits else None,
                "rate_bps": float(sent.rate_bps[client]) if bits else None,
                "uplink_bits": bits,
                "delay_s": float(sent.delay_s[client]),
                "energy_j": float(sent.energy_j[client]),
                "delivered": bool(sent.delivered[client]),
                "lora_modules": federation.lora_modules(client),
                "examples": len(federation.clients.splits[client].train),
                **measures,
            }
        )
        for client, measures in enumerate(measured)
    )
    record = RoundRecord(
        run=federation.run_id,
        method=federation.method.id,
        stage=name,
        round=number,
        delay_s=max(client.delay_s for client in clients),
        energy_j=sum(client.energy_j for client in clients),
        uplink_bits=sum(client.uplink_bits for client in clients),
        clients=clients,
    )
    return record.model_copy(update=_means(clients))


def _with_answers(record: RoundRecord, judged: Sequence[Measures], begun: float) -> RoundRecord:
    """The last record of reward learning, with the judge's scores before alignment and the seconds since `begun`."""
    clients = tuple(
        client.model_copy(update={name: answers[name] for name in BEFORE_ALIGNMENT})
        for client, answers in zip(record.clients, judged, strict=True)
    )
    wall_s = record.wall_s + time.perf_counter() - begun
    return record.model_copy(update={"clients": clients, "wall_s": wall_s, **_means(clients)})


def _means(clients: Sequence[ClientRecord]) -> Measures:
    return {name: _mean([getattr(client, name) for client in clients]) for name in MEAN_FIELDS}


def _mean(values: Sequence[float | None]) -> float | None:
    present = [value for value in values if value is not None]
    return float(np.mean(present)) if present else None
