"""The way through: `run(config)` yields one RoundRecord a round. The round loop and nothing else.

    clients train  →  uploads cross the channel  →  the server averages what arrived  →  every client's model is tested

Three stages are played like this, one after the other: instruction tuning, reward learning, alignment; which of them,
and what is uploaded, says the method's row. Downloads are taken as free and without loss, as in the paper.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias

import numpy as np
import torch

from pwff_core import seeds
from pwff_core.config import RunConfig, stage_rounds
from pwff_core.data.client_profiles import device_classes, helpfulness_weights, placement
from pwff_core.data.partition import ClientData
from pwff_core.data.preference_files import load_preferences
from pwff_core.data.sources import load_clients
from pwff_core.engine.aggregation import Server
from pwff_core.engine.models.backbone import load_backbone
from pwff_core.engine.models.encoder import load_encoder
from pwff_core.engine.models.memory import check_memory
from pwff_core.engine.models.reward_models import RewardModels
from pwff_core.engine.models.saved_models import SavedModels, stacked
from pwff_core.engine.stages.alignment import AlignmentStage
from pwff_core.engine.stages.clients import (
    COHORT_SIZE,
    Clients,
    encode_splits,
    fitting_cohort_size,
    new_cohorts,
    tokens_at_once,
)
from pwff_core.engine.stages.early_stopping import why_ended
from pwff_core.engine.stages.instruction import InstructionStage, diverged
from pwff_core.engine.stages.reward import RewardStage, train_judge
from pwff_core.engine.stages.rollouts import cut_prompts_note
from pwff_core.knobs import steered
from pwff_core.methods import METHODS
from pwff_core.records import ClientProfile, ClientRecord, RoundRecord, Stage, Value
from pwff_core.wireless.link import Transfer, transfer
from pwff_core.wireless.payload import Geometry, num_reward_upload_params, num_upload_params

AnyStage: TypeAlias = InstructionStage | RewardStage | AlignmentStage
MEASURES = tuple(  # of a round: means over its clients
    name
    for name, field in RoundRecord.model_fields.items()
    if name in ClientRecord.model_fields and field.default is None
)


class Federation:
    """A run that is ready to play: its clients, their models, and what to tell about them.

    Reading data and weights happens here, so a PwffError here means that the run cannot start.
    """

    def __init__(
        self, config: RunConfig, run_id: str = "", cohort_size: int | None = None, *, force: bool = False
    ) -> None:
        self.config, self.run_id, self.method = config, run_id, METHODS[config.method]
        self.rounds = stage_rounds(config)
        data, notes = load_clients(config)
        check_memory(config, COHORT_SIZE, force=force)
        backbone = load_backbone(config.backbone, config.device, config.precision)
        splits, cut = encode_splits(data, config, backbone)
        together = cohort_size or fitting_cohort_size(backbone, splits)
        classes = device_classes(config)
        self.placed = placement(config, self.method, classes, len(backbone.attention))
        cohorts = new_cohorts(config, self.method, backbone, self.placed, together)
        weights = helpfulness_weights(config)
        self.clients = Clients(
            config, self.method, backbone, cohorts, splits, weights, together, tokens_at_once(backbone)
        )
        self.stages: dict[Stage, AnyStage] = {"instruction": InstructionStage(self.clients)}
        if "reward" in self.rounds:
            self.preferences = load_preferences(config)
            self.encoder = load_encoder(config.reward.encoder, config.device)
            learning = RewardStage(
                config, self.method, self.preferences.clients, self.encoder, cohort_size or COHORT_SIZE
            )
            self.stages["reward"] = learning
            notes = (*notes, *self.preferences.notes, *learning.notes)
            if "alignment" in self.rounds:
                notes = (*notes, *cut_prompts_note(config, backbone, self.preferences.clients))
        self.judge: RewardModels | None = None
        self.profiles = tuple(
            _profile(client, mine, classes[client], self.lora_modules(client), weights[client])
            for client, mine in enumerate(data)
        )
        self.notes = (*notes, *cut, *self._notes())

    @property
    def rounds_total(self) -> int:
        """Rounds of all stages, at the most."""
        return sum(self.rounds.values())

    @property
    def geometry(self) -> Geometry:
        """Blocks and widths of the backbone as it was loaded."""
        query, key, value = self.clients.backbone.attention[0]
        blocks = len(self.clients.backbone.attention)
        return Geometry(blocks, query.inputs, query.outputs, key.outputs, value.outputs)

    def lora_modules(self, client: int) -> int:
        """LoRA modules that a client places."""
        return int(self.placed[client].sum()) if "lora" in self.method.trains else 0

    def _notes(self) -> list[str]:
        rate = self.config.instruction.learning_rate or self.method.learning_rate
        notes = [
            f"Training is real: AdamW at {rate:g} through the backbone {self.config.backbone}, on "
            f"{self.clients.backbone.device} in {self._format()}. The radio channel is simulated, and uploads alone "
            "are priced."
        ]
        if self.config.price_as == "gpt2":
            notes.append(
                "Delay and energy are priced as if the models were GPT-2 small and DistilBERT; what is learned is not."
            )
        if self.method.pooled:
            notes.append(
                "Centralised is a control: everybody's data are pooled, nothing stays private or is priced, and one "
                "model serves all, with the owners' mean wish."
            )
        return notes

    def _format(self) -> str:
        return str(self.clients.backbone.dtype).removeprefix("torch.")

    def begin_alignment(self) -> AlignmentStage:
        """Freeze the reward models, train the judge, and take the policies as they are for the reference."""
        learned, references = self.stages["reward"], self.preferences.references
        assert isinstance(learned, RewardStage)  # the config has no alignment without it
        judge = train_judge(self.encoder, self.preferences.judge, references)
        return self.align(learned.finish(references), judge)

    def align(self, rewards: RewardModels, judge: RewardModels) -> AlignmentStage:
        """Set up alignment by these reward models, with the policies as they are for the reference."""
        self.judge = judge
        aligned = AlignmentStage(self.clients, self.preferences.clients, rewards, judge)
        self.stages["alignment"] = aligned
        return aligned

    def saved_models(self) -> SavedModels:
        """The clients' models as they are now, and as alignment found them."""
        aligned = self.stages.get("alignment")
        people = self.preferences.clients if self.judge else []
        return SavedModels(
            self.config,
            torch.from_numpy(self.placed),
            stacked(aligned.references) if isinstance(aligned, AlignmentStage) else None,
            stacked(self.clients.cohorts),
            self.judge.state() if self.judge else {},
            {
                "delicate": tuple(dict.fromkeys(mine.test_delicate[0] for mine in people)),
                "ordinary": tuple(dict.fromkeys(mine.test_ordinary[0] for mine in people)),
            },
        )


def _profile(client: int, mine: ClientData, device: str, modules: int, weight: float) -> ClientProfile:
    return ClientProfile.model_validate(
        {
            "client": client,
            "helpfulness_weight": weight,
            "device_class": device,
            "lora_modules": modules,
            "train_examples": len(mine.train),
            "validation_examples": len(mine.validation),
            "test_examples": len(mine.test),
            "topics": mine.topics(),
            "style": mine.style.named() if mine.style else {},
            "facts_held": mine.facts_held,
        }
    )


def prepare(config: RunConfig, run_id: str = "", *, force: bool = False) -> Federation:
    """Everything that a run needs, loaded and checked; `force` tries even if it may need more memory than is free.

    Raises ConfigError, DataError or ModelError.
    """
    return Federation(config, run_id, force=force)


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
