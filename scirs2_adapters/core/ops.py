"""The array operations of a formula: the closed list of operations a formula may use besides + - * / and comparisons.

An adapter binds these names to its framework and is done: `Ops(sqrt=torch.sqrt, ...)`. A formula that needs
another asks for it here first, once, for every path. Reductions keep the reduced axes (`axis=-1` gives (..., n, 1),
`axis=None` gives a 0-d number), so that every result broadcasts against the parameter again. NaN passes through all of
them: `maximum` and `sign` propagate it.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

#: An array of a framework, or the symbol that stands for one while a formula is recorded.
Array = Any
#: A coefficient: a Python number, or a framework's where a step is traced.
Scalar = Any
#: Coefficients by name.
Scalars = Mapping[str, Scalar]


def _total(shares: Sequence[Array]) -> Array:
    return sum(shares[1:], start=shares[0]) if shares else 0.0


def _no_square(x: Array) -> Array:
    raise TypeError(f"Complex numbers have no modulus here. Received: {type(x).__name__}.")


def _matrix(function: Callable[..., Array], ops: Ops, args: Sequence[Array], options: Mapping[str, object]) -> Array:
    return function(ops, *args, **options)


@dataclass(frozen=True)
class Ops:
    """The array operations of one framework. `square` is that of the modulus of complex numbers, whose parts lie along
    an axis of their own, which is kept with length 1; no formula calls it, and who has no complex arrays binds none.
    `power` is Python's, `total` adds up the sums of many arrays, `matrix` calls a function of whole matrices; they
    need no binding. From `matmul` on they are for such functions: `eigenvectors` of a symmetric matrix, the smallest
    value first; `orthonormal` is the Q of a QR decomposition, whole or "reduced"; `order` is where the largest, the
    second largest … of a list of numbers is; `max(x, axes)` is the largest over these axes, which are not kept, or
    of all, and `concatenate` puts lists end to end; `cond(number, f, g)` is f() if the number is not 0, else g();
    `random` and `normal` are `uniform` and `normal` of `random_numbers.py`. `addmm(x, a, b, beta, alpha)` is beta *
    x + alpha * a @ b, and `syrk(a, x, beta, alpha)`, for a symmetric x or None, beta * x + alpha * a @ a.T; `trmm(x,
    a, b, alpha)` is x + alpha * a @ b, where all three have zeros below their diagonals. `triu` is the upper
    triangle with zeros below, and `solve_triangular(a, b)` the x of a @ x = b, for an a with zeros above its
    diagonal. `bfloat16` rounds to that dtype, where there is none to values that it has; `like(x, y)` is x in the
    dtype of y.
    """

    sqrt: Callable[[Array], Array]
    abs: Callable[[Array], Array]
    sign: Callable[[Array], Array]
    maximum: Callable[[Array, Array], Array]
    minimum: Callable[[Array, Array], Array]
    where: Callable[[Array, Array, Array], Array]
    sum: Callable[[Array, int | None], Array]
    mean: Callable[[Array, int | None], Array]
    matmul: Callable[[Array, Array], Array]
    addmm: Callable[[Array, Array, Array, Scalar, Scalar], Array]
    syrk: Callable[[Array, Array | None, Scalar, Scalar], Array]
    trmm: Callable[[Array, Array, Array, Scalar], Array]
    bfloat16: Callable[[Array], Array]
    like: Callable[[Array, Array], Array]
    transpose: Callable[[Array], Array]
    reshape: Callable[[Array, tuple[int, ...]], Array]
    permute: Callable[[Array, tuple[int, ...]], Array]
    eigenvectors: Callable[[Array], Array]
    orthonormal: Callable[..., Array]
    order: Callable[[Array], Array]
    take: Callable[[Array, Array, int], Array]
    max: Callable[..., Array]
    concatenate: Callable[[Sequence[Array]], Array]
    triu: Callable[[Array], Array]
    solve_triangular: Callable[[Array, Array], Array]
    cond: Callable[[Scalar, Callable[[], Array], Callable[[], Array]], Array]
    random: Callable[[int, Scalar, Array], Array]
    normal: Callable[[int, Sequence[Scalar], Array], Array]
    square: Callable[[Array], Array] = _no_square
    power: Callable[[Array, Array], Array] = operator.pow
    total: Callable[[Sequence[Array]], Array] = _total
    matrix: Callable[..., Array] = _matrix


ELEMENTWISE = ("sqrt", "abs", "sign", "maximum", "minimum", "where", "power")
OPERATORS = ("add", "sub", "mul", "div", "neg", "gt", "ge", "lt", "le")
FORMULA_NAMES = (*ELEMENTWISE, "mean", "norm", "total", "matrix")


def _log(value: float) -> float:
    return math.log(value) if value > 0 else -math.inf


def _where(condition: bool, a: Scalar, b: Scalar) -> Scalar:
    return a if condition else b


#: Scalar mathematics for `coefficients` on the host, in Python's float64. Adapters that trace pass the same names of
#: their framework.
HOST_SCALARS = SimpleNamespace(
    sqrt=math.sqrt, exp=math.exp, log=_log, expm1=math.expm1, maximum=max, minimum=min, where=_where
)
