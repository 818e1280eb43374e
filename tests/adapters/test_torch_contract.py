"""What code around an optimizer relies on: its class, hooks, closures, versions, threads."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook
from torch.profiler import ProfilerActivity, profile

from scirs2_adapters import get
from scirs2_adapters.core.program.recorded import record
from scirs2_adapters.core.slots import Leaf

from .torch_support import each_optimizer, each_path, each_peer, ours, plain, theirs


@each_optimizer
def test_it_is_a_torch_optimizer_of_torchs_class(name: str) -> None:
    optimizer = ours(name)(plain())
    assert isinstance(optimizer, torch.optim.Optimizer)
    assert isinstance(optimizer, getattr(torch.optim, name, torch.optim.Optimizer))
    assert type(optimizer).__name__ == name
    assert optimizer.defaults.keys() <= optimizer.param_groups[0].keys()
    assert repr(optimizer).startswith(f"{name} (")


def test_adamw_is_an_adam_as_in_torch() -> None:
    """Torch 2.6 has two classes of no relation."""
    assert isinstance(ours("AdamW")(plain()), torch.optim.Adam) == issubclass(torch.optim.AdamW, torch.optim.Adam)


@each_peer
def test_positions_of_arguments_are_torchs(name: str, options: dict[str, Any]) -> None:
    del options
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD,)
    names = [p.name for p in inspect.signature(ours(name)).parameters.values() if p.kind in kinds]
    expected = [p.name for p in inspect.signature(theirs(name)).parameters.values() if p.kind in kinds]
    assert names == expected


def test_steps_keep_torchs_signature() -> None:
    assert list(inspect.signature(ours("AdamW").step).parameters) == ["self", "closure"]
    assert list(inspect.signature(ours("AdamW").zero_grad).parameters) == ["self", "set_to_none"]


@each_path
def test_a_step_is_seen_by_autograd_as_a_write(kernel: str) -> None:
    p = torch.nn.Parameter(torch.ones(3))
    optimizer = ours("AdamW")([p], kernel=kernel)
    kept = (p * p).sum()
    p.grad = torch.ones(3)
    version = p._version
    optimizer.step()
    assert p._version > version
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        kept.backward()


def test_a_closure_runs_once_with_gradients_and_its_value_is_returned() -> None:
    p = torch.nn.Parameter(torch.ones(3))
    optimizer, calls = ours("AdamW")([p]), []

    def closure() -> torch.Tensor:
        calls.append(torch.is_grad_enabled())
        optimizer.zero_grad()
        loss = (p * p).sum()
        loss.backward()
        return loss

    with torch.no_grad():
        assert float(optimizer.step(closure)) == 3.0
    assert calls == [True]


class Mine(ours("AdamW")):
    """A user's subclass, with a step of its own."""

    def step(self, closure: Any = None) -> Any:
        return super().step(closure)


class Renamed(ours("AdamW")):
    """A user's subclass, without."""


@pytest.mark.parametrize("cls", [ours("AdamW"), Mine, Renamed], ids=lambda c: c.__name__)
def test_hooks_are_called_once_and_in_torchs_order(cls: type[torch.optim.Optimizer]) -> None:
    ours("AdamW")(plain()).step()
    optimizer, seen = cls(plain()), []
    handles = [
        register_optimizer_step_pre_hook(lambda *a: seen.append("global pre")),
        register_optimizer_step_post_hook(lambda *a: seen.append("global post")),
        optimizer.register_step_pre_hook(lambda *a: seen.append("pre")),
        optimizer.register_step_post_hook(lambda *a: seen.append("post")),
    ]
    try:
        with profile(activities=[ProfilerActivity.CPU]) as profiled:
            optimizer.step()
    finally:
        for handle in handles:
            handle.remove()
    assert seen == ["global pre", "pre", "post", "global post"]
    rows = {row.key: row.count for row in profiled.key_averages() if row.key.startswith("Optimizer.step")}
    assert rows == {f"Optimizer.step#{cls.__name__}.step": 1}


@each_optimizer
def test_meta_parameters_step(name: str) -> None:
    p = torch.nn.Parameter(torch.zeros(4, 3, device="meta"))
    p.grad = torch.zeros(4, 3, device="meta")
    optimizer = ours(name)([p])
    if get(name)().model_slots():  # a number of the whole model is a number, which a meta tensor does not have
        with pytest.raises(RuntimeError):
            optimizer.step()
    else:
        optimizer.step()
        assert all(x.device.type == "meta" for k, x in optimizer.state.get(p, {}).items() if k != "step")


@each_optimizer
def test_a_differentiable_step_has_gradients(name: str) -> None:
    program = record(get(name)(), Leaf((3, 2), "float64"))
    if get(name)().model_slots() or any(node.op == "matrix" for node in program.nodes):
        return  # iterations of matrices and kept numbers of a model are no functions of the gradient that torch follows
    start, grad = torch.randn(3, 2, dtype=torch.float64), torch.randn(3, 2, dtype=torch.float64) + 3

    def stepped(g: torch.Tensor) -> torch.Tensor:
        p = start.clone().requires_grad_().clone()
        optimizer = ours(name)([p], lr=0.1, differentiable=True)
        for _ in range(2):
            p.grad = g
            optimizer.step()
        return p

    assert torch.autograd.gradcheck(stepped, (grad.requires_grad_(),))


def test_the_grad_scaler_skips_a_step_that_overflowed() -> None:
    p = torch.nn.Parameter(torch.ones(3))
    optimizer = ours("AdamW")([p])
    scaler = torch.amp.GradScaler("cpu")
    for factor, moved in ((float("inf"), False), (1.0, True)):
        optimizer.zero_grad()
        before = p.detach().clone()
        scaler.scale((p * factor).sum()).backward()
        scaler.step(optimizer)
        scaler.update()
        assert torch.equal(p, before) is not moved
