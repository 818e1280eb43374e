"""What the tests of Keras on torch share: arrays of every dtype, and variables and gradients made of them."""

from __future__ import annotations

from typing import Any

import keras
import ml_dtypes
import numpy as np

SHAPES = ((64, 72), (80,), (4173,), (), (2, 3, 4), (0, 2))
STEPS = 4
Arrays = list[np.ndarray]


def arrays(dtype: str, seed: int = 0, mean: float = 0.0) -> Arrays:
    rng = np.random.default_rng(seed)
    return [np.asarray(rng.normal(mean, size=s)).astype(getattr(ml_dtypes, dtype, dtype)) for s in SHAPES]


def gradients(dtype: str) -> list[Arrays]:
    return [arrays(dtype, seed, 0.2) for seed in range(1, 1 + STEPS)]


def tensor(x: np.ndarray, dtype: str | None = None) -> Any:
    import torch

    return torch.tensor(np.asarray(x, float), dtype=getattr(torch, dtype or x.dtype.name))


def variables(dtype: str = "float32") -> list[keras.Variable]:
    return [keras.Variable(tensor(p), dtype=dtype, name=f"p{i}") for i, p in enumerate(arrays(dtype))]


def apply(optimizer: keras.Optimizer, xs: list[keras.Variable], grads: list[Arrays]) -> None:
    for gs in grads:
        optimizer.apply(list(map(tensor, gs)), xs)
