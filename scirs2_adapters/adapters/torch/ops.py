"""The array operations bound to torch, and the scalar mathematics of a step whose hyperparameters or count are tensors.

Numbers stay Python floats until they meet a tensor. A 0-d float64 tensor among larger float32 ones leaves them float32,
so coefficients keep float64 on any device that has it.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace

import torch

from scirs2_adapters.core.format_ops import IntegerOps
from scirs2_adapters.core.ops import HOST_SCALARS, Ops, Scalar
from scirs2_adapters.core.random_numbers import normal, uniform
from scirs2_adapters.core.triangular import add_product

Tensor = torch.Tensor
#: Rows of a block of a symmetric product, and how many blocks it has at most; with fewer columns, or in bfloat16, half
#: of the products costs less than copying half of the results.
BLOCK, MOST_BLOCKS, COLUMNS = 256, 8, 512


def _either(host: Callable[..., Scalar], tensors: Callable[..., Scalar]) -> Callable[..., Scalar]:
    """`tensors` where any value is one, the others made like it; `host` of plain numbers."""

    def function(*values: Scalar) -> Scalar:
        like = next((v for v in values if isinstance(v, Tensor)), None)
        return host(*values) if like is None else tensors(*(_like(v, like) for v in values))

    return function


def _like(value: Scalar, other: Tensor) -> Tensor:
    # Filled on the device: a copy from the host could not be captured.
    return value if isinstance(value, Tensor) else torch.full((), value, dtype=other.dtype, device=other.device)


def _where(condition: Scalar, a: Scalar, b: Scalar) -> Scalar:
    return torch.where(condition, a, b) if isinstance(condition, Tensor) else a if condition else b


def _sum(x: Tensor, axis: int | None) -> Tensor:
    return torch.sum(x) if axis is None else torch.sum(x, dim=axis, keepdim=True)


def _cond(number: Scalar, f: Callable[[], Tensor], g: Callable[[], Tensor]) -> Tensor:
    """By the number where it can be read; in a graph that is compiled or captured both values are computed."""
    if isinstance(number, Tensor) and not _is_readable(number):
        return torch.where(number != 0, f(), g())
    return f() if number else g()


def _is_readable(number: Tensor) -> bool:
    """Whether a number can be asked for now: not of a tensor without data, and not while a graph is made."""
    if type(number) is not Tensor or number.is_meta or torch.compiler.is_compiling():
        return False
    return not (number.is_cuda and torch.cuda.is_current_stream_capturing())


def _in_own_dtype(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The same where the step is made under autocast."""

    def called(a: Tensor, *others: Tensor | Scalar) -> Tensor:
        kind = a.device.type
        if not (torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)):
            return function(a, *others)
        with torch.autocast(kind, enabled=False):
            return function(a, *others)

    return called


def _addmm(x: Tensor, a: Tensor, b: Tensor, beta: Scalar, alpha: Scalar) -> Tensor:
    if isinstance(beta, Tensor) or isinstance(alpha, Tensor):
        return (beta * x + alpha * torch.matmul(a, b)).to(a.dtype)
    return (torch.addmm if x.dim() == 2 else torch.baddbmm)(x, a, b, beta=beta, alpha=alpha)


def _added(x: Tensor | None, a: Tensor, b: Tensor, beta: Scalar, alpha: Scalar) -> Tensor:
    return torch.matmul(a, b) if x is None else _addmm(x, a, b, beta, alpha)


#: x or None, two factors, and what x and their product are multiplied by: the sum of both.
AddProduct = Callable[[Tensor | None, Tensor, Tensor, Scalar, Scalar], Tensor]


def syrk(a: Tensor, x: Tensor | None, beta: Scalar, alpha: Scalar, add: AddProduct = _added) -> Tensor:
    """In blocks of rows, where that saves more than it costs. The numbers below the diagonal are copied from above."""
    rows, columns = a.shape[-2:]
    large = a.dim() == 2 and rows >= 2 * BLOCK and columns >= COLUMNS and a.dtype != torch.bfloat16
    if not large or a.device.type != "cpu" or torch.is_grad_enabled():
        return add(x, a, a.transpose(-1, -2), beta, alpha)
    product = a.new_empty(rows, rows)
    step = max(BLOCK, -(-rows // MOST_BLOCKS))
    for first in range(0, rows, step):
        here, after = slice(first, first + step), slice(first + step, None)
        product[here, first:] = add(x if x is None else x[here, first:], a[here], a.t()[:, first:], beta, alpha)
        product[after, here] = product[here, after].t()
    return product


def trmm(x: Tensor, a: Tensor, b: Tensor, alpha: Scalar, add: AddProduct = _added) -> Tensor:
    """In blocks on the host, where each product takes its time."""
    if a.device.type != "cpu" or torch.is_grad_enabled():
        return _addmm(x, a, b, 1.0, alpha)
    return add_product(x.clone(), a, b, alpha, add)


def _float32(x: Tensor | float) -> Tensor | float:
    return x.to(torch.float32) if isinstance(x, Tensor) else x


#: The operations of a hash.
INTEGERS: IntegerOps = SimpleNamespace(
    integer=int,
    int32=lambda x: x.to(torch.int32),
    float32=_float32,
    wrap=lambda x: x,
    shift_right=operator.rshift,
    both=operator.and_,
    xor=operator.xor,
    indices=lambda x, n: torch.arange(n, dtype=torch.int32, device=x.device),
)
OPS = Ops(
    sqrt=_either(math.sqrt, torch.sqrt),
    abs=torch.abs,
    sign=lambda x: torch.where(x == x, torch.sign(x), x),  # torch's sign of NaN is 0
    maximum=_either(max, torch.maximum),
    minimum=_either(min, torch.minimum),
    where=_where,
    sum=_sum,
    mean=lambda x, axis: _sum(x, axis) / max(1, math.prod(x.shape) if axis is None else x.shape[axis]),
    matmul=_in_own_dtype(torch.matmul),
    addmm=_in_own_dtype(_addmm),
    syrk=_in_own_dtype(syrk),
    trmm=_in_own_dtype(trmm),
    bfloat16=lambda x: x.bfloat16(),
    like=lambda x, y: x.to(y.dtype),
    transpose=lambda x: x.transpose(-1, -2),
    reshape=torch.reshape,
    permute=torch.permute,
    eigenvectors=lambda x: torch.linalg.eigh(x)[1],
    orthonormal=lambda x, mode="complete": torch.linalg.qr(x, mode=mode)[0],
    order=lambda x: torch.argsort(x, descending=True, stable=True),
    take=lambda x, indices, axis: torch.index_select(x, axis, indices),
    max=torch.amax,
    concatenate=lambda lists: torch.cat(list(lists)),
    triu=torch.triu,
    solve_triangular=lambda a, b: torch.linalg.solve_triangular(a, b, upper=False),
    cond=_cond,
    random=partial(uniform, INTEGERS),
    normal=partial(normal, INTEGERS),
    square=lambda x: _sum(x * x, -1),
)

_FUNCTIONS = {k: _either(getattr(HOST_SCALARS, k), getattr(torch, k)) for k in ("sqrt", "exp", "log", "expm1")}
#: The `xp` of `coefficients` where values may be tensors.
SCALARS = SimpleNamespace(**_FUNCTIONS, maximum=OPS.maximum, minimum=OPS.minimum, where=_where)
