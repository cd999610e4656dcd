"""A backbone in bfloat16: what is rounded, what is not, and attention against PyTorch's own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from pwff_core.engine.models.backbone import load_backbone
from pwff_core.engine.models.bfloat16 import causal_attention, pick_precision

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("short", [64, 5], ids=["by products", "by the fused kernel"])
@pytest.mark.parametrize("shared", [4, 2], ids=["a head of its own", "shared heads"])
def test_attention_is_causal_attention(short: int, shared: int) -> None:
    torch.manual_seed(0)
    query, key, value = torch.randn(2, 4, 9, 8), torch.randn(2, shared, 9, 8), torch.randn(2, shared, 9, 8)
    y, _ = causal_attention(nn.Module(), query, key, value, None, scaling=0.3, short=short)
    expected = F.scaled_dot_product_attention(query, key, value, is_causal=True, scale=0.3, enable_gqa=True)
    torch.testing.assert_close(y, expected.transpose(1, 2))


def test_all_but_the_head_is_rounded(tiny_backbone: Path) -> None:
    full, half = (load_backbone(str(tiny_backbone), "cpu", precision) for precision in ("float32", "bfloat16"))
    assert {p.dtype for p in half.model.base_model.parameters()} == {torch.bfloat16}
    assert torch.equal(half.head.weight, full.head.weight)
    tokens = torch.arange(2, 30)[None]
    with torch.no_grad():
        exact, rounded = full.hidden(tokens), half.hidden(tokens)
        assert rounded.dtype == torch.bfloat16
        assert half.logits(rounded).dtype == torch.float32
    off = (rounded.float() - exact).norm() / exact.norm()
    assert 0 < off < 2**-5  # eight bits of a number's beginning are kept, a few are lost on the way


def test_the_two_forms_of_gelu_are_close() -> None:
    x = torch.linspace(-10, 10, 200_001, dtype=torch.float64)
    apart = (F.gelu(x) - F.gelu(x, approximate="tanh")).abs().max()
    assert 4e-4 < apart < 5e-4


def test_the_exact_gelu_is_used_in_bfloat16_alone(tiny_backbone: Path) -> None:
    kinds = {
        precision: {
            type(block.mlp.act).__name__
            for block in load_backbone(str(tiny_backbone), "cpu", precision).model.transformer.h
        }
        for precision in ("float32", "bfloat16")
    }
    assert kinds["bfloat16"] == {"GELU"}
    assert kinds["float32"] != kinds["bfloat16"]


SHAPES = """
import psutil, torch
w, x = torch.ones(256, 1024, dtype=torch.bfloat16), torch.ones(1000, 256, dtype=torch.bfloat16)
def used_after(first):
    for rows in range(first, first + 200): x[:rows] @ w
    return psutil.Process().memory_info().rss
few = used_after(400)
used_after(600)
print(used_after(800) - few)
"""


@pytest.mark.skipif(pick_precision("auto", torch.device("cpu")) != torch.bfloat16, reason="needs bfloat16 instructions")
def test_memory_does_not_grow_with_every_shape_of_a_batch() -> None:
    def grown(prelude: str) -> int:
        plain = {name: value for name, value in os.environ.items() if not name.endswith("CACHE_CAPACITY")}
        finished = subprocess.run(
            [sys.executable, "-c", prelude + SHAPES], cwd=ROOT, env=plain, capture_output=True, text=True, check=True
        )
        return int(finished.stdout)

    # by about 300 MB, and not at all
    assert grown("import pwff_core") < 100_000_000 < grown("")
