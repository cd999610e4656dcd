"""What several tests share: a tiny backbone in exactly the format that `from_pretrained` reads."""

from __future__ import annotations

import os
from pathlib import Path

import hypothesis
import pytest

os.environ["HF_HUB_OFFLINE"] = "1"  # no test asks the network for a model or a data set
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = "1"  # there is a process a core already
hypothesis.settings.register_profile("suite", deadline=None, derandomize=True)
hypothesis.settings.load_profile("suite")


@pytest.fixture(scope="session")
def tiny_backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GPT-2 folder with 2 blocks, 32 wide, random weights (safetensors) and a byte-level BPE tokenizer."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    from pwff_core.tools.foundation import tokenizer as bpe

    folder = tmp_path_factory.mktemp("tiny-backbone")
    coder = bpe.train_tokenizer(["Instruction: say hello\nResponse: Sure! Hello there. That is all."] * 3)
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(coder), n_positions=256, n_embd=32, n_layer=2, n_head=2, resid_pdrop=0.0, embd_pdrop=0.0,
        attn_pdrop=0.0, bos_token_id=0, eos_token_id=0, pad_token_id=1,
    )  # fmt: skip
    GPT2LMHeadModel(config).save_pretrained(folder)
    coder.save_pretrained(folder)
    return folder
