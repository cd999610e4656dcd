"""The way through: `run(config)` yields one RoundRecord a round. The round loop and nothing else.

    clients train  →  uploads cross the channel  →  the server averages what arrived  →  every client's model is tested

Downloads are taken as free and without loss, as in the paper.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from pwff_core import seeds
from pwff_core.aggregation import weighted_mean
from pwff_core.config import RunConfig
from pwff_core.data.encoding import Encoded, encode
from pwff_core.data.owners import device_classes, helpfulness_weights, placement
from pwff_core.data.partition import ClientData
from pwff_core.data.sources import load_clients
from pwff_core.errors import TrainingError
from pwff_core.methods import METHODS, Group
from pwff_core.models.backbone import Backbone, load_backbone
from pwff_core.models.cohort import Cohort
from pwff_core.records import ClientProfile, ClientRecord, RoundRecord
from pwff_core.stages import instruction
from pwff_core.stages.batches import collate, training_rows
from pwff_core.wireless.link import Transfer, transfer
from pwff_core.wireless.payload import Geometry, uplink_bits, upload_numbers

COHORT_SIZE = 10  # clients that train in one stack; more run in several, so that memory stays bounded


class Splits(NamedTuple):
    """One client's examples as tokens."""

    train: list[Encoded]
    held_out: list[Encoded]


class Federation:
    """A run that is ready to play: its clients, their models, the server's copy, and what to tell about them.

    Reading data and weights happens here, so a PwffError here means that the run cannot start.
    """

    def __init__(self, config: RunConfig, run_id: str = "", cohort_size: int = COHORT_SIZE) -> None:
        self.config, self.run_id, self.method = config, run_id, METHODS[config.method]
        self.cohort_size = cohort_size
        data, data_notes = load_clients(config)
        self.backbone = load_backbone(config.backbone, config.device, config.precision)
        self.splits, cut = _encode(data, config, self.backbone)
        classes = device_classes(config)
        self.placed = placement(config, self.method, classes, len(self.backbone.attention))
        self.weights = helpfulness_weights(config)
        self.cohorts = self._new_cohorts()
        rate = config.instruction.learning_rate or self.method.learning_rate
        ratio = config.lora.rate_ratio if "adapters" in self.method.trains else 1.0
        self.optimisers = [instruction.new_optimiser(cohort, rate, ratio) for cohort in self.cohorts]
        self.server = self._server_copy()
        self.bits = self._priced_bits()
        self.rounds_total = config.instruction.rounds
        self.profiles = tuple(
            _profile(client, mine, classes[client], self.lora_modules(client), self.weights[client])
            for client, mine in enumerate(data)
        )
        self.notes = (*data_notes, *cut, *self._notes(rate))

    def _new_cohorts(self) -> list[Cohort]:
        rows = torch.from_numpy(self.placed[:1] if self.method.pooled else self.placed)
        return [
            Cohort(
                self.backbone, part, self.method.trains, self.config.adapter, self.config.lora,
                torch.Generator().manual_seed(seeds.torch_seed(self.config.seed, "start")),
            )
            for part in rows.split(self.cohort_size)
        ]  # fmt: skip

    def _server_copy(self) -> dict[Group, dict[str, Tensor]]:
        """What the server holds of the uploaded tensors: at first, the common start."""
        tensors = self.cohorts[0].tensors
        return {
            group: {name: stacked.detach()[0].clone() for name, stacked in tensors[group].items()}
            for group in self.method.uploads
        }

    def _priced_bits(self) -> int:
        """Bits that one client uploads a round: counted from the tensors, or GPT-2 small's where so priced."""
        numbers = {group: sum(tensor.numel() for tensor in held.values()) for group, held in self.server.items()}
        if self.config.price_as != "backbone":
            numbers = upload_numbers(self.method, self.geometry, self.config)
        return uplink_bits(numbers, self.config.float_bits)

    @property
    def geometry(self) -> Geometry:
        """Blocks and widths of the backbone as it was loaded."""
        query, key, value = self.backbone.attention[0]
        return Geometry(len(self.backbone.attention), query.inputs, query.outputs, key.outputs, value.outputs)

    def members(self, cohort: int) -> range:
        """The clients that a cohort serves; the one model of pooled training serves everybody."""
        start = cohort * self.cohort_size
        return range(self.config.clients) if self.method.pooled else range(start, start + self.cohorts[cohort].clients)

    def lora_modules(self, client: int) -> int:
        """LoRA modules that a client places."""
        return int(self.placed[client].sum()) if "lora" in self.method.trains else 0

    def _notes(self, rate: float) -> list[str]:
        notes = [
            f"Training is real: AdamW at {rate:g} through the backbone {self.config.backbone}, on "
            f"{self.backbone.device}. The radio channel is simulated, and uploads alone are priced."
        ]
        if self.config.price_as == "gpt2":
            notes.append(
                "Delay and energy are priced as if the backbone were GPT-2 small; accuracy is this backbone's."
            )
        if self.method.pooled:
            notes.append(
                "Centralised is a control: everybody's examples are pooled, nothing stays private or is priced."
            )
        return notes


def _encode(data: Sequence[ClientData], config: RunConfig, backbone: Backbone) -> tuple[list[Splits], list[str]]:
    most = min(config.data.max_length, backbone.context)
    cut, total, splits = 0, 0, []
    for mine in data:
        held_out = mine.test if config.data.evaluate_on == "test" else mine.validation
        train = [encode(example, backbone.tokenizer, most) for example in mine.train]
        tested = [encode(example, backbone.tokenizer, most) for example in held_out]
        cut += sum(row.cut for row in (*train, *tested))
        total += len(train) + len(tested)
        splits.append(Splits(train, tested))
    return splits, [f"{cut} of {total} examples are longer than {most} tokens and were cut."] if cut else []


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


def prepare(config: RunConfig, run_id: str = "") -> Federation:
    """Everything that a run needs, loaded and checked. Raises ConfigError, DataError or ModelError."""
    return Federation(config, run_id)


def run(config: RunConfig, run_id: str = "") -> Iterator[RoundRecord]:
    """Play a whole run, a record a round. The same config gives the same records but for `wall_s`."""
    yield from play(prepare(config, run_id))


def play(federation: Federation) -> Iterator[RoundRecord]:
    """The rounds of a prepared run. TrainingError when the loss is no longer finite, after the rounds before."""
    for number in range(1, federation.config.instruction.rounds + 1):
        yield play_round(federation, number)


def play_round(federation: Federation, number: int) -> RoundRecord:
    """One round of instruction tuning: train, upload, average, test."""
    begun = time.perf_counter()
    train(federation, number)
    sent = transfer(
        np.full(federation.config.clients, federation.bits, dtype=np.int64),
        federation.config.channel,
        seeds.generator(federation.config.seed, "channel", "instruction", number),
    )
    aggregate(federation, sent.delivered)
    scores = evaluate(federation)
    for client, score in enumerate(scores):
        if not math.isfinite(score.loss):
            raise _diverged(f"held-out loss of client {client}", f"round {number}")
    return _record(federation, number, sent, scores, time.perf_counter() - begun)


def train(federation: Federation, number: int) -> None:
    """The local steps of round `number` (1 …), of every client. TrainingError when a loss is no longer finite."""
    settings = federation.config.instruction
    padding = federation.backbone.tokenizer.eos_token_id
    for index, (cohort, optimiser) in enumerate(zip(federation.cohorts, federation.optimisers, strict=True)):
        for local in range(settings.local_steps):
            step = (number - 1) * settings.local_steps + local
            rows = [
                training_rows(federation.splits[k].train, federation.config.seed, k, step, settings.batch_size)
                for k in federation.members(index)
            ]
            if federation.method.pooled:
                rows = [[row for mine in rows for row in mine]]
            batch = collate(rows, padding, federation.backbone.device)
            losses = instruction.train_step(
                cohort, optimiser, batch, settings.gradient_clip, trained(federation, local)
            )
            if not torch.isfinite(losses).all():
                broken = federation.members(index)[int(torch.nonzero(~torch.isfinite(losses))[0])]
                raise _diverged(f"training loss of client {broken}", f"round {number}, local step {local + 1}")


def _diverged(what: str, where: str) -> TrainingError:
    return TrainingError(
        f"The {what} is no longer a number (stage instruction, {where}). The rounds before are kept. "
        "Try a smaller learning rate."
    )


def trained(federation: Federation, local: int) -> tuple[Group, ...]:
    """What a local step trains: first what stays at home, on top of the average just received, then what goes up.

    Together, each hides from the other what it has learned already, and the average then takes half of it away. The
    order is FedRep's (Collins et al., arXiv 2102.07078). Where nothing stays, or nothing goes, all is trained together.
    """
    method, settings = federation.method, federation.config.instruction
    personal_steps = min(settings.personal_steps, settings.local_steps - 1)  # one is always left for what goes up
    if not personal_steps or not method.personal or not method.uploads:
        return method.trains
    return method.personal if local < personal_steps else method.uploads


@torch.no_grad()
def aggregate(federation: Federation, delivered: np.ndarray) -> None:
    """Average what arrived, weighted by examples; every client goes on from the server's copy."""
    weights = torch.tensor([float(len(mine.train)) for mine in federation.splits]) * torch.from_numpy(delivered)
    for group, held in federation.server.items():
        for name, copy in held.items():
            stacks: list[Tensor] = [cohort.tensors[group][name] for cohort in federation.cohorts]
            if weights.any():
                copy.copy_(weighted_mean(torch.cat(stacks), weights.to(copy.device)))
            for stack in stacks:
                stack.copy_(copy.expand_as(stack))


def evaluate(federation: Federation) -> list[instruction.Score]:
    """Every client's model on the client's own held-out examples."""
    padding = federation.backbone.tokenizer.eos_token_id
    scores: list[instruction.Score] = []
    for index, cohort in enumerate(federation.cohorts):
        rows = [federation.splits[k].held_out for k in federation.members(index)]
        if federation.method.pooled:
            scores += [instruction.evaluate(cohort, [mine], padding)[0] for mine in rows]
        else:
            scores += instruction.evaluate(cohort, rows, padding)
    return scores


def _record(
    federation: Federation, number: int, sent: Transfer, scores: Sequence[instruction.Score], wall_s: float
) -> RoundRecord:
    uploads = federation.bits > 0
    clients = tuple(
        ClientRecord(
            client=client,
            helpfulness_weight=federation.weights[client],
            accuracy=score.accuracy(),
            knowledge_accuracy=score.accuracy("knowledge"),
            style_accuracy=score.accuracy("style"),
            loss=score.mean_loss(),
            snr_db=float(sent.snr_db[client]) if uploads else None,
            rate_bps=float(sent.rate_bps[client]) if uploads else None,
            uplink_bits=federation.bits,
            delay_s=float(sent.delay_s[client]),
            energy_j=float(sent.energy_j[client]),
            delivered=bool(sent.delivered[client]),
            lora_modules=federation.lora_modules(client),
            examples=len(federation.splits[client].train),
        )
        for client, score in enumerate(scores)
    )
    return RoundRecord(
        run=federation.run_id,
        method=federation.method.id,
        stage="instruction",
        round=number,
        accuracy=_mean([client.accuracy for client in clients]),
        knowledge_accuracy=_mean([client.knowledge_accuracy for client in clients]),
        style_accuracy=_mean([client.style_accuracy for client in clients]),
        loss=_mean([client.loss for client in clients]),
        delay_s=max(client.delay_s for client in clients),
        energy_j=sum(client.energy_j for client in clients),
        uplink_bits=sum(client.uplink_bits for client in clients),
        wall_s=wall_s,
        clients=clients,
    )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
