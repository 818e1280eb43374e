"""One transformation made from a rule: its `init`, and its step as a change to be added or in one pass over memory."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from scirs2_adapters.core.errors import bad_type, bad_value
from scirs2_adapters.core.fields import is_number, is_traced
from scirs2_adapters.core.program.recorded import SCALE, record
from scirs2_adapters.core.rule import Rule
from scirs2_adapters.core.slots import Extent, Leaf, Slot
from scirs2_adapters.core.step.options import StateDtype, slot_dtype

from ..argument_names import argument_names
from ..dispatch import advance
from ..ops import StepConfig, leaf_of, real
from ..state import Layout, Memory, initial, loaded, stored
from . import once
from .dimensions import Matrices, matrices

Tree = Any
AxisName = str | tuple[str, ...] | None
#: optax's own words, which callers may look for; it has no public name.
NO_PARAMS = (
    "You are using a transformation that requires the current value of parameters, "
    "but you are not passing `params` when calling `update`."
)


@dataclasses.dataclass(frozen=True, eq=False)
class Update:
    """One transformation: a rule with numbers, where its memory lies, and the two forms of its step.

    `hyper` are the values that are arrays or traced, kept apart because equal rules share their compiled steps. Equal
    only to itself, for arrays cannot be hashed.
    """

    rule: Rule
    hyper: Mapping[str, Any]
    schedules: Mapping[str, Callable[[Any], Any]]
    layout: Layout
    mask: Any
    kernel: str
    state_dtype: StateDtype
    call: str
    axis_name: AxisName = None
    dimensions: Any = None

    def init(self, params: Tree) -> Tree:
        """The state before the first step. Which rule steps which leaf is settled here, and said once."""
        rule, known = self.rule.replace(**self.hyper), self._matrices(params, params)
        leaves = [self._leaf(path, p, known) for path, p in jax.tree_util.tree_flatten_with_path(params)[0]]
        once.say(self, rule, leaves)
        return initial(self.layout, rule, params, self._dtype, lambda path, p: self._leaf(path, p, known))

    def __call__(self, updates: Tree, state: Tree, params: Tree = None, **extra: Any) -> tuple[Tree, Tree]:
        """What to add to the parameters, and the new state."""
        del extra
        return self._advance("delta", updates, state, params)

    def step(self, grads: Tree, state: Tree, params: Tree, scale: Any = None) -> tuple[Tree, Tree]:
        """The new parameters and state in one pass over memory; `scale` multiplies the gradients as they are read."""
        if params is None and jax.tree.leaves(grads):
            raise ValueError(NO_PARAMS)
        return self._advance("p", grads, state, params, scale)

    def _advance(self, emit: str, grads: Tree, state: Tree, params: Tree, scale: Any = None) -> tuple[Tree, Tree]:
        memory = self._memory(state)
        paths, tree = _flatten(grads)
        given = [g for _, g in paths]
        theirs = [None] * len(given) if params is None else tree.flatten_up_to(params)
        slots = {n: tree.flatten_up_to(x) for n, x in memory.slots.items()}
        masks, known = self._masks(params, grads, tree, len(given)), self._matrices(params, grads)
        moving = [i for i, g in enumerate(given) if g is not None]
        leaves = [
            self._arrays(paths[i][0], given[i], theirs[i], {n: x[i] for n, x in slots.items()}, known) for i in moving
        ]
        sparse = [self._sparse(paths[i][0], leaf["p"]) for i, leaf in zip(moving, leaves, strict=True)]
        leaves = [loaded(leaf, own, self.layout.sparse) for leaf, own in zip(leaves, sparse, strict=True)]
        whole = [self._leaf(paths[i][0], leaf["p"], known) for i, leaf in zip(moving, leaves, strict=True)]
        names, matrices = tuple(leaf.name for leaf in whole), tuple(leaf.matrix for leaf in whole)
        decays = tuple(_decays(self.call, self._mask_word, masks[i]) for i in moving)
        job = StepConfig(
            self.rule, self.call, emit, self.kernel, self.layout.negative, names, matrices, decays, scale is not None,
            self.axis_name,
        )  # fmt: skip
        numbers = self._numbers(memory) | ({} if scale is None else {SCALE: _wide(scale)})
        counts, made, model = advance(job, numbers, memory.counts, leaves, memory.model)
        out = theirs if emit == "p" else [None] * len(given)
        for i, results, own in zip(moving, made, sparse, strict=True):
            out[i] = results.pop(emit)
            for n, x in results.items():
                slots[n][i] = stored(own[n], x) if n in own else x
        new = {n: tree.unflatten(x) for n, x in slots.items()}
        return tree.unflatten(out), self.layout.build(Memory(counts, new, model))

    def _memory(self, state: Tree) -> Memory:
        """The state taken apart, if it is one of this optimizer's."""
        try:
            return self.layout.read(state)
        except AttributeError as error:
            raise bad_type(self.call, "state", "must be as `init` makes it", state) from error

    def _arrays(self, path: Any, g: Any, p: Any, slots: Mapping[str, Any], known: Matrices) -> dict[str, Any]:
        """The arrays of one leaf; zeros stand for a parameter that was not given and would only decay."""
        name = jax.tree_util.keystr(path)
        g = _array(self.call, f"updates{name}", g)
        if p is None:
            leaf, rule = self._leaf(path, g, known), self.rule.replace(**self.hyper) if self.hyper else self.rule
            if "weight_decay" in self.schedules or not _only_decayed(rule.route(leaf), leaf):
                raise ValueError(NO_PARAMS)
            p = jnp.zeros_like(g, _of_parameter(g, slots))
        p = _array(self.call, f"params{name}", p)
        if g.shape != p.shape:
            raise bad_value(self.call, f"updates{name}", f"must have the parameter's shape {p.shape}", g)
        if jnp.iscomplexobj(g) != jnp.iscomplexobj(p):
            raise bad_value(self.call, f"updates{name}", f"must be real or complex as the parameter, {p.dtype}", g)
        return {"p": p, "g": g} | {
            n: x for n, x in slots.items() if x is not None and not isinstance(x, optax.MaskedNode)
        }

    def _sparse(self, path: Any, p: Any) -> dict[str, Slot]:
        """Of the slots that the state has in a sparse form, those of this leaf."""
        if not self.layout.sparse:
            return {}
        leaf = self._leaf(path, p, {})
        return {s.name: s for s in self.rule.route(leaf).slots(leaf) if s.name in self.layout.sparse}

    def _masks(self, params: Tree, grads: Tree, tree: Any, count: int) -> list[Any]:
        """Whether each leaf decays; a mask may be a prefix of the tree."""
        if self.mask is None:
            return [True] * count
        like = grads if params is None else params
        mask = self.mask if _is_mask(self.mask) else self.mask(like)
        try:
            whole = jax.tree.map(lambda m, below: jax.tree.map(lambda _: m, below, is_leaf=_none), mask, like)
        except ValueError as error:
            wanted = "must be a bool, or a tree of them that has the form of the parameters or of their upper part"
            raise bad_value(self.call, self._mask_word, wanted, mask) from error
        return tree.flatten_up_to(whole)

    @property
    def _mask_word(self) -> str:
        return argument_names(type(self.rule)).names.get("mask", "mask")

    def _numbers(self, memory: Memory) -> dict[str, Any]:
        """The traced hyperparameters of this step; a schedule sees the count before it is increased."""
        count = memory.counts[-1] if memory.counts else None
        found = dict(self.hyper) | {n: self._scheduled(n, schedule(count)) for n, schedule in self.schedules.items()}
        return {n: _wide(x) for n, x in found.items()}

    def _scheduled(self, argument: str, value: Any) -> Any:
        """What a schedule has said, if it is one number."""
        if is_number(value) or is_traced(value):
            return value
        argument = argument_names(type(self.rule)).names.get(argument, argument)
        raise bad_type(self.call, argument, "must be a number, or a function of the count that returns one", value)

    def _matrices(self, params: Tree, grads: Tree) -> Matrices:
        """What dimension numbers say of each leaf, by its path."""
        return matrices(self.call, self.dimensions, grads if params is None else params)

    def _leaf(self, path: Any, p: Any, known: Matrices) -> Leaf:
        place = jax.tree_util.keystr(path)
        p = _array(self.call, f"params{place}", p)
        name = jax.tree_util.keystr(path, simple=True, separator=".") if self.rule.routes else ""
        return leaf_of(p, name, known.get(place))

    def _dtype(self, slot: Slot, parameter: Any) -> Any:
        if jnp.issubdtype(parameter, jnp.complexfloating):
            return real(parameter) if slot.extent is Extent.TENSOR else parameter
        return jax.dtypes.canonicalize_dtype(slot_dtype(slot, parameter.name, self.state_dtype))


def _flatten(tree: Tree) -> tuple[list[tuple[Any, Any]], Any]:
    """Leaves with their paths, holes among them, and the structure."""
    return jax.tree_util.tree_flatten_with_path(tree, is_leaf=_none)


def _none(x: Any) -> bool:
    return x is None


def is_function(x: Any) -> bool:
    """Whether it is there to be called: a class, such as `jnp.bfloat16`, is there to be named."""
    return callable(x) and not isinstance(x, type)


def _is_mask(x: Any) -> bool:
    """Whether it is a mask and not a function that makes one. A tree of bools may be callable, as a module of Equinox
    is that has the form of a model; a function may be a tree, as a `jax.tree_util.Partial` is.
    """
    if not is_function(x):
        return True
    of_bools = any(getattr(leaf, "dtype", type(leaf)) in (bool, np.dtype(bool)) for leaf in jax.tree.leaves(x))
    return of_bools and not isinstance(x, functools.partial)


def _decays(call: str, argument: str, mask: Any) -> bool:
    """What a leaf of a mask says."""
    if is_function(mask) or not (isinstance(mask, (bool, int)) or hasattr(mask, "dtype")):
        raise bad_type(call, argument, "must have True or False for every parameter", mask)
    return bool(mask)


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


def _of_parameter(g: Any, slots: Mapping[str, Any]) -> Any:
    """The dtype of a parameter that is not given: that of its memory, where that is wider than the gradient's."""
    memory = [x.dtype for x in slots.values() if getattr(x, "shape", None) == g.shape]
    return functools.reduce(jnp.promote_types, memory, g.dtype)


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
