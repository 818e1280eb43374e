"""One JAX primitive for a step: the compiled kernel in a program for one CPU device, the traced formula elsewhere.

What it becomes is decided when the program is lowered for a platform. It is differentiated and batched as the traced
formula, which is not even written down where nobody asks for it: a step of hundreds of parameters is one equation, and
compiles as fast. The kernel is a typed foreign call (`core/cpu/xla_calls.py`, `kernel_step`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from scirs2_adapters.core.step.options import takes_host

from ..dispatch.plan import LeafGroup, StepConfig
from ..kernel_step import host
from ..ops import Array, Arrays, Model, Row, Structure
from .traced import traced

SEVERAL = "the program is for several devices"
#: The results of each group by name, and the new numbers of the model.
Results = tuple[list[dict[str, list[Array]]], dict[str, Array]]
#: An array, or what is known of it while a program is traced.
Operand = TypeVar("Operand", Array, jax.core.ShapedArray)
#: An executor: `traced` or `host`.
Execute = Callable[[Sequence[LeafGroup], str, Sequence[Arrays], Sequence[Sequence[Row]], Model], Results]


@dataclass(eq=False)
class PrimitiveParams:
    """The static parameters of the primitive: how its flat operands are to be read, and for which step."""

    config: StepConfig
    groups: Sequence[LeafGroup]
    tree: Structure

    def run(self, execute: Execute, *flat: Array) -> list[Array]:
        """The results of an executor, flat, in the order of `likes`."""
        arrays, rows, model = self.tree.unflatten(flat)
        results, new = execute(self.groups, self.config.emit, arrays, rows, model)
        return [*(x for _, n, g in self._names() for x in results[g][n]), *(new[n] for n in sorted(new))]

    def likes(self, *flat: Operand) -> list[tuple[Operand, str]]:
        """For each result the operand whose shape and sharding it has, and its dtype."""
        arrays, _, model = self.tree.unflatten(flat)
        result: list[tuple[Operand, str]] = []
        for group, n, g in self._names():
            result += [(x, group.dtype(n)) for x in arrays[g]["g" if n == "delta" else n]]
        result += [(model[n], model[n].dtype) for n in sorted(model)]
        return result

    def read(self, flat: Sequence[Array], model: Model) -> Results:
        """Flat results by group and name."""
        values = iter(flat)
        results: list[dict[str, list[Array]]] = [{} for _ in self.groups]
        for group, n, g in self._names():
            results[g][n] = [next(values) for _ in group.members]
        return results, {n: next(values) for n in sorted(model)}

    def _names(self) -> Iterator[tuple[LeafGroup, str, int]]:
        """Each group and each name of its results, in order, with the group's place."""
        for g, group in enumerate(self.groups):
            for n in group.stored(self.config.emit):
                yield group, n, g


def bind(
    config: StepConfig,
    groups: Sequence[LeafGroup],
    arrays: Sequence[Arrays],
    rows: Sequence[Sequence[Row]],
    model: Model,
    kernel: bool,
) -> Results:
    """The step as one equation where the kernel may run it, else in JAX's own operations."""
    flat, tree = jax.tree.flatten((arrays, rows, dict(model)))
    params = PrimitiveParams(config, groups, tree)
    return params.read(step_p.bind(*flat, params=params) if kernel else _written_out(params, flat), model)


def _written_out(params: PrimitiveParams, flat: Sequence[Array]) -> list[Array]:
    """The traced step. How products of matrices are split, XLA chooses on a mesh with explicit axes as well."""
    run = functools.partial(params.run, traced)
    shardings = [jax.typeof(x).sharding for x, _ in params.likes(*flat)]
    explicit = any(getattr(s.mesh, "explicit_axes", ()) for s in shardings)
    if explicit and any(n.op == "matrix" for g in params.groups for n in g.program.nodes):
        run = jax.sharding.auto_axes(run, out_sharding=shardings)
    return run(*flat)


step_p = Primitive("scirs2_step")
step_p.multiple_results = True


@step_p.def_impl
def _traced(*flat: Array, params: PrimitiveParams) -> list[Array]:
    return params.run(traced, *flat)


@step_p.def_abstract_eval
def _abstract(*flat: jax.core.ShapedArray, params: PrimitiveParams) -> list[jax.core.ShapedArray]:
    return [x.update(dtype=jnp.dtype(dtype), weak_type=False) for x, dtype in params.likes(*flat)]


def _elsewhere(*flat: Array, params: PrimitiveParams) -> list[Array]:
    takes_host(params.config.call, params.config.kernel, "the program is not for the CPU")
    return params.run(traced, *flat)


def _on_cpu(context: mlir.LoweringRuleContext, *flat: mlir.ir.Value, params: PrimitiveParams) -> Sequence[Any]:
    obstacle = _program_obstacle(context.module_context)
    execute = host if takes_host(params.config.call, params.config.kernel, obstacle) else traced
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
