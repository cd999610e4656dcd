"""What a run produces: one RoundRecord for each round. METRICS says what the numbers mean."""

from __future__ import annotations

from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict

Stage = Literal["instruction", "reward", "alignment"]
Better = Literal["higher", "lower"]
When = Literal["before", "after"]  # a client's model before or after alignment
Value = str | float | tuple[float, ...] | None  # of a setting that can be steered


class ClientRecord(BaseModel):
    """One client in one round. What its stage does not measure is None."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")

    client: int  # 0 … K−1
    helpfulness_weight: float
    accuracy: float | None = None  # share of held-out response tokens predicted right, 0 … 1
    knowledge_accuracy: float | None = None
    style_accuracy: float | None = None
    loss: float | None = None  # mean held-out response-token cross entropy [nat]
    helpfulness: float | None = None  # mean score of the judge for answers to held-out prompts [sd]
    harmlessness: float | None = None
    reward: float | None = None  # helpfulness weight × helpfulness + (1 − weight) × harmlessness
    training_reward: float | None = None  # the same by the reward models that train it, on the round's rollouts
    kl: float | None = None  # from the model before alignment, a response [nat]
    refusal_rate: float | None = None  # share of held-out delicate prompts that are refused, 0 … 1
    response_tokens: float | None = None  # mean length of answers to held-out prompts
    helpfulness_accuracy: float | None = None  # share of held-out pairs that the reward model ranks right, 0 … 1
    harmlessness_accuracy: float | None = None
    snr_db: float | None = None  # mean receive SNR over the transfer [dB]
    rate_bps: float | None = None  # achieved: bits through / time taken [bit/s]
    uplink_bits: int = 0
    delay_s: float = 0.0
    energy_j: float = 0.0
    delivered: bool = True  # False: the upload missed the deadline, so the round's average leaves it out
    lora_modules: int = 0
    examples: int = 0


class RoundRecord(BaseModel):
    """One round of one run. Means are over clients; delay is the slowest client's; energy and bits are sums."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")

    run: str
    method: str
    stage: Stage
    round: int  # 1 … within its stage
    accuracy: float | None = None
    knowledge_accuracy: float | None = None
    style_accuracy: float | None = None
    loss: float | None = None
    helpfulness: float | None = None
    harmlessness: float | None = None
    reward: float | None = None
    training_reward: float | None = None
    kl: float | None = None
    refusal_rate: float | None = None
    response_tokens: float | None = None
    helpfulness_accuracy: float | None = None
    harmlessness_accuracy: float | None = None
    delay_s: float = 0.0
    energy_j: float = 0.0
    uplink_bits: int = 0
    stage_end: str = ""  # on the last round of a stage: why it ended
    wall_s: float = 0.0  # real seconds of computing, the one field that differs between equal runs
    clients: tuple[ClientRecord, ...] = ()


class ClientProfile(BaseModel):
    """Who a client is: fixed before the first round."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")

    client: int
    helpfulness_weight: float
    device_class: Literal["low", "mid", "high"]
    lora_modules: int
    train_examples: int
    validation_examples: int
    test_examples: int
    topics: dict[str, int]  # topic → training examples
    style: dict[str, str]  # house style, dimension → convention; empty where the data has none
    facts_held: int = 0


class Steering(BaseModel):
    """A change of a run's settings on the way, and the first round that it holds for."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")

    position: int  # the first round that it holds for, counted over all stages from 1
    stage: Stage  # of that round
    round: int  # that round, counted within its stage
    before: dict[str, Value]  # dotted path → value until then, of each setting that changed
    changes: dict[str, Value]  # dotted path → value from then on
    at: float  # Unix seconds


class Metric(NamedTuple):
    """A number of a record: its name, its unit, which side is better, and what it means."""

    label: str
    unit: str  # "" for a pure number, "%" where the record holds a share of 1
    better: Better | None
    help: str


METRICS: dict[str, Metric] = {
    "accuracy": Metric("Accuracy", "%", "higher", "Share of the response tokens of a client's own held-out data that its model predicts right, mean over clients."),
    "knowledge_accuracy": Metric("Knowledge accuracy", "%", "higher", "The same, only on tokens that state a fact. Most of these facts are held by other clients."),
    "style_accuracy": Metric("Style accuracy", "%", "higher", "The same, only on tokens that a client's house style decides (opener, sign-off, units, tone, layout …)."),
    "loss": Metric("Loss", "nat", "lower", "Mean cross entropy of held-out response tokens."),
    "helpfulness": Metric("Helpfulness", "sd", "higher", "Score of a client's answers to held-out prompts by the helpfulness judge: a reward model trained on pairs that no client has, the same for every method. 0 and 1 are mean and standard deviation of its scores on reference answers."),
    "harmlessness": Metric("Harmlessness", "sd", "higher", "The same by the harmlessness judge."),
    "reward": Metric("Reward", "sd", "higher", "Helpfulness and harmlessness of a client's answers, weighted as its owner wishes."),
    "training_reward": Metric("Training reward", "sd", "higher", "The reward that alignment maximises: the federation's own reward models on the round's rollouts. If it rises and the judge's does not, the reward models are being fooled."),
    "kl": Metric("KL", "nat", "lower", "How far a client's model has moved from the one before alignment: KL divergence of a whole response."),
    "refusal_rate": Metric("Refusals", "%", None, "Share of held-out delicate prompts that a client's model refuses."),
    "response_tokens": Metric("Answer length", "tokens", None, "Mean length of the answers to held-out prompts."),
    "helpfulness_accuracy": Metric("Helpfulness pairs", "%", "higher", "Share of held-out pairs in which the helpfulness reward model scores the better answer higher; 50 % is chance."),
    "harmlessness_accuracy": Metric("Harmlessness pairs", "%", "higher", "The same for harmlessness."),
    "delay_s": Metric("Delay", "s", "lower", "Time of the slowest client's upload: a synchronous round waits for it."),
    "energy_j": Metric("Energy", "J", "lower", "Transmit energy of a round, summed over clients: power × upload time."),
    "uplink_bits": Metric("Uplink", "bit", "lower", "Bits that cross the air in a round, summed over clients."),
    "wall_s": Metric("Computing time", "s", "lower", "Real seconds this computer needed for the round."),
}  # fmt: skip
