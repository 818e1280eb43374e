"""Storage formats on TensorFlow: graphs in which a model is built, sparse gradients, checkpoints, strategies."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from scirs2_adapters import tf as adapter
from tests.boundaries.support import fresh

from .tf_format_support import BOTH, INT8, number
from .tf_support import KERAS_READS

pytestmark = KERAS_READS


@pytest.mark.parametrize(("name", "xla"), [("AdamW", False), ("AdamW", True), ("Lookahead", False)])
def test_an_optimizer_that_is_built_inside_a_graph(name: str, xla: bool) -> None:
    ends = []
    for graph in (False, True):
        made = getattr(adapter, name)(learning_rate=0.05, **BOTH)
        x = tf.Variable(np.linspace(-1, 1, 5000), dtype=tf.bfloat16)
        step = tf.function(made.apply_gradients, jit_compile=xla) if graph else made.apply_gradients
        for size in (1.0, -0.5, 2.0):
            step([(tf.cast(tf.range(5000), tf.bfloat16) * size, x)])
        ends.append(np.array(tf.cast(x, tf.float32)))
    np.testing.assert_allclose(ends[1], ends[0], atol=2.0**-8)
    assert np.abs(ends[0] - np.linspace(-1, 1, 5000)).max() > 0.01


@pytest.mark.parametrize("name", ["SGD", "AdamW", "Adagrad"])
def test_sparse_gradients_lead_where_dense_ones_do(name: str) -> None:
    slices = tf.IndexedSlices(tf.reshape(tf.range(192.0), (3, 64)), tf.constant([2, 0, 2]), tf.constant([80, 64]))
    ends = []
    for gradient in (slices, tf.convert_to_tensor(slices)):
        # By one path: the kernel, which takes no slices, rounds otherwise in the last place.
        made = getattr(adapter, name)(learning_rate=0.05, kernel="traced", **INT8)
        x = tf.Variable(tf.ones((80, 64)))
        for _ in range(3):
            made.apply_gradients([(gradient, x)])
        ends.append([number(v.numpy()) for v in (x, *made.slots.entries[0].slots.values())])
    for one, other in zip(*ends, strict=True):
        np.testing.assert_array_equal(one, other)


def test_checkpoints_of_the_same_formats_go_on_and_others_are_refused(tmp_path: Path) -> None:
    made, x, g = adapter.AdamW(0.05, **INT8), tf.Variable(tf.ones(5000)), tf.range(5000.0)
    made.apply_gradients([(g, x)])
    saved = tf.train.Checkpoint(opt=made, x=x).save(str(tmp_path / "c"))
    again, y = adapter.AdamW(0.05, **INT8), tf.Variable(tf.zeros(5000))
    again.build([y])
    tf.train.Checkpoint(opt=again, x=y).restore(saved)
    for optimizer, variable in ((made, x), (again, y)):
        optimizer.apply_gradients([(g, variable)])
    np.testing.assert_array_equal(x.numpy(), y.numpy())
    other, z = adapter.AdamW(0.05), tf.Variable(tf.zeros(5000))
    other.build([z])
    with pytest.raises(tf.errors.InvalidArgumentError, match="does not equal original dtype int8"):
        tf.train.Checkpoint(opt=other, x=z).restore(saved)


@pytest.mark.slow
def test_replicas_stay_equal_and_walk_like_one() -> None:
    """A process of its own: logical devices must be made before TensorFlow is used."""
    fresh(MIRRORED)


MIRRORED = """
import numpy as np, tensorflow as tf, keras
cpus = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpus[0], [tf.config.LogicalDeviceConfiguration()] * 2)
import scirs2_adapters.tf as adapter
start = np.random.default_rng(0).normal(size=(64, 80)).astype(tf.bfloat16.as_numpy_dtype).astype("float32")
def walk(name, rounding, strategy):
    with strategy.scope():
        x = keras.Variable(start, dtype="bfloat16")
        made = getattr(adapter, name)(learning_rate=0.05, state_dtype="int8", rounding=rounding)
        made.build([x])
    @tf.function
    def step():
        strategy.run(lambda: made.apply([tf.convert_to_tensor(x) / strategy.num_replicas_in_sync], [x]))
    for _ in range(4):
        step()
    all_copies = [getattr(v.value, "values", [v.value]) for v in (x, *made.variables)]
    for copies in all_copies:
        assert len(copies) == strategy.num_replicas_in_sync
        for copy in copies:
            assert np.array_equal(np.array(copies[0]), np.array(copy))
    return [np.array(copies[0]).astype(float) for copies in all_copies]
for name in ("AdamW", "Lookahead", "Lamb"):
    for rounding in ("compensated", "stochastic"):
        one = walk(name, rounding, tf.distribute.OneDeviceStrategy("/cpu:0"))
        two = walk(name, rounding, tf.distribute.MirroredStrategy(["/cpu:0", "/cpu:1"]))
        assert np.any(one[0] != start)
        for a, b in zip(one, two):
            np.testing.assert_array_equal(a, b)
"""
