"""`step`: update and apply in one pass over memory, and `explain`: which path a step takes, and why.

A chain is seen through where what stands before one of ours only multiplies all gradients by a number, as clipping by
global norm does: the number goes along as a coefficient, and the clipped gradients are never written down. optax keeps
the members of a chain in the closure of its update; where that is not as known, the chain is run as optax runs it.
"""

from __future__ import annotations

import functools
import inspect
import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import optax

from scirs2_adapters.adapters._xla.ops import Number, Tree
from scirs2_adapters.core.errors import bad_value

from ..dispatch.paths import reported
from .update import Skipping, Update, scaled

#: Our transformations.
OurUpdate = Update | Skipping
#: The update function of a transformation, or an object that is called as one.
UpdateFn = Callable[..., object]

#: The factor by which a member of a chain multiplies all gradients, which it may look at.
Factor = Callable[[Tree], Number]


def _clip(limit: Number, grads: Tree) -> Number:
    norm = optax.tree.norm(grads)
    return jnp.where(norm < limit, 1.0, limit / jnp.where(norm < limit, 1.0, norm))


#: The updates that only scale, by the function that makes them: the name of its argument, and the factor.
FACTORS: dict[str, tuple[str, Callable[[Number, Tree], Number]]] = {
    "clip_by_global_norm": ("max_norm", _clip),
    "identity": ("", lambda argument, grads: 1.0),
    "scale": ("step_size", lambda argument, grads: argument),
}


class OwnStep(ABC):
    """An update around another one, which says itself how `step` is made."""

    @abstractmethod
    def step(self, grads: Tree, state: Tree, params: Tree, **extra: object) -> tuple[Tree, Tree]:
        """The new parameters and state."""


def step(
    tx: optax.GradientTransformation, grads: Tree, state: Tree, params: Tree, **extra: object
) -> tuple[Tree, Tree]:
    """New parameters and state: `tx.update` and `optax.apply_updates`, in one pass over memory where `tx` is one of
    ours, or a chain of clipping or scaling and one of ours.

    Any transformation is taken, and all other arguments go to it, as `value=loss` if it needs the loss. Under `jit`,
    donate parameters and state and take them in the order in which you return them (JAX pairs them so): then both are
    stepped in the very memory they are in.
    """
    if isinstance(tx.update, OwnStep):
        return tx.update.step(grads, state, params, **extra)
    inside = seen_through(tx.update, state)
    if inside is not None:
        factors, ours, inner_state, outer_state = inside
        scale: Number | None = None
        for make in factors:  # each sees the gradients as those before it leave them
            factor = make(scaled(grads, scale))
            scale = factor if scale is None else scale * factor
        params, inner_state = ours.step(grads, inner_state, params, scale, **extra)
        return params, outer_state(inner_state)
    _refuse_behind_rounding(tx.update)
    updates, state = optax.with_extra_args_support(tx).update(grads, state, params, **extra)
    return optax.apply_updates(params, updates), state


def seen_through(update: UpdateFn, state: Tree) -> tuple[list[Factor], OurUpdate, Tree, Callable[[Tree], Tree]] | None:
    """What scales the gradients, the one of ours behind it, its state, and how that makes the whole state; or None."""
    if isinstance(update, OurUpdate):
        return [], update, state, lambda inner: inner
    members = _members(update)
    if members is None or not isinstance(state, tuple) or len(state) != len(members):
        return None
    before, behind = _links(members[:-1]), seen_through(members[-1], state[-1])
    factors = [factor for factor in map(_factor, before) if factor is not None]
    if behind is None or len(factors) < len(before):
        return None
    more, ours, inner_state, outer_state = behind
    return [*factors, *more], ours, inner_state, lambda new: (*state[:-1], outer_state(new))


def _refuse_behind_rounding(update: UpdateFn) -> None:
    """Refuses a chain in which something changes what one of ours has rounded."""
    *before, last = _members(update) or [update]
    if any(map(_rounds, before)):
        worded = "must have nothing behind an optimizer that rounds parameters: what it rounds must be added as it is"
        way_out = 'Put the other members before it, or use rounding="nearest".'
        raise bad_value("step", "tx", worded, "a chain in which it is not the last", way_out)
    if last is not update:
        _refuse_behind_rounding(last)


def _rounds(update: UpdateFn) -> bool:
    """Whether it rounds parameters otherwise than to the nearest, or has a member that does."""
    if isinstance(update, OurUpdate):
        return (update.inner if isinstance(update, Skipping) else update).options.rounding != "nearest"
    return any(map(_rounds, _members(update) or []))


def _links(updates: Sequence[UpdateFn]) -> list[UpdateFn]:
    """These updates in order, those of a chain in its place."""
    chains = [_links(members) if (members := _members(update)) else [update] for update in updates]
    return list(itertools.chain.from_iterable(chains))


def _factor(update: UpdateFn) -> Factor | None:
    """How a member scales gradients, if that is all it does."""
    argument, make = FACTORS.get(_maker(update) or "", ("", None))
    closure = {"": 1.0, **_closure(update)}
    return None if make is None or argument not in closure else functools.partial(make, closure[argument])


def _members(update: UpdateFn) -> list[UpdateFn] | None:
    """The updates of a chain in order, or None if it is no chain."""
    if _maker(update) != "chain":
        return None
    members = _closure(update).get("update_fns")
    return [_plain(u) for u in members] if isinstance(members, (tuple, list)) and members else None


def _plain(update: UpdateFn) -> UpdateFn:
    """What optax has wrapped so that it takes extra arguments."""
    inner = _closure(update).get("tx") if _maker(update) == "with_extra_args_support" else None
    return update if inner is None else getattr(inner, "update", update)


def _maker(update: UpdateFn) -> str | None:
    """The function of optax that has made this update, by name."""
    if not inspect.isfunction(update) or update.__module__.partition(".")[0] != "optax":
        return None
    return update.__qualname__.partition(".")[0]


def _closure(update: UpdateFn) -> Mapping[str, Tree]:
    return inspect.getclosurevars(update).nonlocals if inspect.isfunction(update) else {}


def explain(tx: optax.GradientTransformation, params: Tree) -> str:
    """Which path `step` takes for such parameters when it is compiled for this machine, a line for each group of
    leaves. Nothing is computed; shapes are enough.

    Example:
      >>> import jax.numpy as jnp
      >>> from scirs2_adapters.jax import adamw, explain
      >>> print(explain(adamw(), {"w": jnp.ones((3, 3))}))
      adamw: 1 leaf of float32 (9 numbers): the host kernel on the CPU, traced elsewhere
    """
    state = jax.eval_shape(tx.init, params)
    with reported(params) as lines:
        jax.eval_shape(lambda p, s: step(tx, p, s, p, value=0.0), params, state)
    return "\n".join(lines) if lines else "none of it is a step of scirs2: optax computes it"
