"""How hooks are called once: by torch's wrapper around a step, and not again where a user's subclass has its own."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch._C._autograd import _profiler_enabled
from torch.optim.optimizer import _global_optimizer_post_hooks, _global_optimizer_pre_hooks

Optimizer = torch.optim.Optimizer


class Hooked(Optimizer):
    """An optimizer whose step is `_advance`, and `_hooked` the same in torch's wrapper."""

    _hooked: Callable[..., Any]

    def _advance(self, closure: Callable[[], Any] | None = None) -> Any:
        """Perform a single optimization step; `closure` reevaluates the model and returns the loss."""
        raise TypeError(f"`{type(self).__name__}` must say how it steps.")

    def step(self, *args: Any, **kwargs: Any) -> Any:
        # torch wraps the step of a user's subclass itself; wrapped here as well, hooks would be called twice.
        run = self._hooked if type(self).step is Hooked.step and _watched(self) else self._advance
        return run(*args, **kwargs)

    functools.update_wrapper(step, _advance)  # as a decorator it would hide the method from type checkers
    step.hooked = True  # type: ignore[attr-defined]


def _watched(optimizer: Any) -> bool:
    """Whether anyone would notice torch's wrapper around a step, which takes as long as the step of a small model."""
    mine = optimizer._optimizer_step_pre_hooks or optimizer._optimizer_step_post_hooks
    if mine or _global_optimizer_pre_hooks or _global_optimizer_post_hooks:
        return True
    return not torch.compiler.is_compiling() and _profiler_enabled()  # the compiler leaves the profiler's row out
