"""Every decay rate at the ends of its range, and where a formula that counts gradients by it has a pole."""

from typing import Any

import numpy as np
import pytest

from scirs2_adapters import get, names
from scirs2_adapters.core import HostOptimizer
from scirs2_adapters.core.fields import Field, fraction

#: A mean with the decay b stands for 2 / (1 - b) - 1 gradients: 1, 2, 3, 4, 5, and nearly all.
VALUES = (0.0, 1 / 3, 0.5, 0.6, 2 / 3, 0.9999)
STEPS = 6


def is_a_fraction(field: Field) -> bool:
    return field.requirement == fraction(0.5, "").requirement


CASES = [
    pytest.param(name, argument, id=f"{name}-{argument}")
    for name in names()
    for argument, field in get(name).fields.items()
    if is_a_fraction(field)
]


@pytest.mark.parametrize("value", VALUES, ids="{:.4f}".format)
@pytest.mark.parametrize(("name", "argument"), CASES)
def test_steps_are_finite(name: str, argument: str, value: float) -> None:
    rng = np.random.default_rng(0)
    shapes: dict[str, Any] = {"w": (4, 4), "b": (4,)}
    params = {key: rng.standard_normal(shape) for key, shape in shapes.items()}
    optimizer = HostOptimizer(get(name)(**{argument: value}), params, kernel="traced")
    for _ in range(STEPS):
        optimizer.step({key: rng.standard_normal(shape) for key, shape in shapes.items()})
    assert all(np.isfinite(x).all() for x in optimizer.params.values())
    assert all(np.isfinite(x).all() for slots in optimizer.state.values() for x in slots.values())
