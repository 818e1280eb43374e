"""The step in JAX's own operations, on any device and under any transformation of JAX."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp

from scirs2_adapters.core.program.interpret import run
from scirs2_adapters.core.slots import Extent

from ..dispatch.plan import LeafGroup, Operands, Results
from ..ops import Array, Arrays, LeafArrays, Leaves, Model, over


def traced(groups: Sequence[LeafGroup], emit: str, operands: Operands) -> Results:
    """For each group its results by name, and the model's numbers; sums over the model go over all groups."""
    arrays, rows, model = operands
    results: list[dict[str, list[Array]]] = [{} for _ in groups]
    new = dict(model)
    for program in dict.fromkeys(g.program for g in groups):
        places = [k for k, g in enumerate(groups) if g.program is program]
        leaves = [leaf for k in places for leaf in _loaded(groups[k], arrays[k], model)]
        scalars = [rows[k][r] for k in places for r in groups[k].index]
        numbers = [s.name for s in program.slots if s.extent is Extent.MODEL]
        first = groups[places[0]]
        ops = over(first.axis_name, [leaf["p"] for leaf in leaves])
        outputs = run(program, ops, leaves, scalars, [*first.stored(emit), *numbers])
        new |= {n: jnp.asarray(outputs[0][n]).astype(model[n].dtype) for n in numbers}
        rest = iter(outputs)
        for k in places:
            of_group = list(itertools.islice(rest, len(groups[k].members)))
            results[k] = _stored(groups[k], emit, arrays[k], of_group)
    return results, new


def _loaded(group: LeafGroup, arrays: Arrays, model: Model) -> Iterator[LeafArrays]:
    """The arrays of each leaf in the dtype of the arithmetic, with the model's numbers."""
    moduli = group.program.moduli
    for i in range(len(group.members)):
        leaf = {n: _load(x[i], group.compute, n in moduli) for n, x in arrays.items()}
        yield leaf | {n: jnp.asarray(x).astype(group.compute) for n, x in model.items()}


def _stored(group: LeafGroup, emit: str, arrays: Arrays, leaves: Leaves) -> dict[str, list[Array]]:
    """The results of a group by name, in the dtypes in which they are stored."""
    stored = {}
    for n in group.stored(emit):
        like, dtype = arrays["g" if n == "delta" else n], group.dtype(n)
        stored[n] = [_store(leaf[n], dtype, x.shape) for leaf, x in zip(leaves, like, strict=True)]
    return stored


def _load(x: Array, compute: str, modulus: bool) -> Array:
    """In the arithmetic's dtype; a complex array as two real ones, one on the other, or as the first alone where it
    holds moduli.
    """
    if jnp.issubdtype(x.dtype, jnp.complexfloating):
        x = x.real[None] if modulus else jnp.stack([x.real, x.imag])
    return x.astype(compute)


def _store(x: Array, dtype: str, shape: tuple[int, ...]) -> Array:
    if jnp.issubdtype(dtype, jnp.complexfloating):
        return jax.lax.complex(x[0], x[1] if len(x) > 1 else jnp.zeros_like(x[0])).astype(dtype)
    return jnp.broadcast_to(x, shape).astype(dtype)
