"""`optimizer.memory()`: what it says is what is allocated, before the first step as after it."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch.testing._internal.distributed.fake_pg import FakeStore

from scirs2_adapters import torch as adapter
from scirs2_adapters.core.memory import OPERATIONS, PARTS

from .torch_support import EVERY, Optimizer, each_path, each_variant, learned, ours, params_of, walk

FORMATS: list[dict[str, Any]] = [{"state_dtype": x} for x in (None, "float64", "float32", "bfloat16", "int8")]
FORMATS += [{"state_dtype": x, "rounding": "compensated"} for x in (None, "bfloat16", "int8")]
FORMATS += [{"state_dtype": {"rounding_error": "int16"}, "rounding": "compensated"}]
FORMATS += [{"state_dtype": x, "rounding": "stochastic"} for x in (None, "int8")]
SHAPES = ((96, 64), (80,), (8, 16, 3, 3), (), (0, 3))


def parameters(options: dict[str, Any], device: str = "cpu") -> list[torch.nn.Parameter]:
    dtype = torch.bfloat16 if options.get("rounding") else torch.float32
    return [torch.nn.Parameter(torch.ones(s, dtype=dtype, device=device)) for s in SHAPES]


def tensors(value: object) -> list[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return [value]
    values = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [x for each in values for x in tensors(each)]


def in_state(memory: Any) -> int:
    return sum(sum(by_dtype.values()) for by_dtype in memory.state.values()) + memory.corrections


def check(optimizer: Any, steps: int = 2) -> Any:
    """Steps; what was said of the state before is true after it. Returns the report after it."""
    before = optimizer.memory()
    assert not optimizer.state
    walk(optimizer, steps=steps)
    after = optimizer.memory()
    assert (before.state, before.corrections) == (after.state, after.corrections)
    held = [tensors(x) for x in optimizer.state.values()]
    assert in_state(after) == sum(x.nbytes for each in held for x in each)
    assert after.parameters == sum(p.nbytes for p in params_of(optimizer))
    assert after.total == sum((after.parameters, after.gradients, in_state(after), after.temporaries))
    assert after.bytes_per_parameter == after.total / after.numbers
    return after


@pytest.mark.parametrize("options", FORMATS, ids=str)
@pytest.mark.parametrize("name", EVERY)
def test_the_report_is_what_is_allocated(name: str, options: dict[str, Any]) -> None:
    if name == "SparseAdam" and ("rounding" in options or options["state_dtype"] == "int8"):
        options = {"state_dtype": "bfloat16"}  # it cannot have codes
    params = parameters(options)[: 2 if name == "SparseAdam" else None]
    optimizer = ours(name)(params, kernel="traced", **learned(name), **options)  # nothing depends on the path
    memory = check(optimizer)
    names = {slot for held in optimizer.state.values() for slot in held}
    assert {*memory.state} == names - {"rounding_error", "rounding_seed"}
    for held in optimizer.state.values():
        for slot in memory.state.keys() & held.keys():
            assert str(held[slot].dtype).removeprefix("torch.") in memory.state[slot]
    assert memory.gradients == sum(p.grad.nbytes for p in params if not p.grad.is_sparse) or name == "SparseAdam"
    meta = ours(name)(parameters(options, "meta")[: len(params)], **learned(name), **options).memory()
    assert (meta.parameters, meta.state, meta.corrections) == (memory.parameters, memory.state, memory.corrections)


@each_variant
def test_every_structure_of_a_formula(name: str, options: dict[str, Any]) -> None:
    check(ours(name)(parameters({}), **options))


@pytest.mark.parametrize("name", ["SGD", "AdamW", "Adam", "Rprop", "ASGD", "RMSprop"])
def test_complex_parameters(name: str) -> None:
    options = {"amsgrad": True} if name == "Adam" else {"momentum": 0.9} if name in ("SGD", "RMSprop") else {}
    params = [torch.nn.Parameter(torch.ones(80, 80, dtype=torch.complex64))]
    optimizer = ours(name)(params, state_dtype="int8", **options)
    assert "complex64" in next(iter(set(map(tuple, check(optimizer).state.values())) - {("float32",)}))


def test_groups_have_formats_of_their_own() -> None:
    a, b, c = (torch.nn.Parameter(torch.ones(80, 80, dtype=torch.bfloat16)) for _ in range(3))
    groups = [{"params": [a], "state_dtype": "int8", "rounding": "compensated"}, {"params": [b]}]
    optimizer = adapter.AdamW([*groups, {"params": [c], "state_dtype": "float32", "amsgrad": True}])
    memory = check(optimizer)
    n = 6400
    assert memory.state["exp_avg"] == {"int8": n, "bfloat16": 2 * n, "float32": 4 * n}
    assert memory.state["exp_avg_scale"] == {"float32": 4 * n // 256}
    assert memory.state["max_exp_avg_sq"] == {"float32": 4 * n}
    assert memory.corrections == n


def test_muon_and_what_it_leaves_to_adamw() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(80, 64), torch.nn.LayerNorm(64), torch.nn.Linear(64, 80))
    memory = check(adapter.Muon(model.named_parameters(), match=None))
    vectors = sum(p.numel() for p in model.parameters() if p.ndim < 2)
    assert memory.state["momentum_buffer"] == {"float32": 4 * (memory.numbers - vectors)}
    assert memory.state["exp_avg"] == memory.state["exp_avg_sq"] == {"float32": 4 * vectors}


def test_what_has_no_gradient_yet_is_expected_and_what_will_never_have_one_is_not() -> None:
    stepped, later, frozen = (torch.nn.Parameter(torch.ones(5)) for _ in range(3))
    frozen.requires_grad_(False)
    optimizer = adapter.AdamW([stepped, later, frozen])
    before = optimizer.memory()
    stepped.grad = torch.ones(5)
    optimizer.step()
    assert (
        optimizer.memory().state
        == before.state
        == {
            "step": {"float32": 8},
            "exp_avg": {"float32": 40},
            "exp_avg_sq": {"float32": 40},
        }
    )
    assert (before.parameters, before.numbers) == (60, 15)
    assert len(optimizer.state) == 1


def test_memory_that_is_shared_counts_once() -> None:
    flat = torch.zeros(100)
    first, second = (torch.nn.Parameter(x) for x in flat.split(50))
    again = torch.nn.Parameter(flat[:50])
    optimizer = adapter.SGD([first, second, again])
    first.grad = torch.ones(()).expand(50)
    second.grad = torch.ones(50)
    assert (optimizer.memory().parameters, optimizer.memory().gradients) == (400, 204)


def test_sparse_gradients_are_their_indices_and_values() -> None:
    embedding = torch.nn.Embedding(100, 8, sparse=True)
    optimizer = adapter.SGD(embedding.parameters())
    embedding(torch.tensor([1, 5])).sum().backward()
    assert optimizer.memory().gradients == 2 * 8 + 2 * 8 * 4


def test_sam_keeps_a_copy_of_the_parameters() -> None:
    params = parameters({})
    optimizer = adapter.SAM(params, base="adamw", state_dtype="int8")
    usual = ours("AdamW")(parameters({}), state_dtype="int8").memory()
    before = optimizer.memory()
    optimizer.step(lambda: (optimizer.zero_grad(), sum(p.sum() for p in params).backward()))
    assert optimizer.memory().state == before.state == usual.state
    assert before.temporaries == usual.parameters
    assert any("copy of the parameters" in note for note in before.notes)


@pytest.mark.parametrize("search", [None, "strong_wolfe"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.complex64])
def test_lbfgs_with_all_of_its_pairs(dtype: torch.dtype, search: str | None) -> None:
    torch.manual_seed(0)
    p = torch.nn.Parameter(torch.randn(20, dtype=dtype))
    scale = torch.linspace(1, 2, 20)
    optimizer = adapter.LBFGS([p], lr=0.05, history_size=3, max_iter=3, line_search_fn=search)
    before = optimizer.memory()

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = (scale * (p.abs() if p.is_complex() else p).pow(2)).sum()
        loss.backward()
        return loss

    for _ in range(4):
        optimizer.step(closure)
    assert len(optimizer.state[p]["old_dirs"]) == 3
    assert optimizer.memory().state == before.state
    assert in_state(before) == sum(x.nbytes for x in tensors(dict(optimizer.state[p])))
    assert any("3 pairs" in note for note in before.notes)


def test_released_gradients_are_gone_and_what_they_are_stepped_with_is_there() -> None:
    model = torch.nn.Linear(64, 64)
    optimizer = adapter.AdamW(model.parameters())
    before = optimizer.memory()
    with optimizer.release_gradients():
        model(torch.ones(2, 64)).sum().backward()
    after = optimizer.memory()
    assert (after.gradients, after.state) == (0, before.state)
    assert before.temporaries == 0 < after.temporaries


@pytest.mark.parametrize("name", ["AdamW", "LAMB", "Adafactor", "Muon"])
def test_temporaries_are_what_plans_keep_at_least(name: str) -> None:
    """numpy tells tracemalloc of its arrays; torch's tensors are not among them."""
    optimizer = ours(name)(parameters({}))
    walk(ours(name)(parameters({})), steps=2)  # compiles
    tracemalloc.start()
    try:
        walk(optimizer, steps=2)
        ours_only = tracemalloc.DomainFilter(True, np.lib.tracemalloc_domain)
        kept = sum(x.size for x in tracemalloc.take_snapshot().filter_traces([ours_only]).traces)
    finally:
        tracemalloc.stop()
    assert 0 < kept <= optimizer.memory().temporaries


@each_path
def test_only_the_kernel_knows_what_a_step_allocates(kernel: str) -> None:
    optimizer = adapter.AdamW(parameters({}), kernel=kernel)
    assert (OPERATIONS in check(optimizer).notes) == (kernel == "traced")


@pytest.fixture
def two_ranks() -> Iterator[Any]:
    """A process that takes itself for the first of two."""
    from torch.distributed.device_mesh import init_device_mesh

    torch.distributed.init_process_group("fake", rank=0, world_size=2, store=FakeStore())
    try:
        yield init_device_mesh("cpu", (2,))
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.parametrize("name", ["AdamW", "Adafactor", "Muon"])
def test_of_divided_parameters_the_part_here_counts(name: str, two_ranks: Any) -> None:
    from torch.distributed.tensor import Shard, distribute_tensor

    p = torch.nn.Parameter(distribute_tensor(torch.ones(256, 128), two_ranks, [Shard(0)]))
    optimizer: Optimizer = ours(name)([p])
    before = optimizer.memory()
    assert (before.parameters, before.numbers) == (128 * 128 * 4, 128 * 128)
    assert PARTS in before.notes
    p.grad = torch.ones_like(p)
    assert optimizer.memory().gradients == 128 * 128 * 4
    optimizer.step()
    after = optimizer.memory()
    assert after.state == before.state
    local = [getattr(x, "_local_tensor", x) for x in optimizer.state[p].values()]
    assert in_state(after) == sum(x.nbytes for x in local)
