"""`monitor` and the callback on every backend: the numbers of a step, no bit changed, `apply` put back."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import keras
import numpy as np
import pytest

from scirs2_adapters import monitor
from scirs2_adapters import tf as adapter
from tests.adapters.tf_support import GRADS, KERAS_READS, NAMES, PARAMS, apply, keras_class, values, variables

pytestmark = KERAS_READS
SQUARES = sum(float(np.sum(np.square(g.astype(float)))) for g in GRADS[1])


@pytest.mark.parametrize("name", NAMES)
def test_it_changes_no_bit(name: str) -> None:
    plain, watched = keras_class(name)(), keras_class(name)()
    expected = apply(plain, variables(), GRADS[:2])
    with monitor(watched, every=2) as watching:
        seen = apply(watched, variables(), GRADS[:2])
    for a, b in zip(seen, expected, strict=True):
        np.testing.assert_array_equal(a, b)
    (record,) = watching.records
    assert (record.step, record.optimizer, record.skipped_steps) == (2, type(plain).__name__, 0)
    assert record.state_bytes == plain.memory().state_bytes
    assert record.gradient_norm == pytest.approx(SQUARES**0.5, rel=1e-6)


def test_the_numbers_are_those_of_the_step() -> None:
    xs, optimizer = variables(), adapter.SGD(learning_rate=0.5)
    watching = monitor(optimizer, every=1)
    apply(optimizer, xs, [GRADS[1]])
    watching.remove()
    assert "apply" not in vars(optimizer)
    apply(optimizer, xs, [GRADS[2]])
    (record,) = watching.records
    assert record.groups[0].learning_rate == 0.5
    assert record.update_norm == pytest.approx(0.5 * SQUARES**0.5, rel=1e-5)
    moved = [p - 0.5 * g for p, g in zip(PARAMS, GRADS[1], strict=True)]
    assert record.parameter_norm == pytest.approx(sum(np.sum(x.astype(float) ** 2) for x in moved) ** 0.5, rel=1e-5)


def test_what_is_not_finite_is_counted() -> None:
    xs, optimizer = variables(), adapter.AdamW(skip_nonfinite=True)
    bad = [g.copy() for g in GRADS[0]]
    bad[0][0, 0], bad[1][1] = np.nan, np.inf
    with monitor(optimizer, every=1) as watching:
        apply(optimizer, xs, [bad])
    (record,) = watching.records
    assert (record.nonfinite_gradients, record.skipped_steps, record.update_norm) == (2, 1, 0.0)


def test_nothing_is_kept_alive() -> None:
    xs, optimizer = variables(), adapter.AdamW()
    watching = monitor(optimizer, every=1)
    apply(optimizer, xs, [GRADS[0]])
    known = weakref.ref(optimizer)
    del xs, optimizer
    gc.collect()
    assert known() is None
    watching.remove()


def fitted(*callbacks: keras.callbacks.Callback) -> tuple[Any, Any]:
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.layers.Input((2,)), keras.layers.Dense(3), keras.layers.Dense(1)])
    model.compile(optimizer=adapter.SGD(learning_rate=0.25), loss="mse")
    x = np.linspace(-1, 1, 64, dtype="float32").reshape(32, 2)
    for _ in range(2):
        model.fit(x, x[:, :1], batch_size=8, epochs=2, shuffle=False, callbacks=list(callbacks), verbose=0)
    return model, values(model.trainable_variables)


class Snapshots(keras.callbacks.Callback):
    """The parameters after each batch."""

    def __init__(self) -> None:
        super().__init__()
        self.taken: list[Any] = []

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.taken.append(np.concatenate([x.ravel() for x in values(self.model.trainable_variables)]))


def test_the_callback_sees_compiled_fits_one_after_the_other_and_changes_no_bit() -> None:
    watching, snapshots, seen = adapter.OptimizerMonitor(every=3), Snapshots(), []
    watching.monitor = type(watching.monitor)("", 3, seen.append, 2)
    model, ends = fitted(watching, snapshots)
    for a, b in zip(ends, fitted()[1], strict=True):
        np.testing.assert_array_equal(a, b)
    assert [r.step for r in seen] == [3, 6, 9, 12, 15]
    assert len(watching.monitor.records) == 2
    for record in seen:
        now, before = snapshots.taken[record.step - 1], snapshots.taken[record.step - 2]
        assert record.update_norm == pytest.approx(float(np.linalg.norm(now - before)), rel=1e-6)
        assert record.parameter_norm == pytest.approx(float(np.linalg.norm(now)), rel=1e-6)
        assert (record.optimizer, record.gradient_norm, record.nonfinite_gradients) == ("SGD", None, None)
        assert record.groups[0].learning_rate == 0.25
    assert not [x for x in vars(watching).values() if x is model]


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match=r"`monitor\(every=...\)` must be a whole number >= 1. Received: 0"):
        adapter.OptimizerMonitor(every=0)
