"""Which path runs, and how: the traced formula anywhere, the host kernel where the program is for one CPU device.

Both are one JAX primitive. What it becomes is decided when the program is lowered for a platform, and differentiating
or batching it is done on the traced formula, which is not even written down where nobody asks for it: a step of
hundreds of parameters is one equation, and compiles as fast. The kernel is a typed foreign call
(`core/execute/ffi.py`); between two passes of a rule with norms or sums, what is smaller than a tensor is computed by
`jax.numpy` in the same program.
"""

from __future__ import annotations

import ctypes
import functools
import logging
import operator
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from scirs2_adapters.core.execute import ffi
from scirs2_adapters.core.execute.compile import unavailable
from scirs2_adapters.core.execute.host import Batch
from scirs2_adapters.core.execute.interpret import evaluate
from scirs2_adapters.core.execute.kernel import reason_against, uses_rows
from scirs2_adapters.core.options import takes_host
from scirs2_adapters.core.program import Node
from scirs2_adapters.core.slots import Kind

from .waist import WAIST, Arrays, Group, Job, gather, traced

log = logging.getLogger("scirs2")
TARGET = "scirs2_step"
#: So many tensors are one foreign call: XLA's work on the results of a call grows with the square of their number.
TENSORS = 32
#: Above this many bytes `update` alone is traced: XLA adds the change without writing it down, a kernel needs fresh
#: memory for it, and memory fresh from the system costs more than the step.
LARGEST_CHANGE = 1 << 18


def _is_sum(nodes: Sequence[Node], index: int) -> bool:
    return nodes[index].reduces and nodes[nodes[index].args[0]].kind is Kind.FULL


class Passes:
    """The passes of one group's kernel, and the small values between them."""

    def __init__(self, group: Group, emit: str, arrays: Arrays, rows: Any, model: Mapping[str, Any]) -> None:
        own = "p" if emit == "p" else "u"
        dtypes = {**group.dtypes, own: group.dtype(emit)}
        self.batch = Batch(group.program, group.shapes, dtypes, own)
        self.group, self.arrays, self.own, self.emit = group, arrays, own, emit
        self.made: dict[str, Sequence[Any]] = {}
        compute = group.compute
        index = np.array(group.index)
        table = {n: jnp.stack([jnp.asarray(r[n], compute) for r in rows]) for n in group.program.scalars}
        self.many = group.program.levels > 0  # numbers for each tensor, or for each different row of coefficients
        self.rows = list(range(len(index))) if self.many else group.index
        self.width = len(index) if self.many else len(rows)
        self.scalars = {n: x[index] if self.many else x for n, x in table.items()}
        self.model = {n: jnp.asarray(x, compute) for n, x in model.items()}
        self.needed = group.program.order(list(group.program.outputs.values()))
        self.values: dict[int, list[Any]] = {}
        self.evaluate(0)

    def evaluate(self, level: int) -> None:
        """Everything of this level that is smaller than a tensor."""
        nodes = self.group.program.nodes
        for i in self.needed:
            node = nodes[i]
            if node.level == level and node.kind is not Kind.FULL and i not in self.values and not _is_sum(nodes, i):
                self.values[i] = evaluate(
                    node, WAIST, [self.model], [self.scalars], [self.values[a] for a in node.args]
                )

    def call(self, level: int) -> None:
        """Runs a pass, and takes its sums or its results."""
        parts, shapes = self.batch.kernel.passes[level].parts, self.group.shapes
        columns = [jnp.broadcast_to(self.values[i][0], (self.width,)) for i in parts.coefficients]
        coefficients = jnp.stack(columns, axis=1) if columns else jnp.zeros((1, 1))
        operands, results = [coefficients.astype(self.group.compute)], []
        aliases: dict[int, int] = {}
        places = {k: place for place, k in enumerate(parts.stores)}
        for k, a in enumerate(parts.arrays):
            if a.node >= 0:
                if k in places:
                    aliases |= {len(operands) + t: places[k] * len(shapes) + t for t in range(len(shapes))}
                operands += self.arrays[a.name]
        for k in parts.stores:
            dtype = self.batch.kernel.dtypes[parts.arrays[k].name]
            results += [jax.ShapeDtypeStruct(shape, dtype) for shape in shapes]
        if parts.sums:
            results = [jax.ShapeDtypeStruct((len(shapes), len(parts.sums)), self.group.compute)]
        name = np.int64(ffi.publish(self.batch, level, self.rows))
        out = jax.ffi.ffi_call(TARGET, results, input_output_aliases=aliases)(*operands, plan=name)
        for place, k in enumerate(parts.stores):
            stored = parts.arrays[k].name
            self.made[self.emit if stored == self.own else stored] = out[
                place * len(shapes) : (place + 1) * len(shapes)
            ]
        for k, i in enumerate(parts.sums):
            self.take(i, out[0][:, k])

    def take(self, index: int, sums: Any) -> None:
        """The sums of every tensor, of which a mean is a part."""
        if self.group.program.nodes[index].op == "mean":
            sums = sums / np.array([max(1, int(np.prod(s))) for s in self.group.shapes], self.group.compute)
        self.values[index] = [sums]


def host(groups: Sequence[Group], emit: str, arrays: Sequence[Arrays], rows: Any, model: Mapping[str, Any]) -> Any:
    """The step by compiled kernels: as `traced`, which it stands for."""
    parts = [
        [Passes(p, emit, a, r, model) for p, a in pieces(g, x)] for g, x, r in zip(groups, arrays, rows, strict=True)
    ]
    every = [p for part in parts for p in part]
    for level in range(max(p.group.program.levels for p in every) + 1):
        now = [p for p in every if p.group.program.levels >= level]
        for p in now:
            p.call(level)
        _share(now, level)
        for p in now:
            p.evaluate(level + 1)
    outputs, new = every[0].group.program.outputs, dict(model)
    new |= {n: every[0].values[outputs[n]][0].reshape(-1)[0].astype(x.dtype) for n, x in model.items()}
    names = (g.stored(emit) for g in groups)
    return [{n: [x for p in part for x in p.made[n]] for n in ns} for part, ns in zip(parts, names, strict=True)], new


def pieces(group: Group, arrays: Arrays) -> Iterator[tuple[Group, Arrays]]:
    """The group in parts of a size that XLA compiles well."""
    for start in range(0, len(group.shapes), TENSORS):
        part = slice(start, start + TENSORS)
        yield (
            replace(group, shapes=group.shapes[part], index=group.index[part]),
            {n: x[part] for n, x in arrays.items()},
        )


def _share(every: Sequence[Passes], level: int) -> None:
    """Adds up what is a sum over the whole model."""
    first = every[0].group.program.nodes
    for i, node in enumerate(first):
        if node.op == "total" and node.level == level + 1 and _is_sum(first, i):
            whole = functools.reduce(operator.add, (jnp.sum(p.values[i][0]) for p in every))
            for p in every:
                p.values[i] = [whole.astype(p.group.compute)]


@dataclass(eq=False)
class Work:
    """The static part of the primitive: how its flat operands are to be read."""

    groups: Sequence[Group]
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

    def likes(self, *flat: Any) -> list[Any]:
        """For each result the operand whose shape and dtype it has."""
        arrays, _, model = jax.tree.unflatten(self.tree, flat)
        found = [
            {n: a["g" if n == "delta" else n] for n in g.stored(self.emit)}
            for g, a in zip(self.groups, arrays, strict=True)
        ]
        return [*self.flat(found), *(model[n] for n in sorted(model))]

    def bind(self, arrays: Sequence[Arrays], rows: Any, model: Mapping[str, Any]) -> Any:
        """The step as one equation."""
        flat, self.tree = jax.tree.flatten((arrays, rows, dict(model)))
        out = iter(step_p.bind(*flat, work=self))
        made = [{n: [next(out) for _ in g.members] for n in g.stored(self.emit)} for g in self.groups]
        return made, {n: next(out) for n in sorted(model)}


step_p = Primitive("scirs2_step")
step_p.multiple_results = True


@step_p.def_impl
def _traced(*flat: Any, work: Work) -> list[Any]:
    return work.by(traced, *flat)


@step_p.def_abstract_eval
def _abstract(*flat: Any, work: Work) -> list[Any]:
    return [x.update(weak_type=False) for x in work.likes(*flat)]


def _elsewhere(*flat: Any, work: Work) -> list[Any]:
    takes_host(work.call, work.kernel, "the program is not for the CPU")
    return work.by(traced, *flat)


def _jvp(primals: Sequence[Any], tangents: Sequence[Any], *, work: Work) -> Any:
    return jax.jvp(functools.partial(_traced, work=work), tuple(primals), tuple(map(ad.instantiate_zeros, tangents)))


def _batch(operands: Sequence[Any], axes: Sequence[Any], *, work: Work) -> Any:
    out = jax.vmap(functools.partial(_traced, work=work), in_axes=tuple(axes))(*operands)
    return out, [0] * len(out)


mlir.register_lowering(step_p, mlir.lower_fun(_elsewhere, multiple_results=True))
mlir.register_lowering(
    step_p, mlir.lower_fun(lambda *flat, work: work.by(host, *flat), multiple_results=True), platform="cpu"
)
ad.primitive_jvps[step_p] = _jvp
batching.primitive_batchers[step_p] = _batch


_lock = threading.Lock()


@functools.cache
def _register() -> str | None:
    """Makes the handler known to XLA, once; returns why it cannot be used, or None."""
    if reason := unavailable():
        return reason
    jax.ffi.register_ffi_target(TARGET, jax.ffi.pycapsule(ctypes.c_void_p(ffi.handler())), platform="cpu")
    if ffi.frame_bytes() >= ffi.FRAME_BYTES:
        return None
    log.warning("scirs2: this jaxlib's foreign calls have another layout than is known; steps are traced")
    return "this jaxlib's foreign calls have another layout than is known"


def reason_against_host(group: Group) -> str | None:
    """Why these leaves cannot be stepped by a host kernel, or None."""
    if jax.process_count() > 1 or len(jax.local_devices(backend="cpu")) > 1:
        return "the program is for several devices"
    if uses_rows(group.program) or any(n.op == "matrix" for n in group.program.nodes):
        return "it works on rows, columns or whole matrices, which XLA does as well"
    if reason := reason_against(group.dtypes):
        return reason
    with _lock:
        return _register()


def _advance(job: Job, hyper: Any, counts: tuple[Any, ...], leaves: Sequence[Mapping[str, Any]], model: Any) -> Any:
    """One step: new counts, results by name for each leaf, and the model's numbers."""
    t = counts[0].astype(float) + 1 if counts else 1.0
    leaves = [{n: -x if n in job.negative else x for n, x in leaf.items()} for leaf in leaves]
    groups = gather(job, job.rule.replace(**hyper) if hyper else job.rule, t, leaves)
    reasons = [reason_against_host(g) if job.kernel != "traced" else None for g in groups]
    if model:  # numbers shared by all leaves: all take one path
        reasons = [next((r for r in reasons if r), None)] * len(groups)
    if job.kernel == "auto" and job.emit == "delta" and sum(x["g"].nbytes for x in leaves) > LARGEST_CHANGE:
        reasons = ["the change is large"] * len(groups)
    hosted = [takes_host(job.call, job.kernel, r) for r in reasons]
    made: list[dict[str, Any]] = [{} for _ in leaves]
    new = dict(model)
    for path in (True, False):
        mine = [g for g, h in zip(groups, hosted, strict=True) if h is path]
        if not mine:
            continue
        arrays = [{n: [leaves[i][n] for i in g.members] for n in g.dtypes} for g in mine]
        rows, work = [g.take_rows() for g in mine], Work(mine, job.emit, job.call, job.kernel)
        out, new = work.bind(arrays, rows, new) if path else traced(mine, job.emit, arrays, rows, new)
        for g, results in zip(mine, out, strict=True):
            for n, values in results.items():
                for i, x in zip(g.members, values, strict=True):
                    made[i][n] = -x if n in job.negative else x
    return tuple(map(optax.safe_increment, counts)), made, new


#: Compiled once for each kind of step, also where the user compiles nothing; inside the user's own `jit` it dissolves.
advance = jax.jit(_advance, static_argnums=0, inline=True)
