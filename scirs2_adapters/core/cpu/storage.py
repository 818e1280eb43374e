"""Storage dtypes: how a number lies in memory, and the dtype of the arithmetic done with it.

16-bit numbers are loaded, computed with in float32, and rounded once when stored. numpy has no bfloat16: it is carried
as uint16 here. Codes in blocks and numbers with their rounding error (`core/formats.py`) have a companion, an array
that is stored beside them.
"""

from __future__ import annotations

import functools
import math
import operator
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np

from .. import formats
from ..formats import BLOCK
from ..step.reference import INTEGERS


@dataclass(frozen=True)
class Storage:
    """One dtype of memory: the numpy dtype that carries it, and that of the arithmetic."""

    carrier: str
    compute: str

    @property
    def size(self) -> int:
        """Bytes of one number."""
        return np.dtype(self.carrier).itemsize


STORAGES = {
    "float64": Storage("float64", "float64"),
    "float32": Storage("float32", "float32"),
    "float16": Storage("float16", "float32"),
    "bfloat16": Storage("uint16", "float32"),
    "int8": Storage("int8", "float32"),
    "uint8": Storage("uint8", "float32"),
    "bfloat16+stochastic": Storage("uint16", "float32"),
    "float16+stochastic": Storage("float16", "float32"),
    "bfloat16+int8": Storage("uint16", "float32"),
    "bfloat16+int16": Storage("uint16", "float32"),
    "float16+int8": Storage("float16", "float32"),
    "float16+int16": Storage("float16", "float32"),
}

#: The dtypes of parameters and gradients: arrays that need nothing beside them.
FLOATS = ("float64", "float32", "float16", "bfloat16")


@functools.cache
def name(dtype: np.dtype) -> str:
    """A dtype's name, which numpy makes up anew each time."""
    return dtype.name


def compute_dtype(dtype: str) -> str:
    """The dtype of the arithmetic on parameters of this dtype."""
    return STORAGES[dtype].compute


def load(x: np.ndarray, dtype: str, other: np.ndarray | None = None) -> np.ndarray:
    """The numbers of a carrier array, in its arithmetic's dtype, with its companion if its storage has one. float32 and
    float64 arrays come back as they are.
    """
    if other is not None:
        return formats.load(FORMAT_OPS, dtype, x, other)  # type: ignore[no-any-return]
    if dtype == "bfloat16":
        return (x.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    return x.astype(STORAGES[dtype].compute, copy=False)


def store(x: np.ndarray, dtype: str) -> np.ndarray:
    """Numbers rounded to their storage, to nearest even, as an array of the carrier dtype."""
    if dtype != "bfloat16":
        with np.errstate(over="ignore"):
            return x.astype(STORAGES[dtype].carrier, copy=False)
    bits = np.ascontiguousarray(x, dtype=np.float32).view(np.uint32)
    rounded = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    quiet_nan = ((bits >> 16) | 0x40).astype(np.uint16)
    return np.where((bits & 0x7FFFFFFF) > 0x7F800000, quiet_nan, rounded).reshape(np.shape(x))


def store_parts(
    x: np.ndarray, dtype: str, number: float = 0.5, other: np.ndarray | None = None
) -> tuple[np.ndarray, ...]:
    """The same with the companion, if the storage has one; `number` is the step's `dither`, `other` the companion as it
    was.
    """
    if formats.companion("", dtype) is None:
        return (store(x, dtype),)
    with np.errstate(all="ignore"):
        return formats.store(FORMAT_OPS, dtype, np.asarray(x, dtype=np.float32), number, other)


def filled(shape: tuple[int, ...], number: np.ndarray, dtype: str) -> tuple[np.ndarray, ...]:
    """The same of one number everywhere, in new memory."""
    parts = store_parts(np.reshape(number, 1), dtype)
    shapes = (shape, (formats.blocks(math.prod(shape)),))
    return tuple(np.full(like, part[0]) for like, part in zip(shapes, parts, strict=False))


def _rows(x: np.ndarray, count: int) -> np.ndarray:
    flat = np.zeros(count * BLOCK, dtype=x.dtype)
    flat[: x.size] = x.reshape(-1)
    return flat.reshape(count, BLOCK)


#: The operations of the storage formats on numpy's arrays.
FORMAT_OPS = SimpleNamespace(
    **vars(INTEGERS),
    number=np.float32,
    where=np.where,
    sqrt=np.sqrt,
    abs=np.abs,
    bits=lambda x: x.view(np.int32),
    from_bits=lambda x: x.view(np.float32),
    shift_left=operator.lshift,
    half_bits=lambda x: np.asarray(x).astype(np.float16).view(np.uint16).astype(np.int32),
    from_half_bits=lambda x: x.astype(np.uint16).view(np.float16).astype(np.float32),
    cast=lambda x, dtype: x.astype(dtype),
    rows=_rows,
    unrows=lambda x, shape: x.reshape(-1)[: math.prod(shape)].reshape(shape),
    largest=lambda x: np.max(x, axis=1, keepdims=True),
    code=lambda x: x.view(np.int16).astype(np.int32),
    uncode=lambda x, dtype: x.astype(np.uint16).view(STORAGES[dtype].carrier),
)
