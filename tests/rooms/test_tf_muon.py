"""Muon with match="keras" walks as Keras' own does; its buffer is an average, where Keras' is a sum."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from scirs2_adapters.core import HostOptimizer, Muon


@pytest.mark.parametrize("kwargs", [{}, {"nesterov": False}, {"momentum": 0.8, "weight_decay": 0.1}])
def test_muons_trajectory_is_keras(kwargs: dict[str, Any]) -> None:
    rng = np.random.default_rng(0)
    shapes = {"wide": (5, 8), "tall": (8, 5), "bias": (7,)}
    draw = lambda: {k: rng.standard_normal(s).astype(np.float32) for k, s in shapes.items()}  # noqa: E731
    ours = draw()
    theirs = {k: keras.Variable(x, name=k) for k, x in ours.items()}
    optimizer, host = keras.optimizers.Muon(1e-2, **kwargs), HostOptimizer(Muon(1e-2, match="keras", **kwargs), ours)
    for _ in range(5):
        grads = draw()
        optimizer.apply([keras.ops.convert_to_tensor(g) for g in grads.values()], list(theirs.values()))
        host.step(grads)
    for k, x in ours.items():
        np.testing.assert_allclose(x, np.asarray(theirs[k]), rtol=0, atol=2e-6)
