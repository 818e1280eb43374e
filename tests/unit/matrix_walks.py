"""Walks of numpy's optimizer, for tests of rules that step matrices."""

from __future__ import annotations

from typing import Any

import numpy as np

from scirs2_adapters.core import HostOptimizer, Rule

Arrays = dict[str, np.ndarray]


def arrays(seed: int, shapes: dict[str, tuple[int, ...]]) -> Arrays:
    """Normal numbers."""
    rng = np.random.default_rng(seed)
    return {k: rng.standard_normal(shape) for k, shape in shapes.items()}


def walked(rule: Rule, start: Arrays, gradients: list[Arrays], **options: Any) -> HostOptimizer:
    """The optimizer after these steps."""
    optimizer = HostOptimizer(rule, {k: p.copy() for k, p in start.items()}, **options)
    for grads in gradients:
        optimizer.step(grads)
    return optimizer
