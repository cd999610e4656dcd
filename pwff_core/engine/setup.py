"""Config in, a loaded federation out: data, backbone, encoder, the clients' models and the stages, ready to play."""

from __future__ import annotations

from pathlib import Path
from typing import TypeAlias

import torch

from pwff_core.config import RunConfig, stage_rounds
from pwff_core.data.client_profiles import device_classes, placement
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
from pwff_core.engine.stages.reward import RewardStage
from pwff_core.engine.stages.rollouts import cut_prompts_note
from pwff_core.engine.stages.state import State
from pwff_core.methods import METHODS
from pwff_core.records import ClientProfile, Stage
from pwff_core.runs import uploads
from pwff_core.wireless.payload import Geometry

AnyStage: TypeAlias = InstructionStage | RewardStage | AlignmentStage


class Federation:
    """A run that is ready to play: its clients, its stages, and what a reader should know about them.

    Reading data and weights happens here, so a PwffError here means that the run cannot start.
    """

    clients: Clients
    rounds: dict[Stage, int]  # of every stage, in order: the most it may have, or how many it had once it is over
    instruction: InstructionStage
    reward: RewardStage | None  # where the run learns rewards
    alignment: AlignmentStage | None  # from the end of reward learning on
    notes: tuple[str, ...]

    def __init__(
        self,
        config: RunConfig,
        run_id: str = "",
        cohort_size: int | None = None,
        *,
        store_path: Path | None = None,
        force: bool = False,
    ) -> None:
        self.run_id, self.method = run_id, METHODS[config.method]
        self.rounds = stage_rounds(config)
        data, data_notes = load_clients(uploads.with_path(config, store_path) if store_path else config)
        check_memory(config, COHORT_SIZE, force=force)
        backbone = load_backbone(config.backbone, config.device, config.precision)
        splits, cut_notes = encode_splits(data, config, backbone)
        policy_cohort = cohort_size or fitting_cohort_size(backbone, splits)
        devices = device_classes(config)
        self.placed = placement(config, self.method, devices, len(backbone.attention))
        cohorts = new_cohorts(config, self.method, backbone, self.placed, policy_cohort)
        self.clients = Clients(config, self.method, backbone, cohorts, splits, policy_cohort, tokens_at_once(backbone))
        self.instruction, self.reward, self.alignment = InstructionStage(self.clients), None, None
        reward_notes: tuple[str, ...] = ()
        if "reward" in self.rounds:
            preferences = load_preferences(config)
            encoder = load_encoder(config.reward.encoder, config.device)
            self.reward = RewardStage(self.clients, preferences, encoder, cohort_size or COHORT_SIZE)
            reward_notes = (*preferences.notes, *self.reward.notes)
            if "alignment" in self.rounds:
                reward_notes += cut_prompts_note(config, backbone, preferences.clients)
        self._profiles = tuple(
            _profile(client, owned, devices[client], self.lora_modules(client), self.clients.weights[client])
            for client, owned in enumerate(data)
        )
        self.notes = (*data_notes, *reward_notes, *cut_notes, *self._notes())

    @property
    def config(self) -> RunConfig:
        """The run's settings as they are now; `steer` changes them."""
        return self.clients.config

    @property
    def profiles(self) -> tuple[ClientProfile, ...]:
        """Who the clients are, with the weights that they have now."""
        return tuple(
            profile.model_copy(update={"helpfulness_weight": weight})
            for profile, weight in zip(self._profiles, self.clients.weights, strict=True)
        )

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

    def stage(self, name: Stage) -> AnyStage:
        """A stage of the run. KeyError if the run does not have it, or has not come to it."""
        stages: dict[Stage, AnyStage | None] = {
            "instruction": self.instruction, "reward": self.reward, "alignment": self.alignment
        }  # fmt: skip
        stage = stages[name]
        if stage is None:
            raise KeyError(name)
        return stage

    def lora_modules(self, client: int) -> int:
        """LoRA modules that a client places."""
        return int(self.placed[client].sum()) if "lora" in self.method.trains else 0

    def begin_alignment(self) -> AlignmentStage:
        """Train the judge, freeze the reward models, and take the policies as they are for the reference."""
        assert self.reward  # the config has no alignment without it
        judge = self.reward.train_judge()
        rewards = self.reward.finish()
        self.alignment = AlignmentStage(self.clients, self.reward.preferences.clients, rewards, judge)
        return self.alignment

    def restore_alignment(self, rewards: State, judge: State) -> None:
        """Begin alignment with the reward models and the judge of a checkpoint, and the policies for the reference."""
        assert self.reward
        models = (RewardModels.from_state(self.reward.encoder, state) for state in (rewards, judge))
        self.alignment = AlignmentStage(self.clients, self.reward.preferences.clients, *models)

    def saved_models(self) -> SavedModels:
        """The clients' models as they are now, and as alignment found them."""
        alignment = self.alignment
        preferences = alignment.preferences if alignment else []
        return SavedModels(
            self.config,
            torch.from_numpy(self.placed),
            stacked(alignment.references) if alignment else None,
            stacked(self.clients.cohorts),
            alignment.judge.state() if alignment else {},
            {
                "delicate": tuple(dict.fromkeys(own.test_delicate[0] for own in preferences)),
                "ordinary": tuple(dict.fromkeys(own.test_ordinary[0] for own in preferences)),
            },
        )

    def _notes(self) -> list[str]:
        rate = self.config.instruction.learning_rate or self.method.learning_rate
        backbone = self.clients.backbone
        notes = [
            f"Training is real: AdamW at {rate:g} through the backbone {self.config.backbone}, on {backbone.device} in "
            f"{str(backbone.dtype).removeprefix('torch.')}. The radio channel is simulated, and uploads alone are "
            "priced."
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


def _profile(client: int, owned: ClientData, device: str, lora_modules: int, weight: float) -> ClientProfile:
    return ClientProfile.model_validate(
        {
            "client": client,
            "helpfulness_weight": weight,
            "device_class": device,
            "lora_modules": lora_modules,
            "train_examples": len(owned.train),
            "validation_examples": len(owned.validation),
            "test_examples": len(owned.test),
            "topics": owned.topics(),
            "style": owned.style.options() if owned.style else {},
            "facts_held": owned.facts_held,
        }
    )


def prepare(config: RunConfig, run_id: str = "", *, store_path: Path | None = None, force: bool = False) -> Federation:
    """Everything that a run needs, loaded and checked; `force` tries even if it may need more memory than is free.

    `store_path`: the run's store, beside which the uploads lie that a config may name.
    Raises ConfigError, DataError or ModelError.
    """
    return Federation(config, run_id, store_path=store_path, force=force)
