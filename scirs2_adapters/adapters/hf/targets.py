"""Which parameters GaLore and APOLLO project: linear layers that `TrainingArguments(optim_target_modules=...)` names.

transformers reads the field for its own names of these optimizers; ours read it in the same way. All other parameters
are in groups of rank 0, which AdamW steps.
"""

from __future__ import annotations

import re
from collections.abc import Collection

import torch
from transformers import TrainingArguments
from transformers.trainer_utils import check_target_module_exists

from scirs2_adapters.adapters.torch.grouping import Assigned
from scirs2_adapters.adapters.torch.state.tensors import bare
from scirs2_adapters.core.errors import bad_type, bad_value

_CALL, _ARGUMENT = "TrainingArguments", "optim_target_modules"
_ALL = "all-linear"
#: The names of the groups.
PROJECTED, WHOLE = "projected", "not projected"


def check_targets(args: TrainingArguments) -> None:
    """Refuse arguments that do not say which layers are projected."""
    targeted = args.optim_target_modules
    worded = f'must say which linear layers are projected: "{_ALL}", a regular expression, or a list of parts of names'
    if targeted is None:
        raise bad_value(_CALL, _ARGUMENT, worded, targeted, 'Write `optim_target_modules=["attn", "mlp"]`, for one.')
    if not isinstance(targeted, str) and not (isinstance(targeted, list) and all(isinstance(x, str) for x in targeted)):
        raise bad_type(_CALL, _ARGUMENT, worded, targeted)


def target_ranks(
    args: TrainingArguments, model: torch.nn.Module, rank: int, names: Collection[str], trained: Collection[str | None]
) -> Assigned:
    """The group and the rank of each parameter of the model, of these names; a tied weight has that of its first."""
    targeted = args.optim_target_modules
    every = isinstance(targeted, str) and targeted.replace("_", "-") == _ALL
    linear = [bare(name) for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)]
    targets = {f"{name}.weight" for name in linear if every or _names(targeted, name)}
    can = [name for name in linear if f"{name}.weight" in {*names} & {*trained}]
    if not targets & {f"{name}.weight" for name in can}:
        near = ", ".join(f"`{name}`" for name in can[:3])
        way_out = f"Its linear layers are named like {near}." if near else "It has no untied torch.nn.Linear."
        raise bad_value(_CALL, _ARGUMENT, "must name linear layers of the model that are trained", targeted, way_out)
    return {name: (PROJECTED, rank) if name in targets else (WHOLE, 0) for name in names}


def _names(targeted: str | list[str], name: str) -> bool:
    """Whether the argument names this module, as transformers reads it."""
    try:
        return bool(check_target_module_exists(targeted, name))
    except re.error as error:
        raise bad_value(_CALL, _ARGUMENT, f"must have regular expressions ({error})", targeted) from None
