"""What is asked of the gradients before a step: by what they are multiplied on their way into the formula, which is the
inverse of a loss scale and clipping by global norm, and whether the step is made at all.

The factor is one coefficient of the step. The gradients stay as they are, and no pass over them is made but the norm's,
which tells as well that all of them are finite.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from operator import methodcaller
from typing import Final

import torch
from torch import distributed

from scirs2_adapters.core.errors import bad_type, bad_value
from scirs2_adapters.core.step.plan import grouped

from ..executors.sparse import entries
from ..state.protocols import Group, GroupValues, RuleOptimizerLike
from ..state.tensors import Tensor, is_dtensor, local

Groups = Sequence[GroupValues]
#: What the gradients of a group are multiplied by.
Scale = float | Tensor
#: In place of scales: this step must change nothing.
SKIP: Final = "skip"
#: torch's `clip_grad_norm_` adds it to the norm.
TINY = 1e-6
_LIMIT, _SKIPS = methodcaller("get", "max_grad_norm"), methodcaller("get", "skip_nonfinite")


def scales(
    optimizer: RuleOptimizerLike, grads: Sequence[Tensor | None], value: float | None = None
) -> list[Scale] | str | None:
    """For each group what its gradients are multiplied by; None if nothing is, SKIP if this step must not be made.
    `value` is the loss of a step that depends on it.

    `grad_scale` and `found_inf` are put on the optimizer by `torch.amp.GradScaler` for the time of one step.
    """
    groups = optimizer.param_groups
    limits = list(map(_LIMIT, groups))
    attributes, skips = vars(optimizer), skipping(groups)
    grad_scale, found_inf = attributes.get("grad_scale"), attributes.get("found_inf")
    scaled = grad_scale is not None or found_inf is not None or any(limits)
    if not (scaled or skips):
        return None
    overflown = found_inf is not None and bool(found_inf.item() != 0)
    numbers = [] if overflown else [g for g in grads if g is not None]
    inverse = 1.0 if grad_scale is None else 1.0 / grad_scale.item()
    norm = total_norm(numbers) * inverse if any(limits) and numbers else None
    if skips:
        check_skipping(type(optimizer).__name__, groups)
        overflown = overflown or (value is not None and not math.isfinite(value))
        overflown = _anywhere(overflown or not _finite(norm, numbers), groups)
        count_skipped(groups, int(overflown))
    if overflown:
        return SKIP
    if not scaled:
        return None
    return [inverse * (1.0 if not limit or norm is None else _clip(limit, norm)) for limit in limits]


def looks(groups: Groups) -> bool:
    """Whether `scales` looks at the gradients."""
    return skipping(groups) or any(map(_LIMIT, groups))


def skipping(groups: Groups) -> bool:
    """Whether a step with a gradient that is not finite is left out: if any group asks, for a step is of all groups."""
    return any(map(_SKIPS, groups))


def count_skipped(groups: Sequence[Group], more: int = 1) -> None:
    """Counts steps that were left out, where that is asked for; the number is the same in all groups."""
    if skipping(groups):
        count = max(group.get("skipped_steps") or 0 for group in groups) + more
        for group in groups:
            group["skipped_steps"] = count


def check_skipping(name: str, groups: Groups) -> None:
    """Refuse to promise what could not be kept: the host must see all gradients before it queues the step."""
    for group in groups:
        if not isinstance(group.get("skip_nonfinite", False), bool):
            raise bad_type(name, "skip_nonfinite", "must be True or False", group["skip_nonfinite"])
    if not skipping(groups):
        return
    if any(group.get("capturable") for group in groups):
        worded = "must be False where capturable=True: a captured step cannot look at its gradients"
        raise bad_value(name, "skip_nonfinite", worded, True, "Drop one, or let torch.amp.GradScaler look.")
    if any(getattr(p, "_fsdp_flattened", False) for group in groups for p in group.get("params", ())):
        worded = "must be False for what FullyShardedDataParallel has cut into pieces, of which each rank sees its own"
        raise bad_value(name, "skip_nonfinite", worded, True, "Use torch.distributed.fsdp.fully_shard.")


def all_finite(groups: Groups) -> bool:
    """Whether all gradients that the parameters have are finite, on every rank."""
    grads = [p.grad for group in groups for p in group["params"] if p.grad is not None]
    return not _anywhere(not _finite(None, grads), groups)


def _finite(norm: float | Tensor | None, grads: Sequence[Tensor]) -> bool:
    """Whether the norm is finite, or without one every number that this process has."""
    if norm is not None:
        return bool(norm.isfinite()) if isinstance(norm, Tensor) else abs(norm) < float("inf")
    numbers = [local(entries(g.detach())) for g in grads]
    real = [torch.view_as_real(x.resolve_conj()) if x.is_complex() else x for x in numbers if x.numel()]
    alike = grouped(real, lambda x: (x.device, x.dtype))
    # A sum of squares is made eight times as fast as a maximum, but may be infinite where no number is.
    return all(_finite_norms(xs, 2.0) or _finite_norms(xs, float("inf")) for xs in alike.values())


def _finite_norms(tensors: list[Tensor], order: float) -> bool:
    return bool(torch.stack(list(torch._foreach_norm(tensors, order))).isfinite().all())


def _anywhere(here: bool, groups: Groups) -> bool:
    """Whether `here` is true on any rank that has a part of these parameters. All of these ranks must call this."""
    meshes = dict.fromkeys(p.device_mesh for group in groups for p in group["params"] if is_dtensor(p))
    for mesh in meshes:
        flag = torch.full((), float(here), device=mesh.device_type)
        for i in range(mesh.ndim):
            distributed.all_reduce(flag, op=distributed.ReduceOp.MAX, group=mesh.get_group(i))
        here = bool(flag.item())
    return here


def total_norm(grads: list[Tensor]) -> float | Tensor:
    """The norm of all gradients together, as `torch.nn.utils.clip_grad_norm_` takes it."""
    # What is spread over different meshes has no common norm in torch.
    norms = list(map(_norm_together, grouped(grads, lambda g: getattr(g, "device_mesh", None)).values()))
    norm = norms[0] if len(norms) == 1 else torch.stack([x.to(norms[0].device) for x in norms]).norm()
    return norm.item() if norm.device.type == "cpu" else norm


def _norm_together(grads: list[Tensor]) -> Tensor:
    numbers = list(map(entries, grads))
    # float16 ends at 65,504, which the norm of scaled gradients soon exceeds: the norm of norms is taken instead.
    half = [x for x in numbers if x.dtype == torch.float16 and not is_dtensor(x)]
    norms = torch._foreach_norm(half, dtype=torch.float32) if half else ()
    norm = torch.nn.utils.get_total_norm([*(x for x in numbers if x.dtype != torch.float16 or is_dtensor(x)), *norms])
    return norm.full_tensor() if hasattr(norm, "full_tensor") else norm


def _clip(limit: float, norm: float | Tensor) -> Scale:
    factor = limit / (norm + TINY)
    return factor.clamp(max=1.0) if isinstance(factor, Tensor) else factor if factor != factor else min(1.0, factor)
