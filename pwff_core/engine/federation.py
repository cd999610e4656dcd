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
from pwff_core.data.client_profiles import helpfulness_weights
from pwff_core.engine.aggregation import Server
from pwff_core.engine.setup import Federation, prepare
from pwff_core.engine.stages.early_stopping import why_ended
from pwff_core.engine.stages.instruction import diverged
from pwff_core.knobs import steered
from pwff_core.records import ClientRecord, RoundRecord, Stage, Value
from pwff_core.wireless.link import Transfer, transfer
from pwff_core.wireless.payload import num_reward_upload_params, num_upload_params

MEASURES = tuple(  # of a round: means over its clients
    name
    for name, field in RoundRecord.model_fields.items()
    if name in ClientRecord.model_fields and field.default is None
)


def run(config: RunConfig, run_id: str = "") -> Iterator[RoundRecord]:
    """Play a whole run, a record a round. The same config gives the same records but for `wall_s`."""
    yield from play(prepare(config, run_id))


def steer(federation: Federation, changes: Mapping[str, Value]) -> None:
    """Change settings between two rounds; they hold from the next one on, and for the models that are kept.

    ConfigError for a setting that is not STEERABLE or a value that is not allowed; then nothing has changed.
    """
    federation.config = steered(federation.config, changes)
    weights = helpfulness_weights(federation.config)
    federation.clients.weights[:] = weights  # the stages read it at every round
    federation.profiles = tuple(
        profile.model_copy(update={"helpfulness_weight": weight})
        for profile, weight in zip(federation.profiles, weights, strict=True)
    )


def play(federation: Federation, past: Sequence[RoundRecord] = ()) -> Iterator[RoundRecord]:
    """The rounds of a prepared run, stage by stage, or those after `past`, at whose end the federation stands.

    Which stages are over, `past` says. TrainingError when a loss is no longer finite, after the rounds before it.
    """
    ended = {record.stage: record.round for record in past if record.stage_end}
    federation.rounds |= stage_rounds(federation.config) | ended
    if "reward" not in ended:
        federation.judge = None
    elif "alignment" in federation.rounds and federation.judge is None:
        federation.begin_alignment()
    for stage in federation.rounds:
        yield from play_stage(federation, stage, [record for record in past if record.stage == stage])


def play_stage(federation: Federation, stage: Stage, played: Sequence[RoundRecord] = ()) -> Iterator[RoundRecord]:
    """The rounds of one stage, or those after the ones that are played; the last record says why it ended."""
    if played and played[-1].stage_end:
        return
    playing, rounds = federation.stages[stage], federation.rounds[stage]
    server = Server(playing.shared(), playing.num_examples)  # between rounds its copy is what every client has
    past = list(played)
    while not past or not past[-1].stage_end:
        begun, number = time.perf_counter(), len(past) + 1
        sent = play_round(federation, stage, server, number)
        measured = playing.measure()
        _check(measured, stage, number)
        record = _record(federation, stage, number, server, sent, measured)
        end = why_ended(federation.config, [*past, record], rounds)
        if end and stage == "reward" and "alignment" in federation.rounds:
            measured = [ours | before for ours, before in zip(measured, _before(federation), strict=True)]
            record = _record(federation, stage, number, server, sent, measured)
        past.append(record.model_copy(update={"stage_end": end, "wall_s": time.perf_counter() - begun}))
        federation.rounds[stage] = number if end else rounds
        yield past[-1]


def _before(federation: Federation) -> list[dict[str, float | None]]:
    """How the policies answer before alignment: the last record of reward learning, once there is a judge, says so."""
    told = ("helpfulness", "harmlessness", "reward", "refusal_rate", "response_tokens")
    return [{name: mine[name] for name in told} for mine in federation.begin_alignment().judged()]


def play_round(federation: Federation, stage: Stage, server: Server, number: int) -> Transfer:
    """One round up to the average: the clients train, what they upload crosses the channel, the server averages."""
    federation.stages[stage].train(number)
    bits = np.full(federation.config.clients, priced_bits(federation, stage, server), dtype=np.int64)
    generator = seeds.generator(federation.config.seed, "channel", stage, number)
    sent = transfer(bits, federation.config.channel, generator)
    server.average(sent.delivered)
    return sent


def priced_bits(federation: Federation, stage: Stage, server: Server) -> int:
    """Bits that one client uploads a round: counted from the tensors, or the paper's models' where so priced."""
    config, numbers = federation.config, server.num_params
    if config.price_as != "backbone" and stage == "reward":
        numbers = num_reward_upload_params(federation.method, config)
    elif config.price_as != "backbone":
        numbers = sum(num_upload_params(federation.method, federation.geometry, config).values())
    return numbers * config.float_bits


def _check(measured: Sequence[Mapping[str, float | None]], stage: Stage, number: int) -> None:
    for client, mine in enumerate(measured):
        loss = mine.get("loss")
        if loss is not None and not math.isfinite(loss):
            raise diverged(f"held-out loss of client {client}", f"stage {stage}, round {number}")


def _record(
    federation: Federation, stage: Stage, number: int, server: Server, sent: Transfer,
    measured: Sequence[Mapping[str, float | None]],
) -> RoundRecord:  # fmt: skip
    bits = priced_bits(federation, stage, server)
    clients = tuple(
        ClientRecord.model_validate(
            {
                "client": client,
                "helpfulness_weight": federation.clients.weights[client],
                "snr_db": float(sent.snr_db[client]) if bits else None,
                "rate_bps": float(sent.rate_bps[client]) if bits else None,
                "uplink_bits": bits,
                "delay_s": float(sent.delay_s[client]),
                "energy_j": float(sent.energy_j[client]),
                "delivered": bool(sent.delivered[client]),
                "lora_modules": federation.lora_modules(client),
                "examples": len(federation.clients.splits[client].train),
                **mine,
            }
        )
        for client, mine in enumerate(measured)
    )
    whole = RoundRecord(
        run=federation.run_id,
        method=federation.method.id,
        stage=stage,
        round=number,
        delay_s=max(client.delay_s for client in clients),
        energy_j=sum(client.energy_j for client in clients),
        uplink_bits=sum(client.uplink_bits for client in clients),
        clients=clients,
    )
    return whole.model_copy(update={name: _mean([getattr(client, name) for client in clients]) for name in MEASURES})


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
