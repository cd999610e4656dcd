"""Federated instruction tuning as OpenFedLLM (arXiv 2402.06954) does it: a new TRL `SFTTrainer` a client a round.

The models are those of `plain.py`. Left out is what a user can leave out: logs, checkpoints, evaluation, gradient
checkpointing, tokenising (the rows are tokens with labels already); left in is what the trainer always does.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from typing import Any

import numpy as np
from datasets import Dataset
from torch.utils.data import DataLoader
from transformers import PrinterCallback, TrainerCallback
from transformers.optimization import get_constant_schedule
from trl import SFTConfig, SFTTrainer

from benchmarks.plain import IGNORED, PlainClient, average, in_bfloat16, plain_clients
from benchmarks.work import round_rows
from pwff_core.data.encoding import PROMPT, Encoded
from pwff_core.engine.stages.clients import Clients
from pwff_core.engine.stages.instruction import trained


class FixedBatchTrainer(SFTTrainer):
    """The trainer on given batches; its own sampler cannot give a batch fewer rows."""

    batches: Sequence[Sequence[int]] = ()

    def get_train_dataloader(self) -> DataLoader:
        return self.accelerator.prepare(
            DataLoader(self.train_dataset, batch_sampler=self.batches, collate_fn=self.data_collator)
        )


class TrainedGroups(TrainerCallback):
    """Gives gradients before each step to the groups alone that the step trains."""

    def __init__(self, client: PlainClient, clients: Clients) -> None:
        self.client, self.clients = client, clients

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        settings = self.clients.config.instruction
        self.client.train_only(
            trained(self.clients.method, state.global_step, state.max_steps, settings.personal_steps)
        )


def train(client: PlainClient, clients: Clients, steps: Sequence[Sequence[Encoded]]) -> float:
    """One client's local steps by a trainer of their own; the mean loss that it reports."""
    rows = [row for batch in steps for row in batch]
    ends = np.cumsum([len(batch) for batch in steps])
    dataset = Dataset.from_dict(
        {
            "input_ids": [row.tokens for row in rows],
            "labels": [np.where(row.kinds == PROMPT, IGNORED, row.tokens) for row in rows],
        }
    )
    with tempfile.TemporaryDirectory() as folder:
        settings = SFTConfig(
            folder, max_steps=len(steps), per_device_train_batch_size=clients.config.instruction.batch_size,
            max_grad_norm=clients.config.instruction.gradient_clip, lr_scheduler_type="constant", warmup_steps=0,
            activation_checkpointing=False, bf16=in_bfloat16(clients), use_cpu=True,
            report_to="none", logging_strategy="no", save_strategy="no", eval_strategy="no", disable_tqdm=True,
            dataloader_num_workers=0, dataloader_pin_memory=False, dataset_kwargs={"skip_prepare_dataset": True},
        )  # fmt: skip
        client.train_only(client.groups)
        trainer = FixedBatchTrainer(
            client.model, settings, train_dataset=dataset, processing_class=clients.backbone.tokenizer,
            optimizers=(client.optimiser, get_constant_schedule(client.optimiser)),
            callbacks=[TrainedGroups(client, clients)],
        )  # fmt: skip
        trainer.batches = [range(end - len(batch), end) for end, batch in zip(ends.tolist(), steps, strict=True)]
        trainer.remove_callback(PrinterCallback)
        return float(trainer.train().training_loss)


class SftLoop:
    """Rounds of a loop over clients, each trained by a new SFTTrainer."""

    def __init__(self, clients: Clients, placed: np.ndarray) -> None:
        self.clients, self.models = clients, plain_clients(clients, placed)
        self.num_examples = [float(len(split.train)) for split in clients.splits]
        self.losses: list[float] = []  # of the last round: each client's mean over its steps
        self.played = 0

    def round(self) -> None:
        """The next round: each client trains, then the adapters are averaged."""
        self.played += 1
        rows = round_rows(self.clients, self.played)
        self.losses = [train(model, self.clients, steps) for model, steps in zip(self.models, rows, strict=True)]
        average([model.groups["adapters"] for model in self.models], self.num_examples)
