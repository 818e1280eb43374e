"""Muon with match="keras" walks as Keras' own does; its buffer is an average, where Keras' is a sum."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from scirs2_adapters import tf as adapter
from scirs2_adapters.core import HostOptimizer, Muon

from .tf_support import KERAS_READS


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


def classifier() -> keras.Model:
    """A model and layers whose containers are called as heads are, with kernels of all kinds."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((6, 6, 2)),
            keras.layers.Conv2D(3, 3),
            keras.layers.DepthwiseConv2D(2),
            keras.layers.Reshape((9, 3)),
            keras.layers.Flatten(),
            keras.layers.Dense(4, name="hidden"),
            keras.layers.Dense(2, name="logits"),
        ],
        name="digit_classifier",
    )
    model.compile(optimizer=adapter.Muon(0.02), loss="mse")
    return model


@KERAS_READS
def test_a_model_called_classifier_is_stepped_by_muon_and_a_loaded_one_goes_on(tmp_path: Path) -> None:
    rng, model = np.random.default_rng(0), classifier()
    x, y = rng.standard_normal((4, 6, 6, 2)), rng.standard_normal((4, 2))
    fit = lambda m: m.fit(x, y, epochs=2, shuffle=False, verbose=0)  # noqa: E731
    fit(model)
    said = model.optimizer.explain().splitlines()
    by_muon = [line for line in said if "): muon" in line]
    assert [line.partition(" ")[0].rpartition("/")[0].split("/")[-1] for line in by_muon] == [
        "conv2d",
        "depthwise_conv2d",
        "hidden",
    ]
    assert any("logits/kernel" in line and "adamw, embedding or head" in line for line in said)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert int(loaded.optimizer.iterations) == int(model.optimizer.iterations) == 2
    fit(model)
    fit(loaded)
    for a, b in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
