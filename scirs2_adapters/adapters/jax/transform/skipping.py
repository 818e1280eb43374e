"""`skip_nonfinite=True`: a step with a gradient that is not finite changes nothing but the counts of such steps.

The state is optax's own `ApplyIfFiniteState` around the usual one, so that checkpoints of `optax.apply_if_finite` and
ours interchange; other than that it never gives in. One branch steps, the other gives back what it got: in a program of
one CPU device both work in the memory of parameters and state, and a finite step costs one more look at the gradients.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from scirs2_adapters.core.errors import bad_type

from ..ops import AxisName, Number, Tree, varies
from ..state import exportable
from .update import Update


@dataclasses.dataclass(frozen=True, eq=False)
class Skipping:
    """One transformation that leaves out steps; `inner` is the one that makes them."""

    inner: Update

    def init(self, params: Tree) -> Tree:
        """The state before the first step."""
        exportable(optax.ApplyIfFiniteState)
        zero = functools.partial(jnp.zeros, (), jnp.int32)
        return optax.ApplyIfFiniteState(zero(), jnp.ones((), bool), zero(), self.inner.init(params))

    def __call__(self, updates: Tree, state: Tree, params: Tree = None, **extra: object) -> tuple[Tree, Tree]:
        """What to add to the parameters, which is 0 if the step is left out, and the new state."""
        held = self._inner(state)
        stepped = functools.partial(self.inner, updates, held, params, **extra)

        def left_out() -> tuple[Tree, Tree]:
            return jax.tree.map(jnp.zeros_like, jax.eval_shape(stepped)[0]), held

        return self._either(updates, state, stepped, left_out)

    def step(self, grads: Tree, state: Tree, params: Tree, scale: Number | None = None) -> tuple[Tree, Tree]:
        """The new parameters and state in one pass over memory, or those that there were."""
        held = self._inner(state)
        stepped = functools.partial(self.inner.step, grads, held, params, scale)
        seen = grads if scale is None else jax.tree.map(lambda g: (g * scale).astype(g.dtype), grads)
        return self._either(seen, state, stepped, lambda: (params, held))

    def _inner(self, state: Tree) -> Tree:
        if not isinstance(state, optax.ApplyIfFiniteState):
            raise bad_type(self.inner.call, "state", "must be as `init` makes it: `skip_nonfinite=True` counts", state)
        return state.inner_state

    def _either(self, grads: Tree, state: optax.ApplyIfFiniteState, *branches: Callable[[], Tree]) -> tuple[Tree, Tree]:
        finite = all_finite(grads, self.inner.axis_name)
        out, held = jax.lax.cond(finite, *(functools.partial(_arrays, branch) for branch in branches))
        in_a_row, total = map(optax.safe_increment, (state.notfinite_count, state.total_notfinite))
        in_a_row, total = jnp.where(finite, 0, in_a_row), jnp.where(finite, state.total_notfinite, total)
        return out, optax.ApplyIfFiniteState(in_a_row, finite, total, held)


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
