"""Gradients released in backward: the numbers of usual steps, and no gradient that outlives its step."""

import copy
import gc
import weakref
from typing import Any

import pytest
import torch
from torch import nn

from scirs2_adapters.adapters.torch.optimizer import released
from tests.adapters.torch_released import WHOLE, loss, pair, released_steps, usual
from tests.adapters.torch_support import EVERY, each_variant, ids, ours, plain, same


@pytest.fixture(autouse=True, params=[1, 20, 1 << 20], ids=lambda n: f"together={n}")
def together(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Each parameter by itself, some at a time, and all at the end of backward."""
    monkeypatch.setattr(released, "TOGETHER", request.param)
    return int(request.param)


@each_variant
def test_the_numbers_are_those_of_usual_steps_or_the_rule_is_refused(name: str, options: dict[str, Any]) -> None:
    a, mine, b, other = pair(name, **options)
    if name in WHOLE:
        with pytest.raises(RuntimeError, match=rf"`{name}.release_gradients`: {name} sums over the gradients of the"):
            a.release_gradients()
        assert not any(p._post_accumulate_grad_hooks for p in mine)
        return
    released_steps(a, mine)
    usual(b, other)
    assert same(a, b)
    assert any(not torch.equal(p, q) for p, q in zip(mine, plain(), strict=True))


def test_rules_that_sum_over_the_model_are_known() -> None:
    assert WHOLE
    assert len(WHOLE) < len(EVERY)


@pytest.mark.parametrize(
    ("name", "kernel"),
    [
        ("AdamW", "host"),
        ("AdamW", "traced"),
        ("LAMB", "host"),
        ("LAMB", "traced"),
        ("Adafactor", "host"),
        ("Muon", "auto"),
    ],
)
@pytest.mark.parametrize("options", [{}, {"state_dtype": "bfloat16"}], ids=ids)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
def test_dtypes_and_paths(name: str, dtype: torch.dtype, options: dict[str, Any], kernel: str) -> None:
    a, mine, b, other = pair(name, dtype, kernel=kernel, lr=0.05, **options)
    released_steps(a, mine)
    usual(b, other)
    assert same(a, b)


@pytest.mark.parametrize("kernel", ["host", "traced"])
@pytest.mark.parametrize("rounding", ["stochastic", "compensated"])
@pytest.mark.parametrize("name", ["AdamW", "SGD", "Lion"])
def test_roundings(name: str, rounding: str, kernel: str) -> None:
    """Stochastic ones are decided by a parameter's place among all, whatever parts are stepped together."""
    a, mine, b, other = pair(name, torch.bfloat16, kernel=kernel, lr=0.05, rounding=rounding)
    released_steps(a, mine)
    usual(b, other)
    assert same(a, b)


def test_a_handle_is_in_force_until_it_is_removed() -> None:
    a, mine, b, other = pair("AdamW", lr=0.01)
    handle = a.release_gradients()
    for _ in range(3):
        loss(mine).backward()
        assert all(p.grad is None for p in mine)
        a.step()
    handle.remove()
    handle.remove()
    usual(a, mine, 2)
    usual(b, other, 5)
    assert same(a, b)
    assert all(p.grad is not None for p in mine)


def test_of_gradients_that_accumulate_only_the_last_pass_steps() -> None:
    a, mine, b, other = pair("AdamW", lr=0.01)
    for _ in range(3):
        loss(mine).backward()
        with a.release_gradients():
            loss(mine).backward()
        a.step()
        b.zero_grad()
        for _ in range(2):
            loss(other).backward()
        b.step()
    assert same(a, b)


def test_schedulers_step_hooks_and_counts_see_usual_steps() -> None:
    a, mine, b, other = pair("AdamW", lr=0.1)
    seen: list[str] = []
    a.register_step_pre_hook(lambda *_: seen.append("before"))
    a.register_step_post_hook(lambda *_: seen.append("after"))
    for optimizer, params, way in ((a, mine, released_steps), (b, other, usual)):
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=6)
        for _ in range(5):
            way(optimizer, params, 1)
            schedule.step()
    assert same(a, b)
    assert seen == ["before", "after"] * 5
    assert all(memory["step"] == 5 for memory in a.state.values())


def test_a_scheduler_does_not_miss_the_call_of_step() -> None:
    a, mine, *_ = pair("AdamW", lr=0.1)
    schedule = torch.optim.lr_scheduler.ExponentialLR(a, 0.5)
    with a.release_gradients():
        loss(mine).backward()
    schedule.step()  # would warn, and warnings are errors


def test_groups_names_and_a_group_that_is_added_later() -> None:
    made = []
    for way in (released_steps, usual):
        params = plain()
        named = [(f"layer.{i}", p) for i, p in enumerate(params)]
        optimizer = ours("AdamW")(
            [{"params": named[::2]}, {"params": named[1:2], "lr": 0.1, "betas": (0.5, 0.6)}], lr=0.01
        )
        handle = optimizer.release_gradients() if way is released_steps else None
        loss(params[:3]).backward()
        optimizer.step()
        optimizer.zero_grad()
        optimizer.add_param_group({"params": named[3:4], "weight_decay": 0.5})
        loss(params).backward()
        assert handle is None or params[3].grad is None
        optimizer.step()
        if handle is not None:
            handle.remove()
        way(optimizer, params, 2)
        made.append(optimizer)
    assert same(*made)
    assert made[0].state_dict()["param_groups"] == made[1].state_dict()["param_groups"]


def test_usual_and_released_steps_and_loads_may_take_turns() -> None:
    a, mine, b, other = pair("AdamW", lr=0.05)
    usual(b, other, 6)
    usual(a, mine, 1)
    released_steps(a, mine, 2)
    a.load_state_dict(copy.deepcopy(a.state_dict()))
    released_steps(a, mine, 2)
    usual(a, mine, 1)
    assert same(a, b)


def test_a_parameter_in_no_group_any_more_is_not_stepped_and_not_kept() -> None:
    a, mine, *_ = pair("SGD", lr=0.1)
    handle = a.release_gradients()
    loss(mine).backward()
    a.param_groups[0]["params"].remove(mine[0])
    before = mine[0].detach().clone()
    loss(mine).backward()
    assert torch.equal(mine[0], before)
    assert mine[0].grad is not None
    assert all(p.grad is None for p in mine[1:])
    gone = weakref.ref(mine.pop(0))
    loss(mine).backward()
    a.step()
    gc.collect()
    assert gone() is None
    handle.remove()


def test_a_parameter_that_is_unfrozen_is_stepped() -> None:
    a, mine, b, other = pair("SGD", lr=0.1)
    handle = a.release_gradients()
    for params, optimizer in ((mine, a), (other, b)):
        for flag in (False, True, True):
            params[0].requires_grad_(flag)
            optimizer.zero_grad()
            loss(params).backward()
            optimizer.step()
    assert same(a, b)
    loss(mine).backward()
    assert mine[0].grad is None
    handle.remove()


def test_gradients_die_inside_backward(together: int) -> None:
    model = nn.Sequential(*(nn.Linear(5, 5) for _ in range(4)))
    optimizer = ours("AdamW")(model.parameters())
    alive: list[weakref.ref[torch.Tensor]] = []
    most = 0

    def look(p: torch.Tensor) -> None:
        nonlocal most
        alive.append(weakref.ref(p.grad))  # type: ignore[arg-type]
        most = max(most, sum(ref() is not None for ref in alive))

    for p in model.parameters():
        p.register_post_accumulate_grad_hook(look)
    with optimizer.release_gradients():
        model(torch.ones(2, 5)).sum().backward()
    assert len(alive) == 8
    assert not any(ref() is not None for ref in alive)
    # What has been collected is freed when there is enough of it: a matrix is, a vector and a matrix are.
    assert most == {1: 1, 20: 2, 1 << 20: 8}[together]


def test_neither_parameters_nor_a_handle_keep_the_optimizer() -> None:
    a, mine, *_ = pair("AdamW")
    handle = a.release_gradients()
    loss(mine).backward()
    gone = weakref.ref(a)
    del a
    gc.collect()
    assert gone() is None
    before = [p.detach().clone() for p in mine]
    loss(mine).backward()
    assert all(map(torch.equal, before, mine))
    assert all(p.grad is not None for p in mine)
    handle.remove()


@pytest.mark.parametrize("name", ["SparseAdam", "SGD"])
def test_sparse_gradients(name: str) -> None:
    made = []
    for way in (released_steps, usual):
        torch.manual_seed(0)
        table = nn.Embedding(9, 3, sparse=True)
        optimizer = ours(name)(table.parameters(), lr=0.1)
        way(optimizer, [table.weight], 3, lambda _, table=table: table(torch.tensor([1, 2, 2])).square().sum())
        made.append(optimizer)
    assert same(*made)
