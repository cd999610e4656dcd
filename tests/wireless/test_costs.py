from __future__ import annotations

import numpy as np
import pytest

from pwff_core.config import preset_config
from pwff_core.knobs import with_changes
from pwff_core.methods import METHODS
from pwff_core.wireless.costs import method_costs, rounds_for
from pwff_core.wireless.payload import GPT2_SMALL

PAPER = preset_config("paper")


def test_the_papers_costs_by_method() -> None:
    costs = method_costs(PAPER, GPT2_SMALL, 0)
    assert list(costs) == list(METHODS)
    expected = {name: cost.expected.delay_s for name, cost in costs.items()}
    assert expected["pwff"] == expected["fedada"] == expected["sfl"] == pytest.approx(10.83, abs=5e-3)
    assert expected["vanilla_fl"] == expected["pfl"] == pytest.approx(19.08, abs=5e-3)
    assert expected["fedlora"] == expected["shepherd"] == pytest.approx(8.249, abs=5e-3)
    assert expected["local"] == expected["centralised"] == 0.0
    assert 1 - costs["pwff"].expected.round_energy_j / costs["pfl"].expected.round_energy_j == pytest.approx(
        0.432, abs=5e-4
    )


def test_the_slowest_of_many_is_slower_than_expected_and_energy_is_not() -> None:
    cost = method_costs(PAPER, GPT2_SMALL, 0)["pwff"]
    assert cost.simulated.delay_s.shape == (30,)
    assert cost.simulated.delay_s.mean() > 10.83 * 1.01
    assert cost.simulated.energy_j.mean() == pytest.approx(108.3, rel=0.01)
    many = method_costs(with_changes(PAPER, {"clients": 100}), GPT2_SMALL, 0)["pwff"]
    assert many.simulated.delay_s.mean() > cost.simulated.delay_s.mean()


def test_methods_that_upload_the_same_cost_the_same_and_draws_follow_the_seed() -> None:
    costs, again, other = (method_costs(PAPER, GPT2_SMALL, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(costs["pwff"].simulated.delay_s, costs["sfl"].simulated.delay_s)
    np.testing.assert_array_equal(costs["pwff"].simulated.delay_s, again["pwff"].simulated.delay_s)
    assert costs["pwff"].simulated.delay_s[0] != other["pwff"].simulated.delay_s[0]


@pytest.mark.parametrize(("clients", "rounds"), [(2, 30), (10, 30), (30, 10), (60, 5), (200, 5)])
def test_many_clients_are_simulated_for_fewer_rounds(clients: int, rounds: int) -> None:
    assert rounds_for(clients) == rounds
