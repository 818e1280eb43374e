"""Runs of Keras' optimizers, recorded where they run eagerly."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest

import scirs2_adapters as s2
from scirs2_adapters import tf as adapter
from scirs2_adapters.drift import compare

from .tf_support import KERAS_READS

pytestmark = KERAS_READS
X = np.sin(np.arange(80.0)).reshape(20, 4).astype("float32")


def ran(folder: Path, optimizer: keras.optimizers.Optimizer, *, eagerly: bool = True) -> None:
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(3, name="one"), keras.layers.Dense(2, name="two")], name="m"
    )
    model.compile(s2.record(optimizer, folder), loss="mse", run_eagerly=eagerly)
    model.fit(X, 1e-3 * X[:, :2], batch_size=5, epochs=1, shuffle=False, verbose=0)


def test_ours_and_keras_s_do_not_differ_where_the_formula_is_theirs(tmp_path: Path) -> None:
    ran(tmp_path / "a", adapter.Adam(match="keras"))
    ran(tmp_path / "b", keras.optimizers.Adam())
    drift = compare(tmp_path / "a", tmp_path / "b")
    assert (drift.steps, drift.step) == (4, None)
    ran(tmp_path / "c", adapter.Adam(epsilon=1e-2))
    ran(tmp_path / "d", keras.optimizers.Adam(epsilon=1e-2))
    drift = compare(tmp_path / "c", tmp_path / "d")
    assert (drift.step, drift.quantity) == (1, "param")
    assert "adds eps to the root before bias is corrected (epsilon hat)" in drift.explanations


def test_a_schedule_s_rate_is_that_of_the_step(tmp_path: Path) -> None:
    for folder, start in (("a", 1e-2), ("b", 2e-2)):
        ran(tmp_path / folder, adapter.SGD(keras.optimizers.schedules.ExponentialDecay(start, 1, 0.5)))
    drift = compare(tmp_path / "a", tmp_path / "b")
    assert (drift.step, drift.quantity, drift.what) == (1, "learning_rate", "0.01 and 0.02")


def test_a_compiled_step_is_refused(tmp_path: Path) -> None:
    if keras.backend.backend() == "torch":  # torch's trainer steps eagerly in any case
        ran(tmp_path / "a", adapter.SGD(), eagerly=False)
        return
    with pytest.raises(ValueError, match="run_eagerly=True"):
        ran(tmp_path / "a", adapter.SGD(), eagerly=False)
