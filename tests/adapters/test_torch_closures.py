"""What every optimizer that evaluates the model inside a step must do."""

import copy
import io
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.utils._pytree import tree_flatten_with_path

from scirs2_adapters.core import with_closure
from scirs2_adapters.torch import LBFGS, SAM
from tests.adapters.torch_closures import DIGITS, IMAGES, logistic, off

pytestmark = pytest.mark.usefixtures("one_thread")

MAKERS: dict[str, Callable[[Any], Any]] = {
    "LBFGS": lambda params: LBFGS(params, max_iter=3, history_size=4),
    "wolfe": lambda params: LBFGS(params, max_iter=3, line_search_fn="strong_wolfe"),
    "SAM": lambda params: SAM(params, base="adamw", lr=0.01),
}
each_maker = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)


def test_the_adapter_lists_them() -> None:
    import scirs2_adapters.torch as adapter

    assert {"LBFGS", "SAM"} <= set(adapter.__all__) & set(dir(adapter))
    assert len(with_closure()) == 2


@each_maker
def test_the_loss_of_the_first_evaluation_is_returned(make: Any) -> None:
    _, optimizer, closure = logistic(make)
    seen: list[torch.Tensor] = []

    def remembering() -> torch.Tensor:
        assert torch.is_grad_enabled()
        seen.append(closure())
        return seen[-1]

    with torch.no_grad():
        assert optimizer.step(remembering) is seen[0]
    assert len(seen) > 1


@each_maker
@pytest.mark.parametrize("wrong", [(), (None,), (3,)], ids=str)
def test_a_step_without_a_closure_is_refused_with_the_way_out(make: Any, wrong: tuple[Any, ...]) -> None:
    _, optimizer, _ = logistic(make)
    words = r"step\(closure=...\)` must be a function .* Write `optimizer.step\(closure\)`"
    with pytest.raises(TypeError, match=words):
        optimizer.step(*wrong)
    assert not optimizer.state


@each_maker
@pytest.mark.parametrize("subclass", [False, True])
def test_hooks_run_once_and_around_all_evaluations(make: Any, subclass: bool) -> None:
    _, optimizer, closure = logistic(make)
    if subclass:
        kind = type(optimizer)
        optimizer.__class__ = type("Subclass", (kind,), {"step": lambda self, closure: kind.step(self, closure)})
        optimizer._patch_step_function()
    calls: list[str] = []
    optimizer.register_step_pre_hook(lambda *_: calls.append("before"))
    optimizer.register_step_post_hook(lambda *_: calls.append("after"))
    optimizer.step(lambda: calls.append("model") or closure())
    assert (calls[0], calls[-1]) == ("before", "after")
    assert set(calls[1:-1]) == {"model"}


@each_maker
def test_the_profiler_sees_one_step(make: Any) -> None:
    _, optimizer, closure = logistic(make)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        optimizer.step(closure)
    counts = {row.key: row.count for row in profile.key_averages()}
    assert counts[f"Optimizer.step#{type(optimizer).__name__}.step"] == 1


@each_maker
@pytest.mark.parametrize("through", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))], ids=["copy", "pickle"])
def test_a_copy_continues_to_the_very_bits(make: Any, through: Any) -> None:
    model, optimizer, closure = logistic(make)
    for _ in range(2):
        optimizer.step(closure)
    twin, other = through((model, optimizer))
    x, y = torch.tensor(IMAGES[:200] / 16), torch.tensor(DIGITS[:200])

    def again() -> torch.Tensor:
        other.zero_grad()
        loss = torch.nn.functional.cross_entropy(twin(x), y) + twin.weight.square().sum() / 1e3
        loss.backward()
        return loss

    for _ in range(2):
        optimizer.step(closure)
        other.step(again)
    assert off(model, twin) == 0


@each_maker
def test_a_state_dict_continues_to_the_very_bits(make: Any) -> None:
    model, optimizer, closure = logistic(make)
    for _ in range(3):
        optimizer.step(closure)
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    twin, other, again = logistic(make)
    twin.load_state_dict(model.state_dict())
    other.load_state_dict(torch.load(file, weights_only=True))
    for _ in range(3):
        optimizer.step(closure)
        other.step(again)
    assert off(model, twin) == 0


def bits(optimizer: Any) -> list[tuple[Any, ...]]:
    """Everything in the state dict by its place: plain values as they are, tensors by dtype, shape and bytes."""
    leaves, _ = tree_flatten_with_path(optimizer.state_dict())
    return [
        (path, x.dtype, x.shape, x.numpy().tobytes()) if isinstance(x, torch.Tensor) else (path, type(x), x)
        for path, x in leaves
    ]


@each_maker
@pytest.mark.parametrize("error", [KeyboardInterrupt, StopIteration])
def test_a_closure_that_raises_leaves_everything_as_it_was(make: Any, error: type[BaseException]) -> None:
    model, optimizer, closure = logistic(make)
    optimizer.step(closure)
    before, state = copy.deepcopy(model.state_dict()), bits(optimizer)

    def broken() -> torch.Tensor:
        if any((x != before[k]).any() for k, x in model.state_dict().items()):
            raise error
        return closure()

    with pytest.raises(RuntimeError if error is StopIteration else error):
        optimizer.step(broken)
    assert all(torch.equal(x, before[k]) for k, x in model.state_dict().items())
    assert bits(optimizer) == state


@each_maker
def test_a_scheduler_drives_it(make: Any) -> None:
    _, optimizer, closure = logistic(make)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
    first = optimizer.param_groups[0]["lr"]
    for _ in range(3):
        optimizer.step(closure)
        scheduler.step()
    assert optimizer.param_groups[0]["lr"] == first / 8
