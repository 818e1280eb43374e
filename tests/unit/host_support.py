"""A small model for the tests of `HostOptimizer`, and what makes two of them the same."""

from __future__ import annotations

import numpy as np

from scirs2_adapters.core import HostOptimizer

Params = dict[str, np.ndarray]


def params(seed: int = 0) -> Params:
    rng = np.random.default_rng(seed)
    return {k: rng.standard_normal(s) for k, s in {"w": (4, 3), "b": (5,), "t": (2, 3, 2)}.items()}


def walk(optimizer: HostOptimizer, steps: int, first: int = 1) -> HostOptimizer:
    for i in range(first, first + steps):
        optimizer.step({k: params(i)[k] for k in optimizer.params}, value=float(i))
    return optimizer


def assert_same(a: HostOptimizer, b: HostOptimizer) -> None:
    for key, p in a.params.items():
        np.testing.assert_array_equal(p, b.params[key], strict=True)
    assert a.steps == b.steps
    assert a.model == b.model
    assert a.state.keys() == b.state.keys()
    for key, slots in a.state.items():
        assert slots.keys() == b.state[key].keys()
        for name, x in slots.items():
            np.testing.assert_array_equal(x, b.state[key][name], strict=True)
