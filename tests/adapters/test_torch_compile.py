"""Steps inside compiled programs: one operation, equal to the eager step bit for bit, compiled for no number."""

from __future__ import annotations

import copy
import shutil
from typing import Any

import pytest
import torch

from .torch_compile import compile_step, each_backend, forgotten, give, pair, quiet, together
from .torch_support import each_optimizer, ours, params_of, plain, same

__all__ = ["forgotten"]
pytestmark = quiet
needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="inductor needs a C++ compiler")


@each_backend
@each_optimizer
def test_a_whole_compiled_step_equals_the_eager_one_under_a_scheduler(name: str, backend: str) -> None:
    a, b = pair(name)
    step, count = compile_step(a, backend)
    schedulers = [torch.optim.lr_scheduler.ExponentialLR(o, 0.8) for o in (a, b)]
    for i in range(6):
        together(a, b, step, range(i, i + 1))
        for scheduler in schedulers:
            scheduler.step()
    assert same(a, b)
    assert a.state_dict().keys() == b.state_dict().keys()
    assert count.frame_count == 1


@pytest.mark.slow
@needs_compiler
def test_inductor_steps_the_parameters_themselves_and_counts_as_eager_does() -> None:
    a, b = pair()
    step, count = compile_step(a, "inductor")
    for i in range(4):
        versions = [p._version for p in params_of(a)]
        for optimizer, run in ((a, step), (b, b.step)):
            give(optimizer, i, (0,) if i == 1 else ())  # counts part, and a plan is taken up again
            run()
        raised = [p._version - v for p, v in zip(params_of(a), versions, strict=True)]
        assert max(raised) <= 2  # by the step, and by the program; a copy there and back would add to it
    assert same(a, b)
    assert count.frame_count == 2


@each_backend
def test_any_number_may_change_without_a_new_program(backend: str) -> None:
    a, b = pair(max_grad_norm=1.0)
    step, count = compile_step(a, backend)

    def change(optimizer: Any, i: int) -> None:
        group = optimizer.param_groups[0]
        group |= {"lr": 0.1 / (i + 1), "betas": (0.1 * i, 0.9), "weight_decay": 0.01 * i, "max_grad_norm": 0.5 + i}
        optimizer.grad_scale, optimizer.found_inf = torch.tensor(2.0**i), torch.tensor(float(i == 2))

    together(a, b, step, range(5), change)
    assert same(a, b)
    assert count.frame_count == 1


@each_backend
def test_groups_of_one_program_keep_their_own_decay(backend: str) -> None:
    def grouped() -> Any:
        first, *rest = plain()
        return ours("AdamW")(
            [{"params": [first], "weight_decay": 0.0, "lr": 0.1}, {"params": rest, "betas": (0.5, 0.6)}]
        )

    a, b = grouped(), grouped()
    step, count = compile_step(a, backend)
    together(a, b, step, range(4))
    assert same(a, b)
    assert count.frame_count == 1


@each_backend
def test_absent_gradients_and_frozen_parameters_cost_one_program_for_each_pattern(backend: str) -> None:
    a, b = pair()
    step, count = compile_step(a, backend)
    for i in range(6):
        for optimizer, run in ((a, step), (b, b.step)):
            params_of(optimizer)[0].requires_grad_(i % 2 == 0)
            give(optimizer, i, (0,) if i % 2 else ())
            run()
    assert same(a, b)
    assert count.frame_count == 2
    for p in params_of(a):
        p.grad = None
    before = copy.deepcopy(a.state_dict())
    step()
    assert str(a.state_dict()) == str(before)


@each_backend
def test_loads_new_groups_and_copies_go_on_in_the_same_program_or_their_own(backend: str) -> None:
    a, b = pair()
    step, _ = compile_step(a, backend)
    together(a, b, step, range(2))
    twin, other = copy.deepcopy(a), copy.deepcopy(b)
    for optimizer in (a, b):
        optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
        optimizer.add_param_group({"params": [torch.nn.Parameter(torch.ones(3))], "lr": 0.3})
    together(a, b, step, range(2, 4))
    together(twin, other, compile_step(twin, backend)[0], range(4, 6))
    assert same(a, b)
    assert same(twin, other)
    assert not torch.equal(params_of(twin)[0], params_of(a)[0])


@each_backend
def test_one_function_steps_two_optimizers(backend: str) -> None:
    (a, b), (c, d) = pair(), pair("SGD", lr=0.1, momentum=0.9)
    run = torch.compile(lambda optimizer: optimizer.step(), fullgraph=True, backend=backend)
    for one, other in ((a, b), (c, d)):
        together(one, other, lambda one=one: run(one), range(3))
        assert same(one, other)


@each_backend
def test_a_program_sees_parameters_as_they_were_before_and_are_after(backend: str) -> None:
    p = torch.nn.Parameter(torch.ones(4))
    optimizer = ours("SGD")([p], lr=1.0)
    p.grad = torch.ones(4)

    @torch.compile(fullgraph=True, backend=backend)
    def program() -> tuple[torch.Tensor, torch.Tensor]:
        with torch.no_grad():
            before = p * 2
            optimizer.step()
            return before, p * 3

    before, after = program()
    assert before.tolist() == [2.0] * 4
    assert after.tolist() == [0.0] * 4
    assert p.tolist() == [0.0] * 4


@each_backend
def test_autograd_sees_a_compiled_step_as_a_write(backend: str) -> None:
    a, _ = pair()
    give(a, 0)
    kept = params_of(a)[0].square().sum()
    compile_step(a, backend)[0]()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        kept.backward()
