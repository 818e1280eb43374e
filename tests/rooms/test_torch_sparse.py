"""Sparse gradients: torch's own results where torch takes them, a clear refusal where it does not."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from scirs2_adapters import names
from scirs2_adapters.adapters.torch import paths
from scirs2_adapters.core import get
from scirs2_adapters.core.program import record
from scirs2_adapters.core.slots import Leaf
from tests.rooms.torch_support import EVERY, each_path, ids, ours, params_of, theirs

Tensor = torch.Tensor
RULES = {get(name).__name__: get(name) for name in names()}
TAKERS = [name for name in EVERY if RULES[name].sparse]
EXACT = [name for name in TAKERS if RULES[name].sparse == "exact"]
ONLY = [name for name in TAKERS if RULES[name].sparse == "rows"]
#: Options that reach the branches of those that have some.
OPTIONS: dict[str, list[dict[str, Any]]] = {
    "SGD": [
        {"momentum": 0.9},
        {"momentum": 0.9, "dampening": 0.5},
        {"momentum": 0.9, "nesterov": True, "maximize": True},
    ],
    "Adagrad": [{"lr_decay": 0.1, "initial_accumulator_value": 0.3, "maximize": True}],
    "SparseAdam": [{"betas": (0.5, 0.9), "eps": 1e-3, "maximize": True}],
}
CASES = [(name, {"lr": 0.1} | options) for name in TAKERS for options in ({}, *OPTIONS.get(name, []))]
each_case = pytest.mark.parametrize(("name", "options"), CASES, ids=ids)
each_taker = pytest.mark.parametrize("name", TAKERS)
CLOSE = {torch.float64: 1e-12, torch.float32: 2e-6}
ROWS, WIDTH = 12, 5


@pytest.fixture(autouse=True)
def checked() -> Iterator[None]:
    """torch warns of sparse tensors unless it is told whether to check them."""
    with torch.sparse.check_sparse_tensor_invariants():
        yield


def sparse(index: list[list[int]], values: Tensor, shape: tuple[int, ...], dtype: torch.dtype | None = None) -> Tensor:
    return torch.sparse_coo_tensor(torch.tensor(index), values, shape, dtype=dtype)


def table(dtype: torch.dtype = torch.float64, shape: tuple[int, ...] = (ROWS, WIDTH)) -> torch.nn.Parameter:
    return torch.nn.Parameter(
        torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).to(dtype)
    )


def rows(step: int, p: Tensor, count: int = 7) -> Tensor:
    """A gradient of some rows, one of them twice."""
    generator = torch.Generator().manual_seed(step)
    index = torch.randint(0, len(p), (count,), generator=generator).tolist()
    values = torch.randn((count + 1, *p.shape[1:]), generator=generator, dtype=torch.float64)
    return sparse([[*index, index[0]]], values.to(p.dtype), tuple(p.shape))


def walk(*optimizers: torch.optim.Optimizer, steps: int = 12, first: int = 0, dense: bool = False) -> None:
    for optimizer in optimizers:
        for step in range(first, first + steps):
            for p in params_of(optimizer):
                g = rows(step, p)
                p.grad = g.to_dense() if dense else g
            optimizer.step()


def plain(x: Any) -> Tensor:
    x = torch.as_tensor(x).detach()
    return (x.to_dense() if x.is_sparse else x).double()


def distance(a: torch.optim.Optimizer, b: torch.optim.Optimizer) -> float:
    """The largest difference of parameters and memory, relative to the largest value of each."""
    worst = 0.0
    for p, q in zip(params_of(a), params_of(b), strict=True):
        mine, other = a.state.get(p, {}), b.state.get(q, {})
        assert list(mine) == list(other)
        for x, y in [(p, q), *((mine[k], other[k]) for k in mine)]:
            x, y = plain(x), plain(y)
            assert x.shape == y.shape
            worst = max(worst, float((x - y).abs().max() / y.abs().max().clamp(min=1e-30)))
    return worst


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


@pytest.mark.parametrize("name", [n for n in EVERY if n not in TAKERS])
def test_all_others_refuse_them_and_name_the_way_out(name: str) -> None:
    p, q = table(), table()
    optimizer = ours(name)([q, p])
    p.grad, q.grad = rows(0, p), torch.ones_like(q)
    with pytest.raises(RuntimeError, match=rf"`{name}` does not support sparse gradients.*`sparse=False`.* SGD") as e:
        optimizer.step()
    assert all(taker in str(e.value) for taker in TAKERS)
    assert torch.equal(q, table())
    assert not optimizer.state


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
        given = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(step))
        given[given.abs() < 0.6] = 0
        for optimizer in (a, b):
            (p,) = params_of(optimizer)
            p.grad = given.to_sparse(axes) if axes else given[0, 0, 0].reshape(p.shape).to_sparse()
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
    monkeypatch.setattr(paths, "Plan", lambda *given: plans.append(given) or make(*given))
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


@each_taker
def test_fused_refuses_them_as_torchs_does(name: str) -> None:
    p = table()
    optimizer = ours(name)([p], fused=True)
    p.grad = rows(0, p)
    with pytest.raises(RuntimeError, match=r"`fused=True` does not support sparse gradients\. Use `fused=None`"):
        optimizer.step()
    assert torch.equal(p, table())


@each_taker
@pytest.mark.parametrize("foreach", [True, False, None])
def test_any_foreach_is_taken(name: str, foreach: bool | None) -> None:
    a, b = ours(name)([table()], foreach=foreach), ours(name)([table()])
    walk(a, b, steps=3)
    assert distance(a, b) == 0.0


@pytest.mark.parametrize("name", EXACT)
def test_weight_decay_is_refused_at_whatever_step_it_comes(name: str) -> None:
    p, q = table(), table()
    optimizer = ours(name)([q, p])
    walk(optimizer, steps=2)
    optimizer.param_groups[0]["weight_decay"] = 0.1
    before = copy.deepcopy(optimizer)
    with pytest.raises(RuntimeError, match=r"weight_decay option is not compatible with sparse gradients.*0\.1.*Use a"):
        walk(optimizer, steps=1)
    assert distance(optimizer, before) == 0.0
    optimizer.param_groups[0]["weight_decay"] = 0.0
    walk(optimizer, steps=1)


@each_case
def test_clipping_counts_each_row_once(name: str, options: dict[str, Any]) -> None:
    a, b = ours(name)([table(), table()], **options, max_grad_norm=0.5), ours(name)([table(), table()], **options)
    for step in range(4):
        for optimizer in (a, b):
            grads = [rows(step + at, p) for at, p in enumerate(params_of(optimizer))]
            norm = torch.linalg.vector_norm(torch.stack([g.to_dense() for g in grads]))
            for p, g in zip(params_of(optimizer), grads, strict=True):
                p.grad = g if optimizer is a else g * float(min(1.0, 0.5 / (norm + 1e-6)))
            optimizer.step()
    assert distance(a, b) < 1e-12


@each_case
def test_a_gradient_scaler_divides_them_and_skips_what_overflows(name: str, options: dict[str, Any]) -> None:
    a, b = ours(name)([table(torch.float32)], **options), theirs(name)([table(torch.float32)], **options)
    for optimizer in (a, b):
        scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=1000)
        for step in range(5):
            (p,) = params_of(optimizer)
            scaler.scale(torch.ones(1))
            p.grad = rows(step, p) * (1024.0 if step != 3 else float("inf"))
            scaler.step(optimizer)
            scaler.update(1024.0)
    assert distance(a, b) < CLOSE[torch.float32]


@each_case
def test_a_state_dict_goes_to_torch_and_comes_back(name: str, options: dict[str, Any]) -> None:
    a, b = ours(name)([table()], **options), theirs(name)([table()], **options)
    walk(a, b, steps=3)
    new = ours(name)([table()], **options)
    new.load_state_dict(b.state_dict())
    with torch.no_grad():
        params_of(new)[0].copy_(params_of(b)[0])
    walk(new, a, steps=3, first=3)
    assert distance(new, a) < 1e-12
    if options.get("nesterov"):
        return  # torch's own cannot add a dense buffer to a sparse gradient
    back = theirs(name)([table()], **options)
    back.load_state_dict(new.state_dict())
    with torch.no_grad():
        params_of(back)[0].copy_(params_of(new)[0])
    walk(back, a, steps=3, first=6)
    assert distance(back, a) < 1e-12


@each_taker
def test_the_gradient_stays_as_it_was_and_the_parameter_says_that_it_changed(name: str) -> None:
    p = table()
    optimizer = ours(name)([p])
    p.grad = g = rows(0, p)
    values, version = g._values().clone(), p._version
    optimizer.step()
    assert p.grad is g
    assert not g.is_coalesced()
    assert torch.equal(g._values(), values)
    assert p._version > version


def test_complex_parameters_take_them() -> None:
    ends = []
    for cls in (ours("SGD"), theirs("SGD")):
        p = torch.nn.Parameter(torch.ones(4, 2, dtype=torch.complex128))
        p.grad = sparse([[0, 2, 0]], torch.full((3, 2), 1 + 2j), (4, 2), torch.complex128)
        cls([p], lr=0.1).step()
        ends.append(p)
    assert torch.allclose(*ends)


def test_an_optimizer_of_rows_alone_refuses_dense_gradients() -> None:
    for name in ONLY:
        p = table()
        optimizer = ours(name)([p])
        p.grad = torch.ones_like(p)
        with pytest.raises(RuntimeError, match=f"`{name}` does not support dense gradients.*`sparse=True`"):
            optimizer.step()
        assert torch.equal(p, table())
        assert not optimizer.state


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta state:UserWarning")
def test_a_compressed_gradient_is_refused() -> None:
    p = torch.ones(4, 2)
    optimizer, nothing = ours("SGD")([p]), torch.zeros(5, dtype=torch.int64)
    with pytest.raises(
        RuntimeError, match=r"does not support sparse gradients. Received: one of layout torch\.sparse_csr"
    ):
        paths.step(optimizer, [torch.sparse_csr_tensor(nothing, nothing[:0], torch.ones(0), (4, 2))])


@pytest.mark.parametrize("name", EVERY)
def test_only_a_formula_that_leaves_zeros_alone_is_run_on_rows(name: str) -> None:
    """Adam's moments fade without a gradient: on its rows alone it would be another algorithm."""
    rule = RULES[name]().route(Leaf((ROWS, WIDTH)))
    lazy = record(rule, Leaf((ROWS, WIDTH))).lazy
    p = table()
    before = p.detach().clone()
    options = {"weight_decay": 0.0} if "weight_decay" in RULES[name].fields_with() else {}
    if name in ONLY:
        return
    optimizer = ours(name)([p], **options)
    p.grad = torch.ones_like(p)
    optimizer.step()
    before, held = p.detach().clone(), {k: x.clone() for k, x in optimizer.state.get(p, {}).items() if k != "step"}
    p.grad = torch.zeros_like(p)
    optimizer.step()
    still = torch.equal(p, before) and all(torch.equal(optimizer.state[p][k], x) for k, x in held.items())
    assert still == lazy


def test_an_optimizer_of_rows_alone_refuses_sparse_and_complex_parameters() -> None:
    for name in ONLY:
        with pytest.raises(ValueError, match=rf"Sparse params at indices \[\[0, 1\]\]: {name} requires dense"):
            ours(name)([table(), table().detach().to_sparse()])
        with pytest.raises(ValueError, match=rf"Complex params at indices \[\[1, 0\]\]: {name} does not"):
            ours(name)([{"params": [table()]}, {"params": [torch.ones(2, dtype=torch.complex64)]}])


@each_taker
def test_a_step_is_saved_as_torch_saves_it(name: str) -> None:
    saved = []
    for cls in (ours(name), theirs(name)):
        optimizer = cls([table()])
        walk(optimizer, steps=2)
        saved.append({k: type(x) for k, x in optimizer.state_dict()["state"].get(0, {}).items()})
    assert saved[0] == saved[1]
