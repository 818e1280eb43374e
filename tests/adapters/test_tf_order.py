"""What uses a variable in the graph of a step keeps its place: before the step, after it, or between two."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from scirs2_adapters import tf as adapter

from .tf_support import GRADS, KERAS_READS, variables

pytestmark = [KERAS_READS, pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="it is TensorFlow's op")]


def built(xs: list[keras.Variable], kernel: str = "host") -> keras.Optimizer:
    made = adapter.Adam(0.1, kernel=kernel)
    made.build(xs)
    return made


def slots(made: keras.Optimizer) -> list[tf.Variable]:
    return [x.value for entry in made.slots.entries for x in entry.slots.values()]


def earlier(operation: tf.Operation) -> set[tf.Operation]:
    """All operations that run before this one in any case."""
    seen: set[tf.Operation] = set()
    waiting = [operation]
    while waiting:
        this = waiting.pop()
        now = {x.op for x in this.inputs} | set(this.control_inputs)
        waiting += now - seen
        seen |= now
    return seen


def graph_of(function: Callable[[], object]) -> tf.Graph:
    return tf.function(function, autograph=False).get_concrete_function().graph


def of_type(graph: tf.Graph, kind: str) -> list[tf.Operation]:
    return [op for op in graph.get_operations() if op.type == kind]


def steps(graph: tf.Graph) -> list[tf.Operation]:
    """The passes that step: calls without results."""
    return [op for op in of_type(graph, "Scirs2Call") if not op.outputs]


@pytest.mark.parametrize("whose", ["variable", "slot"])
def test_what_reads_or_writes_keeps_its_place(whose: str) -> None:
    xs = variables()
    made, gradients = built(xs), [tf.constant(g) for g in GRADS[0]]
    used = xs[0].value if whose == "variable" else slots(made)[0]

    def call() -> tuple[tf.Tensor, tf.Tensor]:
        first = used.read_value() + 1.0
        made.apply(gradients, xs)
        second = used.read_value() + 1.0
        used.assign(tf.zeros_like(used))
        made.apply(gradients, xs)
        return first, second

    graph = graph_of(call)
    one, two = steps(graph)
    reads = [op for op in of_type(graph, "ReadVariableOp") if op.outputs[0].shape == used.shape]
    (write,) = (op for op in of_type(graph, "AssignVariableOp") if op.inputs[0] is reads[0].inputs[0])
    first, second = reads
    assert first in earlier(one)
    assert one in earlier(second)
    assert second in earlier(write)
    assert write in earlier(two)
    assert all(one in earlier(x) for x in of_type(graph, "_ReadVariablesOp")[1:])


def test_two_optimizers_of_one_variable_take_turns() -> None:
    xs = variables()
    first, second = built(xs), built(xs[:1])
    gradients = [tf.constant(g) for g in GRADS[0]]

    def call() -> None:
        first.apply(gradients, xs)
        second.apply(gradients[:1], xs[:1])

    graph = graph_of(call)
    one, _ = steps(graph)
    assert one in earlier(of_type(graph, "_ReadVariablesOp")[-1])


def test_a_step_in_another_function_or_in_a_branch_keeps_its_place() -> None:
    xs = variables()
    made, gradients, flag = built(xs), [tf.constant(g) for g in GRADS[0]], tf.Variable(True)
    inner = tf.function(lambda: made.apply(gradients, xs), autograph=False)
    used = slots(made)[0]

    def call() -> list[tf.Tensor]:
        read = [used.read_value() + 1.0]
        inner()
        read.append(used.read_value() + 1.0)
        tf.cond(flag, lambda: made.apply(gradients, xs), lambda: None)
        return [*read, used.read_value() + 1.0]

    graph = graph_of(call)
    reads = [op for op in of_type(graph, "ReadVariableOp") if op.outputs[0].shape == used.shape]
    (called,) = of_type(graph, "StatefulPartitionedCall")
    (branch,) = of_type(graph, "If")
    assert reads[0] in earlier(called)
    assert called in earlier(reads[1])
    assert reads[1] in earlier(branch)
    assert branch in earlier(reads[2])


@pytest.mark.parametrize("way", ["loop", "branch", "function"])
def test_it_leads_where_the_traced_step_does(way: str) -> None:
    def run(kernel: str) -> list[np.ndarray]:
        xs = variables()
        made, gradients = built(xs, kernel), [tf.constant(g) for g in GRADS[0]]
        inner = tf.function(lambda: made.apply(gradients, xs), autograph=False)

        def take(i: tf.Tensor) -> tf.Tensor:
            slots(made)[0].assign_add(tf.ones_like(slots(made)[0]))
            xs[0].assign(xs[0] * 0.5)
            if way == "function":
                inner()
            elif way == "branch":
                tf.cond(i < 2, lambda: made.apply(gradients, xs), lambda: None)
            else:
                made.apply(gradients, xs)
            xs[1].assign(xs[1] + slots(made)[2])
            return i + 1

        @tf.function(autograph=False)
        def call() -> tuple[tf.Tensor, ...]:
            if way == "loop":
                tf.while_loop(lambda i: i < 4, take, (tf.constant(0),))
            else:
                for i in range(4):
                    take(tf.constant(i))
            return tuple(tf.identity(x) for x in (*slots(made), *(x.value for x in xs)))

        return [x.numpy().astype(float) for _ in range(2) for x in call()]

    for ours, theirs in zip(run("host"), run("traced"), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_a_function_with_the_kernel_is_not_saved_and_a_traced_one_is(tmp_path: Path) -> None:
    """The op is of its process: a module saved with it could be loaded nowhere else, for inference neither."""

    class Module(tf.Module):
        def __init__(self, kernel: str) -> None:
            super().__init__()
            self.xs, self.gradients = [x.value for x in variables()], [tf.constant(g) for g in GRADS[0]]
            self.optimizer = adapter.Adam(0.1, kernel=kernel)
            self.optimizer.build(self.xs)
            self.state = [x.value for x in self.optimizer.variables]

        @tf.function(autograph=False)
        def step(self) -> tf.Tensor:
            self.optimizer.apply(self.gradients, self.xs)
            return self.xs[0].read_value()

    module = Module("host")
    module.step()
    with pytest.raises((KeyError, AssertionError), match=r"captures tensor|Captured Tensor"):
        tf.saved_model.save(module, f"{tmp_path}/host")
    module = Module("traced")
    module.step()
    tf.saved_model.save(module, f"{tmp_path}/traced")
    again = tf.saved_model.load(f"{tmp_path}/traced")
    np.testing.assert_array_equal(again.step(), module.step())
