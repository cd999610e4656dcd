"""What a run produces: a RoundRecord a round, and what each number means (METRICS)."""

from __future__ import annotations

from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict

Stage = Literal["instruction", "reward", "alignment"]
Better = Literal["higher", "lower"]


class ClientRecord(BaseModel):
    """One client in one round; what a stage does not measure is None."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")

    client: int  # 0 … K−1
    helpfulness_weight: float
    accuracy: float | None = None  # share of held-out response tokens predicted right, 0 … 1
    knowledge_accuracy: float | None = None
    style_accuracy: float | None = None
    loss: float | None = None  # mean held-out response-token cross entropy [nat]
    helpfulness: float | None = None
    harmlessness: float | None = None
    reward: float | None = None
    kl: float | None = None
    snr_db: float | None = None  # mean receive SNR over the transfer [dB]
    rate_bps: float | None = None  # achieved: bits through / time taken [bit/s]
    uplink_bits: int = 0
    delay_s: float = 0.0
    energy_j: float = 0.0
    delivered: bool = True  # False: not through by the deadline, so not in this round's average
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
    delay_s: float = 0.0
    energy_j: float = 0.0
    uplink_bits: int = 0
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


class Metric(NamedTuple):
    """How a number of a record is called, measured and judged."""

    label: str
    unit: str  # "" for a pure number, "%" where the record holds a share of 1
    better: Better | None
    help: str


METRICS: dict[str, Metric] = {
    "accuracy": Metric("Accuracy", "%", "higher", "Share of the response tokens of a client's own held-out data that its model predicts right, mean over clients."),
    "knowledge_accuracy": Metric("Knowledge accuracy", "%", "higher", "The same, only on tokens that state a fact. Most of these facts are held by other clients."),
    "style_accuracy": Metric("Style accuracy", "%", "higher", "The same, only on tokens that a client's house style decides (opener, sign-off, units, tone, layout …)."),
    "loss": Metric("Loss", "nat", "lower", "Mean cross entropy of held-out response tokens."),
    "delay_s": Metric("Delay", "s", "lower", "Time of the slowest client's upload: a synchronous round waits for it."),
    "energy_j": Metric("Energy", "J", "lower", "Transmit energy of a round, summed over clients: power × upload time."),
    "uplink_bits": Metric("Uplink", "bit", "lower", "Bits that cross the air in a round, summed over clients."),
    "wall_s": Metric("Computing time", "s", "lower", "Real seconds this computer needed for the round."),
}  # fmt: skip
