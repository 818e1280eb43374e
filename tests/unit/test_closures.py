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
from tests.unit.closure_support import Array, joined, logistic, model, rosenbrock

each_search = pytest.mark.parametrize("search", [None, "strong_wolfe"])
BASES: list[tuple[str, dict[str, Any]]] = [
    ("sgd", {"learning_rate": 0.01, "momentum": 0.9}),
    ("adamw", {"learning_rate": 0.01, "weight_decay": 0.1}),
    ("rmsprop", {"learning_rate": 0.01}),
]

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
    solution = scipy.optimize.minimize(loss, start, jac=True, method="L-BFGS-B", options={"ftol": 1e-15, "gtol": 1e-9})
    np.testing.assert_allclose(joined(params), solution.x, atol=1e-5)
    assert closure.calls < 3 * solution.nfev


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
        trial, made = drive(_wolfe.search(line, first, 1e-12, 60), loss)
        assert 1 <= made <= 60
        assert trial.loss <= value + 1e-4 * trial.t * slope
        assert abs(trial.slope) <= -0.9 * slope
        assert trial.loss == loss(x + trial.t * d)[0]


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
