"""Names of parameters in the optimizer's groups. All other state is the torch adapter's: the Trainer calls
`state_dict()`.

The Trainer hands over tensors without their names, and a rule that treats embeddings and heads apart knows them by
nothing else. torch keeps names in `group["param_names"]`; they travel in the checkpoint. torch also refuses a group
without names beside named ones, but the user who adds one has named none: so an added group is named here as well.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

import torch


def name_parameters(optimizer: torch.optim.Optimizer, model: torch.nn.Module) -> None:
    """Write the model's names into the groups; a parameter of another owner, as a learnable loss, has an empty one."""
    for group in optimizer.param_groups:
        _name(group, model)
    optimizer.add_param_group = functools.partial(_add, optimizer, model)  # type: ignore[method-assign]


def _name(group: dict[str, Any], model: torch.nn.Module) -> None:
    names = {id(p): name for name, p in model.named_parameters()}
    group.setdefault("param_names", [names.get(id(p), "") for p in group["params"]])


def _add(optimizer: torch.optim.Optimizer, model: torch.nn.Module, param_group: dict[str, Any]) -> None:
    """`add_param_group` of an optimizer whose groups the user did not name."""
    params = param_group.get("params") if isinstance(param_group, dict) else None
    if isinstance(params, Iterable) and not isinstance(params, set):  # torch refuses a set
        param_group["params"] = listed = [params] if isinstance(params, torch.Tensor) else list(params)
        if not any(isinstance(p, tuple) for p in listed):
            _name(param_group, model)
    type(optimizer).add_param_group(optimizer, param_group)
