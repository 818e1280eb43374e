"""Sparse gradients on TensorFlow with what Keras does around a step, in every storage, in models and on replicas."""

from __future__ import annotations

from typing import Any

import keras
import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf

from scirs2_adapters import tf as adapter
from tests.boundaries.support import fresh

from .tf_sparse_support import GATHERED, ROWS, START, WIDTH, alike, as_tensor, numbers, slices, walk
from .tf_support import KERAS_READS, keras_class

pytestmark = KERAS_READS

AROUND: list[dict[str, Any]] = [
    {"clipnorm": 0.5},
    {"global_clipnorm": 0.5},
    {"clipvalue": 0.3},
    {"gradient_accumulation_steps": 2},
    {"use_ema": True, "ema_momentum": 0.5, "ema_overwrite_frequency": 3},
    {"skip_nonfinite": True, "clipnorm": 0.5},
    {"skip_nonfinite": True, "gradient_accumulation_steps": 2},
]


@pytest.mark.parametrize("options", AROUND, ids=lambda o: "-".join(o))
@pytest.mark.parametrize("name", ["sgd", "rmsprop", "sparseadam"])
def test_what_the_base_class_does_around_a_step(name: str, options: dict[str, Any]) -> None:
    made = [keras_class(name)(learning_rate=0.05, **options) for _ in range(2)]
    alike(walk(made[0], lambda g: g), walk(made[1], as_tensor))


@pytest.mark.parametrize("options", [{}, {"clipnorm": 1.0}, {"gradient_accumulation_steps": 2}], ids=str)
def test_slices_that_are_not_finite_are_skipped(options: dict[str, Any]) -> None:
    optimizer, x = adapter.Adagrad(0.1, skip_nonfinite=True, **options), keras.Variable(START, dtype="float32")
    optimizer.build([x])
    bad = tf.IndexedSlices(tf.constant([[np.nan] * WIDTH]), tf.constant([3]), tf.constant([ROWS, WIDTH]))
    optimizer.apply([slices(0, dtype="float32")], [x])
    before = [numbers(v) for v in (x, *optimizer.variables[:-1])]
    optimizer.apply([bad], [x])
    for variable, old in zip((x, *optimizer.variables[:-1]), before, strict=True):
        np.testing.assert_array_equal(numbers(variable), old)
    assert int(optimizer.skipped_steps) == 1


@pytest.mark.parametrize("name", ["sgd", "adagrad"])
def test_a_loss_scale_optimizer_around_it(name: str) -> None:
    ends = []
    for change in (lambda g: g, as_tensor):
        inner, x = keras_class(name)(learning_rate=0.05), keras.Variable(START, dtype="float32")
        outer = keras.optimizers.LossScaleOptimizer(inner, initial_scale=8.0)
        for t in range(4):
            outer.apply([change(slices(t, dtype="float32"))], [x])
        ends.append([numbers(v) for v in (x, *inner.variables)])
    alike(*ends)


STORED: list[dict[str, Any]] = [
    {},
    {"rounding": "compensated"},
    {"rounding": "compensated", "state_dtype": {"rounding_error": "int16"}},
    {"rounding": "stochastic"},
    {"state_dtype": "bfloat16"},
]


@pytest.mark.parametrize("options", STORED, ids=str)
@pytest.mark.parametrize("name", ["sgd", "adagrad", "rmsprop", "sparseadam"])
def test_sixteen_bits_are_stored_as_with_dense_gradients(name: str, options: dict[str, Any]) -> None:
    def exact(g: tf.IndexedSlices) -> tf.IndexedSlices:  # sums that 16 bits hold, which the dense one has to
        return tf.IndexedSlices(tf.cast(tf.round(g.values * 4), "bfloat16"), g.indices, g.dense_shape)

    made = [keras_class(name)(learning_rate=0.05, kernel="traced", **options) for _ in range(2)]
    one, two = walk(made[0], exact, dtype="bfloat16"), walk(made[1], lambda g: as_tensor(exact(g)), dtype="bfloat16")
    assert np.any(one[0] != START.astype(ml_dtypes.bfloat16).astype(float))
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("kernel", ["auto", "traced"])
@pytest.mark.parametrize("compiled", [None, False], ids=["eager", "graph"])
@pytest.mark.parametrize("name", ["sgd", "adagrad", "rmsprop"])
def test_dense_and_sparse_gradients_take_turns(name: str, compiled: bool | None, kernel: str) -> None:
    """TensorFlow keeps a variable whose rows were read or written in another way than before."""

    def in_turn(g: tf.IndexedSlices) -> Any:
        return as_tensor(g) if len(g.indices) % 2 else g

    made = [keras_class(name)(learning_rate=0.05, kernel=kernel) for _ in range(2)]
    alike(walk(made[0], in_turn, compiled), walk(made[1], as_tensor))


@pytest.mark.parametrize("options", [{}, {"clipnorm": 0.5}], ids=str)
@pytest.mark.parametrize("name", GATHERED)
def test_an_optimizer_that_is_built_inside_a_graph(name: str, options: dict[str, Any]) -> None:
    ends = []
    for graph in (False, True):
        optimizer, x = keras_class(name)(learning_rate=0.05, **options), tf.Variable(START, dtype="float32")
        step = tf.function(optimizer.apply_gradients) if graph else optimizer.apply_gradients
        for t in range(3):
            step([(slices(t, dtype="float32"), x)])
        ends.append(x.numpy())
    np.testing.assert_allclose(*ends, rtol=1e-5)
    assert np.abs(ends[0] - START).max() > 1e-3


def test_a_model_fits_under_xla_as_without() -> None:
    def losses(optimizer: Any, jit: bool) -> list[float]:
        keras.utils.set_random_seed(1)
        layers = [keras.layers.Embedding(9, 3), keras.layers.Flatten(), keras.layers.Dense(1)]
        model = keras.Sequential([keras.Input((4,), dtype="int32"), *layers])
        model.compile(optimizer, loss="mse", jit_compile=jit)
        x = np.random.default_rng(0).integers(0, 9, (24, 4), dtype="int32")
        return model.fit(x, x[:, :1] / 9.0, batch_size=8, epochs=3, shuffle=False, verbose=0).history["loss"]

    under_xla = losses(adapter.Adagrad(0.1, match="keras", clipnorm=1.0), True)
    assert under_xla[-1] < under_xla[0]
    np.testing.assert_allclose(under_xla, losses(adapter.Adagrad(0.1, match="keras", clipnorm=1.0), False), rtol=1e-5)


@pytest.mark.slow
def test_replicas_stay_equal_and_walk_like_one() -> None:
    """A process of its own: logical devices must be made before TensorFlow is used."""
    fresh(MIRRORED, TF_CPP_MIN_LOG_LEVEL="3")


MIRRORED = """
import numpy as np, tensorflow as tf, keras
cpus = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpus[0], [tf.config.LogicalDeviceConfiguration()] * 2)
import scirs2_adapters.tf as adapter
start = np.random.default_rng(0).normal(size=(6, 4)).astype("float32")
def walk(name, options, strategy):
    with strategy.scope():
        x = keras.Variable(start)
        made = getattr(adapter, name)(learning_rate=0.05, **options)
        made.build([x])
    @tf.function
    def step():
        def replica():
            context, n = tf.distribute.get_replica_context(), strategy.num_replicas_in_sync
            row = context.replica_id_in_sync_group
            indices = tf.stack([row, 1, 3, 3] if n > 1 else [0, 1, 3, 3, 1, 1, 3, 3])
            values = tf.gather(x.value, indices)
            made.apply([tf.IndexedSlices(values, indices, tf.constant([6, 4]))], [x])
        strategy.run(replica)
    for _ in range(3):
        step()
    copies = [getattr(v.value, "values", [v.value]) for v in (x, *made.slots.entries[0].slots.values())]
    for c in copies:
        assert len(c) == strategy.num_replicas_in_sync
        assert all(np.array_equal(c[0].numpy(), other.numpy()) for other in c)
    return [c[0].numpy() for c in copies]
for name, options in (("SGD", {}), ("Adagrad", {"skip_nonfinite": True}), ("RMSprop", {}), ("SparseAdam", {})):
    one = walk(name, options, tf.distribute.OneDeviceStrategy("/cpu:0"))
    two = walk(name, options, tf.distribute.MirroredStrategy(["/cpu:0", "/cpu:1"]))
    for a, b in zip(one, two):
        np.testing.assert_allclose(a, b, rtol=1e-5)
    assert [bool(r) for r in np.any(one[0] != start, axis=1)] == [True, True, False, True, False, False], name
"""
