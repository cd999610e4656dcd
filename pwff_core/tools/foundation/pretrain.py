"""Pre-training of the embedded backbone (trl.SFTTrainer) and encoder (transformers.Trainer)."""

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
from pwff_core.engine.models.encoder import FEATURES, PROMPT, RESPONSE, pooled
from pwff_core.tools.foundation.texts import SEED, VERDICTS, Judged, Text

IGNORED = -100  # the label of a token that is not to be predicted
BACKBONE_EPOCHS, ENCODER_EPOCHS = 2, 1
MODES = ("whole", "causal", "apart")  # how a token of a batch attends to the others
MASKED_SHARE = 0.15  # of the tokens, in the modes whole and apart


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


class EncoderTasks(nn.Module):
    """The encoder with its three tasks: predict tokens, match responses to prompts, judge a response.

    The verdict is linear in the features from which a reward model computes its score, [v, u ∗ v, last]; how well a
    prompt u and a response v match is a weighted sum of u ∗ v.
    """

    def __init__(self, masked: DistilBertForMaskedLM) -> None:
        super().__init__()
        width = masked.config.dim
        self.masked = masked
        self.verdict = nn.Linear(FEATURES * width, len(VERDICTS))
        self.match = nn.Parameter(torch.ones(width))

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, parts: Tensor, labels: Tensor, verdicts: Tensor, mode: Tensor
    ) -> dict[str, Tensor]:
        """The loss of a batch (B, T) in one of MODES; tokens are predicted where their label is not IGNORED."""
        attention = MODES[int(mode)]
        visible = attention_mask[:, None, None, :].bool()  # (B, 1, 1, T)
        if attention == "causal":
            visible = visible & torch.ones(parts.shape[1], parts.shape[1], dtype=torch.bool).tril()
        elif attention == "apart":
            visible = visible & (parts[:, None, :, None] == parts[:, None, None, :])
        states = self.masked.distilbert(input_ids=input_ids, attention_mask=visible).last_hidden_state  # (B, T, d)
        predicted, loss = labels != IGNORED, 0.0 * states.sum()  # a gradient even without a token to predict
        if predicted.any():  # a batch of similar lengths may hold cut off responses alone
            hidden = self.masked.vocab_layer_norm(F.gelu(self.masked.vocab_transform(states[predicted])))
            loss = F.cross_entropy(self.masked.vocab_projector(hidden).float(), labels[predicted])
        if attention != "apart":
            logits = self.verdict(pooled(states, parts)).float()
            return {"loss": loss + F.cross_entropy(logits, verdicts), "logits": logits}
        right = verdicts == 0
        prompts, responses = (_mean_state(states[right], parts[right] == part) for part in (PROMPT, RESPONSE))
        prompts, responses = (
            means - means.mean(0) for means in (prompts, responses)
        )  # what all share distinguishes none
        logits = (prompts * self.match) @ responses.T  # (right responses, right responses)
        if len(logits) > 1:
            loss = loss + F.cross_entropy(logits.float(), torch.arange(len(logits)))
        return {"loss": loss, "logits": logits}


def _mean_state(states: Tensor, mask: Tensor) -> Tensor:
    return (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)


class MixtureCollator:
    """Draws a mode for each batch, and labels the tokens to predict.

    *whole*, as in a reward model: masked tokens and verdicts. *causal*, as in a critic: each next token and verdicts.
    *apart*, where prompt and response do not attend to each other: masked tokens, and which response of the batch
    belongs to which prompt (the contrastive task of arXiv 1705.00652). Tokens of flawed responses are never predicted.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self._tokenizer = tokenizer
        self._mask = DataCollatorForLanguageModeling(tokenizer, mlm_probability=MASKED_SHARE, seed=SEED)
        self._generator = seeds.generator(SEED, "mixture")

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Tensor]:
        """A batch as `EncoderTasks.forward` takes it."""
        encodings = [{name: row[name] for name in ("input_ids", "attention_mask")} for row in rows]
        verdicts = torch.tensor([row["verdicts"] for row in rows])
        mode = int(self._generator.integers(len(MODES)))
        if MODES[mode] == "causal":
            batch = dict(self._tokenizer.pad(encodings, return_tensors="pt"))
            next_ids = batch["input_ids"].roll(-1, dims=1)
            real = batch["attention_mask"].roll(-1, dims=1).bool()
            real[:, -1] = False
            batch["labels"] = torch.where(real, next_ids, IGNORED)
        else:
            batch = dict(self._mask(encodings))
        batch["labels"][(verdicts != 0) & (verdicts != VERDICTS.index("refuses"))] = IGNORED
        starts = torch.tensor([row["starts"] for row in rows])[:, None]
        places = torch.arange(batch["input_ids"].shape[1])
        parts = torch.where(places < starts, PROMPT, RESPONSE) * batch["attention_mask"]  # PADDING is 0
        return batch | {"parts": parts, "verdicts": verdicts, "mode": torch.tensor([mode])}


def pretrain_encoder(judged: list[Judged], tokenizer: PreTrainedTokenizerFast, folder: Path) -> DistilBertForMaskedLM:
    """Trains what a reward model's encoder needs: the language, and whether a response fits its instruction."""
    set_seed(SEED)
    rows = [tokenizer.cls_token + row.text.prompt + row.text.response + tokenizer.eos_token for row in judged]
    prompts = [tokenizer.cls_token + row.text.prompt for row in judged]
    encoded = tokenizer(rows, truncation=True, max_length=160, add_special_tokens=False)
    dataset = Dataset.from_dict(
        {
            "input_ids": encoded["input_ids"],
            "attention_mask": encoded["attention_mask"],
            "starts": [len(ids) for ids in tokenizer(prompts, add_special_tokens=False)["input_ids"]],
            "verdicts": [row.verdict for row in judged],
        }
    )
    model = new_encoder(tokenizer)
    arguments = TrainingArguments(**_schedule(folder, ENCODER_EPOCHS, 1e-3), remove_unused_columns=False)
    Trainer(EncoderTasks(model), arguments, train_dataset=dataset, data_collator=MixtureCollator(tokenizer)).train()
    return model


def save_half(model: torch.nn.Module, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Weights as float16 safetensors (half the size; loaded back as float32), config and tokenizer files."""
    model.half().save_pretrained(folder)  # type: ignore[operator]
    tokenizer.backend_tokenizer.no_truncation()  # otherwise the last training's length is saved with it
    tokenizer.save_pretrained(folder)
