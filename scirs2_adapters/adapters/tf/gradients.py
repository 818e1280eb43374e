"""Gradients as a backend gives them: a tensor, or TensorFlow's slices of some rows, in which a row may occur more than
once.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

import keras
from keras import ops

from .ops import Tensor
from .state import VariableEntry


def is_slices(gradient: Tensor) -> bool:
    """Whether a gradient is TensorFlow's of some rows."""
    return hasattr(gradient, "values") and hasattr(gradient, "indices") and hasattr(gradient, "dense_shape")


def is_traced(gradient: Tensor) -> bool:
    """Whether a step is being compiled: what is a Python value now is a constant then."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow

        return not tensorflow.executing_eagerly()
    jax = sys.modules.get("jax") if keras.backend.backend() == "jax" else None
    return jax is not None and isinstance(gradient, jax.core.Tracer)


def dense(gradient: Tensor, entry: VariableEntry) -> Tensor:
    """A gradient with a number for every element; rows that occur twice in a sparse one are summed."""
    if is_slices(gradient):
        return _sums(ops.cast(gradient.values, entry.compute), gradient, entry)
    return ops.convert_to_tensor(gradient, sparse=False)


def _sums(values: Tensor, gradient: Tensor, entry: VariableEntry) -> Tensor:
    """For each row of the variable the sum of its values."""
    import tensorflow

    return tensorflow.math.unsorted_segment_sum(values, gradient.indices, entry.leaf.shape[0])


def row_sums(gradient: Tensor, dtype: str) -> Tensor:
    """For each slice the sum, in this dtype, of all slices of its row: in time and memory of the slices, however many
    rows the variable has.
    """
    return _row_sums(ops.cast(gradient.values, dtype), _places(gradient))


def _row_sums(values: Tensor, places: Tensor) -> Tensor:
    import tensorflow

    sums = tensorflow.math.unsorted_segment_sum(values, places, tensorflow.size(places))
    return tensorflow.gather(sums, places)


def rows_once(gradient: Tensor, dtype: str) -> tuple[Tensor, Tensor]:
    """The sum of the slices of each row, and these rows: what may be added to a variable in any order. In XLA, which
    adds in order, the slices are left as they are.
    """
    import tensorflow

    values = ops.cast(gradient.values, dtype)
    if in_xla():
        return values, gradient.indices
    rows, places = tensorflow.unique(gradient.indices)
    return tensorflow.math.unsorted_segment_sum(values, places, tensorflow.size(rows)), rows


def in_xla() -> bool:
    """Whether TensorFlow records a graph that XLA compiles."""
    import tensorflow
    from tensorflow.python.ops import control_flow_util

    if tensorflow.executing_eagerly():
        return False
    return bool(control_flow_util.GraphOrParentsInXlaContext(tensorflow.compat.v1.get_default_graph()))


def _places(gradient: Tensor) -> Tensor:
    """For each slice the place of its row among the rows that there are. The list of these would have a length that is
    not known before, and XLA computes wrongly with that.
    """
    import tensorflow

    return tensorflow.unique(gradient.indices)[1]


def merged(gradient: Tensor) -> Tensor:
    """The same gradient in which the first slice of each row holds the row's sum and the others are zero. Without this
    a norm would take each slice for a row.
    """
    if not is_slices(gradient):
        return gradient
    import tensorflow

    places, count = _places(gradient), tensorflow.size(gradient.indices)
    order = tensorflow.range(count)
    first = tensorflow.gather(tensorflow.math.unsorted_segment_min(order, places, count), places)
    once = ops.reshape(ops.equal(first, order), (-1, *[1] * (len(gradient.values.shape) - 1)))
    sums = _row_sums(gradient.values, places)
    return _slices(tensorflow.where(once, sums, tensorflow.zeros_like(sums)), gradient)


def _slices(values: Tensor, gradient: Tensor) -> Tensor:
    """Slices of the same rows as a gradient's, with these values."""
    import tensorflow

    return tensorflow.IndexedSlices(values, gradient.indices, gradient.dense_shape)


def clipped(clip: Callable[[Sequence[Tensor]], Sequence[Tensor]], gradients: Sequence[Tensor]) -> list[Tensor]:
    """The gradients after Keras' function that clips them. It sees the sums of slices alone: zeros in all other rows
    change no norm, and stay zeros.
    """
    whole = [merged(g) for g in gradients]
    after = clip([g.values if is_slices(g) else g for g in whole])
    pairs = zip(whole, after, strict=True)
    return [_slices(new, g) if is_slices(g) else new for g, new in pairs]


def touched_rows(gradient: Tensor, entry: VariableEntry) -> Tensor:
    """Which rows a gradient has values for, in a form that broadcasts against the variable; of a dense gradient those
    that are not zero throughout. A number has one row, which is always stepped.
    """
    other_axes = len(entry.leaf.shape) - 1
    if is_slices(gradient):
        counts = _sums(ops.ones_like(gradient.indices), gradient, entry)
        return ops.reshape(ops.greater(counts, 0), (-1, *[1] * other_axes))
    if other_axes < 0:
        return True
    return ops.any(ops.not_equal(dense(gradient, entry), 0), axis=tuple(range(1, other_axes + 1)), keepdims=True)
