"""Optimizers that take estimates of the curvature between their steps."""

from __future__ import annotations

from scirs2_adapters.core.errors import bad_value

from ..executors import compiled
from .rules import RuleOptimizer

#: The values of every group while an estimate is taken.
_MEANWHILE = {"estimating": True, "max_grad_norm": None}


class EstimatingOptimizer(RuleOptimizer):
    """An optimizer of a rule with a field `estimating`, or of a wrapper, whose base may have one."""

    def update_hessian(self) -> None:
        """Take the gradients for the estimate of the curvature; parameters and all other memory stay as they are, and
        it is not counted as a step. A wrapper does not see these gradients, and its `base` must be such an optimizer.

        Call it every ten steps or so, after the backward pass of a loss for labels drawn from the model itself.
        Gradients are taken as they are, without `max_grad_norm`; those of a `GradScaler` have to be unscaled first.

        >>> import torch
        >>> from scirs2_adapters.torch import SophiaG
        >>> model = torch.nn.Linear(2, 3)
        >>> optimizer = SophiaG(model.parameters())
        >>> logits = model(torch.ones(8, 2))
        >>> drawn = torch.distributions.Categorical(logits=logits).sample()
        >>> torch.nn.functional.cross_entropy(logits, drawn).backward()
        >>> optimizer.update_hessian()
        >>> optimizer.zero_grad()
        """
        compiled.eagerly(self._estimate)  # a compiled program would change groups after the step

    def _estimate(self) -> None:
        fields = self._group_rule(0, self.param_groups[0]).rule.fields
        if "estimating" not in fields:
            worded = 'must be an optimizer that is given estimates of the curvature, such as "sophiag"'
            raise bad_value(type(self).__name__, "base", worded, self.param_groups[0]["base"])
        before = [{k: group[k] for k in _MEANWHILE} for group in self.param_groups]
        try:
            for group in self.param_groups:
                group.update(_MEANWHILE)
            RuleOptimizer._advance(self)  # without the closure that a step of SAM needs
        finally:
            for group, values in zip(self.param_groups, before, strict=True):
                group.update(values)
