"""The numbers by chance of `core.random_numbers`, in one compiled loop instead of dozens of operations over arrays."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import numpy as np

from ..format_ops import Function
from ..ops import Scalar
from ..random_numbers import normal, normal_key, normal_number, uniform, uniform_key, uniform_number
from ..step.reference import INTEGERS
from . import compile

#: Of what the object code is made besides what every kernel is.
_SOURCES = ("noise", "coded", "intrinsics", "../random_numbers", "../rounding")


def random(n: int, turn: Scalar, like: object = None) -> np.ndarray:
    """`random_numbers.uniform`."""
    if compile.compiler_obstacle():
        return np.asarray(uniform(INTEGERS, n, turn, like))
    return _filled("uniform", n, uniform_key(INTEGERS, turn, like))


def normals(n: int, keys: Sequence[Scalar], like: object = None) -> np.ndarray:
    """`random_numbers.normal`."""
    if compile.compiler_obstacle():
        return np.asarray(normal(INTEGERS, n, keys, like))
    return _filled("normal", n, normal_key(INTEGERS, keys, like))


def _filled(name: str, n: int, key: np.ndarray) -> np.ndarray:
    numbers = np.empty(n, dtype=np.float32)
    _function(name)(numbers.ctypes.data, n, int(key[0]))
    return numbers


@functools.cache
def _function(name: str) -> Callable[..., int]:
    address = compile.load(f"noise_{name}", compile.sources(*_SOURCES), functools.partial(_build, name))
    return compile.to_call(address, 3)


def _build(name: str, symbol: str) -> bytes:
    """A loop over the places."""
    import numba

    from .coded import SCALAR_OPS
    from .intrinsics import make_store

    inlined = numba.njit(error_model="numpy", forceinline=True)
    numbers = {"uniform": uniform_number, "normal": normal_number}
    number: Function = inlined(numbers[name](SCALAR_OPS, inlined))
    store: Function = make_store("float32", "float32", 0, 1)

    def fill(out, n, key):  # type: ignore[no-untyped-def]
        key = np.int32(key)
        for i in range(n):
            store(out, i, np.float32(number(np.int32(i), key)))
        return 0

    return compile.native(fill, "intp(intp, intp, intp)", False, symbol)
