"""Fitted estimators in `scirs2_adapters.state`: a warm start goes on with the memory of a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from scirs2_adapters import state
from scirs2_adapters.core import HostOptimizer
from scirs2_adapters.sklearn import LinearRegressor, MLPRegressor

X = np.random.default_rng(0).normal(size=(20, 3))
Y = X @ [1.0, 2.0, 3.0]


def fitted(epochs: int = 2) -> MLPRegressor:
    estimator = MLPRegressor(hidden_layer_sizes=(4,), optimizer="adamw", random_state=0)
    for _ in range(epochs):
        estimator.partial_fit(X, Y)
    return estimator


def test_training_goes_on_as_if_nothing_had_been(tmp_path: Path) -> None:
    was, new = fitted(), fitted(1)
    state.save(was, tmp_path / "s")
    new.partial_fit(X, Y)  # the same weights as `was`, and then its memory in another's place
    new.optimizer_._host.state["coefs_.0"]["exp_avg"][...] = 7
    state.load(tmp_path / "s", new)
    assert new.optimizer_.steps == was.optimizer_.steps
    for estimator in (was, new):
        estimator.partial_fit(X, Y)
    assert all(np.array_equal(a, b) for a, b in zip(was.coefs_, new.coefs_, strict=True))


def test_a_network_s_memory_goes_to_other_layouts(tmp_path: Path) -> None:
    was = fitted()
    state.save(was, tmp_path / "s")
    names = {"coefs_.0": "a", "coefs_.1": "b", "intercepts_.0": "c", "intercepts_.1": "d"}
    shapes = {"a": (4, 3), "b": (1, 4), "c": (4,), "d": (1,)}
    host = HostOptimizer("adamw", {name: np.ones(shape) for name, shape in shapes.items()})
    state.load(tmp_path / "s", host, rename=names)
    saved = was.optimizer_.state_dict()["state"]["coefs_.0"]["exp_avg"]
    assert np.array_equal(host.state["a"]["exp_avg"], saved.T)


def test_what_was_not_fitted_with_an_optimizer_of_ours_is_refused(tmp_path: Path) -> None:
    from sklearn.linear_model import LinearRegression

    for estimator in (LinearRegression().fit(X, Y), LinearRegressor("lion")):
        with pytest.raises(TypeError, match="fitted with an optimizer of ours"):
            state.save(estimator, tmp_path / "s")
    linear = LinearRegressor("lion").partial_fit(X, Y)
    state.save(linear, tmp_path / "s")
    with pytest.raises(ValueError, match="must hold the state of adamw"):
        state.load(tmp_path / "s", fitted())
