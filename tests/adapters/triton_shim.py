"""Enough of Triton in numpy to run a generated kernel without a GPU: pointers into memory, loads, stores."""

from __future__ import annotations

import ctypes
from types import SimpleNamespace
from typing import Any

import numpy as np


class Values(np.ndarray):
    """An array that knows Triton's conversion."""

    def to(self, kind: Any) -> Any:
        return Pointer(int(self), kind.dtype) if isinstance(kind, PointerType) else self.astype(kind)


class PointerType:
    def __init__(self, dtype: Any) -> None:
        self.dtype = np.dtype(dtype)


class Pointer:
    """Addresses of numbers of one dtype."""

    def __init__(self, address: Any, dtype: Any) -> None:
        self.address, self.dtype = np.asarray(address, np.int64), np.dtype(dtype)

    def __add__(self, index: Any) -> Pointer:
        return Pointer(self.address + np.asarray(index, np.int64) * self.dtype.itemsize, self.dtype)


def pointer(x: np.ndarray) -> Pointer:
    return Pointer(x.ctypes.data, x.dtype)


def _load(at: Pointer, mask: Any = True) -> Values:
    kept = np.broadcast_to(mask, at.address.shape)
    found = np.zeros(at.address.shape, at.dtype)
    for k in np.ndindex(at.address.shape):
        if kept[k]:
            found[k] = np.frombuffer(ctypes.string_at(int(at.address[k]), at.dtype.itemsize), at.dtype)[0]
    return found.view(Values)


def _store(at: Pointer, values: Any, mask: Any = True) -> None:
    values, kept = (np.broadcast_to(x, at.address.shape) for x in (np.asarray(values, at.dtype), mask))
    for k in np.ndindex(at.address.shape):
        if kept[k]:
            ctypes.memmove(int(at.address[k]), values[k].tobytes(), at.dtype.itemsize)


def launch(text: str, grid: int, *arrays: np.ndarray) -> None:
    """Runs the function `kernel` of a source text for every program of the grid."""
    place = [0]
    language = SimpleNamespace(
        program_id=lambda axis: np.asarray(place[axis]).view(Values), arange=np.arange, load=_load, store=_store,
        multiple_of=lambda x, n: x, pointer_type=PointerType, where=np.where, abs=np.abs, sqrt=np.sqrt, sqrt_rn=np.sqrt,
        div_rn=np.divide, constexpr=lambda x: x, int64=np.int64, float32=np.float32, float64=np.float64,
    )  # fmt: skip
    space: dict[str, Any] = {"tl": language, "triton": SimpleNamespace(jit=lambda function: function)}
    exec(compile(text, "<kernel>", "exec"), space)
    for place[0] in range(grid):
        space["kernel"](*map(pointer, arrays))
