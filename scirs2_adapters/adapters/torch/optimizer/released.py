"""Parameters stepped inside backward, each as soon as its gradient is complete, and the gradient freed at once.

A hook on each parameter collects it until enough numbers have come together; these are stepped as a `Part` of the
optimizer. What is left at the end of backward is stepped by a callback of the autograd engine. Hooks and callbacks know
the optimizer by a weak reference: parameters keep no optimizer alive.
"""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Sequence
from types import TracebackType
from typing import NoReturn

import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel
from torch.utils.weak import WeakTensorKeyDictionary

from scirs2_adapters.core.errors import bad_value
from scirs2_adapters.core.program.recorded import record

from ..dispatch.part import kept_part
from ..state.protocols import GroupValues, RuleOptimizerLike
from ..state.tensors import Tensor, leaves_of

#: Parameters are stepped together once they have this many numbers. A call of `step` takes some 50 microseconds, in
#: which a kernel walks 2^16 numbers or more; from 2^20 on, 4 MiB of gradients, calls are no longer seen in the time.
TOGETHER = 1 << 20
#: By this attribute `GradScaler` knows that a step wants to see the scale.
_SEES_SCALE = "_step_supports_amp_scaling"
_AFTER = "Or let `optimizer.step()` step after backward."
_USE = "Let `optimizer.step()` step after backward."


class ReleasedGradients:
    """The handle that `release_gradients` returns: in force until `remove`, or to the end of a `with` block."""

    def __init__(self, optimizer: RuleOptimizerLike) -> None:
        _refuse(optimizer)
        self._optimizer = weakref.ref(optimizer)
        self._hooks = WeakTensorKeyDictionary()
        #: By the engine's number of each backward pass that runs. The engine alone keeps the pass alive, and drops it
        #: with its callbacks, also where backward raises.
        self._passes: weakref.WeakValueDictionary[int, _Pass] = weakref.WeakValueDictionary()
        self._lock = threading.RLock()
        self._looked = False
        self._sees_scale = vars(optimizer).get(_SEES_SCALE)
        vars(optimizer)[_SEES_SCALE] = True
        self.active = True
        self.watch()

    def __enter__(self) -> ReleasedGradients:
        self._looked = True
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.remove()

    def remove(self) -> None:
        """Gradients stay again until `optimizer.step()`."""
        self.active = False
        for hook in self._hooks.values():
            hook.remove()
        self._hooks.clear()

    def watch(self) -> None:
        """Puts a hook on every parameter that requires a gradient and has none."""
        optimizer = self._optimizer()
        for group in optimizer.param_groups if optimizer is not None and self.active else ():
            for p in group["params"]:
                if p.requires_grad and p not in self._hooks:
                    self._hooks[p] = p.register_post_accumulate_grad_hook(self._arrived)

    def before_step(self, optimizer: RuleOptimizerLike) -> None:
        """What `optimizer.step()` does before it steps the gradients that still lie there, if any."""
        attributes = vars(optimizer)
        scaling = [attributes.pop(name) for name in ("grad_scale", "found_inf") if name in attributes]
        if scaling:
            raise RuntimeError(
                f"`{type(optimizer).__name__}.release_gradients` cannot be used with GradScaler: parameters were "
                "stepped in backward by scaled gradients, before it was known whether any overflows. "
                "Use bfloat16, which needs no scaler. " + _AFTER
            )
        if self.active:
            self.watch()
            return
        attributes["_released"] = None
        attributes.pop(_SEES_SCALE, None)
        if self._sees_scale is not None:
            attributes[_SEES_SCALE] = self._sees_scale

    def _arrived(self, p: Tensor) -> None:
        """The hook: the gradient of this parameter is complete."""
        optimizer = self._optimizer()
        if optimizer is None or not self.active or p.grad is None:
            return
        with self._lock:
            self._pass(optimizer).take(optimizer, p)

    def _pass(self, optimizer: RuleOptimizerLike) -> _Pass:
        """The backward pass that runs; at its first gradient it is checked that gradients may be released."""
        number = torch._C._current_graph_task_id()
        running = self._passes.get(number)
        if running is None:
            self._check(optimizer)
            thread = threading.get_ident()
            around = [other for other in self._passes.values() if other.thread == thread]
            self._passes[number] = running = _Pass(self, thread, around[0].arrived if around else set())
            torch.autograd.Variable._execution_engine.queue_callback(running.end)
        return running

    def _check(self, optimizer: RuleOptimizerLike) -> None:
        """What may have changed since the handle was made; a model is put into data parallel before its first pass."""
        check_groups(type(optimizer).__name__, optimizer.param_groups)
        if not self._looked:
            refuse_data_parallel(type(optimizer).__name__, optimizer.param_groups)
            self._looked = True

    def step(self, optimizer: RuleOptimizerLike, params: list[Tensor]) -> int:
        """Steps these parameters and frees their gradients; how many of them the optimizer has."""
        part = kept_part(optimizer, params)
        if part.params:
            with torch.no_grad(), torch.autocast(params[0].device.type, enabled=False):
                part.step()
            for p in part.params:
                p.grad = None
            vars(optimizer)["_opt_called"] = True  # schedulers ask for it
        return len(part.params)

    def end(self, running: _Pass) -> None:
        """The callback of the engine at the end of a backward pass."""
        optimizer = self._optimizer()
        if optimizer is not None and self.active:
            with self._lock:
                running.step(optimizer)

    def give_up(self, running: _Pass) -> None:
        """Drops the pass after an error: its traceback may keep the pass alive, and no later pass may use it."""
        for number in [k for k, other in self._passes.items() if other is running]:
            del self._passes[number]


class _Pass:
    """One backward pass: what has arrived in it, and what of that waits to be stepped. Backward passes inside another
    one, as of reentrant checkpoints, share what has arrived.
    """

    def __init__(self, handle: ReleasedGradients, thread: int, arrived: set[int]) -> None:
        self.handle, self.thread, self.arrived = handle, thread, arrived
        self.waiting: list[Tensor] = []
        self.stepped = 0

    def take(self, optimizer: RuleOptimizerLike, p: Tensor) -> None:
        """Takes a parameter whose gradient is complete."""
        if id(p) in self.arrived:
            self.handle.give_up(self)
            raise RuntimeError(
                f"`{type(optimizer).__name__}.release_gradients`: the gradient of a parameter of shape "
                f"{tuple(p.shape)} comes in several pieces in one backward pass, and the first has been stepped. "
                "Use torch.utils.checkpoint with use_reentrant=False. " + _AFTER
            )
        self.arrived.add(id(p))
        self.waiting.append(p)
        if sum(map(Tensor.numel, self.waiting)) >= TOGETHER:
            self.step(optimizer)

    def step(self, optimizer: RuleOptimizerLike) -> None:
        """Steps what waits; a gradient that someone else has freed meanwhile is none."""
        params, self.waiting = [p for p in self.waiting if p.grad is not None], []
        try:
            self.stepped += self.handle.step(optimizer, params) if params else 0
        except BaseException as error:
            self.handle.give_up(self)
            error.add_note(
                f"Raised in backward by `{type(optimizer).__name__}.release_gradients`: {self.stepped} parameters have "
                f"been stepped and their gradients freed. The step of {len(params)} more has failed, and the rest are "
                "as they were."
            )
            raise

    def end(self) -> None:
        """Steps the rest."""
        self.handle.end(self)


def release_gradients(optimizer: RuleOptimizerLike, before: ReleasedGradients | None) -> ReleasedGradients:
    """A new handle; `before` is the last one."""
    if before is not None and before.active:
        raise RuntimeError(
            f"`{type(optimizer).__name__}.release_gradients` was called and is still in force. "
            "Call `remove()` of the handle that it returned, or use that one."
        )
    if before is not None:
        before.before_step(optimizer)
    return ReleasedGradients(optimizer)


def _refuse(optimizer: RuleOptimizerLike) -> None:
    """Refuse what needs all gradients at once, before anything is changed."""
    name = type(optimizer).__name__
    check_groups(name, [optimizer.defaults, *optimizer.param_groups])
    for i, group in enumerate(optimizer.param_groups):
        rule = optimizer._group_rule(i, group).rule
        programs = [record(rule.route(leaf), leaf, call=name) for leaf in leaves_of(optimizer, group)]
        if any(program.sums for program in programs):
            raise RuntimeError(
                f"`{name}.release_gradients`: {name} sums over the gradients of the whole model. " + _USE
            )
        if any(getattr(p, "_fsdp_flattened", False) for p in group["params"]):
            raise RuntimeError(
                f"`{name}.release_gradients` cannot be used with FullyShardedDataParallel, whose hooks come before its "
                "sums over the ranks. Use torch.distributed.fsdp.fully_shard. " + _AFTER
            )
    refuse_data_parallel(name, optimizer.param_groups)


def check_groups(name: str, groups: Sequence[GroupValues]) -> None:
    """What a group asks for that needs all gradients at once, or keeps them."""
    for group in groups:
        if limit := group.get("max_grad_norm"):
            worded = "must be None where gradients are released in backward, before the norm of all of them is known"
            hint = "Clip each by itself, `p.register_hook(lambda g: g.clamp(-1.0, 1.0))` for every parameter. "
            raise bad_value(name, "max_grad_norm", worded, limit, hint + _AFTER)
        if group.get("skip_nonfinite"):
            worded = "must be False where gradients are released in backward, before all of them have been seen"
            raise bad_value(name, "skip_nonfinite", worded, True, _AFTER)
        if group.get("differentiable"):
            worded = "must be False where gradients are released in backward: a graph of the step would keep them"
            raise bad_value(name, "differentiable", worded, True, _AFTER)


def refuse_closure(name: str) -> NoReturn:
    """An optimizer that evaluates the model inside its step."""
    raise RuntimeError(f"`{name}.release_gradients`: {name} needs all gradients of several evaluations. " + _USE)


def refuse_data_parallel(name: str, groups: Sequence[GroupValues]) -> None:
    """DistributedDataParallel averages gradients after these hooks, and leaves no trace on parameters or gradients: its
    instances are looked for among the objects that refer to the class.
    """
    if not (distributed.is_available() and distributed.is_initialized()):
        return
    ours = {id(p) for group in groups for p in group["params"]}
    for model in gc.get_referrers(*_with_subclasses(DistributedDataParallel)):
        if isinstance(model, DistributedDataParallel) and any(id(p) in ours for p in model.parameters()):
            raise RuntimeError(
                f"`{name}.release_gradients` cannot be used with DistributedDataParallel, which averages gradients "
                "after the hooks of parameters and keeps all of them in its buckets. "
                "Use torch.distributed.fsdp.fully_shard. " + _AFTER
            )


def _with_subclasses(cls: type) -> list[type]:
    below = map(_with_subclasses, cls.__subclasses__())
    return [cls, *(kind for kinds in below for kind in kinds)]
