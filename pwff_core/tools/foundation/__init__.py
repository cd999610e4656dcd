"""How the embedded default in assets/ was made: tokenizer, backbone and encoder, from the general pool alone."""
