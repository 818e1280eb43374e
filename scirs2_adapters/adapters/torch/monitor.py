"""Watches an optimizer of torch's by its step hooks; the norms of its groups."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch

from scirs2_adapters.core.monitor.monitor import Finish, Monitor
from scirs2_adapters.core.monitor.record import GroupRecord, Seen, labels

from .dispatch.scaling import total_norm
from .executors.sparse import entries
from .optimizer.closures import SearchOptimizer
from .optimizer.rules import RuleOptimizer
from .state.protocols import GroupValues
from .state.tensors import Tensor, is_dtensor, local

Optimizer = torch.optim.Optimizer
#: A copy of each parameter, by group.
Copies = list[list[Tensor]]


def watch(optimizer: Optimizer, monitor: Monitor) -> Monitor:
    """Record the steps of this optimizer. Steps that `torch.compile` has compiled call nobody."""

    def before(optimizer: Optimizer, *_: object) -> None:
        if not torch.compiler.is_compiling():
            monitor.before(functools.partial(_begin, optimizer))

    def after(optimizer: Optimizer, *_: object) -> None:
        if not torch.compiler.is_compiling() and monitor.recording:
            _wait(optimizer)
            monitor.after(optimizer)

    monitor.until(optimizer.register_step_pre_hook(before).remove)
    return monitor.until(optimizer.register_step_post_hook(after).remove)


def _begin(optimizer: Optimizer) -> Finish:
    kept = copies(optimizer.param_groups)
    _wait(optimizer)
    return functools.partial(_seen, kept)


def _wait(optimizer: Optimizer) -> None:
    """A device makes a step after it was asked for it."""
    for device in {p.device for group in optimizer.param_groups for p in group["params"]}:
        if device.type not in ("cpu", "meta"):
            torch.accelerator.synchronize(device)


@torch.no_grad()
def _seen(before: Copies, optimizer: Optimizer) -> Seen:
    groups, attributes = optimizer.param_groups, vars(optimizer)
    scale = attributes.get("grad_scale")  # for the time of a step that `GradScaler` has handed its scale
    records = group_records(groups, before, 1.0 if scale is None else 1.0 / float(scale))
    norms = [record.gradient_norm for record in records]
    bad = any(x is not None and not abs(x) < float("inf") for x in norms)
    return Seen(records, _nonfinite(groups) if bad else 0, skipped(groups), state_bytes(optimizer))


def copies(groups: Sequence[GroupValues]) -> Copies:
    """The parameters as they are now."""
    return [[p.detach().clone() for p in group["params"]] for group in groups]


@torch.no_grad()
def group_records(groups: Sequence[GroupValues], before: Copies, factor: float = 1.0) -> list[GroupRecord]:
    """The record of each group since these copies were made, which are overwritten; `factor` multiplies gradients."""
    records = []
    for name, group, old in zip(labels(groups), groups, before, strict=True):
        params = [p.detach() for p in group["params"]]
        for p, q in zip(params, old, strict=True):
            q.sub_(p)
        grads = [p.grad.detach() for p in group["params"] if p.grad is not None]
        of_grads = norm(grads) * factor if grads else None
        records.append(GroupRecord(name, float(group["lr"]), of_grads, norm(old), norm(params)))
    return records


def norm(tensors: Sequence[Tensor]) -> float:
    """The norm of all numbers of these tensors together, in float32 or better."""
    numbers = [entries(x) for x in tensors if x.numel()]
    narrow = [x for x in numbers if x.dtype.itemsize < 4 and not is_dtensor(x)]
    wide = [x for x in numbers if x.dtype.itemsize >= 4 or is_dtensor(x)]
    norms = torch._foreach_norm(narrow, dtype=torch.float32) if narrow else ()
    return float(total_norm([*wide, *norms])) if numbers else 0.0


def _nonfinite(groups: Sequence[GroupValues]) -> int:
    grads = [local(entries(p.grad.detach())) for group in groups for p in group["params"] if p.grad is not None]
    return sum(int(torch.isfinite(g).logical_not_().sum()) for g in grads)


def skipped(groups: Sequence[GroupValues]) -> int:
    """How many steps `skip_nonfinite` has left out."""
    return max((int(group.get("skipped_steps") or 0) for group in groups), default=0)


def state_bytes(optimizer: Optimizer) -> int | None:
    """The bytes of the state; None where the optimizer is not one of ours."""
    return optimizer.memory().state_bytes if isinstance(optimizer, (RuleOptimizer, SearchOptimizer)) else None
