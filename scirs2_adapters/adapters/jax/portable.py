"""The state of an optax transformation, out and in: ours or optax's own, wherever in a tree of states it stands.

Members of the state are known by their classes, as `optax_states` lists them for each optimizer, so that chains, masks,
`inject_hyperparams`, `multi_transform` and `apply_if_finite` around them need no rule here. Parameters go by the paths
of the trees in the state. A state is a value: loading makes a new one.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain as chained
from typing import cast

import jax
import jax.numpy as jnp
import numpy as np
import optax

from scirs2_adapters.adapters._xla.ops import Array as JaxArray
from scirs2_adapters.adapters._xla.ops import Tree
from scirs2_adapters.core.errors import bad_type, bad_value
from scirs2_adapters.core.formats import BLOCK_DTYPES
from scirs2_adapters.core.numpy_state import same_memory
from scirs2_adapters.core.portable.counts import one_count
from scirs2_adapters.core.portable.file import Array
from scirs2_adapters.core.portable.fit import Asked, Report, fitted
from scirs2_adapters.core.portable.state import ParameterState, State, described
from scirs2_adapters.core.registry import get
from scirs2_adapters.core.rounding import ROUNDING_ERROR, ROUNDING_SEED
from scirs2_adapters.core.rule import Rule

from .optax_states import COUNTERS, Place, chain_of
from .state import COUNT, CodedState, RuleState
from .transform.fused import seen_through
from .transform.leaves import name_of
from .transform.update import Skipping

#: The classes of members, with what stands in their fields.
Members = dict[type, Mapping[str, str]]
#: From the name of a part of the state, and the part (a slot's tree, a number or a count), to what replaces it.
Each = Callable[[str, Tree], Tree]
SKIPPED = "skipped_steps"
_INJECTED = tuple(
    getattr(optax, name)
    for name in ("InjectHyperparamsState", "InjectStatefulHyperparamsState")
    if hasattr(optax, name)
)


def read(optimizer: tuple[Tree, ...], rule: Rule | str | None = None, call: str = "state.save") -> State:
    """The state; `optimizer` is `(tx, state)`, or a state alone, whose optimizer `rule` names."""
    tree, known, ours = _taken_apart(call, optimizer, rule)
    parts = _parts_of(call, tree, known)
    steps = max(parts.counts) if parts.counts else None
    parameters = {name: _parameter(slots, steps) for name, slots in parts.slots.items()}
    state = described(
        known, parameters, numbers=parts.numbers, step_count=steps or 0, skipped_steps=parts.skipped,
        source={"framework": "jax", "jax": jax.__version__, "optax": optax.__version__},
    )  # fmt: skip
    return state if ours else replace(state, config={})  # optax does not say its hyperparameters


def load(
    optimizer: tuple[Tree, ...], saved: State, asked: Asked, rule: Rule | str | None = None
) -> tuple[Tree, Report]:
    """The state with what was saved in it, and the report."""
    tree, known, _ = _taken_apart(asked.call, optimizer, rule)
    here = read(optimizer, rule, asked.call)
    state, report = fitted(asked, saved, here, known)
    steps = one_count(asked, state, here.step_count, report)

    def each(name: str, x: Tree) -> Tree:
        if name == COUNT:
            return _like(x, np.asarray(steps))
        if name == SKIPPED:
            return _like(x, np.asarray(state.skipped_steps))
        if name in state.numbers:
            return _like(x, np.asarray(state.numbers[name]))
        return jax.tree_util.tree_map_with_path(functools.partial(_put, state, name), x)

    return _visited(tree, _members(asked.call, known), each), report


def _put(state: State, slot: str, path: tuple[object, ...], x: JaxArray) -> JaxArray:
    parameter = state.parameters.get(name_of(path))
    new = parameter.slots.get(slot) if parameter else None
    return x if new is None else _like(x, _numbers(new, x))


def _taken_apart(call: str, optimizer: tuple[Tree, ...], rule: Rule | str | None) -> tuple[Tree, Rule, bool]:
    """The state, the rule, and whether it is a transformation of ours, whose hyperparameters are known."""
    tx = None
    if optimizer and isinstance(optimizer[0], optax.GradientTransformation):
        if len(optimizer) != 2:
            raise bad_type(call, "optimizer", "must be `(tx, state)` or a state", optimizer)
        tx, optimizer = optimizer[0], optimizer[1]
    inside = seen_through(tx.update, optimizer) if tx else None
    if inside is not None:
        update = inside[1].inner if isinstance(inside[1], Skipping) else inside[1]
        return optimizer, update.rule.replace_unchecked(update.hyper.traced), True
    if isinstance(rule, Rule):
        return optimizer, rule, True
    if not isinstance(rule, str):
        worded = "must be the name of the optimizer, or a rule such as AdamW(), where `tx` is not one of scirs2"
        raise bad_type(call, "rule", worded, rule, "Or give `(tx, state)` with a `tx` of scirs2.")
    return optimizer, _optax_rule(call, rule, optimizer, tx is not None), False


def _optax_rule(call: str, name: str, tree: Tree, theirs: bool) -> Rule:
    """The rule of this name whose formula is optax's, where the state is one of optax's classes."""
    rule = get(name)()
    if "optax" not in type(rule).matches or isinstance(tree, RuleState):
        return rule
    matched = type(rule)(match="optax")
    if not theirs and not same_memory(rule, matched):
        worded = "must be a rule, for the state of optax's own and of ours look alike and differ in meaning"
        raise bad_value(call, "rule", worded, name, f'Give `get({name!r})(match="optax")` or `get({name!r})()`.')
    return matched


def _members(call: str, rule: Rule) -> Members:
    """The classes of the members of this optimizer's state, and what their fields hold."""
    return {_class(place): place.fields for place in _places(call, rule) if place.fields}


def fields_of(call: str, rule: Rule) -> list[Mapping[str, str]]:
    """What the fields of the members of this optimizer's state hold."""
    return [place.fields for place in _places(call, rule) if place.fields]


def _places(call: str, rule: Rule) -> list[Place]:
    chain = chain_of(rule.name, rule.match)
    alternatives = chained.from_iterable(p for p in chain.places if not isinstance(p, str)) if chain else ()
    places = [*alternatives, *(place for _, place in COUNTERS.values())]
    if any(place.sparse for place in places):
        worded = "must keep rows and columns as scirs2 does; optax's factored state does not say which axes they are of"
        raise bad_value(call, "optimizer", worded, f"match={rule.match!r}", "Use `match=None`.")
    return places


def _class(place: Place) -> type:
    """The class of a member; of one without a public name, that of what optax makes."""
    if isinstance(place.cls, functools.partial):
        return type(place.cls(**dict.fromkeys(place.fields)))
    return cast(type, place.cls)


def _visited(tree: Tree, members: Members, each: Each) -> Tree:
    """The tree with every part of the optimizer's state replaced by what `each` makes of it."""
    around = (CodedState, RuleState, optax.ApplyIfFiniteState, *_INJECTED)

    def change(x: Tree) -> Tree:
        if isinstance(x, RuleState):
            slots = {name: each(name, part) for name, part in x.slots.items()}
            return RuleState(
                each(COUNT, x.count), slots, {name: each(name, number) for name, number in x.model.items()}
            )
        if isinstance(x, CodedState):
            others = {word: each(_core(word, members), part) for word, part in x.companions.items()}
            return CodedState(each(COUNT, x.count), others, inner(x.inner_state))
        if isinstance(x, optax.ApplyIfFiniteState):
            return x._replace(total_notfinite=each(SKIPPED, x.total_notfinite), inner_state=inner(x.inner_state))
        if isinstance(x, _INJECTED):
            return x._replace(count=each(COUNT, x.count), inner_state=inner(x.inner_state))
        fields = members.get(type(x))
        return (
            x if fields is None else x._replace(**{f: _signed(each, name, getattr(x, f)) for f, name in fields.items()})
        )

    inner = functools.partial(jax.tree.map, change, is_leaf=lambda x: isinstance(x, (*around, *members)))
    return inner(tree)


def _signed(each: Each, name: str, x: Tree) -> Tree:
    """A field whose name begins with "-" holds the negative of the slot."""
    if name[0] != "-":
        return each(name, x)
    negative = functools.partial(jax.tree.map, lambda x: -x)
    return negative(each(name[1:], negative(x)))


def _core(word: str, members: Members) -> str:
    """The core's name of a companion: "exp_avg_scale" of "mu_scale"."""
    slots = {f: name for fields in members.values() for f, name in fields.items()}
    base = word.removesuffix("_scale")
    return word if base == word else f"{slots.get(base, base)}_scale"


@dataclass
class _Parts:
    """The parts of a state."""

    counts: list[int] = field(default_factory=list)
    skipped: int = 0
    numbers: dict[str, float] = field(default_factory=dict)
    slots: dict[str, dict[str, JaxArray]] = field(default_factory=dict)


def _parts_of(call: str, tree: Tree, rule: Rule) -> _Parts:
    """The parts of the state of an optimizer of this rule in a tree."""
    parts, model, seen = _Parts(), {s.name for s in rule.model_slots()}, list[str]()

    def each(name: str, x: Tree) -> Tree:
        seen.append(name)
        if name == COUNT:
            parts.counts.append(int(x))
        elif name == SKIPPED:
            parts.skipped = int(x)
        elif name in model:
            parts.numbers[name] = float(x)
        else:
            for path, leaf in jax.tree_util.tree_flatten_with_path(x)[0]:
                slots = parts.slots.setdefault(name_of(path), {})
                if name in slots:
                    worded = "must have one memory for each parameter"
                    raise bad_value(call, "optimizer", worded, f"two {name} of {name_of(path)}")
                slots[name] = leaf
        return x

    _visited(tree, _members(call, rule), each)
    always = {s.name for s in rule.all_slots() if s.present_if is None} - model
    if always and not {s.name for each_rule in (rule, rule.other()) for s in each_rule.all_slots()} & {*seen}:
        raise bad_type(call, "optimizer", f"must hold the state of {rule.name}", tree)
    alias = chain.alias if (chain := chain_of(rule.name, rule.match)) else {}
    parts.numbers |= {n: parts.numbers[same] for n, same in alias.items() if same in parts.numbers}
    return parts


def _parameter(slots: Mapping[str, JaxArray], steps: int | None) -> ParameterState:
    """The slots of one parameter, without what stands where there is none."""
    largest = max((np.shape(x) for name, x in slots.items() if not name.endswith("_scale")), key=len, default=())
    arrays = {name: x for name, x in slots.items() if _real(name, x, slots, largest)}
    complex_ = any(jnp.iscomplexobj(x) for x in arrays.values())
    return ParameterState({name: array_of(x) for name, x in arrays.items()}, steps, complex=complex_)


def _real(name: str, x: JaxArray, slots: Mapping[str, JaxArray], shape: tuple[int, ...]) -> bool:
    """Whether a companion is one, and not the zero of a parameter that needs none."""
    if name == ROUNDING_ERROR:
        return bool(np.shape(x) == shape)
    base = name.removesuffix("_scale")
    return name in (base, ROUNDING_SEED) or (base in slots and str(slots[base].dtype) in BLOCK_DTYPES)


def array_of(x: JaxArray) -> Array:
    """An array of JAX, whose numbers are read when they are asked for."""
    dtype, shape = np.dtype(x.dtype), tuple(np.shape(x))
    if np.issubdtype(dtype, np.complexfloating):
        return Array(f"float{4 * dtype.itemsize}", (*shape, 2), functools.partial(_read, x))
    return Array(dtype.name, shape, functools.partial(_read, x))


def _read(x: JaxArray) -> np.ndarray:
    numbers = np.asarray(x)
    if np.iscomplexobj(numbers):
        return np.stack([numbers.real, numbers.imag], axis=-1)
    return numbers.view(np.uint16) if numbers.dtype.name == "bfloat16" else numbers


def _numbers(new: Array, like: JaxArray) -> np.ndarray:
    numbers = np.asarray(new.read())
    if jnp.iscomplexobj(like):
        return numbers[..., 0] + 1j * numbers[..., 1]
    return numbers.view(jnp.bfloat16) if new.dtype == "bfloat16" else numbers


def _like(x: JaxArray, numbers: np.ndarray) -> JaxArray:
    """These numbers as an array of this dtype, of numpy or JAX and where the old one was put."""
    dtype = np.dtype(x.dtype) if hasattr(x, "dtype") else np.asarray(x).dtype
    new = np.array(numbers, dtype=dtype).reshape(np.shape(x))
    if not isinstance(x, jax.Array):
        return new
    return jax.device_put(new, x.sharding) if getattr(x, "committed", False) else jnp.asarray(new)
