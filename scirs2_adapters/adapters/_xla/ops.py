"""The array operations bound to `jax.numpy`, the scalars of a trace, and the names of JAX's types.

Square roots have derivative 0 at 0 where the true one is infinite: a step differentiated at its beginning, where
second moments are 0, is then finite. Plain numbers stay Python's until they meet a traced one: what depends on none is
float64.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from scirs2_adapters.core.fields import is_number
from scirs2_adapters.core.format_ops import IntegerOps
from scirs2_adapters.core.ops import HOST_SCALARS, Ops
from scirs2_adapters.core.random_numbers import normal, uniform

Array = jax.Array
#: Nested containers of arrays, or of what stands for arrays: shapes, shardings, masks.
Tree = Any
Path = jax.tree_util.KeyPath


class Structure(Protocol):
    """What `jax.tree` says of a tree apart from its leaves: a `PyTreeDef`."""

    def flatten_up_to(self, tree: Tree) -> list[Tree]:
        """The parts of a tree in the places of the leaves."""

    def unflatten(self, leaves: Iterable[Tree]) -> Tree:
        """The tree of these leaves."""


#: A scalar of a step: Python's, or an array where it is traced.
Number = float | Array
#: From the count of steps to a number; optax calls it with the count before it is increased.
Schedule = Callable[[Array | None], Number]
AxisName = str | tuple[str, ...] | None
#: Arrays by name ("p", "g" and each slot): those of several leaves, or those of one.
Arrays = Mapping[str, Sequence[Array]]
LeafArrays = Mapping[str, Array]
Leaves = Sequence[LeafArrays]
#: One row of coefficients, and the numbers that a rule keeps for the whole model.
Row = Mapping[str, Array]
Model = Mapping[str, Array]


@jax.custom_jvp
def sqrt(x: Array) -> Array:
    """The square root."""
    return jax.lax.sqrt(x)


@sqrt.defjvp
def _sqrt_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    root = sqrt(primals[0])
    zero = root == 0
    return root, jnp.where(zero, 0, tangents[0] / (2 * jnp.where(zero, 1, root)))


def _cond(number: Number, f: Callable[[], Array], g: Callable[[], Array]) -> Array:
    if is_number(number):
        return f() if number else g()
    return jax.lax.cond(number != 0, f, g)


def _addmm(x: Array | None, a: Array, b: Array, beta: Number, alpha: Number) -> Array:
    product = jnp.matmul(a, b, precision="highest")
    dtype = jnp.promote_types(product.dtype, jnp.float32)  # numbers are not rounded to 16 bits
    scaled = alpha * product.astype(dtype)
    return (scaled if x is None else beta * x.astype(dtype) + scaled).astype(product.dtype)


#: The operations of a hash.
INTEGERS: IntegerOps = SimpleNamespace(
    integer=jnp.int32,
    int32=lambda x: x.astype(jnp.int32),
    float32=lambda x: jnp.asarray(x, jnp.float32),
    wrap=lambda x: x,
    shift_right=operator.rshift,
    both=operator.and_,
    xor=operator.xor,
    indices=lambda x, n: jnp.arange(n, dtype=jnp.int32),
)
OPS: Ops = Ops(
    sqrt=sqrt, abs=jnp.abs, sign=jnp.sign, maximum=jnp.maximum, minimum=jnp.minimum, where=jnp.where,
    sum=lambda x, axis: jnp.sum(x, axis, keepdims=axis is not None),
    mean=lambda x, axis: OPS.sum(x, axis) / max(1, x.size if axis is None else x.shape[axis]),
    matmul=partial(jnp.matmul, precision="highest"), addmm=_addmm,
    syrk=lambda a, x, beta, alpha: _addmm(x, a, jnp.swapaxes(a, -1, -2), beta, alpha),
    trmm=lambda x, a, b, alpha: _addmm(x, a, b, 1.0, alpha),
    bfloat16=lambda x: x.astype(jnp.bfloat16), like=lambda x, y: x.astype(y.dtype),
    transpose=lambda x: jnp.swapaxes(x, -1, -2),
    reshape=jnp.reshape, permute=jnp.transpose, eigenvectors=lambda x: jnp.linalg.eigh(x)[1],
    orthonormal=lambda x, mode="complete": jnp.linalg.qr(x, mode=mode)[0], order=lambda x: jnp.argsort(-x),
    take=lambda x, indices, axis: jnp.take(x, indices, axis=axis), max=jnp.max, concatenate=jnp.concatenate,
    triu=jnp.triu, solve_triangular=lambda a, b: jax.scipy.linalg.solve_triangular(a, b, lower=True),
    cond=_cond, random=partial(uniform, INTEGERS), normal=partial(normal, INTEGERS),
    square=lambda x: jnp.sum(x * x, 0, keepdims=True),
)  # fmt: skip


def _either(name: str) -> Callable[..., Number]:
    """Python's function for plain numbers, `jax.numpy`'s where one of them is an array."""
    plain, traced = getattr(HOST_SCALARS, name), getattr(jnp, name)

    def function(*values: Number) -> Number:
        return (plain if all(isinstance(v, bool) or is_number(v) for v in values) else traced)(*values)

    return function


SCALARS = SimpleNamespace(**{name: _either(name) for name in vars(HOST_SCALARS)})


def is_function(x: object) -> bool:
    """Whether it is there to be called: a class, such as `jnp.bfloat16`, is there to be named."""
    return callable(x) and not isinstance(x, type)


def number(value: Number, dtype: str) -> Array:
    """A scalar in this dtype; a plain number goes there straight from float64."""
    return np.dtype(dtype).type(value) if is_number(value) else jnp.asarray(value).astype(dtype)


def wide(value: Number) -> Array:
    """A traced number, of no less than float32: schedules and wrappers may hand it down in bfloat16."""
    value = jnp.asarray(value).reshape(())
    return value.astype(jnp.promote_types(value.dtype, jnp.float32))


def real(dtype: jax.typing.DTypeLike) -> str:
    """The name of a dtype; of a complex one that of its parts."""
    return jnp.finfo(dtype).dtype.name if jnp.issubdtype(dtype, jnp.complexfloating) else jnp.dtype(dtype).name


def over(axis_name: AxisName, arrays: Sequence[Array] = ()) -> Ops:
    """The operations whose sums go over mapped axes as well. An array that is the same along an axis is summed once,
    where JAX keeps account of that, as it does in `shard_map`: if any of `arrays` varies, it does.
    """
    if axis_name is None:
        return OPS
    names = (axis_name,) if isinstance(axis_name, str) else tuple(axis_name)
    known = any(map(varies, arrays))

    def axes(x: Array) -> tuple[str, ...]:
        return tuple(n for n in names if not known or n in varies(x))

    def sum_(x: Array, axis: int | None) -> Array:
        share = OPS.sum(x, axis)
        return jax.lax.psum(share, axes(x)) if axes(x) else share

    def mean(x: Array, axis: int | None) -> Array:
        return sum_(x, axis) / max(1, x.size * math.prod(jax.lax.axis_size(n) for n in axes(x)))

    return replace(OPS, sum=sum_, mean=mean)


def varies(x: Array) -> frozenset[str]:
    """The mapped axes along which an array is known to differ; JAX has renamed where it says so."""
    aval = jax.typeof(x)
    return getattr(getattr(aval, "mat", aval), "varying", getattr(aval, "vma", frozenset()))
