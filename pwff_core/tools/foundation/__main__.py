"""`make foundation`: rebuilds assets/backbone and assets/encoder from assets/corpus; all randomness is seeded."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from pwff_core.paths import assets_dir
from pwff_core.tools.foundation.pretrain import pretrain_backbone, pretrain_encoder, save_half
from pwff_core.tools.foundation.texts import general_texts, judged_texts
from pwff_core.tools.foundation.tokenizer import train_tokenizer


def main() -> None:
    """Tokenizer, then backbone, then encoder."""
    parser = argparse.ArgumentParser(prog="python -m pwff_core.tools.foundation", description=__doc__)
    parser.add_argument("--only", choices=("backbone", "encoder"), help="rebuild this one alone")
    only = parser.parse_args().only
    texts = general_texts()
    tokenizer = train_tokenizer(text.prompt + text.response for text in texts)
    print(f"{len(texts)} texts, {len(tokenizer)} tokens in the vocabulary", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        if only != "encoder":
            save_half(pretrain_backbone(texts, tokenizer, Path(scratch)), tokenizer, assets_dir() / "backbone")
        if only != "backbone":
            encoder = pretrain_encoder(judged_texts(), tokenizer, Path(scratch))
            save_half(encoder, tokenizer, assets_dir() / "encoder")


if __name__ == "__main__":
    main()
