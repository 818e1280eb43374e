"""Compiled steps where something else takes part: hooks, closures, refusals, the end of an optimizer, the model."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch

from scirs2_adapters.adapters.torch.executors import compiled
from tests.boundaries.support import fresh

from .torch_compile import compile_step, each_backend, forgotten, give, pair, quiet, together
from .torch_support import ours, params_of, plain, same, walk

__all__ = ["forgotten"]
pytestmark = quiet

TRAINING = """
import torch
from torch._dynamo.testing import CompileCounterWithBackend
from scirs2_adapters.torch import AdamW

torch._dynamo.config.trace_autograd_ops = True
ends = []
for backend in (None, "aot_eager"):
    torch.manual_seed(0)
    model, x = torch.nn.Linear(4, 3), torch.randn(8, 4)
    optimizer = AdamW(model.parameters(), max_grad_norm=0.5)

    def train():
        for p in model.parameters():
            p.grad = None
        loss = model(x).square().mean()
        loss.backward()
        optimizer.step()
        return loss.detach()

    count = CompileCounterWithBackend(backend or "eager")
    step = torch.compile(train, fullgraph=True, backend=count) if backend else train
    for i in range(4):
        optimizer.param_groups[0]["lr"] = 0.1 / (i + 1)
        step()
    assert count.frame_count == (backend is not None)
    ends.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
assert torch.equal(ends[0], ends[1])
"""


def test_hooks_are_called_once_for_each_step() -> None:
    a, b = pair()
    calls: dict[str, int] = {"before": 0, "after": 0}

    def count(key: str) -> Callable[..., None]:
        def hook(*arguments: Any) -> None:
            calls[key] += 1

        return hook

    a.register_step_pre_hook(count("before"))
    a.register_step_post_hook(count("after"))
    step, _ = compile_step(a, "eager")
    together(a, b, step, range(3))
    assert same(a, b)
    assert calls == {"before": 3, "after": 3}


def test_a_closure_is_called_once_and_its_loss_is_returned() -> None:
    a, b = pair()
    step, _ = compile_step(a, "eager", fullgraph=False)

    def closure_of(optimizer: Any) -> Callable[[], torch.Tensor]:
        def closure() -> torch.Tensor:
            for p in params_of(optimizer):
                p.grad = None
            loss = sum(p.square().sum() for p in params_of(optimizer))
            loss.backward()
            return loss

        return closure

    for _ in range(3):
        assert torch.equal(step(closure_of(a)), b.step(closure_of(b)))
    assert same(a, b)


def differentiated(step: Callable[[Any], Any]) -> torch.Tensor:
    x = torch.ones(3, requires_grad=True)
    optimizer = ours("SGD")([torch.ones(3, requires_grad=True)], lr=0.1, differentiable=True)
    optimizer.param_groups[0]["params"][0] = q = x.clone()
    q.grad = x * 2
    step(optimizer)()
    q.sum().backward()
    assert x.grad is not None
    return x.grad


def test_what_the_operation_does_not_take_is_stepped_outside_the_program() -> None:
    a, b = (ours("AdamW")([torch.nn.Parameter(torch.complex(torch.ones(3), torch.arange(3.0)))]) for _ in range(2))
    together(a, b, compile_step(a, fullgraph=False)[0], range(3))
    assert torch.equal(params_of(a)[0], params_of(b)[0])
    c, d = pair("SGD", lr=0.1)
    step, _ = compile_step(c, fullgraph=False)
    for optimizer, run in ((c, step), (d, d.step)):
        params_of(optimizer)[0].grad = torch.eye(5, 3).to_sparse()
        run()
    assert same(c, d)
    assert not torch.equal(params_of(c)[0], plain()[0])
    with pytest.raises(torch._dynamo.exc.Unsupported):
        compile_step(a)[0]()
    assert torch.equal(differentiated(lambda o: compile_step(o, fullgraph=False)[0]), differentiated(lambda o: o.step))


@each_backend
def test_a_refused_step_leaves_parameters_and_memory(backend: str) -> None:
    a, b = pair()
    step, _ = compile_step(a, backend)
    together(a, b, step, range(2))
    a.state[params_of(a)[0]]["exp_avg"] = torch.ones(2)
    give(a, 2)
    with pytest.raises(ValueError, match="exp_avg"):
        step()
    assert torch.is_grad_enabled()
    assert all(torch.equal(p, q) for p, q in zip(params_of(a), params_of(b), strict=True))


def test_a_program_does_not_keep_an_optimizer() -> None:
    a, _ = pair()
    give(a, 0)
    step, _ = compile_step(a, "eager")
    step()
    number, seen = a._number, weakref.ref(a)
    torch._dynamo.reset()
    del a, step
    gc.collect()
    assert seen() is None
    assert number not in compiled._optimizers


def test_the_operation_keeps_torchs_rules() -> None:
    optimizer = ours("AdamW")([torch.nn.Parameter(torch.ones(3))])
    operands = ([params_of(optimizer)[0].detach()], [torch.ones(3)], [0], optimizer._number, True)
    assert set(torch.library.opcheck(compiled.advance, operands).values()) == {"SUCCESS"}


@pytest.mark.slow
def test_a_whole_training_step_is_one_program() -> None:
    """Model, backward pass and step; in a process of its own, for torch's switch for it outlives a reset."""
    walk(pair()[0], steps=1)  # its kernel is in the cache
    fresh(TRAINING)
