"""The forms of memory in a state dict: the formats of a group, and the wide form, float32 numbers that say no format.

A dict that says its formats brings them along. One that says none, torch's or a wide one, is put into those of the
optimizer that loads it.
"""

from __future__ import annotations

import functools
import logging
import operator
from collections.abc import Iterable, Mapping

import torch

from scirs2_adapters.core import formats
from scirs2_adapters.core.argument_names import Values
from scirs2_adapters.core.rounding import ROUNDING_ERROR
from scirs2_adapters.core.rule import Rule
from scirs2_adapters.core.slots import Extent, Leaf, Slot
from scirs2_adapters.core.step.options import HALVES, StateDtype, check_rounding, check_state_dtype, slot_dtype

from . import coded
from .protocols import Group, GroupValues, ParamState, Saved
from .tensors import Tensor, dtype_name

log = logging.getLogger("scirs2")

#: The options of a group that say how its memory is stored.
OPTIONS = ("state_dtype", "rounding")
#: In a saved group with rounding errors: the dtypes of the parameters that they belong to.
ROUNDED = "rounded_dtypes"


def check(call: str, rule: Rule, group: Values) -> None:
    """Refuse formats that this version does not know."""
    check_state_dtype(call, group["state_dtype"], rule.all_slots())
    check_rounding(call, group["rounding"], HALVES)


def wide(saved: Group) -> Group:
    """The dict with float32 numbers in place of all that is stored in fewer bits, and without a word on formats."""
    state = {key: _numbers(x) if isinstance(x, dict) else x for key, x in saved["state"].items()}
    dropped = (*OPTIONS, ROUNDED)
    groups = [{k: v for k, v in group.items() if k not in dropped} for group in saved["param_groups"]]
    return {**saved, "state": state, "param_groups": groups}


def _numbers(param_state: ParamState) -> Group:
    tensors = [name for name, x in param_state.items() if isinstance(x, Tensor)]
    others = {coded.companion_of(name, param_state) for name in tensors} | {*coded.ROUNDINGS}
    kept = {name: x for name, x in param_state.items() if name not in others}
    return {name: _widened(name, x, param_state) if name in tensors else x for name, x in kept.items()}


def _widened(name: str, x: Tensor, param_state: ParamState) -> Tensor:
    if coded.companion_of(name, param_state) in param_state:
        return coded.load(name, x, param_state)
    return x.to(torch.float32) if x.is_floating_point() and x.itemsize < 4 else x


def rounded(group: GroupValues) -> dict[str, str]:
    """What a saved group says of the parameters whose rounding errors it has; nothing where it has none."""
    if group["rounding"] != "compensated":
        return {}
    return {ROUNDED: ",".join(sorted({dtype_name(p.dtype) for p in group["params"]} & {*HALVES}))}


class SavedForms:
    """What a dict says of its formats: whether it does at all, and the dtypes of the parameters that its rounding
    errors belong to, if it says so.
    """

    def __init__(self, groups: Iterable[Values]) -> None:
        groups = list(groups)
        self.told = any("state_dtype" in group for group in groups)
        self.rounded = {dtype for group in groups for dtype in group.get(ROUNDED, "").split(",") if dtype}

    def fitting(
        self, call: str, place: str, slots: Iterable[Slot], p: Tensor, leaf: Leaf, memory: Saved, group: Values
    ) -> Saved:
        """Memory of one parameter in the formats of the group that loads it."""
        if ROUNDING_ERROR in memory and self.rounded and leaf.dtype not in self.rounded:
            worded = "%s: %s has what rounding took from %s parameters, which ends as they are %s"
            log.warning(worded, call, place, " or ".join(sorted(self.rounded)), leaf.dtype)
            memory = {name: x for name, x in memory.items() if name != ROUNDING_ERROR}
        if self.told:
            return memory
        stored = (_stored(call, slot, p, leaf, memory, group["state_dtype"]) for slot in slots)
        return functools.reduce(operator.or_, stored, dict(memory))


def _stored(call: str, slot: Slot, p: Tensor, leaf: Leaf, memory: Saved, state_dtype: StateDtype) -> ParamState:
    """A slot of numbers in the storage that is asked for, with its companion; nothing where none is asked for."""
    x = memory.get(slot.name)
    asked = slot.name in state_dtype if isinstance(state_dtype, Mapping) else state_dtype is not None
    if not asked or slot.extent <= Extent.TENSOR or not isinstance(x, Tensor):
        return {}
    if not x.is_floating_point() or x.layout is not torch.strided:
        return {}
    dtype = slot_dtype(slot, leaf, state_dtype)
    scales = formats.companion(slot.name, dtype)
    if scales is None:
        return {slot.name: x.to(getattr(torch, dtype))}
    coded.refuse_dtensor(call, p)
    return dict(zip((slot.name, scales), coded.encoded(dtype, x), strict=True))
