"""Steps inside compiled programs: one operation, equal to the eager step bit for bit, compiled for no number."""

from __future__ import annotations

import copy
import gc
import shutil
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend
from torch._dynamo.utils import counters

from scirs2_adapters.adapters.torch.paths import compiled
from tests.boundaries.support import fresh

from .torch_support import each_optimizer, ours, params_of, plain, same, walk

each_backend = pytest.mark.parametrize("backend", ["eager", "aot_eager"])
needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="inductor needs a C++ compiler")
#: torch's own modules warn while they are imported or traced; none is about an optimizer.
pytestmark = [
    pytest.mark.usefixtures("forgotten"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore:Profiler record function:UserWarning"),
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning"),
]
Steps = Callable[..., Any]


@pytest.fixture
def forgotten() -> Iterator[None]:
    """Programs compiled in one test are not there in the next."""
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


def compile_step(optimizer: Any, backend: str = "aot_eager", **options: Any) -> tuple[Steps, Any]:
    """The compiled step, in one program unless said otherwise, and a count of programs."""
    count = CompileCounterWithBackend(backend)
    return torch.compile(optimizer.step, backend=count, **{"fullgraph": True, **options}), count


def give(optimizer: Any, seed: int, without: tuple[int, ...] = ()) -> None:
    generator = torch.Generator().manual_seed(seed)
    for i, p in enumerate(params_of(optimizer)):
        g = torch.randn(p.shape, generator=generator).to(p.dtype)
        p.grad = None if i in without else g


def together(a: Any, b: Any, step: Steps, seeds: range, change: Callable[[Any, int], Any] = lambda o, i: None) -> None:
    """Steps `a` by its compiled step and `b` as always, by equal gradients, after the same changes."""
    for i in seeds:
        for optimizer, run in ((a, step), (b, b.step)):
            give(optimizer, i)
            change(optimizer, i)
            run()


def pair(name: str = "AdamW", **options: Any) -> tuple[Any, Any]:
    return ours(name)(plain(), **options), ours(name)(plain(), **options)


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


def test_hooks_are_called_once_for_each_step() -> None:
    a, b = pair()
    calls: dict[str, int] = {"before": 0, "after": 0}

    def count(key: str) -> Callable[..., None]:
        def hook(*given: Any) -> None:
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
    given = ([params_of(optimizer)[0].detach()], [torch.ones(3)], [0], optimizer._number)
    assert set(torch.library.opcheck(compiled.advance, given).values()) == {"SUCCESS"}


@pytest.mark.slow
def test_a_whole_training_step_is_one_program() -> None:
    """Model, backward pass and step; in a process of its own, for torch's switch for it outlives a reset."""
    walk(pair()[0], steps=1)  # its kernel is in the cache
    fresh("""
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
""")
