"""Optimizers whose step depends on the loss: an estimator hands them that of the batch, the penalty with it."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from sklearn.base import clone

from scirs2_adapters.core import get
from scirs2_adapters.core.registry import with_value
from scirs2_adapters.sklearn import LinearRegressor, MLPRegressor, PolyakSGD

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
rng = np.random.default_rng(0)
X = rng.normal(size=(60, 4))
Y = X @ rng.normal(size=4) + 0.1 * rng.normal(size=60)


def test_a_linear_model_takes_polyaks_step() -> None:
    alpha = 0.1
    model = LinearRegressor(PolyakSGD(), penalty="l2", alpha=alpha, fit_intercept=False, max_iter=1, batch_size=60)
    model.fit(X, Y)
    slope = -X.T @ Y / len(X)
    loss = 0.5 * np.mean(Y**2)
    np.testing.assert_allclose(model.coef_, -min(loss / (slope @ slope), 1.0) * slope, rtol=1e-12)
    again = model.partial_fit(X, Y).coef_
    w = -min(loss / (slope @ slope), 1.0) * slope
    slope = X.T @ (X @ w - Y) / len(X) + alpha * w
    loss = 0.5 * np.mean((X @ w - Y) ** 2) + 0.5 * alpha * w @ w
    np.testing.assert_allclose(again, w - min(loss / (slope @ slope), 1.0) * slope, rtol=1e-12)


@pytest.mark.parametrize("name", with_value())
@pytest.mark.parametrize("estimator", [LinearRegressor, MLPRegressor], ids=lambda e: e.__name__)
def test_a_second_fit_and_a_pickle_go_on_alike(name: str, estimator: type) -> None:
    model = estimator(optimizer=get(name)(), max_iter=30, random_state=0).fit(X, Y)
    assert model.score(X, Y) > 0.4
    assert clone(model).fit(X, Y).score(X, Y) == model.score(X, Y) == model.fit(X, Y).score(X, Y)
    other = pickle.loads(pickle.dumps(model)).partial_fit(X, Y)
    assert other.score(X, Y) == model.partial_fit(X, Y).score(X, Y)
    assert estimator(optimizer=name, max_iter=3).fit(X, Y).optimizer_.rule == get(name)()
