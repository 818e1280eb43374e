"""The plan of one step: what is fixed before it (`StepConfig`), and its leaves in groups of one program (`LeafGroup`).

A plan is made while JAX traces a step. It holds shapes, dtypes and programs, and no array.
"""

from __future__ import annotations

import functools
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

import jax.numpy as jnp

from scirs2_adapters.adapters._xla.coded import storages
from scirs2_adapters.adapters._xla.groups import LeafGroup
from scirs2_adapters.adapters._xla.ops import SCALARS, Array, AxisName, LeafArrays, Leaves, Number, Row, number, real
from scirs2_adapters.core.errors import bad_value
from scirs2_adapters.core.fields import is_number
from scirs2_adapters.core.formats import DITHER
from scirs2_adapters.core.matrix import INPUTS_FIRST, Matrix
from scirs2_adapters.core.ops import Scalars
from scirs2_adapters.core.program.folded import specialized
from scirs2_adapters.core.program.recorded import Program
from scirs2_adapters.core.rounding import ERROR_BITS, ROUNDING_ERROR
from scirs2_adapters.core.rule import Rule
from scirs2_adapters.core.slots import Extent, Leaf
from scirs2_adapters.core.step.plan import ParamEntry, coefficient_rows, grouped, param_entry

from ..argument_names import argument_names, factory_name


@dataclass(frozen=True, eq=False)
class StepConfig:
    """All that a step depends on besides arrays: the static argument of the compiled step, made by `step_config`.

    `emit` is "p" for new parameters or "delta" for what to add to them. `negative` and `sparse` are the slots that a
    state stores so. `names`, `matrices` and `decays` have an entry for each leaf, or none where no leaf has a name,
    none has dimension numbers, or all decay.
    """

    rule: Rule
    emit: str
    kernel: str
    negative: frozenset[str]
    sparse: frozenset[str]
    scaled: bool
    axis_name: AxisName
    names: tuple[str, ...] = ()
    matrices: tuple[Matrix | None, ...] = ()
    decays: tuple[bool, ...] = ()

    @property
    def call(self) -> str:
        """What errors call the optimizer."""
        return factory_name(self.rule.name)

    def spell(self, field: str) -> str:
        """A field as the user of optax knows it."""
        return argument_names(type(self.rule)).spell(field, self.rule.fields)

    def leaf(self, i: int, arrays: LeafArrays) -> Leaf:
        """Leaf `i` as a rule sees it."""
        name, matrix = self.names[i] if self.names else "", self.matrices[i] if self.matrices else None
        return leaf_of(arrays["p"], name, matrix, arrays)


#: Equal configurations are one object: JAX compares it by identity when it looks for the compiled step.
step_config = functools.lru_cache(maxsize=4096)(StepConfig)


def leaf_of(p: Array, name: str, matrix: Matrix | None = None, arrays: LeafArrays | None = None) -> Leaf:
    """A parameter as a rule sees it, with the slots that it has. Kernels lie as in Flax and optax."""
    slots, error = frozenset(arrays or ()) - {"p", "g"}, (arrays or {}).get(ROUNDING_ERROR)
    bits = 0 if error is None else ERROR_BITS[error.dtype.name]
    return Leaf(p.shape, real(p.dtype), name, INPUTS_FIRST, matrix, slots, jnp.iscomplexobj(p), bits)


#: A group of leaves and its rows of coefficients, which may be traced.
Part = tuple[LeafGroup, list[Row]]


def gather(config: StepConfig, rule: Rule, t: Number, leaves: Leaves, numbers: Scalars) -> list[Part]:
    """The leaves in groups, each with its rows of coefficients; `numbers` are coefficients that no rule makes."""
    entries, coefficients, keys = _entries(config, rule, t, leaves, numbers)
    dtypes = list(map(storages, leaves))
    parts, formulas = [], _formulas(entries, coefficients)
    for members in grouped(entries, lambda e: (e.program, *dtypes[e.index].items())).values():
        program, places = members[0].program, [e.index for e in members]
        compute = jnp.promote_types(members[0].leaf.dtype, jnp.float32).name
        of_members = [coefficients[i] for i in places]
        scalars, index = coefficient_rows([keys[i] for i in places], of_members.__getitem__)
        axes, shapes = _mapped_axes(config, program), [e.leaf.shape for e in members]
        kept = dtypes[places[0]]
        emit = "p" if "+" in kept["p"] else config.emit
        group = LeafGroup(program, formulas[program], kept, compute, axes, emit, places, shapes, index)
        dither = [DITHER] if group.companions else []
        names = dict.fromkeys((*program.scalars, *group.formula.scalars, *dither))
        parts.append((group, [_row(names, values, compute) for values in scalars]))
    return parts


def _formulas(entries: Sequence[ParamEntry], coefficients: Sequence[Scalars]) -> dict[Program, Program]:
    """What is traced of each program: one formula for all of its leaves, over which its sums go."""
    by_program = grouped(entries, lambda e: e.program).items()
    return {program: specialized(program, [coefficients[e.index] for e in members]) for program, members in by_program}


def _row(names: Iterable[str], scalars: Scalars, dtype: str) -> Row:
    """These coefficients, rounded to the dtype of the arithmetic."""
    return {n: number(scalars[n], dtype) for n in names}


def _entries(
    config: StepConfig, rule: Rule, t: Number, leaves: Leaves, numbers: Scalars
) -> tuple[Sequence[ParamEntry], Sequence[Scalars], Sequence[Hashable]]:
    """The entry and the coefficients of each leaf, and a key that is equal for those with all coefficients in common.
    Coefficients that do not depend on the leaf are computed once for each rule, with decay and without.
    """
    routes: dict[tuple[bool, bool], tuple[Rule, Scalars]] = {}
    entries, coefficients, keys = [], [], []
    for i, arrays in enumerate(leaves):
        leaf, decays = config.leaf(i, arrays), not config.decays or config.decays[i]
        routed = rule.route(leaf)
        route = decays, routed is rule
        if route not in routes:
            routed = routed if decays else routed.replace(weight_decay=0.0)
            routes[route] = routed, {**routed.scalars(SCALARS, t), **numbers}
        routed, shared = routes[route]
        entries.append(param_entry(i, routed, leaf, scaled=config.scaled, call=config.call, spell=config.spell))
        leaf_scalars = routed.leaf_coefficients(entries[-1].leaf)
        coefficients.append({**shared, **leaf_scalars})
        keys.append((route, *((n, _identity(value)) for n, value in leaf_scalars.items())))
    return entries, coefficients, keys


def _mapped_axes(config: StepConfig, program: Program) -> AxisName:
    """The axes over which the sums of this program go; whole rows, columns and matrices cannot be put together so."""
    extents = {n.extent for n in program.nodes if n.reduces} - {Extent.TENSOR, Extent.MODEL}
    if config.axis_name is not None and extents:
        worded = "must be None for a rule of rows, columns or matrices"
        way_out = "Step such parameters under `jit` with a sharding, where XLA completes the sums."
        raise bad_value(config.call, "axis_name", worded, config.axis_name, way_out)
    return config.axis_name if program.levels else None


def _identity(value: object) -> Hashable:
    """Equal for equal plain values, and for one and the same of any other."""
    return value if is_number(value) or isinstance(value, (str, bool, type(None))) else id(value)
