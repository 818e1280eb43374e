"""Which saved memory belongs to which parameter: by name where both sides have names, else by position. Memory of a
search is one vector over all parameters, and is put into their order.
"""

from __future__ import annotations

import logging
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import torch

from scirs2_adapters.core.errors import bad_value

from .protocols import GroupValues, RuleOptimizerLike, Saved
from .tensors import Tensor, bare, known_names, listed, saved_names

log = logging.getLogger("scirs2")

#: The index of a parameter's group and its key there, by the name of the parameter.
Places = Mapping[str, tuple[int, Hashable]]
#: torch's sentences, which callers know.
_GROUPS = "loaded state dict has a different number of parameter groups"
_SIZES = "loaded state dict contains a parameter group that doesn't match the size of optimizer's group"
_PARTLY = "Use `load_state_dict(..., strict=False)` to load what fits."


@dataclass
class Report:
    """What a partial load leaves out: names of parameters without saved memory, saved names that are not here, and
    memory of another shape.
    """

    missing: list[str]
    unexpected: list[str]
    mismatched: list[str]


def in_order(call: str, optimizer: RuleOptimizerLike, saved: Saved, report: Report | None) -> Saved:
    """The dict with its groups and parameters in the order of this optimizer; what is left out goes to `report`, and is
    refused where there is none.
    """
    names = [known_names(optimizer._names, group) for group in optimizer.param_groups]
    if _in_order_already(saved):
        return _named_as_here(_by_position(call, names, names, optimizer.param_groups, saved), optimizer.param_groups)
    theirs = [saved_names(group) for group in saved["param_groups"]]
    here = _places(names, optimizer.param_groups)
    there = _places(theirs, saved["param_groups"])
    named = "" not in here and _all_different(here, optimizer.param_groups)
    named = named and _all_different(there, saved["param_groups"])
    if named and here.keys() & there.keys():
        return _by_name(call, optimizer.param_groups, names, here, there, saved, report)
    if named and here:
        log.warning("%s: no saved name is one of this optimizer's; memory goes by position", call)
    return _by_position(call, names, theirs, optimizer.param_groups, saved)


def _places(names: Sequence[Sequence[str]], groups: Sequence[GroupValues]) -> Places:
    """Where each named parameter is."""
    places: dict[str, tuple[int, Hashable]] = {}
    for index, (group_names, group) in enumerate(zip(names, groups, strict=True)):
        for name, key in zip(group_names, group["params"], strict=False):
            places[bare(name)] = index, key
    return places


def _in_order_already(saved: Saved) -> bool:
    """Whether it has names in place of numbers: so distributed checkpoints load, which have sorted parameters as they
    are here, and copy `param_names` as they were.
    """
    keys = [key for group in saved["param_groups"] for key in group["params"]]
    return bool(keys) and all(isinstance(key, str) and not key.isdigit() for key in keys)


def _named_as_here(saved: Saved, groups: Sequence[GroupValues]) -> Saved:
    renamed = [
        {**old, "param_names": group["param_names"]} if "param_names" in group else old
        for old, group in zip(saved["param_groups"], groups, strict=True)
    ]
    return {**saved, "param_groups": renamed}


def _all_different(places: Places, groups: Sequence[GroupValues]) -> bool:
    return len(places) == sum(len(group["params"]) for group in groups)


def _by_position(
    call: str, names: list[list[str]], theirs: list[list[str]], groups: Sequence[GroupValues], saved: Saved
) -> Saved:
    """The dict as it is, if it has as many groups, of as many parameters each."""
    if len(saved["param_groups"]) != len(groups):
        worded = f"must have {len(groups)} parameter groups: {_GROUPS}"
        raise bad_value(call, "state_dict", worded, f"{len(saved['param_groups'])} groups")
    for i, (old, new) in enumerate(zip(saved["param_groups"], groups, strict=True)):
        if len(old["params"]) != len(new["params"]):
            told = f"group {i}: {len(old['params'])} saved, {len(new['params'])} here{_only(theirs[i], names[i])}"
            way_out = "Give both optimizers `named_parameters()`, and memory goes by name."
            raise bad_value(call, "state_dict", f"must have groups of the same sizes: {_SIZES}", told, way_out)
    return saved


def _only(saved: Sequence[str], here: Sequence[str]) -> str:
    """Which names one side has alone, as far as names are known."""
    there_only = [n for n in saved if n and n not in here]
    here_only = [n for n in here if n and n not in saved]
    told = f"; saved only: {listed(there_only)}" if there_only else ""
    return told + (f"; here only: {listed(here_only)}" if here_only else "")


def _by_name(
    call: str, groups: Sequence[GroupValues], names: list[list[str]], here: Places, there: Places, saved: Saved,
    report: Report | None,
) -> Saved:  # fmt: skip
    missing = [name for name in here if name not in there]
    unexpected = [name for name in there if name not in here]
    sources = [_sources(group_names, there) for group_names in names]
    if report is None:
        _refuse_others(call, missing, unexpected, sources, saved)
    else:
        report.missing += missing
        report.unexpected += unexpected
    same_groups = _one_to_one(sources)
    ordered = []
    for group, group_names, source in zip(groups, names, sources, strict=True):
        # Options of a group that is made up otherwise now are this optimizer's.
        options = saved["param_groups"][source[0]] if same_groups and source else group
        keys = [there[bare(name)][1] if bare(name) in there else ("new", name) for name in group_names]
        ordered.append({**options, "params": keys, "param_names": list(group_names)})
    gone = {there[name][1] for name in unexpected}
    state = {key: param_state for key, param_state in saved["state"].items() if key not in gone}
    return {**saved, "state": state, "param_groups": ordered}


def _sources(names: Sequence[str], there: Places) -> list[int]:
    """The saved groups in which these parameters are."""
    return sorted({there[bare(name)][0] for name in names if bare(name) in there})


def _one_to_one(sources: Sequence[Sequence[int]]) -> bool:
    """Whether each group is made of the parameters of one saved group, and of no other group's."""
    indices = [i for each in sources for i in each]
    return all(len(each) <= 1 for each in sources) and len(indices) == len(set(indices))


def _refuse_others(
    call: str, missing: list[str], unexpected: list[str], sources: Sequence[Sequence[int]], saved: Saved
) -> None:
    if missing or unexpected:
        told = {"missing": missing, "unexpected": unexpected}
        worded = "; ".join(f"{word}: {listed(names)}" for word, names in told.items() if names)
        count = f"one of {sum(len(group['params']) for group in saved['param_groups'])} parameters"
        raise bad_value(call, "state_dict", f"must be of the same parameters; {worded}", count, _PARTLY)
    if not _one_to_one(sources) or len(saved["param_groups"]) != len(sources):
        differ = len(saved["param_groups"]) != len(sources)
        told_groups = "parameters of other groups than here" + (f". {_GROUPS}" if differ else "")
        raise bad_value(call, "state_dict", "must have the same groups", told_groups, _PARTLY)


def reordered(call: str, memory: Saved, saved: Sequence[str], here: Sequence[str], params: Sequence[Tensor]) -> Saved:
    """The memory with its vectors in the order of the parameters here, if both sides have names for all of them."""
    saved, here = [bare(n) for n in saved], [bare(n) for n in here]
    if not all(saved) or not all(here) or saved == here or not set(saved) & set(here):
        return memory
    if sorted(saved) != sorted(here):
        worded = f"must be of the same parameters{_only(sorted(saved), sorted(here))}"
        raise bad_value(call, "state_dict", worded, f"{len(saved)} parameters")
    sizes = {n: p.numel() * (2 if p.is_complex() else 1) for n, p in zip(here, params, strict=True)}
    return {key: _reordered(value, saved, here, sizes) for key, value in memory.items()}


def _reordered(value: object, saved: Sequence[str], here: Sequence[str], sizes: dict[str, int]) -> object:
    if isinstance(value, list):
        return [_reordered(x, saved, here, sizes) for x in value]
    if not isinstance(value, Tensor) or value.shape != (sum(sizes.values()),):
        return value
    pieces = dict(zip(saved, value.split([sizes[n] for n in saved]), strict=True))
    return torch.cat([pieces[n] for n in here])
