"""Storage dtypes: how a number lies in memory, and the dtype of the arithmetic done with it.

16-bit numbers are loaded, computed with in float32, and rounded once when stored. numpy has no bfloat16: it is carried
as uint16 here. A block format (codes and scales) would be another row of this table and a pair of load and store
instructions in `intrinsics.py`.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np


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
}


@functools.cache
def name(dtype: np.dtype) -> str:
    """A dtype's name, which numpy makes up anew each time."""
    return dtype.name


def compute_dtype(dtype: str) -> str:
    """The dtype of the arithmetic on parameters of this dtype."""
    return STORAGES[dtype].compute


def load(x: np.ndarray, dtype: str) -> np.ndarray:
    """The numbers of a carrier array, in its arithmetic's dtype. float32 and float64 arrays come back as they are."""
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
