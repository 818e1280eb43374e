"""Sparse gradients walk as with torch, and only their rows are touched where that is the same."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from scirs2_adapters.adapters.torch.dispatch import step as paths
from scirs2_adapters.core.program.recorded import record
from scirs2_adapters.core.program.zero_gradient import zero_gradient_is_noop
from scirs2_adapters.core.slots import Leaf
from tests.adapters.sparse_support import (
    CLOSE,
    EXACT,
    ONLY,
    OPTIONS,
    ROWS,
    RULES,
    WIDTH,
    Tensor,
    distance,
    each_case,
    each_taker,
    rows,
    sparse,
    table,
    walk,
)
from tests.adapters.torch_support import EVERY, each_path, ours, params_of, theirs

pytestmark = pytest.mark.usefixtures("checked")


@each_case
@each_path
@pytest.mark.parametrize("dtype", CLOSE)
def test_an_embedding_walks_as_with_torch(name: str, options: dict[str, Any], kernel: str, dtype: torch.dtype) -> None:
    ends = []
    for cls, also in ((ours(name), {"kernel": kernel}), (theirs(name), {})):
        torch.manual_seed(0)
        model = torch.nn.Embedding(ROWS, WIDTH, sparse=True, dtype=dtype)
        optimizer = cls(model.parameters(), **options, **also)
        generator = torch.Generator().manual_seed(2)
        for _ in range(12):
            optimizer.zero_grad()
            words = torch.randint(0, ROWS, (9,), generator=generator)
            (model(words) * torch.arange(9.0, dtype=dtype)[:, None]).square().mean().backward()
            assert model.weight.grad.layout is torch.sparse_coo
            optimizer.step()
        ends.append(optimizer)
    assert distance(*ends) < CLOSE[dtype]


@each_case
def test_half_precision_is_rounded_once_in_each_step(name: str, options: dict[str, Any]) -> None:
    exact, p = (ours(name)([table(dtype)], **options) for dtype in (torch.float64, torch.bfloat16))
    for step in range(6):
        wide, half = params_of(exact)[0], params_of(p)[0]
        g = rows(step, half, count=60)
        wide.grad, half.grad = g.to(torch.float64), g
        with torch.no_grad():
            wide.copy_(half)
            for slot, x in exact.state.get(wide, {}).items():
                x.copy_(p.state[half][slot])
        exact.step()
        p.step()
        assert ((wide - half).abs() <= 2.0**-8 * 1.001 * wide.abs() + 1e-7).all()


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("index", [0, 1, 2])
@each_path
def test_rows_that_are_not_given_are_as_rows_of_zeros(name: str, index: int, kernel: str) -> None:
    options = [{}, *OPTIONS.get(name, [])]
    a, b = (ours(name)([table()], lr=0.1, kernel=kernel, **options[min(index, len(options) - 1)]) for _ in range(2))
    walk(a)
    walk(b, dense=True)
    assert distance(a, b) < 1e-14


@pytest.mark.parametrize("base", [RULES[name].name for name in EXACT])
def test_a_wrapper_takes_what_its_base_takes(base: str) -> None:
    a, b = (ours("Lookahead")([table()], base=base, lr=0.1, sync_period=3) for _ in range(2))
    walk(a)
    walk(b, dense=True)
    assert distance(a, b) < 1e-14


@each_taker
def test_rows_that_are_not_given_keep_every_bit(name: str) -> None:
    p = table(torch.float32)
    optimizer, before = ours(name)([p], lr=0.1), p.detach().clone()
    for _ in range(3):
        p.grad = sparse([[4, 7]], torch.ones(2, WIDTH), (ROWS, WIDTH))
        optimizer.step()
    others = [k for k in range(ROWS) if k not in (4, 7)]
    assert torch.equal(p[others], before[others])
    assert not torch.equal(p[[4, 7]], before[[4, 7]])


@each_taker
def test_a_gradient_of_few_rows_is_never_written_out(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    p = table()
    optimizer = ours(name)([p], lr=0.1)
    p.grad = rows(0, p)
    monkeypatch.setattr(Tensor, "to_dense", lambda self: pytest.fail("the whole gradient was made"))
    optimizer.step()


@each_case
def test_a_row_that_is_given_twice_counts_with_its_sum(name: str, options: dict[str, Any]) -> None:
    a, b = ours(name)([table()], **options), ours(name)([table()], **options)
    for step in range(5):
        for optimizer, once in ((a, False), (b, True)):
            (p,) = params_of(optimizer)
            g = rows(step, p)
            p.grad = g.coalesce() if once else g
            optimizer.step()
    assert distance(a, b) == 0.0


@each_case
@each_path
@pytest.mark.parametrize("axes", [0, 1, 2, 3])
def test_any_number_of_axes_may_be_sparse(name: str, options: dict[str, Any], kernel: str, axes: int) -> None:
    shape = (4, 3, 2)
    a, b = ours(name)([table(shape=shape)], **options, kernel=kernel), theirs(name)([table(shape=shape)], **options)
    if axes == 0:  # torch's own optimizers do not take these
        a, b = ours(name)([table(shape=())], **options, kernel=kernel), theirs(name)([table(shape=(1,))], **options)
    for step in range(4):
        dense = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(step))
        dense[dense.abs() < 0.6] = 0
        for optimizer in (a, b):
            (p,) = params_of(optimizer)
            p.grad = dense.to_sparse(axes) if axes else dense[0, 0, 0].reshape(p.shape).to_sparse()
            optimizer.step()
    if axes == 0:
        assert torch.allclose(params_of(a)[0], params_of(b)[0][0], rtol=1e-12)
    else:
        assert distance(a, b) < 1e-12


@each_case
@each_path
def test_a_gradient_of_no_row_is_a_step_as_with_torch(name: str, options: dict[str, Any], kernel: str) -> None:
    a, b = ours(name)([table()], **options, kernel=kernel), theirs(name)([table()], **options)
    walk(a, b, steps=2)
    for optimizer in (a, b):
        (p,) = params_of(optimizer)
        p.grad = torch.sparse_coo_tensor(torch.empty(1, 0), torch.empty(0, WIDTH), p.shape, dtype=p.dtype)
        optimizer.step()
    walk(a, b, steps=2, first=2)
    assert distance(a, b) < 1e-12


@each_taker
def test_tables_without_rows_are_stepped(name: str) -> None:
    p = table(shape=(0, 3))
    optimizer = ours(name)([p])
    p.grad = torch.sparse_coo_tensor(torch.empty(1, 0), torch.empty(0, 3), p.shape, dtype=p.dtype)
    optimizer.step()


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_dense_and_sparse_gradients_live_in_one_optimizer_and_take_turns(name: str, momentum: float) -> None:
    options = {"momentum": momentum} if "momentum" in RULES[name].fields else {}
    a, b = (ours(name)([{"params": [table(), table()]}, {"params": [table()], "lr": 0.3}], **options) for _ in range(2))
    for step in range(12):
        for optimizer, written in ((a, False), (b, True)):
            for at, p in enumerate(params_of(optimizer)):
                g = rows(step + at, p)
                p.grad = g.to_dense() if written or at == 1 or (at == 2 and step % 3 == 0) else g
            optimizer.step()
    assert distance(a, b) < 1e-14


def test_new_rows_at_each_step_need_no_new_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    plans: list[Any] = []
    make = paths.Plan
    monkeypatch.setattr(paths, "Plan", lambda *arguments: plans.append(arguments) or make(*arguments))
    p, q = table(), table()
    optimizer = ours("SGD")([p, q], lr=0.1)
    for step in range(6):
        p.grad, q.grad = rows(step, p, count=3 + step), torch.ones_like(q)
        optimizer.step()
    assert len(plans) == 1


@each_case
def test_parameters_may_lie_in_memory_in_any_way(name: str, options: dict[str, Any]) -> None:
    base = table(shape=(WIDTH, 2 * ROWS)).detach()
    around = base.clone()
    a, b = ours(name)([torch.nn.Parameter(base[:, ::2].t())], **options), ours(name)([table()], **options)
    with torch.no_grad():
        params_of(b)[0].copy_(params_of(a)[0])
    walk(a, b, steps=4)
    assert distance(a, b) < 1e-14
    assert torch.equal(base[:, 1::2], around[:, 1::2])


@pytest.mark.parametrize("name", EVERY)
def test_only_a_formula_that_leaves_zeros_alone_is_run_on_rows(name: str) -> None:
    """Adam's moments fade without a gradient: on its rows alone it would be another algorithm. So would Ftrl, which
    moves by a gradient of 0 at first.
    """
    rule = RULES[name]().route(Leaf((ROWS, WIDTH)))
    leaves_out = zero_gradient_is_noop(record(rule, Leaf((ROWS, WIDTH))))
    p, first = table(), table()
    options = {"weight_decay": 0.0} if "weight_decay" in RULES[name].fields_with() else {}
    if name in ONLY:
        return
    first.grad = torch.zeros_like(first)
    ours(name)([first], **options).step()
    still = torch.equal(first, p)
    optimizer = ours(name)([p], **options)
    p.grad = p.detach().clone()
    optimizer.step()
    with torch.no_grad():
        p.add_(1.0)  # a rule that looks at where it has led, as COCOB does, would go back

    def memory() -> list[Tensor]:
        of_model = [torch.as_tensor(optimizer.param_groups[0][s.name]) for s in rule.model_slots()]
        return [*of_model, *(x.clone() for k, x in optimizer.state.get(p, {}).items() if k != "step")]

    before, held = p.detach().clone(), memory()
    p.grad = torch.zeros_like(p)
    optimizer.step()
    still &= torch.equal(p, before) and all(map(torch.equal, held, memory()))
    assert still == leaves_out
