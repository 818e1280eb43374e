"""The array operations bound to `jax.numpy`, the scalars of a trace, and the traced path that runs a formula with them.

Square roots have derivative 0 at 0 where the true one is infinite: a step differentiated at its beginning, where
second moments are 0, is then finite. Plain numbers stay Python's until they meet a traced one: what depends on none is
float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from scirs2_adapters.core.errors import bad_value
from scirs2_adapters.core.fields import is_number
from scirs2_adapters.core.matrix import INPUTS_FIRST, Matrix
from scirs2_adapters.core.ops import HOST_SCALARS, Ops
from scirs2_adapters.core.program.interpret import run
from scirs2_adapters.core.program.recorded import SCALE, Program, record
from scirs2_adapters.core.rule import Rule
from scirs2_adapters.core.slots import Extent, Leaf

Arrays = Mapping[str, Sequence[Any]]


@jax.custom_jvp
def sqrt(x: jax.Array) -> jax.Array:
    """The square root."""
    return jnp.sqrt(x)


@sqrt.defjvp
def _sqrt_jvp(primals: tuple[jax.Array], tangents: tuple[jax.Array]) -> tuple[jax.Array, jax.Array]:
    root = sqrt(primals[0])
    zero = root == 0
    return root, jnp.where(zero, 0, tangents[0] / (2 * jnp.where(zero, 1, root)))


OPS = Ops(
    sqrt=sqrt,
    abs=jnp.abs,
    sign=jnp.sign,
    maximum=jnp.maximum,
    minimum=jnp.minimum,
    where=jnp.where,
    sum=lambda x, axis: jnp.sum(x, axis, keepdims=axis is not None),
    mean=lambda x, axis: (
        jnp.sum(x, axis, keepdims=axis is not None) / max(1, x.size if axis is None else x.shape[axis])
    ),
    matmul=partial(jnp.matmul, precision="highest"),
    transpose=lambda x: jnp.swapaxes(x, -1, -2),
    reshape=jnp.reshape,
    permute=jnp.transpose,
    square=lambda x: jnp.sum(x * x, 0, keepdims=True),
)


def _either(name: str) -> Callable[..., Any]:
    host, traced = getattr(HOST_SCALARS, name), getattr(jnp, name)

    def function(*values: Any) -> Any:
        return (host if all(isinstance(v, bool) or is_number(v) for v in values) else traced)(*values)

    return function


SCALARS = SimpleNamespace(**{name: _either(name) for name in vars(HOST_SCALARS)})


@dataclass(frozen=True)
class StepConfig:
    """What a step is apart from its numbers. `emit` is "p" or "delta"; `names`, `matrices` and `decays` are of the
    leaves.
    """

    rule: Rule
    call: str
    emit: str
    kernel: str
    negative: frozenset[str]
    names: tuple[str, ...]
    matrices: tuple[Matrix | None, ...]
    decays: tuple[bool, ...]
    scaled: bool = False
    axis_name: Any = None

    def leaf(self, i: int, arrays: Mapping[str, Any]) -> Leaf:
        """A parameter as a rule sees it."""
        return leaf_of(arrays["p"], self.names[i], self.matrices[i], arrays)


def leaf_of(p: Any, name: str, matrix: Matrix | None = None, held: Iterable[str] = ()) -> Leaf:
    """A parameter as a rule sees it, with the memory that it has. Kernels are as Flax and optax have them."""
    memory = frozenset(held) - {"p", "g"}
    return Leaf(p.shape, real(p.dtype), name, INPUTS_FIRST, matrix, memory, complex=jnp.iscomplexobj(p))


@dataclass(eq=False)
class LeafGroup:
    """Leaves with one program and the same dtypes; `rows` are their different coefficients, `index` says whose are
    which.
    """

    program: Program
    dtypes: Mapping[str, str]
    compute: str
    axis_name: Any = None
    members: list[int] = field(default_factory=list)
    shapes: list[tuple[int, ...]] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)
    index: list[int] = field(default_factory=list)
    known: dict[Any, int] = field(default_factory=dict)

    def add(self, member: int, shape: tuple[int, ...], key: Any, scalars: Mapping[str, Any]) -> None:
        """One more leaf. Equal keys mean equal coefficients, which are rounded to the arithmetic's dtype once."""
        if key not in self.known:
            self.known[key] = len(self.rows)
            self.rows.append({n: number(scalars[n], self.compute) for n in self.program.scalars})
        self.members.append(member)
        self.shapes.append(shape)
        self.index.append(self.known[key])

    def take_rows(self) -> list[dict[str, Any]]:
        """The coefficients, which the group itself forgets: JAX remembers it, and may not remember what is traced."""
        rows, self.rows = self.rows, []
        return rows

    def stored(self, emit: str) -> list[str]:
        """What a step makes: the parameter or its change, and every slot that it changes."""
        slots = [s.name for s in self.program.slots if s.extent is not Extent.MODEL]
        return [emit, *(n for n in slots if self.program.nodes[self.program.outputs[n]].op != "input")]

    def dtype(self, name: str) -> str:
        """The dtype in which a result is stored; a change has that of the parameter or of the gradient, the wider one,
        as in optax: it is rounded when it is applied, and not before.
        """
        return jnp.promote_types(self.dtypes["p"], self.dtypes["g"]).name if name == "delta" else self.dtypes[name]


def number(value: Any, dtype: str) -> Any:
    """A scalar in this dtype; a plain number goes there straight from float64."""
    return np.dtype(dtype).type(value) if is_number(value) else jnp.asarray(value).astype(dtype)


def real(dtype: Any) -> str:
    """The name of a dtype, of its parts if it is complex."""
    return jnp.finfo(dtype).dtype.name if jnp.issubdtype(dtype, jnp.complexfloating) else jnp.dtype(dtype).name


def gather(
    job: StepConfig, rule: Rule, t: Any, leaves: Sequence[Mapping[str, Any]], scale: Any = None
) -> list[LeafGroup]:
    """Sorts leaves into groups, with coefficients computed once for each rule that a leaf is routed to."""
    groups: dict[Any, LeafGroup] = {}
    routes: dict[tuple[bool, bool], tuple[Rule, Mapping[str, Any]]] = {}
    seen: list[Mapping[str, Any]] = []
    for i, (decay, arrays) in enumerate(zip(job.decays, leaves, strict=True)):
        p, leaf = arrays["p"], job.leaf(i, arrays)
        routed = rule.route(leaf)
        key = (decay, routed is rule)
        if key not in routes:
            routed = routed if decay else routed.replace(weight_decay=0.0)
            routes[key] = routed, {**routed.scalars(SCALARS, t), SCALE: scale}
        routed, scalars = routes[key]
        own = routed.leaf_coefficients(leaf)
        program, dtypes = record(routed, leaf, job.scaled, job.call), {n: str(x.dtype) for n, x in arrays.items()}
        kind = (program, *dtypes.items())
        if kind not in groups:
            compute = jnp.promote_types(leaf.dtype, jnp.float32).name
            groups[kind] = LeafGroup(program, dtypes, compute, mapped(job, program))
        seen.append(own)  # an object that is gone may have left its identity to another
        groups[kind].add(i, p.shape, (key, *((n, _same(v)) for n, v in own.items())), {**scalars, **own})
    return list(groups.values())


def mapped(job: StepConfig, program: Program) -> Any:
    """The axes over which the sums of this program go; whole rows, columns and matrices cannot be put together so."""
    parts = {n.extent for n in program.nodes if n.reduces} - {Extent.TENSOR, Extent.MODEL}
    if job.axis_name is not None and parts:
        raise bad_value(
            job.call, "axis_name", "must be None for a rule of rows, columns or matrices", job.axis_name,
            "Step such parameters under `jit` with a sharding, where XLA completes the sums.",
        )  # fmt: skip
    return job.axis_name if program.levels else None


def over(axis_name: Any, arrays: Sequence[Any] = ()) -> Ops:
    """The operations whose sums go over mapped axes as well. An array that is the same along an axis is summed once,
    where JAX keeps account of that, as it does in `shard_map`: if any of `arrays` varies, it does.
    """
    if axis_name is None:
        return OPS
    names = (axis_name,) if isinstance(axis_name, str) else tuple(axis_name)
    known = any(map(varies, arrays))

    def axes(x: Any) -> tuple[str, ...]:
        return tuple(n for n in names if not known or n in varies(x))

    def whole(x: Any, axis: int | None) -> Any:
        share = OPS.sum(x, axis)
        return jax.lax.psum(share, axes(x)) if axes(x) else share

    def mean(x: Any, axis: int | None) -> Any:
        return whole(x, axis) / max(1, x.size * math.prod(jax.lax.axis_size(n) for n in axes(x)))

    return replace(OPS, sum=whole, mean=mean)


def varies(x: Any) -> frozenset[str]:
    """The mapped axes along which an array is known to differ; JAX has renamed where it says so."""
    kind = jax.typeof(x)
    known: frozenset[str] = getattr(getattr(kind, "mat", kind), "varying", getattr(kind, "vma", frozenset()))
    return known


def _same(value: Any) -> Any:
    """Equal for equal plain values, and for one and the same of any other."""
    return value if is_number(value) or isinstance(value, (str, bool, type(None))) else id(value)


def _load(x: Any, compute: str, modulus: bool) -> Any:
    """In the arithmetic's dtype; a complex array as two real ones, one on the other, or as the first alone where it
    holds moduli.
    """
    if jnp.issubdtype(x.dtype, jnp.complexfloating):
        x = x.real[None] if modulus else jnp.stack([x.real, x.imag])
    return x.astype(compute)


def _store(x: Any, dtype: str, shape: tuple[int, ...]) -> Any:
    if jnp.issubdtype(dtype, jnp.complexfloating):
        return jax.lax.complex(x[0], x[1] if len(x) > 1 else jnp.zeros_like(x[0])).astype(dtype)
    return jnp.broadcast_to(x, shape).astype(dtype)


def traced(
    groups: Sequence[LeafGroup], emit: str, arrays: Sequence[Arrays], rows: Any, model: Mapping[str, Any]
) -> Any:
    """The step in JAX's own operations: for each group its results by name, and the model's numbers."""
    made: list[dict[str, list[Any]]] = [{} for _ in groups]
    new = dict(model)
    for program in dict.fromkeys(g.program for g in groups):
        mine = [k for k, g in enumerate(groups) if g.program is program]
        leaves = [
            {n: _load(arrays[k][n][j], groups[k].compute, n in program.moduli) for n in arrays[k]}
            | {n: jnp.asarray(x).astype(groups[k].compute) for n, x in model.items()}
            for k in mine
            for j in range(len(groups[k].members))
        ]
        scalars = [rows[k][r] for k in mine for r in groups[k].index]
        numbers = [s.name for s in program.slots if s.extent is Extent.MODEL]
        out = iter(
            run(
                program,
                over(groups[mine[0]].axis_name, [x["p"] for x in leaves]),
                leaves,
                scalars,
                [*groups[mine[0]].stored(emit), *numbers],
            )
        )
        for k in mine:
            results = [next(out) for _ in groups[k].members]
            for n in groups[k].stored(emit):
                like, dtype = arrays[k]["g" if n == "delta" else n], groups[k].dtype(n)
                made[k][n] = [_store(r[n], dtype, x.shape) for r, x in zip(results, like, strict=True)]
            new |= {n: jnp.asarray(results[0][n]).astype(model[n].dtype) for n in numbers}
    return made, new
