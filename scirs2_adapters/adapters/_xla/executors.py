"""The executors of JAX: the step in JAX's operations, on any device and under any transformation of JAX, and one
primitive for a step, which is the compiled kernel in a program for one CPU device and the traced formula elsewhere.

What the primitive becomes is decided when the program is lowered for a platform. It is differentiated and batched as
the traced formula, which is not even written down where nobody asks for it: a step of hundreds of parameters is one
equation, and compiles as fast. The kernel is a typed foreign call (`core/cpu/xla_calls.py`, `kernel_step`).
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from scirs2_adapters.core.formats import DITHER
from scirs2_adapters.core.program.interpret import run
from scirs2_adapters.core.slots import Extent
from scirs2_adapters.core.step.options import takes_host

from . import coded
from .groups import LeafGroup, Operands, Results
from .kernel_step import host, loading_obstacle
from .ops import Array, Arrays, LeafArrays, Leaves, Model, Structure, Tree, over

SEVERAL = "the program is for several devices"
Type = jax.core.ShapedArray


def traced(groups: Sequence[LeafGroup], operands: Operands) -> Results:
    """For each group its results by name, and the model's numbers; sums over the model go over all groups."""
    arrays, rows, model = operands
    results: list[dict[str, list[Array]]] = [{} for _ in groups]
    new = dict(model)
    for program in dict.fromkeys(g.formula for g in groups):
        places = [k for k, g in enumerate(groups) if g.formula is program]
        leaves = [leaf for k in places for leaf in _loaded(groups[k], arrays[k], model)]
        scalars = [rows[k][r] for k in places for r in groups[k].index]
        numbers = [s.name for s in program.slots if s.extent is Extent.MODEL]
        first = groups[places[0]]
        ops = over(first.axis_name, [leaf["p"] for leaf in leaves])
        outputs = iter(run(program, ops, leaves, scalars, [*first.stored, *numbers]))
        for k in places:
            of_group = list(itertools.islice(outputs, len(groups[k].members)))
            dithers = [rows[k][r].get(DITHER) for r in groups[k].index]
            results[k] = _stored(groups[k], arrays[k], of_group, dithers)
        new |= {n: jnp.asarray(of_group[0][n]).astype(model[n].dtype) for n in numbers}
    return results, new


def _loaded(group: LeafGroup, arrays: Arrays, model: Model) -> Iterator[LeafArrays]:
    """The arrays of each leaf in the dtype of the arithmetic, with the model's numbers."""
    moduli = group.program.moduli
    for i in range(len(group.members)):
        leaf = {n: _load(_numbers(group, n, arrays, i), group.compute, n in moduli) for n in group.dtypes}
        yield leaf | {n: jnp.asarray(x).astype(group.compute) for n, x in model.items()}


def _numbers(group: LeafGroup, name: str, arrays: Arrays, i: int) -> Array:
    """An array of leaf `i`, decoded if its storage has a companion."""
    x, other = arrays[name][i], group.companions.get(name)
    return x if other is None else coded.load(group.dtypes[name], x, arrays[other][i])


def _stored(
    group: LeafGroup, arrays: Arrays, leaves: Leaves, dithers: Sequence[Array | None]
) -> dict[str, list[Array]]:
    """The results of a group by name, as they are stored."""
    stored: dict[str, list[Array]] = {n: [] for n in group.results}
    for n in group.stored:
        like, dtype, other = arrays["g" if n == "delta" else n], group.dtype(n), group.companions.get(n)
        for i, (leaf, x, number) in enumerate(zip(leaves, like, dithers, strict=True)):
            if other is None:
                stored[n].append(_store(leaf[n], dtype, x.shape))
                continue
            new, companion = coded.store(dtype, _store(leaf[n], "float32", x.shape), number, arrays[other][i])
            stored[n].append(new)
            if other in stored:
                stored[other].append(companion)
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


@dataclass(eq=False)
class PrimitiveParams:
    """The static parameters of the primitive: how its flat operands are to be read, and for which step: the name of the
    user's optimizer, and the path that was asked for.
    """

    call: str
    path: str
    groups: Sequence[LeafGroup]
    tree: Structure

    def run(self, execute: Callable[[Sequence[LeafGroup], Operands], Results], *flat: Array) -> list[Array]:
        """The results of an executor, flat."""
        return jax.tree.leaves(execute(self.groups, self.tree.unflatten(flat)))

    def types(self, flat: Sequence[Type]) -> Tree:
        """What the results are, in the form of `Results`: each has shape and sharding of an operand."""
        arrays, _, model = self.tree.unflatten(flat)
        types: list[dict[str, list[Type]]] = [{} for _ in self.groups]
        for group, of_group, by_name in zip(self.groups, types, arrays, strict=True):
            for n in group.results:
                change = {"weak_type": False} | ({"dtype": jnp.dtype(group.dtype(n))} if n == "delta" else {})
                of_group[n] = [x.update(**change) for x in by_name["g" if n == "delta" else n]]
        return types, {n: x.update(weak_type=False) for n, x in model.items()}


def bind(call: str, path: str, groups: Sequence[LeafGroup], operands: Operands, kernel: bool) -> Results:
    """The step as one equation where the kernel may run it, else in JAX's operations. How products of matrices are
    split, XLA chooses on a mesh with explicit axes as well.
    """
    flat, tree = jax.tree.flatten(operands)
    params = PrimitiveParams(call, path, groups, tree)
    results: Structure
    types, results = jax.tree.flatten(params.types([jax.typeof(x) for x in flat]))
    step = functools.partial(step_p.bind if kernel else _traced, params=params)
    explicit = any(getattr(x.sharding.mesh, "explicit_axes", ()) for x in types)
    if not kernel and explicit and any(n.op == "matrix" for g in groups for n in g.program.nodes):
        step = jax.sharding.auto_axes(step, out_sharding=[x.sharding for x in types])
    return results.unflatten(step(*flat))


step_p = Primitive("scirs2_step")
step_p.multiple_results = True


@step_p.def_impl
def _traced(*flat: Array, params: PrimitiveParams) -> list[Array]:
    return params.run(traced, *flat)


@step_p.def_abstract_eval
def _abstract(*flat: Type, params: PrimitiveParams) -> list[Type]:
    return jax.tree.leaves(params.types(flat))


def _elsewhere(*flat: Array, params: PrimitiveParams) -> list[Array]:
    takes_host(params.call, params.path, "the program is not for the CPU")
    return params.run(traced, *flat)


def _on_cpu(context: mlir.LoweringRuleContext, *flat: mlir.ir.Value, params: PrimitiveParams) -> Sequence[Any]:
    obstacle = _program_obstacle(context.module_context)
    obstacle = next(filter(None, [obstacle, *(loading_obstacle(group.dtypes) for group in params.groups)]), None)
    execute = host if takes_host(params.call, params.path, obstacle) else traced
    lowered = mlir.lower_fun(lambda *flat, params: params.run(execute, *flat), multiple_results=True)
    return lowered(context, *flat, params=params)


def _program_obstacle(module: mlir.ModuleContext) -> str | None:
    """Why a kernel cannot be in the program that is being written, or None: what is known at its end only."""
    if module.lowering_parameters.for_export:
        return "the program is exported, and the kernel is of this process"
    if getattr(module.axis_context, "num_devices", 1) > 1:
        return SEVERAL
    return None


def _jvp(primals: Sequence[Array], tangents: Sequence[Array], *, params: PrimitiveParams) -> tuple[Any, Any]:
    step = functools.partial(_traced, params=params)
    return jax.jvp(step, tuple(primals), tuple(map(ad.instantiate_zeros, tangents)))


def _batch(
    operands: Sequence[Array], axes: Sequence[int | None], *, params: PrimitiveParams
) -> tuple[list[Array], list[int]]:
    out = jax.vmap(functools.partial(_traced, params=params), in_axes=tuple(axes))(*operands)
    return out, [0] * len(out)


mlir.register_lowering(step_p, mlir.lower_fun(_elsewhere, multiple_results=True))
mlir.register_lowering(step_p, _on_cpu, platform="cpu")
ad.primitive_jvps[step_p] = _jvp
batching.primitive_batchers[step_p] = _batch
