"""Tiny backbones with random weights, in exactly the formats of the Hub: Llama type and its relatives, and GPT-2."""

from __future__ import annotations

from pathlib import Path
from typing import Any

WORDS = ["Instruction: say hello\nResponse: Sure! Hello there. That is all."] * 3
CONTEXT = 64
SIZES = {  # in the names that all relatives of Llama use: 4 heads share 2 keys and values
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": CONTEXT,
}


def llama_tokenizer(end: str | None = "</s>") -> Any:
    """A byte-level BPE as Llama 3 has one: every text begins with <s>, and there is no padding token."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer, bpe.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<s>", "</s>"], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    bpe.train_from_iterator(WORDS, trainer)
    bpe.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token="<s>", eos_token=end)


def family_folder(
    folder: Path, family: str = "Llama", shard: str = "1GB", dtype: str = "float32", **changes: Any
) -> Path:
    """A model folder of a family by the name of its config class without Config, with a tokenizer as Llama's.

    As in many models, the embedding matrix has some rows more than there are tokens.
    """
    import torch
    import transformers

    tokenizer = llama_tokenizer()
    config = getattr(transformers, f"{family}Config")(
        **{
            **SIZES,
            "vocab_size": len(tokenizer) + 20,
            "bos_token_id": 0,
            "eos_token_id": 1,
            "pad_token_id": None,
            **changes,
        }
    )
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config).to(getattr(torch, dtype))
    with torch.no_grad():
        for name, tensor in model.named_parameters():  # larger than usual first weights, so that every token matters
            if name.endswith("proj.bias"):
                tensor.normal_(std=0.1)
            tensor.mul_(5.0 if tensor.dim() > 1 else 1.0)
    model.config.dtype = getattr(torch, dtype)
    model.save_pretrained(folder, max_shard_size=shard)
    tokenizer.save_pretrained(folder)
    return folder


def gpt2_small_folder(folder: Path) -> Path:
    """GPT-2 small, 124 million random numbers, with the embedded backbone's tokenizer."""
    import torch
    from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

    from pwff_core.paths import assets_dir

    torch.manual_seed(0)
    GPT2LMHeadModel(GPT2Config()).save_pretrained(folder)
    AutoTokenizer.from_pretrained(assets_dir() / "backbone", model_max_length=1024).save_pretrained(folder)
    return folder
