"""What tests of loading share: a small model whose parameters have names."""

from __future__ import annotations

from typing import Any

import torch

from .torch_support import Optimizer, ours, plain, walk

NAMES = ["0.weight", "0.bias", "1.weight", "1.bias"]
SHAPES = ((5, 3), (5,), (2, 5), (2,))


def named(order: list[int] | None = None) -> list[tuple[str, torch.Tensor]]:
    pairs = list(zip(NAMES, plain(shapes=SHAPES), strict=True))
    return pairs if order is None else [pairs[i] for i in order]


def stepped(name: str, params: Any, **options: Any) -> Optimizer:
    optimizer = ours(name)(params, **options)
    walk(optimizer, steps=3)
    return optimizer
