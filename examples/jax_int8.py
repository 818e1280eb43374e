"""JAX: a bfloat16 network learns scikit-learn's digits with 8-bit state; the line that asks for it is marked.

Run it with `python examples/jax_int8.py`.
"""

from functools import partial

import jax
import jax.numpy as jnp
import optax
from sklearn.datasets import load_digits

from scirs2_adapters.jax import adamw, memory, step


def logits(params: dict[str, jax.Array], x: jax.Array) -> jax.Array:
    return jax.nn.relu(x @ params["w1"] + params["b1"]) @ params["w2"] + params["b2"]


def loss(params: dict[str, jax.Array], x: jax.Array, y: jax.Array) -> jax.Array:
    return optax.softmax_cross_entropy_with_integer_labels(logits(params, x).astype(jnp.float32), y).mean()


def main(steps: int = 300) -> float:
    """The accuracy on images that were not trained on."""
    images, digits = load_digits(return_X_y=True)
    x, y = jnp.asarray(images / 16, jnp.bfloat16), jnp.asarray(digits)
    keys = jax.random.split(jax.random.key(0))
    params = {
        "w1": jax.random.normal(keys[0], (64, 256), jnp.bfloat16) / 8,
        "b1": jnp.zeros(256, jnp.bfloat16),
        "w2": jax.random.normal(keys[1], (256, 10), jnp.bfloat16) / 16,
        "b2": jnp.zeros(10, jnp.bfloat16),
    }
    tx = adamw(2e-3, state_dtype="int8", rounding="compensated")  # <- this one
    print(memory(tx, params))
    state = tx.init(params)

    @partial(jax.jit, donate_argnums=(0, 1))
    def train(params, state, x, y):
        return step(tx, jax.grad(loss)(params, x, y), state, params)

    for i in range(steps):
        batch = jax.random.choice(jax.random.key(i), 1200, (128,))
        params, state = train(params, state, x[batch], y[batch])
    return float((logits(params, x[1200:]).argmax(1) == y[1200:]).mean())


if __name__ == "__main__":
    print(f"accuracy {main():.3f}")
