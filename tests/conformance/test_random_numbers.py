"""Random numbers in formulas are the same bits in every framework, and look like chance."""

from __future__ import annotations

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


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("turn", [0, 1, 70_000])
def test_every_framework_has_the_same_bits(framework: str, turn: int) -> None:
    found = FRAMEWORKS[framework](turn)
    assert found.dtype == np.float32
    assert np.array_equal(found, numbers(turn))


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
