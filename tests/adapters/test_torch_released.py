"""Gradients released in backward: the numbers of usual steps, and no gradient that outlives its step."""

import copy
import gc
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from scirs2_adapters.adapters.torch.optimizer import released
from scirs2_adapters.core import get, with_closure
from tests.adapters.torch_support import EVERY, Optimizer, each_variant, ids, learned, ours, plain, same

WHOLE = [name for name in EVERY if get(name)().model_slots()]
Params = list[torch.Tensor]
Loss = Callable[[Params], torch.Tensor]


@pytest.fixture(autouse=True, params=[1, 20, 1 << 20], ids=lambda n: f"together={n}")
def together(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Each parameter by itself, some at a time, and all at the end of backward."""
    monkeypatch.setattr(released, "TOGETHER", request.param)
    return int(request.param)


def loss(params: Params) -> torch.Tensor:
    total = torch.zeros((), dtype=torch.float64)
    for i, p in enumerate(params):
        total = total + (p.double() * (i + 1) - 0.3).sin().square().sum()
    return total


def usual(optimizer: Optimizer, params: Params, steps: int = 4, of: Loss = loss) -> Params:
    for _ in range(steps):
        optimizer.zero_grad()
        of(params).backward()
        optimizer.step()
    return params


def released_steps(optimizer: Any, params: Params, steps: int = 4, of: Loss = loss) -> Params:
    for _ in range(steps):
        optimizer.zero_grad()
        with optimizer.release_gradients():
            of(params).backward()
        assert all(p.grad is None for p in params)
        optimizer.step()
    return params


def pair(name: str, dtype: torch.dtype = torch.float32, **options: Any) -> tuple[Any, Params, Any, Params]:
    mine, other = plain(dtype), plain(dtype)
    return ours(name)(mine, **options), mine, ours(name)(other, **options), other


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
    [("AdamW", "host"), ("AdamW", "traced"), ("LAMB", "host"), ("LAMB", "traced"), ("Adafactor", "host"), ("Muon", "auto")],
)
@pytest.mark.parametrize("options", [{}, {"state_dtype": "bfloat16"}], ids=ids)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
def test_dtypes_and_paths(name: str, dtype: torch.dtype, options: dict[str, Any], kernel: str) -> None:
    a, mine, b, other = pair(name, dtype, kernel=kernel, lr=0.05, **options)
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
        optimizer = ours("AdamW")([{"params": named[::2]}, {"params": named[1:2], "lr": 0.1, "betas": (0.5, 0.6)}], lr=0.01)
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


def test_a_step_that_fails_says_what_has_been_stepped() -> None:
    table, head = nn.Embedding(9, 3, sparse=True), nn.Linear(3, 1)
    optimizer = ours("AdamW")([*table.parameters(), *head.parameters()])
    before = table.weight.detach().clone()
    with optimizer.release_gradients():
        with pytest.raises(RuntimeError, match="`sparse=False`") as caught:
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


def checkpointed(layers: Sequence[nn.Module], last: nn.Module) -> torch.Tensor:
    x = torch.ones(2, 4, requires_grad=True)
    for layer in layers:
        x = checkpoint(layer, x, use_reentrant=True)
    return last(x).square().sum()


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
    with pytest.raises(ValueError, match=rf"`AdamW\({option}=...\)` must be .*`optimizer.step\(\)` step after backward"):
        optimizer.release_gradients()
    assert not any(p._post_accumulate_grad_hooks for p in params)
    usual(optimizer, params, 1)


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
    a, mine, b, other = pair("AdamW", fused=fused)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0)
    handle = a.release_gradients()
    scaler.scale(loss(mine)).backward()
    if not held:
        handle.remove()
    with pytest.raises(RuntimeError, match="cannot be used with GradScaler"):
        scaler.step(a)
    handle.remove()
    a.step()
    scaler.update()
    scaler.scale(loss(mine)).backward()
    scaler.step(a)
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
