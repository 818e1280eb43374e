"""Sparse gradients: their rows of the parameter and its memory are gathered, stepped as small parameters by the path
that steps the others, and put back.

Where the formula moves an element whose gradient is zero, as momentum does, the gradient is written out instead, unless
the rule says that it steps rows alone. Both are known from the recorded formula. Rows are others at each step, so
tables of them are made at each step; the plan stays.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch

from scirs2_adapters.core.program.zero_gradient import zero_gradient_is_noop
from scirs2_adapters.core.registry import get, names
from scirs2_adapters.core.rule import Rule

from ..state import kinds, leaf_of

if TYPE_CHECKING:
    from ..dispatch.param_entry import ParamEntry

Tensor = torch.Tensor
_HALF = (torch.float16, torch.bfloat16)


def is_sparse(g: Tensor) -> bool:
    """Whether a gradient is given by rows."""
    return g.layout is torch.sparse_coo


def check_parameters(name: str, rule: Rule, groups: Sequence[Any]) -> None:
    """What torch refuses at the door where an optimizer is for sparse gradients only."""
    if rule.sparse != "rows":
        return
    places = {(i, j): p for i, group in enumerate(groups) for j, p in enumerate(group["params"])}
    if found := [[*place] for place, p in places.items() if p.layout is not torch.strided]:
        raise ValueError(f"`{name}`: Sparse params at indices {found}: {name} requires dense parameter tensors")
    if found := [[*place] for place, p in places.items() if p.is_complex()]:
        raise ValueError(f"`{name}`: Complex params at indices {found}: {name} does not support complex parameters")


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
    if _outlives(rule):
        raise RuntimeError(
            f"`{name}`: the weight_decay option is not compatible with sparse gradients. "
            f"Received: weight_decay={rule.weight_decay}. Use a group with `weight_decay=0.0` for this parameter."
        )


def _outlives(rule: Rule) -> bool:
    """Whether weight decay would move rows whose gradient is zero, and they are part of the step."""
    return bool(rule.weight_decay) and rule.sparse == "exact"


def entries(g: Tensor) -> Tensor:
    """The numbers of a gradient: of a sparse one those that are given, each row once."""
    return _coalesced(g).values() if is_sparse(g) else g


def _wide(g: Tensor) -> Tensor:
    """The gradient in a dtype in which rows that are given twice can be added up."""
    return g.to(torch.float32) if g.dtype in _HALF and not g.is_coalesced() else g


def _coalesced(g: Tensor) -> Tensor:
    return g if g.is_coalesced() else _wide(g).coalesce()


class SparseRowsExecutor:
    """The members with sparse gradients. `make` builds the part of a plan that steps their rows."""

    def __init__(self, members: Sequence[ParamEntry], make: Callable[[list[ParamEntry], list[Tensor]], Any]) -> None:
        self.members, self.make = members, make
        self.kinds = kinds(self.members)

    def holds(self, found: list[Any]) -> bool:
        """Whether their gradients are sparse again, and the parameters what they were."""
        return all(is_sparse(found[m.at]) for m in self.members) and kinds(self.members) == self.kinds

    def allowed(self, settings: Sequence[Any], groups: Sequence[Any]) -> bool:
        """Whether nothing that can change between two steps speaks against sparse gradients."""
        return not any(_outlives(settings[m.group].rule) or groups[m.group]["fused"] for m in self.members)

    def assign(self, coefficient_row: dict[int, int]) -> None:
        """Takes notice of which row of scalars each member uses."""
        self.coefficient_row = coefficient_row

    def run(self, found: list[Any], scalars: list[dict[str, Any]], model: dict[str, float]) -> dict[str, float]:
        """Steps them, in place."""
        taken = [(m, *_take(m, found[m.at])) for m in self.members]
        taken = [(m, place, g, arrays) for m, place, g, arrays in taken if g.numel()]
        standing = [_stand_in(m, at, arrays) for at, (m, _, _, arrays) in enumerate(taken)]
        grads = [g for _, _, g, _ in taken]
        if taken:
            part = self.make(standing, grads)
            part.assign({id(new): self.coefficient_row[id(m)] for new, (m, *_) in zip(standing, taken, strict=True)})
            part.run(grads, scalars, model)
        for m, place, _, arrays in taken:
            for own, x in zip((m.p, *m.memory()), arrays, strict=True):
                _put(own, place, x)
        return {}


def _take(m: ParamEntry, g: Tensor) -> tuple[Tensor | None, Tensor, list[Tensor]]:
    """Where the rows are, their gradients, and the rows of the parameter and its memory; None for all of them."""
    own = [m.p, *m.memory()]
    if not (zero_gradient_is_noop(m.program) or m.rule.sparse == "rows"):
        return None, _wide(g).to_dense(), own
    g = _coalesced(g)
    place, values = g.indices(), g.values()
    if len(place) == 0:  # no axis is sparse: one row, which is all, or none
        return None, values.reshape(values.shape[1:]) if len(values) else values, own
    return place, values, [_rows(x, place) for x in own] if len(values) else own


def _rows(x: Tensor, place: Tensor) -> Tensor:
    return x.index_select(0, place[0]) if len(place) == 1 else x[tuple(place)]


def _put(x: Tensor, place: Tensor | None, rows: Tensor) -> None:
    if place is None:
        return
    if len(place) == 1:
        x.index_copy_(0, place[0], rows)
    else:
        x.index_put_(tuple(place), rows)


def _stand_in(m: ParamEntry, at: int, arrays: list[Tensor]) -> ParamEntry:
    """The member whose parameter and memory are these rows."""
    new = copy.copy(m)
    new.p, *memory = arrays
    new.at, new.leaf, new.param_state = at, leaf_of(new.p, m.leaf.name), dict(zip(m.slots, memory, strict=True))
    return new
