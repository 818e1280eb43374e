"""Parameters that lie on several devices, a part on each: torch's DTensor.

What a formula does element by element is done on the parts where they are. A `DTensorLayout` says how the parts of a
value make up the whole, so that sums are completed over the ranks, those of many tensors in one message, and a matrix
is gathered before a function of whole matrices. Every rank takes the same decisions, so that all of them meet in each
message.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, cast

import torch
from torch import distributed

from scirs2_adapters.core.errors import bad_value
from scirs2_adapters.core.groups import sums
from scirs2_adapters.core.ops import Ops
from scirs2_adapters.core.program.recorded import Program, needs_whole
from scirs2_adapters.core.rule import Rule
from scirs2_adapters.core.slots import Slot

from ..state.protocols import GroupValues, RuleOptimizerLike
from ..state.tensors import Tensor, is_dtensor, local, placements

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.tensor import DTensor, Placement

_DIVIDING = "ZeroRedundancyOptimizer"


@dataclass(frozen=True)
class DTensorLayout:
    """For each dimension of the mesh the axis that is divided over it, or None; and the shapes of the whole tensors."""

    mesh: DeviceMesh
    axes: tuple[int | None, ...]
    params: tuple[DTensor, ...]

    def of_slot(self, slot: Slot) -> DTensorLayout:
        """How a slot of these parameters is spread: an axis that it does not have is on every rank."""
        if slot.side:
            return DTensorLayout(self.mesh, (None,) * len(self.axes), self.params)
        ndim = self.params[0].ndim
        kept = [a for a, n in enumerate(slot.shape((2,) * ndim)) if n == 2]
        return DTensorLayout(self.mesh, tuple(a if a in kept else None for a in self.axes), self.params)

    def join(self, other: DTensorLayout | None) -> DTensorLayout:
        """How the result of both is spread, by broadcasting."""
        if other is None:
            return self
        axes = (b if a is None else a for a, b in zip(self.axes, other.axes, strict=True))
        return DTensorLayout(self.mesh, tuple(axes), self.params)

    def reduce(
        self, tensors: Sequence[Tensor], axis: int | None, ops: Ops, mean: bool
    ) -> tuple[list[Tensor], DTensorLayout]:
        """The sum or the mean of every tensor over an axis or all of them, and how it is spread."""
        gone = [i for i, a in enumerate(self.axes) if a is not None and (axis is None or a == axis % tensors[0].ndim)]
        sums = self._over_ranks([ops.sum(x, axis) for x in tensors], gone)
        if mean:
            sums = [s / max(1, self._count(k, x, axis)) for k, (s, x) in enumerate(zip(sums, tensors, strict=True))]
        axes = tuple(None if i in gone else a for i, a in enumerate(self.axes))
        return sums, DTensorLayout(self.mesh, axes, self.params)

    def _over_ranks(self, sums: list[Tensor], dimensions: Sequence[int]) -> list[Tensor]:
        if not dimensions:
            return sums
        flat = torch.cat([s.reshape(-1) for s in sums])
        for i in dimensions:
            distributed.all_reduce(flat, group=self.mesh.get_group(i))
        return [x.view_as(s) for x, s in zip(flat.split([s.numel() for s in sums]), sums, strict=True)]

    def _count(self, at: int, x: Tensor, axis: int | None) -> int:
        """How many numbers of the whole tensor a mean is over."""
        over = range(x.ndim) if axis is None else [axis % x.ndim]
        return math.prod(self.params[at].shape[a] if a in self.axes else x.shape[a] for a in over)

    @property
    def spread(self) -> bool:
        """Whether a rank has a part only."""
        return any(a is not None for a in self.axes)

    def gathered(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """The whole tensors of these parts, which are spread as the parameters are."""
        from torch.distributed.tensor import Replicate

        replicate = [Replicate()] * len(self.axes)
        pairs = zip(self.params, tensors, strict=True)
        return [local(_like(p, x, p.placements).redistribute(placements=replicate)) for p, x in pairs]

    def divided(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """The parts of such whole tensors that this rank keeps."""
        from torch.distributed.tensor import Replicate

        replicate = [Replicate()] * len(self.axes)
        pairs = zip(self.params, tensors, strict=True)
        return [local(_like(p, x, replicate).redistribute(placements=p.placements)) for p, x in pairs]


def _like(p: DTensor, x: Tensor, placements: Sequence[Placement]) -> DTensor:
    """A tensor of the parameter's shape, of which this rank has the part `x`."""
    return type(p).from_local(x, p.device_mesh, placements, run_check=False, shape=p.shape, stride=p.stride())


def dtensor_layout(params: Sequence[DTensor]) -> DTensorLayout:
    """How these parameters, which are spread alike, are spread."""
    axes = tuple(getattr(placement, "dim", None) for placement in params[0].placements)
    return DTensorLayout(params[0].device_mesh, axes, tuple(params))


def division_obstacle(p: DTensor, program: Program) -> str | None:
    """Why the parts of this parameter cannot be stepped separately, or None."""
    if any(a is not None for a in dtensor_layout([p]).axes) and any(n.reduces for n in program.nodes):
        return f"{program.rule} sums over a parameter of which each rank has a part, {p.placements}"
    return None


def refuse(name: str, p: Tensor, g: Tensor, rule: Rule, limit: float | None) -> None:
    """Refuse pieces of a tensor if nothing says how they make up the whole."""
    if is_dtensor(g) != is_dtensor(p):
        kinds = f"a {type(p).__name__} and its gradient a {type(g).__name__}"
        raise RuntimeError(f"`{name}` needs a gradient that is spread as its parameter is. Received: {kinds}.")
    if is_dtensor(p) and any(x.is_partial() for x in p.placements):
        raise RuntimeError(f"`{name}` cannot step a parameter that is a sum over the ranks. Received: {p.placements}.")
    if getattr(p, "_fsdp_flattened", False) and (limit or needs_whole(rule)):
        why = "max_grad_norm is of all gradients" if limit else "its formula is of whole parameters"
        raise RuntimeError(
            f"`{name}` cannot step what FullyShardedDataParallel has cut into pieces: {why}. "
            "Use torch.distributed.fsdp.fully_shard."
        )


class AssignedParams(NamedTuple):
    """The parameters that were assigned to a group, by identity, and whether all of them were vectors."""

    ids: frozenset[int]
    number: int
    vectors: bool


def note(optimizer: RuleOptimizerLike, group: GroupValues, rule: Rule) -> None:
    """Remembers which parameters were assigned to a group, if flat pieces of them would be refused. The parameters are
    not kept alive.
    """
    assigned = _assigned(optimizer)
    if group.get("max_grad_norm") or needs_whole(rule):
        params = group["params"]
        assigned[id(group)] = AssignedParams(frozenset(map(id, params)), len(params), all(p.ndim == 1 for p in params))


def _assigned(optimizer: RuleOptimizerLike) -> dict[int, AssignedParams]:
    """What was noted, by the `id` of the group."""
    return cast("dict[int, AssignedParams]", vars(optimizer).setdefault("_assigned_params", {}))


def note_again(optimizer: RuleOptimizerLike) -> None:
    """Notes all groups again, after a load, which makes new groups of the old parameters, and in a copy."""
    before = list(_assigned(optimizer).values())
    _assigned(optimizer).clear()
    for index, group in enumerate(optimizer.param_groups):
        note(optimizer, group, optimizer._group_rule(index, group).rule)
    if len(before) == len(optimizer.param_groups):
        _assigned(optimizer).update(zip(map(id, optimizer.param_groups), before, strict=True))


def refuse_flat(name: str, optimizer: RuleOptimizerLike, group: GroupValues, rule: Rule) -> None:
    """Refuse vectors in place of the parameters that were assigned to a group, if a formula is of whole parameters.

    DeepSpeed's ZeRO puts one flat piece of all of them into the group. accelerate and fully_shard exchange parameters
    for others of the same shapes, which is allowed.
    """
    assigned = _assigned(optimizer).get(id(group))
    if assigned is None:
        return
    flat = [p for p in group["params"] if p.ndim == 1 and id(p) not in assigned.ids]
    if not flat or len(flat) < len(group["params"]) or (assigned.vectors and assigned.number <= len(flat)):
        return
    why = "its formula is of whole parameters" if needs_whole(rule) else ""
    if why := why or (group["max_grad_norm"] and "max_grad_norm is of all gradients"):
        worded = f"must be the parameters that it was given, not flat pieces of them as in DeepSpeed's ZeRO: {why}"
        pieces = f"{len(flat)} vector(s) of {sum(p.numel() for p in flat):,} numbers for {assigned.number} parameters"
        hint = 'Use "zero_optimization": {"stage": 0}, torch.distributed.fsdp.fully_shard, or an optimizer that steps '
        raise bad_value(name, "params", worded, pieces, hint + "element by element, as AdamW.")


def refuse_divided(name: str, rule: Rule, groups: Sequence[GroupValues]) -> None:
    """Refuse sums over the model, and places in it, if ZeroRedundancyOptimizer has divided the parameters between the
    ranks.

    The optimizer that it makes cannot know of the other parameters, so the caller is looked for.
    """
    reasons = ["its formula sums over the model"] if sums(rule) else []
    reasons += ["it goes by their places"] if rule.numbered else []
    ours = ("max_grad_norm", "skip_nonfinite")
    reasons += [f"{k} is of all gradients" for k in ours if any(group.get(k) for group in groups)]
    module = sys.modules.get("torch.distributed.optim.zero_redundancy_optimizer")
    dividing: type | None = getattr(module, _DIVIDING, None)
    frame = sys._getframe() if reasons and dividing else None
    while frame is not None and dividing:
        if isinstance(frame.f_locals.get("self"), dividing):
            hint = "Use torch.distributed.fsdp.fully_shard, which divides every parameter."
            raise bad_value(name, "params", f"must be all parameters: {reasons[0]}", f"those of a {_DIVIDING}", hint)
        frame = frame.f_back


def aligned(params: Sequence[Tensor], grads: Sequence[Tensor | None]) -> list[Tensor | None]:
    """Gradients spread as their parameters are. A message may be needed, so this is done on every rank or on none."""
    return [_aligned(p, g) if is_dtensor(p) and is_dtensor(g) else g for p, g in zip(params, grads, strict=True)]


def _aligned(p: DTensor, g: DTensor) -> DTensor:
    if placements(g) != placements(p):
        return g.redistribute(p.device_mesh, p.placements)
    x = g._local_tensor
    return g if type(x) is Tensor or not hasattr(x, "wait") else _like(g, x.wait(), g.placements)
