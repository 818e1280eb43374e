"""Eager steps of sparse gradients on TensorFlow, as graphs: one call in place of forty operations that Python
would have to dispatch.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable, Mapping, Sequence

import tensorflow as tf

from ..gradients import is_slices
from ..ops import Tensor, number
from ..state import Memory, RuleState
from .coefficients import Example, as_numbers
from .current_rule import does_decay
from .rows import linear_formula
from .traced import Update

#: Steps updates that have their coefficients.
Take = Callable[[RuleState, Sequence[Update]], None]
#: By what a graph depends on besides gradients and coefficients.
_graphs: weakref.WeakKeyDictionary[Memory, dict[tuple[object, ...], Callable[..., None]]] = weakref.WeakKeyDictionary()


def takes(updates: Sequence[Update]) -> bool:
    """Whether these are stepped so: eagerly, with slices among the gradients, and none of them stored in codes."""
    sparse = tf.executing_eagerly() and any(is_slices(update.gradient) for update in updates)
    return sparse and not any(update.entry.coded or update.entry.late for update in updates)


def step(optimizer: RuleState, updates: Sequence[Update], learning_rate: Tensor, take: Take) -> None:
    """Step these variables, as `take` does."""
    each = [Example(update.entry, optimizer._use_weight_decay(update.entry.variable)) for update in updates]
    rows = as_numbers(optimizer, each, learning_rate)
    updates = [update._replace(coefficients=row) for update, row in zip(updates, rows, strict=True)]
    linear = [is_slices(u.gradient) and linear_formula(optimizer, u.entry) is not None for u in updates]
    for update in itertools.compress(updates, linear):  # two operations, which no graph makes faster
        take(optimizer, [update])
    if others := [update for update, known in zip(updates, linear, strict=True) if not known]:
        _step_as_graph(optimizer, others, take)


def _step_as_graph(optimizer: RuleState, updates: Sequence[Update], take: Take) -> None:
    key = tuple(
        (id(u.entry), id(u.variable), is_slices(u.gradient), u.gradient.dtype, does_decay(optimizer, u.entry))
        for u in updates
    )
    assert optimizer.slots is not None
    graphs = _graphs.setdefault(optimizer.slots, {})
    if key not in graphs:
        graphs[key] = _graph(optimizer, updates, take)
    rows = [
        {name: number(u.coefficients[name], u.entry.compute) for name in (*u.entry.program.scalars, "zero")}
        for u in updates
    ]
    graphs[key]([_plain(update.gradient) for update in updates], rows)


def _plain(gradient: Tensor) -> Tensor:
    """A gradient that a graph takes: what slices are made of need not be tensors; their shape is the variable's."""
    if not is_slices(gradient):
        return gradient
    return tf.IndexedSlices(tf.convert_to_tensor(gradient.values), tf.convert_to_tensor(gradient.indices))


def _graph(optimizer: RuleState, updates: Sequence[Update], take: Take) -> Callable[..., None]:
    """The graph of this step, to be called with any gradients of these forms and any coefficients."""
    known = weakref.ref(optimizer)  # which keeps the graph
    parts = [(update.entry, update.variable) for update in updates]

    @tf.function(autograph=False, reduce_retracing=True)
    def graph(gradients: Sequence[Tensor], rows: Sequence[Mapping[str, Tensor]]) -> None:
        if (stepped := known()) is not None:
            each = zip(parts, gradients, rows, strict=True)
            take(stepped, [Update(entry, gradient, variable, row) for (entry, variable), gradient, row in each])

    return graph
