"""Gradients that come by rows: which rule takes them, and how they are stepped.

Their rows of the parameter and its memory are gathered, stepped as small parameters by the path
that steps the others, and put back.

Where the formula moves an element whose gradient is zero, as momentum does, the gradient is written out instead, unless
the rule says that it steps rows alone. Both are known from the recorded formula. Rows are others at each step, so
tables of them are made at each step; the plan stays.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch

from scirs2_adapters.core.program.zero_gradient import zero_gradient_is_noop
from scirs2_adapters.core.registry import get, names
from scirs2_adapters.core.rule import Rule
from scirs2_adapters.core.step.protocols import Executor, Model, Scalars

from ..dispatch.param_entry import TensorEntry
from ..state.group_rule import GroupRule
from ..state.protocols import GroupValues
from ..state.tensors import Tensor, kinds, leaf_of

_HALF = (torch.float16, torch.bfloat16)
MakeExecutor = Callable[[list[TensorEntry], Sequence[Tensor]], Executor[Tensor]]


class SparseRowsExecutor:
    """The parameters with sparse gradients. `make` makes the executor that steps their rows."""

    allocated = None

    def __init__(self, entries: Sequence[TensorEntry], make: MakeExecutor) -> None:
        self.entries, self.make = entries, make
        self.kinds = kinds(entry.p for entry in entries)

    def holds(self, grads: Sequence[Tensor]) -> bool:
        """Whether their gradients are sparse again, and the parameters what they were."""
        sparse = all(is_sparse(grads[entry.index]) for entry in self.entries)
        return sparse and kinds(entry.p for entry in self.entries) == self.kinds

    def allowed(self, group_rules: Sequence[GroupRule], groups: Sequence[GroupValues]) -> bool:
        """Whether nothing that can change between two steps speaks against sparse gradients."""
        places = {entry.group for entry in self.entries}
        return not any(decay_moves_all_rows(group_rules[i].rule) or groups[i]["fused"] for i in places)

    def assign(self, coefficient_row: Mapping[int, int]) -> None:
        """Takes the row of coefficients of each parameter."""
        self.coefficient_row = coefficient_row

    def run(self, grads: Sequence[Tensor], scalars: Sequence[Scalars], model: Model) -> Mapping[str, float]:
        """Steps the rows in place."""
        parts = [_take(entry, grads[entry.index]) for entry in self.entries]
        parts = [rows for rows in parts if rows.grad.numel()]
        if not parts:
            return {}
        small = [rows.as_entry(index) for index, rows in enumerate(parts)]
        small_grads = [rows.grad for rows in parts]
        executor = self.make(small, small_grads)
        executor.assign({id(new): self.coefficient_row[id(rows.entry)] for new, rows in zip(small, parts, strict=True)})
        executor.run(small_grads, scalars, model)
        for rows in parts:
            rows.put_back()
        return {}


class Rows(NamedTuple):
    """Rows of a parameter, its gradient and its memory. `place` says where they are; None: they are all of it."""

    entry: TensorEntry
    place: Tensor | None
    grad: Tensor
    arrays: list[Tensor]

    def as_entry(self, index: int) -> TensorEntry:
        """The entry of a parameter which these rows are."""
        new, (p, *memory) = copy.copy(self.entry), self.arrays
        vars(new).update(index=index, p=p, leaf=leaf_of(p, self.entry.leaf.name))
        new.param_state = dict(zip(self.entry.slots, memory, strict=True))
        return new

    def put_back(self) -> None:
        """Writes the rows into the parameter and its memory."""
        if self.place is None:
            return
        for x, rows in zip((self.entry.p, *self.entry.memory()), self.arrays, strict=True):
            if len(self.place) == 1:
                x.index_copy_(0, self.place[0], rows)
            else:
                x.index_put_(tuple(self.place), rows)


def _take(entry: TensorEntry, g: Tensor) -> Rows:
    """The rows that the gradient gives."""
    arrays = [entry.p, *entry.memory()]
    if not (zero_gradient_is_noop(entry.program) or entry.rule.sparse == "rows"):
        return Rows(entry, None, wide(g).to_dense(), arrays)
    g = coalesced(g)
    place, values = g.indices(), g.values()
    if len(place) == 0:  # no axis is sparse: one row, which is all, or none
        return Rows(entry, None, values.reshape(values.shape[1:]) if len(values) else values, arrays)
    return Rows(entry, place, values, [_rows(x, place) for x in arrays] if len(values) else arrays)


def _rows(x: Tensor, place: Tensor) -> Tensor:
    return x.index_select(0, place[0]) if len(place) == 1 else x[tuple(place)]


def is_sparse(g: Tensor) -> bool:
    """Whether a gradient comes by rows."""
    return g.layout is torch.sparse_coo


def check_parameters(name: str, rule: Rule, groups: Sequence[GroupValues]) -> None:
    """Refuse in the constructor what torch refuses there for an optimizer of sparse gradients only."""
    if rule.sparse != "rows":
        return
    places = [([i, j], p) for i, group in enumerate(groups) for j, p in enumerate(group["params"])]
    if indices := [place for place, p in places if p.layout is not torch.strided]:
        raise ValueError(f"`{name}`: Sparse params at indices {indices}: {name} requires dense parameter tensors")
    if indices := [place for place, p in places if p.is_complex()]:
        raise ValueError(f"`{name}`: Complex params at indices {indices}: {name} does not support complex parameters")


def refuse_layout(name: str, rule: Rule, g: Tensor, fused: bool) -> None:
    """Refuse a layout of the gradient that the rule cannot take."""
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
    """The numbers of a gradient; of a sparse one those of its rows, each row once."""
    return coalesced(g).values() if is_sparse(g) else g


def wide(g: Tensor) -> Tensor:
    """The gradient in a dtype in which duplicate rows can be added up."""
    return g.to(torch.float32) if g.dtype in _HALF and not g.is_coalesced() else g


def coalesced(g: Tensor) -> Tensor:
    return g if g.is_coalesced() else wide(g).coalesce()
