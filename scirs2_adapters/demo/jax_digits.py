"""JAX: a pure train step under `jit`, parameters and state donated."""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax

from scirs2_adapters.jax import adamw, lion, step

from .adapter import DigitsAdapter, Step, Watch
from .data import HYPER

Arrays = list[jax.Array]
#: (grads, state, params) -> (params, state)
Update = Callable[[Arrays, optax.OptState, Arrays], tuple[Arrays, optax.OptState]]


class Adapter(DigitsAdapter):
    """A perceptron written out in jnp."""

    COUNTERPARTS = {"adamw": "optax.adamw", "lion": "optax.lion"}

    def train(self, optimizer: str, kind: str, watch: Watch) -> tuple[float, float]:
        tx, update = self._optimizer(optimizer, kind)

        def train_step(
            params: Arrays, state: optax.OptState, x: jax.Array, y: jax.Array
        ) -> tuple[Arrays, optax.OptState, jax.Array]:
            loss, grads = jax.value_and_grad(_loss)(params, x, y)
            return *update(grads, state, params), loss

        fast = jax.jit(train_step, donate_argnums=(0, 1))
        params = [jnp.array(p) for p in self.digits.initial]
        state = tx.init(params)
        watch.start(self.digits.initial)
        for x, y in self.digits.batches:
            params, state, loss = fast(params, state, x, y)
            watch(float(loss), functools.partial(_arrays, params))
        watch.finish(_arrays(params))
        return self.digits.score(watch.last)

    def steppers(self, optimizer: str) -> tuple[Step, Step]:
        return self._stepper(optimizer, "ours"), self._stepper(optimizer, "own")

    def _stepper(self, optimizer: str, kind: str) -> Step:
        tx, update = self._optimizer(optimizer, kind)
        fast = jax.jit(lambda params, state, grads: update(grads, state, params), donate_argnums=(0, 1))
        grads = [jnp.array(g) for g in self.gradients]
        params = [jnp.array(p) for p in self.digits.initial]
        state = tx.init(params)

        def one_step() -> None:
            nonlocal params, state
            params, state = jax.block_until_ready(fast(params, state, grads))

        return one_step

    def _optimizer(self, optimizer: str, kind: str) -> tuple[optax.GradientTransformation, Update]:
        h = HYPER[optimizer]
        lr, b1, b2, decay = h["learning_rate"], h["beta1"], h["beta2"], h["weight_decay"]
        if optimizer == "lion":
            theirs, ours = optax.lion(lr, b1, b2, weight_decay=decay), lion(lr, b1, b2, weight_decay=decay)
        else:
            theirs = optax.adamw(lr, b1, b2, h["eps"], weight_decay=decay)
            ours = adamw(lr, b1, b2, h["eps"], weight_decay=decay)
        if kind == "own":
            return theirs, functools.partial(_optax_step, theirs)
        return ours, functools.partial(step, ours)


def _optax_step(
    tx: optax.GradientTransformation, grads: Arrays, state: optax.OptState, params: Arrays
) -> tuple[Arrays, optax.OptState]:
    updates, state = tx.update(grads, state, params)
    return optax.apply_updates(params, updates), state


def _arrays(params: Arrays) -> list[np.ndarray]:
    return [np.asarray(p) for p in params]


def _loss(params: Arrays, x: jax.Array, y: jax.Array) -> jax.Array:
    for i in range(0, len(params), 2):
        x = (jnp.tanh(x) if i else x) @ params[i] + params[i + 1]
    return optax.softmax_cross_entropy_with_integer_labels(x, y).mean()
