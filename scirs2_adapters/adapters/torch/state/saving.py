"""The state dict: torch's form, with what tells it apart from others."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterator

from scirs2_adapters.core.argument_names import Values

from ..argument_names import LISTS, PLAIN, WHOLE_STEPS, plain
from .names import known_names
from .protocols import Group, ParamState, RuleOptimizerLike, Saved
from .tensors import Tensor
from .values import saved_value


@contextlib.contextmanager
def of_groups(optimizer: RuleOptimizerLike) -> Iterator[None]:
    """Leaves out, meanwhile, the memory of parameters that are in no group any more, for which torch has no number."""
    state, params = optimizer.state, {id(p) for group in optimizer.param_groups for p in group["params"]}
    kept = {key: entry for key, entry in state.items() if id(key) in params or not isinstance(key, Tensor)}
    if len(kept) < len(state):
        optimizer.state = defaultdict(dict, kept)
    try:
        yield
    finally:
        optimizer.state = state


def export(optimizer: RuleOptimizerLike, saved: Saved) -> Group:
    """The dict in torch's form, where that is another than the memory's: each `step` a tensor of its own, for formats
    that refuse tensors which share memory, or a whole number where torch has one; numbers of numpy as Python's; names
    for the parameters that a group has now.
    """
    whole_steps = type(optimizer).__name__ in WHOLE_STEPS
    state = dict(saved["state"])
    for key, param_state in state.items():
        if isinstance(param_state, dict):
            state[key] = _param_state(param_state, whole_steps)
    groups = [_group(group, optimizer.defaults) for group in saved["param_groups"]]
    for group, here in zip(groups, optimizer.param_groups, strict=True):
        if "param_names" in group:
            group["param_names"] = known_names(optimizer._names, here)
    return {**saved, "state": state, "param_groups": groups}


def _param_state(param_state: ParamState, whole_steps: bool) -> Group:
    saved: Group = dict(param_state)
    for name, x in param_state.items():
        if type(x) is not Tensor:
            saved[name] = saved_value(x)
    if isinstance(step := saved.get("step"), Tensor):
        saved["step"] = int(step) if whole_steps else step.clone()
    return saved


def _group(group: Group, likes: Values) -> Group:
    saved = dict(group)
    for key, value in group.items():
        if type(value) not in PLAIN and key not in LISTS:
            saved[key] = saved_value(plain(value, likes.get(key)))
    return saved
