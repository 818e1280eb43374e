"""JAX: a pure train step under `jit`, parameters and state donated."""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax

from scirs2_adapters import jax as ours
from scirs2_adapters.adapters.jax.argument_names import argument_names, factory_name
from scirs2_adapters.core.registry import get

from .adapter import DigitsAdapter, Learn, Parameters, Step

Arrays = list[jax.Array]
#: (grads, state, params) -> (params, state)
Update = Callable[[Arrays, optax.OptState, Arrays], tuple[Arrays, optax.OptState]]


class Adapter(DigitsAdapter):
    """A perceptron written out in jnp."""

    COUNTERPARTS = {"adamw": "optax.adamw", "lion": "optax.lion"}

    def trainer(self, optimizer: str, kind: str) -> tuple[Learn, Parameters]:
        tx, params, state, update = self._start(optimizer, kind)

        @functools.partial(jax.jit, donate_argnums=(0, 1))
        def train_step(
            params: Arrays, state: optax.OptState, x: jax.Array, y: jax.Array
        ) -> tuple[Arrays, optax.OptState, jax.Array]:
            loss, grads = jax.value_and_grad(self.loss)(params, x, y)
            return *update(grads, state, params), loss

        def learn(x: np.ndarray, y: np.ndarray) -> float:
            nonlocal params, state
            params, state, loss = train_step(params, state, x, y)
            return float(loss)

        def parameters() -> list[np.ndarray]:
            weights = params if kind == "own" else ours.evaluation_params(tx, state, params)
            return list(map(np.asarray, weights))

        return learn, parameters

    def stepper(self, optimizer: str, kind: str) -> Step:
        _, params, state, update = self._start(optimizer, kind)
        fast = jax.jit(lambda params, state, grads: update(grads, state, params), donate_argnums=(0, 1))
        grads = [jnp.array(g) for g in self.gradients]

        def one_step() -> None:
            nonlocal params, state
            params, state = jax.block_until_ready(fast(params, state, grads))

        return one_step

    def initial(self) -> list[np.ndarray]:
        """The first weights."""
        return self.digits.initial

    def loss(self, params: Arrays, x: jax.Array, y: jax.Array) -> jax.Array:
        """Of the model, over a batch."""
        for i in range(0, len(params), 2):
            x = (jnp.tanh(x) if i else x) @ params[i] + params[i + 1]
        return optax.softmax_cross_entropy_with_integer_labels(x, y).mean()

    def _start(self, optimizer: str, kind: str) -> tuple[optax.GradientTransformation, Arrays, optax.OptState, Update]:
        words = self.settings.words(optimizer, argument_names(get(optimizer)))
        tx = getattr(optax if kind == "own" else ours, factory_name(optimizer))(**words)
        params = [jnp.array(p) for p in self.initial()]
        return tx, params, tx.init(params), functools.partial(_optax_step if kind == "own" else ours.step, tx)


def step_once(kernel: str) -> None:
    """One step of our adamw on this path."""
    tx, p = ours.adamw(1e-3, kernel=kernel), jnp.ones(8)
    jax.jit(lambda g, s, p: ours.step(tx, g, s, p))(p, tx.init(p), p)[0].block_until_ready()


def _optax_step(
    tx: optax.GradientTransformation, grads: Arrays, state: optax.OptState, params: Arrays
) -> tuple[Arrays, optax.OptState]:
    updates, state = tx.update(grads, state, params)
    return optax.apply_updates(params, updates), state
