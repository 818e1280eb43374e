"""Equinox: the model is the pytree of parameters; what is not a floating array is None in it and passes through.

Run it with `python examples/jax_equinox.py`.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from sklearn.datasets import load_digits

from scirs2_adapters.jax import rmsprop, step

tx = optax.inject_hyperparams(rmsprop)(2e-3, momentum=0.9, match="optax")


def loss(model: eqx.nn.MLP, x: jax.Array, y: jax.Array) -> jax.Array:
    return optax.softmax_cross_entropy_with_integer_labels(jax.vmap(model)(x), y).mean()


@eqx.filter_jit(donate="all-except-first")
def train(batch: tuple[jax.Array, jax.Array], model: eqx.nn.MLP, state: optax.OptState):
    grads = eqx.filter_grad(loss)(model, *batch)
    params, rest = eqx.partition(model, eqx.is_inexact_array)
    params, state = step(tx, grads, state, params)
    return eqx.combine(params, rest), state


def main(steps: int = 200) -> float:
    """The accuracy on images that were not trained on."""
    images, digits = load_digits(return_X_y=True)
    x, y = jnp.asarray(images / 16, jnp.float32), jnp.asarray(digits)
    model = eqx.nn.MLP(64, 10, 64, 1, key=jax.random.key(0))
    state = tx.init(eqx.filter(model, eqx.is_inexact_array))
    for i in range(steps):
        chosen = jax.random.choice(jax.random.key(i), 1200, (128,))
        model, state = train((x[chosen], y[chosen]), model, state)
        if i == steps // 2:  # an injected hyperparameter may be set at any time, without compiling anew
            state.hyperparams["learning_rate"] = state.hyperparams["learning_rate"] / 5
    return float((jax.vmap(model)(x[1200:]).argmax(1) == y[1200:]).mean())


if __name__ == "__main__":
    accuracy = main()
    print(f"accuracy {accuracy:.3f}")
    assert accuracy > 0.85
