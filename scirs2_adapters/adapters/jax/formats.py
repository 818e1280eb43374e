"""The operations of the storage formats bound to JAX's arrays."""

from __future__ import annotations

import math
import operator
from types import SimpleNamespace

import jax
import jax.numpy as jnp

from scirs2_adapters.core.formats import BLOCK


def _rows(x: jax.Array, count: int) -> jax.Array:
    return jnp.pad(x.reshape(-1), (0, count * BLOCK - x.size)).reshape(count, BLOCK)


def _view(x: jax.Array, dtype: str) -> jax.Array:
    return jax.lax.bitcast_convert_type(x, dtype)


FORMAT_OPS = SimpleNamespace(
    number=jnp.float32,
    integer=jnp.int32,
    where=jnp.where,
    sqrt=jnp.sqrt,
    abs=jnp.abs,
    int32=lambda x: x.astype(jnp.int32),
    float32=lambda x: jnp.asarray(x, jnp.float32),
    bits=lambda x: _view(x, "int32"),
    from_bits=lambda x: _view(x, "float32"),
    wrap=lambda x: x,
    shift_left=operator.lshift,
    shift_right=operator.rshift,
    both=operator.and_,
    half_bits=lambda x: _view(x.astype(jnp.float16), "uint16").astype(jnp.int32),
    from_half_bits=lambda x: _view(x.astype(jnp.uint16), "float16").astype(jnp.float32),
    cast=lambda x, dtype: x.astype(dtype),
    rows=_rows,
    unrows=lambda x, shape: x.reshape(-1)[: math.prod(shape)].reshape(shape),
    largest=lambda x: jnp.max(x, axis=1, keepdims=True),
    indices=lambda x: jnp.arange(BLOCK, dtype=jnp.int32),
    code=lambda x: _view(x, "int16").astype(jnp.int32),
    uncode=lambda x, dtype: _view(x.astype(jnp.uint16), dtype),
)
