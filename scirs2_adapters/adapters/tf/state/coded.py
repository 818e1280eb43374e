"""Memory of fewer bits (`core/formats.py`) in Keras' variables: slots of 8-bit codes, and 16-bit variables with their
rounding error or the seed of their stochastic rounding. Each has a companion, which is another optimizer variable:
`exp_avg_scale` of `exp_avg`, and `rounding_error` or `rounding_seed`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace

import keras
from keras import ops

from scirs2_adapters.core import formats
from scirs2_adapters.core.errors import bad_value
from scirs2_adapters.core.formats import BLOCK, BLOCK_DTYPES
from scirs2_adapters.core.rounding import ERROR_BITS, ROUNDING_ERROR, STOCHASTIC
from scirs2_adapters.core.rule import Rule
from scirs2_adapters.core.step.options import HALVES, StateDtype, check_rounding, check_state_dtype

from ..ops import INTEGERS, Tensor
from .keras_types import KerasVariable

#: Makes the first value of a variable from its shape and dtype; or Keras' "zeros".
Initializer = str | Callable[..., Tensor]
#: A variable to be made: its shape, what makes its first value, its dtype.
Form = tuple[tuple[int, ...], Initializer, str]
#: Dtypes of codes and of rounding errors; the same numbers in another dtype would mean something else.
CODES = {*BLOCK_DTYPES, *ERROR_BITS}


def _rows(x: Tensor, count: int) -> Tensor:
    flat = ops.reshape(x, (-1,))
    return ops.reshape(ops.pad(flat, (0, count * BLOCK - math.prod(x.shape))), (count, BLOCK))


#: The operations of the storage formats on whichever tensors Keras has. Those of pairs are there from Keras 3.12 on.
FORMAT_OPS = SimpleNamespace(
    **vars(INTEGERS),
    number=lambda x: ops.convert_to_tensor(x, "float32"),
    where=ops.where,
    sqrt=ops.sqrt,
    abs=ops.abs,
    bits=lambda x: ops.view(x, "int32"),
    from_bits=lambda x: ops.view(x, "float32"),
    shift_left=lambda x, n: ops.left_shift(x, n),
    half_bits=lambda x: ops.bitwise_and(ops.cast(ops.view(ops.cast(x, "float16"), "int16"), "int32"), 0xFFFF),
    from_half_bits=lambda x: ops.cast(ops.view(ops.cast(x, "int16"), "float16"), "float32"),
    cast=ops.cast,
    rows=_rows,
    unrows=lambda x, shape: ops.reshape(ops.reshape(x, (-1,))[: math.prod(shape)], shape),
    largest=lambda x: ops.max(x, axis=1, keepdims=True),
    code=lambda x: ops.cast(ops.view(x, "int16"), "int32"),
    uncode=lambda x, dtype: ops.view(ops.cast(x, "int16"), dtype),
)


def check(call: str, rule: Rule, state_dtype: StateDtype, rounding: str) -> None:
    """Refuse formats that there are not, or not for this rule or in this version of Keras."""
    check_state_dtype(call, state_dtype, rule.all_slots())
    check_rounding(call, rounding, HALVES)
    asked = state_dtype.items() if isinstance(state_dtype, Mapping) else [("", state_dtype)]
    if rule.sparse == "rows" and any(dtype == "int8" and name != ROUNDING_ERROR for name, dtype in asked):
        worded = "cannot be 8 bits where rows without a gradient keep their memory: codes change along with their block"
        raise bad_value(call, "state_dtype", worded, state_dtype, 'Use "bfloat16".')
    if rounding != "nearest" and not hasattr(ops, "view"):
        raise bad_value(call, "rounding", "needs Keras 3.12, which can see a number's bits", keras.__version__)


def check_weights(call: str, variables: Sequence[KerasVariable], weights: Sequence[Tensor]) -> None:
    """Refuse numbers in the place of codes, and codes in the place of numbers, which have the same shape."""
    for variable, weight in zip(variables, weights, strict=False):
        there = keras.backend.standardize_dtype(weight.dtype) if hasattr(weight, "dtype") else ""
        here = variable.dtype
        if there != here and {there, here} & CODES:
            raise bad_value(call, "weights", f"must be {here} for {variable.name}", weight, "Load a file instead.")


def load(storage: str, x: Tensor, other: Tensor) -> Tensor:
    """The float32 numbers of a tensor of this storage and its companion."""
    return formats.load(FORMAT_OPS, storage, x, other)


def store(storage: str, numbers: Tensor, dither: Tensor, other: Tensor = None) -> tuple[Tensor, Tensor]:
    """A tensor of this storage that holds these numbers, and its companion, which was `other`."""
    return formats.store(FORMAT_OPS, storage, ops.cast(numbers, "float32"), dither, other)


def initializers(
    numbers: Initializer, shape: tuple[int, ...], storage: str, everywhere: bool
) -> tuple[Initializer, Initializer]:
    """What makes the first codes and scales of a slot of this shape, from what makes its numbers, or one `everywhere`
    the same.
    """
    if isinstance(numbers, str):
        return numbers, numbers

    def part(place: int) -> Initializer:
        def initial(part_shape: tuple[int, ...], *_: object, **__: object) -> Tensor:
            if not everywhere:
                return store(storage, numbers(shape, "float32"), 0.5)[place]
            one = store(storage, numbers((1,), "float32"), 0.5)[place]
            return ops.zeros(part_shape, one.dtype) + ops.reshape(one, ())  # in memory that is not shared

        return initial

    return part(0), part(1)


def rounding(storage: str, shape: tuple[int, ...], place: int) -> Form:
    """What lies beside a model variable of this storage: errors, which are 0 at first, or a seed, its place."""
    if storage.endswith(STOCHASTIC):
        return (), lambda *_, **__: ops.convert_to_tensor(place, "int32"), "int32"
    return shape, "zeros", storage.partition("+")[2]


def dither(t: Tensor) -> Tensor:
    """`formats.dither` of a step count that is an integer tensor."""
    return formats.counted_dither(FORMAT_OPS, ops.cast(t, "int32"))
