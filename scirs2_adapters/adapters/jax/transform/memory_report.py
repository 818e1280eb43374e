"""How many bytes a transformation takes for some parameters, from shapes alone."""

from __future__ import annotations

import jax
import numpy as np
import optax

from scirs2_adapters.adapters._xla.ops import Tree
from scirs2_adapters.core.memory import OPERATIONS, Memory, Stored, report

from ..state import COUNT
from .fused import seen_through
from .update import Skipping


def memory(tx: optax.GradientTransformation, params: Tree, grads: Tree = None) -> Memory:
    """How many bytes the parameters take, the gradients `grads`, and the state that `tx.init` makes of them.

    Nothing is computed; shapes are enough, such as those of `jax.eval_shape`. Bytes are those of whole arrays, on
    however many devices they lie. Of one of ours, also behind others in a chain, slots have the names of the state in
    other frameworks; anything else is "state". What XLA allocates within a step, `compiled.memory_analysis()` says.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from scirs2_adapters.jax import adamw, memory
      >>> params = {"w": jax.ShapeDtypeStruct((1024, 1024), jnp.float32)}
      >>> memory(adamw(), params).bytes_per_parameter
      12.000003814697266
    """
    state = jax.eval_shape(tx.init, params)
    named, inside = dict[int, str](), seen_through(tx.update, state)
    if inside is not None:
        _, ours, inner, _ = inside
        ours, inner = (ours.inner, inner.inner_state) if isinstance(ours, Skipping) else (ours, inner)
        contents = ours.layout.read(inner)
        named = {id(x): COUNT for x in contents.counts}
        for name, tree in {**contents.slots, **contents.model, **contents.companions}.items():
            named |= dict.fromkeys(map(id, jax.tree.leaves(tree)), name)
    arrays = [Stored(named.get(id(x), "state"), x.dtype.name, _bytes(x)) for x in jax.tree.leaves(state)]
    forms, grown = _forms(params), sum(map(_bytes, _forms(grads)))
    return report(sum(map(_bytes, forms)), sum(x.size for x in forms), grown, arrays, 0, OPERATIONS)


def _forms(tree: Tree) -> list[jax.ShapeDtypeStruct]:
    """Shapes and dtypes of the leaves; an array that stands at several places once."""
    leaves = list({id(x): x for x in jax.tree.leaves(tree)}.values())
    return jax.eval_shape(lambda *each: list(each), *leaves)


def _bytes(x: jax.ShapeDtypeStruct) -> int:
    return x.size * np.dtype(x.dtype).itemsize
