"""A plan is kept while nothing has changed, and made anew when anything has that kernels rely on."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from scirs2_adapters.adapters.torch.dispatch.step import Plan
from scirs2_adapters.adapters.torch.executors import kernel
from scirs2_adapters.torch import AdamW

Params = list[torch.nn.Parameter]
Change = Callable[[AdamW, Params], object]


def _swap(optimizer: AdamW, params: Params) -> None:
    first, last = (optimizer.state[p] for p in (params[0], params[-1]))
    first["exp_avg"], last["exp_avg"] = last["exp_avg"], first["exp_avg"]


def _set(where: torch.Tensor, other: torch.Tensor) -> None:
    where.data = other


#: What moves, is replaced, or gets other strides or another dtype, at the first parameter or at the last.
CHANGES: dict[str, Change] = {
    "parameter moved": lambda o, ps: _set(ps[-1], ps[-1].data.clone()),
    "parameter with other strides": lambda o, ps: _set(ps[-1], ps[-1].data.t()),
    "parameter of another dtype": lambda o, ps: [
        _set(ps[0], ps[0].data.double()),
        _set(ps[0].grad, ps[0].grad.double()),
    ],
    "memory moved": lambda o, ps: _set(o.state[ps[-1]]["exp_avg_sq"], o.state[ps[-1]]["exp_avg_sq"].clone()),
    "memory replaced": lambda o, ps: o.state[ps[0]].update(exp_avg=o.state[ps[0]]["exp_avg"].clone()),
    "memory replaced by a view": lambda o, ps: o.state[ps[0]].update(exp_avg=o.state[ps[0]]["exp_avg"].t()),
    "memory exchanged": _swap,
    "state replaced": lambda o, ps: o.state.update({ps[0]: dict(o.state[ps[0]])}),
    "more memory at the end": lambda o, ps: o.state[ps[-1]].update(more=torch.zeros(3)),
    "more memory at the beginning": lambda o, ps: o.state[ps[0]].update(more=torch.zeros(3)),
    "less memory at the end": lambda o, ps: o.state[ps[-1]].pop("exp_avg_sq"),
    "gradient with other strides": lambda o, ps: setattr(ps[-1], "grad", ps[-1].grad.t()),
    "another parameter": lambda o, ps: o.add_param_group({"params": [torch.nn.Parameter(torch.ones(2))]}),
}


def stepped() -> tuple[AdamW, Params, Plan]:
    params = [torch.nn.Parameter(torch.ones(4, 4)) for _ in range(3)]
    optimizer = AdamW(params)
    for p in params:
        p.grad = torch.ones(4, 4)
    optimizer.step()
    optimizer.step()
    (plan,) = optimizer._plans.values()
    return optimizer, params, plan


@pytest.mark.parametrize("guards", [True, False], ids=["torch's comparison", "ours"])
@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_noticed(change: str, guards: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not guards:
        monkeypatch.setattr(kernel, "TensorGuards", None)
    optimizer, params, plan = stepped()
    CHANGES[change](optimizer, params)
    optimizer.step()
    assert plan not in optimizer._plans.values()


@pytest.mark.parametrize("guards", [True, False], ids=["torch's comparison", "ours"])
def test_a_plan_is_kept_for_gradients_elsewhere(guards: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not guards:
        monkeypatch.setattr(kernel, "TensorGuards", None)
    optimizer, params, plan = stepped()
    for p in params:
        p.grad = torch.ones(4, 4)
    optimizer.step()
    params[0].requires_grad_(False)  # which torch's comparison refuses
    optimizer.step()
    assert list(optimizer._plans.values()) == [plan]
