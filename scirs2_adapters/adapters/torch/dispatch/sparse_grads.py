"""Gradients that are given by rows: which rule takes them, and their numbers."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from scirs2_adapters.core.registry import get, names
from scirs2_adapters.core.rule import Rule

from ..state.protocols import GroupValues

Tensor = torch.Tensor
_HALF = (torch.float16, torch.bfloat16)


def is_sparse(g: Tensor) -> bool:
    """Whether a gradient is given by rows."""
    return g.layout is torch.sparse_coo


def check_parameters(name: str, rule: Rule, groups: Sequence[GroupValues]) -> None:
    """What torch refuses at the door where an optimizer is for sparse gradients only."""
    if rule.sparse != "rows":
        return
    places = [([i, j], p) for i, group in enumerate(groups) for j, p in enumerate(group["params"])]
    if indices := [place for place, p in places if p.layout is not torch.strided]:
        raise ValueError(f"`{name}`: Sparse params at indices {indices}: {name} requires dense parameter tensors")
    if indices := [place for place, p in places if p.is_complex()]:
        raise ValueError(f"`{name}`: Complex params at indices {indices}: {name} does not support complex parameters")


def refuse(name: str, rule: Rule, g: Tensor, fused: bool) -> None:
    """A layout of the gradient that the rule cannot take."""
    if g.layout is torch.strided:
        if rule.sparse == "rows":
            way = "Use `sparse=True` where the gradient is made, or another optimizer for this parameter."
            raise RuntimeError(f"{name} does not support dense gradients. {way}")
        return
    if not is_sparse(g) or rule.sparse is None or rule.model_slots():
        takers = " or ".join(get(n).__name__ for n in names() if get(n).sparse)
        raise RuntimeError(
            f"{name} does not support sparse gradients. Received: one of layout {g.layout}. "
            f"Use `sparse=False` where the gradient is made, or {takers} for this parameter."
        )
    if fused:
        raise RuntimeError(f"`{name}`: `fused=True` does not support sparse gradients. Use `fused=None`.")
    if decay_moves_all_rows(rule):
        raise RuntimeError(
            f"`{name}`: the weight_decay option is not compatible with sparse gradients. "
            f"Received: weight_decay={rule.weight_decay}. Use a group with `weight_decay=0.0` for this parameter."
        )


def decay_moves_all_rows(rule: Rule) -> bool:
    """Whether weight decay would move rows whose gradient is zero, and they are part of the step."""
    return bool(rule.weight_decay) and rule.sparse == "exact"


def entries(g: Tensor) -> Tensor:
    """The numbers of a gradient: of a sparse one those that are given, each row once."""
    return coalesced(g).values() if is_sparse(g) else g


def wide(g: Tensor) -> Tensor:
    """The gradient in a dtype in which rows that are given twice can be added up."""
    return g.to(torch.float32) if g.dtype in _HALF and not g.is_coalesced() else g


def coalesced(g: Tensor) -> Tensor:
    return g if g.is_coalesced() else wide(g).coalesce()
