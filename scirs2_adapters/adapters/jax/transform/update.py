"""One transformation made from a rule: its `init`, and its step as a change to be added or in one pass over memory.

With `skip_nonfinite=True` a step with a gradient that is not finite changes nothing but the counts of such steps. The
state is optax's `ApplyIfFiniteState` around the usual one, so that checkpoints of `optax.apply_if_finite` and ours
interchange; other than that it never gives in. One branch steps, the other gives back what it got: in a program of one
CPU device both work in the memory of parameters and state, and a finite step costs one more look at the gradients.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from scirs2_adapters.adapters._xla.ops import AxisName, Number, Path, Schedule, Tree, real, varies
from scirs2_adapters.core import routing
from scirs2_adapters.core.declaration import VALUE
from scirs2_adapters.core.errors import bad_type
from scirs2_adapters.core.fields import Value, is_number, is_traced
from scirs2_adapters.core.program.recorded import SCALE
from scirs2_adapters.core.rule import Rule
from scirs2_adapters.core.slots import Extent, Leaf, Slot
from scirs2_adapters.core.step.options import StateDtype, check_rounding, check_value, slot_dtype, with_error

from ..argument_names import argument_names, factory_name
from ..dispatch.paths import report_lines
from ..dispatch.plan import StepConfig, leaf_of, step_config
from ..dispatch.step import NO_PARAMS, MissingParameterError, advance, as_array, check_pair, compiled
from ..state import Layout, Memory, exportable, initial
from .leaves import GradientTree, decays, keystr, matrices, name_of, with_paths

#: New parameters, or what to add to them, and the new state.
Stepped = tuple[Tree, Tree]
#: The transformations that have said which rule steps which leaf.
_said: weakref.WeakSet[Update] = weakref.WeakSet()


class Options(NamedTuple):
    """The arguments that every factory has. `first_moments` is optax's argument for their dtype."""

    kernel: str
    match: str | None
    mask: Tree
    dimensions: Tree
    axis_name: AxisName
    skip_nonfinite: bool
    state_dtype: StateDtype
    rounding: str
    first_moments: object


class Hyperparameters(NamedTuple):
    """The arguments of a rule under the core's names: schedules, values that are arrays or traced, and plain ones."""

    schedules: dict[str, Schedule]
    traced: dict[str, Number | np.ndarray]
    plain: dict[str, Value]


@dataclass(frozen=True, eq=False)
class Update:
    """One transformation: a rule with numbers, where its memory lies, and the two forms of its step.

    The values in `hyper` that are arrays or traced are kept apart because equal rules share their compiled steps. Equal
    only to itself, for arrays cannot be hashed.
    """

    rule: Rule
    hyper: Hyperparameters
    layout: Layout
    options: Options
    state_dtype: StateDtype

    @property
    def call(self) -> str:
        """What errors call the optimizer."""
        return factory_name(self.rule.name)

    def init(self, params: Tree) -> Tree:
        """The state before the first step. Which rule steps which leaf is settled here, and said once."""
        call, rule = self.call, self.rule.replace(**self.hyper.traced)
        known = matrices(call, self.options.dimensions, params)

        def leaf(path: Path, p: Tree) -> Leaf:
            place = keystr(path)
            array = as_array(call, f"params{place}", p)
            seen = leaf_of(array, name_of(path) if rule.looks_at_names else "", known.get(place))
            return with_error(seen, self.options.rounding, self.options.state_dtype)

        leaves = [leaf(path, p) for path, p in jax.tree_util.tree_flatten_with_path(params)[0]]
        if leaves:
            check_rounding(call, self.options.rounding, [one.dtype for one in leaves])
        if self not in _said:
            _said.add(self)
            routing.say(call, [(rule, one) for one in leaves])
        return initial(self.layout, rule, params, self._dtype, leaf)

    def __call__(self, updates: Tree, state: Tree, params: Tree = None, **extra: object) -> Stepped:
        """What to add to the parameters, and the new state."""
        return self._advance("delta", updates, state, params, self.extra(**extra))

    def step(self, grads: Tree, state: Tree, params: Tree, scale: Number | None = None, **extra: object) -> Stepped:
        """The new parameters and state in one pass over memory; `scale` multiplies the gradients as they are read."""
        if params is None and jax.tree.leaves(grads):
            raise ValueError(NO_PARAMS)
        scales = {} if scale is None else {SCALE: scale}
        return self._advance("p", grads, state, params, self.extra(**extra) | scales)

    def extra(self, value: object = None, **extra: object) -> dict[str, Number]:
        """What is taken of the arguments of optax's that go with the gradients: the loss, by a rule that needs it."""
        if not self.rule.needs_value:
            return {}
        words = (
            "value",
            "must be the loss of the step, a number",
            "Write `tx.update(grads, state, params, value=loss)`.",
        )
        return {VALUE: check_value(f"{self.call}().update", self.rule, value, *words)}

    def _advance(self, emit: str, grads: Tree, state: Tree, params: Tree, extra: dict[str, Number]) -> Stepped:
        try:
            memory = self.layout.read(state)
        except AttributeError as error:
            raise bad_type(self.call, "state", "must be as `init` makes it", state) from error
        tree = GradientTree(grads)
        p, both = tree.flatten(params), (memory.slots, memory.companions)
        slots, companions = ({n: tree.flatten(x) for n, x in trees.items()} for trees in both)
        config = self._config(emit, SCALE in extra, grads, params, tree)
        moving = ({n: tree.moving(x) for n, x in leaves.items()} for leaves in (slots, companions))
        arrays = Memory(memory.counts, next(moving), memory.model, next(moving))
        numbers = self._numbers(memory, extra)
        run = compiled if report_lines.get() is None else advance  # looked at anew where a report is wanted
        try:
            emitted, new = run(config, numbers, tree.moving(tree.leaves), tree.moving(p), arrays)
        except MissingParameterError:  # raised anew, without JAX's note on how it traces
            raise ValueError(NO_PARAMS) from None
        except (TypeError, ValueError):
            try:
                self._check_leaves(grads, p)
            except (TypeError, ValueError) as fault:
                raise fault from None
            raise
        out = tree.merged(p if emit == "p" else tree.flatten(None), emitted)
        trees = {n: tree.merged(x, new.slots[n]) for n, x in slots.items()}
        others = {n: tree.merged(x, new.companions[n]) for n, x in companions.items()}
        return out, self.layout.build(Memory(new.counts, trees, new.model, others))

    def _config(self, emit: str, scaled: bool, grads: Tree, params: Tree, tree: GradientTree) -> StepConfig:
        """What is fixed before the step: the names of the leaves that move where a rule asks for them, their matrices
        and whether they decay.
        """
        rule, layout, options, like = self.rule, self.layout, self.options, grads if params is None else params
        asked = rule.looks_at_names or options.dimensions is not None
        paths = [path for path, g in with_paths(grads) if g is not None] if asked else []
        names = tuple(map(name_of, paths)) if rule.looks_at_names else ()
        known = {} if options.dimensions is None else matrices(self.call, options.dimensions, like)
        of_leaves = tuple(known.get(keystr(path)) for path in paths) if known else ()
        decay = () if options.mask is None else decays(self.call, self._word("mask"), options.mask, like, tree)
        fixed = rule, emit, options.kernel, layout.negative, layout.sparse, scaled, options.axis_name
        return step_config(*fixed, names, of_leaves, decay)

    def _check_leaves(self, grads: Tree, params: list[Tree]) -> None:
        """Refuse a wrong leaf by its path. A step that is compiled sees neither paths nor values."""
        for (path, g), p in zip(with_paths(grads), params, strict=True):
            place, call = keystr(path), self.call
            if g is not None:
                gradient = as_array(call, f"updates{place}", g)
                if p is not None:
                    check_pair(call, f"updates{place}", gradient, as_array(call, f"params{place}", p))

    def _word(self, argument: str) -> str:
        """An argument as the user of optax knows it."""
        return argument_names(type(self.rule)).names.get(argument, argument)

    def _numbers(self, memory: Memory, extra: dict[str, Number]) -> dict[str, Number]:
        """The traced hyperparameters of this step; a schedule sees the count before it is increased."""
        numbers: dict[str, Number | np.ndarray] = {**self.hyper.traced, **extra}
        for n, schedule in self.hyper.schedules.items():
            numbers[n] = value = schedule(memory.counts[-1] if memory.counts else None)
            if not (is_number(value) or is_traced(value)):
                worded = "must be a number, or a function of the count that returns one"
                raise bad_type(self.call, self._word(n), worded, value)
        # What is no array of JAX's may be of a class that `jit` does not take.
        return {n: x if isinstance(x, (jax.Array, float, int)) else jnp.asarray(x) for n, x in numbers.items()}

    def _dtype(self, slot: Slot, leaf: Leaf, parameter: np.dtype) -> np.dtype | str:
        """The dtype of a slot of a leaf, whose parameter has this dtype."""
        if leaf.complex:
            return real(parameter) if slot.extent is Extent.TENSOR else parameter
        return jax.dtypes.canonicalize_dtype(slot_dtype(slot, leaf, self.state_dtype))


@dataclass(frozen=True, eq=False)
class Skipping:
    """One transformation that leaves out steps; `inner` is the one that makes them."""

    inner: Update

    def init(self, params: Tree) -> Tree:
        """The state before the first step."""
        exportable(optax.ApplyIfFiniteState)
        zero = functools.partial(jnp.zeros, (), jnp.int32)
        return optax.ApplyIfFiniteState(zero(), jnp.ones((), bool), zero(), self.inner.init(params))

    def __call__(self, updates: Tree, state: Tree, params: Tree = None, **extra: object) -> Stepped:
        """What to add to the parameters, which is 0 if the step is left out, and the new state."""
        inner = self._inner(state)
        stepped = functools.partial(self.inner, updates, inner, params, **extra)

        def left_out() -> Stepped:
            return jax.tree.map(jnp.zeros_like, jax.eval_shape(stepped)[0]), inner

        return self._either((updates, self.inner.extra(**extra)), state, stepped, left_out)

    def step(self, grads: Tree, state: Tree, params: Tree, scale: Number | None = None, **extra: object) -> Stepped:
        """The new parameters and state in one pass over memory, or those that there were."""
        inner = self._inner(state)
        stepped = functools.partial(self.inner.step, grads, inner, params, scale, **extra)
        seen = scaled(grads, scale), self.inner.extra(**extra)
        return self._either(seen, state, stepped, lambda: (params, inner))

    def _inner(self, state: Tree) -> Tree:
        if not isinstance(state, optax.ApplyIfFiniteState):
            worded = "must be as `init` makes it: `skip_nonfinite=True` counts"
            raise bad_type(self.inner.call, "state", worded, state)
        return state.inner_state

    def _either(self, grads: Tree, state: optax.ApplyIfFiniteState, *branches: Callable[[], Tree]) -> Stepped:
        finite = all_finite(grads, self.inner.options.axis_name)
        out, inner = jax.lax.cond(finite, *(functools.partial(_arrays, branch) for branch in branches))
        in_a_row, total = map(optax.safe_increment, (state.notfinite_count, state.total_notfinite))
        in_a_row, total = jnp.where(finite, 0, in_a_row), jnp.where(finite, state.total_notfinite, total)
        return out, optax.ApplyIfFiniteState(in_a_row, finite, total, inner)


def scaled(grads: Tree, scale: Number | None) -> Tree:
    """The gradients times this number, in the dtypes of the gradients."""
    return grads if scale is None else jax.tree.map(lambda g: (g * scale).astype(g.dtype), grads)


def all_finite(tree: Tree, axis_name: AxisName = None) -> jax.Array:
    """Whether every number is finite, on every device along these mapped axes.

    The sum of x - x, which is 0 or NaN: no array is written on the way, as XLA writes one of `isfinite`, and NaN is
    not lost, as in a maximum over the devices of a CPU.
    """
    arrays = [jnp.asarray(x) for x in jax.tree.leaves(tree)]
    finite = functools.reduce(jnp.logical_and, [jnp.sum(x - x) == 0 for x in arrays], jnp.ones((), bool))
    names = (axis_name,) if isinstance(axis_name, str) else axis_name or ()
    known = any(map(varies, arrays))
    for name in (n for n in names if not known or n in varies(finite)):
        finite = jax.lax.pmin(finite.astype(jnp.int32), name) > 0
    return finite


def _arrays(branch: Callable[[], Tree]) -> Tree:
    """What a branch makes, of arrays whose types are fixed: both must be alike."""
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.asarray(x).dtype), branch())
