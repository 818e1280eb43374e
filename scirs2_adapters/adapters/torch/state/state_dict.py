"""The state dict in torch's form, with what tells it apart from others, and the way back: a dict of ours, of torch's
class of this name, or of an older version, made fit before anything is changed.

Unknown keys pass through, missing ones take their defaults, and numbers become Python's. torch casts
memory to the parameter's dtype when it loads; here each tensor comes back as it was saved.
"""

from __future__ import annotations

import contextlib
import logging
from collections import defaultdict
from collections.abc import Hashable, Iterator, Mapping, Set

import numpy as np
from torch.optim import Optimizer

from scirs2_adapters.core.errors import ArgumentValueError, bad_value
from scirs2_adapters.core.fields import Value
from scirs2_adapters.core.rule import Rule

from ..argument_names import FLAGS, LISTS, OURS, PLAIN, STAYS, WHOLE_STEPS, plain, plain_group, readable
from . import coded, foreign, forms
from .forms import SavedForms
from .group_rule import rule_of
from .matching import Report, in_order
from .memory import arrays_of, check_shape, gather_counts
from .origin import FORMAT, NAME, VERSION, check_counted, group_marks, model_numbers, refuse_foreign
from .protocols import Group, GroupValues, ParamState, RuleOptimizerLike, Saved
from .tensors import Tensor, is_offloaded, known_names, leaf_of, remember_names

log = logging.getLogger("scirs2")


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


def export(optimizer: RuleOptimizerLike, saved: Saved, wide: bool) -> Group:
    """The dict in torch's form, where it differs from the memory: each `step` is a separate tensor, for formats that
    refuse tensors which share memory, or a whole number where torch has one; numbers of numpy, and those of the whole
    model, become Python's; names of parameters are the present ones. `wide`: with float32 numbers in place of codes.
    """
    whole_steps = type(optimizer).__name__ in WHOLE_STEPS
    state = {k: _param_state(x, whole_steps) if isinstance(x, dict) else x for k, x in saved["state"].items()}
    groups = [plain_group(group, optimizer.defaults) for group in saved["param_groups"]]
    for group, here in zip(groups, optimizer.param_groups, strict=True):
        group |= {key: _without_numpy(x) for key, x in group.items() if key not in LISTS and type(x) not in PLAIN}
        group |= {name: float(group[name]) for plan in optimizer._plans.values() for name in plan.model}
        if "param_names" in group:
            group["param_names"] = known_names(optimizer._names, here)
        group |= forms.rounded(here)
    exported = {**saved, "state": state, "param_groups": groups}
    return forms.wide(exported) if wide else exported


def _param_state(param_state: ParamState, whole_steps: bool) -> Group:
    saved: Group = {name: x if type(x) is Tensor else _without_numpy(x) for name, x in param_state.items()}
    if isinstance(step := saved.get("step"), Tensor):
        saved["step"] = int(step) if whole_steps else step.clone()
    return saved


def _without_numpy(value: Value) -> Value:
    """A value as it is saved: without numpy, which `torch.load(weights_only=True)` refuses."""
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    if isinstance(value, (tuple, list)) and any(isinstance(x, np.generic) for x in value):
        return type(value)(map(_without_numpy, value))
    return value


def load(optimizer: RuleOptimizerLike, rule: Rule, state_dict: Group, report: Report | None) -> None:
    """Loads by the base class's method, so that all hooks are called; all or nothing."""
    call = f"{type(optimizer).__name__}.load_state_dict"
    _check_form(call, state_dict)
    ready: list[Saved] = []

    def fit(_: object, saved: Saved) -> Saved:
        ready.append(_fitting(call, optimizer, rule, saved, report))
        return {**ready[0], "state": _hidden(optimizer, ready[0])}

    with (
        optimizer.register_load_state_dict_pre_hook(fit),
        optimizer.register_load_state_dict_post_hook(lambda o: _restore(o, ready[0]), prepend=True),
    ):
        Optimizer.load_state_dict(optimizer, state_dict)  # type: ignore[arg-type]  # a protocol is no class


def _check_form(call: str, saved: object) -> None:
    if not isinstance(saved, Mapping) or not {"state", "param_groups"} <= saved.keys():
        shown = sorted(map(str, saved)) if isinstance(saved, Mapping) else saved
        wanted = 'must be a dict with the keys "state" and "param_groups", as `state_dict()` gives it'
        raise bad_value(call, "state_dict", wanted, shown)


def _fitting(call: str, optimizer: RuleOptimizerLike, rule: Rule, saved: Saved, report: Report | None) -> Saved:
    """The dict in this optimizer's order, complete and in plain values; what does not fit is refused, or reported."""
    _check_form(call, saved)
    saved = foreign.decoded(call, rule, _with_own_keys(call, saved))
    refuse_foreign(call, rule, saved)
    told = forms.SavedForms(saved["param_groups"])
    saved = in_order(call, optimizer, saved, report)
    pairs = zip(optimizer.param_groups, saved["param_groups"], strict=True)
    groups = [_completed(optimizer, rule, group, old) for group, old in pairs]
    rules = [rule_of(type(rule), group) for group in groups]
    for group in groups:
        forms.check(call, rule, group)
    state = dict(saved["state"])
    for p, label, key, index in _places(optimizer, groups):
        if isinstance(state.get(key), Mapping):
            try:
                foreign_dict = NAME not in saved["param_groups"][index]
                if foreign_dict:
                    check_counted(call, rules[index], label or key, state[key])
                state[key] = _checked(call, rules[index], p, label, key, state[key], told, groups[index], foreign_dict)
            except ArgumentValueError:
                if report is None:
                    raise
                report.mismatched.append(label or str(key))
                del state[key]
    return {**saved, "state": state, "param_groups": groups}


def _with_own_keys(call: str, saved: Saved) -> Saved:
    """The dict with its numbers of parameters as numbers: other formats than torch's write them as text. Memory of no
    parameter at all would be left out without a word.
    """
    keys = {key for group in saved["param_groups"] for key in group["params"]}
    state = {_own_key(k, keys): param_state for k, param_state in saved["state"].items()}
    if state and not state.keys() & keys and all(isinstance(k, int) or str(k).isdigit() for k in state):
        worded = "must have its memory under the numbers of its parameters"
        raise bad_value(call, "state_dict", worded, f"{sorted(map(str, state))} of {sorted(map(str, keys))}")
    return {**saved, "state": state}


def _own_key(key: Hashable, keys: Set[Hashable]) -> Hashable:
    return int(key) if isinstance(key, str) and key.isdigit() and key not in keys and int(key) in keys else key


def _completed(optimizer: RuleOptimizerLike, rule: Rule, group: GroupValues, old: GroupValues) -> Group:
    """A saved group with everything that this version has; some options stay with the process."""
    mine = {k: group[k] for k in (*OURS, "skipped_steps") if k in group}
    missing = optimizer.defaults | group_marks(rule) | model_numbers(rule) | mine
    likes = optimizer.defaults | dict(group)
    old = {key: value for key, value in old.items() if key != forms.ROUNDED}
    values = {key: value if key in LISTS else _loaded(value, likes.get(key)) for key, value in old.items()}
    stays = (*STAYS, *FLAGS) if mine["offload"] else STAYS  # flags that were saved may be of steps on the device
    return {**missing, **values, **{k: group[k] for k in stays}, VERSION: FORMAT}


def _places(optimizer: RuleOptimizerLike, groups: list[Group]) -> Iterator[tuple[Tensor, str, Hashable, int]]:
    """(parameter, its name, the key of its saved memory, its group) for each parameter."""
    for index, (group, old) in enumerate(zip(optimizer.param_groups, groups, strict=True)):
        names = known_names(optimizer._names, group)
        for p, name, key in zip(group["params"], names, old["params"], strict=True):
            yield p, name, key, index


def _checked(
    call: str, rule: Rule, p: Tensor, label: str, key: Hashable, param_state: Saved, told: SavedForms, group: Group,
    foreign_dict: bool,
) -> Saved:  # fmt: skip
    """Memory in the formats of its group. Refuses what does not fit, and says what begins anew as it is not there; of a
    dict that may be of another package, everything has to be there.
    """
    leaf = leaf_of(p, label, param_state)
    place = f"state_dict['state'][{label or key!r}]"
    slots = arrays_of(rule.route(leaf), leaf)
    absent = []
    for slot in slots:
        if param_state.get(slot.name) is not None:
            check_shape(call, f"{place}[{slot.name!r}]", slot, param_state[slot.name], p)
            if scales := coded.companion_of(slot.name, param_state):
                coded.check_scales(call, f"{place}[{scales!r}]", param_state.get(scales), p)
        elif slot.present_if is None or foreign_dict:
            absent.append(slot.name)
    for name in coded.ROUNDINGS:
        if param_state.get(name) is not None:
            coded.check_rounding(call, f"{place}[{name!r}]", name, param_state[name], p)
    if param_state and absent and foreign_dict:
        worded = f"must have what {type(rule).__name__} keeps of this parameter: {', '.join(s.name for s in slots)}"
        raise bad_value(call, place, worded, sorted(param_state), "It is of another optimizer, or another package's.")
    if param_state and absent:
        log.warning("%s: %s has no %s, which begins anew", call, place, " nor ".join(absent))
    return told.fitting(call, place, slots, p, leaf, param_state, group)


class Hidden:
    """In the place of a tensor: torch moves none that it does not see."""


def _hidden(optimizer: RuleOptimizerLike, saved: Saved) -> Group:
    """The memory as torch may see it, which puts all of a parameter's on the parameter's device, but for the step."""
    state = dict(saved["state"])
    for p, _, key, index in _places(optimizer, list(saved["param_groups"])):
        if is_offloaded(optimizer.param_groups[index], p) and isinstance(state.get(key), Mapping):
            pairs = state[key].items()
            state[key] = {k: Hidden() if isinstance(x, Tensor) and k != "step" else x for k, x in pairs}
    return state


def _restore(optimizer: RuleOptimizerLike, saved: Saved) -> None:
    """After torch has loaded: the dtypes that it has changed, and memory that it was not to send to a device."""
    for p, _, key, _ in _places(optimizer, list(saved["param_groups"])):
        param_state = saved["state"].get(key)
        if not isinstance(param_state, Mapping):
            continue
        loaded: ParamState = optimizer.state[p]
        for name, value in param_state.items():
            if isinstance(loaded[name], Hidden):
                loaded[name] = value.to("cpu")
            elif name != "step" and isinstance(value, Tensor) and value.dtype != loaded[name].dtype:
                loaded[name] = value.to(p.device)


def fill(optimizer: RuleOptimizerLike) -> None:
    """Put into groups and memory what a dict of torch's, or of an older version, does not have."""
    for group in optimizer.param_groups:
        for key, value in optimizer.defaults.items():
            group.setdefault(key, value)
        remember_names(optimizer._names, group)
    gather_counts(optimizer)


def _loaded(value: Value, like: object) -> Value:
    """A saved value in the form of the one it replaces: a tensor only where that is one, a flag or a whole number where
    it is such.
    """
    if type(value) is type(like) and type(value) in PLAIN:
        return value
    if isinstance(value, Tensor) and not isinstance(like, Tensor) and readable(value):
        value = value.tolist()
    value = plain(value, like)
    if isinstance(value, tuple) and isinstance(like, tuple) and len(value) == len(like):
        return tuple(map(_loaded, value, like))
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if isinstance(like, bool) and value in (0, 1):
            return bool(value)
        if type(like) is int and value == int(value):
            return int(value)
    return value
