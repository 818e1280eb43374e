"""PyTorch: the training loop everyone writes."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch

from scirs2_adapters.torch import AdamW, Lion

from .adapter import DigitsAdapter, Step, Watch
from .data import HYPER, SIZES


class Adapter(DigitsAdapter):
    """A `torch.nn.Sequential` of linear layers."""

    COUNTERPARTS = {"adamw": "torch.optim.AdamW"}

    def train(self, optimizer: str, kind: str, watch: Watch) -> tuple[float, float]:
        model = self._model()
        stepper = self._optimizer(optimizer, kind, model)
        watch.start(_arrays(model))
        for x, y in self.digits.batches:
            loss = torch.nn.functional.cross_entropy(model(torch.from_numpy(x)), torch.from_numpy(y))
            stepper.zero_grad()
            loss.backward()
            stepper.step()
            watch(loss.item(), lambda: _arrays(model))
        watch.finish(_arrays(model))
        return self.digits.score(watch.last)

    def steppers(self, optimizer: str) -> tuple[Step, Step]:
        return self._stepper(optimizer, "ours"), self._stepper(optimizer, "own")

    def _stepper(self, optimizer: str, kind: str) -> Step:
        model = self._model()
        for p, g in zip(model.parameters(), self.gradients, strict=True):
            p.grad = torch.from_numpy(g.T.copy())
        step: Step = self._optimizer(optimizer, kind, model).step
        return step

    def _model(self) -> torch.nn.Sequential:
        layers: list[torch.nn.Module] = []
        for i, (fan_in, fan_out) in enumerate(pairwise(SIZES)):
            layer = torch.nn.Linear(fan_in, fan_out)
            with torch.no_grad():
                layer.weight.copy_(torch.from_numpy(self.digits.initial[2 * i].T))
                layer.bias.copy_(torch.from_numpy(self.digits.initial[2 * i + 1]))
            layers += [torch.nn.Tanh(), layer] if i else [layer]
        return torch.nn.Sequential(*layers)

    def _optimizer(self, optimizer: str, kind: str, model: torch.nn.Module) -> torch.optim.Optimizer:
        h = HYPER[optimizer]
        params, lr, decay, betas = model.parameters(), h["learning_rate"], h["weight_decay"], (h["beta1"], h["beta2"])
        if optimizer == "lion":
            return Lion(params, lr=lr, betas=betas, weight_decay=decay)
        cls = torch.optim.AdamW if kind == "own" else AdamW
        return cls(params, lr=lr, betas=betas, eps=h["eps"], weight_decay=decay)


def _arrays(model: torch.nn.Module) -> list[np.ndarray]:
    return [p.detach().numpy().T for p in model.parameters()]
