"""Optimizers whose step depends on the loss, which their closure returns."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch

from scirs2_adapters.core import get
from scirs2_adapters.core.registry import with_value
from tests.adapters.torch_support import ours, plain

NAMES = [get(name).__name__ for name in with_value()]
each = pytest.mark.parametrize("name", NAMES)
pytestmark = pytest.mark.usefixtures("one_thread")
Params = list[torch.nn.Parameter]


def closure_of(params: Params, optimizer: torch.optim.Optimizer, extra: float = 0.0) -> Callable[[], torch.Tensor]:
    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = sum((p - 0.5).square().sum() for p in params) + extra
        loss.backward()
        return loss

    return closure


def walked(name: str, steps: int = 4, **options: Any) -> tuple[Params, Any, list[float]]:
    params = plain()
    optimizer = ours(name)(params, **options)
    closure = closure_of(params, optimizer)
    return params, optimizer, [optimizer.step(closure).item() for _ in range(steps)]


@each
@pytest.mark.parametrize(
    "closure",
    [None, lambda: None, lambda: torch.ones(2), lambda: torch.tensor(1j), torch.tensor(1.0)],
    ids=["none", "nothing", "several", "complex", "the loss itself"],
)
def test_a_step_without_the_loss_is_refused_and_changes_nothing(name: str, closure: Any) -> None:
    params, optimizer, _ = walked(name, 2)
    before, state = [p.clone() for p in params], copy.deepcopy(optimizer.state_dict())
    with pytest.raises(TypeError, match=rf"`{name}.step\(closure=...\)` must be .* Write `optimizer.step\(closure\)`"):
        optimizer.step(closure)
    assert all(map(torch.equal, params, before))
    assert str(optimizer.state_dict()) == str(state)


OPTIONS: dict[str, dict[str, Any]] = {
    "traced": {"kernel": "traced"},
    "foreach": {"foreach": True, "kernel": "traced"},
    "fused": {"fused": True},
    "offload": {"offload": True},
    "far from clipped": {"max_grad_norm": 1e9},
}


@each
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_every_path_is_given_the_loss(name: str, options: dict[str, Any]) -> None:
    expected, _, losses = walked(name)
    params, _, seen = walked(name, **options)
    torch.testing.assert_close(params, expected)
    assert seen == pytest.approx(losses)
    assert losses[-1] < losses[0]


@each
def test_the_loss_counts(name: str) -> None:
    params, other = plain(), plain()
    for ps, extra in ((params, 0.0), (other, -1e3)):
        optimizer = ours(name)(ps, lr=100.0)
        optimizer.step(closure_of(ps, optimizer, extra))
    assert not all(map(torch.equal, params, other))


@each
def test_training_goes_on_from_a_state_dict_and_a_copy(name: str) -> None:
    params, optimizer, _ = walked(name, 3)
    pair = copy.deepcopy((params, optimizer))
    loaded = [torch.nn.Parameter(p.detach().clone()) for p in params]
    resumed = ours(name)(loaded)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for ps, o in ((params, optimizer), pair, (loaded, resumed)):
        for _ in range(3):
            o.step(closure_of(ps, o))
        assert all(map(torch.equal, ps, params))


@each
@pytest.mark.parametrize("wrapped", [False, True], ids=["alone", "inside a wrapper"])
def test_a_compiled_step_is_given_the_loss(name: str, wrapped: bool) -> None:
    expected, _, losses = walked(name)
    params = plain()
    optimizer = ours("Lookahead")(params, base=name.lower(), sync_period=100) if wrapped else ours(name)(params)
    optimizer = copy.deepcopy(optimizer)
    params = [p for group in optimizer.param_groups for p in group["params"]]
    closure = closure_of(params, optimizer)
    step = torch.compile(lambda: optimizer.step(closure), backend="eager")
    assert [step().item() for _ in range(4)] == losses
    assert all(map(torch.equal, params, expected))


@each
def test_a_loss_that_is_not_finite_is_skipped_where_that_is_asked_for(name: str) -> None:
    params, optimizer, _ = walked(name, 1, skip_nonfinite=True)
    before = [p.clone() for p in params]
    optimizer.step(closure_of(params, optimizer, float("nan")))
    assert all(map(torch.equal, params, before))
    assert optimizer.param_groups[0]["skipped_steps"] == 1


@each
def test_a_wrapper_hands_the_loss_on(name: str) -> None:
    expected, _, losses = walked(name)
    params, _, seen = walked("Lookahead", base=name.lower(), sync_period=100)
    assert seen == losses
    assert all(map(torch.equal, params, expected))


@each
def test_released_gradients_are_refused(name: str) -> None:
    with pytest.raises(RuntimeError, match="sums over the gradients of the whole model"):
        ours(name)(plain()).release_gradients()


@each
@pytest.mark.parametrize("fused", [None, True])
def test_a_scaler_that_would_leave_gradients_scaled_is_refused(name: str, fused: bool | None) -> None:
    params = plain()
    optimizer, scaler = ours(name)(params, fused=fused), torch.amp.GradScaler("cpu", init_scale=8.0)
    before = [p.clone() for p in params]
    scaler.scale(closure_of(params, optimizer)())
    with pytest.raises(
        TypeError, match=rf"`{name}.step\(closure=...\)` must not come through `GradScaler.step`.*bfloat16"
    ):
        scaler.step(optimizer, closure_of(params, optimizer))
    assert all(map(torch.equal, params, before))
    off = torch.amp.GradScaler("cpu", enabled=False)
    assert off.step(optimizer, closure_of(params, optimizer)) > 0
