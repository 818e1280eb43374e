"""Steps of offloaded parameters: the numbers, and which copies are made. Run by `test_torch_offload.py` in a process of
its own, as it registers a device.
"""

from __future__ import annotations

import gc
import weakref
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch

from scirs2_adapters.adapters.torch.dispatch.step import step
from scirs2_adapters.adapters.torch.executors import transfers
from scirs2_adapters.core import get
from tests.adapters import torch_device
from tests.adapters.torch_offload import (
    SHAPES,
    assert_same,
    copies,
    in_parts,
    loss,
    pair,
    params,
    train,
)
from tests.adapters.torch_support import ALL, EVERY, ids, learned, ours
from tests.conformance.options import still_steps

__all__ = ["copies", "in_parts"]
pytestmark = pytest.mark.usefixtures("one_thread", "in_parts")
HALF = torch.bfloat16
OPTIONS: list[dict[str, Any]] = [
    {},
    {"kernel": "traced"},
    {"state_dtype": "bfloat16"},
    {"state_dtype": "int8"},
    {"max_grad_norm": 0.5, "skip_nonfinite": True},
]
ROUNDINGS = [
    {"rounding": "stochastic"},
    {"rounding": "compensated", "state_dtype": "int8"},
    {"rounding": "compensated", "state_dtype": {"rounding_error": "int16"}},
]
WHOLE = [name for name in ALL if get(name)().model_slots()]


def muons(name: str, options: dict[str, Any]) -> dict[str, Any]:
    """Muon matched with torch has no memory in blocks."""
    return {"match": None} if name == "Muon" and options.get("state_dtype") == "int8" else {}


@pytest.mark.parametrize("options", OPTIONS, ids=ids)
@pytest.mark.parametrize("name", ALL)
def test_a_step_is_that_of_the_cpu(name: str, options: dict[str, Any]) -> None:
    a, here, b, there = pair(name, **options, **muons(name, options))
    starts = [p.detach().clone() for p in here]
    train(a, here)
    train(b, there)
    assert_same(a, here, b, there)
    stood_still = [torch.equal(p, start) for p, start in zip(here, starts, strict=True) if p.numel() > 2]
    assert still_steps(name) > 2 or not any(stood_still)


@pytest.mark.parametrize("options", [{}, *ROUNDINGS], ids=ids)
@pytest.mark.parametrize("name", [name for name in ALL if name not in WHOLE])
def test_and_of_16_bit_parameters(name: str, options: dict[str, Any]) -> None:
    a, here, b, there = pair(name, HALF, lr=0.05, **options, **muons(name, options), **learned(name))
    train(a, here)
    train(b, there)
    assert_same(a, here, b, there)


@pytest.mark.parametrize("name", [name for name in EVERY if get(name).sparse])
def test_sparse_gradients_are_stepped_by_rows(name: str) -> None:
    a, here, b, there = pair(name)
    for _ in range(3):
        grads = [torch.randn(p.shape).to_sparse(1) if p.shape == (70, 65) else None for p in here]
        with torch.no_grad():
            step(a, list(grads))
            step(b, list(grads))  # torch has no sparse tensors on a device that is written in Python
    assert_same(a, here, b, there)


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex64])
def test_other_dtypes(dtype: torch.dtype) -> None:
    a, here, b, there = pair("Adam", dtype)
    for walked in ((a, here), (b, there)):
        for i in range(3):
            for p in walked[1]:
                generator = torch.Generator().manual_seed(i)
                p.grad = torch.randn(p.shape, generator=generator, dtype=dtype).to(p.device)
            walked[0].step()
    assert_same(a, here, b, there)


def test_a_device_without_streams(monkeypatch: pytest.MonkeyPatch, copies: Counter[str]) -> None:
    monkeypatch.delattr(torch_device.Module, "stream")
    a, here, b, there = pair("AdamW")
    train(a, here)
    train(b, there)
    assert_same(a, here, b, there)
    assert not copies
    assert type(transfers.transfers(there[0].device)) is transfers.PlainTransfers


def test_gradients_are_copied_in_backward_and_parameters_are_sent_once(copies: Counter[str]) -> None:
    there, count = params("late"), len(SHAPES)
    optimizer = ours("AdamW")(there, offload=True)
    train(optimizer, there, range(1))
    assert copies == {"to_host": 2 * (count - 1), "to_device": count}  # one is empty
    recorded = torch_device.Module.recorded
    for i in range(1, 4):
        copies.clear()
        optimizer.zero_grad(set_to_none=i % 2 == 0)
        loss(there, i).backward()
        assert copies == {"to_host": count}
        optimizer.step()
        assert copies == {"to_host": count, "to_device": count}
    assert torch_device.Module.recorded - recorded == 3 * count


@pytest.mark.parametrize("passes", [(2, 2, 2), (1, 3, 1, 2), (3, 1, 1)])
def test_of_gradients_that_accumulate_all_count(passes: tuple[int, ...]) -> None:
    a, here, b, there = pair("AdamW")
    for optimizer, some in ((a, here), (b, there)):
        for i, number in enumerate(passes):
            optimizer.zero_grad()
            for j in range(number):
                (loss(some, 10 * i + j) / number).backward()
            optimizer.step()
    assert_same(a, here, b, there)


def test_the_last_of_as_many_passes_as_before_is_copied_after(copies: Counter[str]) -> None:
    there = params("late", shapes=((40, 70), (3,)))
    optimizer = ours("SGD")(there, offload=True)
    seen = []
    for _ in range(4):
        for _ in range(3):
            loss(there).backward()
            seen.append(copies["to_host"])
        optimizer.step()
        copies.clear()
    assert seen == [0, 0, 0, 2, 4, 6, 0, 0, 2, 0, 0, 2]


def negate(p: torch.nn.Parameter) -> None:
    p.grad.data.neg_()


CHANGES: dict[str, Callable[[torch.nn.Parameter], object]] = {
    "scaled": lambda p: p.grad.mul_(0.5),
    "scaled past the version": lambda p: p.grad.data.mul_(0.5),
    "negated past the version": negate,
    "exchanged": lambda p: setattr(p, "grad", torch.ones_like(p)),
    "transposed": lambda p: setattr(p, "grad", p.grad.t().contiguous().t() if p.ndim == 2 else p.grad),
    "expanded": lambda p: setattr(p, "grad", p.grad.new_ones(()).expand(p.shape)),
    "parameter moved": lambda p: p.data.add_(1.0),
    "parameter loaded": lambda p: p.data.copy_(torch.linspace(0, 1, p.numel()).view(p.shape)),
    "rows exchanged": lambda p: p.data.copy_(p.data.clone().flip(0)) if p.ndim else None,
    "parameter in other memory": lambda p: setattr(p, "data", p.data.clone().mul_(2.0)),
    "parameter in other strides": lambda p: setattr(p, "data", p.data.t().contiguous().t() if p.ndim == 2 else p.data),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("late", [True, False])
def test_what_changes_between_backward_and_step_counts(change: str, late: bool) -> None:
    a, here, b, there = pair("AdamW", lr=0.1)
    for optimizer, some in ((a, here), (b, there)):
        for i in range(5):
            optimizer.zero_grad()
            loss(some, i).backward()
            for p in some if i in (1, 3) else ():
                CHANGES[change](p)
            if not late:
                for ways in optimizer._offloading()._ways.values():
                    ways.down.run()
            optimizer.step()
    assert_same(a, here, b, there)


def test_what_is_left_unchanged_is_stepped_again() -> None:
    a, here, b, there = pair("AdamW")
    for optimizer, some in ((a, here), (b, there)):
        loss(some).backward()
        for _ in range(3):
            optimizer.step()
    assert_same(a, here, b, there)


def test_a_gradient_that_is_taken_back_is_not_stepped() -> None:
    a, here, b, there = pair("AdamW")
    for optimizer, some in ((a, here), (b, there)):
        for i in range(4):
            loss(some, i).backward()
            for p in some[i % 3 :: 2]:
                p.grad = None
            optimizer.step()
            optimizer.zero_grad()
    assert_same(a, here, b, there)


def test_copies_that_were_of_no_use_are_made_every_second_time(copies: Counter[str]) -> None:
    there = params("late", shapes=((40, 70),))
    optimizer = ours("SGD")(there, offload=True)
    seen = []
    for i in range(7):
        optimizer.zero_grad()
        loss(there, i).backward()
        seen.append(copies["to_host"])
        torch.nn.utils.clip_grad_norm_(there, 1e-3)
        optimizer.step()
        copies.clear()
    assert seen == [0, 1, 0, 1, 0, 1, 0]


@pytest.mark.parametrize("place", range(len(SHAPES)))
def test_a_step_that_is_refused_moves_nothing(place: int) -> None:
    there = params("late")
    whole = torch.nn.Parameter(torch.ones(4, dtype=torch.int64).to("late"), requires_grad=False)
    there.insert(place, whole)
    optimizer = ours("AdamW")(there, offload=True)
    for p in there:
        p.grad = torch.ones_like(p)
    before = [p.cpu().clone() for p in there]
    for _ in range(2):
        with pytest.raises(RuntimeError, match="floating point"):
            optimizer.step()
        assert all(map(torch.equal, before, [p.cpu() for p in there]))
        assert not any(optimizer.state.values())
    whole.grad = None
    optimizer.step()
    assert not torch.equal(before[-1], there[-1].cpu())


def test_an_error_within_a_step_leaves_what_is_on_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    a, here, b, there = pair("AdamW")
    train(a, here, range(2))
    train(b, there, range(2))
    with monkeypatch.context() as patched:
        plans = [plan for part in b._parts.values() for plan in part._plans.values()]
        for kind in {type(executor) for plan in plans for executor in plan.executors}:
            patched.setattr(kind, "run", lambda self, *_: self.entries[0].p.fill_(7.0).item_that_is_not_there)
        with pytest.raises(AttributeError, match="not_there"):
            train(b, there, range(2, 3))
    train(a, here, range(2, 4))
    train(b, there, range(2, 4))
    assert_same(a, here, b, there)


def test_nothing_keeps_gradients_parameters_or_the_optimizer() -> None:
    there = params("late")
    optimizer: Any = ours("AdamW")(there, offload=True)
    for i in range(3):
        loss(there, i).backward()
        seen = [weakref.ref(p.grad) for p in there]
        optimizer.step()
        optimizer.zero_grad()
        assert not any(ref() is not None for ref in seen)
    for gone in (weakref.ref(there.pop()), weakref.ref(there.pop(0))):
        optimizer.param_groups[0]["params"] = list(there)
        optimizer.state.pop(gone(), None)
        loss(there).backward()
        optimizer.step()
        gc.collect()  # autograd's hooks are in a cycle
        assert gone() is None
    kept = [weakref.ref(known.param.host) for known in optimizer._offloading()._known.values()]
    assert len(kept) == len(there)
    first = weakref.ref(optimizer)
    del optimizer
    gc.collect()  # torch's hooks are in a cycle
    assert first() is None
    assert not any(ref() is not None for ref in kept)
    loss(there).backward()


def test_a_parameter_that_has_left_is_copied_no_more(copies: Counter[str]) -> None:
    there = params("late", shapes=((3,), (4,)))
    optimizer: Any = ours("SGD")(there, offload=True)
    train(optimizer, there, range(2))
    del optimizer.param_groups[0]["params"][0]
    optimizer.step()
    assert len(optimizer._offloading()._known) == 1
    copies.clear()
    loss(there).backward()
    assert copies == {"to_host": 1}
