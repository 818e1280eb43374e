"""One step of all parameters: which path takes which, and how each is called.

`plan` finds out once what a step needs and remembers it for as long as nothing has moved. Its executors step the
parameters: by kernels that are told their addresses, or in torch's own operations on many tensors at once. `scaling` is
what gradients are multiplied by on their way into the formula.
"""

from __future__ import annotations

import operator
from functools import partial
from itertools import chain

import torch

from ..executors.kernel import same
from ..state import RuleOptimizerLike, dtensor_class
from . import scaling, sharding
from .plan import Plan

Tensor = torch.Tensor
_GRADIENT = operator.attrgetter("grad")
#: Patterns of gradients (which parameters have one) whose plans are kept.
PLANS = 8


def step(optimizer: RuleOptimizerLike, grads: list[Tensor | None] | None = None) -> None:
    """One step of every parameter that has a gradient; `grads` are used in place of the parameters' own."""
    groups = optimizer.param_groups
    params: list[Tensor] = list(chain.from_iterable([group["params"] for group in groups]))
    if grads is None:
        grads = list(map(_GRADIENT, params))
    kinds = list(map(type, grads))
    if dtensor_class() in kinds:
        grads = sharding.aligned(params, grads)
    group_rules = [optimizer._group_rule(i, group) for i, group in enumerate(groups)]  # checks what was written there
    scales = scaling.scales(optimizer, grads)
    if isinstance(scales, str):  # SKIP
        return
    pattern = (scales is None, *kinds, *[len(group["params"]) for group in groups])
    plan: Plan | None = optimizer._plans.get(pattern)
    if plan is None or not plan.holds(optimizer, group_rules, params, grads):
        # Of parameters that are no longer in the groups nothing may be kept.
        kept = {k: other for k, other in optimizer._plans.items() if same(other.params, params)}
        optimizer._plans = kept if len(kept) < PLANS else {}
        plan = optimizer._all_or_nothing(partial(Plan, optimizer, group_rules, params, grads, scales is not None))
        optimizer._plans[pattern] = plan
    plan.run(optimizer, grads, scales)


#: For a compiled training step, in which the kernel is a call that the compiler must not look into.
step_eagerly = torch._disable_dynamo(step)  # type: ignore[attr-defined]
