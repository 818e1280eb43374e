"""What multiplies gradients on their way into the formula: the inverse of a loss scale, and clipping by global norm.

Both are one coefficient of the step. The gradients stay as they are, and no pass over them is made but the norm's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import torch

from .rows import entries

Tensor = torch.Tensor
#: In place of scales: this step must change nothing.
SKIP: Final = "skip"
#: torch's `clip_grad_norm_` adds it to the norm.
TINY = 1e-6


def scales(optimizer: Any, found: Sequence[Tensor | None]) -> list[Any] | str | None:
    """For each group what its gradients are multiplied by; None if nothing is, SKIP if this step must not be made.

    `grad_scale` and `found_inf` are put on the optimizer by `torch.amp.GradScaler` for the time of one step.
    """
    limits = [group.get("max_grad_norm") for group in optimizer.param_groups]
    mine = vars(optimizer)
    grad_scale, found_inf = mine.get("grad_scale"), mine.get("found_inf")
    if grad_scale is None and found_inf is None and not any(limits):
        return None
    if found_inf is not None and found_inf.item() != 0:
        return SKIP
    inverse = 1.0 if grad_scale is None else 1.0 / grad_scale.item()
    grads = [g for g in found if g is not None]
    norm = _norm(grads) * inverse if any(limits) and grads else None
    return [inverse * (1.0 if not limit or norm is None else _clip(limit, norm)) for limit in limits]


def _norm(grads: list[Tensor]) -> float | Tensor:
    """The norm of all gradients together, as `torch.nn.utils.clip_grad_norm_` takes it."""
    meshes: dict[Any, list[Tensor]] = {}  # what is spread over different ones has no common norm in torch
    for g in grads:
        meshes.setdefault(getattr(g, "device_mesh", None), []).append(g)
    norms = list(map(_norm_together, meshes.values()))
    norm = norms[0] if len(norms) == 1 else torch.stack([x.to(norms[0].device) for x in norms]).norm()
    return norm.item() if norm.device.type == "cpu" else norm


def _norm_together(grads: list[Tensor]) -> Tensor:
    norm = torch.nn.utils.get_total_norm(list(map(entries, grads)))
    return norm.full_tensor() if hasattr(norm, "full_tensor") else norm


def _clip(limit: float, norm: float | Tensor) -> Any:
    factor = limit / (norm + TINY)
    return factor.clamp(max=1.0) if isinstance(factor, Tensor) else factor if factor != factor else min(1.0, factor)
