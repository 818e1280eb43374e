"""One JAX primitive for a step: the compiled kernel in a program for one CPU device, the traced formula elsewhere.

What it becomes is decided when the program is lowered for a platform. It is differentiated and batched as the traced
formula, which is not even written down where nobody asks for it: a step of hundreds of parameters is one equation, and
compiles as fast. The kernel is a typed foreign call (`core/cpu/xla_calls.py`, `kernel_step`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from scirs2_adapters.core.step.options import takes_host

from ..dispatch.plan import LeafGroup, Operands, Results, StepConfig
from ..kernel_step import host
from ..ops import Array, Structure, Tree
from .traced import traced

SEVERAL = "the program is for several devices"
Type = jax.core.ShapedArray


@dataclass(eq=False)
class PrimitiveParams:
    """The static parameters of the primitive: how its flat operands are to be read, and for which step."""

    config: StepConfig
    groups: Sequence[LeafGroup]
    tree: Structure

    def run(self, execute: Callable[[Sequence[LeafGroup], str, Operands], Results], *flat: Array) -> list[Array]:
        """The results of an executor, flat."""
        return jax.tree.leaves(execute(self.groups, self.config.emit, self.tree.unflatten(flat)))

    def types(self, flat: Sequence[Type]) -> Tree:
        """What the results are, in the form of `Results`: each has shape and sharding of an operand."""
        arrays, _, model = self.tree.unflatten(flat)
        types: list[dict[str, list[Type]]] = [{} for _ in self.groups]
        for group, of_group, by_name in zip(self.groups, types, arrays, strict=True):
            for n in group.stored(self.config.emit):
                change = {"dtype": jnp.dtype(group.dtype(n)), "weak_type": False}
                of_group[n] = [x.update(**change) for x in by_name["g" if n == "delta" else n]]
        return types, {n: x.update(weak_type=False) for n, x in model.items()}


def bind(config: StepConfig, groups: Sequence[LeafGroup], operands: Operands, kernel: bool) -> Results:
    """The step as one equation where the kernel may run it, else in JAX's own operations. How products of matrices are
    split, XLA chooses on a mesh with explicit axes as well.
    """
    flat, tree = jax.tree.flatten(operands)
    params = PrimitiveParams(config, groups, tree)
    results: Structure
    types, results = jax.tree.flatten(params.types([jax.typeof(x) for x in flat]))
    run = functools.partial(step_p.bind if kernel else _traced, params=params)
    explicit = any(getattr(x.sharding.mesh, "explicit_axes", ()) for x in types)
    if not kernel and explicit and any(n.op == "matrix" for g in groups for n in g.program.nodes):
        run = jax.sharding.auto_axes(run, out_sharding=[x.sharding for x in types])
    return results.unflatten(run(*flat))


step_p = Primitive("scirs2_step")
step_p.multiple_results = True


@step_p.def_impl
def _traced(*flat: Array, params: PrimitiveParams) -> list[Array]:
    return params.run(traced, *flat)


@step_p.def_abstract_eval
def _abstract(*flat: Type, params: PrimitiveParams) -> list[Type]:
    return jax.tree.leaves(params.types(flat))


def _elsewhere(*flat: Array, params: PrimitiveParams) -> list[Array]:
    takes_host(params.config.rule.name, params.config.kernel, "the program is not for the CPU")
    return params.run(traced, *flat)


def _on_cpu(context: mlir.LoweringRuleContext, *flat: mlir.ir.Value, params: PrimitiveParams) -> Sequence[Any]:
    obstacle = _program_obstacle(context.module_context)
    execute = host if takes_host(params.config.rule.name, params.config.kernel, obstacle) else traced
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
