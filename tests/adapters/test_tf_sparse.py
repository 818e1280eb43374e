"""TensorFlow's sparse gradients lead where dense ones do; where the formula allows it, only their rows are touched."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import scirs2_adapters as s2
from scirs2_adapters.adapters.tf.argument_names import KERAS
from scirs2_adapters.core import HostOptimizer
from scirs2_adapters.core.eigenbases import eigenbasis
from tests.conformance.cells import matrix_functions
from tests.conformance.options import brisk, other, turned

from .tf_sparse_support import GATHERED, ROWS, START, STEPS, WIDTH, alike, as_tensor, slices, walk, whole
from .tf_support import KERAS_READS, NAMES, keras_class

pytestmark = KERAS_READS

#: Rules that step rows alone do not follow a dense gradient; `test_tf_tensorflow.py` has them.
FOLLOWING = [name for name in NAMES if s2.get(name).sparse != "rows"]


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


def first_step(name: str) -> int:
    """That whose gradient is of all rows where eigenvectors of the first one are remembered: one of few rows has more
    than one eigenvector of the value 0, of which TensorFlow and numpy's LAPACK return others.
    """
    return STEPS.index(max(STEPS, key=len)) if eigenbasis in matrix_functions(name) else 0


@pytest.mark.parametrize(("name", "hyper"), CASES)
def test_sparse_gradients_lead_where_numpy_goes_with_dense_ones(name: str, hyper: dict[str, Any]) -> None:
    optimizer, x, p = make(name, hyper), keras.Variable(START, dtype="float64"), START.copy()
    host = HostOptimizer(s2.get(name)(**hyper), [p], kernel="traced", layout="inputs_first")
    for t in range(first_step(name), first_step(name) + 2 * len(STEPS)):
        optimizer.apply([slices(t)], [x])
        host.step([whole(slices(t))])
    np.testing.assert_allclose(x.numpy(), p, rtol=1e-11, atol=1e-14)
    for slot, variable in optimizer.slots.entries[0].slots.items():
        np.testing.assert_allclose(variable.numpy(), host.state[0][slot], rtol=1e-11, atol=1e-14)


def written_by_rows(optimizer: Any, x: Any, g: tf.IndexedSlices, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """What a step writes rows of, and nothing else, by name."""
    names = {id(x): "p"} | {id(v): name for name, v in optimizer.slots.entries[0].slots.items()}
    rows, whole = set[str](), set[str]()

    def watched(method: str) -> Any:
        write = getattr(type(optimizer), method)

        def function(self: Any, variable: Any, value: Any) -> None:
            name = names.get(id(variable), "p")  # of the model's own TensorFlow has another object
            (rows if isinstance(value, tf.IndexedSlices) else whole).add(name)
            write(self, variable, value)

        return function

    with monkeypatch.context() as patch:
        for method in ("assign", "assign_sub"):
            patch.setattr(type(optimizer), method, watched(method))
        optimizer.apply([g], [x])
    return rows - whole


@pytest.mark.parametrize(("name", "hyper"), CASES)
def test_what_is_written_by_rows_is_what_a_zero_gradient_leaves(
    name: str, hyper: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As numpy sees it, after a step in which all rows had a gradient."""
    optimizer, x, p = make(name, hyper, kernel="traced"), keras.Variable(START, dtype="float64"), START.copy()
    host = HostOptimizer(s2.get(name)(**hyper), [p], kernel="traced", layout="inputs_first")
    first = np.ones((ROWS, WIDTH))
    optimizer.apply([tf.constant(first)], [x])
    host.step([first])
    before = {"p": p.copy()} | {slot: np.copy(value) for slot, value in host.state[0].items()}
    host.step([whole(slices(1))])
    after = {"p": p} | dict(host.state[0])
    full = [slot for slot, value in before.items() if np.shape(value) == (ROWS, WIDTH)]
    kept = {slot for slot in full if np.array_equal(before[slot][2:], after[slot][2:])}
    by_rows = written_by_rows(optimizer, x, slices(1), monkeypatch)
    assert by_rows <= kept
    if not hyper.get("weight_decay") and name in ("sgd", "adagrad", "rmsprop", "adadelta", "adafactor"):
        assert by_rows == kept


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
    rows = (len(STEPS[0]), WIDTH)
    assert ("ResourceGather", rows) in made or (name == "sgd" and ("Mul", (None, WIDTH)) in made)
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


@pytest.mark.parametrize("name", GATHERED)
def test_steps_of_many_slices_of_few_rows_are_the_same_each_time(name: str) -> None:
    """TensorFlow adds slices to a variable in any order, which changes their last bits."""
    rng, ends = np.random.default_rng(0), set[bytes]()
    values, rows = rng.standard_normal((50_000, WIDTH), dtype=np.float32), rng.integers(0, ROWS, 50_000)
    for _ in range(8):
        optimizer, x = keras_class(name)(learning_rate=0.1), keras.Variable(START, dtype="float32")
        optimizer.apply([tf.IndexedSlices(tf.constant(values), tf.constant(rows), tf.constant([ROWS, WIDTH]))], [x])
        ends.add(x.numpy().tobytes())
    assert len(ends) == 1


@pytest.mark.parametrize("compiled", [False, True], ids=["graph", "xla"])
@pytest.mark.parametrize("name", ["sgd", "adagrad", "rmsprop", "adafactor", "sparseadam"])
def test_a_compiled_step_is_the_eager_one(name: str, compiled: bool) -> None:
    walks = [walk(keras_class(name)(learning_rate=0.05), lambda g: g, how) for how in (compiled, None)]
    alike(*walks)


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


@pytest.mark.parametrize("name", ["sgd", "adagrad", "rmsprop", "sparseadam"])
def test_a_table_of_two_lookups_beside_a_matrix(name: str) -> None:
    ends = []
    for sparse in (True, False):
        optimizer, x, y = keras_class(name)(learning_rate=0.05), tf.Variable(START), tf.Variable(START.T)
        for t in range(3):
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum(tf.gather(x, [0, 2, 2]) @ y) ** 2 + tf.gather(x, t)[0] ** 3
            of_table, of_matrix = tape.gradient(loss, [x, y])
            assert isinstance(of_table, tf.IndexedSlices)
            optimizer.apply_gradients([(of_table if sparse else as_tensor(of_table), x), (of_matrix, y)])
        ends.append(np.concatenate([x.numpy(), y.numpy().T]))
    assert np.any(ends[0] != np.concatenate([START, START]), axis=1).sum() == 3 + ROWS
    np.testing.assert_allclose(*ends, rtol=1e-12)


def test_matrices_of_float64_are_stepped_under_the_float32_of_keras() -> None:
    """Numbers that a function of matrices makes for itself have the dtype of its arrays, not that of Keras' setting."""
    assert keras.config.floatx() == "float32"
    rules = [name for name in FOLLOWING if matrix_functions(name)]
    for name, hyper in itertools.chain(*([(n, brisk(s2.get(n))), (n, turned(s2.get(n)))] for n in rules)):
        optimizer, x = make(name, hyper), keras.Variable(START, dtype="float64")
        optimizer.apply([tf.constant(START)], [x])
        assert np.isfinite(x.numpy()).all(), name
