"""Optimizers that train other parameters than those to evaluate: the two are exchanged in place.

What is trained is kept beside the memory meanwhile and comes back bit for bit, so that it makes no difference to
training when and how often the model is evaluated.
"""

from __future__ import annotations

from typing import cast

import torch

from scirs2_adapters.core.ops import HOST_SCALARS

from ..ops import OPS, SCALARS
from ..state import coded
from ..state.memory import TRAINED
from ..state.origin import TRAIN_MODE
from ..state.protocols import Group
from ..state.tensors import Tensor, leaves_of
from .rules import RuleOptimizer


class EvaluatingOptimizer(RuleOptimizer):
    """An optimizer of a rule with `evaluation`."""

    @torch.no_grad()
    def eval(self) -> None:
        """Put the parameters to evaluate into the model. A step is an error until `train()`; `state_dict()` has both.

        >>> import torch
        >>> from scirs2_adapters.torch import ScheduleFreeAdamW
        >>> model = torch.nn.Linear(2, 2)
        >>> optimizer = ScheduleFreeAdamW(model.parameters())
        >>> model(torch.ones(3, 2)).sum().backward()
        >>> optimizer.step()
        >>> optimizer.eval()
        >>> # evaluate and save the model here
        >>> optimizer.train()
        """
        for index, group in enumerate(self.param_groups):
            if group[TRAIN_MODE]:
                for p, averaged in self._averaged(index, group):
                    self.state[p][TRAINED] = p.detach().clone(memory_format=torch.preserve_format)
                    p.copy_(averaged)
                group[TRAIN_MODE] = False

    @torch.no_grad()
    def train(self) -> None:
        """Put the parameters that are trained back into the model, as they were."""
        for group in self.param_groups:
            if not group[TRAIN_MODE]:
                for p in group["params"]:
                    if TRAINED in self.state.get(p, ()):
                        p.copy_(self.state[p].pop(TRAINED))
                group[TRAIN_MODE] = True

    def _averaged(self, index: int, group: Group) -> list[tuple[Tensor, Tensor]]:
        """Each parameter that has memory, and what to evaluate in its place."""
        group_rule, averaged = self._group_rule(index, group), list[tuple[Tensor, Tensor]]()
        xp = SCALARS if group_rule.traced else HOST_SCALARS
        for p, leaf in zip(group["params"], leaves_of(self, group), strict=True):
            memory, rule = self.state.get(p) or {}, group_rule.rule.route(leaf)
            names = [slot.name for slot in rule.roles("evaluation")[0]]
            if TRAINED in memory or not memory.keys() >= set(names):
                continue  # a second time in the group, or not stepped yet
            wide = torch.promote_types(p.dtype, torch.float32)
            slots = {name: coded.load(name, memory[name], memory).to(wide) for name in names}
            scalars = rule.scalars(xp, cast(float, memory["step"]))
            averaged.append((p, rule.evaluated(OPS, p.detach().to(wide), slots, scalars)))
        return averaged
