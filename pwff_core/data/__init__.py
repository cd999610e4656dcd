"""Whose examples: the embedded corpus, other people's data, and how they are spread over clients."""
