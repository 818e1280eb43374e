"""A transformer in JAX, written out: its tokens are the eight rows of a digit."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax

from scirs2_adapters.demo import jax_digits
from scirs2_adapters.demo.data import SIZES

SIDE, WIDTH, LAYERS = 8, 64, 2
#: Of a layer: what makes queries, keys and values, what joins them, and two matrices around a ReLU.
LAYER = ((WIDTH, 3 * WIDTH), (WIDTH, WIDTH), (WIDTH, 4 * WIDTH), (4 * WIDTH, WIDTH))
SHAPES = ((SIDE, WIDTH), (SIDE, WIDTH), *(LAYER * LAYERS), (WIDTH, SIZES[-1]))


class Adapter(jax_digits.Adapter):
    """The same first weights for each optimizer."""

    def initial(self) -> list[np.ndarray]:
        rng = np.random.default_rng(self.settings.seed)
        return [rng.normal(scale=shape[0] ** -0.5, size=shape).astype(np.float32) for shape in SHAPES]

    def loss(self, params: list[jax.Array], x: jax.Array, y: jax.Array) -> jax.Array:
        embedding, positions, *layers, head = params
        x = x.reshape(-1, SIDE, SIDE) @ embedding + positions
        for k in range(0, len(layers), len(LAYER)):
            x = _layer(layers[k : k + len(LAYER)], x)
        losses: jax.Array = optax.softmax_cross_entropy_with_integer_labels(x.mean(axis=1) @ head, y)
        return losses.mean()


def _layer(params: list[jax.Array], x: jax.Array) -> jax.Array:
    mixing, joining, wide, narrow = params
    query, key, value = jnp.split(jax.nn.standardize(x) @ mixing, 3, axis=-1)
    weights = jax.nn.softmax(query @ key.swapaxes(1, 2) / WIDTH**0.5)
    x = x + weights @ value @ joining
    return x + jax.nn.relu(jax.nn.standardize(x) @ wide) @ narrow
