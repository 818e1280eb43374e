"""A dict of arrays through the adapter's `step` under `jax.jit`, parameters and state donated as in a training loop."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import scirs2_adapters
from scirs2_adapters import jax as adapter
from scirs2_adapters.adapters.jax.argument_names import argument_names

from ..options import Hyper
from ..problem import STORAGE, Arrays, Problem
from ..walk import State

#: The older place of what JAX calls `jax.enable_x64` today.
double = jax.enable_x64 if hasattr(jax, "enable_x64") else jax.experimental.enable_x64


def copied(x: Any) -> np.ndarray:
    """An array's value in float64."""
    return np.array(x).astype(float)


class Optimizer:
    """A rule in JAX. float64 is JAX's own setting."""

    def __init__(self, rule: str, hyper: Hyper, path: str, problem: Problem) -> None:
        self.dtype, self.values = STORAGE[problem.dtype], iter(problem.values)
        in_order = list(problem.names) == sorted(problem.names)  # in which JAX takes them
        self.names = [name if in_order else f"{i}_{name}" for i, name in enumerate(problem.names)]
        cls = scirs2_adapters.get(rule)
        self.tx = getattr(adapter, rule)(**argument_names(cls).to_framework(hyper, cls.fields_with()), kernel=path)
        with double(self.dtype == np.float64):
            self.arrays = self.tree(problem.params)
            self.memory = self.tx.init(self.arrays)
            self.jitted = jax.jit(self.stepped, donate_argnums=(1, 2))

    def stepped(self, grads: Any, state: Any, params: Any, value: jax.Array) -> tuple[Any, Any]:
        """The step that is compiled."""
        return adapter.step(self.tx, grads, state, params, value=value)

    def tree(self, arrays: Arrays) -> dict[str, jax.Array]:
        """Arrays by name, in memory of JAX's own."""
        return {k: jnp.array(x.astype(self.dtype)) for k, x in zip(self.names, arrays, strict=True)}

    def step(self, grads: Arrays) -> None:
        with double(self.dtype == np.float64):
            self.arrays, self.memory = self.jitted(self.tree(grads), self.memory, self.arrays, next(self.values))

    def params(self) -> Arrays:
        return [copied(self.arrays[k]) for k in self.names]

    def state(self) -> State:
        layout = self.tx.update.layout
        memory = layout.read(self.memory)
        sign = {name: -1.0 if name in layout.negative else 1.0 for name in memory.slots}
        held = [{name: tree[k] for name, tree in memory.slots.items()} for k in self.names]
        leaves = [{n: sign[n] * copied(x) for n, x in slots.items() if isinstance(x, jax.Array)} for slots in held]
        return {"leaves": leaves, "model": {name: copied(x) for name, x in memory.model.items()}}
