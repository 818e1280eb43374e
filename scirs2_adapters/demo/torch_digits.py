"""PyTorch: the training loop everyone writes."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch

from scirs2_adapters import torch as ours
from scirs2_adapters.adapters.torch.argument_names import TORCH
from scirs2_adapters.adapters.torch.optimizer.evaluation import EvaluatingOptimizer
from scirs2_adapters.core.registry import get

from .adapter import DigitsAdapter, Learn, Parameters, Step
from .data import SIZES


class Adapter(DigitsAdapter):
    """A `torch.nn.Sequential` of linear layers."""

    COUNTERPARTS = {"adamw": "torch.optim.AdamW"}

    def trainer(self, optimizer: str, kind: str) -> tuple[Learn, Parameters]:
        model = self.model()
        stepper = self._optimizer(optimizer, kind, model)

        def learn(x: np.ndarray, y: np.ndarray) -> float:
            loss = torch.nn.functional.cross_entropy(model(torch.from_numpy(x)), torch.from_numpy(y))
            stepper.zero_grad()
            loss.backward()
            stepper.step()
            return loss.item()

        def parameters() -> list[np.ndarray]:
            averages = stepper if isinstance(stepper, EvaluatingOptimizer) else model  # of which it changes nothing
            averages.eval()
            weights = [p.detach().numpy().T.copy() for p in model.parameters()]
            averages.train()
            return weights

        return learn, parameters

    def stepper(self, optimizer: str, kind: str) -> Step:
        model = self.model()
        for p, g in zip(model.parameters(), self.gradients, strict=True):
            p.grad = torch.from_numpy(g.T.copy())
        return self._optimizer(optimizer, kind, model).step

    def model(self) -> torch.nn.Module:
        """The perceptron with its first weights."""
        layers: list[torch.nn.Module] = []
        for i, (fan_in, fan_out) in enumerate(pairwise(SIZES)):
            layer = torch.nn.Linear(fan_in, fan_out)
            with torch.no_grad():
                layer.weight.copy_(torch.from_numpy(self.digits.initial[2 * i].T))
                layer.bias.copy_(torch.from_numpy(self.digits.initial[2 * i + 1]))
            layers += [torch.nn.Tanh(), layer] if i else [layer]
        return torch.nn.Sequential(*layers)

    def _optimizer(self, optimizer: str, kind: str, model: torch.nn.Module) -> torch.optim.Optimizer:
        cls = getattr(torch.optim if kind == "own" else ours, get(optimizer).__name__)
        built: torch.optim.Optimizer = cls(model.parameters(), **self.settings.words(optimizer, TORCH))
        return built


def step_once(kernel: str) -> None:
    """One step of our AdamW on this path."""
    p = torch.nn.Parameter(torch.ones(8))
    p.grad = torch.ones(8)
    ours.AdamW([p], kernel=kernel).step()
