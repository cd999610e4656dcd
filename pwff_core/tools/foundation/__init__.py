"""Makes the embedded default in assets/: tokenizer, backbone and encoder, from the general pool alone."""
