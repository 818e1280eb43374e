"""`step`: update and apply in one pass over memory, and `explain`: which path a step takes, and why.

A chain is seen through where what stands before one of ours only multiplies all gradients by a number, as clipping by
global norm does: the number goes along as a coefficient, and the clipped gradients are never written down. optax keeps
the members of a chain in the closure of its update; where that is not as known, the chain is run as optax runs it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from ..dispatch import reported
from .skipping import Skipping
from .update import Tree, Update

#: Those of ours.
Own = Update | Skipping

#: The factor by which a member of a chain multiplies all gradients, from its own argument and the gradients.
Factor = Callable[[Any, Tree], Any]


def _clip(limit: Any, grads: Tree) -> Any:
    norm = optax.tree.norm(grads)
    return jnp.where(norm < limit, 1.0, limit / jnp.where(norm < limit, 1.0, norm))


#: The updates that only scale, by the function that makes them: the name of its argument, and the factor.
FACTORS: dict[str, tuple[str | None, Factor]] = {
    "clip_by_global_norm": ("max_norm", _clip),
    "identity": (None, lambda own, grads: 1.0),
    "scale": ("step_size", lambda own, grads: own),
}


def step(tx: optax.GradientTransformation, grads: Tree, state: Tree, params: Tree, **extra: Any) -> tuple[Tree, Tree]:
    """New parameters and state: `tx.update` and `optax.apply_updates`, in one pass over memory where `tx` is one of
    ours, or a chain of clipping or scaling and one of ours.

    Any transformation is taken. Under `jit`, donate parameters and state and take them in the order in which you
    return them (JAX pairs them so): then both are stepped in the very memory they are in.
    """
    found = _seen_through(tx.update, state)
    if found is not None:
        factors, own, held, whole = found
        params, held = own.step(grads, held, params, _scale(factors, grads))
        return params, whole(held)
    updates, state = optax.with_extra_args_support(tx).update(grads, state, params, **extra)
    return optax.apply_updates(params, updates), state


def _scale(factors: list[Any], grads: Tree) -> Any:
    """The product of the factors. Each sees gradients as those before it leave them."""
    scale: Any = None
    for make, own in factors:
        seen = grads if scale is None else jax.tree.map(lambda g, s=scale: (g * s).astype(g.dtype), grads)
        factor = make(own, seen)
        scale = factor if scale is None else scale * factor
    return scale


def _seen_through(update: Any, state: Tree) -> tuple[list[Any], Own, Tree, Callable[[Tree], Tree]] | None:
    """What scales the gradients, the one of ours behind it, its state, and how that makes the whole state; or None."""
    if isinstance(update, Own):
        return [], update, state, lambda held: held
    members = _members(update)
    if members is None or not isinstance(state, tuple) or len(state) != len(members):
        return None
    *before, last = members
    factors, behind = list(map(_factors, before)), _seen_through(last, state[-1])
    if behind is None or None in factors:
        return None
    more, own, held, whole = behind
    scales = [pair for pairs in factors for pair in pairs or ()]
    return [*scales, *more], own, held, lambda new: (*state[:-1], whole(new))


def _factors(update: Any) -> list[tuple[Factor, Any]] | None:
    """How a member scales gradients, if that is all it does; a chain does if each of its members does."""
    members = _members(update)
    if members is not None:
        found = list(map(_factors, members))
        return None if None in found else [pair for pairs in found for pair in pairs or ()]
    name, make = FACTORS.get(_maker(update) or "", ("", None))
    own = _closure(update)
    if make is None or (name is not None and name not in own):
        return None
    return [(make, None if name is None else own[name])]


def _members(update: Any) -> list[Any] | None:
    """The updates of a chain in order, or None if it is no chain."""
    if _maker(update) != "chain":
        return None
    found = _closure(update).get("update_fns")
    return [_plain(u) for u in found] if isinstance(found, (tuple, list)) and found else None


def _plain(update: Any) -> Any:
    """What optax has wrapped so that it takes extra arguments."""
    inner = _closure(update).get("tx") if _maker(update) == "with_extra_args_support" else None
    return update if inner is None else getattr(inner, "update", update)


def _maker(update: Any) -> str | None:
    """The function of optax that has made this update, by name."""
    if not inspect.isfunction(update) or update.__module__.partition(".")[0] != "optax":
        return None
    return update.__qualname__.partition(".")[0]


def _closure(update: Any) -> Mapping[str, Any]:
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
