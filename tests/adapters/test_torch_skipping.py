"""`skip_nonfinite=True`: a step at which any gradient is not finite changes nothing at all, of no parameter, and is
counted.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from .sparse_support import rows
from .torch_skipping import BAD, bits, each_bad, each_name, give, made
from .torch_support import EVERY, each_path, ours, plain, plain_for, same, theirs

pytestmark = [pytest.mark.usefixtures("one_thread", "checked")]


@each_path
@each_name
def test_a_bad_step_changes_nothing_and_the_run_goes_on_as_if_it_had_not_been(name: str, kernel: str) -> None:
    a, b = made(name, kernel=kernel), ours(name)(plain_for(name), kernel=kernel)
    for step in range(6):
        if step in (0, 3, 4):
            before = bits(a)
            give(a, 90 + step, BAD[step % 3], at=step % 3)
            a.step()
            assert bits(a) == before
        for optimizer in (a, b):
            give(optimizer, step)
            optimizer.step()
    assert same(a, b)
    assert [type(group["skipped_steps"]) for group in a.param_groups] == [int]
    assert a.param_groups[0]["skipped_steps"] == 3
    assert b.param_groups[0]["skipped_steps"] == 0


@each_bad
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16, torch.complex64])
def test_every_dtype_is_looked_at_wherever_the_bad_element_is(dtype: torch.dtype, bad: float) -> None:
    for size, place in ((1, 0), (17, 16), (1000, 500), (40_000, 39_999)):
        p = torch.nn.Parameter(torch.ones(size, dtype=dtype))
        optimizer = ours("SGD")([p], skip_nonfinite=True)
        p.grad = torch.ones_like(p)
        (torch.view_as_real(p.grad)[..., 1] if dtype.is_complex else p.grad)[place] = bad
        optimizer.step()
        assert optimizer.param_groups[0]["skipped_steps"] == 1
        assert torch.equal(p, torch.ones_like(p))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.complex64])
def test_large_gradients_are_finite_though_their_squares_are_not(dtype: torch.dtype) -> None:
    p = torch.nn.Parameter(torch.zeros(5, dtype=dtype))
    optimizer = ours("SGD")([p], lr=1e-4, skip_nonfinite=True)
    largest = torch.finfo(dtype).max
    p.grad = torch.full_like(p, complex(largest, largest) if dtype.is_complex else largest)
    optimizer.step()
    assert optimizer.param_groups[0]["skipped_steps"] == 0
    assert bool((p != 0).all())


def test_a_norm_that_overflows_is_skipped_where_gradients_are_clipped_by_it() -> None:
    p = torch.nn.Parameter(torch.zeros(5))
    optimizer = ours("SGD")([p], skip_nonfinite=True, max_grad_norm=1.0)
    p.grad = torch.full_like(p, torch.finfo(torch.float32).max)
    optimizer.step()
    assert optimizer.param_groups[0]["skipped_steps"] == 1
    assert bool((p == 0).all())


@each_bad
def test_without_the_option_a_clipped_step_spoils_the_parameter_as_torch_does(bad: float) -> None:
    (mine,), (other,) = plain_for("SGD")[:1], plain_for("SGD")[:1]
    for p in (mine, other):
        p.grad = torch.ones_like(p)
        p.grad[0, 0] = bad
    ours("SGD")([mine], lr=0.1, max_grad_norm=1.0).step()
    torch.nn.utils.clip_grad_norm_([other], 1.0)
    theirs("SGD")([other], lr=0.1).step()
    assert torch.equal(mine.isnan(), other.isnan())
    assert bool(mine.isnan().any())


@each_bad
@pytest.mark.parametrize("options", [{}, {"max_grad_norm": 1.0}], ids=str)
def test_one_pass_is_made_over_finite_gradients(bad: float, options: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[float] = []
    foreach = torch._foreach_norm

    def counted(tensors: Any, order: float = 2, *rest: Any, **more: Any) -> Any:
        calls.append(order)
        return foreach(tensors, order, *rest, **more)

    monkeypatch.setattr(torch, "_foreach_norm", counted)
    optimizer = made("AdamW", **options)
    give(optimizer, 1)
    optimizer.step()
    assert calls == [2]
    give(optimizer, 1, bad)
    optimizer.step()
    assert len(calls) <= 3
    assert optimizer.param_groups[0]["skipped_steps"] == 1


def test_one_group_that_asks_speaks_for_all_and_values_are_read_at_each_step() -> None:
    first, *rest = plain()
    optimizer = ours("AdamW")([{"params": [first]}, {"params": rest, "skip_nonfinite": True}])
    give(optimizer, 0, float("nan"))
    before = bits(optimizer)
    optimizer.step()
    assert bits(optimizer) == before
    optimizer.add_param_group({"params": [torch.nn.Parameter(torch.ones(2))]})
    give(optimizer, 0, float("nan"))
    optimizer.step()
    assert [group["skipped_steps"] for group in optimizer.param_groups] == [2, 2, 2]
    optimizer.param_groups[1]["skip_nonfinite"] = False
    optimizer.step()
    assert bool(first.isnan().any())
    assert optimizer.param_groups[0]["skipped_steps"] == 2


@each_path
@pytest.mark.parametrize("name", [name for name in EVERY if ours(name).rule_class.sparse])
@pytest.mark.parametrize("twice", [False, True])
def test_sparse_gradients_are_looked_at(name: str, kernel: str, twice: bool) -> None:
    p = torch.nn.Parameter(torch.ones(6, 2))
    optimizer = made(name, [p], kernel=kernel)
    where = [[1, 4, 1] if twice else [1, 4, 0]]
    values = torch.full((3, 2), 3e38)
    values[1] = 1.0
    p.grad = torch.sparse_coo_tensor(torch.tensor(where), values, (6, 2))
    optimizer.step()
    assert optimizer.param_groups[0]["skipped_steps"] == int(twice)  # twice 3e38 in one place is infinite
    assert torch.equal(p, torch.ones(6, 2)) is twice
    p.grad = rows(1, p)
    optimizer.step()
    assert optimizer.param_groups[0]["skipped_steps"] == int(twice)
