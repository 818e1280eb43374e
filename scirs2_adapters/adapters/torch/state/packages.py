"""State dicts of other packages' optimizers in torch's form: of those that count steps by group, of schedulefree, which
weighs steps by group too, and of optimi and a few of pytorch_optimizer's, whose means have no bias to correct.

None of these says which optimizer it is of. torch would load each into an optimizer with the same slots, which then
takes other steps.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence, Set

import torch

from scirs2_adapters.core.errors import bad_value
from scirs2_adapters.core.rule import Rule

from .origin import NAME
from .protocols import Group, Saved
from .tensors import Tensor

#: What schedulefree keeps in its groups.
_AVERAGED = {"k", "weight_sum", "lr_max", "scheduled_lr", "train_mode"}
#: Keys by which a group of optimi is known.
_OPTIMI = {"decouple_lr", "kahan_sum", "gradient_release"}
#: The means of gradients and of their squares, in the order of `betas`.
_MEANS = ("exp_avg", "exp_avg_sq")
#: Optimizers whose means pytorch_optimizer too keeps without bias.
_UNBIASED_IN_COLLECTION = ("qhadam", "stableadamw")


def translated(call: str, rule: Rule, saved: Saved) -> Saved:
    """The dict in torch's form; one of no such package, or of ours, as it is."""
    groups = saved["param_groups"]
    if any(NAME in group for group in groups):
        return saved
    if rule.name.startswith("schedulefree") and all(group.keys() >= _AVERAGED for group in groups):
        return _of_groups(saved, [_schedulefree(call, group) for group in groups], _AVERAGED)
    if all(group.keys() >= _OPTIMI for group in groups):
        saved = _optimi(call, saved)
        biased = rule.name == "lion"
    else:
        biased = rule.name not in _UNBIASED_IN_COLLECTION or not all("weight_decouple" in group for group in groups)
    # apex, optimi and most of pytorch_optimizer count by group, madgrad for all
    common = _count(saved["state"], "k")
    saved = _of_groups(saved, [common or _count(group, "step") for group in groups], {"step"})
    if shape := _SHAPES.get(rule.name):
        state = {
            key: shape({**memory}) if isinstance(memory, Mapping) else memory for key, memory in saved["state"].items()
        }
        saved = {**saved, "state": state}
    return saved if biased else _with_bias(saved)


def _count(holder: Mapping[Hashable, object], key: str) -> Group:
    """The number of steps under this key, if one is there."""
    x = holder.get(key)
    return {"step": int(x)} if isinstance(x, int) or (isinstance(x, Tensor) and x.numel() == 1) else {}


def _of_groups(saved: Saved, numbers: Sequence[Group], moved: Set[str]) -> Saved:
    """The dict with what belongs to each parameter of a group in its memory, where that lacks it. Groups that say it
    lose the keys that are `moved`, and the state its count of all steps.
    """
    state = {key: x for key, x in saved["state"].items() if key != "k" or isinstance(x, Mapping)}
    groups = []
    for group, more in zip(saved["param_groups"], numbers, strict=True):
        for key in group["params"] if more else ():
            if isinstance(memory := state.get(key), Mapping) and memory:
                copies = {k: x.clone() if isinstance(x, Tensor) else x for k, x in more.items()}
                state[key] = {**copies, **memory}
        groups.append({k: x for k, x in group.items() if not more or k not in moved})
    return {**saved, "state": state, "param_groups": groups}


def _schedulefree(call: str, group: Group) -> Group:
    """What each parameter keeps here of what schedulefree keeps in a group."""
    if not group["train_mode"]:
        worded = "must have been saved after `train()`: after `eval()` the package has the trained parameters nowhere"
        raise bad_value(call, "state_dict", worded, "train_mode=False", "Load it there, call `train()` and save.")
    largest = max(group["lr_max"], 0.0) ** group["weight_lr_power"]
    weight = group["k"] ** group["r"] * largest
    steps = group["weight_sum"] / weight if weight else 1.0
    numbers = {"steps_averaged": steps, "weight_max": largest}
    return {"step": group["k"], **{k: torch.tensor(x, dtype=torch.float64) for k, x in numbers.items()}}


def _optimi(call: str, saved: Saved) -> Saved:
    """A dict of optimi with torch's keys."""
    groups = saved["param_groups"]
    if any(group["decouple_lr"] for group in groups):
        worded = "must be of decay that is multiplied by the learning rate"
        raise bad_value(call, "state_dict", worded, "decouple_lr=True", "Use `decouple_lr=False` in optimi.")
    rates = ("beta1", "beta2", "beta3")
    renamed = []
    for group in groups:
        betas = tuple(group[k] for k in rates if k in group)
        renamed.append({"betas": betas, **{k: x for k, x in group.items() if k not in rates}})
    state = {key: {k: x for k, x in memory.items() if x is not None} for key, memory in saved["state"].items()}
    return {**saved, "state": state, "param_groups": renamed}


def _with_bias(saved: Saved) -> Saved:
    """The dict with means that begin at 0: those without bias times 1 - beta^step."""
    state = dict(saved["state"])
    for group in saved["param_groups"]:
        for key in group["params"]:
            memory = state.get(key)
            if isinstance(memory, Mapping) and "step" in memory:
                rates = zip(_MEANS, group.get("betas", ()), strict=False)
                means = {k: memory[k] * (1 - beta ** memory["step"]) for k, beta in rates if k in memory}
                state[key] = {**memory, **means}
    return {**saved, "state": state}


def _came(memory: Group) -> Group:
    """came_pytorch has means of rows and columns without the axis that they are along."""
    axes = {name: -1 if name.endswith("_row") else -2 for name in memory if name.endswith(("_row", "_col"))}
    like = memory.get("exp_avg")
    if like is None:
        return memory
    return memory | {name: memory[name].unsqueeze(axis) for name, axis in axes.items() if memory[name].ndim < like.ndim}


def _prodigy(memory: Group) -> Group:
    """prodigyopt has its copy and its sum as vectors, and one number for a copy of zeros."""
    like = memory.get("exp_avg", memory.get("exp_avg_sq"))
    slots = [memory.get(k) for k in ("s", "p0")]
    if like is None or any(x is None for x in slots) or memory["s"].numel() != like.numel():
        return memory  # of another optimizer, or of slice_p > 1, which leaves elements out
    return memory | {k: memory[k].expand(like.numel()).reshape(like.shape).clone() for k in ("s", "p0")}


_SHAPES = {"came": _came, "prodigy": _prodigy}
