"""Parameters stepped in torch's operations, many tensors in each: on accelerators, and for whatever the host kernel
does not do.

A `TensorList` stands in the formula where an array would, and each operation is one `torch._foreach_*` call. One
parameter at a time goes through where the graph of the step is wanted.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Hashable, Mapping, Sequence

import torch
from torch.autograd.graph import increment_version

from scirs2_adapters.core.formats import DITHER
from scirs2_adapters.core.matrix import LAST_AXES, STACKING
from scirs2_adapters.core.ops import Array, Ops, Scalar
from scirs2_adapters.core.program.interpret import run as interpret
from scirs2_adapters.core.step.plan import grouped
from scirs2_adapters.core.step.protocols import Model, Scalars

from ..dispatch.param_entry import TensorEntry
from ..dispatch.sharding import DTensorLayout, dtensor_layout
from ..ops import OPS
from ..state.tensors import Tensor, is_dtensor, kinds, local, placements

#: An array operation, of arrays or of lists of them.
Operation = Callable[..., Array]
#: Numbers in a bundle at most: what bounds the memory that the formula's intermediate values take.
LARGEST = 1 << 26
#: Numbers in a stack of matrices at most: an iteration holds about five times as many.
LARGEST_STACK = 1 << 24
#: Numbers of a matrix that is stacked on the CPU at most: of larger ones, products by themselves take less time.
LARGEST_ON_CPU = 1 << 14

_FOREACH: dict[Operation, Operation] = {
    operator.add: torch._foreach_add,
    operator.sub: torch._foreach_sub,
    operator.mul: torch._foreach_mul,
    operator.truediv: torch._foreach_div,
    OPS.maximum: torch._foreach_maximum,
    OPS.minimum: torch._foreach_minimum,
    OPS.sqrt: torch._foreach_sqrt,
    OPS.abs: torch._foreach_abs,
    operator.neg: torch._foreach_neg,
    operator.pow: torch._foreach_pow,
}


#: Those that take a tensor of one number for all, and leave it where it is.
_BY_TENSOR = (operator.mul, operator.truediv)


class TensorList:
    """Tensors that go through a formula together; of those that are divided over ranks, the parts that are here."""

    __slots__ = ("layout", "tensors")

    def __init__(self, tensors: list[Tensor] | tuple[Tensor, ...], layout: DTensorLayout | None = None) -> None:
        self.tensors, self.layout = tensors, layout


def _together(function: Operation, *args: Array) -> Array:
    """`function` of every tensor of the lists among `args`: in one call where torch has it, else one by one."""
    first, *others = args
    layout = _joined(args)
    if function in _FOREACH and isinstance(first, TensorList):
        arguments = [_foreach_argument(function, x, first.tensors) for x in others]
        return TensorList(_FOREACH[function](first.tensors, *arguments), layout)
    count = next((len(x.tensors) for x in args if isinstance(x, TensorList)), None)
    if count is None:
        return function(*args)
    columns = [x.tensors if isinstance(x, TensorList) else [x] * count for x in args]
    return TensorList(list(map(function, *columns)), layout)


def _joined(args: Sequence[Array]) -> DTensorLayout | None:
    """How the result of an operation on the parts is spread."""
    layout: DTensorLayout | None = None
    for x in args:
        if isinstance(x, TensorList) and x.layout is not None:
            layout = x.layout.join(layout)
    return layout


def _foreach_argument(function: Operation, x: Array, tensors: Sequence[Tensor]) -> Array:
    """What torch's call for many tensors takes beside them; a coefficient may be a tensor on their device."""
    if isinstance(x, Tensor):
        x = x.to(tensors[0].dtype)
        return x if function in _BY_TENSOR else [x] * len(tensors)
    return x.tensors if isinstance(x, TensorList) else x


def _lifted(function: Operation) -> Operation:
    return lambda *args: _together(function, *args)


def _swapped(function: Operation) -> Operation:
    return lambda a, b: _together(function, b, a)


for _name in ("add", "sub", "mul", "truediv", "neg", "gt", "ge", "lt", "le"):
    setattr(TensorList, f"__{_name}__", _lifted(getattr(operator, _name)))
for _name, _lift in (("add", _lifted), ("mul", _lifted), ("sub", _swapped), ("truediv", _swapped)):
    setattr(TensorList, f"__r{_name}__", _lift(getattr(operator, _name)))


def _sign(x: Array) -> Array:
    """-1, 0 or 1, and NaN of NaN, for which torch has 0."""
    if not isinstance(x, TensorList):
        return OPS.sign(x)
    unit = list(torch._foreach_clamp_max(list(torch._foreach_clamp_min(x.tensors, -1.0)), 1.0))
    signs = list(torch._foreach_sign(x.tensors))
    torch._foreach_add_(signs, list(torch._foreach_sub(unit, unit)))
    return TensorList(signs, x.layout)


def _where(condition: Array, a: Array, b: Array) -> Array:
    if isinstance(condition, bool):
        return a if condition else b
    return _together(OPS.where, condition, a, b)


def _total(shares: Sequence[Array]) -> Array:
    tensors: list[Tensor] = []
    for share in shares:
        tensors += share.tensors if isinstance(share, TensorList) else [share]
    return OPS.total(tensors)


def _reduced(name: str) -> Operation:
    """The sum or the mean, completed over the ranks where the tensors are spread."""
    function = getattr(OPS, name)

    def reduced(x: Array, axis: int | None) -> Array:
        if not isinstance(x, TensorList) or x.layout is None:
            return _together(function, x, axis)
        return TensorList(*x.layout.reduce(x.tensors, axis, OPS, mean=name == "mean"))

    return reduced


def _matrix(function: Operation, ops: Ops, args: Sequence[Array], options: Mapping[str, object]) -> Array:
    """A function of whole matrices: tensors that are spread over ranks are gathered, and each rank keeps its part."""
    del ops
    one, layout = functools.partial(function, OPS, **options), _joined(args)
    together = functools.partial(_stacked if function in STACKING else _together, one)
    if layout is None:
        return together(*args)
    whole = [
        TensorList(x.layout.gathered(x.tensors)) if isinstance(x, TensorList) and x.layout and x.layout.spread else x
        for x in args
    ]
    results, kept = together(*whole).tensors, args[0].layout
    return TensorList(layout.divided(results) if kept.spread else results, kept)


def _stacked(one: functools.partial[Array], *args: Array) -> Array:
    """A function of one matrix, called once for all that have the same shape, or for as many as make a large stack."""
    first, *others = args
    if not isinstance(first, TensorList):
        return one(*args)
    options = {**one.keywords, "matrix": one.keywords.get("matrix") or LAST_AXES}
    results: dict[int, Tensor] = {}
    for places in grouped(range(len(first.tensors)), lambda i: first.tensors[i].shape).values():
        most = _most_stacked(first.tensors[places[0]])
        for chunk in (places[k : k + most] for k in range(0, len(places), most)):
            if len(chunk) == 1:
                results[chunk[0]] = one(first.tensors[chunk[0]], *others)
                continue
            stack = one.func(OPS, torch.stack([first.tensors[i] for i in chunk]), *others, **options)
            results |= zip(chunk, stack.contiguous().unbind(), strict=True)
    return TensorList([results[i] for i in range(len(results))])


def _most_stacked(x: Tensor) -> int:
    """How many of such matrices are a stack at most."""
    alone = x.device.type == "cpu" and x.numel() > LARGEST_ON_CPU
    return 1 if alone else max(1, LARGEST_STACK // max(1, x.numel()))


#: `OPS` for lists of tensors, each name for many tensors at once.
TOGETHER = Ops(
    **{name: _lifted(getattr(OPS, name)) for name in Ops.__dataclass_fields__}
    | {"sign": _sign, "where": _where, "total": _total, "matrix": _matrix}
    | {name: _reduced(name) for name in ("sum", "mean")}
)


class ForeachExecutor:
    """The parameters that torch's operations step, in bundles of one program, device and arithmetic."""

    allocated = None

    def __init__(self, entries: list[TensorEntry], one_by_one: bool) -> None:
        self.entries, self.one_by_one = entries, one_by_one
        self.kinds = kinds(entry.p for entry in entries)

    def holds(self, grads: Sequence[Tensor]) -> bool:
        """Whether the parameters are what they were."""
        strided = all(grads[entry.index].layout is torch.strided for entry in self.entries)
        return strided and kinds(entry.p for entry in self.entries) == self.kinds

    def assign(self, coefficient_row: Mapping[int, int]) -> None:
        """Takes the row of coefficients of each parameter, and bundles those that share it and all else."""
        self.coefficient_row = coefficient_row
        self.bundles: list[list[TensorEntry]] = []
        for entries in grouped(self.entries, self._bundle_key).values():
            self.bundles += _bounded(entries)

    def _bundle_key(self, entry: TensorEntry) -> Hashable:
        alone = id(entry) if self.one_by_one or _alone(entry) else None
        layout = placements(entry.p) if entry.is_dtensor else None
        coded = tuple(entry.companions)
        return entry.program, entry.p.device, entry.p.dtype, self.coefficient_row[id(entry)], alone, layout, coded

    def run(self, grads: Sequence[Tensor], scalars: Sequence[Scalars], model: Model) -> Mapping[str, float]:
        """Steps them, in place; the new numbers of the model."""
        new: dict[str, float] = {}
        together = any(entry.program.sums for entry in self.entries)
        for bundles in [self.bundles] if together else [[bundle] for bundle in self.bundles]:
            program = bundles[0][0].program
            wanted = ["p", *(s.name for s in program.slots)]
            leaves = [{**_load(bundle, grads), **model} for bundle in bundles]
            rows = [scalars[self.coefficient_row[id(bundle[0])]] for bundle in bundles]
            results = interpret(program, TOGETHER, leaves, rows, wanted)
            for bundle, values, row in zip(bundles, results, rows, strict=True):
                _store(bundle, values, row.get(DITHER, 0.5))
                new = {k: float(values[k]) for k in model}
        return new


def _alone(entry: TensorEntry) -> bool:
    """Whether a parameter cannot share operations: it is of a class that computes differently, or is a matrix."""
    dispatch = type(local(entry.p) if entry.is_dtensor else entry.p).__torch_dispatch__
    subclass = dispatch is not Tensor.__torch_dispatch__
    functions = (n.static[0] for n in entry.program.nodes if n.op == "matrix")
    return subclass or entry.p.is_complex() or not STACKING.issuperset(functions)


def _bounded(entries: list[TensorEntry]) -> list[list[TensorEntry]]:
    """Bundles of at most LARGEST numbers, or of one parameter."""
    bundles: list[list[TensorEntry]] = [[]]
    size = 0
    for entry in entries:
        size += math.prod(entry.leaf.shape)
        if bundles[-1] and size > LARGEST:
            bundles.append([])
            size = math.prod(entry.leaf.shape)
        bundles[-1].append(entry)
    return bundles


def _load(bundle: list[TensorEntry], grads: Sequence[Tensor]) -> dict[str, Array]:
    first = bundle[0]
    if first.is_dtensor:
        return _load_parts(bundle, grads)
    if len(bundle) == 1:
        return dict(first.load(grads[first.index]))
    if first.companions:
        arrays = [entry.load(grads[entry.index]) for entry in bundle]
        return {name: TensorList([x[name] for x in arrays]) for name in arrays[0]}
    columns = zip(*(entry.arrays(grads[entry.index]) for entry in bundle), strict=True)
    return {n: TensorList(_converted(list(xs), first.compute)) for n, xs in zip(first.names, columns, strict=True)}


def _load_parts(bundle: list[TensorEntry], grads: Sequence[Tensor]) -> dict[str, Array]:
    """The parts that are here, each value with its layout."""
    first, layout = bundle[0], dtensor_layout([entry.p for entry in bundle if is_dtensor(entry.p)])
    slots = {s.name: layout.of_slot(s) for s in first.program.slots if s.name in first.slots}
    arrays = [entry.load(grads[entry.index]) for entry in bundle]
    return {name: TensorList([x[name] for x in arrays], slots.get(name, layout)) for name in first.names}


def _converted(tensors: list[Tensor], dtype: torch.dtype) -> list[Tensor]:
    if all(x.dtype == dtype for x in tensors):
        return tensors
    new = [torch.empty_like(x, dtype=dtype) for x in tensors]
    torch._foreach_copy_(new, tensors)
    return new


def _store(bundle: list[TensorEntry], values: Mapping[str, Array], dither: Scalar) -> None:
    first = bundle[0]
    if len(bundle) == 1 and not first.is_dtensor:
        first.store(values, dither)
        return
    if first.companions:
        for k, entry in enumerate(bundle):
            entry.store({name: values[name].tensors[k] for name in ("p", *entry.slots)}, dither)
        return
    if first.is_dtensor:  # what is written to are their parts
        increment_version([x for entry in bundle for x in (entry.p, *entry.memory())])
    columns = zip(*(entry.written() for entry in bundle), strict=True)
    for name, targets in reversed(list(zip(("p", *first.slots), columns, strict=True))):  # as `TensorEntry.store` does
        torch._foreach_copy_(list(targets), values[name].tensors)
