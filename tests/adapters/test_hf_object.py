"""What accelerate and torch ask of the optimizer that the Trainer was given, for every rule."""

import copy
import io
from pathlib import Path
from typing import Any

import pytest
import torch

from scirs2_adapters.hf import optim
from tests.adapters.hf_support import NAMES, arguments, gpt2, rows, trainer, weights
from tests.conformance.options import still_steps

pytestmark = pytest.mark.usefixtures("one_thread")
each_name = pytest.mark.parametrize("name", NAMES)
Pair = tuple[torch.optim.Optimizer, torch.nn.Module]


@pytest.fixture
def make(tmp_path: Path) -> Any:
    """Model and optimizer as the Trainer makes them, without training."""

    def made(name: str, **changes: Any) -> Pair:
        model, args = gpt2(), arguments(tmp_path, **{"weight_decay": 0.1, **changes})
        return trainer(model, args, optimizer_cls_and_kwargs=optim(name, args)).create_optimizer(), model

    return made


def backward(model: torch.nn.Module) -> None:
    batch = rows(model, 2)
    model(**{k: torch.stack([row[k] for row in batch]) for k in batch[0]}).loss.backward()


def step(pair: Pair) -> None:
    backward(pair[1])
    pair[0].step()
    pair[0].zero_grad()


@each_name
def test_a_new_object_loads_its_own_empty_state(name: str, make: Any) -> None:
    first, second = make(name), make(name)
    first[0].load_state_dict(first[0].state_dict())
    for pair in (first, second):
        step(pair)
    assert all(torch.equal(a, b) for a, b in zip(first[1].parameters(), second[1].parameters(), strict=True))


@each_name
def test_state_is_made_in_the_first_step(name: str, make: Any) -> None:
    optimizer, _ = make(name)
    assert len(optimizer.state) == 0


@each_name
def test_parameters_may_be_exchanged_before_the_first_step(name: str, make: Any) -> None:
    optimizer, model = make(name)
    new = {id(p): torch.nn.Parameter(p.detach().clone()) for p in model.parameters()}
    old = weights(model)
    for group in optimizer.param_groups:
        group["params"] = [new[id(p)] for p in group["params"]]
    for p in new.values():
        p.grad = torch.ones_like(p)
    for _ in range(1 + still_steps(name)):
        optimizer.step()
    assert set(optimizer.state) <= set(new.values())
    assert all(torch.equal(old[k], p) for k, p in model.named_parameters())
    assert any(not torch.equal(old[k], new[id(p)]) for k, p in model.named_parameters())


@each_name
def test_a_step_of_nothing_keeps_every_bit(name: str, make: Any) -> None:
    optimizer, model = make(name)
    before = weights(model)
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    assert all(torch.equal(before[k], p) for k, p in model.named_parameters())


@each_name
def test_a_step_that_the_scaler_skips_leaves_all_as_it_was(name: str, make: Any) -> None:
    pair = make(name)
    step(pair)
    before, state = weights(pair[1]), copy.deepcopy(pair[0].state_dict())
    scaler = torch.amp.GradScaler("cpu")
    scaler.scale(torch.ones(()))
    for p in pair[1].parameters():
        p.grad = torch.full_like(p, float("inf"))
    scaler.step(pair[0])
    scaler.update()
    assert all(torch.equal(before[k], p) for k, p in pair[1].named_parameters())
    assert all(equal(state["state"][k], v) for k, v in pair[0].state_dict()["state"].items())


def equal(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return a.keys() == b.keys() and all(
        torch.equal(a[k], b[k]) if isinstance(a[k], torch.Tensor) else a[k] == b[k] for k in a
    )


@each_name
def test_a_closure_runs_with_gradients_and_its_value_is_returned(name: str, make: Any) -> None:
    optimizer, model = make(name)

    def closure() -> float:
        assert torch.is_grad_enabled()
        backward(model)
        return 2.5

    with torch.no_grad():
        assert optimizer.step(closure) == 2.5


def copied(pair: Pair) -> Pair:
    return copy.deepcopy(pair)


def pickled(pair: Pair) -> Pair:
    file = io.BytesIO()
    torch.save(pair, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@each_name
@pytest.mark.parametrize("twin", [copied, pickled])
@pytest.mark.parametrize("steps", [0, 1])
def test_a_copy_goes_on_alike(twin: Any, steps: int, name: str, make: Any) -> None:
    first = make(name)
    for _ in range(steps):
        step(first)
    second = twin(first)
    for pair in (first, second):
        step(pair)
    assert first[0] is not second[0]
    assert all(torch.equal(a, b) for a, b in zip(first[1].parameters(), second[1].parameters(), strict=True))


def test_its_memory_is_weighed_before_the_first_step_as_after_it(make: Any) -> None:
    optimizer, model = make("adamw")
    before = optimizer.memory()
    step((optimizer, model))
    assert optimizer.memory().state == before.state
    assert before.parameters == sum(p.nbytes for p in model.parameters())
