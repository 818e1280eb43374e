"""The CPU kernel on TensorFlow, behind a separate op: in graphs that XLA does not compile, and in eager steps, which
are such graphs.
"""

from __future__ import annotations

import functools
import sys
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import tensorflow as tf
from tensorflow.python.ops import control_flow_util

from scirs2_adapters.core.cpu import tf_calls
from scirs2_adapters.core.cpu.compile import compiler_obstacle
from scirs2_adapters.core.cpu.kernel import kernel_obstacle, uses_rows
from scirs2_adapters.core.fields import is_number, is_traced

from ..gradients import is_slices
from ..ops import Tensor, number
from ..state import Memory, RuleState, raw
from ..state.keras_types import KerasVariable
from .coefficients import as_tensors, rows_of
from .tensorflow_graph import Native, record
from .traced import Update

_LIBRARY = "libtensorflow_framework.2.dylib" if sys.platform == "darwin" else "libtensorflow_framework.so.2"


def unavailable() -> str | None:
    """Why no step of this process can be taken by the kernel, or None."""
    return compiler_obstacle() or _registered()


@functools.cache
def _registered() -> str | None:
    """Registers the op, once; why that cannot be, or None."""
    return tf_calls.register(str(Path(tf.__file__).parent / _LIBRARY))


def obstacles(optimizer: RuleState, updates: Sequence[Update]) -> list[str | None]:
    """For each variable why the kernel cannot step it in the step that is being taken or compiled, or None."""
    del optimizer
    reason = _graph_obstacle()
    return [reason or _obstacle(update) for update in updates]


def _obstacle(update: Update) -> str | None:
    entry, device = update.entry, raw(update.variable).device or "/device:CPU:0"
    if "CPU" not in device:
        return f"it is on {device}"
    if is_slices(update.gradient) or entry.rule.sparse == "rows":
        return "it is stepped by rows"
    if entry.late:
        return "its slots begin as a copy that the first step makes"
    if uses_rows(entry.program) or any(n.op == "matrix" for n in entry.program.nodes):
        return "its rule works on rows, columns or whole matrices"
    return kernel_obstacle(entry.storages)


def _graph_obstacle() -> str | None:
    """What keeps the op out of the graph that is being recorded, if one is."""
    if tf.executing_eagerly():
        return None
    graph = tf.compat.v1.get_default_graph()
    if control_flow_util.GraphOrParentsInXlaContext(graph):
        return "XLA compiles this step, and has no such op"
    if not hasattr(graph, "captures"):
        return "a graph of TensorFlow 1 puts nothing in order"
    return None


_natives: weakref.WeakKeyDictionary[Memory, Native] = weakref.WeakKeyDictionary()


def _native(memory: Memory) -> Native:
    if memory not in _natives:
        native = _natives[memory] = Native()
        weakref.finalize(memory, native.memory.close).atexit = False
    return _natives[memory]


def step(
    optimizer: RuleState, updates: Sequence[Update], learning_rate: Tensor, model: Mapping[str, KerasVariable]
) -> None:
    """Step these variables together, of any programs; `model` are the numbers of the whole model."""
    assert optimizer.slots is not None
    updates = as_tensors(optimizer, updates, learning_rate)
    native = _native(optimizer.slots)
    if not tf.executing_eagerly():
        record(optimizer, native, updates, model)
        return
    rows, index = rows_of(updates)
    compute = {i: update.entry.compute for i, update in zip(index, updates, strict=True)}
    numbers = [{n: x for n, x in row.items() if is_number(x) or is_traced(x)} for row in rows]
    tensors = [{n: number(x, compute[i]) for n, x in row.items()} for i, row in enumerate(numbers)]
    key = (*((id(u.entry), id(u.variable), u.gradient.dtype) for u in updates), *index)
    if key not in native.graphs:
        native.graphs[key] = _graph(optimizer, native, updates, index, model)
    native.graphs[key]([u.gradient for u in updates], tensors)


def _graph(
    optimizer: RuleState,
    native: Native,
    updates: Sequence[Update],
    index: Sequence[int],
    model: Mapping[str, KerasVariable],
) -> Callable[..., None]:
    """The graph of this step, to be called with any gradients and coefficients."""
    known = weakref.ref(optimizer)  # which keeps the graph
    parts = [(update.entry, update.variable) for update in updates]

    @tf.function(autograph=False)
    def graph(gradients: Sequence[Tensor], rows: Sequence[dict[str, Tensor]]) -> None:
        if (stepped := known()) is not None:
            places = zip(parts, gradients, index, strict=True)
            now = [Update(entry, gradient, variable, rows[i]) for (entry, variable), gradient, i in places]
            record(stepped, native, now, model)

    return graph
