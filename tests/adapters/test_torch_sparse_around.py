"""Sparse gradients among what surrounds a step: who refuses them, flags, clipping, loss scaling, checkpoints."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from scirs2_adapters.adapters.torch.dispatch import step as paths
from tests.adapters.sparse_support import (
    CLOSE,
    EXACT,
    ONLY,
    TAKERS,
    distance,
    each_case,
    each_taker,
    rows,
    sparse,
    table,
    walk,
)
from tests.adapters.torch_support import EVERY, ours, params_of, theirs

pytestmark = pytest.mark.usefixtures("checked")


@pytest.mark.parametrize("name", [n for n in EVERY if n not in TAKERS])
def test_all_others_refuse_them_and_name_the_way_out(name: str) -> None:
    p, q = table(), table()
    optimizer = ours(name)([q, p])
    p.grad, q.grad = rows(0, p), torch.ones_like(q)
    with pytest.raises(RuntimeError, match=rf"{name} does not support sparse gradients.*`sparse=False`.* SGD") as e:
        optimizer.step()
    assert all(taker in str(e.value) for taker in TAKERS)
    assert torch.equal(q, table())
    assert not optimizer.state


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
        with pytest.raises(RuntimeError, match=f"{name} does not support dense gradients.*`sparse=True`"):
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
