"""One transformation made from a rule: its `init`, and its step as a change to be added or in one pass over memory."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from scirs2_adapters.core import routing
from scirs2_adapters.core.errors import bad_type, bad_value
from scirs2_adapters.core.fields import is_number, is_traced
from scirs2_adapters.core.matrix import Matrix
from scirs2_adapters.core.program.recorded import SCALE
from scirs2_adapters.core.rule import Rule
from scirs2_adapters.core.slots import Extent, Leaf, Slot
from scirs2_adapters.core.step.options import StateDtype, slot_dtype

from ..argument_names import argument_names
from ..dispatch.leaves import NO_PARAMS, MissingParameterError, as_array, check_pair
from ..dispatch.plan import StepConfig, leaf_of, step_config
from ..dispatch.step import advance
from ..ops import AxisName, Number, Path, Schedule, Tree, real
from ..state import Layout, Memory, initial
from .dimensions import matrices
from .trees import GradientTree, spread, with_paths

keystr = jax.tree_util.keystr
#: What a transformation knows of single leaves: names, matrices, and which of them decay.
LeafFacts = tuple[tuple[str, ...], tuple[Matrix | None, ...], tuple[bool, ...]]
#: The transformations that have said which rule steps which leaf.
_said: weakref.WeakSet[Update] = weakref.WeakSet()


@dataclass(frozen=True, eq=False)
class Update:
    """One transformation: a rule with numbers, where its memory lies, and the two forms of its step.

    `hyper` are the values that are arrays or traced, kept apart because equal rules share their compiled steps. Equal
    only to itself, for arrays cannot be hashed.
    """

    rule: Rule
    hyper: Mapping[str, Number | np.ndarray]
    schedules: Mapping[str, Schedule]
    layout: Layout
    mask: Tree
    kernel: str
    state_dtype: StateDtype
    call: str
    axis_name: AxisName = None
    dimensions: Tree = None

    def init(self, params: Tree) -> Tree:
        """The state before the first step. Which rule steps which leaf is settled here, and said once."""
        rule, known = self.rule.replace(**self.hyper), matrices(self.call, self.dimensions, params)

        def leaf(path: Path, p: Tree) -> Leaf:
            place = keystr(path)
            array = as_array(self.call, f"params{place}", p)
            return leaf_of(array, _name(path) if rule.routes else "", known.get(place))

        if self not in _said:
            _said.add(self)
            leaves = jax.tree_util.tree_flatten_with_path(params)[0]
            routing.say(self.call, [(rule, leaf(path, p)) for path, p in leaves])
        return initial(self.layout, rule, params, self._dtype, leaf)

    def __call__(self, updates: Tree, state: Tree, params: Tree = None, **extra: object) -> tuple[Tree, Tree]:
        """What to add to the parameters, and the new state."""
        del extra
        return self._advance("delta", updates, state, params)

    def step(self, grads: Tree, state: Tree, params: Tree, scale: Number | None = None) -> tuple[Tree, Tree]:
        """The new parameters and state in one pass over memory; `scale` multiplies the gradients as they are read."""
        if params is None and jax.tree.leaves(grads):
            raise ValueError(NO_PARAMS)
        return self._advance("p", grads, state, params, scale)

    def _advance(
        self, emit: str, grads: Tree, state: Tree, params: Tree, scale: Number | None = None
    ) -> tuple[Tree, Tree]:
        memory, tree = self._memory(state), GradientTree(grads)
        p, slots = tree.flatten(params), {n: tree.flatten(x) for n, x in memory.slots.items()}
        config = self._config(emit, scale is not None, self._leaf_facts(grads, params, tree))
        arrays = Memory(memory.counts, {n: tree.moving(x) for n, x in slots.items()}, memory.model)
        numbers = self._numbers(memory, scale)
        try:
            emitted, new = advance(config, numbers, tree.moving(tree.leaves), tree.moving(p), arrays)
        except MissingParameterError:  # raised anew, without JAX's note on how it traces
            raise ValueError(NO_PARAMS) from None
        except (TypeError, ValueError):
            if (fault := self._fault(grads, p)) is not None:
                raise fault from None
            raise
        out = tree.merged(p if emit == "p" else tree.flatten(None), emitted)
        trees = {n: tree.merged(x, new.slots[n]) for n, x in slots.items()}
        return out, self.layout.build(Memory(new.counts, trees, new.model))

    def _memory(self, state: Tree) -> Memory:
        """The state taken apart, if it is one of this optimizer's."""
        try:
            return self.layout.read(state)
        except AttributeError as error:
            raise bad_type(self.call, "state", "must be as `init` makes it", state) from error

    def _config(self, emit: str, scaled: bool, facts: LeafFacts) -> StepConfig:
        return step_config(
            self.rule, self.call, emit, self.kernel, self.layout.negative, self.layout.sparse, scaled,
            self.axis_name, *facts,
        )  # fmt: skip

    def _leaf_facts(self, grads: Tree, params: Tree, tree: GradientTree) -> LeafFacts:
        """The names of the leaves that move where a rule asks for them, their matrices and whether they decay."""
        names: tuple[str, ...] = ()
        of_leaves: tuple[Matrix | None, ...] = ()
        decays: tuple[bool, ...] = ()
        if self.rule.routes:
            paths = [path for path, g in with_paths(grads) if g is not None]
            names = tuple(_name(path) for path in paths)
        if self.dimensions is not None:
            known = matrices(self.call, self.dimensions, grads if params is None else params)
            of_leaves = tuple(known.get(keystr(path)) for path, g in with_paths(grads) if g is not None)
        if self.mask is not None:
            mask = tree.moving(self._masks(grads if params is None else params, tree))
            decays = tuple(_decays(self.call, self._mask_word, m) for m in mask)
        return names, of_leaves, decays

    def _fault(self, grads: Tree, params: list[Tree]) -> Exception | None:
        """What is wrong with a leaf, by its path, or None. A step that is compiled sees neither paths nor values."""
        for (path, g), p in zip(with_paths(grads), params, strict=True):
            place = keystr(path)
            try:
                if g is not None:
                    gradient = as_array(self.call, f"updates{place}", g)
                if g is not None and p is not None:
                    check_pair(self.call, f"updates{place}", gradient, as_array(self.call, f"params{place}", p))
            except (TypeError, ValueError) as fault:
                return fault
        return None

    def _masks(self, like: Tree, tree: GradientTree) -> list[Tree]:
        """The leaves of the mask; it may be a prefix of the tree."""
        mask = self.mask if _is_mask(self.mask) else self.mask(like)
        try:
            return tree.flatten(spread(mask, like))
        except ValueError as error:
            requirement = "must be a bool, or a tree of them that has the form of the parameters or of their upper part"
            raise bad_value(self.call, self._mask_word, requirement, mask) from error

    @property
    def _mask_word(self) -> str:
        return argument_names(type(self.rule)).names.get("mask", "mask")

    def _numbers(self, memory: Memory, scale: Number | None) -> dict[str, Number]:
        """The traced hyperparameters of this step; a schedule sees the count before it is increased."""
        numbers: dict[str, Number | np.ndarray] = dict(self.hyper)
        for n, schedule in self.schedules.items():
            numbers[n] = self._scheduled(n, schedule(memory.counts[-1] if memory.counts else None))
        if scale is not None:
            numbers[SCALE] = scale
        # What is no array of JAX's may be of a class that `jit` does not take.
        return {n: x if isinstance(x, (jax.Array, float, int)) else jnp.asarray(x) for n, x in numbers.items()}

    def _scheduled(self, argument: str, value: Number) -> Number:
        """What a schedule has said, if it is one number."""
        if is_number(value) or is_traced(value):
            return value
        argument = argument_names(type(self.rule)).names.get(argument, argument)
        raise bad_type(self.call, argument, "must be a number, or a function of the count that returns one", value)

    def _dtype(self, slot: Slot, parameter: np.dtype) -> np.dtype | str:
        """The dtype of a slot of a parameter of this dtype."""
        if jnp.issubdtype(parameter, jnp.complexfloating):
            return real(parameter) if slot.extent is Extent.TENSOR else parameter
        return jax.dtypes.canonicalize_dtype(slot_dtype(slot, parameter.name, self.state_dtype))


def _name(path: Path) -> str:
    """The name of a leaf: `layers.0.kernel`."""
    return keystr(path, simple=True, separator=".")


def is_function(x: object) -> bool:
    """Whether it is there to be called: a class, such as `jnp.bfloat16`, is there to be named."""
    return callable(x) and not isinstance(x, type)


def _is_mask(x: Tree) -> bool:
    """Whether it is a mask and not a function that makes one. A tree of bools may be callable, as a module of Equinox
    is that has the form of a model; a function may be a tree, as a `jax.tree_util.Partial` is.
    """
    if not is_function(x):
        return True
    of_bools = any(getattr(leaf, "dtype", type(leaf)) in (bool, np.dtype(bool)) for leaf in jax.tree.leaves(x))
    return of_bools and not isinstance(x, functools.partial)


def _decays(call: str, argument: str, mask: Tree) -> bool:
    """What a leaf of a mask says."""
    if is_function(mask) or not (isinstance(mask, (bool, int)) or hasattr(mask, "dtype")):
        raise bad_type(call, argument, "must have True or False for every parameter", mask)
    return bool(mask)
