"""Pre-training of the embedded backbone (trl.SFTTrainer) and encoder (transformers.Trainer: masked words, then verdicts)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import (
    DataCollatorForLanguageModeling,
    DistilBertConfig,
    DistilBertForMaskedLM,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedTokenizerFast,
    Trainer,
    TrainingArguments,
    set_seed,
)
from trl import SFTConfig, SFTTrainer

from pwff_core import seeds
from pwff_core.foundation.texts import SEED, VERDICTS, Judged, Text

IGNORED = -100  # the label of a token whose word is not asked for
BACKBONE_EPOCHS, ENCODER_EPOCHS = 2, 1
MASKED_SHARE, CAUSAL_SHARE = 0.2, 0.35  # of the encoder's second training: batches for masked words; read causally


def new_backbone(tokenizer: PreTrainedTokenizerFast) -> GPT2LMHeadModel:
    """GPT-2's architecture, 4 blocks, 256 wide: 4.0 M parameters, fresh."""
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=len(tokenizer), n_positions=256, n_embd=256, n_layer=4, n_head=4,
            activation_function="gelu_pytorch_tanh",  # gelu_new, the same function, in one fused kernel
            resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
            bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )  # fmt: skip


def new_encoder(tokenizer: PreTrainedTokenizerFast) -> DistilBertForMaskedLM:
    """DistilBERT's architecture, 3 blocks, 160 wide: 1.5 M parameters, fresh."""
    return DistilBertForMaskedLM(
        DistilBertConfig(
            vocab_size=len(tokenizer), max_position_embeddings=256, dim=160, hidden_dim=640, n_layers=3, n_heads=4,
            dropout=0.0, attention_dropout=0.0, pad_token_id=tokenizer.pad_token_id,
        )
    )  # fmt: skip


def _schedule(folder: Path, epochs: float, learning_rate: float) -> dict[str, Any]:
    return {
        "output_dir": str(folder), "num_train_epochs": epochs, "per_device_train_batch_size": 64,
        "learning_rate": learning_rate, "lr_scheduler_type": "cosine", "warmup_steps": 100,
        "weight_decay": 0.01, "adam_beta2": 0.98, "max_grad_norm": 1.0, "seed": SEED, "data_seed": SEED,
        "use_cpu": True, "bf16": True, "save_strategy": "no", "report_to": [], "logging_steps": 50,
        "train_sampling_strategy": "group_by_length", "dataloader_num_workers": 0,
    }  # fmt: skip


def pretrain_backbone(texts: list[Text], tokenizer: PreTrainedTokenizerFast, folder: Path) -> GPT2LMHeadModel:
    """Next-token training on prompts and responses alike."""
    set_seed(SEED)
    rows = [text.prompt + text.response + tokenizer.eos_token for text in texts]
    arguments = SFTConfig(
        **_schedule(folder, BACKBONE_EPOCHS, 2e-3), max_length=160, packing=False, dataset_text_field="text",
        gradient_checkpointing=False,
    )  # fmt: skip
    model = new_backbone(tokenizer)
    SFTTrainer(model, arguments, train_dataset=Dataset.from_dict({"text": rows}), processing_class=tokenizer).train()
    return model


def pretrain_encoder(texts: list[Text], tokenizer: PreTrainedTokenizerFast, folder: Path) -> DistilBertForMaskedLM:
    """Masked-word training on whole dialogues."""
    set_seed(SEED)
    rows = [tokenizer.cls_token + text.prompt + text.response + tokenizer.eos_token for text in texts]
    coded = tokenizer(rows, truncation=True, max_length=160, add_special_tokens=False)
    dataset = Dataset.from_dict({"input_ids": coded["input_ids"], "attention_mask": coded["attention_mask"]})
    collator = DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.15, seed=SEED)
    model = new_encoder(tokenizer)
    arguments = TrainingArguments(**_schedule(folder, ENCODER_EPOCHS, 2e-3))
    Trainer(model, arguments, train_dataset=dataset, data_collator=collator).train()
    return model


class Reader(nn.Module):
    """The encoder with two heads: masked words, and the verdict on a response.

    The verdict is read off [mean of the states, last state], as a reward model reads its score; under a causal mask as
    well, so that a critic, which shares the reward model's weights, can read prefixes.
    """

    def __init__(self, masked: DistilBertForMaskedLM) -> None:
        super().__init__()
        self.masked = masked
        self.verdict = nn.Linear(2 * masked.config.dim, len(VERDICTS))

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, labels: Tensor, verdicts: Tensor, causal: Tensor
    ) -> dict[str, Tensor]:
        """The loss of one batch: of masked words where it has any, otherwise of verdicts. input_ids (B, T)."""
        if (labels != IGNORED).any():
            return {"loss": self.masked(input_ids=input_ids, attention_mask=attention_mask, labels=labels).loss}
        seen = attention_mask[:, None, None, :].bool()  # (B, 1, 1, T)
        if causal.any():
            length = input_ids.shape[1]
            seen = seen & torch.ones(length, length, dtype=torch.bool).tril()
        states = self.masked.distilbert(input_ids=input_ids, attention_mask=seen).last_hidden_state  # (B, T, d)
        real = attention_mask[..., None].to(states.dtype)
        last = states[torch.arange(len(states)), attention_mask.sum(1) - 1]
        features = torch.cat([(states * real).sum(1) / real.sum(1), last], dim=-1)
        logits = self.verdict(features)
        return {"loss": F.cross_entropy(logits, verdicts), "logits": logits}


class Mixture:
    """Collator: most batches ask for verdicts, some for masked words; some are read causally."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self._tokenizer = tokenizer
        self._mask = DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.15, seed=SEED)
        self._lots = seeds.generator(SEED, "mixture")

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Tensor]:
        lot = self._lots.random()
        bare = [{name: row[name] for name in ("input_ids", "attention_mask")} for row in rows]
        if lot < MASKED_SHARE:
            batch = dict(self._mask(bare))
        else:
            batch = dict(self._tokenizer.pad(bare, return_tensors="pt"))
            batch["labels"] = torch.full_like(batch["input_ids"], IGNORED)
        batch["verdicts"] = torch.tensor([row["verdicts"] for row in rows])
        batch["causal"] = torch.tensor([MASKED_SHARE <= lot < MASKED_SHARE + CAUSAL_SHARE])
        return batch


def teach_verdicts(
    model: DistilBertForMaskedLM, judged: list[Judged], tokenizer: PreTrainedTokenizerFast, folder: Path
) -> DistilBertForMaskedLM:
    """Second training of the encoder: does a response fit its instruction, and if not, what is wrong with it."""
    set_seed(SEED)
    rows = [tokenizer.cls_token + row.text.prompt + row.text.response + tokenizer.eos_token for row in judged]
    coded = tokenizer(rows, truncation=True, max_length=160, add_special_tokens=False)
    dataset = Dataset.from_dict(
        {
            "input_ids": coded["input_ids"],
            "attention_mask": coded["attention_mask"],
            "verdicts": [row.verdict for row in judged],
        }
    )
    arguments = TrainingArguments(**_schedule(folder, 1, 1e-3), remove_unused_columns=False)
    Trainer(Reader(model), arguments, train_dataset=dataset, data_collator=Mixture(tokenizer)).train()
    return model


def save_half(model: torch.nn.Module, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Weights as float16 safetensors (half the size; loaded back as float32), config and tokenizer files."""
    model.half().save_pretrained(folder)  # type: ignore[operator]
    tokenizer.backend_tokenizer.no_truncation()  # or the last training's length would be saved with it
    tokenizer.save_pretrained(folder)
