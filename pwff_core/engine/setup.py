"""Config in, a loaded federation out: data, backbone, encoder, the clients' models and the stages, ready to play."""

from __future__ import annotations

from typing import TypeAlias

import torch

from pwff_core.config import RunConfig, stage_rounds
from pwff_core.data.client_profiles import device_classes, helpfulness_weights, placement
from pwff_core.data.partition import ClientData
from pwff_core.data.preference_files import load_preferences
from pwff_core.data.sources import load_clients
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
from pwff_core.engine.stages.instruction import InstructionStage
from pwff_core.engine.stages.reward import RewardStage, train_judge
from pwff_core.engine.stages.rollouts import cut_prompts_note
from pwff_core.methods import METHODS
from pwff_core.records import ClientProfile, Stage
from pwff_core.wireless.payload import Geometry

AnyStage: TypeAlias = InstructionStage | RewardStage | AlignmentStage


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
            "style": mine.style.options() if mine.style else {},
            "facts_held": mine.facts_held,
        }
    )


def prepare(config: RunConfig, run_id: str = "", *, force: bool = False) -> Federation:
    """Everything that a run needs, loaded and checked; `force` tries even if it may need more memory than is free.

    Raises ConfigError, DataError or ModelError.
    """
    return Federation(config, run_id, force=force)
