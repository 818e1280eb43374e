"""TensorFlow's sparse gradients lead where the dense ones do; where the formula allows it, only their rows are touched."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import keras
import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf

import scirs2_adapters as s2
from scirs2_adapters import tf as adapter
from scirs2_adapters.adapters.tf.argument_names import KERAS
from scirs2_adapters.core import HostOptimizer
from tests.boundaries.support import fresh
from tests.conformance.options import brisk, other, turned

from .tf_support import KERAS_READS, NAMES, keras_class

pytestmark = KERAS_READS

ROWS, WIDTH = 6, 4
START = np.random.default_rng(1).normal(size=(ROWS, WIDTH))
#: Rows of a step, some more than once; of one step none, of another all.
STEPS = [[2, 0, 2, 2], [1], [], [5, 4, 3, 2, 1, 0, 0], [0, 2]]
#: Rules that step rows alone do not follow a dense gradient; `test_tf_tensorflow.py` has them.
FOLLOWING = [name for name in NAMES if s2.get(name).sparse != "rows"]
#: Those whose rows are stepped as a small variable.
GATHERED = ["sgd", "adagrad", "sparseadam"]


def slices(t: int, shape: tuple[int, ...] = (ROWS, WIDTH), dtype: Any = "float64") -> tf.IndexedSlices:
    """The gradient of a step."""
    indices = [row for row in STEPS[t % len(STEPS)] if row < shape[0]]
    values = np.random.default_rng(t).normal(size=(len(indices), *shape[1:]))
    given = (tf.constant(values, dtype), tf.constant(indices, "int32"), tf.constant(shape))
    return tf.IndexedSlices(*given)


def whole(g: tf.IndexedSlices) -> np.ndarray:
    """The same in full, by numpy."""
    found = np.zeros(tuple(np.array(g.dense_shape)), g.dtype.as_numpy_dtype)
    np.add.at(found, np.array(g.indices), np.array(g.values))
    return found


def numbers(x: Any) -> np.ndarray:
    return np.array(tf.cast(x, "float64"))


def settings(name: str) -> Iterator[dict[str, Any]]:
    """The defaults, all that is structural the other way round, and some weight decay, each by itself and together."""
    rule = s2.get(name)
    yield brisk(rule)
    yield turned(rule)
    yield turned(rule) | {"weight_decay": 0.0}
    yield brisk(rule) | {"weight_decay": 0.1}
    yield brisk(rule) | {"maximize": other(rule.fields_with()["maximize"])}


CASES = [pytest.param(name, hyper, id=f"{name}-{i}") for name in FOLLOWING for i, hyper in enumerate(settings(name))]


def make(name: str, hyper: dict[str, Any], **more: Any) -> Any:
    return keras_class(name)(**KERAS.to_framework(hyper, s2.get(name).fields_with()), **more)


@pytest.mark.parametrize(("name", "hyper"), CASES)
def test_sparse_gradients_lead_where_numpy_goes_with_dense_ones(name: str, hyper: dict[str, Any]) -> None:
    optimizer, x, p = make(name, hyper), keras.Variable(START, dtype="float64"), START.copy()
    host = HostOptimizer(s2.get(name)(**hyper), [p], kernel="traced", layout="inputs_first")
    for t in range(2 * len(STEPS)):
        optimizer.apply([slices(t)], [x])
        host.step([whole(slices(t))])
    np.testing.assert_allclose(x.numpy(), p, rtol=1e-11, atol=1e-14)
    for slot, variable in optimizer.slots.entries[0].slots.items():
        np.testing.assert_allclose(variable.numpy(), host.state[0][slot], rtol=1e-11, atol=1e-14)


def written_by_rows(optimizer: Any, x: Any, g: tf.IndexedSlices, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """What a step assigns rows of, by name."""
    names = {id(x): "p"} | {id(v): name for name, v in optimizer.slots.entries[0].slots.items()}
    found, assign = set[str](), type(optimizer).assign

    def watched(self: Any, variable: Any, value: Any) -> None:
        if isinstance(value, tf.IndexedSlices):
            found.add(names.get(id(variable), "p"))  # of the model's own TensorFlow has another object
        assign(self, variable, value)

    with monkeypatch.context() as patch:
        patch.setattr(type(optimizer), "assign", watched)
        optimizer.apply([g], [x])
    return found


@pytest.mark.parametrize(("name", "hyper"), CASES)
def test_what_is_written_by_rows_is_what_a_zero_gradient_leaves(
    name: str, hyper: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As numpy sees it, after a step in which all rows had a gradient."""
    optimizer, x, p = make(name, hyper), keras.Variable(START, dtype="float64"), START.copy()
    host = HostOptimizer(s2.get(name)(**hyper), [p], kernel="traced", layout="inputs_first")
    first = np.ones((ROWS, WIDTH))
    optimizer.apply([tf.constant(first)], [x])
    host.step([first])
    before = {"p": p.copy()} | {slot: np.copy(value) for slot, value in host.state[0].items()}
    host.step([whole(slices(1))])
    after = {"p": p} | dict(host.state[0])
    full = [slot for slot, value in before.items() if np.shape(value) == (ROWS, WIDTH)]
    kept = {slot for slot in full if np.array_equal(before[slot][2:], after[slot][2:])}
    found = written_by_rows(optimizer, x, slices(1), monkeypatch)
    assert found <= kept
    if not hyper.get("weight_decay") and name in ("sgd", "adagrad", "rmsprop", "adadelta", "adafactor"):
        assert found == kept


def shapes_in(graph: Any) -> Iterator[tuple[str, tuple[int | None, ...]]]:
    """The shapes of all tensors of a graph and of those that it calls, with the operations that make them."""
    for g in (graph, *(f.graph for f in getattr(graph, "_functions", {}).values() if hasattr(f, "graph"))):
        for operation in g.get_operations():
            for out in operation.outputs:
                if out.dtype != tf.resource and out.shape.rank:
                    yield operation.type, tuple(out.shape)


@pytest.mark.parametrize("options", [{}, {"clipnorm": 1.0}, {"global_clipnorm": 1.0}, {"clipvalue": 0.5}], ids=str)
@pytest.mark.parametrize("name", GATHERED)
def test_nothing_of_the_size_of_the_variable_is_made(name: str, options: dict[str, Any]) -> None:
    many = 1013
    x = keras.Variable(np.ones((many, WIDTH)), dtype="float32")
    optimizer = keras_class(name)(learning_rate=0.1, **options)
    optimizer.build([x])

    @tf.function
    def step(g: tf.IndexedSlices) -> None:
        optimizer.apply([g], [x])

    graph = step.get_concrete_function(slices(0, (many, WIDTH), "float32")).graph
    made = list(shapes_in(graph))
    assert ("ResourceGather", (len(STEPS[0]), WIDTH)) in made
    assert [(kind, shape) for kind, shape in made if many in shape] == []


@pytest.mark.parametrize("name", GATHERED)
def test_other_rows_keep_every_bit_and_snapshots_stay(name: str) -> None:
    x = keras.Variable(START, dtype="float32")
    optimizer = keras_class(name)(learning_rate=0.1)
    optimizer.build([x])
    variables = [x, *optimizer.slots.entries[0].slots.values()]
    optimizer.apply([tf.ones((ROWS, WIDTH))], [x])
    before, snapshots = [v.numpy().copy() for v in variables], [tf.identity(v.value) for v in variables]
    for t in (0, 4):
        optimizer.apply([slices(t, dtype="float32")], [x])
    for variable, old, snapshot in zip(variables, before, snapshots, strict=True):
        moved = np.any(variable.numpy() != old, axis=1)
        assert moved.tolist() == [True, False, True, False, False, False]
        np.testing.assert_array_equal(snapshot.numpy(), old)


def walk(optimizer: Any, change: Callable[[Any], Any], compiled: Any = None, dtype: str = "float32") -> list[Any]:
    """All variables after steps of gradients that are changed by a function."""
    x = keras.Variable(START, dtype=dtype)
    optimizer.build([x])
    step = optimizer.apply if compiled is None else tf.function(optimizer.apply, jit_compile=compiled)
    for t in range(2 * len(STEPS)):
        step([change(slices(t, dtype=dtype))])
    return [numbers(v) for v in (x, *optimizer.variables)]


def as_tensor(g: tf.IndexedSlices) -> tf.Tensor:
    return tf.constant(whole(g))


def alike(one: list[Any], two: list[Any], rtol: float = 2e-5) -> None:
    assert np.abs(one[0] - START).max() > 1e-3
    for a, b in zip(one, two, strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-6)


@pytest.mark.parametrize("compiled", [False, True], ids=["graph", "xla"])
@pytest.mark.parametrize("name", ["sgd", "adagrad", "rmsprop", "adafactor", "sparseadam"])
def test_a_compiled_step_is_the_eager_one(name: str, compiled: bool) -> None:
    walks = [walk(keras_class(name)(learning_rate=0.05), lambda g: g, how) for how in (compiled, None)]
    alike(*walks)


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


@pytest.mark.parametrize("shape", [(7,), (5, 2, 3), (0, 4)], ids=str)
@pytest.mark.parametrize("name", ["sgd", "adagrad", "rmsprop", "adafactor", "sparseadam"])
def test_variables_of_any_number_of_axes(name: str, shape: tuple[int, ...]) -> None:
    start, ends = np.random.default_rng(0).normal(size=shape), []
    for change in (lambda g: g, as_tensor):
        optimizer, x = keras_class(name)(learning_rate=0.05), keras.Variable(start, dtype="float64")
        for t in range(len(STEPS)):
            optimizer.apply([change(slices(t, shape))], [x])
        ends.append([x.numpy(), *(v.numpy() for v in optimizer.variables)])
    for one, two in zip(*ends, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-12)
    assert shape[0] == 0 or np.all(ends[0][0] != start, axis=tuple(range(1, len(shape)))).sum() >= min(shape[0], 5)


@pytest.mark.parametrize("tied", [False, True], ids=["two-lookups", "lookup-and-product"])
@pytest.mark.parametrize("name", ["sgd", "adagrad", "rmsprop"])
def test_a_table_that_two_layers_share(name: str, tied: bool) -> None:
    ends = []
    for sparse in (True, False):
        optimizer, x = keras_class(name)(learning_rate=0.05), tf.Variable(START)
        for t in range(3):
            with tf.GradientTape() as tape:
                first = tf.reduce_sum(tf.gather(x, [0, 2, 2]) ** 2)
                loss = first + (tf.reduce_sum(tf.matmul(x, x, transpose_b=True)) if tied else tf.gather(x, t)[0] ** 3)
            g = tape.gradient(loss, x)
            assert isinstance(g, tf.IndexedSlices) is not tied  # TensorFlow adds the product's into a tensor
            optimizer.apply_gradients([(g if sparse or tied else as_tensor(g), x)])
        ends.append(x.numpy())
    np.testing.assert_allclose(*ends, rtol=1e-12)


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

    made = [keras_class(name)(learning_rate=0.05, **options) for _ in range(2)]
    one, two = walk(made[0], exact, dtype="bfloat16"), walk(made[1], lambda g: as_tensor(exact(g)), dtype="bfloat16")
    assert np.any(one[0] != START.astype(ml_dtypes.bfloat16).astype(float))
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a, b)


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


@pytest.mark.parametrize("jit", [False, True], ids=["graph", "xla"])
def test_a_model_fits_with_its_table_in_rows(jit: bool) -> None:
    def losses(optimizer: Any, jit: bool) -> list[float]:
        keras.utils.set_random_seed(1)
        layers = [keras.layers.Embedding(9, 3), keras.layers.Flatten(), keras.layers.Dense(1)]
        model = keras.Sequential([keras.Input((4,), dtype="int32"), *layers])
        model.compile(optimizer, loss="mse", jit_compile=jit)
        x = np.random.default_rng(0).integers(0, 9, (24, 4), dtype="int32")
        return model.fit(x, x[:, :1] / 9.0, batch_size=8, epochs=3, shuffle=False, verbose=0).history["loss"]

    found = losses(adapter.Adagrad(0.1, match="keras", clipnorm=1.0), jit)
    assert found[-1] < found[0]
    np.testing.assert_allclose(found, losses(adapter.Adagrad(0.1, match="keras", clipnorm=1.0), False), rtol=1e-5)


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
for name in ("SGD", "Adagrad", "RMSprop", "SparseAdam"):
    for options in ({}, {"skip_nonfinite": True}):
        one = walk(name, options, tf.distribute.OneDeviceStrategy("/cpu:0"))
        two = walk(name, options, tf.distribute.MirroredStrategy(["/cpu:0", "/cpu:1"]))
        for a, b in zip(one, two):
            np.testing.assert_allclose(a, b, rtol=1e-5)
        assert [bool(r) for r in np.any(one[0] != start, axis=1)] == [True, True, False, True, False, False], name
"""
