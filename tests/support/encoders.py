"""Tiny encoders in exactly the formats of those of the Hub, with random weights, and texts in words that they know."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pwff_core.engine.models.encoder import Text

WORDS = (
    *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"),
    *("say", "hello", "there", "good", "bad", "fine", "please", "instruction", "response", ":", "##s", "no"),
)
TEXTS = [
    [Text("say hello", " good"), Text("say hello", " bad bad no", ended=False)],
    [Text("say hello", " good"), Text("please say", " fine")],
    [Text("no", " hello there : fine"), Text("say hello", " good")],
]


def wordpiece_folder(folder: Path, layers: int = 2, context: int = 24) -> Path:
    """A DistilBERT folder, 16 wide with random weights (safetensors), that knows the words above."""
    from transformers import DistilBertConfig, DistilBertForMaskedLM, DistilBertTokenizerFast

    torch.manual_seed(0)
    config = DistilBertConfig(
        vocab_size=len(WORDS), max_position_embeddings=context, dim=16, hidden_dim=32, n_layers=layers, n_heads=2,
        initializer_range=0.2,  # so that states depend on what stands around them
    )  # fmt: skip
    DistilBertForMaskedLM(config).save_pretrained(folder)
    DistilBertTokenizerFast(vocab={word: place for place, word in enumerate(WORDS)}).save_pretrained(folder)
    return folder


FAMILIES = ("distilbert", "bert", "albert", "electra", "mpnet", "roberta", "xlm-roberta", "modernbert")
SENTENCE_PIECES = ("<s>", "<pad>", "</s>", "<unk>", *(f"▁{word}" for word in WORDS[5:]), "s", "<mask>")


def family_folder(folder: Path, family: str, context: int = 24) -> Path:
    """A folder of the family's config, weights with the head that it was pre-trained with, and tokenizer files."""
    import transformers as hub

    torch.manual_seed(0)
    sizes = {
        "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32,
        "max_position_embeddings": context, "initializer_range": 0.2,
    }  # fmt: skip
    pieces = {word: place for place, word in enumerate(WORDS)}
    if family == "distilbert":
        return wordpiece_folder(folder, context=context)
    if family in ("bert", "electra", "albert"):
        coder = hub.BertTokenizerFast(vocab=pieces)
        sizes["vocab_size"] = len(WORDS)
        sizes |= {"embedding_size": 8} if family != "bert" else {}
        model = {
            "bert": lambda: hub.BertForMaskedLM(hub.BertConfig(**sizes)),
            "electra": lambda: hub.ElectraForPreTraining(hub.ElectraConfig(**sizes)),
            "albert": lambda: hub.AlbertForMaskedLM(hub.AlbertConfig(**sizes, pad_token_id=0)),
        }[family]()
    elif family == "mpnet":
        marks = ("<s>", "<pad>", "</s>", "[UNK]")
        coder = hub.MPNetTokenizerFast(vocab={word: i for i, word in enumerate((*marks, *WORDS[5:], "<mask>"))})
        model = hub.MPNetForMaskedLM(hub.MPNetConfig(**sizes, vocab_size=len(coder), pad_token_id=1))
    elif family == "xlm-roberta":
        coder = hub.XLMRobertaTokenizerFast(vocab=[(piece, -1.0) for piece in SENTENCE_PIECES])
        model = hub.XLMRobertaForMaskedLM(
            hub.XLMRobertaConfig(**sizes, vocab_size=len(coder), pad_token_id=1, bos_token_id=0, eos_token_id=2)
        )
    else:
        coder = _byte_level(family)
        ids = {"pad_token_id": coder.pad_token_id, "bos_token_id": coder.cls_token_id, "vocab_size": len(coder)}
        if family == "roberta":
            config = hub.RobertaConfig(**sizes, **ids, eos_token_id=coder.sep_token_id)
            model = hub.RobertaForMaskedLM(config)
        else:
            config = hub.ModernBertConfig(
                **sizes, **ids, eos_token_id=coder.sep_token_id, cls_token_id=coder.cls_token_id,
                sep_token_id=coder.sep_token_id, local_attention=6, global_attn_every_n_layers=2,
            )  # fmt: skip
            model = hub.ModernBertForMaskedLM(config)
    model.save_pretrained(folder)
    coder.save_pretrained(folder)
    return folder


def _byte_level(family: str) -> Any:
    """Byte-level BPE with the family's own start and end tokens; its padding is token 1."""
    from tokenizers import ByteLevelBPETokenizer
    from tokenizers.processors import RobertaProcessing
    from transformers import PreTrainedTokenizerFast

    start, end, mask = ("<s>", "</s>", "<mask>") if family == "roberta" else ("[CLS]", "[SEP]", "[MASK]")
    coder = ByteLevelBPETokenizer()
    texts = [*WORDS[5:], " ".join(WORDS[5:]), " ".join(WORDS[4:])] * 3  # first words and later ones
    coder.train_from_iterator(texts, 600, 2, special_tokens=[start, "<pad>", end, mask], show_progress=False)
    coder._tokenizer.post_processor = RobertaProcessing((end, 2), (start, 0), add_prefix_space=False)
    return PreTrainedTokenizerFast(
        tokenizer_object=coder._tokenizer, cls_token=start, sep_token=end, pad_token="<pad>", mask_token=mask
    )


def plain_features(states: Tensor, prompt_tokens: int) -> Tensor:
    """Features (3d) of a text from its states (T, d), the first `prompt_tokens` of which belong to the prompt."""
    prompt = sum(states[:prompt_tokens]) / prompt_tokens
    response = sum(states[prompt_tokens:], torch.zeros(states.shape[1])) / max(len(states) - prompt_tokens, 1)
    return torch.cat([response, prompt * response, states[-1]])


def prompt_length(prompt: str) -> int:
    """Tokens of a prompt, the start token among them."""
    return 1 + len(prompt.split())


def plain_tokens(text: Text) -> Tensor:
    """Word by word: every word of these texts is one token."""
    words = ["[CLS]", *(text.prompt + text.response).split(), *(["[SEP]"] if text.ended else [])]
    return torch.tensor([[WORDS.index(word) for word in words]])
