"""Random numbers in formulas are the same bits in every framework, and look like chance."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest
import torch

from scirs2_adapters.adapters._xla.ops import OPS as XLA
from scirs2_adapters.adapters.tf.ops import OPS as KERAS
from scirs2_adapters.adapters.torch.ops import OPS as TORCH
from scirs2_adapters.core.step.reference import NUMPY

COUNT = 5000
FRAMEWORKS: dict[str, Callable[[int], np.ndarray]] = {
    "torch": lambda turn: TORCH.random(COUNT, turn, torch.ones(2)).numpy(),
    "torch, a count that is a tensor": lambda turn: TORCH.random(COUNT, torch.tensor(turn), torch.ones(2)).numpy(),
    "jax": lambda turn: np.asarray(XLA.random(COUNT, turn, jnp.ones(2))),
    "jax, traced": lambda turn: np.asarray(jax.jit(lambda t: XLA.random(COUNT, t, jnp.ones(2)))(jnp.float32(turn))),
    "keras": lambda turn: keras.ops.convert_to_numpy(KERAS.random(COUNT, turn, keras.ops.ones(2))),
}


def numbers(turn: int) -> np.ndarray:
    return NUMPY.random(COUNT, turn, np.ones(2))


#: The same of normal numbers, by three keys.
NORMAL: dict[str, Callable[..., np.ndarray]] = {
    "torch": lambda *keys: TORCH.normal(COUNT, keys, torch.ones(2)).numpy(),
    "torch, a count that is a tensor": lambda turn, *keys: TORCH.normal(
        COUNT, (torch.tensor(turn), *keys), torch.ones(2)
    ).numpy(),
    "jax": lambda *keys: np.asarray(XLA.normal(COUNT, keys, jnp.ones(2))),
    "jax, traced": lambda turn, *keys: np.asarray(
        jax.jit(lambda t: XLA.normal(COUNT, (t, *keys), jnp.ones(2)))(jnp.float32(turn))
    ),
    "keras": lambda *keys: keras.ops.convert_to_numpy(KERAS.normal(COUNT, keys, keras.ops.ones(2))),
}


@pytest.mark.parametrize("framework", NORMAL)
@pytest.mark.parametrize("keys", [(1, 0, 0), (70_000, 3, 1), (2**24 - 1, 0, 2**23)])
def test_every_framework_has_the_same_bits_of_normal_numbers(framework: str, keys: tuple[int, ...]) -> None:
    drawn = NORMAL[framework](*keys)
    assert drawn.dtype == np.float32
    assert np.array_equal(drawn, NUMPY.normal(COUNT, keys, np.ones(2)))


def test_each_of_the_keys_makes_other_normal_numbers() -> None:
    """Also where keys have one sum, or the same numbers in another order."""
    drawn = [NUMPY.normal(COUNT, keys, np.ones(2)) for keys in itertools.product((0, 1, 2), repeat=3)]
    correlations = np.corrcoef(drawn) - np.eye(len(drawn))
    assert np.max(np.abs(correlations)) < 6 / np.sqrt(COUNT)


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("turn", [0, 1, 70_000])
def test_every_framework_has_the_same_bits(framework: str, turn: int) -> None:
    drawn = FRAMEWORKS[framework](turn)
    assert drawn.dtype == np.float32
    assert np.array_equal(drawn, numbers(turn))


def test_they_are_spread_evenly_and_no_turn_repeats_another() -> None:
    turns = np.stack([numbers(turn) for turn in range(40)])
    assert np.all(np.abs(turns) < 1)
    assert np.all(turns != 0)
    near = 4 / np.sqrt(turns.size)
    assert abs(np.mean(turns)) < near
    assert abs(np.var(turns) - 1 / 3) < near
    correlations = np.corrcoef(turns) - np.eye(len(turns))
    assert np.max(np.abs(correlations)) < 6 / np.sqrt(COUNT)
    assert abs(np.mean(turns[:, 1:] * turns[:, :-1])) < near
