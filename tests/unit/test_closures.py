"""Optimizers that evaluate the model inside a step: against their slow twins, and where a model misbehaves."""

import math
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import scipy.optimize

from scirs2_adapters.core import LBFGS, SAM, ClosureOptimizer
from scirs2_adapters.core.closures import _wolfe
from scirs2_adapters.core.closures._search import NUMPY, drive
from tests.reference import lbfgs as lbfgs_twin
from tests.reference import sam as sam_twin

Array = np.ndarray
each_search = pytest.mark.parametrize("search", [None, "strong_wolfe"])
BASES: list[tuple[str, dict[str, Any]]] = [
    ("sgd", {"learning_rate": 0.01, "momentum": 0.9}),
    ("adamw", {"learning_rate": 0.01, "weight_decay": 0.1}),
    ("rmsprop", {"learning_rate": 0.01}),
]

rng = np.random.default_rng(0)
ROWS, LABELS = rng.normal(size=(60, 6)), (rng.normal(size=60) > 0) * 2.0 - 1.0


def logistic(w: Array) -> tuple[float, Array]:
    """A smooth convex loss: logistic regression with a little L2."""
    margins = LABELS * (ROWS @ w)
    slopes = -LABELS / (1 + np.exp(margins))
    return float(np.logaddexp(0, -margins).mean() + 0.05 * w @ w), ROWS.T @ slopes / len(ROWS) + 0.1 * w


def rosenbrock(w: Array) -> tuple[float, Array]:
    return float(scipy.optimize.rosen(w)), scipy.optimize.rosen_der(w)


def model(loss: Callable[[Array], tuple[float, Array]], start: Array) -> tuple[dict[str, Array], Callable[[], Any]]:
    """A parameter in two parts, and a closure over them."""
    params = {"a": start[:2].copy(), "b": start[2:].reshape(2, -1).copy()}

    def closure() -> tuple[float, dict[str, Array]]:
        closure.calls += 1  # type: ignore[attr-defined]
        value, g = loss(joined(params))
        return value, {"a": g[:2], "b": g[2:].reshape(2, -1)}

    closure.calls = 0  # type: ignore[attr-defined]
    return params, closure


def joined(params: dict[str, Array]) -> Array:
    return np.concatenate([params["a"], params["b"].ravel()])


# -- against the twins


@pytest.mark.parametrize("hyper", [{}, {"history_size": 2}, {"learning_rate": 0.5, "max_iter": 3}], ids=str)
def test_directions_are_those_of_the_matrix_written_out(hyper: dict[str, Any]) -> None:
    hyper = {"max_iter": 2, "learning_rate": 0.7, **hyper}
    start = np.linspace(-1, 1, 6)
    params, closure = model(logistic, start)
    exact = {"max_eval": 100, "tolerance_grad": 0.0, "tolerance_change": 0.0}
    optimizer = ClosureOptimizer(LBFGS(**hyper, **exact), params)
    for expected in lbfgs_twin.trajectory(start, logistic, 6, **hyper):
        optimizer.step(closure)
        np.testing.assert_allclose(joined(params), expected, rtol=1e-11, atol=1e-11)
    assert optimizer.memory["n_iter"] == optimizer.memory["func_evals"] == closure.calls == 6 * hyper["max_iter"]


@pytest.mark.parametrize("adaptive", [False, True])
@pytest.mark.parametrize(("base", "hyper"), BASES)
def test_the_base_steps_by_the_gradient_at_the_worst_point(base: str, hyper: dict[str, Any], adaptive: bool) -> None:
    start = np.linspace(-1, 1, 6)
    params, closure = model(logistic, start)

    def evaluate(ws: list[Array]) -> list[Array]:
        g = logistic(np.concatenate([w.ravel() for w in ws]))[1]
        return [g[:2], g[2:].reshape(2, -1)]

    optimizer = ClosureOptimizer(SAM(base, radius=0.3, adaptive=adaptive, **hyper), params)
    expected = sam_twin.trajectory(
        list(params.values()), evaluate, 12, base=base, radius=0.3, adaptive=adaptive, **hyper
    )
    for ws in expected:
        before = logistic(joined(params))[0]
        assert optimizer.step(closure) == before
        np.testing.assert_allclose(joined(params), np.concatenate([w.ravel() for w in ws]), rtol=1e-12, atol=1e-13)
    assert closure.calls == 24


@pytest.mark.parametrize("loss", [logistic, rosenbrock])
def test_the_minimum_is_scipys(loss: Callable[[Array], tuple[float, Array]]) -> None:
    start = np.full(6, 0.5)
    params, closure = model(loss, start)
    optimizer = ClosureOptimizer(LBFGS(line_search_fn="strong_wolfe", max_iter=100), params)
    optimizer.step(closure)
    found = scipy.optimize.minimize(loss, start, jac=True, method="L-BFGS-B", options={"ftol": 1e-15, "gtol": 1e-9})
    np.testing.assert_allclose(joined(params), found.x, atol=1e-5)
    assert closure.calls < 3 * found.nfev


def random_lines() -> Iterator[tuple[Callable[[Array], tuple[float, Array]], Array, Array, float]]:
    for seed in range(40):
        r = np.random.default_rng(seed)
        loss = (logistic, rosenbrock)[seed % 2]
        x = r.normal(size=6)
        yield loss, x, -loss(x)[1] * 10.0 ** r.uniform(-3, 1), 10.0 ** r.uniform(-2, 1)


def test_step_lengths_satisfy_the_strong_wolfe_conditions() -> None:
    for loss, x, d, first in random_lines():
        value, g = loss(x)
        slope = float(g @ d)
        line = _wolfe.Line(NUMPY, x, d, _wolfe.Trial(0.0, value, g, slope))
        found, made = drive(_wolfe.search(line, first, 1e-12, 60), loss)
        assert 1 <= made <= 60
        assert found.loss <= value + 1e-4 * found.t * slope
        assert abs(found.slope) <= -0.9 * slope
        assert found.loss == loss(x + found.t * d)[0]


# -- models that misbehave


@each_search
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_gradient_that_is_not_finite_ends_the_step_where_it_is(bad: float, search: str | None) -> None:
    params = [np.ones(3)]
    optimizer = ClosureOptimizer(LBFGS(line_search_fn=search), params)
    assert optimizer.step(lambda: (1.0, [np.array([1.0, bad, 0.0])])) == 1.0
    np.testing.assert_array_equal(params[0], np.ones(3))
    assert optimizer.memory == {"func_evals": 1, "n_iter": 0}


@pytest.mark.parametrize("bad", [(math.nan, math.nan), (math.inf, math.nan), (math.nan, 1.0), (-math.inf, 1.0)])
def test_a_search_that_meets_no_finite_point_ends_where_it_began(bad: tuple[float, float]) -> None:
    params, calls = [np.ones(2)], []

    def closure() -> tuple[float, list[Array]]:
        calls.append(1)
        return (2.0, [np.ones(2)]) if (params[0] == 1).all() else (bad[0], [np.full(2, bad[1])])

    ClosureOptimizer(LBFGS(line_search_fn="strong_wolfe", max_eval=25), params).step(closure)
    np.testing.assert_array_equal(params[0], np.ones(2))
    assert len(calls) <= 26


def test_a_search_turns_back_from_where_the_loss_has_no_value() -> None:
    params = [np.array([0.5])]

    def closure() -> tuple[float, list[Array]]:  # x - log x, which has no value below 0
        x = float(params[0][0])
        return (x - math.log(x), [np.array([1 - 1 / x])]) if x > 0 else (math.nan, [np.array([math.nan])])

    rule = LBFGS(learning_rate=100.0, line_search_fn="strong_wolfe", max_eval=200)
    ClosureOptimizer(rule, params).step(closure)
    np.testing.assert_allclose(params[0], 1.0, atol=1e-4)


@each_search
def test_a_learning_rate_of_zero_moves_nothing(search: str | None) -> None:
    params, closure = model(logistic, np.linspace(-1, 1, 6))
    ClosureOptimizer(LBFGS(learning_rate=0.0, line_search_fn=search), params).step(closure)
    np.testing.assert_array_equal(joined(params), np.linspace(-1, 1, 6))


@pytest.mark.parametrize("rule", [LBFGS(line_search_fn="strong_wolfe", max_iter=3), SAM("adamw")], ids=str)
@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError, StopIteration])
def test_a_closure_that_raises_leaves_everything_as_it_was(rule: Any, error: type[BaseException]) -> None:
    params, closure = model(logistic, np.linspace(-1, 1, 6))
    optimizer = ClosureOptimizer(rule, params)
    optimizer.step(closure)
    before, memory, state = joined(params), dict(optimizer.memory), optimizer.state_dict()

    def broken() -> Any:
        if not (joined(params) == before).all():
            raise error
        return closure()

    with pytest.raises(RuntimeError if error is StopIteration else error):
        optimizer.step(broken)
    np.testing.assert_array_equal(joined(params), before)
    assert all(optimizer.memory[k] is memory[k] for k in memory)
    assert pickle.dumps(optimizer.state_dict()) == pickle.dumps(state)


def test_parameters_come_back_from_the_worst_point_to_the_very_bits() -> None:
    start = np.array([1e-30, 1.0, -0.0, 3e7, 1e-8], dtype=np.float32)
    params = [start.copy()]
    optimizer = ClosureOptimizer(SAM("sgd", radius=1e3, learning_rate=0.0), params)
    optimizer.step(lambda: (0.0, [np.ones(5, np.float32)]))
    assert params[0].tobytes() == start.tobytes()


def test_no_evaluations_beyond_max_eval_but_the_one_of_a_search_that_has_begun() -> None:
    for most in (1, 2, 5):
        params, closure = model(rosenbrock, np.full(6, -0.5))
        ClosureOptimizer(LBFGS(max_eval=most, max_iter=50), params).step(closure)
        assert closure.calls <= max(2, most)
        params, closure = model(rosenbrock, np.full(6, -0.5))
        ClosureOptimizer(LBFGS(max_eval=most, max_iter=50, line_search_fn="strong_wolfe"), params).step(closure)
        assert closure.calls <= most + 1


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
    assert [r.getMessage()[:45] for r in caplog.records] == ["L-BFGS stands still at a loss of 0.0: no step"]
    assert caplog.records[0].name == "scirs2_adapters"


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


# -- memory


def test_memory_of_another_size_is_refused_and_changes_nothing() -> None:
    params, closure = model(logistic, np.linspace(-1, 1, 6))
    saved = ClosureOptimizer(LBFGS(), params)
    saved.step(closure)
    other = ClosureOptimizer(LBFGS(), {"a": np.ones(2), "b": np.ones((2, 3))})
    with pytest.raises(ValueError, match=r"saved\['memory'\]\['old_dirs'\]=...\)` must be of 8 elements"):
        other.load_state_dict(saved.state_dict())
    with pytest.raises(TypeError, match="must be what `state_dict` returned"):
        other.load_state_dict({"rule": "lbfgs"})
    assert other.memory == {}


@pytest.mark.parametrize("rule", [LBFGS(max_iter=3), SAM("adamw", learning_rate=0.1)], ids=str)
def test_saved_memory_continues_the_trajectory(rule: Any) -> None:
    (one, first), (two, second) = (model(logistic, np.linspace(-1, 1, 6)) for _ in range(2))
    a, b = ClosureOptimizer(rule, one), ClosureOptimizer(rule, two)
    for _ in range(4):
        a.step(first)
    saved = pickle.loads(pickle.dumps(a.state_dict()))
    b.load_state_dict(saved)
    two["a"][...], two["b"][...] = one["a"], one["b"]
    for _ in range(4):
        a.step(first)
        b.step(second)
    np.testing.assert_array_equal(joined(one), joined(two))


def test_a_step_writes_into_no_vector_of_the_memory_it_was_given() -> None:
    params, closure = model(logistic, np.linspace(-1, 1, 6))
    optimizer = ClosureOptimizer(LBFGS(max_iter=3, history_size=2), params)
    for _ in range(3):
        optimizer.step(closure)
        held, copy = optimizer.memory, pickle.dumps(optimizer.memory)
        optimizer.step(closure)
        assert pickle.dumps(held) == copy


def test_the_history_is_bounded_and_may_be_shortened() -> None:
    params, closure = model(rosenbrock, np.full(6, -0.5))
    optimizer = ClosureOptimizer(LBFGS(history_size=4, line_search_fn="strong_wolfe"), params)
    optimizer.step(closure)
    assert [len(optimizer.memory[k]) for k in ("old_dirs", "old_stps", "ro", "al")] == [4, 4, 4, 4]
    saved, optimizer = optimizer.memory, ClosureOptimizer(LBFGS(history_size=1, max_iter=2), params)
    optimizer.memory = saved
    optimizer.step(closure)
    assert [len(optimizer.memory[k]) for k in ("old_dirs", "old_stps", "ro", "al")] == [1, 1, 1, 1]
