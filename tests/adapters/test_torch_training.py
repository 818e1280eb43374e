"""What training loops do around the step: averaging, accumulation, clipping, freezing, one optimizer per parameter.

The same loop with one change that must not matter, or with torch's class, is the measure.
"""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.optim import swa_utils

from scirs2_adapters import get
from tests.conformance.options import still_steps

from .torch_support import CLOSE, PEERED, distance, each_optimizer, ours, params_of, same, theirs

pytestmark = pytest.mark.usefixtures("one_thread")

Optimizer = torch.optim.Optimizer
Model = torch.nn.Sequential
STEPS = 6


def model(dtype: torch.dtype = torch.float64) -> Model:
    """Small, and the same at each call; a normalization layer has statistics to keep. Muon of torch's has no biases."""
    torch.manual_seed(3)
    return torch.nn.Sequential(
        torch.nn.Linear(4, 6, bias=False),
        torch.nn.BatchNorm1d(6, affine=False),
        torch.nn.Tanh(),
        torch.nn.Linear(6, 3, bias=False),
    ).to(dtype)


def data(dtype: torch.dtype = torch.float64) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(4)
    return [torch.randn(8, 4, generator=generator, dtype=torch.float64).to(dtype) for _ in range(STEPS)]


def loss(net: Model, x: torch.Tensor) -> torch.Tensor:
    return (net(x) - x[:, :3]).square().mean()


def trained(make: Callable[[Any], Optimizer], turn: Callable[[Optimizer, Model, torch.Tensor, int], Any]) -> Optimizer:
    """The optimizer after some turns of a loop; `turn` does what the loop's body does."""
    net = model()
    optimizer = make(net.parameters())
    for i, x in enumerate(data()):
        turn(optimizer, net, x, i)
    return optimizer


def usual(optimizer: Optimizer, net: Model, x: torch.Tensor, i: int) -> None:
    del i
    optimizer.zero_grad()
    loss(net, x).backward()
    optimizer.step()


def clipped(optimizer: Optimizer, net: Model, x: torch.Tensor, i: int) -> None:
    del i
    optimizer.zero_grad()
    loss(net, x).backward()
    torch.nn.utils.clip_grad_norm_(net.parameters(), 0.1)
    torch.nn.utils.clip_grad_value_(net.parameters(), 0.01)
    optimizer.step()


def accumulated(optimizer: Optimizer, net: Model, x: torch.Tensor, i: int) -> None:
    (loss(net, x) / 2).backward()
    if i % 2:
        optimizer.step()
        optimizer.zero_grad()


def zeroed(optimizer: Optimizer, net: Model, x: torch.Tensor, i: int) -> None:
    optimizer.zero_grad(set_to_none=i % 2 == 0)
    loss(net, x).backward()
    optimizer.step()


def frozen(optimizer: Optimizer, net: Model, x: torch.Tensor, i: int) -> None:
    net[0].weight.requires_grad_(i not in (2, 3))
    usual(optimizer, net, x, i)


def by_closure(optimizer: Optimizer, net: Model, x: torch.Tensor, i: int) -> None:
    del i

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        total = loss(net, x)
        total.backward()
        return total

    optimizer.step(closure)


LOOPS = {f.__name__: f for f in (usual, clipped, accumulated, zeroed, frozen, by_closure)}


@pytest.mark.usefixtures("exact_muon", "in_float64")
@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("name", PEERED)
def test_a_loop_trains_as_with_torchs_class(name: str, loop: str) -> None:
    mine, torchs = (trained(f(name), LOOPS[loop]) for f in (ours, theirs))
    assert distance(mine, torchs) < 100 * CLOSE[torch.float64]  # gradients follow parameters, and errors with them


@pytest.mark.parametrize("loop", LOOPS)
@each_optimizer
def test_a_loop_trains_alike_on_both_paths(name: str, loop: str) -> None:
    host, traced = (trained(lambda p, k=k: ours(name)(p, kernel=k), LOOPS[loop]) for k in ("host", "traced"))
    assert distance(host, traced) < 1e-8


@each_optimizer
def test_a_parameter_that_is_frozen_for_a_while_rests_with_its_memory(name: str) -> None:
    seen = []

    def turn(optimizer: Optimizer, net: Model, x: torch.Tensor, i: int) -> None:
        frozen(optimizer, net, x, i)
        seen.append([net[0].weight.detach().clone(), copy.deepcopy(optimizer.state.get(net[0].weight, {}))])

    trained(ours(name), turn)
    assert torch.equal(seen[1][0], seen[3][0])
    assert str(seen[1][1]) == str(seen[3][1])
    # Schedule-Free RAdam stands still for four gradients, of which this is the third; its memory does not.
    assert not torch.equal(seen[3][0], seen[4][0]) or (still_steps(name) > 2 and str(seen[3][1]) != str(seen[4][1]))


@each_optimizer
def test_a_group_that_joins_later_begins_at_its_first_step(name: str) -> None:
    if get(name)().model_slots() or get(name)().numbered:
        return  # its numbers of the whole model know of the steps before; noise follows the place of the parameter
    grads: list[torch.Tensor] = []

    def joined(optimizer: Optimizer, net: Model, x: torch.Tensor, i: int) -> None:
        if i == 3:
            optimizer.add_param_group({"params": [net[3].weight], "lr": 0.02})
        usual(optimizer, net, x, i)
        if i >= 3:
            grads.append(net[3].weight.grad.clone())

    late = trained(lambda p: ours(name)([next(p)]), joined)
    alone = ours(name)([p := torch.nn.Parameter(model()[3].weight.detach().clone())], lr=0.02)
    for p.grad in grads:
        alone.step()
    late.state.pop(params_of(late)[0], None)
    late.param_groups[0]["params"].clear()
    assert same(late, alone)


@each_optimizer
def test_averages_over_the_run_see_every_step(name: str) -> None:
    """SWA and EMA read the parameters after the steps; then the statistics are taken anew."""
    kept: dict[str, list[torch.Tensor]] = {"swa": [], "ema": []}
    averaged: dict[str, swa_utils.AveragedModel] = {}

    def turn(optimizer: Optimizer, net: Model, x: torch.Tensor, i: int) -> None:
        if not i:
            averaged["swa"] = swa_utils.AveragedModel(net, use_buffers=True)
            averaged["ema"] = swa_utils.AveragedModel(net, multi_avg_fn=swa_utils.get_ema_multi_avg_fn(0.5))
        usual(optimizer, net, x, i)
        for average in averaged.values():
            average.update_parameters(net)
        w = net[0].weight.detach().clone()
        kept["swa"].append(w)
        kept["ema"].append(w if not i else 0.5 * kept["ema"][-1] + 0.5 * w)

    trained(ours(name), turn)
    torch.testing.assert_close(averaged["swa"].module[0].weight.detach(), torch.stack(kept["swa"]).mean(0))
    torch.testing.assert_close(averaged["ema"].module[0].weight.detach(), kept["ema"][-1])
    swa_utils.update_bn([(x,) for x in data()], averaged["swa"])
    assert int(averaged["swa"].module[1].num_batches_tracked) == STEPS
    assert torch.isfinite(averaged["swa"](data()[0])).all()


def in_backward(optimizers: dict[torch.Tensor, Optimizer]) -> None:
    """Each parameter is stepped as soon as its gradient is there, which is then freed."""

    def stepped(p: torch.Tensor) -> None:
        optimizers[p].step()
        optimizers[p].zero_grad()

    for p in optimizers:
        p.register_post_accumulate_grad_hook(stepped)


@each_optimizer
def test_one_optimizer_for_each_parameter_in_backward_is_as_one_for_all(name: str) -> None:
    if get(name)().model_slots() or get(name)().numbered:
        return  # sums over the model are sums over the parameters of one optimizer; noise follows places in it
    whole, net = trained(ours(name), usual), model()
    optimizers = {p: ours(name)([p]) for p in net.parameters()}
    in_backward(optimizers)
    for x in data():
        loss(net, x).backward()
    assert all(p.grad is None for p in optimizers)
    assert all(map(torch.equal, params_of(whole), optimizers))


def test_two_thousand_optimizers_are_made_quickly_and_step_in_backward_threads() -> None:
    """Four threads of 500 each; what a constructor costs is held against torch's own."""
    start = [torch.randn(3, generator=torch.Generator().manual_seed(i)) for i in range(500)]

    def timed(cls: Callable[..., Optimizer]) -> float:
        began = time.process_time()
        for x in start:
            cls([x.clone().requires_grad_()])
        return time.process_time() - began

    ratio = min(timed(ours("AdamW")) / timed(theirs("AdamW")) for _ in range(5))
    assert ratio < 40
    one = ours("AdamW")([x.clone().requires_grad_() for x in start])
    for _ in range(2):
        sum((p * p).sum() for p in params_of(one)).backward()
        one.step()
        one.zero_grad()
    many = [{p: ours("AdamW")([p]) for p in [x.clone().requires_grad_() for x in start]} for _ in range(4)]

    def train(optimizers: dict[torch.Tensor, Optimizer]) -> None:
        for _ in range(2):
            sum((p * p).sum() for p in optimizers).backward()

    threads = [threading.Thread(target=train, args=(optimizers,)) for optimizers in many]
    for optimizers, thread in zip(many, threads, strict=True):
        in_backward(optimizers)
        thread.start()
    for thread in threads:
        thread.join(60)
    assert all(torch.equal(p, q) for optimizers in many for p, q in zip(params_of(one), optimizers, strict=True))
