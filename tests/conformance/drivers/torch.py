"""torch parameters, one group, stepped by `step` with gradients put in place as autograd would."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

import scirs2_adapters
from scirs2_adapters import torch as adapter
from scirs2_adapters.adapters.torch.argument_names import TORCH

from ..options import Hyper
from ..problem import Arrays, Problem
from ..walk import State


def copied(x: object) -> np.ndarray:
    """A tensor's or a number's value in float64."""
    return torch.as_tensor(x, dtype=torch.float64).detach().numpy().copy()


class Optimizer:
    """A rule in torch."""

    def __init__(self, rule: str, hyper: Hyper, path: str, problem: Problem) -> None:
        cls = scirs2_adapters.get(rule)
        self.dtype, self.values = getattr(torch, problem.dtype), iter(problem.values)
        self.needs_value = cls(**{k: v for k, v in hyper.items() if k == "base"}).needs_value
        named = zip(problem.names, problem.params, strict=True)
        self.named = [(name, torch.nn.Parameter(torch.tensor(p, dtype=self.dtype))) for name, p in named]
        arguments = TORCH.to_framework(whole(hyper, rule), cls.fields_with(hyper.get("base")))
        base = {"base": hyper["base"]} if "base" in hyper else {}
        self.optimizer = self.made(rule, {**base, **arguments, "kernel": path})

    def made(self, rule: str, arguments: dict[str, Any]) -> torch.optim.Optimizer:
        """The optimizer of this name over the parameters, with these arguments in torch's words."""
        made: torch.optim.Optimizer = getattr(adapter, scirs2_adapters.get(rule).__name__)(self.named, **arguments)
        return made

    def settings(self) -> str:
        """The class and all that it was given besides parameters: two optimizers that have the same step alike."""
        groups = [{k: v for k, v in group.items() if k != "params"} for group in self.optimizer.param_groups]
        return f"{type(self.optimizer)} {groups} {self.optimizer.defaults}"

    def step(self, grads: Arrays) -> None:
        for (_, p), g in zip(self.named, grads, strict=True):
            p.grad = self.gradient(torch.tensor(g, dtype=self.dtype))
        value = next(self.values)
        self.optimizer.step((lambda: torch.tensor(value)) if self.needs_value else None)

    def gradient(self, g: torch.Tensor) -> torch.Tensor:
        """The gradient, with all rows named where the rule takes no dense one."""
        if scirs2_adapters.get(type(self.optimizer).__name__).sparse != "rows":
            return g
        index = torch.arange(len(g))[None] if g.ndim else torch.empty(0, 1)
        values = g if g.ndim else g[None]
        return torch.sparse_coo_tensor(index, values, g.shape, check_invariants=True)

    def params(self) -> Arrays:
        return [copied(p) for _, p in self.named]

    def state(self) -> State:
        held = [self.optimizer.state.get(p, {}) for _, p in self.named]
        leaves = [{name: copied(x) for name, x in slots.items() if name != "step"} for slots in held]
        model = [s.name for s in scirs2_adapters.get(type(self.optimizer).__name__)().model_slots()]
        return {"leaves": leaves, "model": {name: copied(self.optimizer.param_groups[0][name]) for name in model}}


def whole(hyper: Hyper, rule: str) -> Hyper:
    """The options with the other members of each of torch's tuples added, since torch takes a tuple whole."""
    cls = scirs2_adapters.get(rule)
    preset = cls(**{k: v for k, v in hyper.items() if k == "base"})
    options = {k: v for k, v in hyper.items() if k != "base"}
    for members in TORCH.tuples_of(preset.fields).values():
        if any(m in options for m in members):
            options = {m: getattr(preset, m) for m in members} | options
    return options
