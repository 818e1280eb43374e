"""The Keras adapter on TensorFlow: graphs, raw variables, sparse gradients, XLA, checkpoints, strategies."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import scirs2_adapters as s2
from scirs2_adapters import tf as adapter
from tests.boundaries.support import fresh
from tests.conformance.options import brisk
from tests.reference import sparseadam as reference

from .tf_support import (
    GRADS,
    KERAS_READS,
    PARAMS,
    RATE,
    apply,
    close,
    fit,
    keras_class,
    network,
    oracle,
    variables,
)

pytestmark = KERAS_READS


def raw_values(xs: list[tf.Variable]) -> list[np.ndarray]:
    return [np.array(x.numpy(), dtype=float) for x in xs]


@pytest.mark.parametrize("name", ["adamw", "lookahead", "prodigy"])
def test_raw_variables_step_in_a_graph(name: str) -> None:
    hyper = brisk(s2.get(name))
    made, xs = keras_class(name)(**hyper), [tf.Variable(p) for p in PARAMS]

    @tf.function
    def step(*gs: tf.Tensor) -> None:
        with tf.GradientTape() as tape:
            loss = tf.add_n([tf.reduce_sum(x * g) for x, g in zip(xs, gs, strict=True)])
        made.apply_gradients(zip(tape.gradient(loss, xs), xs, strict=True))

    for gs in GRADS:
        step(*map(tf.constant, gs))
    close(raw_values(xs), oracle(s2.get(name)(**hyper)))


@pytest.mark.parametrize("graph", [False, True], ids=["eager", "graph"])
@pytest.mark.parametrize("name", s2.names())
def test_rows_that_occur_twice_count_twice(name: str, graph: bool) -> None:
    sparse, dense = tf.Variable(PARAMS[0]), tf.Variable(PARAMS[0])
    slices = tf.IndexedSlices(tf.reshape(tf.range(9.0), (3, 3)), tf.constant([2, 0, 2]), tf.constant([4, 3]))
    whole = tf.convert_to_tensor(slices)
    for variable, gradient in ((sparse, slices), (dense, whole)):
        made = keras_class(name)(learning_rate=0.05, kernel="traced")  # no other path takes slices
        step = tf.function(made.apply_gradients) if graph else made.apply_gradients
        for _ in range(3):
            step([(gradient, variable)])
    np.testing.assert_allclose(sparse.numpy(), dense.numpy(), rtol=1e-6, atol=1e-7)  # the kernel steps dense ones


SLICES = [([2, 0, 2], 1.0), ([1], -2.0), ([0, 0], 0.5), ([2, 1], 3.0)]


def rows_of_sparse_adam(t: int, x: np.ndarray, m: np.ndarray, v: np.ndarray, rows: list[int], g: np.ndarray) -> None:
    """One step as the slow twin has it, of these rows only."""
    held = {"exp_avg": m[rows], "exp_avg_sq": v[rows]}
    x[rows], new = reference.step(t, x[rows], g[rows], held, learning_rate=0.1)
    m[rows], v[rows] = new["exp_avg"], new["exp_avg_sq"]


@pytest.mark.parametrize("kind", ["eager", "graph", "xla", "dense"])
def test_sparse_adam_steps_the_rows_that_a_gradient_gives_and_no_others(kind: str) -> None:
    """A dense gradient gives the rows that are not zero throughout: so it is what an embedding has without slices."""
    made, x = adapter.SparseAdam(0.1), keras.Variable(PARAMS[0], dtype="float64")
    made.build([x])
    apply_ = {"graph": tf.function(made.apply), "xla": tf.function(made.apply, jit_compile=True)}.get(kind, made.apply)
    expected, m, v = PARAMS[0].astype(float), np.zeros((4, 3)), np.zeros((4, 3))
    for t, (indices, size) in enumerate(SLICES, 1):
        values = size * np.arange(1.0, 3 * len(indices) + 1).reshape(-1, 3)
        slices = tf.IndexedSlices(tf.constant(values), tf.constant(indices), tf.constant([4, 3]))
        whole = np.zeros((4, 3))
        np.add.at(whole, indices, values)
        apply_([tf.constant(whole) if kind == "dense" else slices])
        rows_of_sparse_adam(t, expected, m, v, sorted({*indices}), whole)
    np.testing.assert_allclose(x.numpy(), expected, rtol=1e-12)
    np.testing.assert_allclose(made.slots.entries[0].slots["exp_avg"].numpy(), m, rtol=1e-12)
    np.testing.assert_allclose(made.slots.entries[0].slots["exp_avg_sq"].numpy(), v, rtol=1e-12)


def test_sparse_adam_leaves_unused_tokens_alone() -> None:
    model = keras.Sequential([keras.Input((4,), dtype="int32"), keras.layers.Embedding(5, 3), keras.layers.Flatten()])
    model.compile(adapter.SparseAdam(0.1), loss="mse", jit_compile=False)
    before = model.get_weights()[0]
    for tokens in ([1, 1, 2, 1], [2, 2, 2, 2]):
        model.fit(np.array([tokens] * 8, dtype="int32"), np.ones((8, 12), "float32"), epochs=2, verbose=0)
    after = model.get_weights()[0]
    assert [bool((a != b).any()) for a, b in zip(before, after, strict=True)] == [False, True, True, False, False]


@pytest.mark.parametrize("clip", ["clipnorm", "global_clipnorm", "clipvalue"])
@pytest.mark.parametrize("name", ["sgd", "adagrad"])
def test_a_row_that_occurs_twice_is_clipped_as_its_sum(name: str, clip: str) -> None:
    """Keras takes the norm of the slices as they come, and so scales by another factor."""
    walks = []
    for whole in (False, True):
        made, x = keras_class(name)(learning_rate=0.1, **{clip: 0.5}), tf.Variable(PARAMS[0])
        for _ in range(3):
            g = tf.IndexedSlices(0.1 * tf.reshape(tf.range(9.0), (3, 3)), tf.constant([2, 0, 2]), tf.constant([4, 3]))
            made.apply_gradients([(tf.convert_to_tensor(g) if whole else g, x)])
        walks.append(x.numpy())
    np.testing.assert_allclose(*walks, rtol=1e-5)


def test_an_embedding_trains_on_repeated_tokens() -> None:
    model = keras.Sequential([keras.Input((4,), dtype="int32"), keras.layers.Embedding(5, 3), keras.layers.Flatten()])
    model.compile(adapter.AdamW(0.01), loss="mse", jit_compile=False)
    x = np.array([[1, 1, 2, 1]] * 8, dtype="int32")
    losses = model.fit(x, np.ones((8, 12), "float32"), epochs=3, verbose=0).history["loss"]
    assert losses[-1] < losses[0]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["adamw", "muon", "prodigy", "lookahead"])
def test_it_trains_under_xla(name: str) -> None:
    with_xla, without = (fit(*network(keras_class(name)(), jit)) for jit in (True, False))
    np.testing.assert_allclose(with_xla, without, rtol=1e-5)


def test_mixed_precision_trains() -> None:
    keras.config.set_dtype_policy("mixed_float16")
    try:
        losses = fit(*network(adapter.AdamW(0.01)), epochs=4)
    finally:
        keras.config.set_dtype_policy("float32")
    assert losses[-1] < losses[0]


def test_a_checkpoint_goes_on_as_if_it_had_not_stopped(tmp_path: Path) -> None:
    made, xs = adapter.AdamW(RATE), variables()
    apply(made, xs, GRADS[:4])
    saved = tf.train.Checkpoint(opt=made, **{f"x{i}": x.value for i, x in enumerate(xs)}).save(str(tmp_path / "c"))
    again, ys = adapter.AdamW(0.5), variables()
    again.build(ys)
    tf.train.Checkpoint(opt=again, **{f"x{i}": y.value for i, y in enumerate(ys)}).restore(saved)
    close(apply(again, ys, GRADS[4:]), oracle(s2.get("adamw")(learning_rate=RATE)))


def test_a_snapshot_of_a_variable_does_not_change() -> None:
    made, xs = adapter.Lookahead(learning_rate=RATE), variables()
    snapshots = [tf.identity(x.value) for x in xs]
    apply(made, xs)
    for snapshot, p in zip(snapshots, PARAMS, strict=True):
        np.testing.assert_array_equal(snapshot.numpy(), p)


@pytest.mark.parametrize("shrinkage", [0.0, 0.2])
def test_ftrl_is_tensorflows_operation(shrinkage: float) -> None:
    """The kernel that TensorFlow had before Keras had a class. It takes beta within l2."""
    made = adapter.Ftrl(
        RATE, l1_regularization_strength=0.5, l2_regularization_strength=0.1, beta=0.25,
        l2_shrinkage_regularization_strength=shrinkage,
    )  # fmt: skip
    p = tf.Variable(PARAMS[0])
    n, z = tf.Variable(tf.fill(p.shape, 0.1)), tf.Variable(tf.zeros_like(p))
    for gs in GRADS:
        tf.raw_ops.ResourceApplyFtrlV2(
            var=p.handle, accum=n.handle, linear=z.handle, grad=gs[0], lr=RATE, l1=0.5, l2=0.1 + 0.25 / (2 * RATE),
            l2_shrinkage=shrinkage, lr_power=-0.5,
        )  # fmt: skip
    xs = variables()[:1]
    seen = apply(made, xs, [gs[:1] for gs in GRADS])
    np.testing.assert_allclose(seen[0], p.numpy(), rtol=0, atol=1e-6)
    assert np.any(p.numpy() != 0)
    slots = made.slots.entries[0].slots
    for mine, theirs in ((slots["accumulator"], n), (slots["linear"], z)):
        np.testing.assert_allclose(mine.numpy(), theirs.numpy(), rtol=1e-5, atol=1e-5)


def test_several_optimizers_share_a_model() -> None:
    xs = variables()
    by_pattern = {"p[01]": adapter.AdamW(RATE)}
    both = keras.optimizers.MultiOptimizer(keras.optimizers.OptimizerMap(adapter.SGD(RATE), by_pattern))
    both.build(xs)
    seen = apply(both, xs)
    expected = oracle(s2.get("adamw")(learning_rate=RATE))[:2] + oracle(s2.get("sgd")(learning_rate=RATE))[2:]
    close(seen, expected)


@pytest.mark.slow
def test_replicas_stay_equal_and_walk_like_one() -> None:
    """A process of its own: logical devices must be made before TensorFlow is used."""
    fresh(MIRRORED, TF_CPP_MIN_LOG_LEVEL="3")


MIRRORED = """
import numpy as np, tensorflow as tf, keras
cpus = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpus[0], [tf.config.LogicalDeviceConfiguration()] * 2)
import scirs2_adapters.tf as adapter
rng = np.random.default_rng(0)
start = [rng.normal(size=s).astype("float32") for s in ((4, 3), (5,))]
def walk(name, strategy):
    with strategy.scope():
        xs = [keras.Variable(p) for p in start]
        made = getattr(adapter, name)(learning_rate=0.05, skip_nonfinite=True)
        made.build(xs)
    @tf.function
    def step(bad):
        def replica():
            last = tf.distribute.get_replica_context().replica_id_in_sync_group == strategy.num_replicas_in_sync - 1
            wrong = tf.where(tf.logical_and(bad, last), np.float32(np.nan), np.float32(1))
            made.apply([wrong * 0.5 * tf.convert_to_tensor(x) / strategy.num_replicas_in_sync for x in xs], xs)
        strategy.run(replica)
    for bad in (False, True, False, True, False):
        step(tf.constant(bad))
    for count, variable in ((2, made.skipped_steps), (3, made.iterations)):
        copies = [int(v) for v in getattr(variable.value, "values", [variable.value])]
        assert copies == [count] * strategy.num_replicas_in_sync
    copies = [getattr(x.value, "values", [x.value]) for x in xs]
    assert all(len(c) == strategy.num_replicas_in_sync for c in copies)
    for c in copies:
        assert all(np.array_equal(c[0].numpy(), other.numpy()) for other in c)
    return [c[0].numpy() for c in copies]
for name in ("AdamW", "Lamb", "Prodigy", "Lookahead"):
    one = walk(name, tf.distribute.OneDeviceStrategy("/cpu:0"))
    two = walk(name, tf.distribute.MirroredStrategy(["/cpu:0", "/cpu:1"]))
    for a, b, p in zip(one, two, start):
        np.testing.assert_allclose(a, b, rtol=1e-6)
        assert np.any(a != p), name
"""
