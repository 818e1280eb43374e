"""The parameters to evaluate, where an optimizer trains other ones."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax

from scirs2_adapters.adapters._xla.ops import OPS, SCALARS, Array, Tree, number
from scirs2_adapters.core.errors import bad_type

from .fused import seen_through
from .update import Skipping


def evaluation_params(tx: optax.GradientTransformation, state: Tree, params: Tree) -> Tree:
    """The parameters to evaluate: an average, of a schedule-free optimizer; else those that are trained.

    Arguments:
      tx: an optimizer of ours, or a chain of clipping or scaling and one of ours.
      state: its state.
      params: the parameters that are trained. Go on training with these.

    Example:
      >>> import jax.numpy as jnp
      >>> from scirs2_adapters.jax import evaluation_params, schedulefreeadamw, step
      >>> tx, params = schedulefreeadamw(), {"w": jnp.ones(3)}
      >>> params, state = step(tx, {"w": jnp.ones(3)}, tx.init(params), params)
      >>> for_evaluation = evaluation_params(tx, state, params)
    """
    inside = seen_through(tx.update, state)
    if inside is None:
        raise bad_type("evaluation_params", "tx", "must be an optimizer of scirs2, or a chain that ends in one", tx)
    _, ours, inner, _ = inside
    ours, inner = (ours.inner, inner.inner_state) if isinstance(ours, Skipping) else (ours, inner)
    rule = ours.rule.replace(**ours.hyper.traced)
    if rule.evaluation is None:
        return params
    memory = ours.layout.read(inner)
    names = [slot.name for slot in rule.roles("evaluation")[0]]
    scalars = rule.scalars(SCALARS, jnp.maximum(memory.counts[0], 1).astype(float))

    def averaged(p: Array, *slots: Array) -> Array:
        if any(isinstance(x, optax.MaskedNode) for x in slots):
            return p
        wide = jnp.promote_types(p.dtype, jnp.float32)
        arrays = {name: x.astype(wide) for name, x in zip(names, slots, strict=True)}
        row = {n: number(scalars[n], wide.name) for n in rule.needs("evaluation").values()}
        weights = rule.evaluated(OPS, p.astype(wide), arrays, row)
        return jnp.array(weights, p.dtype, copy=True)  # of a slot, whose memory may be donated to a program

    return jax.tree.map(averaged, params, *(memory.slots[name] for name in names))
