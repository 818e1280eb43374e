"""Flax NNX: `nnx.Optimizer` drives ours as it drives optax's own, here Lion with a warm-up.

Run it with `python examples/jax_flax_nnx.py`.
"""

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from sklearn.datasets import load_digits

from scirs2_adapters.jax import lion


class Network(nnx.Module):
    """Two layers with dropout between them."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.first = nnx.Linear(64, 64, rngs=rngs)
        self.dropout = nnx.Dropout(0.1, rngs=rngs)
        self.last = nnx.Linear(64, 10, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.last(self.dropout(nnx.relu(self.first(x))))


@nnx.jit
def train(model: Network, optimizer: nnx.Optimizer, x: jax.Array, y: jax.Array) -> jax.Array:
    def loss(model: Network) -> jax.Array:
        return optax.softmax_cross_entropy_with_integer_labels(model(x), y).mean()

    value, grads = nnx.value_and_grad(loss)(model)
    optimizer.update(model, grads)
    return value


def main(steps: int = 200) -> float:
    """The accuracy on images that were not trained on."""
    images, digits = load_digits(return_X_y=True)
    x, y = jnp.asarray(images / 16, jnp.float32), jnp.asarray(digits)
    model = Network(nnx.Rngs(0))
    schedule = optax.warmup_cosine_decay_schedule(0.0, 2e-3, 20, steps)
    optimizer = nnx.Optimizer(model, lion(schedule, weight_decay=1e-2), wrt=nnx.Param)
    for i in range(steps):
        batch = jax.random.choice(jax.random.key(i), 1200, (128,))
        train(model, optimizer, x[batch], y[batch])
    model.eval()
    return float((model(x[1200:]).argmax(1) == y[1200:]).mean())


if __name__ == "__main__":
    accuracy = main()
    print(f"accuracy {accuracy:.3f}")
    assert accuracy > 0.85
