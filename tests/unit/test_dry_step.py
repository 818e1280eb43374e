"""A step with a learning rate and gradients of 0, as checkpoint tools take one to make the memory, decides nothing."""

import numpy as np
import pytest

from scirs2_adapters import get, names
from scirs2_adapters.core import HostOptimizer

RATED = [n for n in names() if get(n).fields_with()["learning_rate"].default < 1 and not get(n)().model_slots()]


@pytest.mark.parametrize("kernel", ["host", "traced"])
@pytest.mark.parametrize("name", RATED)
def test_a_dry_step_moves_nothing(name: str, kernel: str) -> None:
    params = {"w": np.array([[1.0, -2.0], [3.0, 0.1]])}
    optimizer = HostOptimizer(get(name)(learning_rate=0.0), params, kernel=kernel)
    optimizer.step({"w": np.zeros((2, 2))})
    assert np.array_equal(params["w"], [[1.0, -2.0], [3.0, 0.1]])


@pytest.mark.parametrize("kernel", ["host", "traced"])
@pytest.mark.parametrize("name", ["rprop", "asgd"])
def test_a_first_step_size_made_in_a_dry_step_is_none(name: str, kernel: str) -> None:
    params = {"w": np.zeros(3)}
    optimizer = HostOptimizer(get(name)(learning_rate=0.0), params, kernel=kernel)
    optimizer.step({"w": np.zeros(3)})
    optimizer.replace(learning_rate=0.5)
    optimizer.step({"w": np.ones(3)})
    assert np.allclose(params["w"], -0.5, rtol=1e-4)
