"""The operations of the storage formats bound to `keras.ops`."""

from __future__ import annotations

import math
from types import SimpleNamespace

from keras import ops

from scirs2_adapters.core.formats import BLOCK

from .ops import Tensor


def _rows(x: Tensor, count: int) -> Tensor:
    flat = ops.reshape(x, (-1,))
    return ops.reshape(ops.pad(flat, (0, count * BLOCK - math.prod(x.shape))), (count, BLOCK))


FORMAT_OPS = SimpleNamespace(
    number=lambda x: ops.convert_to_tensor(x, "float32"),
    integer=lambda x: ops.convert_to_tensor(x, "int32"),
    where=ops.where,
    sqrt=ops.sqrt,
    abs=ops.abs,
    int32=lambda x: ops.cast(x, "int32"),
    float32=lambda x: ops.cast(x, "float32"),
    bits=lambda x: ops.view(x, "int32"),
    from_bits=lambda x: ops.view(x, "float32"),
    wrap=lambda x: ops.cast(x, "int32"),
    shift_left=ops.left_shift,
    shift_right=ops.right_shift,
    both=ops.bitwise_and,
    half_bits=lambda x: ops.bitwise_and(ops.cast(ops.view(ops.cast(x, "float16"), "int16"), "int32"), 0xFFFF),
    from_half_bits=lambda x: ops.cast(ops.view(ops.cast(x, "int16"), "float16"), "float32"),
    cast=ops.cast,
    rows=_rows,
    unrows=lambda x, shape: ops.reshape(ops.reshape(x, (-1,))[: math.prod(shape)], shape),
    largest=lambda x: ops.max(x, axis=1, keepdims=True),
    indices=lambda x: ops.arange(BLOCK, dtype="int32"),
    code=lambda x: ops.cast(ops.view(x, "int16"), "int32"),
    uncode=lambda x, dtype: ops.view(ops.cast(x, "int16"), dtype),
)
