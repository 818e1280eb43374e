"""`monitor` on estimators: the steps of their fits, one fit after the other, and no bit changed."""

from __future__ import annotations

import gc
import pickle
import warnings
import weakref
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPRegressor

import scirs2_adapters as s2
from scirs2_adapters import monitor
from scirs2_adapters import sklearn as adapter

X = np.random.default_rng(0).normal(size=(60, 3))
Y = X @ [1.0, -2.0, 0.5]


def network(name: Any = "adamw", **params: Any) -> Any:
    return adapter.MLPRegressor(
        hidden_layer_sizes=(4,), optimizer=name, max_iter=2, batch_size=20, random_state=0, **params
    )


def fit(estimator: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return estimator.fit(X, Y)


def numbers(estimator: Any) -> list[np.ndarray]:
    return estimator.coefs_ + estimator.intercepts_ if hasattr(estimator, "coefs_") else [estimator.coef_]


@pytest.mark.parametrize("name", [n for n in s2.names() if s2.get(n).sparse != "rows"])
def test_it_changes_no_bit(name: str) -> None:
    plain, watched = fit(network(name)), network(name)
    with monitor(watched, every=2) as watching:
        fit(watched)
    for a, b in zip(numbers(watched), numbers(plain), strict=True):
        np.testing.assert_array_equal(a, b)
    assert [r.step for r in watching.records] == [2, 4, 6]
    assert watching.records[-1].state_bytes == plain.optimizer_.memory().state_bytes
    assert watching.records[0].optimizer == s2.get(name).__name__


@pytest.mark.parametrize("kind", [adapter.LinearRegressor, adapter.MLPRegressor])
def test_the_numbers_are_those_of_the_step(kind: Any) -> None:
    estimator = kind(optimizer=s2.get("sgd")(learning_rate=2.0**-7))
    seen: list[float] = []
    watching = monitor(estimator, every=1, to=lambda record: seen.append(record.update_norm))
    for _ in range(2):
        estimator.partial_fit(X, Y)
    assert len(seen) >= 2
    for record in watching.records:
        assert record.groups[0].learning_rate == 2.0**-7
        assert record.update_norm == pytest.approx(2.0**-7 * record.gradient_norm, rel=1e-9)
        assert record.gradient_norm > 0


def test_later_fits_are_seen_until_it_is_removed() -> None:
    estimator = network()
    watching = monitor(estimator, every=1)
    fit(estimator)
    fit(estimator)
    assert watching.steps == 12
    watching.remove()
    stepper = estimator.optimizer_
    assert not {"step", "step_columns"} & vars(stepper).keys()
    fit(estimator)
    assert watching.steps == 12


def test_one_that_is_fitted_and_goes_on_is_watched() -> None:
    estimator = network().partial_fit(X, Y)
    with monitor(estimator, every=1) as watching:
        estimator.partial_fit(X, Y)
    assert watching.steps == len(watching.records) == 3


def test_copies_are_not_watched_and_nothing_is_kept_alive() -> None:
    estimator = network()
    watching = monitor(estimator, every=1)
    fit(estimator)
    fit(clone(estimator))
    pickle.loads(pickle.dumps(estimator)).partial_fit(X, Y)
    assert watching.steps == 6
    known = [weakref.ref(estimator), weakref.ref(estimator.optimizer_)]
    del estimator
    gc.collect()
    assert [x() for x in known] == [None, None]
    watching.remove()


def test_an_estimator_of_scikit_learn_is_refused() -> None:
    with pytest.raises(TypeError, match=r"`monitor\(optimizer=...\)` must be an estimator of scirs2_adapters.sklearn"):
        monitor(MLPRegressor())
