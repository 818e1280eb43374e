"""Names of parameters in the optimizer's groups. All other state is the torch room's: the Trainer calls `state_dict()`.

The Trainer hands over tensors without their names, and a rule that treats embeddings and heads apart knows them by
nothing else. torch keeps names in `group["param_names"]`; they travel in the checkpoint.
"""

from __future__ import annotations

import torch


def name_parameters(optimizer: torch.optim.Optimizer, model: torch.nn.Module) -> None:
    """Write the model's names into the groups; a parameter of another owner, as a learnable loss, has an empty one."""
    names = {id(p): name for name, p in model.named_parameters()}
    for group in optimizer.param_groups:
        group.setdefault("param_names", [names.get(id(p), "") for p in group["params"]])
