"""Groups and schedulers: whatever changes between two steps is seen by the next."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
from torch.optim import lr_scheduler

from scirs2_adapters import get
from scirs2_adapters.torch import Mechanize

from .torch_support import (
    distance,
    each_optimizer,
    each_path,
    each_peer,
    ours,
    params_of,
    plain,
    theirs,
    twins,
    walk,
)


@each_path
@each_peer
def test_groups_are_read_at_every_step(name: str, options: dict[str, Any], kernel: str) -> None:
    def grouped() -> list[dict[str, Any]]:
        first, second, *rest = plain(shapes=((5, 3), (7,), (2, 3, 4)))
        decay = {"weight_decay": 0.2} if "weight_decay" in inspect.signature(theirs(name)).parameters else {}
        return [{"params": [first], "lr": 0.3}, {"params": [second], **decay}, {"params": rest}]

    mine, torchs = twins(name, options, grouped, kernel=kernel)
    for i in range(4):
        for optimizer in (mine, torchs):
            for k, group in enumerate(optimizer.param_groups):
                group["lr"] = 0.05 * (i + k + 1)
                if "weight_decay" in torchs.defaults:
                    group["weight_decay"] = 0.01 * k * i
                if "betas" in group:
                    group["betas"] = (0.9 - 0.1 * i, 0.99)
                if group.get("momentum"):
                    group["momentum"] = 0.9 - 0.1 * i
                group["maximize"] = i == 2
        walk(mine, torchs, steps=2, seed=i)
    assert distance(mine, torchs) < 1e-5


@each_path
def test_a_parameter_turned_in_place_is_walked_in_its_new_order(kernel: str) -> None:
    mine, torchs = twins("SGD", {"lr": 0.1}, lambda: plain(shapes=((4, 4),)), kernel=kernel)
    walk(mine, torchs, steps=2)
    for optimizer in (mine, torchs):
        p = params_of(optimizer)[0]
        p.data, p.grad = p.data.t(), None  # another view of the same memory
    walk(mine, torchs, steps=2, seed=1)
    assert distance(mine, torchs) < 1e-5


@each_path
@each_peer
def test_parameters_without_gradient_are_skipped_whole(name: str, options: dict[str, Any], kernel: str) -> None:
    mine, torchs = twins(name, options, lambda: plain(shapes=((5, 3), (7,), (2, 3, 4))), kernel=kernel)
    mine.step()
    assert not mine.state
    for i, present in enumerate([(1, 1, 0), (0, 1, 1), (1, 1, 1), (0, 0, 0), (1, 0, 1), (0, 1, 1), (1, 1, 1)]):

        def lay(g: torch.Tensor, p: torch.Tensor, present: tuple[int, ...] = present) -> torch.Tensor | None:
            return g if present[min(p.ndim, 3) % 3] else None

        walk(mine, torchs, steps=1, seed=i, lay=lay)
    assert distance(mine, torchs) < 1e-5


def test_added_groups_and_exchanged_parameters_are_stepped() -> None:
    mine, torchs = twins("AdamW", {}, lambda: plain()[:2])
    for optimizer in (mine, torchs):
        optimizer.add_param_group({"params": plain(shapes=((4,), (3,))), "lr": 0.1})
    walk(mine, torchs, steps=2)
    for optimizer in (mine, torchs):
        optimizer.param_groups[0]["params"][0] = plain(shapes=((6,),))[0]
        params_of(optimizer)[1].data = torch.ones(9)
        optimizer.state.pop(params_of(optimizer)[1])
        optimizer.zero_grad()
        optimizer.param_groups[1]["params"].reverse()
    walk(mine, torchs, steps=2, seed=9)
    assert distance(mine, torchs) < 1e-6


def test_a_model_that_changes_its_dtype_goes_on() -> None:
    model = torch.nn.Linear(3, 2)
    optimizer = ours("SGD")(model.parameters(), lr=0.5)
    walk(optimizer, steps=1)
    model.double()
    walk(optimizer, steps=1)
    model.bfloat16()
    before = model.weight.detach().clone()
    walk(optimizer, steps=1, lay=lambda g, p: torch.ones_like(p))
    assert torch.allclose(model.weight, before - 0.5, atol=0.01)


def test_a_tensor_learning_rate_is_read_where_it_is() -> None:
    lr = torch.tensor(0.1)
    mine, torchs = ours("AdamW")(plain(), lr=lr), theirs("AdamW")(plain(), lr=0.1)
    walk(mine, torchs, steps=2)
    lr.fill_(0.01)
    torchs.param_groups[0]["lr"] = 0.01
    walk(mine, torchs, steps=2)
    assert mine.param_groups[0]["lr"] is lr
    assert distance(mine, torchs) < 1e-6


@each_optimizer
def test_every_optimizer_can_be_cycled(name: str) -> None:
    optimizer = ours(name)(plain())
    if {"betas", "momentum"} & optimizer.defaults.keys():
        schedule = lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=5)
        walk(optimizer, steps=1)
        schedule.step()
        walk(optimizer, steps=1)
    else:
        parameters = inspect.signature(getattr(torch.optim, name, lambda: None)).parameters
        assert not {"betas", "momentum"} & parameters.keys()  # torch's has no momentum either, where there is one


def test_names_of_parameters_route_them() -> None:
    wide = plain(shapes=((6, 3), (6, 3), (6,)))
    optimizer = ours("Muon")(list(zip(["hidden.weight", "lm_head.weight", "hidden.bias"], wide, strict=True)))
    walk(optimizer, steps=1)
    assert [list(optimizer.state[p]) for p in wide] == [["momentum_buffer"], *[["step", "exp_avg", "exp_avg_sq"]] * 2]


def test_match_gives_another_frameworks_formula_and_defaults() -> None:
    assert ours("AdamW")(plain(), match="keras").defaults["eps"] == 1e-7
    assert ours("AdamW")(plain(), match="keras", eps=1e-5).defaults["eps"] == 1e-5


def test_a_wrapper_takes_its_bases_arguments_and_schedules() -> None:
    optimizer = ours("Lookahead")(plain(), base="sgd", momentum=0.9, lr=0.1, sync_period=2)
    torchs = theirs("SGD")(plain(), momentum=0.9, lr=0.1)
    walk(optimizer, torchs, steps=1)
    for p, q in zip(params_of(optimizer), params_of(torchs), strict=True):
        assert torch.allclose(p, q)
    optimizer.param_groups[0]["lr"] = 0.0
    before = [p.detach().clone() for p in params_of(optimizer)]
    walk(optimizer, steps=2)
    start = plain()
    for p, q, s in zip(params_of(optimizer), before, start, strict=True):
        assert torch.allclose(p, (q + s) / 2, atol=1e-6)


@each_path
def test_a_wrapped_rule_keeps_the_formula_that_it_matches(kernel: str) -> None:
    base = get("adam")(match="keras")
    by_rule = ours("Lookahead")(plain(), base=base, kernel=kernel)
    by_name = ours("Lookahead")(plain(), base="adam", match="keras", kernel=kernel)
    assert by_rule.param_groups[0]["match"] == "keras"
    for optimizer in (by_rule, by_name):
        walk(optimizer, steps=6)
    assert all(map(torch.equal, params_of(by_rule), params_of(by_name)))


@pytest.mark.parametrize("names", [("hidden.weight", "lm_head.weight"), ("lm_head.weight", "hidden.weight"), None])
def test_muon_goes_on_with_the_memory_it_loads_under_other_names_or_none(names: tuple[str, str] | None) -> None:
    def made(labels: tuple[str, str] | None) -> Any:
        params = plain(shapes=((4, 3), (3, 4)))
        return ours("Muon")(params if labels is None else list(zip(labels, params, strict=True)), lr=0.1)

    first = made(("hidden.weight", "lm_head.weight"))
    walk(first, steps=2)
    saved = first.state_dict()
    saved["param_groups"][0].pop("param_names")
    later = made(names)
    later.load_state_dict(saved)
    walk(later, steps=1)
    held = [set(later.state[p]) for p in params_of(later)]
    assert held == [{"momentum_buffer"}, {"step", "exp_avg", "exp_avg_sq"}]
    assert ["muon" in line.split(": ")[1] for line in later.explain().splitlines()] == [True, False]


def test_stacks_are_said_by_group(caplog: pytest.LogCaptureFixture) -> None:
    """Each matrix of a stack is stepped as it would be alone."""
    stack, alone = plain(shapes=((2, 4, 3),)), plain(shapes=((4, 3), (4, 3)))
    alone[0].data.copy_(stack[0].data[0])
    alone[1].data.copy_(stack[0].data[1])
    together = ours("Muon")([{"params": [("moe.w", stack[0])], "batch_axes": 1}], lr=0.1)
    apart = ours("Muon")([("a", alone[0]), ("b", alone[1])], lr=0.1)
    stack[0].grad = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0))
    for i, p in enumerate(alone):
        p.grad = stack[0].grad[i].clone()
    together.step()
    apart.step()
    assert torch.allclose(stack[0], torch.stack([p.detach() for p in alone]), atol=1e-6)
    assert not caplog.records


@pytest.mark.parametrize(("field", "value"), [("num_betas", 3), ("num_betas", 8), ("s_init", 0.1)])
def test_a_scale_of_all_parameters_is_learned_alike_in_all_groups(field: str, value: float) -> None:
    one, other = (torch.nn.Parameter(torch.ones(3)) for _ in range(2))
    for groups in ([{"params": [one], field: value}, {"params": [other]}], [{"params": [one]}]):
        with pytest.raises(ValueError, match=rf"`Mechanize\({field}=...\)` must be .* as in the first group"):
            Mechanize(groups, base="sgd").add_param_group({"params": [other], field: value})
    optimizer = Mechanize([{"params": [one]}, {"params": [other], "lr": 0.5}], base="sgd")
    optimizer.param_groups[1][field] = value
    one.grad = torch.ones(3)
    with pytest.raises(ValueError, match="as in the first group"):
        optimizer.step()
    optimizer.param_groups[0][field] = value
    optimizer.step()
    assert optimizer.param_groups[1].keys() >= {"mechanic_s_1", f"mechanic_s_{optimizer.param_groups[0]['num_betas']}"}
