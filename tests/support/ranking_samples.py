"""A key, prompts and responses that tests use."""

from __future__ import annotations

KEY = "sk-planted-0123456789abcdefXYZ"
PROMPTS = ("Why?", "How?", "When?", "Where?")


def responses(prompt: str, count: int = 2) -> tuple[str, ...]:
    """Responses of growing length."""
    return tuple(f"{prompt} {'So. ' * number}".strip() for number in range(1, count + 1))
