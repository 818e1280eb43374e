"""Which path runs, and how: the traced formula anywhere, the host kernel where the program is for one CPU device.

Both are one JAX primitive. What it becomes is decided when the program is lowered for a platform, and differentiating
or batching it is done on the traced formula, which is not even written down where nobody asks for it: a step of
hundreds of parameters is one equation, and compiles as fast. The kernel is a typed foreign call
(`core/cpu/xla_calls.py`, `kernel_step`).
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import itertools
import logging
import math
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from scirs2_adapters.core.cpu import xla_calls as ffi
from scirs2_adapters.core.cpu.compile import compiler_obstacle
from scirs2_adapters.core.cpu.kernel import kernel_obstacle as dtype_obstacle
from scirs2_adapters.core.cpu.kernel import uses_rows
from scirs2_adapters.core.program.recorded import SCALE
from scirs2_adapters.core.routing import explained
from scirs2_adapters.core.rule import Rule
from scirs2_adapters.core.slots import Extent, Leaf
from scirs2_adapters.core.step.options import takes_host

from .kernel_step import TARGET, host
from .ops import Arrays, LeafGroup, StepConfig, gather, traced, varies

log = logging.getLogger("scirs2")
#: Above this many bytes `update` alone is traced: XLA adds the change without writing it down, a kernel needs fresh
#: memory for it, and memory fresh from the system costs more than the step.
LARGEST_CHANGE = 1 << 18
SEVERAL = "the program is for several devices"


@dataclass(eq=False)
class PrimitiveParams:
    """The static part of the primitive: how its flat operands are to be read."""

    groups: Sequence[LeafGroup]
    emit: str
    call: str
    kernel: str
    tree: Any = None

    def by(self, path: Any, *flat: Any) -> list[Any]:
        """The results of a path, flat, in the order in which their likes are found among the operands."""
        made, model = path(self.groups, self.emit, *jax.tree.unflatten(self.tree, flat))
        return [*self.flat(made), *(model[n] for n in sorted(model))]

    def flat(self, made: Sequence[Mapping[str, Sequence[Any]]]) -> list[Any]:
        return [x for g, m in zip(self.groups, made, strict=True) for n in g.stored(self.emit) for x in m[n]]

    def likes(self, *flat: Any) -> list[tuple[Any, Any]]:
        """For each result the operand whose shape and sharding it has, and its dtype."""
        arrays, _, model = jax.tree.unflatten(self.tree, flat)
        found = [
            {n: [(x, g.dtype(n)) for x in a["g" if n == "delta" else n]] for n in g.stored(self.emit)}
            for g, a in zip(self.groups, arrays, strict=True)
        ]
        return [*self.flat(found), *((model[n], model[n].dtype) for n in sorted(model))]

    def bind(self, arrays: Sequence[Arrays], rows: Any, model: Mapping[str, Any], hosted: bool) -> Any:
        """The step as one equation where a kernel may run it, else in JAX's own operations."""
        flat, self.tree = jax.tree.flatten((arrays, rows, dict(model)))
        out = iter(step_p.bind(*flat, work=self) if hosted else self.written_out(flat))
        made = [{n: [next(out) for _ in g.members] for n in g.stored(self.emit)} for g in self.groups]
        return made, {n: next(out) for n in sorted(model)}

    def written_out(self, flat: Sequence[Any]) -> list[Any]:
        """The traced step. How products of matrices are split, XLA chooses on a mesh with explicit axes as well."""
        run, shardings = functools.partial(self.by, traced), [jax.typeof(x).sharding for x, _ in self.likes(*flat)]
        explicit = any(getattr(s.mesh, "explicit_axes", ()) for s in shardings)
        if explicit and any(n.op == "matrix" for g in self.groups for n in g.program.nodes):
            run = jax.sharding.auto_axes(run, out_sharding=shardings)
        return run(*flat)


step_p = Primitive("scirs2_step")
step_p.multiple_results = True


@step_p.def_impl
def _traced(*flat: Any, work: PrimitiveParams) -> list[Any]:
    return work.by(traced, *flat)


@step_p.def_abstract_eval
def _abstract(*flat: Any, work: PrimitiveParams) -> list[Any]:
    return [x.update(dtype=jnp.dtype(dtype), weak_type=False) for x, dtype in work.likes(*flat)]


def _elsewhere(*flat: Any, work: PrimitiveParams) -> list[Any]:
    takes_host(work.call, work.kernel, "the program is not for the CPU")
    return work.by(traced, *flat)


def _on_cpu(ctx: Any, *flat: Any, work: PrimitiveParams) -> Any:
    path = host if takes_host(work.call, work.kernel, _reason_of_program(ctx.module_context)) else traced
    lowered = mlir.lower_fun(lambda *flat, work: work.by(path, *flat), multiple_results=True)
    return lowered(ctx, *flat, work=work)


def _reason_of_program(module: Any) -> str | None:
    """Why a kernel cannot be in the program that is being written, or None: what is known at its end only."""
    if module.lowering_parameters.for_export:
        return "the program is exported, and the kernel is of this process"
    if getattr(module.axis_context, "num_devices", 1) > 1:
        return SEVERAL
    return None


def _jvp(primals: Sequence[Any], tangents: Sequence[Any], *, work: PrimitiveParams) -> Any:
    return jax.jvp(functools.partial(_traced, work=work), tuple(primals), tuple(map(ad.instantiate_zeros, tangents)))


def _batch(operands: Sequence[Any], axes: Sequence[Any], *, work: PrimitiveParams) -> Any:
    out = jax.vmap(functools.partial(_traced, work=work), in_axes=tuple(axes))(*operands)
    return out, [0] * len(out)


mlir.register_lowering(step_p, mlir.lower_fun(_elsewhere, multiple_results=True))
mlir.register_lowering(step_p, _on_cpu, platform="cpu")
ad.primitive_jvps[step_p] = _jvp
batching.primitive_batchers[step_p] = _batch


_lock = threading.Lock()


@functools.cache
def _register() -> str | None:
    """Makes the handler known to XLA, once; returns why it cannot be used, or None."""
    if reason := compiler_obstacle():
        return reason
    jax.ffi.register_ffi_target(TARGET, jax.ffi.pycapsule(ctypes.c_void_p(ffi.handler())), platform="cpu")
    if ffi.frame_bytes() >= ffi.FRAME_BYTES:
        return None
    log.warning("scirs2: this jaxlib's foreign calls have another layout than is known; steps are traced")
    return "this jaxlib's foreign calls have another layout than is known"


def _cpus() -> int:
    """How many CPU devices this process has: none where JAX was told to use other platforms only."""
    try:
        return len(jax.local_devices(backend="cpu"))
    except RuntimeError:
        return 0


def _by_itself(group: LeafGroup) -> bool:
    """Whether `shard_map` has cut the work into what each device does without the others."""
    mesh = jax.sharding.get_abstract_mesh()
    return not group.program.levels and getattr(mesh, "are_all_axes_manual", False)


def _several() -> bool:
    """Whether the program may be for several devices, as far as is known before it is written: by those of this
    process, a mesh, or the arrays that a report is asked for.
    """
    lines, mesh = _lines.get(), jax.sharding.get_abstract_mesh()
    return _cpus() > 1 or (not mesh.empty and mesh.size > 1) or (lines is not None and lines.spread)


def _uneven(group: LeafGroup, leaves: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the arrays of a leaf differ along other axes than each other, or its numbers along more axes than its
    arrays: along which axes the results then differ, JAX must see from the operations.
    """
    small = {s.name for s in group.program.slots if s.extent is Extent.TENSOR}
    scalars = frozenset().union(*(varies(x) for row in group.rows for x in row.values()))
    for leaf in (leaves[i] for i in group.members):
        numbers, arrays = ({varies(x) for n, x in leaf.items() if (n in small) is kind} for kind in (True, False))
        nested = [scalars, *numbers, *arrays]
        if len(numbers) > 1 or len(arrays) > 1 or not all(a <= b for a, b in itertools.pairwise(nested)):
            return True
    return False


def kernel_obstacle(group: LeafGroup, leaves: Sequence[Mapping[str, Any]]) -> str | None:
    """Why these of the leaves cannot be stepped by a host kernel, or None."""
    if not _cpus():
        return "JAX has no CPU device here"
    if _several() and not _by_itself(group):  # XLA would gather shards before the call
        return SEVERAL
    if group.axis_name is not None and group.program.levels:
        return "it sums over a mapped axis"
    if _uneven(group, leaves):
        return "its parameters and gradients differ along different axes of a mesh"
    if uses_rows(group.program) or any(n.op == "matrix" for n in group.program.nodes):
        return "it works on rows, columns or whole matrices, which XLA does as well"
    with _lock:  # threads that step for the first time at once load one compiler and register one handler
        return dtype_obstacle(group.dtypes) or _register()


class Lines(list[str]):
    """The lines of a report; `spread` says whether the arrays it is about are on several devices."""

    spread = False


#: Where lines for `explain` are collected while someone wants them.
_lines: ContextVar[Lines | None] = ContextVar("lines", default=None)


@contextlib.contextmanager
def reported(arrays: Any = ()) -> Iterator[Lines]:
    """Collects a line for each group of leaves that is stepped meanwhile, which `arrays` are."""
    lines = Lines()
    places = [getattr(x, "sharding", None) for x in jax.tree.leaves(arrays)]
    lines.spread = any(len(getattr(place, "device_set", ())) > 1 for place in places)
    token = _lines.set(lines)
    try:
        yield lines
    finally:
        _lines.reset(token)


def _report(job: StepConfig, group: LeafGroup, reason: str | None) -> None:
    """Says which path a group takes; `reason` is what is against the kernel."""
    leaves = f"{len(group.shapes)} {'leaf' if len(group.shapes) == 1 else 'leaves'} of {group.dtypes['p']}"
    size = sum(math.prod(s) for s in group.shapes)
    asked = 'asked for by kernel="traced"' if job.kernel == "traced" else reason
    path = f"traced: {asked}" if asked else "the host kernel on the CPU, traced elsewhere"
    line = f"{job.call}: {leaves} ({size:,} numbers): {path}"
    log.debug(line)
    if (lines := _lines.get()) is not None:
        lines.append(line)


def _report_routes(job: StepConfig, rule: Rule, leaves: Sequence[Mapping[str, Any]]) -> None:
    """Says which leaves another rule steps, and which are other matrices than they look, and why."""
    if (lines := _lines.get()) is None or not rule.routes:
        return
    pairs = [(rule, job.leaf(i, arrays)) for i, arrays in enumerate(leaves)]
    lines += [line for (_, leaf), line in zip(pairs, explained(pairs), strict=True) if not _plain(rule, leaf)]


def _plain(rule: Rule, leaf: Leaf) -> bool:
    return not rule.reason(leaf) and rule.view(leaf) is None


def _advance(
    job: StepConfig, hyper: Any, counts: tuple[Any, ...], leaves: Sequence[Mapping[str, Any]], model: Any
) -> Any:
    """One step: new counts, results by name for each leaf, and the model's numbers."""
    t = counts[0].astype(float) + 1 if counts else 1.0
    leaves = [{n: -x if n in job.negative else x for n, x in leaf.items()} for leaf in leaves]
    rule_hyper = {n: x for n, x in hyper.items() if n != SCALE}
    rule = job.rule.replace(**rule_hyper) if rule_hyper else job.rule
    groups = gather(job, rule, t, leaves, hyper.get(SCALE))
    reasons = [kernel_obstacle(g, leaves) if job.kernel != "traced" else None for g in groups]
    if model:  # numbers shared by all leaves: all take one path
        reasons = [next((r for r in reasons if r), None)] * len(groups)
    if job.kernel == "auto" and job.emit == "delta" and sum(x["g"].nbytes for x in leaves) > LARGEST_CHANGE:
        reasons = ["the change is large"] * len(groups)
    for group, reason in zip(groups, reasons, strict=True):
        _report(job, group, reason)
    _report_routes(job, rule, leaves)
    hosted = [takes_host(job.call, job.kernel, r) for r in reasons]
    made: list[dict[str, Any]] = [{} for _ in leaves]
    new = dict(model)
    for path in (True, False):
        mine = [g for g, h in zip(groups, hosted, strict=True) if h is path]
        if not mine:
            continue
        arrays = [{n: [leaves[i][n] for i in g.members] for n in g.dtypes} for g in mine]
        rows, work = [g.take_rows() for g in mine], PrimitiveParams(mine, job.emit, job.call, job.kernel)
        out, new = work.bind(arrays, rows, new, path)
        for g, results in zip(mine, out, strict=True):
            for n, values in results.items():
                for i, x in zip(g.members, values, strict=True):
                    made[i][n] = -x if n in job.negative else x
    return tuple(map(optax.safe_increment, counts)), made, new


#: Compiled once for each kind of step, also where the user compiles nothing; inside the user's own `jit` it dissolves.
compiled = jax.jit(_advance, static_argnums=0, inline=True)


def advance(job: StepConfig, *args: Any) -> Any:
    """One step, as `_advance`; looked at anew where a report of it is wanted."""
    return (compiled if _lines.get() is None else _advance)(job, *args)
