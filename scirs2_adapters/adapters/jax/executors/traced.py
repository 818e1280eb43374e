"""The step in JAX's own operations, on any device and under any transformation of JAX."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp

from scirs2_adapters.core.program.interpret import run
from scirs2_adapters.core.program.recorded import Program
from scirs2_adapters.core.slots import Extent

from ..dispatch.plan import LeafGroup
from ..ops import Array, Arrays, LeafArrays, Model, Row, over


def traced(
    groups: Sequence[LeafGroup], emit: str, arrays: Sequence[Arrays], rows: Sequence[Sequence[Row]], model: Model
) -> tuple[list[dict[str, list[Array]]], dict[str, Array]]:
    """For each group its results by name, and the model's numbers."""
    results: list[dict[str, list[Array]]] = [{} for _ in groups]
    new = dict(model)
    for program in dict.fromkeys(g.program for g in groups):
        members = [k for k, g in enumerate(groups) if g.program is program]
        numbers = [s.name for s in program.slots if s.extent is Extent.MODEL]
        outputs = iter(_run(program, [(groups[k], arrays[k], rows[k]) for k in members], model, numbers, emit))
        for k in members:
            leaves = [next(outputs) for _ in groups[k].members]
            results[k] = _stored(groups[k], emit, arrays[k], leaves)
            new |= {n: jnp.asarray(leaves[0][n]).astype(model[n].dtype) for n in numbers}
    return results, new


def _run(
    program: Program,
    parts: Sequence[tuple[LeafGroup, Arrays, Sequence[Row]]],
    model: Model,
    numbers: Sequence[str],
    emit: str,
) -> list[dict[str, Array]]:
    """The program over the leaves of several groups: sums over the model go over all of them."""
    leaves = [leaf for group, arrays, _ in parts for leaf in _loaded(group, arrays, model)]
    scalars = [rows[r] for group, _, rows in parts for r in group.index]
    first = parts[0][0]
    ops = over(first.axis_name, [leaf["p"] for leaf in leaves])
    return run(program, ops, leaves, scalars, [*first.stored(emit), *numbers])


def _loaded(group: LeafGroup, arrays: Arrays, model: Model) -> Iterator[LeafArrays]:
    """The arrays of each leaf in the dtype of the arithmetic, with the model's numbers."""
    moduli = group.program.moduli
    for i in range(len(group.members)):
        leaf = {n: _load(x[i], group.compute, n in moduli) for n, x in arrays.items()}
        yield leaf | {n: jnp.asarray(x).astype(group.compute) for n, x in model.items()}


def _stored(group: LeafGroup, emit: str, arrays: Arrays, leaves: Sequence[dict[str, Array]]) -> dict[str, list[Array]]:
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
