"""Parameters stepped in torch's own operations, many tensors in each: on accelerators, and for whatever the host kernel
does not do.

A `TensorList` stands in the formula where an array would, and each operation is one `torch._foreach_*` call. One
parameter at a time goes through where the graph of the step is wanted.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.autograd.graph import increment_version

from scirs2_adapters.core.ops import Ops
from scirs2_adapters.core.program.interpret import run as interpret

from ..dispatch.param_entry import ParamEntry
from ..dispatch.sharding import DTensorLayout, dtensor_layout
from ..ops import OPS
from ..state import kinds, local, placements

Tensor = torch.Tensor
#: Numbers in a bundle at most: what bounds the memory that the formula's intermediate values take.
LARGEST = 1 << 26

_FOREACH: dict[Callable[..., Any], Callable[..., Any]] = {
    operator.add: torch._foreach_add,
    operator.sub: torch._foreach_sub,
    operator.mul: torch._foreach_mul,
    operator.truediv: torch._foreach_div,
    OPS.maximum: torch._foreach_maximum,
    OPS.minimum: torch._foreach_minimum,
    OPS.sqrt: torch._foreach_sqrt,
    OPS.abs: torch._foreach_abs,
    operator.neg: torch._foreach_neg,
}


#: Those that take a tensor of one number for all, and leave it where it is.
_BY_TENSOR = (operator.mul, operator.truediv)


class TensorList:
    """Tensors that go through a formula together; of those that are divided over ranks, the parts that are here."""

    __slots__ = ("each", "layout")

    def __init__(self, each: Any, layout: DTensorLayout | None = None) -> None:
        self.each, self.layout = each, layout

    def __neg__(self) -> TensorList:
        return _together(operator.neg, self)


def _together(function: Callable[..., Any], *args: Any) -> Any:
    """`function` of every tensor of the bundles among `args`: in one call where torch has it, else one by one."""
    first, *others = args
    layout = _joined(args)
    if function in _FOREACH and isinstance(first, TensorList):
        return TensorList(_FOREACH[function](first.each, *(_given(function, x, first.each) for x in others)), layout)
    count = next((len(x.each) for x in args if isinstance(x, TensorList)), None)
    if count is None:
        return function(*args)
    columns = [x.each if isinstance(x, TensorList) else [x] * count for x in args]
    return TensorList([function(*each) for each in zip(*columns, strict=True)], layout)


def _joined(args: Sequence[Any]) -> DTensorLayout | None:
    """How the result of an operation on the parts is spread."""
    found: DTensorLayout | None = None
    for x in args:
        if isinstance(x, TensorList) and x.layout is not None:
            found = x.layout.join(found)
    return found


def _given(function: Callable[..., Any], x: Any, each: Sequence[Tensor]) -> Any:
    """What torch's call for many tensors takes beside them; a coefficient may be a tensor on their device."""
    if isinstance(x, Tensor):
        x = x.to(each[0].dtype)
        return x if function in _BY_TENSOR else [x] * len(each)
    return x.each if isinstance(x, TensorList) else x


def _bound(function: Callable[..., Any], swapped: bool = False) -> Callable[..., Any]:
    commutes = function in (operator.add, operator.mul)
    if not swapped or commutes:
        return lambda a, b: _together(function, a, b)
    return lambda a, b: _together(function, b, a)


for _name in ("add", "sub", "mul", "truediv"):
    setattr(TensorList, f"__{_name}__", _bound(getattr(operator, _name)))
    setattr(TensorList, f"__r{_name}__", _bound(getattr(operator, _name), swapped=True))
for _name in ("gt", "ge", "lt", "le"):
    setattr(TensorList, f"__{_name}__", _bound(getattr(operator, _name)))


def _sign(x: Any) -> Any:
    """-1, 0 or 1, and NaN of NaN, for which torch has 0."""
    if not isinstance(x, TensorList):
        return OPS.sign(x)
    unit = list(torch._foreach_clamp_max(list(torch._foreach_clamp_min(x.each, -1.0)), 1.0))
    signs = list(torch._foreach_sign(x.each))
    torch._foreach_add_(signs, list(torch._foreach_sub(unit, unit)))
    return TensorList(signs, x.layout)


def _where(condition: Any, a: Any, b: Any) -> Any:
    if isinstance(condition, bool):
        return a if condition else b
    return _together(OPS.where, condition, a, b)


def _total(shares: Sequence[Any]) -> Any:
    return OPS.total([x for share in shares for x in (share.each if isinstance(share, TensorList) else [share])])


def _reduced(name: str) -> Callable[..., Any]:
    """The sum or the mean, completed over the ranks where the tensors are spread."""
    function = getattr(OPS, name)

    def reduced(x: Any, axis: int | None) -> Any:
        if not isinstance(x, TensorList) or x.layout is None:
            return _together(function, x, axis)
        return TensorList(*x.layout.reduce(x.each, axis, OPS, mean=name == "mean"))

    return reduced


def _matrix(function: Callable[..., Any], ops: Ops, args: Sequence[Any], options: dict[str, Any]) -> Any:
    """A function of whole matrices, called of one after another."""
    del ops
    one = functools.partial(function, OPS, **options)
    first, *others = args
    if not isinstance(first, TensorList) or first.layout is None:
        return _together(one, *args)
    columns = [x.each if isinstance(x, TensorList) else [x] * len(first.each) for x in others]
    return TensorList(first.layout.matrix(one, first.each, list(zip(*columns, strict=True))), first.layout)


def _lifted(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *args: _together(function, *args)


#: `OPS` for lists of tensors, each name for many tensors at once.
TOGETHER = Ops(
    **{name: _lifted(getattr(OPS, name)) for name in Ops.__dataclass_fields__}
    | {"sign": _sign, "where": _where, "total": _total, "matrix": _matrix}
    | {name: _reduced(name) for name in ("sum", "mean")}
)


class ForeachExecutor:
    """The members that torch's own operations step, in bundles of one program, device and arithmetic."""

    def __init__(self, members: list[ParamEntry], one_by_one: bool) -> None:
        self.members, self.alone = members, one_by_one
        self.kinds = kinds(self.members)

    def holds(self, found: list[Any]) -> bool:
        """Whether the parameters are what they were."""
        strided = all(found[m.at].layout is torch.strided for m in self.members)
        return strided and kinds(self.members) == self.kinds

    def assign(self, coefficient_row: Mapping[int, int]) -> None:
        """Sorts them by what they share, the row of scalars among it."""
        self.coefficient_row, self.bundles = coefficient_row, []
        sorted_: dict[Any, list[ParamEntry]] = {}
        for m in self.members:
            key: Any = (
                m.program,
                m.p.device,
                m.p.dtype,
                coefficient_row[id(m)],
                id(m) if self.alone or _alone(m) else None,
            )
            key = (*key, placements(m.p)) if m.is_dtensor else key
            sorted_.setdefault(key, []).append(m)
        for members in sorted_.values():
            self.bundles += _bounded(members)

    def run(self, found: list[Any], scalars: list[dict[str, Any]], model: dict[str, float]) -> dict[str, float]:
        """Steps them, in place; the new numbers of the model."""
        new: dict[str, float] = {}
        for together in [self.bundles] if model else [[bundle] for bundle in self.bundles]:
            program = together[0][0].program
            wanted = ["p", *(s.name for s in program.slots)]
            leaves = [_load(members, found) | model for members in together]
            rows = [scalars[self.coefficient_row[id(members[0])]] for members in together]
            results = interpret(program, TOGETHER, leaves, rows, wanted)
            for members, values in zip(together, results, strict=True):
                _store(members, values)
                new = {k: float(values[k]) for k in model}
        return new


def _alone(m: ParamEntry) -> bool:
    """Whether a parameter cannot share operations: it computes in its own way, or as a matrix."""
    own = type(local(m.p) if m.is_dtensor else m.p).__torch_dispatch__ is not Tensor.__torch_dispatch__
    return own or m.p.is_complex() or any(n.op == "matrix" for n in m.program.nodes)


def _bounded(members: list[ParamEntry]) -> list[list[ParamEntry]]:
    """Bundles of at most LARGEST numbers, or of one parameter."""
    bundles: list[list[ParamEntry]] = [[]]
    size = 0
    for m in members:
        size += math.prod(m.leaf.shape)
        if bundles[-1] and size > LARGEST:
            bundles.append([])
            size = math.prod(m.leaf.shape)
        bundles[-1].append(m)
    return bundles


def _load(members: list[ParamEntry], found: list[Any]) -> dict[str, Any]:
    if members[0].is_dtensor:
        return _load_parts(members, found)
    if len(members) == 1:
        return dict(members[0].load(found[members[0].at]))
    compute, columns = members[0].compute, zip(*(m.arrays(found[m.at]) for m in members), strict=True)
    return {name: TensorList(_converted(list(c), compute)) for name, c in zip(members[0].names, columns, strict=True)}


def _load_parts(members: list[ParamEntry], found: list[Any]) -> dict[str, Any]:
    """The parts that are here, each value with its layout."""
    first, layout = members[0], dtensor_layout([m.p for m in members])
    slots = {s.name: layout.of_slot(s) for s in first.program.slots if s.name in first.slots}
    each = [m.load(found[m.at]) for m in members]
    return {name: TensorList([x[name] for x in each], slots.get(name, layout)) for name in first.names}


def _converted(tensors: list[Tensor], dtype: torch.dtype) -> list[Tensor]:
    if all(x.dtype == dtype for x in tensors):
        return tensors
    new = [torch.empty_like(x, dtype=dtype) for x in tensors]
    torch._foreach_copy_(new, tensors)
    return new


def _store(members: list[ParamEntry], values: Mapping[str, Any]) -> None:
    if len(members) == 1 and not members[0].is_dtensor:
        members[0].store(values)
        return
    columns = zip(*(m.written() for m in members), strict=True)
    if members[0].is_dtensor:
        increment_version([x for m in members for x in (m.p, *m.memory())])  # what is written to are their parts
    for name, targets in zip(("p", *members[0].slots), columns, strict=True):
        torch._foreach_copy_(list(targets), values[name].each)
