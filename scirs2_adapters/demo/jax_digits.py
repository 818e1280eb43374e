"""JAX: a pure train step under `jit`, parameters and state donated."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from scirs2_adapters.jax import adamw, lion, step

from .adapter import DigitsAdapter, Step, Watch
from .data import HYPER

Update = Callable[..., tuple[Any, Any]]


class Adapter(DigitsAdapter):
    """A perceptron written out in jnp."""

    OWN = {"adamw": "optax.adamw", "lion": "optax.lion"}

    def train(self, optimizer: str, kind: str, watch: Watch) -> tuple[float, float]:
        tx, update = self._optimizer(optimizer, kind)

        def train_step(params: Any, state: Any, x: Any, y: Any) -> tuple[Any, Any, Any]:
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
        held = [params, tx.init(params)]

        def one() -> None:
            held[:] = jax.block_until_ready(fast(*held, grads))

        return one

    def _optimizer(self, optimizer: str, kind: str) -> tuple[Any, Update]:
        h = HYPER[optimizer]
        words: dict[str, Any] = {"b1": h["beta1"], "b2": h["beta2"], "weight_decay": h["weight_decay"]}
        if optimizer == "adamw":
            words["eps"] = h["eps"]
        if kind == "own":
            tx = getattr(optax, optimizer)(h["learning_rate"], **words)
            return tx, lambda grads, state, params: _plain(tx, grads, state, params)
        tx = (lion if optimizer == "lion" else adamw)(h["learning_rate"], **words)
        return tx, lambda grads, state, params: step(tx, grads, state, params)


def _plain(tx: Any, grads: Any, state: Any, params: Any) -> tuple[Any, Any]:
    updates, state = tx.update(grads, state, params)
    return optax.apply_updates(params, updates), state


def _arrays(params: list[Any]) -> list[np.ndarray]:
    return [np.asarray(p) for p in params]


def _loss(params: list[Any], x: Any, y: Any) -> Any:
    for i in range(0, len(params), 2):
        x = (jnp.tanh(x) if i else x) @ params[i] + params[i + 1]
    return optax.softmax_cross_entropy_with_integer_labels(x, y).mean()
