"""Every optimizer in Flax NNX, Flax's TrainState and Equinox, whose parameters are trees of their own kinds."""

from __future__ import annotations

from typing import Any

import equinox
import jax
import jax.numpy as jnp
import optax
import pytest
from flax import nnx
from flax.training.train_state import TrainState

import scirs2_adapters
from scirs2_adapters import jax as adapter

from .jax_support import SMALL, shapes, small, steps_alike

each_rule = pytest.mark.parametrize("name", scirs2_adapters.names())


class Model(nnx.Module):
    """Parameters, and statistics that are none."""

    def __init__(self) -> None:
        rngs = nnx.Rngs(0)
        self.first, self.norm = nnx.Linear(3, 4, rngs=rngs), nnx.BatchNorm(4, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.norm(self.first(x)).sum()


@each_rule
def test_an_optimizer_of_nnx_steps_by_it(name: str) -> None:
    def trained(steps: int) -> Any:
        model = Model()
        optimizer = nnx.Optimizer(model, getattr(adapter, name)(), wrt=nnx.Param)
        for _ in range(steps):
            optimizer.update(model, nnx.grad(lambda m: m(jnp.ones((2, 3))))(model))
        return nnx.state((model, optimizer))

    assert shapes(nnx.eval_shape(lambda: trained(2))) == shapes(nnx.eval_shape(lambda: trained(0)))


def test_an_optimizer_of_nnx_learns_and_follows_an_injected_rate() -> None:
    model = Model()
    optimizer = nnx.Optimizer(model, optax.inject_hyperparams(adapter.adamw)(0.1), wrt=nnx.Param)

    @nnx.jit
    def train(model: Model, optimizer: nnx.Optimizer) -> Any:
        loss, grads = nnx.value_and_grad(lambda m: (m.first(jnp.ones((2, 3))) ** 2).sum())(model)
        optimizer.update(model, grads)
        return loss

    losses = [float(train(model, optimizer)) for _ in range(3)]
    assert losses[0] > losses[1] > losses[2]
    optimizer.opt_state.hyperparams["learning_rate"][...] = jnp.zeros(())
    assert float(train(model, optimizer)) == float(train(model, optimizer))


@each_rule
def test_a_train_state_steps_by_it(name: str) -> None:
    state = TrainState.create(apply_fn=None, params=SMALL, tx=getattr(adapter, name)())
    assert shapes(jax.eval_shape(lambda s: s.apply_gradients(grads=small(1)), state).opt_state) == shapes(
        state.opt_state
    )


@each_rule
def test_a_filtered_module_of_equinox_is_stepped(name: str) -> None:
    """What is no array of it is None, in parameters and gradients alike."""
    model = equinox.nn.MLP(3, 2, 4, 1, activation=jax.nn.relu, key=jax.random.key(0))
    params = equinox.filter(model, equinox.is_inexact_array)
    grads = equinox.filter_eval_shape(equinox.filter_grad(lambda m: m(jnp.ones(3)).sum()), model)
    assert shapes(grads) == shapes(params)
    steps_alike(getattr(adapter, name)(), params, params)


@pytest.mark.parametrize("options", [{}, {"rounding": "compensated"}], ids=["plain", "compensated"])
def test_a_bfloat16_module_of_equinox_keeps_its_dtype(options: dict[str, Any]) -> None:
    """Under `step` and optax's `apply_updates`; Equinox' adds without a cast, and the gradients are float32."""
    params = equinox.filter(equinox.nn.Linear(3, 2, key=jax.random.key(0), dtype=jnp.bfloat16), equinox.is_array)
    grads = jax.tree.map(lambda p: jnp.ones(p.shape, jnp.float32), params)
    tx = adapter.adamw(1e-2, **options)
    updates, _ = tx.update(grads, tx.init(params), params)
    stepped, _ = adapter.step(tx, grads, tx.init(params), params)
    assert shapes(stepped) == shapes(optax.apply_updates(params, updates)) == shapes(params)
    assert {p.dtype for p in jax.tree.leaves(equinox.apply_updates(params, updates))} == {jnp.dtype("float32")}
