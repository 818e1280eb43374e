"""Plain JAX: a two-layer network learns scikit-learn's digits; every step is one pass over parameters and state.

Run it with `python examples/jax_plain.py`.
"""

from functools import partial

import jax
import jax.numpy as jnp
import optax
from sklearn.datasets import load_digits

from scirs2_adapters.jax import adamw, step


def data() -> tuple[jax.Array, jax.Array]:
    """1,797 images of 8 x 8, and which digit each of them is."""
    x, y = load_digits(return_X_y=True)
    return jnp.asarray(x / 16, jnp.float32), jnp.asarray(y)


def logits(params: dict[str, jax.Array], x: jax.Array) -> jax.Array:
    return jax.nn.relu(x @ params["w1"] + params["b1"]) @ params["w2"] + params["b2"]


def loss(params: dict[str, jax.Array], x: jax.Array, y: jax.Array) -> jax.Array:
    return optax.softmax_cross_entropy_with_integer_labels(logits(params, x), y).mean()


def main(steps: int = 200) -> float:
    """The accuracy on images that were not trained on."""
    x, y = data()
    keys = jax.random.split(jax.random.key(0))
    params = {
        "w1": jax.random.normal(keys[0], (64, 64)) / 8,
        "b1": jnp.zeros(64),
        "w2": jax.random.normal(keys[1], (64, 10)) / 8,
        "b2": jnp.zeros(10),
    }
    tx = adamw(optax.cosine_decay_schedule(1e-2, steps), mask=lambda p: jax.tree.map(lambda w: w.ndim == 2, p))
    state = tx.init(params)

    @partial(jax.jit, donate_argnums=(0, 1))
    def train(params, state, x, y):
        return step(tx, jax.grad(loss)(params, x, y), state, params)

    for i in range(steps):
        batch = jax.random.choice(jax.random.key(i), 1200, (128,))
        params, state = train(params, state, x[batch], y[batch])
    return float((logits(params, x[1200:]).argmax(1) == y[1200:]).mean())


if __name__ == "__main__":
    accuracy = main()
    print(f"accuracy {accuracy:.3f}")
    assert accuracy > 0.85
