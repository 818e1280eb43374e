"""Noisy SGD's noise: its mean, variance and independence, what it depends on and what it does not."""

from __future__ import annotations

import math

import numpy as np
import pytest

from scirs2_adapters import state
from scirs2_adapters.core import HostOptimizer, Lookahead, NoisySGD, Rule
from tests.reference import reference

#: One step of the noise alone, of variance 1.
PLAIN = NoisySGD(learning_rate=1.0, eta=1.0, gamma=0.0)
STEPS, SIZE, TENSORS = 6, 4000, 3


def noises(rule: Rule = PLAIN, steps: int = STEPS, dtype: str = "float64", **how: object) -> np.ndarray:
    """What each step adds to each of several tensors of one shape: (steps, tensors, elements)."""
    params = [np.zeros(SIZE, dtype) for _ in range(TENSORS)]
    optimizer, moves = HostOptimizer(rule, params, **how), []
    for _ in range(steps):
        before = [p.copy() for p in params]
        optimizer.step([np.zeros(SIZE, dtype) for _ in params])
        moves.append([old - p for old, p in zip(before, params, strict=True)])
    return np.array(moves, dtype=float)


def test_it_has_mean_0_variance_1_and_the_tails_of_normal_numbers() -> None:
    drawn = noises().ravel()
    near = 4 / math.sqrt(drawn.size)
    assert abs(np.mean(drawn)) < near
    assert abs(np.var(drawn) - 1) < near * math.sqrt(2)
    assert abs(np.mean(drawn**3)) < near * math.sqrt(15)
    assert abs(np.mean(drawn**4) - 2.9) < near * math.sqrt(96)
    assert np.max(np.abs(drawn)) < 6
    within = np.mean(np.abs(drawn[:, None]) < np.array([0.6745, 1.9600, 2.5758]), axis=0)
    assert np.allclose(within, [0.5, 0.95, 0.99], rtol=0, atol=2 * 0.0024 + near)


def test_steps_and_tensors_and_elements_are_independent() -> None:
    drawn = noises()
    walks = drawn.reshape(STEPS * TENSORS, SIZE)
    for each in (walks, walks**2):
        correlations = np.corrcoef(each) - np.eye(len(walks))
        assert np.max(np.abs(correlations)) < 5 / math.sqrt(SIZE)
    for lag in (1, 2, 64):
        together = np.mean(walks[:, lag:] * walks[:, :-lag])
        assert abs(together) < 4 / math.sqrt(walks.size)


def test_the_variance_falls_by_the_power_of_the_step() -> None:
    rule = NoisySGD(learning_rate=1.0, eta=0.3, gamma=0.55)
    deviations = np.sqrt(0.3 / np.arange(1, STEPS + 1) ** 0.55)
    assert np.allclose(noises(rule), deviations[:, None, None] * noises(), rtol=1e-12, atol=1e-14)


def test_without_variance_it_is_gradient_descent() -> None:
    params, gradient = [np.arange(5.0)], np.array([1.0, -2.0, 0.0, 4.0, 0.5])
    HostOptimizer(NoisySGD(learning_rate=0.5, eta=0.0), params).step([gradient])
    assert np.array_equal(params[0], np.arange(5.0) - 0.5 * gradient)


def test_another_seed_is_other_noise() -> None:
    assert abs(np.corrcoef(noises().ravel(), noises(PLAIN.replace(seed=1)).ravel())[0, 1]) < 5 / math.sqrt(
        STEPS * TENSORS * SIZE
    )


@pytest.mark.parametrize("how", [{"kernel": "traced"}, {"kernel": "host", "threads": 1}, {"kernel": "host"}], ids=str)
def test_every_path_has_the_same_noise(how: dict[str, object]) -> None:
    assert np.array_equal(noises(dtype="float32", **how), noises(dtype="float32"))


def test_a_tensor_without_a_gradient_and_a_wrapper_change_no_place() -> None:
    wanted = noises(steps=1)[0]
    params = {name: np.zeros(SIZE) for name in "abc"}
    HostOptimizer(PLAIN, params).step({"a": np.zeros(SIZE), "c": np.zeros(SIZE)})
    assert np.array_equal(-params["c"], wanted[2])
    assert np.array_equal(noises(Lookahead(base=PLAIN), steps=1)[0], wanted)


def test_a_run_that_goes_on_goes_on_with_its_noise(tmp_path: object) -> None:
    def begun() -> HostOptimizer:
        return HostOptimizer(NoisySGD(), {"a": np.ones(5), "b": np.ones((2, 3))})

    def step(optimizer: HostOptimizer) -> None:
        optimizer.step({k: np.ones_like(p) for k, p in optimizer.params.items()})

    whole, second = begun(), begun()
    step(whole)
    state.save(whole, f"{tmp_path}/state")
    for k, p in whole.params.items():
        second.params[k][...] = p
    state.load(f"{tmp_path}/state", second)
    for optimizer in (whole, second):
        step(optimizer)
    assert all(np.array_equal(p, second.params[k]) for k, p in whole.params.items())


def test_many_steps_walk_like_the_twin() -> None:
    rng = np.random.default_rng(0)
    start = [rng.standard_normal(shape) for shape in ((4, 3), (5,), ())]
    grads = [[rng.standard_normal(p.shape) for p in start] for _ in range(100)]
    hyper = {"learning_rate": 0.1, "eta": 0.5, "weight_decay": 0.1, "seed": 3}
    path, _ = reference("noisysgd")(start, grads, hyper=hyper)
    params = [p.copy() for p in start]
    optimizer = HostOptimizer(NoisySGD(**hyper), params)
    for gs, wanted in zip(grads, path, strict=True):
        optimizer.step(gs)
        assert all(np.allclose(p, x, rtol=0, atol=1e-13) for p, x in zip(params, wanted, strict=True))
