"""A tiny encoder in exactly the format of distilbert-base-uncased: WordPiece, [CLS], [SEP], a masked-word head."""

from __future__ import annotations

from pathlib import Path

WORDS = (
    *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"),
    *("say", "hello", "there", "good", "bad", "fine", "please", "instruction", "response", ":", "##s", "no"),
)


def wordpiece_folder(folder: Path, layers: int = 2, context: int = 24) -> Path:
    """A DistilBERT folder, 16 wide with random weights (safetensors), that knows the words above."""
    import torch
    from transformers import DistilBertConfig, DistilBertForMaskedLM, DistilBertTokenizerFast

    torch.manual_seed(0)
    config = DistilBertConfig(
        vocab_size=len(WORDS), max_position_embeddings=context, dim=16, hidden_dim=32, n_layers=layers, n_heads=2,
        initializer_range=0.2,  # so that states depend on what stands around them
    )  # fmt: skip
    DistilBertForMaskedLM(config).save_pretrained(folder)
    DistilBertTokenizerFast(vocab={word: place for place, word in enumerate(WORDS)}).save_pretrained(folder)
    return folder
