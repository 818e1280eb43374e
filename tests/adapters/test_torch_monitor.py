"""`monitor` on torch optimizers: norms by group, no bit changed, hooks taken off, nothing kept."""

from __future__ import annotations

import copy
import gc
import weakref
from typing import Any

import pytest
import torch

from scirs2_adapters import monitor
from scirs2_adapters import torch as adapter
from scirs2_adapters.adapters.torch import monitor as watching_torch
from tests.adapters.torch_support import ALL

pytestmark = pytest.mark.usefixtures("one_thread")


def model(dtype: torch.dtype = torch.float32) -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(6, 4), torch.nn.Tanh(), torch.nn.Linear(4, 3)).to(dtype)


def train(net: torch.nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
    data = torch.linspace(-1, 1, 30, dtype=next(net.parameters()).dtype).reshape(5, 6)
    for _ in range(steps):
        optimizer.zero_grad()
        net(data).square().sum().backward()
        optimizer.step()


def same(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    return all(torch.equal(p, q) for p, q in zip(one.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize("name", ALL)
def test_it_changes_no_bit(name: str) -> None:
    plain, watched = model(), model()
    optimizers = [getattr(adapter, name)(net.parameters()) for net in (plain, watched)]
    watching = monitor(optimizers[1], every=2)
    train(plain, optimizers[0], 4)
    train(watched, optimizers[1], 4)
    assert same(plain, watched)
    assert [r.step for r in watching.records] == [2, 4]
    assert watching.records[-1].state_bytes == optimizers[0].memory().state_bytes


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("cls", [adapter.SGD, torch.optim.SGD], ids=["ours", "torch's"])
def test_the_numbers_are_those_of_the_step(cls: Any, dtype: torch.dtype) -> None:
    net = model(dtype)
    groups = [{"params": net[0].parameters(), "name": "first"}, {"params": net[2].parameters(), "lr": 0.25}]
    optimizer = cls(groups, lr=0.5)
    before = [p.detach().clone() for p in net.parameters()]
    with monitor(optimizer, every=1) as watching:
        train(net, optimizer, 1)
    (record,) = watching.records
    assert [(g.name, g.learning_rate) for g in record.groups] == [("first", 0.5), ("group 1", 0.25)]
    after, grads_of = [p.detach() for p in net.parameters()], [p.grad for p in net.parameters()]
    for group, members in zip(record.groups, (slice(0, 2), slice(2, 4)), strict=True):
        grads = torch.cat([g.flatten().double() for g in grads_of[members]])
        moved = torch.cat([(p - q).flatten().double() for p, q in zip(after[members], before[members], strict=True)])
        assert group.gradient_norm == pytest.approx(float(grads.norm()), rel=1e-6)
        assert group.update_norm == pytest.approx(float(moved.norm()), rel=1e-6)
    assert (record.state_bytes is None) is (cls is torch.optim.SGD)


def test_other_steps_look_at_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    net = model()
    optimizer = adapter.AdamW(net.parameters())
    monitor(optimizer, every=3)
    looks: list[int] = []
    monkeypatch.setattr(watching_torch, "copies", lambda groups: looks.append(1))
    train(net, optimizer, 2)
    assert not looks


def test_removing_takes_the_hooks_off_and_nothing_is_kept_alive() -> None:
    net = model()
    optimizer = adapter.AdamW(net.parameters())
    first, second = monitor(optimizer, every=1), monitor(optimizer, every=1)
    first.remove()
    second.remove()
    assert not optimizer._optimizer_step_pre_hooks
    assert not optimizer._optimizer_step_post_hooks
    third = monitor(optimizer, every=1)
    train(net, optimizer, 1)
    known = [weakref.ref(x) for x in (optimizer, *net.parameters())]
    del net, optimizer
    gc.collect()
    assert [x() for x in known] == [None] * 5
    third.remove()
    assert len(third.records) == 1


def test_a_copy_is_not_watched() -> None:
    net = model()
    optimizer = adapter.AdamW(net.parameters())
    watching = monitor(optimizer, every=1)
    copied = copy.deepcopy(optimizer)
    copied.step()
    assert watching.steps == 0


def test_a_step_without_gradients_and_one_that_is_skipped() -> None:
    net = model()
    optimizer = adapter.AdamW(net.parameters(), skip_nonfinite=True)
    watching = monitor(optimizer, every=1)
    optimizer.step()
    train(net, optimizer, 1)
    net[0].weight.grad[0, 0] = float("nan")
    net[2].bias.grad[1] = float("inf")
    optimizer.step()
    none, good, bad = watching.records
    assert (none.gradient_norm, none.update_norm, none.nonfinite_gradients) == (None, 0.0, 0)
    assert (good.nonfinite_gradients, good.skipped_steps) == (0, 0)
    assert (bad.nonfinite_gradients, bad.skipped_steps, bad.update_norm) == (2, 1, 0.0)


def test_gradients_that_are_scaled_are_told_as_they_are_without_the_scale() -> None:
    norms = []
    for scale in (1.0, 1024.0):
        net = model()
        optimizer = adapter.AdamW(net.parameters(), fused=True)
        scaler = torch.amp.GradScaler("cpu", init_scale=scale)
        with monitor(optimizer, every=1) as watching:
            scaler.scale(net(torch.ones(2, 6)).square().sum()).backward()
            scaler.step(optimizer)
        norms.append(watching.records[0].gradient_norm)
    assert norms[0] == pytest.approx(norms[1], rel=1e-6)


def test_parameters_stepped_in_backward_have_no_gradient_left_to_see() -> None:
    net = model()
    optimizer = adapter.AdamW(net.parameters())
    with monitor(optimizer, every=1) as watching, optimizer.release_gradients():
        train(net, optimizer, 1)
    assert (watching.records[0].gradient_norm, watching.records[0].update_norm) == (None, 0.0)


@pytest.mark.parametrize("name", ["SAM", "LBFGS"])
def test_optimizers_that_evaluate_the_model_are_watched(name: str) -> None:
    nets = model(), model()
    for net in nets:
        optimizer = getattr(adapter, name)(net.parameters())
        watching = monitor(optimizer, every=1)
        if net is nets[0]:
            watching.remove()

        def closure(net: torch.nn.Module = net, optimizer: torch.optim.Optimizer = optimizer) -> torch.Tensor:
            optimizer.zero_grad()
            loss = net(torch.ones(2, 6)).square().sum()
            loss.backward()
            return loss

        optimizer.step(closure)
    assert same(*nets)
    assert watching.records[0].update_norm > 0
    assert watching.records[0].gradient_norm > 0
