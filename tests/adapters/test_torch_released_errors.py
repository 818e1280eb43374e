"""What cannot be stepped in backward is refused, and an error in backward leaves nothing to the next pass."""

import copy
from typing import Any

import pytest
import torch
from torch import nn

from scirs2_adapters.adapters.torch.optimizer import released
from scirs2_adapters.core import get, with_closure
from tests.adapters.torch_released import checkpointed, loss, pair, released_steps, usual
from tests.adapters.torch_support import EVERY, learned, ours, plain, same


@pytest.fixture(autouse=True, params=[1, 20, 1 << 20], ids=lambda n: f"together={n}")
def together(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Each parameter by itself, some at a time, and all at the end of backward."""
    monkeypatch.setattr(released, "TOGETHER", request.param)
    return int(request.param)


def test_a_step_that_fails_says_what_has_been_stepped() -> None:
    table, head = nn.Embedding(9, 3, sparse=True), nn.Linear(3, 1)
    optimizer = ours("AdamW")([*table.parameters(), *head.parameters()])
    before = table.weight.detach().clone()
    with optimizer.release_gradients(), pytest.raises(RuntimeError, match="`sparse=False`") as caught:
        head(table(torch.tensor([1, 2]))).sum().backward()
    assert "parameters have been stepped and their gradients freed" in caught.value.__notes__[0]
    assert torch.equal(table.weight, before)
    assert table.weight not in optimizer.state
    table.sparse = False
    optimizer.zero_grad()
    with optimizer.release_gradients():  # although the error and its traceback are still there
        head(table(torch.tensor([1, 2]))).sum().backward()
    assert optimizer.state[table.weight]["step"] == 1


class Broken(torch.autograd.Function):
    """Raises in backward."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, g: torch.Tensor) -> torch.Tensor:
        raise ValueError("broken")


def test_a_backward_pass_that_fails_leaves_nothing_to_the_next_one() -> None:
    model, other = nn.Linear(2, 2), nn.Linear(2, 2)
    optimizer = ours("AdamW")([*model.parameters(), *other.parameters()])
    handle = optimizer.release_gradients()
    with pytest.raises(ValueError, match="broken"):
        other(Broken.apply(model(torch.ones(1, 2)))).sum().backward()
    optimizer.zero_grad()
    other(model(torch.ones(1, 2))).sum().backward()
    assert {int(optimizer.state[p]["step"]) for p in model.parameters()} == {1}
    assert {int(optimizer.state[p]["step"]) for p in other.parameters()} <= {1, 2}
    assert all(p.grad is None for p in (*model.parameters(), *other.parameters()))
    handle.remove()


def test_backward_passes_inside_one_are_part_of_it() -> None:
    made = []
    for way in (released_steps, usual):
        torch.manual_seed(0)
        first, second, last = (nn.Linear(4, 4) for _ in range(3))
        params = [p for layer in (first, second, last) for p in layer.parameters()]
        made.append(ours("AdamW")(params))
        way(made[-1], params, 3, lambda _, layers=(first, second), last=last: checkpointed(layers, last))
    assert same(*made)


def test_a_gradient_that_comes_in_pieces_is_refused() -> None:
    shared, last = nn.Linear(4, 4), nn.Linear(4, 1)
    optimizer = ours("AdamW")([*shared.parameters(), *last.parameters()])
    for _ in range(2):  # the second time beside the traceback of the first
        with optimizer.release_gradients(), pytest.raises(RuntimeError, match="in several pieces") as _kept:
            checkpointed((shared, shared), last).backward()
        optimizer.zero_grad()
    with optimizer.release_gradients():
        last(shared(shared(torch.ones(2, 4)))).sum().backward()


def test_a_graph_that_is_kept_is_refused_by_torch_as_with_its_own_hooks() -> None:
    a, b = (nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 1)) for _ in range(2))
    optimizer = ours("SGD")(a.parameters(), lr=0.1)
    hooked = {p: torch.optim.SGD([p], lr=0.1) for p in b.parameters()}
    for p in b.parameters():
        p.register_post_accumulate_grad_hook(lambda p: hooked[p].step())
    with optimizer.release_gradients():
        for model in (a, b):
            out = model(torch.ones(1, 3)).sum()
            out.backward(retain_graph=True)
            with pytest.raises(RuntimeError, match="modified by an inplace operation"):
                out.backward()


@pytest.mark.parametrize(
    ("option", "value"), [("max_grad_norm", 1.0), ("skip_nonfinite", True), ("differentiable", True)]
)
def test_what_needs_all_gradients_is_refused_before_anything_moves(option: str, value: Any) -> None:
    params = plain()
    optimizer = ours("AdamW")(params, **{option: value})
    with pytest.raises(
        ValueError, match=rf"`AdamW\({option}=...\)` must be .*`optimizer.step\(\)` step after backward"
    ):
        optimizer.release_gradients()
    assert not any(p._post_accumulate_grad_hooks for p in params)
    assert optimizer._released is None


def test_what_is_asked_for_later_is_refused_in_backward() -> None:
    a, mine, *_ = pair("AdamW")
    with a.release_gradients():
        a.param_groups[0]["max_grad_norm"] = 1.0
        with pytest.raises(ValueError, match="max_grad_norm"):
            loss(mine).backward()
    assert not a.state


@pytest.mark.parametrize("name", with_closure())
def test_optimizers_that_call_the_model_are_refused(name: str) -> None:
    name = get(name).__name__
    with pytest.raises(RuntimeError, match=f"`{name}.release_gradients`"):
        ours(name)(plain()).release_gradients()


def test_two_handles_are_refused() -> None:
    a, *_ = pair("AdamW")
    with a.release_gradients(), pytest.raises(RuntimeError, match="still in force"):
        a.release_gradients()
    a.release_gradients().remove()


@pytest.mark.parametrize("fused", [None, True])
@pytest.mark.parametrize("held", [False, True])
def test_a_scaler_is_refused_and_works_again_without_a_handle(fused: bool | None, held: bool) -> None:
    a, mine, b, _ = pair("AdamW", fused=fused)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0)
    handle = a.release_gradients()
    scaler.scale(loss(mine)).backward()
    if not held:
        handle.remove()
    with pytest.raises(RuntimeError, match="cannot be used with GradScaler"):
        scaler.step(a)
    handle.remove()
    a.step()
    fresh = torch.amp.GradScaler("cpu", init_scale=2.0)
    fresh.scale(loss(mine)).backward()
    fresh.step(a)
    b.step()
    assert vars(a).get("_step_supports_amp_scaling") == vars(b).get("_step_supports_amp_scaling")
    assert all(int(memory["step"]) == 2 for memory in a.state.values())


def test_a_copy_has_no_handle() -> None:
    a, mine, *_ = pair("AdamW")
    handle = a.release_gradients()
    loss(mine).backward()
    other = copy.deepcopy(a)
    params = [p for group in other.param_groups for p in group["params"]]
    loss(params).backward()
    assert all(p.grad is not None for p in params)
    handle.remove()


@pytest.mark.parametrize("name", [name for name in ("Prodigy",) if name in EVERY])
def test_learned_numbers_are_not_touched_by_a_refusal(name: str) -> None:
    a, *_ = pair(name, **learned(name))
    before = copy.deepcopy(a.param_groups[0] | {"params": None})
    with pytest.raises(RuntimeError, match="whole model"):
        a.release_gradients()
    assert a.param_groups[0] | {"params": None} == before
