"""How hooks are called once: by torch's wrapper around a step, and not again where a user's subclass has its own; and
how a function that is put in the place of `step` remains something that torch's schedulers can wrap.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch._C._autograd import _profiler_enabled
from torch.optim.optimizer import _global_optimizer_post_hooks, _global_optimizer_pre_hooks

from ..executors.closures import Loss

Optimizer = torch.optim.Optimizer
Closure = Callable[[], Loss]


class Hooked(Optimizer):
    """An optimizer whose step is `_advance`, and `_hooked` the same in torch's wrapper."""

    _hooked: Callable[..., Loss]

    def _advance(self, closure: Closure | None = None) -> Loss:
        """Perform a single optimization step; `closure` reevaluates the model and returns the loss."""
        raise TypeError(f"`{type(self).__name__}` must say how it steps.")

    def step(self, *args: Closure | None, **kwargs: object) -> Loss:
        # torch wraps the step of a user's subclass itself; wrapped here as well, hooks would be called twice.
        unwrapped = getattr(type(self).step, "unwrapped", False)
        run: Callable[..., Loss] = self._hooked if unwrapped and _watched(self) else self._advance
        return run(*args, **kwargs)

    functools.update_wrapper(step, _advance)  # as a decorator it would hide the method from type checkers
    step.hooked = step.unwrapped = True  # type: ignore[attr-defined]

    def __setattr__(self, name: str, value: object) -> None:
        super().__setattr__(name, _rebindable(self, value) if name == "step" else value)


def _watched(optimizer: Optimizer) -> bool:
    """Whether anyone would notice torch's wrapper around a step, which takes as long as the step of a small model."""
    hooks = optimizer._optimizer_step_pre_hooks or optimizer._optimizer_step_post_hooks
    if hooks or _global_optimizer_pre_hooks or _global_optimizer_post_hooks:
        return True
    return not torch.compiler.is_compiling() and _profiler_enabled()  # the compiler leaves the profiler's row out


def _rebindable(optimizer: Optimizer, step: object) -> object:
    """What is put in the place of the class's `step`: torch's schedulers take it for a method, whose `__func__` they
    call with the optimizer. A compiled step or another function has none, and a method of another object a wrong one.
    """
    if not callable(step) or getattr(step, "__self__", None) is optimizer or hasattr(step, "_wrapped_by_lr_sched"):
        return step
    replacement: Callable[..., object] = step

    def rebound(_: object, *args: object, **kwargs: object) -> object:
        return replacement(*args, **kwargs)

    try:
        replacement.__func__ = rebound  # type: ignore[attr-defined]
    except AttributeError:  # a method, or a function in C
        wrapper = functools.wraps(replacement)(functools.partial(rebound, None))
        wrapper.__func__ = rebound  # type: ignore[attr-defined]
        return wrapper
    return replacement
