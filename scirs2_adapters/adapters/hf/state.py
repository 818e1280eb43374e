"""Names of parameters in the optimizer's groups, and groups by these names. All other state is the torch adapter's: the
Trainer calls `state_dict()`.

The Trainer passes tensors without their names, which a rule needs that treats embeddings and heads apart. torch keeps
names in `group["param_names"]`, and in checkpoints. It refuses a group without names beside named ones, so a group that
the user adds later is named here too.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import chain
from typing import TypeAlias, cast

import torch

from scirs2_adapters.adapters.torch.grouping import OTHERS, Assigned, ByName, divided, names_of
from scirs2_adapters.adapters.torch.state.protocols import Group
from scirs2_adapters.adapters.torch.state.tensors import bare
from scirs2_adapters.core.errors import bad_value

from .targets import PROJECTED, WHOLE

#: What an optimizer takes first: parameters, pairs of name and parameter, or groups.
Params: TypeAlias = Iterable[torch.Tensor] | Iterable[tuple[str, torch.Tensor]] | Iterable[Group]
#: The group and the rank of parameters of these names, of which those are trained.
Ranks: TypeAlias = Callable[[Collection[str], Collection[str | None]], Assigned]


def name_parameters(optimizer: torch.optim.Optimizer, model: torch.nn.Module) -> None:
    """Write the model's names into the groups; the name of a parameter that is not the model's is empty."""
    for group in optimizer.param_groups:
        _name(group, model)
    optimizer.add_param_group = functools.partial(_add, optimizer, model)  # type: ignore[method-assign]


def _name(group: Group, model: torch.nn.Module) -> None:
    names = {id(p): name for name, p in model.named_parameters()}
    group.setdefault("param_names", [names.get(id(p), "") for p in group["params"]])


def _add(optimizer: torch.optim.Optimizer, model: torch.nn.Module, param_group: Group) -> None:
    """`add_param_group` of an optimizer whose groups the user did not name."""
    params = param_group.get("params") if isinstance(param_group, dict) else None
    if isinstance(params, Iterable) and not isinstance(params, set):  # torch refuses a set
        param_group["params"] = listed = [params] if isinstance(params, torch.Tensor) else list(params)
        if not any(isinstance(p, tuple) for p in listed):
            _name(param_group, model)
    type(optimizer).add_param_group(optimizer, param_group)


def grouped(
    patterns: Sequence[ByName],
    params: Params,
    lr: float,
    model: torch.nn.Module | None,
    decayed: Collection[str],
    ranks: Ranks | None = None,
) -> list[Group]:
    """The groups divided by patterns of names: the model's, or without one those that come with the parameters; and by
    `ranks`, which are of the model.

    The weight decay is only changed of what is decayed; that is everything where there is no model. The groups that no
    pattern matches come first: the Trainer logs the first group's learning rate.
    """
    groups = _listed(params)
    names, others = _names(groups, model)
    if not names and patterns:
        way_out = "Give the optimizer `model.named_parameters()`."
        raise bad_value(patterns[0].call, patterns[0].argument, "needs the names of parameters", None, way_out)
    kept = {bare(name) for name in decayed} if model is not None else {*names.values()}
    still = {name: "is not decayed by the Trainer" for name in names.values() if name not in kept}
    trained = {names.get(id(p)) for group in groups for p in group["params"]}
    frozen = {name for name in names.values() if name not in trained}
    assigned = {} if ranks is None else {"rank": ranks(names.values(), trained)}
    for by in patterns:
        known, unknown = (kept, others | still) if by.word == "weight_decay" else (names.values(), others)
        assigned[by.word] = by.assign([name for name in names.values() if name in known], lr, unknown, frozen)
    parts = divided(groups, names, assigned)
    for group in parts:
        if not any(names.get(id(p)) in kept for p in group["params"]):
            group["name"] += ", no decay"
    return sorted(parts, key=lambda group: group["name"].removesuffix(", no decay") not in (OTHERS, PROJECTED, WHOLE))


def _listed(params: Params) -> list[Group]:
    """Groups with lists of parameters, and of their names where these came along."""
    items = list(params)
    groups: list[Group] = []
    listed_groups = cast("list[Group]", items) if items and isinstance(items[0], dict) else [{"params": items}]
    for group in listed_groups:
        members = group["params"]
        listed = [members] if isinstance(members, torch.Tensor) else list(members)
        named = {"param_names": [n for n, _ in listed]} if listed and isinstance(listed[0], tuple) else {}
        groups.append({**group, "params": [p for _, p in listed] if named else listed, **named})
    return groups


def _names(groups: Iterable[Group], model: torch.nn.Module | None) -> tuple[dict[int, str], dict[str, str]]:
    """The name of each parameter by its `id`; other names that tied parameters have, and why they do not count."""
    if model is None:
        pairs = [zip(group["params"], group.get("param_names", ()), strict=False) for group in groups]
        return {id(p): name for p, name in chain.from_iterable(pairs)}, {}
    return names_of(model)
