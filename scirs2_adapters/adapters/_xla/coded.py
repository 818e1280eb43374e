"""Memory of fewer bits (`core/formats.py`) in JAX's arrays: slots of 8-bit codes, and 16-bit parameters with their
rounding error or with a seed.

An array that needs a companion (its scales, its rounding errors, or the seed of its rounding) has it among the arrays
of its leaf, under the name that `core.formats.companion` says. Codes have no derivative: a step that is differentiated
is refused.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable
from types import SimpleNamespace

import jax
import jax.numpy as jnp
from jax.experimental.shard_alike import shard_alike
from jax.sharding import PartitionSpec

from scirs2_adapters.core import formats
from scirs2_adapters.core.errors import bad_value
from scirs2_adapters.core.formats import BLOCK, BLOCK_DTYPES, TINY, companion
from scirs2_adapters.core.rounding import ERROR_BITS, ROUNDING_ERROR, ROUNDING_SEED, STOCHASTIC
from scirs2_adapters.core.step.options import HALVES

from .ops import INTEGERS, Array, LeafArrays, Tree


def _rows(x: Array, count: int) -> Array:
    return jnp.pad(x.reshape(-1), (0, count * BLOCK - x.size)).reshape(count, BLOCK)


def _half_bits(x: Array) -> Array:
    """Behind a barrier, since XLA may leave out a conversion to 16 bits and back."""
    return _view(jax.lax.optimization_barrier(x.astype(jnp.float16)), "uint16").astype(jnp.int32)


_WAY_OUT = "Inside `vmap` or `shard_map`, call `init` there as well."
_view = jax.lax.bitcast_convert_type
FORMAT_OPS = SimpleNamespace(
    **vars(INTEGERS),
    number=jnp.float32,
    where=jnp.where,
    sqrt=jnp.sqrt,
    abs=jnp.abs,
    bits=lambda x: _view(x, "int32"),
    from_bits=lambda x: _view(x, "float32"),
    shift_left=operator.lshift,
    half_bits=_half_bits,
    from_half_bits=lambda x: _view(x.astype(jnp.uint16), "float16").astype(jnp.float32),
    cast=lambda x, dtype: x.astype(dtype),
    rows=_rows,
    unrows=lambda x, shape: x.reshape(-1)[: math.prod(shape)].reshape(shape),
    largest=lambda x: jnp.max(x, axis=1, keepdims=True),
    code=lambda x: _view(x, "int16").astype(jnp.int32),
    uncode=lambda x, dtype: _view(x.astype(jnp.uint16), dtype),
)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def load(dtype: str, x: Array, other: Array) -> Array:
    """The float32 numbers of an array of this storage and its companion."""
    return _anywhere(functools.partial(formats.load, FORMAT_OPS, dtype), lambda spread, whole: spread)(x, other)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def store(dtype: str, x: Array, number: Array, other: Array) -> tuple[Array, Array]:
    """An array of this storage that holds these float32 numbers, and its companion; `number` is the step's dither,
    `other` the companion as it was.
    """
    whole = dtype in BLOCK_DTYPES or dtype.endswith(STOCHASTIC)
    parts = lambda spread, replicated: (spread, replicated if whole else spread)  # noqa: E731
    return _anywhere(functools.partial(_store, dtype), parts)(x, number, other)


def _store(dtype: str, x: Array, number: Array, other: Array) -> tuple[Array, Array]:
    """Codes are split over devices as their numbers are, where XLA would not see it through blocks."""
    stored, companion = formats.store(FORMAT_OPS, dtype, x, number, other)
    return shard_alike(stored, x)[0], companion


def _no_derivative(dtype: str, primals: Tree, tangents: Tree) -> Tree:
    raise TypeError(
        f"Steps whose memory is stored as {dtype} have no derivative. Received: a step under `jax.grad` or `jax.jvp`. "
        'Use state_dtype=None and rounding="nearest".'
    )


load.defjvp(_no_derivative)
store.defjvp(_no_derivative)


def _anywhere(function: Callable[..., Tree], results: Callable[..., Tree]) -> Callable[..., Tree]:
    """The function of a first array and others, also on a mesh with explicit axes, which know of no blocks: there XLA
    chooses how they are split, and `results` says the shardings, of the first array's and of one that is not split.
    """

    def run(x: Array, *others: Array) -> Tree:
        spread = jax.typeof(x).sharding
        if not getattr(spread.mesh, "explicit_axes", ()):
            return function(x, *others)
        return jax.sharding.auto_axes(function, out_sharding=results(spread, PartitionSpec()))(x, *others)

    return run


def storages(arrays: LeafArrays) -> dict[str, str]:
    """The storage of each array of a leaf that is no companion."""
    dtypes = {n: str(x.dtype) for n, x in arrays.items()}
    if error := dtypes.pop(ROUNDING_ERROR, None):
        dtypes["p"] += f"+{error}"
    if dtypes.pop(ROUNDING_SEED, None):
        dtypes["p"] += STOCHASTIC
    scales = [companion(n, dtype) for n, dtype in dtypes.items() if dtype in BLOCK_DTYPES]
    return {n: dtype for n, dtype in dtypes.items() if n not in scales}


def companions_of(call: str, p: Array, slots: LeafArrays, companions: LeafArrays) -> dict[str, Array]:
    """The companions that this parameter and its slots have, checked: kernels walk them by address."""
    checked, scales = dict[str, Array](), (formats.blocks(p.size),)
    for name in filter(None, (companion(n, str(x.dtype)) for n, x in slots.items())):
        x = companions.get(name)
        if x is None or x.shape != scales or x.dtype != jnp.float32:
            worded = f"must hold a float32 array of shape {scales}, the scales of a slot's blocks of {BLOCK} numbers"
            raise bad_value(call, "state.companions", worded, x, _WAY_OUT)
        checked[name] = x
    forms = {ROUNDING_ERROR: (p.shape, tuple(ERROR_BITS)), ROUNDING_SEED: ((), ("int32",))}
    for name in forms.keys() & companions.keys() if str(p.dtype) in HALVES else ():
        checked[name], (shape, dtypes) = companions[name], forms[name]
        if checked[name].shape != shape or str(checked[name].dtype) not in dtypes:
            worded = f"must hold an array of shape {shape} and dtype {' or '.join(dtypes)}, the {name} of a parameter"
            raise bad_value(call, "state.companions", worded, checked[name], _WAY_OUT)
    return checked


def change(p: Array, new: Array) -> tuple[Array, Array]:
    """What to add to a parameter in float32 so that the sum, rounded, is the new one; and where it is.

    The difference of two numbers of 16 bits is exact in float32 unless one of them is more than 2^13 times the other.
    Where it is not, the sum is another number, by less than the last place in float32 of the larger number, and has no
    rounding error. So it is with subnormal numbers, which XLA adds as zeros.
    """
    before, after = p.astype(jnp.float32), new.astype(jnp.float32)
    small = jnp.abs(after) < TINY
    after = jnp.where(small, 0.0, after)
    delta = jnp.where(after == before, 0.0, after - before)
    return delta, (before + delta == after) & ~small
