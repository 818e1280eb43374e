"""State in and out by name: optax's classes in optax's places where optax has the optimizer, else `RuleState`.

Made by tree maps alone, so that abstract parameters, shardings, masks and placeholders all pass through; the tree
depends on which arguments are set, and never on their values or on the path.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import optax

from scirs2_adapters.adapters._xla import coded
from scirs2_adapters.adapters._xla.ops import Array, Path, Tree
from scirs2_adapters.core.fields import is_traced
from scirs2_adapters.core.formats import BLOCK_DTYPES, blocks, companion
from scirs2_adapters.core.matrix import INPUTS_FIRST, OUTPUTS_FIRST
from scirs2_adapters.core.rounding import ROUNDING_ERROR, ROUNDING_SEED
from scirs2_adapters.core.rule import Rule
from scirs2_adapters.core.slots import Extent, Leaf, Slot
from scirs2_adapters.core.step.options import HALVES, StateDtype, param_storage

from .optax_states import COUNTERS, EMPTY, Place, chain_of

COUNT = "count"
#: The dtype of a slot of this leaf, whose parameter has this dtype.
DtypeOf = Callable[[Slot, Leaf, np.dtype], np.dtype | str]
#: The leaf that a rule sees, from a parameter and its path.
LeafOf = Callable[[Path, Tree], Leaf]


class RuleState(NamedTuple):
    """The memory of an optimizer that optax does not have: trees like the parameters, and numbers for the whole model,
    by name.

    Where a parameter has no such slot the tree holds `optax.MaskedNode`.
    """

    count: jax.Array  # type: ignore[assignment]  # a tuple has a method of this name; optax's states have the field
    slots: dict[str, Tree]
    model: dict[str, jax.Array]


class CodedState(NamedTuple):
    """A state some of whose arrays are 8-bit codes, or whose parameters have rounding errors: the state itself, and
    `companions`, trees like the parameters by name, "mu_scale" for one: the scales of blocks of 256 numbers, as they
    lie in memory, and `rounding_error` or `rounding_seed`. An array of one zero stands where a parameter needs none.
    """

    count: jax.Array  # type: ignore[assignment]
    companions: dict[str, Tree]
    inner_state: Tree


@functools.cache
def exportable(cls: type) -> None:
    """Makes a class of states known to `jax.export`, which else writes no program that takes or returns one.

    When the first state of it is made and not earlier: who has registered optax's classes is not told of a second time.
    """
    with contextlib.suppress(ValueError):
        name = f"{cls.__module__}.{cls.__qualname__}"
        jax.export.register_namedtuple_serialization(cls, serialized_name=name)


class Memory(NamedTuple):
    """A state taken apart."""

    counts: tuple[Array, ...]
    slots: dict[str, Tree]
    model: dict[str, Array]
    companions: dict[str, Tree]


def possible_slots(rule: Rule) -> dict[str, Slot]:
    """Every slot that some parameter may have under this rule, whatever the parameter: asked of one of each kind, and
    of one that may be in blocks if there is any. Traced numbers are left out, for what another rule makes of them would
    be computed.
    """
    traced = {k: f.default for k, f in rule.fields.items() if is_traced(getattr(rule, k)) and not f.structural}
    rule = rule.replace_unchecked(traced)
    kinds = itertools.product(range(7), (1, 1 << 62), (OUTPUTS_FIRST, INPUTS_FIRST))
    leaves = [Leaf((length,) * axes, layout=layout) for axes, length, layout in kinds]
    slots = [s for leaf in leaves for s in rule.route(leaf).slots(leaf)]
    return {s.name: s for s in slots} | {s.name: s for s in slots if s.may_be_blocks}


@dataclass(frozen=True)
class Layout:
    """Where the memory of one rule lies. `places` is empty for a `RuleState`; a masked place is one level further
    down. `companions` has the names in a `CodedState` by the core's, and is empty for a state that is none;
    `error_dtype` is that of rounding errors.
    """

    slots: tuple[str, ...]
    model: tuple[str, ...]
    places: tuple[Place, ...] = ()
    masked: int = -1
    alias: tuple[tuple[str, str], ...] = ()
    bare: bool = False
    companions: Mapping[str, str] = field(default_factory=dict)
    error_dtype: str = ""

    @functools.cached_property
    def negative(self) -> frozenset[str]:
        """The slots whose negative is stored."""
        return frozenset(s[1:] for place in self.places for s in place.fields.values() if s[0] == "-")

    @functools.cached_property
    def sparse(self) -> frozenset[str]:
        """The slots that are stored as a `sparse` place has them."""
        return frozenset(s for place in self.places if place.sparse for s in place.fields.values()) - {COUNT}

    def build(self, memory: Memory) -> Tree:
        """The state that holds this memory."""
        if not self.companions:
            return self._build(memory)
        exportable(CodedState)
        companions = {word: memory.companions[n] for n, word in self.companions.items()}
        return CodedState(memory.counts[-1], companions, self._build(memory._replace(counts=memory.counts[:-1])))

    def read(self, state: Tree) -> Memory:
        """The memory in a state."""
        if not self.companions:
            return self._read(state)
        memory = self._read(state.inner_state)
        companions = {n: state.companions[word] for n, word in self.companions.items()}
        return memory._replace(counts=(*memory.counts, state.count), companions=companions)

    def _build(self, memory: Memory) -> Tree:
        for cls in (RuleState, optax.MaskedState, optax.MaskedNode):
            exportable(cls)
        if not self.places:
            return RuleState(memory.counts[0], memory.slots, memory.model)
        counts, slots, members = iter(memory.counts), {**memory.slots, **memory.model}, []
        for i, place in enumerate(self.places):
            fields: dict[str, Tree] = {}
            for f, name in place.fields.items():
                fields[f] = next(counts) if name == COUNT else slots[name.removeprefix("-")]
            member = place.cls(**fields)
            exportable(member.__class__)
            members.append(optax.MaskedState(member) if i == self.masked else member)
        return members[0] if self.bare else tuple(members)

    def _read(self, state: Tree) -> Memory:
        if not self.places:
            return Memory((state.count,), dict(state.slots), dict(state.model), {})
        members = (state,) if self.bare else state
        if not isinstance(members, tuple) or len(members) != len(self.places):
            needed = f"The state must have {len(self.places)} members, as `init` makes it"
            raise ValueError(f"{needed}. Received: {type(state).__name__}.")
        counts, arrays = [], {}
        for i, (place, member) in enumerate(zip(self.places, members, strict=True)):
            inner = member.inner_state if i == self.masked else member
            for f, name in place.fields.items():
                if name == COUNT:
                    counts.append(getattr(inner, f))
                else:
                    arrays[name.removeprefix("-")] = getattr(inner, f)
        for name, same in self.alias:
            arrays[name] = arrays[same]
        return Memory(tuple(counts), {n: arrays[n] for n in self.slots}, {n: arrays[n] for n in self.model}, {})

    def with_companions(self, rule: Rule, state_dtype: StateDtype, rounding: str) -> Layout:
        """The layout with a place for the companions of slots that may be kept in 8 bits, and for rounding errors."""
        words = {s.removeprefix("-"): f for place in self.places for f, s in place.fields.items()}
        by_name = isinstance(state_dtype, Mapping)
        companions: dict[str, str] = {}
        for s in possible_slots(rule).values():
            asked = state_dtype.get(s.name) if isinstance(state_dtype, Mapping) else state_dtype
            if asked == "int8" and s.may_be_blocks and (by_name or s.initial != "parameter"):
                companions[f"{s.name}_scale"] = f"{words.get(s.name, s.name)}_scale"
        storage = param_storage(Leaf((), HALVES[0]), rounding, state_dtype)
        if other := companion("p", storage):
            companions[other] = other
        return replace(self, companions=companions, error_dtype=storage.partition("+")[2])


def layout(rule: Rule, explicit: Mapping[str, object], scheduled: frozenset[str], masked: bool) -> Layout:
    """The layout of a rule: optax's if it has room for every slot. `explicit` are the arguments that are set."""
    known = possible_slots(rule)
    slots = tuple(n for n, s in known.items() if s.extent is not Extent.MODEL)
    model = tuple(s.name for s in rule.model_slots())
    chain = chain_of(rule.name, rule.match)
    if chain is None or any(name in explicit for name in chain.unless):
        return Layout(slots, model)
    places, masked_place = list[Place](), -1
    for place in chain.places:
        if not isinstance(place, str):
            asked = tuple(p for p in place if not p.present_if or getattr(rule, p.present_if))
            places += _largest(asked, {*slots, *model})
            continue
        argument, counter = COUNTERS[place.removesuffix("?")]
        if place.endswith("?") and argument not in explicit:
            continue
        masked_place = len(places) if masked and argument == "weight_decay" else masked_place
        places.append(counter if argument in scheduled else EMPTY)
    covered = {s.removeprefix("-") for p in places for s in p.fields.values()} | set(chain.alias)
    if not {*slots, *model, *[COUNT for _ in scheduled]} <= covered:
        return Layout(slots, model)
    slots += tuple(s for p in places if p.sparse for s in p.fields.values() if s not in (*slots, COUNT))
    return Layout(slots, model, tuple(places), masked_place, tuple(chain.alias.items()), chain.bare)


def _largest(alternatives: tuple[Place, ...], known: set[str]) -> list[Place]:
    """The largest place that these slots fill, if there is one. A sparse one may have holes."""
    named = [{s.removeprefix("-") for s in p.fields.values()} - {COUNT} for p in alternatives]
    fit = [p for p, slots in zip(alternatives, named, strict=True) if p.sparse or slots <= known]
    return [max(fit, key=lambda p: len(p.fields))] if fit else []


def initial(layout: Layout, rule: Rule, params: Tree, dtype_of: DtypeOf, leaf_of: LeafOf) -> Tree:
    """The state before the first step."""
    known, seeds = possible_slots(rule), itertools.count()

    def first(name: str, path: Path, p: Tree) -> Tree:
        """A slot of one leaf before its first step."""
        leaf, dtype = leaf_of(path, p), jnp.result_type(p)
        routed = rule.route(leaf)
        slot = next((s for s in routed.slots(leaf) if s.name == name), None)
        if slot is None:
            return jnp.zeros((1,), dtype) if name in layout.sparse else optax.MaskedNode()
        array = _first(slot, slot.initial_value(routed), p, dtype_of(slot, leaf, dtype))
        return stored(slot, array) if name in layout.sparse else array

    def first_companion(name: str, path: Path, p: Tree) -> Array:
        """The companion of a slot of one leaf, or of the parameter."""
        if name == ROUNDING_SEED:
            return jnp.asarray(next(seeds), jnp.int32)
        leaf, none = leaf_of(path, p), jnp.zeros((1,), jnp.float32)
        if name == ROUNDING_ERROR:
            return jnp.zeros_like(p if leaf.dtype in HALVES else none, dtype=layout.error_dtype)
        routed = rule.route(leaf)
        slot = next((s for s in routed.slots(leaf) if f"{s.name}_scale" == name), None)
        dtype = "" if slot is None else str(dtype_of(slot, leaf, jnp.result_type(p)))
        return _codes(slot, slot.initial_value(routed), p, dtype)[1] if slot and dtype in BLOCK_DTYPES else none

    tree_map = jax.tree_util.tree_map_with_path
    slots = {name: tree_map(functools.partial(first, name), params) for name in layout.slots}
    model = {n: jnp.asarray(known[n].initial_value(rule), float) for n in layout.model}
    companions = {name: tree_map(functools.partial(first_companion, name), params) for name in layout.companions}
    counters = sum(s == COUNT for place in layout.places for s in place.fields.values()) if layout.places else 1
    counts = tuple(jnp.zeros((), jnp.int32) for _ in range(counters + bool(companions)))
    return layout.build(Memory(counts, slots, model, companions))


def stored(slot: Slot, x: Array) -> Array:
    """A slot as a sparse place has it: without the axis that a row or a column lacks."""
    return jnp.squeeze(x, slot.axis) if slot.axis else x


def dense(slot: Slot, x: Array) -> Array:
    """The way back: a slot as formulas have it."""
    return jnp.expand_dims(x, slot.axis) if slot.axis else x


def _first(slot: Slot, value: float, p: Tree, dtype: np.dtype | str) -> Array:
    """A slot before the first step. It has new memory even as a copy, or donation would give the memory away twice."""
    shape = slot.shape(jnp.shape(p))
    if str(dtype) in BLOCK_DTYPES:
        return _codes(slot, value, p, str(dtype))[0]
    if slot.side or (slot.extent is not Extent.FULL and not shape):
        return jnp.full(shape, value, dtype)
    if slot.extent is not Extent.FULL:  # like a sum that is not carried out: it knows how its result would be sharded
        axes = [i for i, size in enumerate(shape) if size != jnp.shape(p)[i]]
        return jnp.full_like(jax.eval_shape(lambda x: jnp.sum(x, axes, keepdims=True), p), value, dtype=dtype)
    if slot.initial != "parameter" or isinstance(p, jax.ShapeDtypeStruct):
        return jnp.full_like(p, value, dtype=dtype)
    return jnp.array(p, dtype=dtype, copy=True)


def _codes(slot: Slot, value: float, p: Tree, dtype: str) -> tuple[Array, Array]:
    """Codes and scales of a slot before the first step."""
    half = jnp.float32(0.5)
    if slot.initial == "parameter" and not isinstance(p, jax.ShapeDtypeStruct):
        return coded.store(dtype, jnp.asarray(p, jnp.float32), half, half)
    code, scale = coded.store(dtype, jnp.full((1,), value, jnp.float32), half, half)
    scales = jnp.full_like(p, scale[0], dtype=jnp.float32, shape=(blocks(p.size),))
    return jnp.full_like(p, code[0], dtype=dtype), scales
