"""JAX: a pure train step under `jit`, parameters and state donated."""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax

from scirs2_adapters import jax as ours
from scirs2_adapters.core.argument_names import ArgumentNames

from .adapter import DigitsAdapter, Step, Watch
from .data import hyper

OPTAX = ArgumentNames(names={"beta1": "b1", "beta2": "b2"})

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
        watch.keep(self.digits.initial)
        for x, y in self.digits.batches:
            params, state, loss = fast(params, state, x, y)
            watch(float(loss), functools.partial(_arrays, params))
        watch.keep(_arrays(params))
        return self.digits.score(_arrays(params))

    def stepper(self, optimizer: str, kind: str) -> Step:
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
        tx = getattr(optax if kind == "own" else ours, optimizer)(**hyper(optimizer, OPTAX))
        return tx, functools.partial(_optax_step if kind == "own" else ours.step, tx)


def step_once(kernel: str) -> None:
    """One step of our adamw on this path."""
    tx, p = ours.adamw(1e-3, kernel=kernel), jnp.ones(8)
    jax.jit(lambda g, s, p: ours.step(tx, g, s, p))(p, tx.init(p), p)[0].block_until_ready()


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
