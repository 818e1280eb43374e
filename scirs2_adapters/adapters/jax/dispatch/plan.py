"""The plan of one step: what is fixed before it (`StepConfig`), and its leaves in groups of one program (`LeafGroup`).

A plan is made while JAX traces a step. It holds shapes, dtypes and programs, and no array.
"""

from __future__ import annotations

import functools
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import jax.numpy as jnp

from scirs2_adapters.core.errors import bad_value
from scirs2_adapters.core.fields import is_number
from scirs2_adapters.core.matrix import INPUTS_FIRST, Matrix
from scirs2_adapters.core.ops import Scalars
from scirs2_adapters.core.program.recorded import SCALE, Program
from scirs2_adapters.core.rule import Rule
from scirs2_adapters.core.slots import Extent, Leaf
from scirs2_adapters.core.step.plan import ParamEntry, coefficient_rows, grouped, param_entry

from ..ops import SCALARS, Array, AxisName, LeafArrays, Number, Row, number, real


@dataclass(frozen=True, eq=False)
class StepConfig:
    """All that a step depends on besides arrays: the static argument of the compiled step, made by `step_config`.

    `emit` is "p" for new parameters or "delta" for what to add to them. `negative` and `sparse` are the slots that a
    state stores so. `names`, `matrices` and `decays` have an entry for each leaf, or none where no leaf has a name,
    none has dimension numbers, or all decay.
    """

    rule: Rule
    call: str
    emit: str
    kernel: str
    negative: frozenset[str]
    sparse: frozenset[str]
    scaled: bool
    axis_name: AxisName
    names: tuple[str, ...] = ()
    matrices: tuple[Matrix | None, ...] = ()
    decays: tuple[bool, ...] = ()

    def leaf(self, i: int, arrays: LeafArrays) -> Leaf:
        """Leaf `i` as a rule sees it."""
        name, matrix = self.names[i] if self.names else "", self.matrices[i] if self.matrices else None
        return leaf_of(arrays["p"], name, matrix, arrays)


#: Equal configurations are one object: JAX compares it by identity when it looks for the compiled step.
step_config = functools.lru_cache(maxsize=4096)(StepConfig)


def leaf_of(p: Array, name: str, matrix: Matrix | None = None, slots: Iterable[str] = ()) -> Leaf:
    """A parameter as a rule sees it, with the slots that it has. Kernels lie as in Flax and optax."""
    held = frozenset(slots) - {"p", "g"}
    return Leaf(p.shape, real(p.dtype), name, INPUTS_FIRST, matrix, held, complex=jnp.iscomplexobj(p))


@dataclass(eq=False)
class LeafGroup:
    """Leaves with one program and the same dtypes. `members` are their places among all leaves, `index` says which row
    of coefficients each of them takes.
    """

    program: Program
    dtypes: Mapping[str, str]
    compute: str
    axis_name: AxisName
    members: Sequence[int]
    shapes: Sequence[tuple[int, ...]]
    index: Sequence[int]

    def stored(self, emit: str) -> list[str]:
        """What a step returns: the parameter or its change, and every slot that it changes."""
        slots = [s.name for s in self.program.slots if s.extent is not Extent.MODEL]
        return [emit, *(n for n in slots if self.program.nodes[self.program.outputs[n]].op != "input")]

    def dtype(self, name: str) -> str:
        """The dtype in which a result is stored; a change has that of the parameter or of the gradient, the wider one,
        as in optax: it is rounded when it is applied, and not before.
        """
        return jnp.promote_types(self.dtypes["p"], self.dtypes["g"]).name if name == "delta" else self.dtypes[name]


class Coefficients:
    """The coefficients of a step: computed once for each rule that steps some leaf, with or without decay."""

    def __init__(self, config: StepConfig, rule: Rule, t: Number, scale: Number | None) -> None:
        self.config, self.rule, self.t, self.scale = config, rule, t, scale
        self.routes: dict[tuple[bool, bool], tuple[Rule, Scalars]] = {}
        self.of_leaf: list[Scalars] = []
        self.keys: list[tuple[bool, bool]] = []

    def entry(self, i: int, leaf: Leaf) -> ParamEntry:
        """The entry of the next leaf; `group` is whether it decays."""
        decays = self.config.decays[i] if self.config.decays else True
        routed = self.rule.route(leaf)
        key = decays, routed is self.rule
        if key not in self.routes:
            routed = routed if decays else routed.replace(weight_decay=0.0)
            self.routes[key] = routed, {**routed.scalars(SCALARS, self.t), SCALE: self.scale}
        routed, _ = self.routes[key]
        self.keys.append(key)
        self.of_leaf.append(routed.leaf_coefficients(leaf))
        return param_entry(i, routed, leaf, group=int(decays), scaled=self.config.scaled, call=self.config.call)

    def key(self, i: int) -> Hashable:
        """Equal for leaves that have all coefficients in common."""
        return (self.keys[i], *((n, _identity(value)) for n, value in self.of_leaf[i].items()))

    def row(self, i: int, program: Program, dtype: str) -> Row:
        """The coefficients of a leaf, rounded to the dtype of the arithmetic."""
        scalars = {**self.routes[self.keys[i]][1], **self.of_leaf[i]}
        return {n: number(scalars[n], dtype) for n in program.scalars}


def gather(
    config: StepConfig, rule: Rule, t: Number, leaves: Sequence[LeafArrays], scale: Number | None
) -> list[tuple[LeafGroup, list[Row]]]:
    """The leaves in groups, and the rows of coefficients of each group, which may be traced."""
    coefficients = Coefficients(config, rule, t, scale)
    entries = [coefficients.entry(i, config.leaf(i, arrays)) for i, arrays in enumerate(leaves)]
    dtypes = [{n: str(x.dtype) for n, x in arrays.items()} for arrays in leaves]
    groups = []
    for members in grouped(entries, lambda e: (e.program, *dtypes[e.index].items())).values():
        first, places = members[0], [e.index for e in members]
        compute = jnp.promote_types(first.leaf.dtype, jnp.float32).name
        make = functools.partial(_row, coefficients, places, first.program, compute)
        rows, index = coefficient_rows([coefficients.key(i) for i in places], make)
        axes, shapes = mapped_axes(config, first.program), [e.leaf.shape for e in members]
        group = LeafGroup(first.program, dtypes[first.index], compute, axes, places, shapes, index)
        groups.append((group, rows))
    return groups


def _row(coefficients: Coefficients, places: Sequence[int], program: Program, dtype: str, member: int) -> Row:
    return coefficients.row(places[member], program, dtype)


def mapped_axes(config: StepConfig, program: Program) -> AxisName:
    """The axes over which the sums of this program go; whole rows, columns and matrices cannot be put together so."""
    extents = {n.extent for n in program.nodes if n.reduces} - {Extent.TENSOR, Extent.MODEL}
    if config.axis_name is not None and extents:
        raise bad_value(
            config.call, "axis_name", "must be None for a rule of rows, columns or matrices", config.axis_name,
            "Step such parameters under `jit` with a sharding, where XLA completes the sums.",
        )  # fmt: skip
    return config.axis_name if program.levels else None


def _identity(value: object) -> Hashable:
    """Equal for equal plain values, and for one and the same of any other."""
    return value if is_number(value) or isinstance(value, (str, bool, type(None))) else id(value)
