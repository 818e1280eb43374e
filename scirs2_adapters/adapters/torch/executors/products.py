"""Products of float32 matrices in the host's memory by oneDNN, which torch has with it.

torch leaves these to MKL, which uses AVX-512 on processors of Intel only. oneDNN uses it wherever it is, and is twice
as fast on others. It computes in float32, too, and adds up in another order. On processors of Intel all is left to MKL.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, partial

import torch

from scirs2_adapters.core.cpu import loader
from scirs2_adapters.core.ops import Scalar

from .. import ops

Tensor = torch.Tensor
#: Multiplications of numbers from which on a call of oneDNN, which takes 10 µs, pays; and rows and columns of a result.
LARGE, LINES = 1 << 21, 8
#: A triangle of so many rows is solved by LAPACK, a larger one by halves, where most of the work is products.
LEAF = 128


@cache
def _linear() -> Callable[..., Tensor] | None:
    """oneDNN's product of rows with rows; None where torch has none, where MKL is as fast, and without AVX-512."""
    known = loader.processor()
    if known is None or "GenuineIntel" in known or torch.backends.cpu.get_cpu_capability() != "AVX512":
        return None
    if not torch.backends.mkldnn.is_available():
        return None
    try:
        function: Callable[..., Tensor] = torch.ops.mkldnn._linear_pointwise.default
        one = torch.ones(1, 1, dtype=torch.float32)
        function(one, one, None, "none", [], "")
    except (AttributeError, RuntimeError):
        return None
    return function


def may_pay(args: Sequence[object]) -> bool:
    """Whether oneDNN may make a product of these arguments, or of what a function of matrices makes of them."""
    tensors = [x for x in args if isinstance(x, Tensor) and x.dim()]
    return any(x.numel() * max(max(y.shape) for y in tensors) >= LARGE for x in tensors)


def _pays(a: Tensor, b: Tensor) -> bool:
    """Whether oneDNN makes this product. All others are torch's, to the bit."""
    if not a.dtype == b.dtype == torch.float32 or not a.dim() == b.dim() == 2:
        return False
    (rows, between), columns = a.shape, b.shape[1]
    return rows * between * columns >= LARGE and min(rows, between, columns) >= LINES and _linear() is not None


def _matmul(a: Tensor, b: Tensor) -> Tensor:
    linear = _linear()
    if linear is None or not _pays(a, b):
        return ops.OPS.matmul(a, b)
    if not a.is_contiguous() and b.numel() < a.numel():  # oneDNN copies its first argument then: the smaller one
        return linear(b.t(), _dense(a), None, "none", [], "").t()
    return linear(a, _dense(b).t(), None, "none", [], "")


def _dense(x: Tensor) -> Tensor:
    """Without gaps in memory, row after row or column after column: else oneDNN takes two thousand times as long."""
    return x if x.is_contiguous() or x.t().is_contiguous() else x.contiguous()


def _syrk(a: Tensor, x: Tensor | None, beta: Scalar, alpha: Scalar) -> Tensor:
    rows = a.contiguous()  # else blocks of it would have gaps
    return ops.syrk(rows, rows if x is a else x, beta, alpha, _add)


def _add(x: Tensor | None, a: Tensor, b: Tensor, beta: Scalar, alpha: Scalar) -> Tensor:
    """beta * x + alpha * a @ b, with as few passes over the result as can be: where x is a factor, too, `beta` is added
    to the diagonal of the other one.
    """
    if x is None:
        return _matmul(a, b)
    if not _pays(a, b) or isinstance(beta, Tensor) or isinstance(alpha, Tensor):
        return ops.OPS.addmm(x, a, b, beta, alpha)
    if x is b:
        return _matmul(_with_diagonal(a, beta, alpha), b)
    if x is a:
        return _matmul(a, _with_diagonal(b, beta, alpha))
    product = _matmul(a, b)
    if alpha + beta == 1:
        return product.lerp_(x, beta)
    return (product if alpha == 1 else product.mul_(alpha)).add_(x, alpha=beta)


def _with_diagonal(square: Tensor, beta: float, alpha: float) -> Tensor:
    new = square * alpha
    new.diagonal().add_(beta)
    return new


def _solve_triangular(a: Tensor, b: Tensor) -> Tensor:
    if len(a) <= LEAF or a.dtype != torch.float32 or _linear() is None:
        return ops.OPS.solve_triangular(a, b)
    half = LEAF * (-(-len(a) // (2 * LEAF)))
    upper = _solve_triangular(a[:half, :half], b[:half])
    lower = _add(b[half:], a[half:, :half], upper, 1.0, -1.0)
    return torch.cat((upper, _solve_triangular(a[half:, half:], lower)))


#: torch's operations with these products.
OPS = replace(
    ops.OPS,
    matmul=_matmul,
    addmm=_add,
    syrk=_syrk,
    trmm=partial(ops.trmm, add=_add),
    solve_triangular=_solve_triangular,
)
