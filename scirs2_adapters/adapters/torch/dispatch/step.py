"""One step of all parameters: which path takes which, and how each is called.

`plan` finds out once what a step needs and remembers it for as long as nothing has moved; `tables` hands parameters to
the host kernel by address; `bundles` sends the others through the formula in torch's own operations, many tensors in
each; `scaling` is what multiplies gradients on their way in.
"""

from __future__ import annotations

import operator
from itertools import chain
from typing import Any

import torch

from ..executors.kernel import same
from ..state import dtensor_class
from . import scaling
from . import sharding as shards
from .plan import Plan

_GRADIENT = operator.attrgetter("grad")
#: Patterns of gradients (which parameters have one) whose plans are kept.
PLANS = 8


def step(optimizer: Any, grads: list[Any] | None = None) -> None:
    """One step of every parameter that has a gradient; `grads` are used in place of the parameters' own."""
    groups = optimizer.param_groups
    params = list(chain.from_iterable([group["params"] for group in groups]))
    found = list(map(_GRADIENT, params)) if grads is None else grads
    kinds = list(map(type, found))
    found = shards.aligned(params, found) if dtensor_class() in kinds else found
    settings = [optimizer._group_rule(i, group) for i, group in enumerate(groups)]  # checks what was written there
    scales = scaling.scales(optimizer, found)
    if scales is scaling.SKIP:
        return
    pattern = (scales is None, *kinds, *[len(group["params"]) for group in groups])
    plan = optimizer._plans.get(pattern)
    if plan is None or not plan.holds(optimizer, settings, params, found):
        # Of parameters that are no longer in the groups nothing may be kept.
        kept = {k: other for k, other in optimizer._plans.items() if same(other.params, params)}
        optimizer._plans = kept if len(kept) < PLANS else {}
        plan = optimizer._all_or_nothing(Plan, settings, params, found, scales is not None)
        optimizer._plans[pattern] = plan
    plan.run(optimizer, found, scales)


#: For a compiled training step, in which the kernel is a call that the compiler must not look into.
step_eagerly = torch._disable_dynamo(step)  # type: ignore[attr-defined]
