"""Federated instruction tuning as FlowerTune does it: a Flower simulation whose clients train with TRL's `SFTTrainer`.

What a careful user would do is done: a worker process loads data and backbone once and keeps them, instead of once a
client a round; only adapters are sent, LoRA stays in a client's own state. Adam starts anew every round, as it does in
FlowerTune. A round's time is taken in the server, from the end of what came before it to the average; the start of the
simulation, its processes and their first round are measured apart.

Needs the extra `bench`: pip install "pwff[bench]".
"""

from __future__ import annotations

import functools
import logging
import os
import time
from collections.abc import Callable

import torch

os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")  # before flwr is imported: nothing is sent anywhere
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.simulation import run_simulation

from benchmarks.plain import PlainClient, plain_clients, plain_weights
from benchmarks.sfttrainer import train
from benchmarks.work import round_rows
from pwff_core.config import RunConfig
from pwff_core.engine.setup import Federation, prepare


@functools.lru_cache(maxsize=1)
def load(config: str, threads: int) -> tuple[Federation, list[PlainClient]]:
    """The run and all clients' models, loaded once a process; any process may serve any client."""
    torch.set_num_threads(threads)
    federation = prepare(RunConfig.model_validate_json(config))
    return federation, plain_clients(federation.clients, federation.placed)


def client_app(config: str, threads: int) -> ClientApp:
    """A client that trains the adapters that it receives, and keeps its LoRA."""
    app = ClientApp()

    @app.train()
    def fit(message: Message, context: Context) -> Message:
        federation, models = load(config, threads)
        client = int(context.node_config["partition-id"])
        model, settings = models[client], federation.config.instruction
        own = {"adapters": message.content["arrays"], "lora": context.state.get("lora")}
        with torch.no_grad():
            for group, record in own.items():
                for name, tensor in record.to_torch_state_dict().items() if record else ():
                    model.groups[group][name].copy_(tensor)
        rate = settings.learning_rate or federation.method.learning_rate
        model.optimiser = model.new_optimiser(rate, federation.config.lora.rate_ratio)
        number = int(message.content["config"]["server-round"])
        loss = train(model, federation.clients, round_rows(federation.clients, number)[client])
        context.state["lora"] = ArrayRecord(dict(model.groups["lora"]))
        examples = float(len(federation.clients.splits[client].train))
        metrics = MetricRecord({"num-examples": examples, "loss": loss})
        content = RecordDict({"arrays": ArrayRecord(dict(model.groups["adapters"])), "metrics": metrics})
        return Message(content=content, reply_to=message)

    return app


def plain_start(config: RunConfig) -> dict[str, torch.Tensor]:
    """The adapters that all clients start from."""
    return plain_weights(prepare(config).clients, 0)["adapters"]


class Simulation:
    """Rounds of a Flower simulation, and the seconds of each."""

    def __init__(self, config: RunConfig, at_once: int) -> None:
        self.config, self.at_once = config, at_once  # clients that train at the same time
        self.start_s = 0.0  # until the first round has ended
        self.rounds_s: list[float] = []  # of the rounds after it
        self.losses: list[float] = []  # mean over clients, of every round
        self.arrays: dict[str, torch.Tensor] = {}  # the server's adapters after the last round

    def run(self, rounds: int, between: Callable[[], object] = lambda: None) -> None:
        """Plays one round to warm up and `rounds` more; `between` is called after each of them."""
        threads = max(1, torch.get_num_threads() // self.at_once)
        for name in ("flwr", "ray"):
            logging.getLogger(name).setLevel(logging.ERROR)
        start_at, config = time.perf_counter(), self.config.model_dump_json()
        start = plain_start(self.config)
        server = ServerApp()

        @server.main()
        def main(grid: Grid, context: Context) -> None:
            last = [start_at]

            def after(number: int, arrays: ArrayRecord) -> None:
                took = time.perf_counter() - last[0]
                self.arrays = arrays.to_torch_state_dict()
                if number == 1:
                    self.start_s = took
                elif number:
                    self.rounds_s.append(took)
                if number:
                    between()
                    last[0] = time.perf_counter()

            clients = self.config.clients
            strategy = FedAvg(1.0, 0.0, min_train_nodes=clients, min_available_nodes=clients)
            result = strategy.start(grid, ArrayRecord(start), num_rounds=rounds + 1, evaluate_fn=after)
            self.losses = [float(metrics["loss"]) for metrics in result.train_metrics_clientapp.values()]

        run_simulation(
            server, client_app(config, threads), self.config.clients,
            backend_config={
                "client_resources": {"num_cpus": 1, "num_gpus": 0.0},
                "init_args": {
                    "num_cpus": self.at_once, "include_dashboard": False, "log_to_driver": False,
                    "logging_level": "error",
                },
            },
        )  # fmt: skip
