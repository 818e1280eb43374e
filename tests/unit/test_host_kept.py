"""What optimizers of numpy arrays keep between two steps: memory, and nothing of the caller's but his dict."""

from __future__ import annotations

import gc
import tracemalloc
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from scirs2_adapters.core import ClosureOptimizer, HostOptimizer, get, names

RULES = [name for name in names() if not get(name).needs_closure]
OPTIONS: list[dict[str, Any]] = [
    {},
    {"kernel": "traced"},
    {"skip_nonfinite": True},
    {"state_dtype": "bfloat16"},
    {"state_dtype": "int8"},
    {"state_dtype": "int8", "kernel": "traced"},
]
Params = dict[str, np.ndarray]


@pytest.fixture(autouse=True)
def by_counting_alone() -> Iterator[None]:
    """No collector comes to the aid: memory is free when the last reference goes."""
    gc.disable()
    yield
    gc.enable()


def arrays(seed: int) -> Params:
    """Matrices, one of them large enough for codes and one whose numbers lie in another order."""
    rng = np.random.default_rng(seed)
    made = {"a": (80, 64), "b": (6, 4), "c": (64, 80), "d": (5,)}
    drawn = {k: rng.standard_normal(shape, dtype=np.float32) for k, shape in made.items()}
    return drawn | {"c": np.asfortranarray(drawn["c"])}


def alive(refs: list[weakref.ref[Any]]) -> int:
    return sum(ref() is not None for ref in refs)


def optimizer_of(name: str, options: dict[str, Any], params: Params) -> HostOptimizer:
    return HostOptimizer(get(name)(match=None) if name == "muon" else name, params, **options)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("name", RULES)
def test_gradients_die_when_the_caller_drops_them(name: str, options: dict[str, Any]) -> None:
    optimizer = optimizer_of(name, options, arrays(0))
    for step in range(3):
        grads = arrays(step)
        if step == 1:
            grads["b"] = grads["b"].astype(np.float64)
        refs = [weakref.ref(g) for g in grads.values()]
        optimizer.step(grads)
        assert alive(refs) == 4
        del grads
        assert alive(refs) == 0


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("name", RULES)
def test_arrays_that_are_replaced_or_taken_out_die_after_the_next_step(name: str, options: dict[str, Any]) -> None:
    params = arrays(0)
    optimizer = optimizer_of(name, options, params)
    optimizer.step(arrays(1))
    refs = [weakref.ref(params.pop("a")), weakref.ref(params["b"]), weakref.ref(params["d"])]
    params["b"], params["d"] = params["b"] * 2, params["d"] * 2
    grads = arrays(2)
    optimizer.step({"c": grads["c"], "d": grads["d"]})  # of `b` nothing is asked in this step
    assert alive(refs) == 0
    params["b"] = params["c"][:6, :4]
    with pytest.raises(ValueError, match="must not share memory"):
        optimizer.step({"b": grads["b"]})


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("name", RULES)
def test_what_stays_allocated_is_the_state(name: str, options: dict[str, Any]) -> None:
    params = arrays(0)
    optimizer_of(name, options, arrays(3)).step(arrays(1))  # what is compiled, recorded and imported stays
    grads = arrays(1)
    tracemalloc.start()
    try:
        optimizer = optimizer_of(name, options, params)
        for _ in range(2):
            optimizer.step(grads)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    state = sum(x.nbytes for slots in optimizer.state.values() for x in slots.values())
    assert state <= kept <= state + 40_000  # of objects, where the smallest large array has 5,120 numbers


def test_an_optimizer_that_is_dropped_frees_its_memory_and_keeps_no_parameter() -> None:
    for name in RULES:
        params = arrays(0)
        optimizer = optimizer_of(name, {}, params)
        optimizer.step(arrays(1))
        refs = [weakref.ref(x) for slots in optimizer.state.values() for x in slots.values()]
        refs += [weakref.ref(p) for p in params.values()]
        del optimizer, params
        assert alive(refs) == 0, name


@pytest.mark.parametrize("rule", ["lbfgs", "sam"])
def test_gradients_of_a_closure_die_before_the_next_call(rule: str) -> None:
    params = {k: x.astype(np.float64) for k, x in arrays(0).items()}
    optimizer, refs, calls = ClosureOptimizer(rule, params), list[weakref.ref[Any]](), [0]

    def closure() -> tuple[float, Params]:
        assert alive(refs) == 0
        calls[0] += 1
        grads = {k: 2 * x for k, x in params.items()}
        refs[:] = [weakref.ref(g) for g in grads.values()]
        return float(sum(np.vdot(x, x) for x in params.values())), grads

    for _ in range(2):
        optimizer.step(closure)
        assert alive(refs) == 0
    assert calls[0] >= 3
