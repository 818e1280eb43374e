"""Optimizers that look at a layer output by output, beside their twins: kernels of any axes, in either layout."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import scirs2_adapters
from scirs2_adapters.core import HostOptimizer
from tests.reference import reference

SHAPES = [(8, 16), (4, 3, 2, 5), (7,), (2, 3, 6), (), (0, 3)]
DELTAS = {"each output": 10.0, "the layer alone": 0.9, "never": 0.0}


def walked(name: str, hyper: dict[str, Any], layout: str, kernel: str) -> float:
    """How far it is from its twin after a few steps."""
    rng = np.random.default_rng(0)
    start, grads = [rng.normal(size=s) for s in SHAPES], [[rng.normal(size=s) for s in SHAPES] for _ in range(4)]
    params = [np.array(x) for x in start]
    optimizer = HostOptimizer(scirs2_adapters.get(name)(**hyper), params, layout=layout, kernel=kernel)
    for gradients in grads:
        optimizer.step(gradients)
    path, _ = reference(name)(start, grads, hyper={**hyper, "layout": layout})
    return max(float(np.max(np.abs(x - y), initial=0.0)) for x, y in zip(params, path[-1], strict=True))


@pytest.mark.parametrize("kernel", ["host", "traced"])
@pytest.mark.parametrize("layout", ["outputs_first", "inputs_first"])
@pytest.mark.parametrize("delta", DELTAS.values(), ids=DELTAS)
def test_adamp_leaves_out_what_is_along_the_weights(delta: float, layout: str, kernel: str) -> None:
    hyper = {"delta": delta, "learning_rate": 0.1, "weight_decay": 0.5}
    assert walked("adamp", hyper, layout, kernel) < 1e-13


@pytest.mark.parametrize("delta", DELTAS.values(), ids=DELTAS)
def test_weights_that_adamp_projects_keep_their_length(delta: float) -> None:
    """To the first order in the learning rate, and each output's only where it is projected by itself."""
    rng = np.random.default_rng(0)
    p, g = rng.normal(size=(2, 8, 16))
    params = [p.copy()]
    HostOptimizer(scirs2_adapters.get("adamp")(delta=delta, learning_rate=1e-4), params).step([g])
    cosine = np.abs(np.sum(p * g, axis=1)) / (np.linalg.norm(p, axis=1) * np.linalg.norm(g, axis=1))
    alike = bool(np.all(cosine < delta / 4))
    as_one = bool(abs(np.sum(p * g)) / (np.linalg.norm(p) * np.linalg.norm(g)) < delta / np.sqrt(p.size))
    along = np.sum(p * (params[0] - p), axis=1) / 1e-4
    assert (np.max(np.abs(along)) < 1e-6) == alike
    assert (abs(np.sum(along)) < 1e-6) == (alike or as_one)
    assert (alike, as_one) == {10.0: (True, True), 0.9: (False, True), 0.0: (False, False)}[delta]
