"""Which name a parameter has. torch keeps names in a list beside a group's parameters; here they also stay with the
parameters, so that a list that the user changes puts no name to another one.
"""

from __future__ import annotations

from collections.abc import Sequence

from scirs2_adapters.core.slots import Leaf

from .protocols import GroupValues, Names, RuleOptimizerLike
from .tensors import leaf_of

#: What wrappers of a model put into the names of its parameters.
_WRAPPERS = frozenset({"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})


def remember_names(known: Names, group: GroupValues) -> None:
    """Notes the names of a group's parameters."""
    names = group.get("param_names") or ()
    if len(names) == len(group["params"]):
        known.update(zip(group["params"], names, strict=True))


def known_names(known: Names, group: GroupValues) -> list[str]:
    """A name for each parameter of the group, empty where there is none."""
    params, names = group["params"], group.get("param_names") or ()
    if not names and not known.data:
        return [""] * len(params)
    if len(names) == len(params) and not all(p in known for p in params):
        return list(names)  # as where sharding has put others in their place
    return [known.get(p, "") for p in params]


def leaves_of(optimizer: RuleOptimizerLike, group: GroupValues) -> list[Leaf]:
    """The parameters of a group as a rule sees them."""
    names = known_names(optimizer._names, group)
    return [leaf_of(p, name, optimizer.state.get(p) or ()) for p, name in zip(group["params"], names, strict=True)]


def saved_names(group: GroupValues) -> list[str]:
    """The names in a saved group; none if there is not one for each parameter."""
    names = group.get("param_names") or ()
    return list(names) if len(names) == len(group["params"]) and all(names) else []


def bare(name: str) -> str:
    """The name of a parameter without what wrappers of the model have put into it."""
    return ".".join(part for part in name.split(".") if part not in _WRAPPERS) or name


def listed(names: Sequence[str], most: int = 5) -> str:
    """Some names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
