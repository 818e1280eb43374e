"""The CPU kernel behind TensorFlow's op: where it steps, what it leaves alone, and what it notices."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable

import keras
import numpy as np
import pytest
import tensorflow as tf

import scirs2_adapters as s2
from scirs2_adapters import tf as adapter
from scirs2_adapters.adapters.tf.executors import tensorflow_host
from scirs2_adapters.core import HostOptimizer
from scirs2_adapters.core.cpu.layout import Block, Cell, Owner
from tests.conformance.cells import by_rows, only_rows

from .tf_support import GRADS, KERAS_READS, NAMES, PARAMS, apply, close, keras_class, oracle, values, variables

pytestmark = [KERAS_READS, pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="it is TensorFlow's op")]
#: Rules whose arrays the kernel steps; the others work on rows, columns or matrices.
STEPPED = [name for name in NAMES if not by_rows(name) and not only_rows(name)]


def stepper(optimizer: keras.Optimizer, xs: list[keras.Variable], mode: str) -> Callable[[list[np.ndarray]], None]:
    """Steps by these gradients, in a graph or eagerly."""

    def step(*gradients: tf.Tensor) -> None:
        optimizer.apply(list(gradients), xs)

    call = tf.function(step) if mode == "graph" else step
    return lambda gs: call(*(tf.constant(g, dtype=x.dtype) for g, x in zip(gs, xs, strict=True)))


def blocks(optimizer: keras.Optimizer) -> list[int]:
    """How many hold the memory of each array that the kernel has stepped."""
    cells = tensorflow_host._natives[optimizer.slots].memory._cells.values()
    places = [int(cell[Cell.BLOCK]) + Block.HOLDERS * 8 for cell in cells]
    return [ctypes.c_int64.from_address(place).value for place in places]


@pytest.mark.parametrize("mode", ["eager", "graph"])
@pytest.mark.parametrize("name", STEPPED)
def test_it_leads_where_the_core_does(name: str, mode: str) -> None:
    xs, made = variables(), keras_class(name)(kernel="host")
    made.build(xs)
    step, arrays = stepper(made, xs, mode), [p.copy() for p in PARAMS]
    host = HostOptimizer(made.rule, arrays, kernel="host", layout="inputs_first")
    for gs in GRADS[:4]:
        step(gs)
        host.step(gs)
    close(values(xs), [x.astype(float) for x in arrays], 2e-5)
    for entry in made.slots.entries:
        for slot, variable in entry.slots.items():
            seen = variable.value.numpy()
            np.testing.assert_allclose(seen, host.state[entry.index][slot], rtol=2e-4, atol=1e-6, err_msg=slot)
    assert set(blocks(made)) == {2}  # of the cell, and of the variable: nothing was copied


@pytest.mark.parametrize("mode", ["eager", "graph"])
def test_what_somebody_holds_never_changes(mode: str) -> None:
    xs, made = variables(), adapter.AdamW(0.1, kernel="host")
    made.build(xs)
    step, reference = stepper(made, xs, mode), adapter.AdamW(0.1, kernel="traced")
    others = variables()
    reference.build(others)
    held: list[tuple[object, np.ndarray]] = []
    for number, gs in enumerate(GRADS[:5]):
        for variable in (*xs, *(x for entry in made.slots.entries for x in entry.slots.values())):
            raw = variable.value
            now = raw.numpy().copy()
            snapshots = [raw.read_value(), tf.identity(raw), tf.reshape(raw.read_value(), (-1,)), tf.Variable(raw)]
            held += [(snapshots[number % 4], now)]
        if number == 2:
            xs[0].value.assign(xs[0].value)
        step(gs)
        apply(reference, others, [gs])
    assert all(np.array_equal(np.ravel(x.numpy()), np.ravel(now)) for x, now in held)
    close(values(xs), values(others), 1e-6)


@pytest.mark.parametrize("mode", ["eager", "graph"])
def test_variables_of_one_tensor_are_two(mode: str) -> None:
    start = tf.constant(PARAMS[0])
    xs = [keras.Variable(start), keras.Variable(start)]
    made = adapter.SGD(0.5, kernel="host")
    made.build(xs)
    step = stepper(made, xs, mode)
    for _ in range(2):
        step([np.ones_like(PARAMS[0]), np.zeros_like(PARAMS[0])])
    np.testing.assert_array_equal(xs[0].numpy(), PARAMS[0] - 1)
    np.testing.assert_array_equal(xs[1].numpy(), PARAMS[0])
    np.testing.assert_array_equal(start.numpy(), PARAMS[0])


@pytest.mark.parametrize("mode", ["eager", "graph"])
def test_it_takes_over_what_is_assigned_from_outside(mode: str, tmp_path: object) -> None:
    xs, made = variables(), adapter.Adam(0.1, kernel="host")
    made.build(xs)
    step, checkpoint = stepper(made, xs, mode), tf.train.Checkpoint(optimizer=made, xs=[x.value for x in xs])
    step(GRADS[0])
    step(GRADS[1])
    path = checkpoint.write(f"{tmp_path}/at-two")
    weights, before = [w.copy() for w in made.get_weights()] if hasattr(made, "get_weights") else None, values(xs)
    snapshot = [tf.identity(v.value) for v in made.variables]  # an earlier tensor is alive when another is assigned
    for gs in GRADS[2:4]:
        step(gs)
    after = values(xs)
    checkpoint.restore(path)
    close(values(xs), before, 0.0)
    for gs in GRADS[2:4]:
        step(gs)
    close(values(xs), after, 0.0)
    for variable, value in zip(made.variables, snapshot, strict=True):
        variable.assign(value)
    for x, value in zip(xs, before, strict=True):
        x.assign(value)
    for gs in GRADS[2:4]:
        step(gs)
    close(values(xs), after, 0.0)
    del weights


def test_where_xla_compiles_it_is_traced() -> None:
    xs, made = variables(), adapter.Adam()
    made.build(xs)
    compiled = tf.function(lambda *gs: made.apply(list(gs), xs), jit_compile=True)
    for gs in GRADS:
        compiled(*map(tf.constant, gs))
    close(values(xs), oracle(made.rule))
    assert made.slots not in tensorflow_host._natives
    asked, ys = adapter.Adam(kernel="host"), variables()
    asked.build(ys)
    with pytest.raises(Exception, match='kernel="traced"'):
        tf.function(lambda *gs: asked.apply(list(gs), ys), jit_compile=True)(*map(tf.constant, GRADS[0]))
    close(values(ys), [p.astype(float) for p in PARAMS], 0.0)


def test_fit_takes_the_kernel_where_xla_does_not_compile() -> None:
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(8, "tanh"), keras.layers.Dense(1)])
    model.compile(adapter.AdamW(0.05, kernel="host"), "mse", jit_compile=False, steps_per_execution=3)
    x = np.random.default_rng(2).normal(size=(64, 6)).astype("float32")
    losses = model.fit(x, x[:, :1], batch_size=16, epochs=8, verbose=0).history["loss"]
    assert losses[-1] < losses[0] / 2
    assert set(blocks(model.optimizer)) == {2}


def test_memory_goes_with_the_optimizer_and_its_graph_says_so() -> None:
    xs, made = variables(), adapter.Adam(kernel="host")
    made.build(xs)
    step = tf.function(lambda *gs: made.apply(list(gs), xs), autograph=False)  # which keeps what a function closes over
    concrete = step.get_concrete_function(*map(tf.constant, GRADS[0]))
    concrete(*map(tf.constant, GRADS[0]))
    slots = [x for entry in made.slots.entries for x in entry.slots.values()]  # or the graph has lost its variables
    iterations, rate = made._iterations, made._learning_rate
    native, at = tensorflow_host._natives[made.slots], values(xs)
    words = native.memory._words
    assert words[Owner.CLOSED] == 0
    del native, step
    made = None
    gc.collect()
    assert words[Owner.CLOSED] == 1
    with pytest.raises(tf.errors.FailedPreconditionError, match="its optimizer is gone"):
        concrete(*map(tf.constant, GRADS[1]))
    close(values(xs), at, 0.0)
    assert len(slots) == 2 * len(xs)
    del iterations, rate


def test_a_second_step_at_once_is_refused() -> None:
    xs, made = variables(), adapter.Adam(kernel="host")
    made.build(xs)
    apply(made, xs, GRADS[:1])
    words, at = tensorflow_host._natives[made.slots].memory._words, values(xs)
    words[Owner.BUSY] = 1
    with pytest.raises(tf.errors.FailedPreconditionError, match="another thread"):
        apply(made, xs, GRADS[1:2])
    close(values(xs), at, 0.0)
    words[Owner.BUSY] = 0
    apply(made, xs, GRADS[1:2])


def test_a_graph_has_no_more_nodes_than_with_keras() -> None:
    def nodes(optimizer: keras.Optimizer) -> int:
        xs = [keras.Variable(PARAMS[0]) for _ in range(20)]
        optimizer.build(xs)
        graph = tf.function(lambda: optimizer.apply([tf.constant(PARAMS[0])] * 20, xs)).get_concrete_function().graph
        inner = [function.definition.node_def for function in graph._functions.values()]
        return len(graph.get_operations()) + sum(map(len, inner))

    for name in ("Adam", "AdamW", "Lion", "RMSprop"):
        assert nodes(getattr(adapter, name)(kernel="host")) <= nodes(getattr(keras.optimizers, name)())


def test_the_rules_it_does_not_step_say_why() -> None:
    for name in set(NAMES) - set(STEPPED):
        xs, made = variables(), keras_class(name)(kernel="host")
        made.build(xs)
        with pytest.raises(ValueError, match="rows"):
            apply(made, xs, GRADS[:1])
    assert s2.names() == NAMES
