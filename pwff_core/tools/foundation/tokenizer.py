"""A byte-level BPE tokenizer (GPT-2's kind) trained on the general texts, so that any text tokenises."""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import ByteLevelBPETokenizer
from transformers import PreTrainedTokenizerFast

VOCABULARY = 3072
END, PAD, MASK, CLASSIFY = "<|endoftext|>", "<|pad|>", "<|mask|>", "<|cls|>"


def train_tokenizer(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """A tokenizer for both the backbone and the encoder."""
    bpe = ByteLevelBPETokenizer(add_prefix_space=False)
    bpe.train_from_iterator(
        texts, vocab_size=VOCABULARY, min_frequency=2, special_tokens=[END, PAD, MASK, CLASSIFY], show_progress=False
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe._tokenizer, eos_token=END, bos_token=END, unk_token=END,
        pad_token=PAD, mask_token=MASK, cls_token=CLASSIFY, sep_token=END, model_max_length=256,
    )  # fmt: skip
