"""A step keeps no gradient and no parameter: what the user frees is free in the next forward and backward pass."""

import gc
import weakref

import pytest
import torch

from scirs2_adapters import get, names
from scirs2_adapters import torch as adapter
from scirs2_adapters.adapters.torch.optimizer import released
from tests.adapters.torch_kept import (
    EVERY,
    FORMS,
    RULES,
    SPARSE,
    WHOLE,
    Options,
    alive,
    all_storages,
    by_counting_alone,
    give,
    made,
    refs,
    storages,
    tensors_in,
)
from tests.adapters.torch_support import ALL, ids, ours

__all__ = ["by_counting_alone"]
pytestmark = pytest.mark.usefixtures("one_thread", "checked")
each_form = pytest.mark.parametrize(("name", "options"), FORMS, ids=ids)


@each_form
def test_no_gradient_outlives_zero_grad(name: str, options: Options) -> None:
    optimizer, params = made(name, options)
    for some in (params, params, params[1:3], params):
        give(name, some)
        seen = refs(some)
        assert alive(seen) == len(some)
        optimizer.step()
        optimizer.zero_grad()
        assert alive(seen) == 0


@pytest.mark.parametrize("name", SPARSE)
def test_nor_does_a_sparse_one(name: str) -> None:
    optimizer, params = made(name, {})
    for sparse in (True, RULES[name].sparse == "rows", True):
        give(name, params, sparse)
        seen = refs(params) + [weakref.ref(p.grad._values()) for p in params if p.grad is not None and sparse]
        optimizer.step()
        optimizer.zero_grad()
        assert alive(seen) == 0


@pytest.mark.parametrize("name", EVERY)
def test_nor_one_of_a_step_that_is_left_out(name: str) -> None:
    optimizer, params = made(name, {"skip_nonfinite": True})
    give(name, params)
    params[0].grad = params[0].grad * torch.inf
    seen = refs(params)
    optimizer.step()
    assert optimizer.param_groups[0]["skipped_steps"] == 1
    optimizer.zero_grad()
    assert alive(seen) == 0


@pytest.mark.parametrize("name", [name for name in ALL if name not in WHOLE])
def test_nor_in_a_differentiable_step_once_its_graph_is_gone(name: str) -> None:
    start = torch.ones(6, 4, requires_grad=True)
    p = start.clone()
    optimizer = ours(name)([p], lr=0.1, differentiable=True)
    for _ in range(2):
        p.grad = torch.rand(6, 4, requires_grad=True)
        seen = refs([p])
        optimizer.step()
        assert p.requires_grad
        for x in (p, *tensors_in(dict(optimizer.state))):
            if x.requires_grad:
                x.detach_()
        optimizer.zero_grad()
        assert alive(seen) == 0


@each_form
def test_a_step_allocates_state_and_nothing_else(name: str, options: Options) -> None:
    optimizer, params = made(name, options)
    before = all_storages()
    for _ in range(2):
        give(name, params)
        optimizer.step()
        optimizer.zero_grad()
    after = all_storages()
    new = {place: size for place, size in after.items() if place not in before}
    assert before.keys() <= after.keys()
    assert new == storages(tensors_in(dict(optimizer.state)))
    assert sum(new.values()) > 0 or not any(tensors_in(dict(optimizer.state)))


@pytest.mark.parametrize("way", ["parameter", "group", "skipped", "no gradients"])
@each_form
def test_a_parameter_that_leaves_the_groups_is_free_after_the_next_step(name: str, options: Options, way: str) -> None:
    optimizer, params = made(name, options)
    for some in (params, params[:3], params):  # several plans
        give(name, some)
        optimizer.step()
        optimizer.zero_grad()
    gone = [weakref.ref(params.pop()) for _ in range(2)]
    memory = [optimizer.state.pop(ref(), None) for ref in gone]
    del memory
    optimizer.param_groups[1]["params"].clear()
    if way == "group":
        optimizer.param_groups.pop()
    if way != "no gradients":
        give(name, params)
    if way == "skipped":
        params[0].grad.fill_(torch.nan) if RULES[name].sparse != "rows" else params[0].grad._values().fill_(torch.nan)
        optimizer.param_groups[0]["skip_nonfinite"] = True
    optimizer.step()
    assert alive(gone) == 0


@pytest.mark.parametrize("name", EVERY)
def test_neither_model_nor_optimizer_keeps_the_other(name: str) -> None:
    optimizer, params = made(name, {})
    give(name, params)
    optimizer.step()
    first = weakref.ref(optimizer)
    del optimizer
    gc.collect()  # torch's hooks are in a cycle
    assert first() is None
    seen = [weakref.ref(p) for p in params]
    del params
    assert alive(seen) == 0


@pytest.mark.parametrize("together", [1, 1 << 20])
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("name", [name for name in ALL if name not in WHOLE])
def test_released_gradients_keep_no_parameter_that_has_left(
    name: str, last: bool, together: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(released, "TOGETHER", together)
    optimizer, params = made(name, {})
    handle = optimizer.release_gradients()
    for _ in range(2):
        sum(p.sin().sum() for p in params).backward()
        optimizer.step()
    gone = weakref.ref(params.pop() if last else params.pop(2))
    optimizer.state.pop(gone(), None)
    del optimizer.param_groups[1]["params"][-1 if last else 0]
    sum(p.sin().sum() for p in params).backward()
    optimizer.step()
    gc.collect()  # autograd's hooks are in a cycle
    assert gone() is None
    handle.remove()


@pytest.mark.parametrize("name", [name for name in names() if get(name).sparse != "rows"])
def test_a_new_gradient_in_the_place_of_the_last_one_is_read_by_its_form(name: str) -> None:
    """Freed memory comes back: the same address, other strides or another sign."""
    storage = torch.arange(1.0, 17.0)
    walks = []
    for copies in (False, True):
        p = torch.nn.Parameter(torch.ones(4, 4))
        optimizer = getattr(adapter, get(name).__name__)([p], lr=0.1)
        for view in (
            storage.view(4, 4),
            storage.view(4, 4).t(),
            storage.view(4, 4),
            torch._neg_view(storage.view(4, 4)),
        ):
            p.grad = view.clone().resolve_neg().contiguous() if copies else view
            optimizer.step()
        walks.append(p.detach().clone())
    assert torch.equal(*walks)
