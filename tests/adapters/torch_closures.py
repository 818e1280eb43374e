"""What the tests of optimizers with a closure share: a real problem, and how two of them are compared."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from sklearn.datasets import load_digits

Closure = Callable[[], torch.Tensor]
IMAGES, DIGITS = load_digits(return_X_y=True)


def logistic(make: Callable[[Any], Any], dtype: torch.dtype = torch.float64) -> tuple[torch.nn.Module, Any, Closure]:
    """Logistic regression of digits from zero: a model, its optimizer, and a closure that counts its calls."""
    x, y = torch.tensor(IMAGES[:200] / 16, dtype=dtype), torch.tensor(DIGITS[:200])
    model = torch.nn.Linear(64, 10, dtype=dtype)
    torch.nn.init.zeros_(model.weight)
    torch.nn.init.zeros_(model.bias)
    return train(
        model, make, lambda: torch.nn.functional.cross_entropy(model(x), y) + model.weight.square().sum() / 1e3
    )


def train(model: torch.nn.Module, make: Callable[[Any], Any], loss: Closure) -> tuple[torch.nn.Module, Any, Closure]:
    optimizer = make(model.parameters())

    def closure() -> torch.Tensor:
        closure.calls += 1  # type: ignore[attr-defined]
        optimizer.zero_grad()
        value = loss()
        value.backward()
        return value

    closure.calls = 0  # type: ignore[attr-defined]
    return model, optimizer, closure


def off(a: torch.nn.Module, b: torch.nn.Module) -> float:
    """The largest difference of parameters, relative to the largest value of each."""
    pairs = zip(a.parameters(), b.parameters(), strict=True)
    return max(float((p - q).detach().abs().max() / q.detach().abs().max().clamp(min=1e-30)) for p, q in pairs)


def same(a: Any, b: Any) -> bool:
    """Whether two states are of the same keys, types, shapes, dtypes and values to rounding."""
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return a.dtype == b.dtype and a.shape == b.shape and torch.allclose(a, b, rtol=1e-9, atol=1e-12)
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    return a == pytest.approx(b) if isinstance(a, (int, float)) else type(a) is type(b)
