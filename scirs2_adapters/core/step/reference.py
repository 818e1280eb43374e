"""The formula in numpy operations: slow and obvious. All other paths are compared with it, and it runs where nothing
can be compiled.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from functools import partial
from types import SimpleNamespace

import numpy as np

from ..format_ops import IntegerOps
from ..ops import Array, Ops, Scalars
from ..program.interpret import run
from ..program.recorded import Program
from ..random_numbers import normal, uniform
from ..triangular import add_product


def _addmm(x: Array | None, a: Array, b: Array, beta: float, alpha: float) -> Array:
    """beta * x + alpha * a @ b, in the memory of the product."""
    product = np.matmul(a, b)
    if alpha != 1:
        product *= alpha
    if x is not None:
        product += beta * x
    return product


def _bfloat16(x: Array) -> Array:
    """The nearest numbers of 8 significant bits, by Veltkamp's splitting."""
    large = x * (2.0 ** (np.finfo(x.dtype).nmant - 7) + 1)
    return large - (large - x)


def _solve_triangular(a: Array, b: Array) -> Array:
    """The x of a @ x = b, for an a with zeros above its diagonal, by halves. numpy's solver would factorize a first and
    raise an error if there is a zero on the diagonal.
    """
    half = len(a) // 2
    if not half:
        return b / a
    upper = _solve_triangular(a[:half, :half], b[:half])
    return np.concatenate([upper, _solve_triangular(a[half:, half:], b[half:] - a[half:, :half] @ upper)])


#: The operations of a hash on numpy's arrays.
INTEGERS: IntegerOps = SimpleNamespace(
    integer=np.int32,
    int32=lambda x: x.astype(np.int32),
    float32=lambda x: np.asarray(x, dtype=np.float32),
    wrap=lambda x: x,
    shift_right=operator.rshift,
    both=operator.and_,
    xor=operator.xor,
    indices=lambda x, n: np.arange(n, dtype=np.int32),
)
NUMPY = Ops(
    sqrt=np.sqrt,
    abs=np.abs,
    sign=np.sign,
    maximum=np.maximum,
    minimum=np.minimum,
    where=np.where,
    sum=lambda x, axis: np.sum(x, axis=axis, keepdims=axis is not None),
    mean=lambda x, axis: (
        np.sum(x, axis=axis, keepdims=axis is not None) / max(1, x.size if axis is None else x.shape[axis])
    ),
    matmul=np.matmul,
    addmm=_addmm,
    syrk=lambda a, x, beta, alpha: _addmm(x, a, np.swapaxes(a, -1, -2), beta, alpha),  # whose symmetry matmul sees
    trmm=lambda x, a, b, alpha: add_product(x.copy(), a, b, alpha, _addmm),
    bfloat16=_bfloat16,
    like=lambda x, y: x.astype(y.dtype, copy=False),
    transpose=lambda x: np.swapaxes(x, -1, -2),
    reshape=np.reshape,
    permute=np.transpose,
    eigenvectors=lambda x: np.linalg.eigh(x)[1],
    orthonormal=lambda x, mode="complete": np.linalg.qr(x, mode)[0],
    order=lambda x: np.argsort(-x, kind="stable"),
    take=lambda x, indices, axis: np.take(x, indices, axis=axis),
    concatenate=np.concatenate,
    max=np.max,
    triu=np.triu,
    solve_triangular=_solve_triangular,
    cond=lambda number, f, g: f() if number else g(),
    random=partial(uniform, INTEGERS),
    normal=partial(normal, INTEGERS),
)


def step(program: Program, leaves: Sequence[Mapping[str, Array]], scalars: Sequence[Scalars]) -> list[dict[str, Array]]:
    """New parameters and slots by numpy arithmetic in the dtype of the arrays; NaN and inf pass without a warning."""
    with np.errstate(all="ignore"):
        return run(program, NUMPY, leaves, scalars, ["p", *(s.name for s in program.slots)])
