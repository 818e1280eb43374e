"""Optimizers that evaluate the model: where the loss hides its minimum or has no value, among the caller's arrays."""

import math
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from scirs2_adapters.core import LBFGS, SAM, ClosureOptimizer
from tests.unit.closure_support import Array, joined, logistic, model, rosenbrock

each_search = pytest.mark.parametrize("search", [None, "strong_wolfe"])

# -- where the loss says nothing, or has no value


def rounded(loss: Callable[[Array], tuple[float, Array]], constant: float) -> Callable[[Array], tuple[float, Array]]:
    """The loss as a float32 has it that is as large as the constant."""

    def evaluate(w: Array) -> tuple[float, Array]:
        value, g = loss(w.astype(np.float64))
        return float(np.float32(np.float32(value) + np.float32(constant))), g.astype(np.float32)

    return evaluate


@pytest.mark.parametrize("loss", [logistic, rosenbrock])
@pytest.mark.parametrize("constant", [0.0, 1e3, 1e6])
def test_a_large_loss_hides_no_minimum(loss: Any, constant: float) -> None:
    params, closure = model(rounded(loss, constant), np.full(6, 0.5, dtype=np.float32))
    exact = {"tolerance_change": 0.0, "tolerance_grad": 1e-5 if loss is logistic else 1e-3}
    optimizer = ClosureOptimizer(LBFGS(line_search_fn="strong_wolfe", **exact), params)
    for _ in range(40):
        optimizer.step(closure)
    assert np.abs(loss(joined(params).astype(np.float64))[1]).max() <= exact["tolerance_grad"]
    assert closure.calls < 150


def test_pairs_that_lead_nowhere_are_dropped() -> None:
    params, closure = model(logistic, np.full(6, 0.5))
    optimizer = ClosureOptimizer(LBFGS(line_search_fn="strong_wolfe", max_iter=4), params)
    optimizer.step(closure)
    before = logistic(joined(params))[0]
    pair = np.eye(6)[0]
    optimizer.memory.update(old_dirs=[pair], old_stps=[pair], ro=[1.0], H_diag=-1.0, d=0 * pair)  # leads up
    optimizer.step(closure)
    assert logistic(joined(params))[0] < before
    assert not any(y is pair for y in optimizer.memory["old_dirs"])


def test_a_step_that_finds_no_way_down_ends_and_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    params, closure = model(lambda w: (float(np.sum(w != 1.0)), np.ones_like(w)), np.ones(6))  # the gradient is wrong
    optimizer = ClosureOptimizer(LBFGS(line_search_fn="strong_wolfe"), params)
    for _ in range(3):
        assert optimizer.step(closure) == 0.0
    assert (joined(params) == 1).all()
    assert [r.getMessage()[8:53] for r in caplog.records] == ["L-BFGS stands still at a loss of 0.0: no step"]
    assert caplog.records[0].name == "scirs2"


def overflowing(w: Array) -> tuple[float, Array]:
    """A parabola that has no value far away."""
    with np.errstate(over="ignore", invalid="ignore"):
        return (float(w @ w), 2 * w) if np.abs(w).max() < 10 else (np.inf, w * np.nan)


@pytest.mark.parametrize("max_iter", [1, 2, 20])
@each_search
def test_no_step_ends_off_the_finite_points(search: str | None, max_iter: int) -> None:
    params, closure = model(overflowing, np.full(6, 9.0))
    optimizer = ClosureOptimizer(LBFGS(learning_rate=1e9, max_iter=max_iter, line_search_fn=search), params)
    for _ in range(4):
        optimizer.step(closure)
    optimizer.rule = optimizer.rule.replace(learning_rate=1e-2)
    for _ in range(3):
        optimizer.step(closure)
        if max_iter > 1 or search:
            assert np.isfinite(overflowing(joined(params))[0])
    assert np.abs(joined(params)).max() < 9


def test_data_without_a_value_move_nothing_and_leave_the_pairs() -> None:
    params, closure = model(logistic, np.full(6, 0.5))
    optimizer = ClosureOptimizer(LBFGS(max_iter=3), params)
    for _ in range(2):
        optimizer.step(closure)
    before, pairs = joined(params), optimizer.memory["old_dirs"]
    assert math.isnan(optimizer.step(lambda: (math.nan, {k: p * math.nan for k, p in params.items()})))
    np.testing.assert_array_equal(joined(params), before)
    assert optimizer.memory["old_dirs"] == pairs


@pytest.mark.parametrize("rule", [LBFGS(max_iter=3), LBFGS(line_search_fn="strong_wolfe"), SAM("adamw")], ids=str)
@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_a_step_at_a_gradient_without_a_value_is_left_out_and_counted(rule: Any, value: float) -> None:
    params, closure = model(logistic, np.full(6, 0.5))
    optimizer = ClosureOptimizer(rule, params, skip_nonfinite=True)
    optimizer.step(closure)
    before, kept = joined(params), optimizer.state_dict()

    def broken() -> Any:
        loss, grads = closure()
        grads["a"][0] = value
        return loss, grads

    for _ in range(2):
        optimizer.step(broken)
    np.testing.assert_array_equal(joined(params), before)
    assert optimizer.skipped_steps == 2
    after = optimizer.state_dict()
    assert after["base"].pop("skipped_steps") - kept["base"].pop("skipped_steps") == 2
    assert pickle.dumps(after) == pickle.dumps(kept)
    optimizer.step(closure)
    assert logistic(joined(params))[0] <= logistic(before)[0]


def test_without_the_option_a_worst_point_without_a_value_is_stepped_to() -> None:
    params = [np.ones(2)]
    optimizer = ClosureOptimizer(SAM("sgd"), params)
    optimizer.step(lambda: (0.0, [np.array([np.nan, 1.0])]))
    assert np.isnan(params[0]).any()
    assert optimizer.skipped_steps == 0


# -- the caller's arrays


@pytest.mark.parametrize("rule", [LBFGS(max_iter=3), SAM("adamw", learning_rate=0.1)], ids=str)
def test_an_array_that_takes_anothers_place_is_stepped_from_then_on(rule: Any) -> None:
    (one, first), (two, second) = (model(logistic, np.linspace(-1, 1, 6)) for _ in range(2))
    a, b = ClosureOptimizer(rule, one), ClosureOptimizer(rule, two)
    for _ in range(4):
        a.step(first)
        b.step(second)
        one["a"] = np.clip(one["a"], -0.5, 0.5)
        np.clip(two["a"], -0.5, 0.5, out=two["a"])
    np.testing.assert_array_equal(joined(one), joined(two))


def test_a_closure_that_exchanges_arrays_is_refused() -> None:
    params, closure = model(logistic, np.linspace(-1, 1, 6))
    was = params["a"]
    optimizer = ClosureOptimizer(LBFGS(max_iter=3), params)

    def exchanging() -> Any:
        params["a"] = params["a"].copy()
        return closure()

    with pytest.raises(
        ValueError, match=r"step\(closure=...\)` must leave each parameter the array that it is.*for 'a'"
    ):
        optimizer.step(exchanging)
    np.testing.assert_array_equal(was, np.linspace(-1, 1, 6)[:2])
