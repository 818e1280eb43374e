"""The numbers that a rule keeps for the whole model, on the device that computes them: no step waits for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch

from scirs2_adapters.core.step.protocols import Model

from ..state.tensors import Tensor
from .triton_layout import Layout


class Tensors(Protocol):
    """Parameters that kernels step together."""

    layout: Layout
    sizes: np.ndarray


class ModelNumbers:
    """`numbers` are tensors of one number, by slot, which each step changes in place."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.numbers: dict[str, Tensor] = {}

    def arguments(self, batches: Sequence[Tensors], model: Model) -> list[dict[str, Tensor | int]]:
        """What the kernels of each batch read and write, from these numbers of the model."""
        if not model:
            return [{} for _ in batches]
        self._take(model)
        counts, width = [len(batch.sizes) for batch in batches], max(1, len(batches[0].layout.totals))
        shares = torch.empty(sum(counts) * width, dtype=torch.float64, device=self.device)
        common: dict[str, Tensor | int] = {"model": self.memory, "all_shares": shares, "tensors": sum(counts)}
        # One batch stores the new numbers; all compute them.
        stores = [self.memory, *[torch.empty_like(self.memory) for _ in batches[1:]]]
        parts = shares.split([count * width for count in counts])
        return [{**common, "shares": x, "new_model": y} for x, y in zip(parts, stores, strict=True)]

    def _take(self, model: Model) -> None:
        """Takes numbers that are not its own: those of the first step, and what someone has written since."""
        if not self.numbers:
            self.memory = torch.empty(len(model), dtype=torch.float64, device=self.device)
            self.numbers = dict(zip(model, self.memory.unbind(), strict=True))
        for name, x in model.items():
            if isinstance(x, Tensor) and x is not self.numbers[name]:
                self.numbers[name].copy_(x)
            elif not isinstance(x, Tensor):
                self.numbers[name].fill_(x)
