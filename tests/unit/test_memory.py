"""`HostOptimizer.memory()`: what it says is what is allocated, before the first step as after it."""

from __future__ import annotations

import gc
import tracemalloc
from typing import Any

import numpy as np
import pytest

from scirs2_adapters import get, names
from scirs2_adapters.core import HostOptimizer, Memory
from scirs2_adapters.core.memory import Span, Stored, completed, occupied, report
from scirs2_adapters.core.program.recorded import record
from scirs2_adapters.core.slots import Leaf

ml_dtypes = pytest.importorskip("ml_dtypes")
each_name = pytest.mark.parametrize("name", names())
SHAPES = {"w": (96, 64), "b": (80,), "stack": (3, 32, 64), "empty": (0, 3)}
FORMATS: list[dict[str, Any]] = [{"state_dtype": x} for x in (None, "float64", "float32", "bfloat16", "int8")]
FORMATS += [{"state_dtype": x, "rounding": "compensated"} for x in (None, "bfloat16", "int8")]
FORMATS += [{"state_dtype": {"rounding_error": "int16"}, "rounding": "compensated"}]
FORMATS += [{"state_dtype": x, "rounding": "stochastic"} for x in (None, "int8")]


def made(name: str, shapes: dict[str, tuple[int, ...]] = SHAPES, **options: Any) -> HostOptimizer:
    rng = np.random.default_rng(0)
    dtype = ml_dtypes.bfloat16 if options.get("rounding") else np.float32
    rule = get(name)
    first = {k: 0.1 for k in ("d0", "s_init") if k in rule.fields_with()}  # 16 bits do not show smaller first steps
    return HostOptimizer(rule(**first), {k: rng.standard_normal(s).astype(dtype) for k, s in shapes.items()}, **options)


def step(optimizer: HostOptimizer) -> None:
    optimizer.step({k: np.ones(p.shape, p.dtype) for k, p in optimizer.params.items()})


def in_state(memory: Memory) -> int:
    return sum(sum(by_dtype.values()) for by_dtype in memory.state.values())


@each_name
@pytest.mark.parametrize("options", FORMATS, ids=str)
def test_the_report_is_what_is_allocated(name: str, options: dict[str, Any]) -> None:
    optimizer = made(name, kernel="traced", **options)  # nothing need be compiled for what depends on no path
    before = optimizer.memory()
    assert optimizer.state == {}
    assert before.temporaries == 0
    step(optimizer)
    after = optimizer.memory()
    assert (before.state, before.corrections) == (after.state, after.corrections)
    arrays = [(slot, x) for slots in optimizer.state.values() for slot, x in slots.items()]
    assert in_state(after) + after.corrections == sum(x.nbytes for _, x in arrays)
    assert {*after.state} == {slot for slot, _ in arrays} - {"rounding_error", "rounding_seed"}
    for slot, x in arrays:
        dtype = "bfloat16" if x.dtype == np.uint16 else x.dtype.name
        assert slot.startswith("rounding_") or dtype in after.state[slot]
    numbers = sum(p.size for p in optimizer.params.values())
    assert after.parameters == sum(p.nbytes for p in optimizer.params.values())
    assert (after.gradients, after.numbers) == (0, numbers)
    assert after.total == after.parameters + in_state(after) + after.corrections + after.temporaries
    assert after.bytes_per_parameter == after.total / numbers


@pytest.mark.usefixtures("frozen_heap")
@each_name
def test_temporaries_are_what_a_step_keeps_and_what_it_makes(name: str) -> None:
    """numpy tells tracemalloc of its arrays. Python's own objects, and numbers, are the few kilobytes besides."""
    shapes = {"w": (256, 512), "tall": (512, 128), "stack": (3, 64, 64)}
    step(made(name, shapes, kernel="host", threads=1))
    grads = {k: np.ones(s, np.float32) for k, s in shapes.items()}
    optimizer = made(name, shapes, kernel="host", threads=1)
    gc.collect()
    tracemalloc.start()
    try:
        for _ in range(2):
            optimizer.step(grads)
        gc.collect()
        ours = tracemalloc.DomainFilter(True, np.lib.tracemalloc_domain)
        kept = sum(x.size for x in tracemalloc.take_snapshot().filter_traces([ours]).traces)
        start, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        optimizer.step(grads)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    memory = optimizer.memory()
    assert memory.notes == ()
    measured = kept - in_state(memory) + peak - start
    small = 20_000 + 250 * len(record(optimizer.rule, Leaf((256, 512))).nodes)
    assert 0.98 * measured - small <= memory.temporaries <= 1.1 * measured + 100_000
    assert memory.temporaries >= kept - in_state(memory)


def test_what_numpys_operations_allocate_is_said_not_to_be_known() -> None:
    optimizer = made("adamw", kernel="traced")
    step(optimizer)
    assert optimizer.memory().temporaries == 0
    assert "not known" in str(optimizer.memory())


def test_slots_that_a_loaded_state_lacks_are_expected() -> None:
    optimizer, partial = made("adamw", state_dtype="int8"), made("adamw", state_dtype="int8")
    step(optimizer)
    saved = optimizer.state_dict()
    del saved["state"]["w"]["exp_avg"], saved["state"]["w"]["exp_avg_scale"], saved["state"]["b"]
    partial.load_state_dict(saved)
    assert partial.memory().state == optimizer.memory().state


def test_memory_that_is_shared_counts_once() -> None:
    whole = np.zeros(100, np.float32)
    params = {"a": whole[:50], "b": whole[50:], "strided": np.zeros((10, 2), np.float32)[:, 0]}
    memory = HostOptimizer("adamw", params).memory()
    assert (memory.parameters, memory.numbers) == (440, 110)
    lies = [Span(0, 0, 100, 100), Span(0, 50, 150, 100), Span(0, 0, 100, 100), Span(1, 0, 100, 100)]
    assert occupied(lies) == 250
    assert occupied([Span(0, 0, 4, 400), Span(0, 8, 8, 0)]) == 4
    assert occupied([]) == 0


def test_what_a_parameter_has_comes_before_what_is_expected() -> None:
    wide = Stored("m", "float32", 400)
    coded = [Stored("m", "int8", 100), Stored("m_scale", "float32", 4), Stored("v", "float32", 400)]
    assert completed([wide], coded) == [wide, coded[2]]
    assert completed([], coded) == coded


def test_the_table_is_readable_and_adds_up() -> None:
    shown = report(4000, 1000, 2000, [Stored("m", "int8", 1000), Stored("rounding_error", "int8", 500)], 8, "a note")
    assert str(shown).splitlines() == [
        "                            bytes  a parameter",
        "parameters                  4,000        4.000",
        "gradients                   2,000        2.000",
        "state m (int8)              1,000        1.000",
        "corrections                   500        0.500",
        "temporaries                     8        0.008",
        "total                       7,508        7.508",
        "a note",
    ]
    assert report(0, 0, 0, []).bytes_per_parameter == 0
