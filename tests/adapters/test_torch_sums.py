"""Rules that sum over the model, in torch: groups of other rates and parameters that come late are as in numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import scirs2_adapters as s2
from scirs2_adapters import torch as ours
from scirs2_adapters.adapters.torch.argument_names import TORCH
from scirs2_adapters.core import HostOptimizer
from scirs2_adapters.core.groups import sums
from scirs2_adapters.core.registry import with_value
from tests.conformance.options import brisk

SUMMING = [n for n in (*s2.names(), *with_value()) if sums(s2.get(n)())]
GRADS = np.random.default_rng(8).normal(size=(5, 2, 3, 2))
STARTS = {"a": np.full((3, 2), 0.5), "b": np.full((3, 2), -0.7)}


def in_numpy(name: str, late: int) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    rule, params = s2.get(name), {k: x.copy() for k, x in STARTS.items()}
    groups = [{"params": ["b"], "learning_rate_factor": 0.5}]
    optimizer = HostOptimizer(rule(**brisk(rule)), params, kernel="traced", groups=groups)
    for t, (a, b) in enumerate(GRADS):
        value = {"value": 3.0 / (t + 1)} if rule.needs_value else {}
        optimizer.step({"a": a} if t < late else {"a": a, "b": b}, **value)
    return params, optimizer.model


@pytest.mark.parametrize("late", [0, 3])
@pytest.mark.parametrize("name", SUMMING)
def test_groups_and_late_parameters_are_stepped_as_in_numpy(name: str, late: int) -> None:
    rule = s2.get(name)
    params = {k: torch.nn.Parameter(torch.tensor(x)) for k, x in STARTS.items()}
    hyper = TORCH.to_framework(brisk(rule), rule.fields_with())
    groups = [{"params": [params["a"]]}, {"params": [params["b"]], "lr": 0.5 * hyper["lr"]}]
    optimizer = getattr(ours, rule.__name__)(groups, **hyper, kernel="traced")
    for t, (a, b) in enumerate(GRADS):
        params["a"].grad, params["b"].grad = torch.tensor(a), None if t < late else torch.tensor(b)
        optimizer.step(*[lambda t=t: torch.tensor(3.0 / (t + 1), dtype=torch.float64)] * rule.needs_value)
    wanted, model = in_numpy(name, late)
    for key, p in params.items():
        np.testing.assert_allclose(p.detach().numpy(), wanted[key], rtol=1e-10, atol=1e-13)
    assert {k: optimizer.param_groups[1][k] for k in model} == pytest.approx(model, rel=1e-10)


def test_groups_of_other_formulas_are_refused_where_sums_go_over_all() -> None:
    one, other = (torch.nn.Parameter(torch.ones(3)) for _ in range(2))
    for name, options in (("PolyakSGD", {"maximize": True}), ("Prodigy", {"d_coef": 2.0}), ("DoG", {"cautious": True})):
        (word,) = options
        with pytest.raises(ValueError, match=rf"`{name}\({word}=...\)` must be .* as in the first group"):
            getattr(ours, name)([{"params": [one]}, {"params": [other], **options}])
