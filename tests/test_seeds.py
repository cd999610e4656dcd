"""Randomness by name: the same name repeats itself, another name is another stream."""

from __future__ import annotations

from pwff_core import seeds


def test_a_draw_depends_on_seed_and_name_alone() -> None:
    def draw(seed: int, *names: str | int) -> float:
        return float(seeds.generator(seed, *names).random())

    assert draw(0, "channel", 3) == draw(0, "channel", 3)
    assert len({draw(0, "channel", 3), draw(1, "channel", 3), draw(0, "channel", 4), draw(0, "order", 3)}) == 4


def test_torch_seeds_fit_a_signed_64_bit_number() -> None:
    drawn = {seeds.torch_seed(seed, "start") for seed in range(100)}
    assert len(drawn) == 100
    assert all(0 <= value < 2**63 for value in drawn)
