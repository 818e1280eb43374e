"""The arrays that an optimizer would keep of a parameter, by shape and storage, without making them."""

from __future__ import annotations

import math
from typing import NoReturn

from ..formats import BLOCK_DTYPES, blocks, companion
from ..rounding import ROUNDING_SEED
from ..rule import Rule
from ..slots import Extent, Leaf
from ..step.options import StateDtype, param_storage, slot_dtype
from .file import Array


def form(dtype: str, shape: tuple[int, ...]) -> Array:
    """An array without numbers, of this dtype and shape."""
    return Array(dtype, shape, _unread)


def _unread() -> NoReturn:
    raise ValueError("This array says what is wanted, and has no numbers.")


def forms(rule: Rule, leaf: Leaf, state_dtype: StateDtype, rounding: str) -> dict[str, Array]:
    """The slots of a parameter and their companions under the rule that steps it."""
    arrays: dict[str, Array] = {}
    for slot in rule.slots(leaf):
        if slot.extent is not Extent.MODEL:
            dtype = slot_dtype(slot, leaf, state_dtype)
            if leaf.complex and slot.extent is Extent.FULL:
                dtype = leaf.dtype
            arrays[slot.name] = form(dtype, slot.shape(leaf.shape))
            if dtype in BLOCK_DTYPES:
                arrays[companion(slot.name, dtype) or ""] = form("float32", (blocks(math.prod(leaf.shape)),))
    stored = param_storage(leaf, rounding, state_dtype)
    if (name := companion("p", stored)) is not None:
        seed = name == ROUNDING_SEED
        arrays[name] = form("int32", ()) if seed else form(stored.partition("+")[2], leaf.shape)
    return arrays
