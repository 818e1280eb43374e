"""Names of parameters in the optimizer's groups. All other state is the torch adapter's: the Trainer calls
`state_dict()`.

The Trainer passes tensors without their names, which a rule needs that treats embeddings and heads apart. torch keeps
names in `group["param_names"]`, and in checkpoints. It refuses a group without names beside named ones, so a group that
the user adds later is named here too.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any, TypeAlias

import torch

#: A parameter group of torch.
Group: TypeAlias = dict[str, Any]


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
