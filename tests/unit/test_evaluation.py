"""What is evaluated where that is not what is trained: a formula beside `update`, in numpy."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

import scirs2_adapters as s2
from scirs2_adapters.core import HostOptimizer, Rule, evaluation_params, get
from scirs2_adapters.core.ops import HOST_SCALARS

AVERAGING = [name for name in s2.names() if get(name).evaluation is not None]
RNG = np.random.default_rng(0)
START, GRADS = RNG.normal(size=(4, 3)), RNG.normal(0.3, size=(30, 4, 3))


def test_there_is_something_to_test() -> None:
    assert "schedulefreeadamw" in AVERAGING
    assert "adamw" not in AVERAGING


@pytest.mark.parametrize(
    "options",
    [{}, {"warmup_steps": 7}, {"r": 1.5}, {"weight_lr_power": 0.0}, {"weight_lr_power": 0.0, "r": 2.0}],
    ids=lambda v: "-".join(v) or "plain",
)
def test_a_schedule_free_average_is_the_weighted_mean_of_the_base_sequence(options: dict[str, Any]) -> None:
    """By the definition: every z is kept, with its weight, and averaged in the end. The learning rate rises and falls,
    and is 0 at first.
    """
    params, rates = {"w": START.copy()}, [0.0, 0.0, *np.linspace(0.02, 0.08, 12), *np.linspace(0.08, 0.01, 16)]
    optimizer, zs, weights, largest = HostOptimizer(get("schedulefreeadamw")(**options), params), [], [], 0.0
    for t, (g, rate) in enumerate(zip(GRADS, rates, strict=True), 1):
        optimizer.replace(learning_rate=float(rate))
        optimizer.step({"w": g})
        largest = max(largest, rate * min(1.0, t / max(1, options.get("warmup_steps", 0))))
        zs.append(optimizer.state["w"]["z"].copy())
        weights.append(t ** options.get("r", 0.0) * largest ** options.get("weight_lr_power", 2.0))
        total = sum(weights)
        mean = sum(w * z for w, z in zip(weights, zs, strict=True)) / total if total else START
        np.testing.assert_allclose(evaluation_params(optimizer)["w"], mean, rtol=0, atol=1e-13)
    assert not np.allclose(params["w"], evaluation_params(optimizer)["w"], atol=1e-3)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("name", AVERAGING)
def test_training_does_not_see_an_evaluation(name: str, dtype: type) -> None:
    watched, alone = ({"w": START.astype(dtype), "b": np.ones(2, dtype)} for _ in range(2))
    optimizers = [HostOptimizer(get(name)(learning_rate=0.05), params) for params in (watched, alone)]
    for g in GRADS:
        for optimizer in optimizers:
            optimizer.step({"w": g.astype(dtype)})
        evaluated = evaluation_params(optimizers[0])
        assert evaluated["w"].dtype == dtype
        assert evaluated["b"] is not watched["b"], "what has not been stepped is a copy too"
        np.testing.assert_array_equal(evaluated["b"], watched["b"])
    np.testing.assert_array_equal(watched["w"], alone["w"])
    assert np.any(evaluated["w"] != watched["w"])


def test_other_optimizers_are_evaluated_as_they_are_trained() -> None:
    params = [START.copy()]
    optimizer = HostOptimizer("adamw", params)
    optimizer.step([GRADS[0]])
    evaluated = evaluation_params(optimizer)
    assert evaluated[0] is not params[0]
    np.testing.assert_array_equal(evaluated[0], params[0])


@pytest.mark.parametrize("name", AVERAGING)
def test_its_coefficients_are_those_of_the_rule(name: str) -> None:
    rule = get(name)()
    assert {s.name for s in rule.roles("evaluation")[0]} <= {s.name for s in rule.all_slots()}
    assert set(rule.needs("evaluation").values()) <= set(rule.scalars(HOST_SCALARS, 1))


def test_a_slot_that_update_does_not_have_is_refused() -> None:
    with pytest.raises(TypeError, match=r"Lost\.evaluation\(average: .*a slot of `update`.*There are: exp_avg"):

        class Lost(Rule):
            """Sum of gradients."""

            def coefficients(self, math: object, t: int) -> dict[str, float]:
                return {}

            def update(self, xp, p, g, exp_avg, /, learning_rate):  # type: ignore[no-untyped-def]
                return learning_rate * g, exp_avg + g

            def evaluation(self, xp, p, average, /):  # type: ignore[no-untyped-def]
                return average
