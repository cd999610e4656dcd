"""RunConfig: everything a run depends on, frozen and checked.

A knob is defined once (`knob`). Its validation, its command-line flag, its slider and its row in the documentation
all follow from that definition.
"""

from __future__ import annotations

import math
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError

from pwff_core.methods import METHODS, MethodId
from pwff_core.records import RoundRecord, Stage

PresetId = Literal["demo", "paper", "paper-as-printed"]
MAX_CLIENTS = 200
STEERABLE: tuple[str, ...] = (  # paths of the knobs that may change while a run is going
    "channel.snr_db",
    "channel.bandwidth_hz",
    "channel.transmit_power_w",
    "channel.fading",
    "preferences.helpfulness_weights",
)


def knob(
    default: Any,
    text: str,
    *,
    symbol: str = "",
    unit: str = "",
    ge: float | None = None,
    le: float | None = None,
    scale: Literal["linear", "log"] = "linear",
    label: str = "",
) -> Any:
    """A config field with all that its forms need: help text, paper symbol, unit, bounds, slider scale and label."""
    extra: dict[str, Any] = {"symbol": symbol, "unit": unit, "scale": scale, "label": label}
    return Field(default, ge=ge, le=le, description=text, json_schema_extra=extra)


class Section(BaseModel):
    """A frozen group of knobs. Unknown names are errors, and JSON has the text "Infinity" for an infinite number."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")

    @field_validator("*", mode="before")
    @classmethod
    def _reject_true_as_number(cls, value: Any, info: ValidationInfo) -> Any:
        # pydantic would read true as the number 1
        if isinstance(value, bool) and info.field_name and cls.model_fields[info.field_name].annotation is not bool:
            raise PydanticCustomError("bool_for_other", "true and false are not allowed here")
        return value


# One knob a row, down to RunConfig's last field.
# fmt: off
class ChannelConfig(Section):
    """The radio link from a client to the server."""

    snr_db: float = knob(5.0, "Mean receive SNR of every client's link.", symbol="γ̄", unit="dB", ge=-30, le=60, label="SNR")
    bandwidth_hz: float = knob(1e6, "Bandwidth of each client's own (orthogonal) channel.", symbol="B", unit="Hz", ge=1e3, le=1e9, scale="log", label="Bandwidth")
    transmit_power_w: float = knob(1.0, "Transmit power of a client; energy is power × upload time.", symbol="P", unit="W", ge=1e-3, le=100, scale="log", label="Transmit power")
    fading: Literal["rayleigh", "awgn"] = knob("rayleigh", "rayleigh: the gain changes from one coherence block to the next; awgn: no fading, for comparison.", symbol="h", label="Fading")
    coherence_time_s: float = knob(0.01, "Time over which the channel gain stays the same (inf: one draw for the whole upload; then set a deadline).", symbol="T_c", unit="s", ge=1e-4, scale="log", label="Coherence time")
    deadline_s: float = knob(math.inf, "An upload that is not through after this long is lost, and left out of the round's average.", symbol="T_max", unit="s", ge=1e-3, scale="log", label="Upload deadline")

    @model_validator(mode="after")
    def _one_draw_needs_a_deadline(self) -> ChannelConfig:
        if self.fading == "rayleigh" and math.isinf(self.coherence_time_s) and math.isinf(self.deadline_s):
            raise ValueError(
                "coherence_time_s = inf draws one gain for a whole upload, and the mean delay of such a link is infinite; "
                "set deadline_s (seconds) or a finite coherence_time_s"
            )
        return self


class InstructionConfig(Section):
    """Stage 1, federated instruction tuning."""

    rounds: int = knob(16, "Federated rounds of instruction tuning.", ge=0, le=10_000, label="Rounds")
    local_steps: int = knob(8, "Optimiser steps of every client in a round.", ge=1, le=10_000, label="Local steps")
    batch_size: int = knob(3, "Examples of a client in a step.", ge=1, le=1024, label="Batch size")
    learning_rate: float | None = knob(None, "AdamW's step size; none: the rate that was searched for the method on the demo's validation data.", symbol="η", ge=1e-7, le=1.0, scale="log", label="Learning rate")
    personal_steps: int = knob(2, "The first so many of the local steps train only what stays at home; the others, at least one, train only what is uploaded. 0, or a single local step: all is trained together.", ge=0, le=10_000, label="Personal steps")
    gradient_clip: float = knob(1.0, "Each client's gradient is scaled down to this norm.", ge=1e-3, le=1e6, scale="log", label="Gradient clip")
    patience: int = knob(0, "The stage ends early when its smoothed held-out loss has not improved for so many rounds; 0: all rounds are played.", ge=0, le=10_000, label="Patience")


class RewardConfig(Section):
    """Stage 2, federated reward learning: a helpfulness and a harmlessness model from preference pairs."""

    rounds: int = knob(4, "Federated rounds of reward learning.", ge=0, le=10_000, label="Rounds")
    local_steps: int = knob(10, "Optimiser steps of every client in a round, for each of the two models.", ge=1, le=10_000, label="Local steps")
    batch_size: int = knob(16, "Pairs of a client in a step.", ge=1, le=4096, label="Batch size")
    learning_rate: float = knob(3e-3, "AdamW's step size for the head; an encoder that is trained too has a tenth of it.", symbol="η", ge=1e-7, le=1.0, scale="log", label="Learning rate")
    trainable: Literal["head", "all"] = knob("head", "head: a small fully connected head on a frozen encoder; all: the encoder too (the paper's letter: 100 times the upload).", label="Trainable")
    hidden: int = knob(64, "Inner width of the head.", ge=1, le=4096, label="Head width")
    encoder: str = knob("demo", "Bidirectional text encoder: demo (embedded), a local folder or a Hub id such as distilbert-base-uncased.", label="Encoder")
    helpful_source: str = knob("demo", "demo: pairs made from the embedded corpus; or a file (.json, .jsonl, .csv, .parquet), folder or Hub id (such as Anthropic/hh-rlhf:helpful-base, its part after a colon) in TRL's preference format: prompt, chosen, rejected; or chosen, rejected as whole dialogues.", label="Helpfulness pairs")
    harmless_source: str = knob("demo", "The same for harmlessness.", label="Harmlessness pairs")
    train_pairs: int = knob(64, "Pairs that a client trains on, of each kind.", ge=1, le=100_000, label="Training pairs")
    test_pairs: int = knob(32, "Held-out pairs of a client, of each kind.", ge=1, le=10_000, label="Test pairs")
    patience: int = knob(0, "The stage ends early when its smoothed held-out loss has not improved for so many rounds; 0: all rounds are played.", ge=0, le=10_000, label="Patience")


class AlignmentConfig(Section):
    """Stage 3, federated alignment: PPO with two reward models and two critics."""

    rounds: int = knob(7, "Federated rounds of alignment.", ge=0, le=10_000, label="Rounds")
    batch_size: int = knob(12, "Prompts that a client answers in a round.", ge=1, le=4096, label="Rollouts")
    delicate_share: float = knob(0.65, "Share of delicate prompts among them, where helpfulness and harmlessness conflict.", ge=0, le=1, label="Delicate prompts")
    local_steps: int = knob(2, "Epochs of PPO over a round's rollouts.", ge=1, le=100, label="PPO epochs")
    minibatches: int = knob(4, "Minibatches of an epoch.", ge=1, le=1024, label="Minibatches")
    personal_steps: int = knob(4, "The first so many of a round's minibatch steps train only what stays at home; the others, at least one, train only what is uploaded. 0: all is trained together.", ge=0, le=10_000, label="Personal steps")
    learning_rate: float | None = knob(None, "AdamW's step size for adapters; none: the rate that was searched for the method on the demo's validation prompts.", symbol="η", ge=1e-7, le=1.0, scale="log", label="Learning rate")
    lora_rate_ratio: float = knob(3.0, "LoRA's learning rate over the adapters'.", ge=0.0, le=100, label="LoRA rate ratio")
    critic_learning_rate: float = knob(2e-3, "AdamW's step size for the critics.", ge=1e-7, le=1.0, scale="log", label="Critic learning rate")
    critic_steps: int = knob(5, "Optimiser steps of the critics in an epoch.", ge=1, le=10_000, label="Critic steps")
    critic_warmup: int = knob(25, "Steps of the critics on the first rollouts before any policy step.", ge=0, le=100_000, label="Critic warm-up")
    temperature: float = knob(0.7, "Sampling temperature of rollouts.", ge=0.05, le=10, label="Temperature")
    max_new_tokens: int = knob(64, "Longest answer.", unit="token", ge=1, le=4096, label="Longest answer")
    clip: float = knob(0.2, "The policy's ratio is clipped to 1 ± ε.", symbol="ε", ge=0.001, le=1, label="Clip")
    value_clip: float = knob(0.2, "A value may move so far from the rollout's before its loss is clipped.", ge=0.001, le=1000, label="Value clip")
    kl_coefficient: float = knob(0.2, "Penalty a token on log π/π_ref against the model before alignment.", symbol="β", ge=0, le=100, label="KL coefficient")
    kl_stop: float = knob(0.2, "An epoch's remaining steps are skipped for a client whose policy has moved further than this from the rollouts' (mean KL a token).", unit="nat", ge=1e-4, le=1e6, scale="log", label="KL early stop")
    discount: float = knob(1.0, "Discount of a later token's reward.", symbol="γ", ge=0, le=1, label="Discount")
    gae_lambda: float = knob(0.95, "Generalised advantage estimation: from one-step (0) to whole-return (1).", symbol="λ_GAE", ge=0, le=1, label="GAE")
    gradient_clip: float = knob(1.0, "Each client's gradient is scaled down to this norm.", ge=1e-3, le=1e6, scale="log", label="Gradient clip")
    test_prompts: int = knob(10, "Held-out prompts that a client answers after each round, delicate ones in the same share.", ge=1, le=10_000, label="Test prompts")
    patience: int = knob(0, "The stage ends early when its smoothed reward has not improved for so many rounds; 0: all rounds are played.", ge=0, le=10_000, label="Patience")


class AdapterConfig(Section):
    """Bottleneck adapters: after the attention output, after the MLP output and on the block's output."""

    bottleneck: int = knob(10, "Inner width of an adapter.", symbol="b", ge=1, le=4096, label="Adapter bottleneck")


class LoraConfig(Section):
    """LoRA on the query, key and value projections."""

    rank: int = knob(8, "Rank of a LoRA module (the paper prints 96; its own figures fit 8).", symbol="r", ge=1, le=4096, label="LoRA rank")
    alpha: float = knob(16.0, "LoRA's output is scaled by alpha / rank.", ge=1e-3, le=1e4, label="LoRA alpha")
    rate_ratio: float = knob(0.5, "Where adapters are trained too: LoRA's learning rate over theirs.", ge=0.0, le=100, label="LoRA rate ratio")
    modules: Literal["by-device", "all"] = knob("by-device", "Where LoRA stays at home: by-device places n, 2n or 3n modules by the client's device class (v; q and v; q, k and v of every block), all places 3n.", label="LoRA modules")


class DataConfig(Section):
    """Whose examples, and how different clients' data are."""

    source: str = knob("demo", "demo: the embedded corpus; a file in Alpaca columns (.json, .jsonl, .csv, .parquet) or a folder of such files; or a Hub id such as tatsu-lab/alpaca.", label="Data source")
    max_rows: int = knob(100_000, "Most rows of a source of examples or preference pairs. Of a larger source a random sample is kept, the same in every run.", ge=1, le=1_000_000, scale="log", label="Most rows")
    alpha: float = knob(0.3, "From non-IID (small) to IID (large): Dirichlet concentration over topics. A house style's convention is a client's own with probability 1/(1+α), and a fact is held by a share α/(1+α) of the clients.", symbol="α", ge=0.01, le=1000, scale="log", label="Non-IID ↔ IID")
    personal_styles: bool = knob(True, "Demo: clients have house styles of their own; off: all write in one style.", label="Personal styles")
    train_examples: int = knob(96, "Training examples of a client, on average (counts differ between clients).", ge=1, le=100_000, label="Training examples")
    test_examples: int = knob(30, "Held-out examples of a client that accuracy is measured on.", ge=1, le=10_000, label="Test examples")
    knowledge_share: float = knob(0.5, "Demo: share of a client's examples that ask for facts the backbone was never shown.", ge=0, le=1, label="Knowledge share")
    unseen_share: float = knob(0.0, "Demo: share of everyday examples whose kind of question the backbone was never shown.", ge=0, le=1, label="Unseen questions")
    evaluate_on: Literal["test", "validation"] = knob("test", "Split that accuracy is measured on; validation is for choosing settings.", label="Evaluate on")
    topic_column: str | None = knob(None, "Column with each row's topic; none: topics come from clustering the instructions.", label="Topic column")
    topics: int = knob(8, "Number of topics when they come from clustering.", ge=1, le=1000, label="Topics")
    max_length: int = knob(96, "Longest example in tokens; longer responses are cut at the end, and the run says how many.", ge=8, le=8192, label="Longest example")


class PreferencesConfig(Section):
    """What each client's owner wants: weights on helpfulness and harmlessness that sum to 1."""

    helpfulness_weights: tuple[float, ...] | None = knob(None, "One weight from 0 to 1 a client; none: drawn at random from the seed.", symbol="λ", label="Helpfulness weights")
    harmlessness_weights: tuple[float, ...] | None = knob(None, "1 − helpfulness; may be given as a check or instead of it.", symbol="1−λ", label="Harmlessness weights")

    @field_validator("helpfulness_weights", "harmlessness_weights")
    @classmethod
    def _in_unit_interval(cls, weights: tuple[float, ...] | None) -> tuple[float, ...] | None:
        for client, weight in enumerate(weights or ()):
            if not 0.0 <= weight <= 1.0:
                raise ValueError(f"the weight of client {client} is {weight:g}; allowed is 0 to 1")
        return weights

    @model_validator(mode="after")
    def _sum_to_one(self) -> PreferencesConfig:
        helpful, harmless = self.helpfulness_weights, self.harmlessness_weights
        if helpful is None or harmless is None:
            return self
        if len(helpful) != len(harmless):
            raise ValueError(f"{len(helpful)} helpfulness and {len(harmless)} harmlessness weights; give one of each a client")
        for client, (a, b) in enumerate(zip(helpful, harmless, strict=True)):
            if abs(a + b - 1.0) > 1e-6:
                raise ValueError(f"the weights of client {client} are {a:g} and {b:g}, which sum to {a + b:g}; they must sum to 1")
        return self


class RunConfig(Section):
    """A whole run. `RunConfig()` is the demo; `preset_config("paper")` the paper's scale."""

    method: MethodId = knob("pwff", "What is trained and what is uploaded: a row of METHODS.", label="Method")
    clients: int = knob(10, "Number of clients.", symbol="K", ge=2, le=MAX_CLIENTS, label="Clients")
    seed: int = knob(0, "Seed of everything random; the same seed gives the same records.", ge=0, le=2**31 - 1, label="Seed")
    preset: PresetId = knob("demo", "The settings that this run started from.", label="Preset")
    backbone: str = knob("demo", "Causal language model of the GPT-2 family or of Llama type: demo (embedded), a local folder or a Hub id such as gpt2.", label="Backbone")
    device: Literal["auto", "cpu", "cuda"] = knob("auto", "Where the model trains.", label="Device")
    precision: Literal["auto", "float32", "bfloat16"] = knob("auto", "Number format of the frozen weights and of activations; what is trained, the head and all losses are float32. auto: bfloat16 where the device multiplies it natively, which is faster.", label="Precision")
    price_as: Literal["backbone", "gpt2"] = knob("backbone", "Price the link by what this backbone uploads, or as if it were GPT-2 small (learning unchanged).", label="Price the link as")
    checkpoint_every: int = knob(1, "A checkpoint, all that the run needs to go on, is written after every so many rounds and at the end of a stage; within a stage this takes at most 5 % of the time. 0: none is written, and a resumed run is played again from its start.", unit="round", ge=0, le=10_000, label="Checkpoint every")
    float_bits: Literal[16, 32] = knob(32, "Width of an uploaded number on the air.", unit="bit", label="Bits per number")
    channel: ChannelConfig = ChannelConfig()
    instruction: InstructionConfig = InstructionConfig()
    reward: RewardConfig = RewardConfig()
    alignment: AlignmentConfig = AlignmentConfig()
    adapter: AdapterConfig = AdapterConfig()
    lora: LoraConfig = LoraConfig()
    data: DataConfig = DataConfig()
    preferences: PreferencesConfig = PreferencesConfig()

    @model_validator(mode="after")
    def _one_weight_a_client(self) -> RunConfig:
        for name in ("helpfulness_weights", "harmlessness_weights"):
            weights = getattr(self.preferences, name)
            if weights is not None and len(weights) != self.clients:
                raise ValueError(f"preferences.{name} has {len(weights)} weights for {self.clients} clients; give one a client")
        return self

    @model_validator(mode="after")
    def _rewards_come_first(self) -> RunConfig:
        if METHODS[self.method].rewards and self.alignment.rounds and not self.reward.rounds:
            raise ValueError(
                "alignment needs reward models: set reward.rounds to 1 or more, or skip alignment too (alignment.rounds = 0)"
            )
        return self
# fmt: on


def stage_rounds(config: RunConfig) -> dict[Stage, int]:
    """The stages of a run in order, each with the most rounds that it may have."""
    rounds: dict[Stage, int] = {"instruction": config.instruction.rounds}
    if METHODS[config.method].rewards:
        rounds |= {"reward": config.reward.rounds, "alignment": config.alignment.rounds}
    return {stage: count for stage, count in rounds.items() if count}


def next_round(config: RunConfig, last: RoundRecord | None) -> tuple[Stage, int]:
    """Stage and number of the round that follows `last`, or of the first round. ValueError if there is no next round."""
    stages = list(stage_rounds(config))
    if last is None:
        return stages[0], 1
    if not last.stage_end:
        return last.stage, last.round + 1
    following = stages[stages.index(last.stage) + 1 :]
    if not following:
        raise ValueError("the run has no round after its last")
    return following[0], 1


def preset_config(preset: PresetId) -> RunConfig:
    """The settings of a preset: `demo`, `paper` (rank 8, which fits the paper's figures) or `paper-as-printed` (rank 96)."""
    if preset == "demo":
        return RunConfig()
    rank = 96 if preset == "paper-as-printed" else 8
    return RunConfig(
        preset=preset,
        backbone="gpt2",
        lora=LoraConfig(rank=rank, alpha=2.0 * rank),
        instruction=InstructionConfig(rounds=50, local_steps=8, batch_size=8, learning_rate=1e-3),
        reward=RewardConfig(
            rounds=20,
            encoder="distilbert-base-uncased",
            helpful_source="Anthropic/hh-rlhf:helpful-base",
            harmless_source="Anthropic/hh-rlhf:harmless-base",
            train_pairs=512,
            test_pairs=64,
        ),
        alignment=AlignmentConfig(rounds=50, batch_size=32, max_new_tokens=128, learning_rate=1e-4),
        data=DataConfig(source="tatsu-lab/alpaca", train_examples=512, test_examples=64, max_length=512),
    )
