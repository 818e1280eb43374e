"""`eval()` and `train()` of optimizers that train other parameters than those to evaluate."""

from __future__ import annotations

import copy
import io

import numpy as np
import pytest
import torch

import scirs2_adapters as s2
from scirs2_adapters import torch as adapter
from scirs2_adapters.core import HostOptimizer, evaluation_params, get
from tests.conformance.options import still_steps

AVERAGING = [name for name in s2.names() if get(name).evaluation is not None]
each_name = pytest.mark.parametrize("name", AVERAGING)
#: The arguments of the package schedulefree.
THEIRS = ("lr", "betas", "eps", "r", "warmup_steps", "weight_lr_power", "weight_decay", "foreach", "params")
DTYPES = (torch.float64, torch.float32, torch.bfloat16)


def made(
    name: str, dtype: torch.dtype = torch.float32, **keywords: object
) -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Linear(3, 2)).to(dtype)
    groups = [{"params": model[0].parameters()}, {"params": model[1].parameters(), "lr": 0.01}]
    return model, getattr(adapter, get(name).__name__)(groups, lr=0.05, **keywords)


def walk(model: torch.nn.Module, optimizer: torch.optim.Optimizer, steps: int = 5, first: int = 0) -> None:
    for i in range(first, first + steps):
        torch.manual_seed(i)
        optimizer.zero_grad()
        model(torch.randn(6, 4, dtype=next(model.parameters()).dtype)).square().sum().backward()
        optimizer.step()


def values(model: torch.nn.Module) -> list[torch.Tensor]:
    return [p.detach().clone() for p in model.parameters()]


def equal(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return all(map(torch.equal, one, other))


def test_there_is_something_to_test() -> None:
    assert "schedulefreeadamw" in AVERAGING


@each_name
def test_the_model_has_the_average_that_the_core_has(name: str) -> None:
    params = [np.ones((3, 2)), np.zeros(4)]
    host = HostOptimizer(get(name)(learning_rate=0.05), params)
    tensors = [torch.nn.Parameter(torch.tensor(p)) for p in params]
    optimizer = getattr(adapter, get(name).__name__)(tensors, lr=0.05)
    for i in range(6 + 5 * still_steps(name)):
        grads = [np.cos(i + np.arange(p.size, dtype=float)).reshape(p.shape) for p in params]
        host.step(grads)
        for p, g in zip(tensors, grads, strict=True):
            p.grad = torch.tensor(g)
        optimizer.step()
    optimizer.eval()
    for p, x, y in zip(tensors, evaluation_params(host).values(), params, strict=True):
        np.testing.assert_allclose(p.detach().numpy(), x, atol=1e-14)
        assert np.abs(x - y).max() > 1e-4


@each_name
@pytest.mark.parametrize("dtype", DTYPES)
def test_how_often_one_evaluates_makes_no_difference_to_training(name: str, dtype: torch.dtype) -> None:
    (watched, optimizer), (alone, other) = made(name, dtype), made(name, dtype)
    for i in range(6):
        walk(watched, optimizer, 1, i)
        walk(alone, other, 1, i)
        trained = values(watched)
        optimizer.eval()
        shown = values(watched)
        optimizer.eval()
        assert equal(values(watched), shown), "a second eval() changes nothing"
        optimizer.train()
        optimizer.train()
        assert equal(values(watched), trained)
    assert not equal(shown, trained)
    assert equal(values(watched), values(alone))
    assert str(optimizer.state_dict()) == str(other.state_dict())


@each_name
def test_a_step_in_eval_mode_is_refused_and_changes_nothing(name: str) -> None:
    model, optimizer = made(name)
    walk(model, optimizer)
    optimizer.eval()
    before, state = values(model), str(optimizer.state_dict())
    with pytest.raises(RuntimeError, match=rf"`{get(name).__name__}.step` .* Call `optimizer.train\(\)` first"):
        optimizer.step()
    with optimizer.release_gradients(), pytest.raises(RuntimeError, match=r"Call `optimizer.train\(\)` first"):
        model(torch.ones(2, 4)).sum().backward()
    assert equal(values(model), before)
    assert str(optimizer.state_dict()) == state


@each_name
def test_a_dict_saved_in_eval_mode_goes_on_where_training_was(name: str) -> None:
    (model, optimizer), (again, other) = made(name), made(name)
    walk(model, optimizer)
    trained = values(model)
    optimizer.eval()
    file = io.BytesIO()
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    again.load_state_dict(saved["model"])
    other.load_state_dict(saved["optimizer"])
    assert equal(values(again), values(model))
    with pytest.raises(RuntimeError, match="train"):
        other.step()
    for each in (optimizer, other, copy.deepcopy(other)):
        each.train()
    assert equal(values(model), trained)
    assert equal(values(again), trained)
    walk(model, optimizer, first=9)
    walk(again, other, first=9)
    assert equal(values(again), values(model))


@pytest.mark.parametrize("options", [{}, {"warmup_steps": 9, "r": 0.5}], ids=["plain", "warmup"])
def test_a_dict_of_the_package_schedulefree_goes_on(options: dict) -> None:
    """Written out as version 1.4 has it: counts and weights by group, and none in the memory of a parameter."""
    model, optimizer = made("schedulefreeadamw", torch.float64, **options)
    walk(model, optimizer)
    saved, largest = copy.deepcopy(optimizer.state_dict()), [0.05, 0.01]
    for group, lr in zip(saved["param_groups"], largest, strict=True):
        rates = [lr * min(1.0, t / max(1, options.get("warmup_steps", 0))) for t in range(1, 6)]
        total = sum(t ** options.get("r", 0.0) * rate**2 for t, rate in enumerate(rates, 1))
        kept = {k: group[k] for k in THEIRS}
        group.clear()
        group |= kept | {
            "k": 5,
            "train_mode": True,
            "weight_sum": total,
            "lr_max": rates[-1],
            "scheduled_lr": rates[-1],
        }
    saved["state"] = {k: {n: x[n] for n in ("z", "exp_avg_sq")} for k, x in saved["state"].items()}
    again, other = made("schedulefreeadamw", torch.float64)
    again.load_state_dict(model.state_dict())
    saved["param_groups"][0]["train_mode"] = False
    before = str(other.state_dict())
    with pytest.raises(ValueError, match=r"must have been saved after `train\(\)`"):
        other.load_state_dict(saved)
    assert str(other.state_dict()) == before
    saved["param_groups"][0]["train_mode"] = True
    other.load_state_dict(saved)
    for each in ((model, optimizer), (again, other)):
        walk(*each, first=5)
    for p, q in zip(model.parameters(), again.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-7, atol=1e-9)


@each_name
def test_before_the_first_step_there_is_nothing_to_exchange(name: str) -> None:
    model, optimizer = made(name)
    before = values(model)
    optimizer.eval()
    assert equal(values(model), before)
    optimizer.train()
    walk(model, optimizer)
    assert not equal(values(model), before)


@pytest.mark.parametrize("name", [n for n in s2.names() if n not in AVERAGING])
def test_others_have_no_modes(name: str) -> None:
    """The Trainer calls `train` and `eval` of optimizers that have them."""
    cls = getattr(adapter, get(name).__name__)
    assert not hasattr(cls, "train")
    assert not hasattr(cls, "eval")
