"""How many bytes an optimizer of torch's takes, from its groups, its state and its plans; nothing is allocated."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import cast

import torch
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from scirs2_adapters.core.memory import OPERATIONS, PARTS, Memory, Span, Stored, completed, expected, occupied, report
from scirs2_adapters.core.step.options import counts_steps

from ..dispatch.part import Part
from ..dispatch.step import Plan
from ..executors.closures import real
from ..state.memory import count_dtype
from ..state.protocols import GroupValues, RuleOptimizerLike
from ..state.tensors import Tensor, dtype_name, is_dtensor, leaves_of, local

#: What a step keeps besides, of an optimizer that evaluates the model inside it.
EVALUATING = "temporaries have a copy of the parameters, which a step keeps; gradients at other points come to that"
#: Of an optimizer that is offloaded.
OFFLOADED = "on the host: the state, and the temporaries, which have copies of parameters and gradients (offload=True)"
VECTORS, NUMBERS = ("d", "old_dirs", "old_stps", "prev_flat_grad"), ("al", "ro", "H_diag")


def pieces(x: object) -> list[Tensor]:
    """The plain tensors in this process that hold the numbers of a tensor, or of a list of them."""
    if isinstance(x, (list, tuple)):
        return list(chain.from_iterable(map(pieces, x)))
    if not isinstance(x, Tensor):
        return []
    if is_traceable_wrapper_subclass(x):
        return pieces([getattr(x, name) for name in x.__tensor_flatten__()[0]])
    return [x] if x.layout is torch.strided else [x._indices(), x._values()]


def _span(x: Tensor) -> Span:
    start, size = int(x.storage_offset()), x.element_size()
    last = sum((n - 1) * stride for n, stride in zip(x.shape, x.stride(), strict=True)) if x.numel() else -1
    return Span(x.untyped_storage()._cdata, start * size, (start + last + 1) * size, x.numel() * size)


def bytes_of(x: object) -> int:
    """The bytes of tensors in this process; memory that they share is counted once."""
    return occupied(map(_span, pieces(x)))


def _stored(state: Iterable[object]) -> list[Stored]:
    """What these entries of the state hold, by name and dtype."""
    by_name: dict[tuple[str, str], list[Tensor]] = {}
    for name, value in chain.from_iterable(entry.items() for entry in state if isinstance(entry, dict)):
        for x in pieces(value):
            by_name.setdefault((name, dtype_name(x.dtype)), []).append(x)
    return [Stored(name, dtype, bytes_of(tensors)) for (name, dtype), tensors in by_name.items()]


def _expected(optimizer: RuleOptimizerLike) -> Iterator[tuple[Tensor, list[Stored]]]:
    """The memory of each parameter that is or will be stepped."""
    for i, group in enumerate(optimizer.param_groups):
        rule = optimizer._group_rule(i, group).rule
        for p, leaf in zip(group["params"], leaves_of(optimizer, group), strict=True):
            if p.requires_grad or p.grad is not None:
                routed = rule.route(leaf)
                shape = tuple(local(p).shape) if is_dtensor(p) else None
                wanted = list(expected(routed, leaf, group["state_dtype"], group["rounding"], shape))
                if counts_steps(routed, leaf, group["rounding"], group["state_dtype"]):
                    wanted.insert(0, Stored("step", dtype_name(count_dtype()), count_dtype().itemsize))
                yield p, wanted


def _report(groups: Iterable[GroupValues], arrays: Iterable[Stored], temporaries: int, *notes: str) -> Memory:
    params = list({id(p): p for group in groups for p in group["params"]}.values())
    notes = (*notes, PARTS) if any(map(is_dtensor, params)) else notes
    numbers = sum(local(p).numel() for p in params)
    return report(bytes_of(params), numbers, bytes_of([p.grad for p in params]), arrays, temporaries, *notes)


def of_rules(optimizer: RuleOptimizerLike, around: bool) -> Memory:
    """The report of an optimizer that steps by rules; `around` one that evaluates the model before that."""
    wanted = {id(p): (p, each) for p, each in _expected(optimizer)}
    begun = {id(p): _stored([stored]) for p, stored in optimizer.state.items() if isinstance(stored, dict) and stored}
    arrays = _stored(optimizer.state.values())
    for key, (_, each) in wanted.items():
        stored = begun.get(key, [])
        arrays += completed(stored, each)[len(stored) :]
    parts = cast("dict[object, Part]", vars(optimizer).get("_parts", {}))
    plans: list[Plan] = list(optimizer._plans.values())
    plans += chain.from_iterable(part._plans.values() for part in parts.values())
    kept = [executor.allocated for plan in plans for executor in plan.executors]
    counts = [counted.increment for plan in plans for counted in plan.step_counts.counted]
    offloads = any(
        group["offload"] and p.device.type != "cpu" for group in optimizer.param_groups for p in group["params"]
    )
    if offloads:
        kept.append(optimizer._offloading().allocated)
    copied = bytes_of([p for group in optimizer.param_groups for p in group["params"]]) if around else 0
    notes = [EVALUATING] * around + [OPERATIONS] * (None in kept) + [OFFLOADED] * offloads
    return _report(optimizer.param_groups, arrays, sum(filter(None, kept)) + bytes_of(counts) + copied, *notes)


def of_search(group: GroupValues, state: object, unseen: Iterable[Tensor]) -> Memory:
    """The report of L-BFGS, whose memory grows until it has all of its pairs: as it is then."""
    params: list[Tensor] = group["params"]
    history = int(group["history_size"])
    dtype = functools.reduce(torch.promote_types, [real(p).dtype for p in params])
    size = sum(p.numel() * (2 if p.is_complex() else 1) for p in params)
    vector, number = size * dtype.itemsize, dtype.itemsize
    full = dict(zip(VECTORS, (vector, history * vector, history * vector, vector), strict=True))
    full |= dict(zip(NUMBERS, (history * number, history * number, number), strict=True))
    others = [x for x in _stored([state]) if x.name not in full]
    arrays = [*(Stored(name, dtype_name(dtype), n) for name, n in full.items()), *others]
    note = f"the state is that of {history} pairs, which it reaches step by step"
    return _report([group], arrays, bytes_of(params) + bytes_of(list(unseen)), EVALUATING, note)
