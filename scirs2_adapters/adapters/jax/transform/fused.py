"""`step`: update and apply in one pass over memory, and `explain`: which path a step takes, and why.

A chain is seen through where what stands before one of ours only multiplies all gradients by a number, as clipping by
global norm does: the number goes along as a coefficient, and the clipped gradients are never written down. optax keeps
the members of a chain in the closure of its update; where that is not as known, the chain is run as optax runs it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import optax

from ..dispatch.report import reported
from ..ops import Number, Tree
from .skipping import Skipping
from .update import Update

#: Our transformations.
Own = Update | Skipping
#: The update function of a transformation, or an object that is called as one.
UpdateFn = Callable[..., object]

#: The factor by which a member of a chain multiplies all gradients, from its own argument and the gradients.
Factor = Callable[[Number, Tree], Number]
#: A factor with the argument of the member that has it.
BoundFactor = tuple[Factor, Number]


def _clip(limit: Number, grads: Tree) -> Number:
    norm = optax.tree.norm(grads)
    return jnp.where(norm < limit, 1.0, limit / jnp.where(norm < limit, 1.0, norm))


#: The updates that only scale, by the function that makes them: the name of its argument, and the factor.
FACTORS: dict[str, tuple[str | None, Factor]] = {
    "clip_by_global_norm": ("max_norm", _clip),
    "identity": (None, lambda argument, grads: 1.0),
    "scale": ("step_size", lambda argument, grads: argument),
}


def step(
    tx: optax.GradientTransformation, grads: Tree, state: Tree, params: Tree, **extra: object
) -> tuple[Tree, Tree]:
    """New parameters and state: `tx.update` and `optax.apply_updates`, in one pass over memory where `tx` is one of
    ours, or a chain of clipping or scaling and one of ours.

    Any transformation is taken. Under `jit`, donate parameters and state and take them in the order in which you
    return them (JAX pairs them so): then both are stepped in the very memory they are in.
    """
    inside = _seen_through(tx.update, state)
    if inside is not None:
        factors, ours, inner_state, outer_state = inside
        params, inner_state = ours.step(grads, inner_state, params, _scale(factors, grads))
        return params, outer_state(inner_state)
    updates, state = optax.with_extra_args_support(tx).update(grads, state, params, **extra)
    return optax.apply_updates(params, updates), state


def _scale(factors: Sequence[BoundFactor], grads: Tree) -> Number | None:
    """The product of the factors. Each sees gradients as those before it leave them."""
    scale: Number | None = None
    for make, argument in factors:
        seen = grads if scale is None else jax.tree.map(lambda g, s=scale: (g * s).astype(g.dtype), grads)
        factor = make(argument, seen)
        scale = factor if scale is None else scale * factor
    return scale


def _seen_through(update: UpdateFn, state: Tree) -> tuple[list[BoundFactor], Own, Tree, Callable[[Tree], Tree]] | None:
    """What scales the gradients, the one of ours behind it, its state, and how that makes the whole state; or None."""
    if isinstance(update, Own):
        return [], update, state, lambda inner: inner
    members = _members(update)
    if members is None or not isinstance(state, tuple) or len(state) != len(members):
        return None
    *before, last = members
    factors, behind = list(map(_factors, before)), _seen_through(last, state[-1])
    if behind is None or None in factors:
        return None
    more, ours, inner_state, outer_state = behind
    scales = [pair for pairs in factors for pair in pairs or ()]
    return [*scales, *more], ours, inner_state, lambda new: (*state[:-1], outer_state(new))


def _factors(update: UpdateFn) -> list[BoundFactor] | None:
    """How a member scales gradients, if that is all it does; a chain does if each of its members does."""
    members = _members(update)
    if members is not None:
        factors = list(map(_factors, members))
        return None if None in factors else [pair for pairs in factors for pair in pairs or ()]
    name, make = FACTORS.get(_maker(update) or "", ("", None))
    closure = _closure(update)
    if make is None or (name is not None and name not in closure):
        return None
    return [(make, 1.0 if name is None else closure[name])]


def _members(update: UpdateFn) -> list[UpdateFn] | None:
    """The updates of a chain in order, or None if it is no chain."""
    if _maker(update) != "chain":
        return None
    members = _closure(update).get("update_fns")
    return [_plain(u) for u in members] if isinstance(members, (tuple, list)) and members else None


def _plain(update: UpdateFn) -> UpdateFn:
    """What optax has wrapped so that it takes extra arguments."""
    inner = _closure(update).get("tx") if _maker(update) == "with_extra_args_support" else None
    plain: UpdateFn = update if inner is None else getattr(inner, "update", update)
    return plain


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
        jax.eval_shape(lambda p, s: step(tx, p, s, p), params, state)
    return "\n".join(lines) if lines else "none of it is a step of scirs2: optax computes it"
