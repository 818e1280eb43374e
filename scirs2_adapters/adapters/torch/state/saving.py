"""The state dict: torch's form, with what tells it apart from others."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from ..argument_names import WHOLE_STEPS, plain_group
from .names import known_names
from .tensors import Tensor
from .values import saved_value


@contextlib.contextmanager
def of_groups(optimizer: Any) -> Iterator[None]:
    """Leaves out, meanwhile, the memory of parameters that are in no group any more, for which torch has no number."""
    whole, params = optimizer.state, {id(p) for group in optimizer.param_groups for p in group["params"]}
    kept = {k: held for k, held in whole.items() if id(k) in params or not isinstance(k, Tensor)}
    if len(kept) < len(whole):
        optimizer.state = defaultdict(dict, kept)
    try:
        yield
    finally:
        optimizer.state = whole


def export(optimizer: Any, saved: dict[str, Any]) -> dict[str, Any]:
    """The dict in torch's form, where that is another than the memory's: each `step` a tensor of its own, for formats
    that refuse tensors which share memory, or a whole number where torch has one; numbers of numpy as Python's; names
    for the parameters that a group has now.
    """
    whole = type(optimizer).__name__ in WHOLE_STEPS
    state = {k: _memory(held, whole) if isinstance(held, dict) else held for k, held in saved["state"].items()}
    pairs = zip(optimizer.param_groups, saved["param_groups"], strict=True)
    groups = [_group(old, known_names(optimizer._names, group), optimizer.defaults) for group, old in pairs]
    return saved | {"state": state, "param_groups": groups}


def _memory(held: Mapping[str, Any], whole: bool) -> dict[str, Any]:
    kept = {name: saved_value(x) for name, x in held.items()}
    if isinstance(step := kept.get("step"), Tensor):
        kept["step"] = int(step) if whole else step.clone()
    return kept


def _group(group: Mapping[str, Any], names: list[str], likes: Mapping[str, Any]) -> dict[str, Any]:
    kept = {k: saved_value(v) for k, v in plain_group(group, likes).items()}
    return kept | ({"param_names": names} if "param_names" in group else {})
