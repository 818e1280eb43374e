"""optax transformations made from rules, and `step`.

A factory keeps the numbers it is given, which may be traced, and builds nothing on a device; `inject_hyperparams`
calls one inside every update. No `from __future__ import annotations`: wrappers read the annotation of a learning rate
as an object.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from scirs2_adapters.core.document import document
from scirs2_adapters.core.errors import bad_type, bad_value
from scirs2_adapters.core.fields import is_number, is_traced
from scirs2_adapters.core.options import StateDtype, check_path, check_state_dtype, slot_dtype
from scirs2_adapters.core.program import record
from scirs2_adapters.core.registry import get
from scirs2_adapters.core.rule import Rule
from scirs2_adapters.core.slots import Leaf, Slot

from .dialect import DTYPES, dialect, given_by_name, signature
from .paths import advance
from .state import Layout, Memory, initial, layout, possible_slots
from .waist import Job, real

Tree = Any
#: optax's own words, which callers may look for; it has no public name.
NO_PARAMS = (
    "You are using a transformation that requires the current value of parameters, "
    "but you are not passing `params` when calling `update`."
)


@dataclasses.dataclass(frozen=True)
class Update:
    """One transformation: a rule with numbers, where its memory lies, and the two forms of its step.

    `hyper` are the values that are arrays or traced, kept apart because equal rules share their compiled steps.
    """

    rule: Rule
    hyper: Mapping[str, Any]
    schedules: Mapping[str, Callable[[Any], Any]]
    layout: Layout
    mask: Any
    kernel: str
    state_dtype: StateDtype
    call: str

    def __hash__(self) -> int:
        return id(self)

    def init(self, params: Tree) -> Tree:
        """The state before the first step."""
        return initial(self.layout, self.rule.replace(**self.hyper), params, self._dtype, self._leaf)

    def __call__(self, updates: Tree, state: Tree, params: Tree = None, **extra: Any) -> tuple[Tree, Tree]:
        """What to add to the parameters, and the new state."""
        del extra
        return self._advance("delta", updates, state, params)

    def step(self, grads: Tree, state: Tree, params: Tree) -> tuple[Tree, Tree]:
        """The new parameters and state in one pass over memory."""
        if params is None and jax.tree.leaves(grads):
            raise ValueError(NO_PARAMS)
        return self._advance("p", grads, state, params)

    def _advance(self, emit: str, grads: Tree, state: Tree, params: Tree) -> tuple[Tree, Tree]:
        memory = self.layout.read(state)
        paths, tree = _flatten(grads)
        given = [g for _, g in paths]
        theirs = [None] * len(given) if params is None else tree.flatten_up_to(params)
        slots = {n: tree.flatten_up_to(x) for n, x in memory.slots.items()}
        masks = self._masks(params, grads, tree, len(given))
        moving = [i for i, g in enumerate(given) if g is not None]
        leaves = [self._arrays(paths[i][0], given[i], theirs[i], {n: x[i] for n, x in slots.items()}) for i in moving]
        names = tuple(self._leaf(paths[i][0], leaf["p"]).name for i, leaf in zip(moving, leaves, strict=True))
        decays = tuple(bool(masks[i]) for i in moving)
        job = Job(self.rule, self.call, emit, self.kernel, self.layout.negative, names, decays)
        counts, made, model = advance(job, self._numbers(memory), memory.counts, leaves, memory.model)
        out = theirs if emit == "p" else [None] * len(given)
        for i, results in zip(moving, made, strict=True):
            out[i] = results.pop(emit)
            for n, x in results.items():
                slots[n][i] = x
        new = {n: tree.unflatten(x) for n, x in slots.items()}
        return tree.unflatten(out), self.layout.build(Memory(counts, new, model))

    def _arrays(self, path: Any, g: Any, p: Any, slots: Mapping[str, Any]) -> dict[str, Any]:
        """The arrays of one leaf; zeros stand for a parameter that was not given and would only decay."""
        name = jax.tree_util.keystr(path)
        g = _array(self.call, f"updates{name}", g)
        if p is None:
            leaf = self._leaf(path, g)
            if not _only_decayed(self.rule.route(leaf), leaf):
                raise ValueError(NO_PARAMS)
            p = jnp.zeros_like(g)
        p = _array(self.call, f"params{name}", p)
        if g.shape != p.shape:
            raise bad_value(self.call, f"updates{name}", f"must have the parameter's shape {p.shape}", g)
        return {"p": p, "g": g} | {
            n: x for n, x in slots.items() if x is not None and not isinstance(x, optax.MaskedNode)
        }

    def _masks(self, params: Tree, grads: Tree, tree: Any, count: int) -> list[Any]:
        """Whether each leaf decays; a mask may be a prefix of the tree."""
        if self.mask is None:
            return [True] * count
        like = grads if params is None else params
        mask = self.mask(like) if callable(self.mask) else self.mask
        whole = jax.tree.map(lambda m, below: jax.tree.map(lambda _: m, below, is_leaf=_none), mask, like)
        return tree.flatten_up_to(whole)

    def _numbers(self, memory: Memory) -> dict[str, Any]:
        """The traced hyperparameters of this step; a schedule sees the count before it is increased."""
        count = memory.counts[-1] if memory.counts else None
        found = dict(self.hyper) | {n: schedule(count) for n, schedule in self.schedules.items()}
        return {n: _wide(x) for n, x in found.items()}

    def _leaf(self, path: Any, p: Any) -> Leaf:
        p = _array(self.call, f"params{jax.tree_util.keystr(path)}", p)
        named = type(self.rule).route is not Rule.route
        return Leaf(p.shape, real(p.dtype), jax.tree_util.keystr(path, simple=True, separator=".") if named else "")

    def _dtype(self, slot: Slot, parameter: Any) -> Any:
        if jnp.issubdtype(parameter, jnp.complexfloating):
            return parameter
        return jax.dtypes.canonicalize_dtype(slot_dtype(slot, parameter.name, self.state_dtype))


def _flatten(tree: Tree) -> tuple[list[tuple[Any, Any]], Any]:
    """Leaves with their paths, holes among them, and the structure."""
    return jax.tree_util.tree_flatten_with_path(tree, is_leaf=_none)


def _none(x: Any) -> bool:
    return x is None


def _wide(value: Any) -> jax.Array:
    """A traced number, of no less than float32: schedules and wrappers may hand it down in bfloat16."""
    value = jnp.asarray(value).reshape(())
    return value.astype(jnp.promote_types(value.dtype, jnp.float32))


def _array(call: str, argument: str, x: Any) -> Any:
    """A floating array; Python's numbers become one."""
    x = x if hasattr(x, "shape") and hasattr(x, "dtype") else jnp.asarray(x)
    if not jnp.issubdtype(x.dtype, jnp.inexact):
        raise bad_type(call, argument, "must be a floating or complex array", x)
    return x


@functools.lru_cache(maxsize=1024)
def _only_decayed(rule: Rule, leaf: Leaf) -> bool:
    """Whether nothing but a decay of 0 needs the parameter."""
    if not is_number(rule.weight_decay) or rule.weight_decay:
        return False
    program = record(rule, leaf)
    wanted = [i for name, i in program.outputs.items() if name != "p"]
    for i in program.order(wanted):
        node = program.nodes[i]
        other = [program.nodes[a].name for a in node.args if program.nodes[a].name != "p"]
        if len(other) < len(node.args) and (node.op != "mul" or other not in (["l2"], ["decay"])):
            return False
    return True


def step(tx: optax.GradientTransformation, grads: Tree, state: Tree, params: Tree, **extra: Any) -> tuple[Tree, Tree]:
    """New parameters and state: `tx.update` and `optax.apply_updates`, in one pass over memory where `tx` is one of
    ours.

    Any transformation is taken. Under `jit`, donate parameters and state and take them in the order in which you
    return them (JAX pairs them so): then both are stepped in the very memory they are in.
    """
    if isinstance(tx.update, Update):
        return tx.update.step(grads, state, params)
    updates, state = optax.with_extra_args_support(tx).update(grads, state, params, **extra)
    return optax.apply_updates(params, updates), state


def transformation(cls: type[Rule], given: Mapping[str, Any]) -> optax.GradientTransformationExtraArgs:
    """The transformation of a rule with these arguments, by optax's names."""
    call, given = cls.name, dict(given)
    kernel, match, mask = given.pop("kernel", "auto"), given.pop("match", None), given.pop("mask", None)
    state_dtype = given.pop("state_dtype", None)
    argument, slot = DTYPES.get(cls.name, ("", ""))
    first = given.pop(argument, None)
    fields, words = cls.fields_with(given.get("base")), dialect(cls)
    spelled = {words.names.get(n, n): n for n in ("learning_rate", "weight_decay")}
    schedules = {spelled[k]: given.pop(k) for k in list(given) if k in spelled and callable(given[k])}
    core = words.to_core({k: v for k, v in given.items() if k != "base"}, fields, call)
    hyper = {k: v for k, v in core.items() if is_traced(v) or (fields[k].structural and v == 0 and is_number(v))}
    hyper = {k: np.asarray(v) if is_number(v) else v for k, v in hyper.items()}
    plain = {k: tuple(v) if isinstance(v, list) else v for k, v in core.items() if k not in hyper}
    base = {"base": given["base"]} if "base" in given else {}
    rule = cls.build(base | plain, match=match, spell=lambda n: words.spell(n, fields), call=call)
    check_path(call, kernel)
    actual = rule.replace(**hyper) if hyper else rule
    place = layout(actual, {**core, **schedules}, frozenset(schedules), mask is not None)
    check_state_dtype(call, state_dtype, list(possible_slots(actual).values()))
    update = Update(rule, hyper, schedules, place, mask, kernel, _dtypes(actual, state_dtype, slot, first), call)
    return optax.GradientTransformationExtraArgs(update.init, update)


def _dtypes(rule: Rule, state_dtype: StateDtype, slot: str, first: Any) -> StateDtype:
    """`state_dtype` with optax's argument for one slot put in."""
    if first is None:
        return state_dtype
    if isinstance(state_dtype, str):
        state_dtype = {s.name: state_dtype for s in possible_slots(rule).values() if s.initial is None}
    return {**(state_dtype or {}), slot: jnp.dtype(first).name}


@functools.cache
def factory(name: str) -> Callable[..., optax.GradientTransformationExtraArgs]:
    """The factory of an optimizer, with optax's argument names."""
    cls = get(name)
    known, words, fields = signature(cls), dialect(cls), cls.fields_with()

    def make(*args: Any, **given: Any) -> optax.GradientTransformationExtraArgs:
        takes = signature(cls, given["base"]) if given.get("base") is not None else known
        return transformation(cls, given_by_name(cls.name, takes, args, given))

    make.__name__ = make.__qualname__ = cls.name
    make.__module__ = __package__
    make.__signature__ = known  # type: ignore[attr-defined]
    also = (*cls.options, "kernel", "state_dtype")
    make.__doc__ = document(cls.text, fields, _example(cls.name), lambda k: words.spell(k, fields), also)
    return make


def _example(name: str) -> list[str]:
    return [
        ">>> import jax.numpy as jnp",
        f">>> from {__package__.replace('.adapters', '')} import {name}, step",
        f'>>> tx, params = {name}(), {{"w": jnp.ones(3)}}',
        '>>> params, state = step(tx, {"w": jnp.ones(3)}, tx.init(params), params)',
    ]
