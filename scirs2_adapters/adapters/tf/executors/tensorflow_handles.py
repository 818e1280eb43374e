"""The handles of many variables as one operand of a graph, and the order of what uses these variables.

TensorFlow hands each variable that a graph uses to it by itself, in every call: for small variables this takes longer
than the step. A vector of handles is one operand. What uses a variable is put in order by its handle, so TensorFlow is
told here which handles an operation that takes a vector uses as well.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, MutableSet, Sequence

import tensorflow as tf
from tensorflow.python.framework import auto_control_deps, op_def_library

from ..ops import Tensor
from ..state import raw
from ..state.keras_types import KerasVariable

#: By the id of its tensor, each that is in use.
_vectors: weakref.WeakValueDictionary[int, Handles] = weakref.WeakValueDictionary()


class Handles:
    """The handles of some variables: `tensor` is a vector of them, which a graph can take as one operand."""

    def __init__(self, variables: Sequence[KerasVariable]) -> None:
        self._each = [raw(variable).handle for variable in variables]
        self._members = set(map(id, self._each))
        with tf.init_scope():
            self.tensor = tf.stack(self._each)
        _vectors[id(self.tensor)] = self

    def each(self) -> list[Tensor]:
        """The handles one by one, in the graph that is being recorded."""
        return list(tf.unstack(self.tensor, len(self._each)))

    def shares(self, tensor: Tensor) -> bool:
        """Whether a tensor is a handle of one of these variables, or a vector with such a handle."""
        other = _vectors.get(id(tensor))
        return id(tensor) in self._members or (other is not None and not self._members.isdisjoint(other._members))


class KnownHandles:
    """Vectors of handles that are kept for the graphs of one optimizer."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, ...], Handles] = {}

    def of(self, variables: Iterable[KerasVariable]) -> Handles:
        """That of these variables."""
        variables = list(variables)
        key = tuple(id(raw(variable).handle) for variable in variables)
        if key not in self._known:
            self._known[key] = Handles(variables)
        return self._known[key]


def read(handles: Sequence[Tensor], dtypes: Sequence[tf.DType]) -> list[Tensor]:
    """What variables hold, by one operation."""
    values = op_def_library.apply_op("_ReadVariablesOp", name="read", resources=list(handles), dtypes=list(dtypes))
    return list(values)


@auto_control_deps.register_acd_resource_resolver
def _scirs2_members(operation: tf.Operation, reads: MutableSet[Tensor], writes: MutableSet[Tensor]) -> bool:
    """Adds the handles, as this operation's graph has them, that vectors among its operands share."""
    vectors = [x for x in (*reads, *writes) if x.shape.rank == 1] if _vectors else []
    if not vectors:
        return False
    captures = operation.graph.captures if hasattr(operation.graph, "captures") else []
    outside = {id(inside): outer for outer, inside in captures}
    taken = [
        _vectors[id(outer)] for x in vectors if (outer := outside.get(id(x))) is not None and id(outer) in _vectors
    ]
    shared = [inside for outer, inside in captures if any(handles.shares(outer) for handles in taken)]
    new = [x for x in shared if x not in writes]
    for x in new:
        writes.add(x)
    return bool(new)
