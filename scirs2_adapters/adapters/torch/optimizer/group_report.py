"""What is going to happen to each parameter group, for those who show it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch

from scirs2_adapters.core.program.recorded import Program, record
from scirs2_adapters.core.rule import name_of

from ..dispatch import sharding
from ..dispatch.param_entry import tensor_obstacle
from ..executors import cuda
from ..state.protocols import GroupValues
from ..state.tensors import Tensor, dtype_name, is_dtensor, is_offloaded, leaves_of, local
from .rules import RuleOptimizer


@dataclass(frozen=True)
class GroupReport:
    """A group in words. `algorithms` and `path` are empty for an optimizer that is not ours."""

    tensors: int
    numbers: int
    dtypes: str
    algorithms: str = ""
    path: str = ""


def group_reports(optimizer: torch.optim.Optimizer) -> list[GroupReport]:
    """A report for each group; nothing is allocated, and no step is planned."""
    return [_report(optimizer, i, group) for i, group in enumerate(optimizer.param_groups)]


def _report(optimizer: torch.optim.Optimizer, index: int, group: GroupValues) -> GroupReport:
    params: list[Tensor] = group["params"]
    tensors, numbers = len(params), sum(local(p).numel() for p in params)
    dtypes = _together(dtype_name(p.dtype) for p in params)
    if not isinstance(optimizer, RuleOptimizer):
        return GroupReport(tensors, numbers, dtypes)
    rule, leaves = optimizer._group_rule(index, group).rule, leaves_of(optimizer, group)
    routed = list(map(rule.route, leaves))
    programs = [record(each, leaf) for each, leaf in zip(routed, leaves, strict=True)]
    paths = [_path(group, p, program) for p, program in zip(params, programs, strict=True)]
    return GroupReport(tensors, numbers, dtypes, _together(map(name_of, routed)), _together(paths))


def _path(group: GroupValues, p: Tensor, program: Program) -> str:
    """Which path is going to step a parameter, and the reason if it is not a kernel."""
    if group["kernel"] == "traced":
        return 'traced (kernel="traced")'
    if p.device.type == "cuda" and not is_offloaded(group, p):
        obstacle = cuda.kernel_obstacle(program, {"p": local(p)})
    else:
        obstacle = program.kernel_obstacle or tensor_obstacle(p, is_offloaded(group, p))
    if is_dtensor(p):
        obstacle = sharding.division_obstacle(p, program) or obstacle
    return "kernel" if obstacle is None else f"traced ({obstacle})"


def _together(words: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(words))
