"""`optimizer=None` of the linear estimators learns whatever the scale of the data, and shows coefficients in theirs."""

from typing import Any

import numpy as np
import pytest
from scipy import sparse
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_iris, load_wine, make_regression
from sklearn.linear_model import LinearRegression, Ridge, SGDRegressor
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import scale

from scirs2_adapters.sklearn import Adam, LinearClassifier, LinearRegressor
from tests.adapters.sklearn_support import LINEAR, assert_close, data, estimator, weights

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def houses() -> tuple[np.ndarray, np.ndarray]:
    """Skewed features of very different sizes, as in the California housing data."""
    rng = np.random.default_rng(0)
    X = np.exp(rng.normal(size=(1500, 8))) * [4, 30, 5, 1, 1400, 3, 35, 120]
    return X, X @ (rng.normal(size=8) / X.std(0)) + 2 + 0.5 * rng.normal(size=1500)


def diabetes(of_features: Any = lambda X: X, of_targets: Any = lambda y: y) -> tuple[np.ndarray, np.ndarray]:
    X, y = load_diabetes(return_X_y=True)
    return of_features(X), of_targets(y)


def two_targets() -> tuple[np.ndarray, np.ndarray]:
    X, y = make_regression(500, 8, noise=20, random_state=0)
    return X, np.c_[y, 1 + 1e-3 * X[:, 0]]


REGRESSIONS: dict[str, Any] = {
    "diabetes": diabetes,
    "scaled features": lambda: diabetes(scale),
    "all scaled": lambda: diabetes(scale, scale),
    "tiny targets": lambda: diabetes(of_targets=lambda y: y / 1e5),
    "far from zero": lambda: diabetes(of_targets=lambda y: y + 1e5),
    "large features": lambda: diabetes(lambda X: 1e6 * X + 1e5),
    "made up": lambda: make_regression(500, 8, noise=20, random_state=0),
    "houses": houses,
    "two targets": two_targets,
}


@pytest.mark.parametrize("kind", REGRESSIONS)
def test_a_regressor_comes_near_to_least_squares(kind: str) -> None:
    X, held_out, y, answers = train_test_split(*REGRESSIONS[kind](), random_state=0)
    best = LinearRegression().fit(X, y).score(held_out, answers)
    assert LinearRegressor(alpha=0.0, random_state=0).fit(X, y).score(held_out, answers) > best - 0.02
    assert LinearRegressor(random_state=0).fit(X, y).score(held_out, answers) > best - 0.1


#: (rows, features) of made-up regressions, besides diabetes.
SIZES = [(100, 10), (500, 10), (2000, 30), (300, 100), (1000, 200), (20_000, 20)]


@pytest.mark.parametrize("size", [None, *SIZES], ids=str)
@pytest.mark.parametrize("noise", [1.0, 100.0])
def test_a_regressor_scores_no_less_than_that_of_scikit_learn(size: tuple[int, int] | None, noise: float) -> None:
    """On scaled features and targets as they are, both with their defaults, in the mean over parts of the rows: rows
    held out favor now one and now the other.
    """
    X, y = diabetes() if size is None else make_regression(*size, noise=noise, random_state=0)
    gaps = []
    for part in range(3):
        x, held_out, targets, answers = train_test_split(scale(X), y, random_state=part)
        ours, theirs = (make(random_state=0).fit(x, targets) for make in (LinearRegressor, SGDRegressor))
        gaps.append([m.score(x, targets) - t.score(x, targets) for m, t in [(ours, theirs)]])
        gaps[-1].append(ours.score(held_out, answers) - theirs.score(held_out, answers))
    seen, unseen = np.mean(gaps, axis=0)
    assert seen > -1e-4
    assert unseen > -1e-3


def test_the_default_of_a_regression_ends_in_a_mean_of_its_steps() -> None:
    """Of which the weight grows as the square of their number; a batch of all rows has no noise, and l1 makes zeros."""
    X, y = data(LinearRegressor)
    steps: list[list[np.ndarray]] = []
    made = estimator(LinearRegressor, shuffle=False, batch_size=30)
    learn = made._learn
    made._learn = lambda *rows: (learn(*rows), steps.append([w.copy() for w in weights(made)]))[0]
    made.fit(X, y)
    shares = np.arange(1.0, len(steps) + 1) * np.arange(2.0, len(steps) + 2)  # n (n + 1), as of Shamir and Zhang
    for mean, each in zip(weights(made), zip(*steps, strict=True), strict=True):
        np.testing.assert_allclose(mean, np.average(each, axis=0, weights=shares), rtol=1e-9)
    for same in ({"batch_size": len(y)}, {"penalty": "l1"}, {"optimizer": "adam"}):
        assert estimator(LinearRegressor, **same).fit(X, y)._averages is None
    assert estimator(LinearClassifier).fit(*data(LinearClassifier))._averages is None


def test_a_regression_by_default_takes_a_thousand_steps_or_half_of_its_epochs() -> None:
    X, y = diabetes()
    assert LinearRegressor(batch_size=110, tol=1.0, random_state=0).fit(X, y).n_iter_ == 200  # 5 a pass
    assert LinearRegressor(batch_size=110, tol=1.0, max_iter=40, random_state=0).fit(X, y).n_iter_ == 21
    stopped = LinearRegressor(tol=1.0, early_stopping=True, random_state=0).fit(X, y)
    assert stopped.n_iter_ <= 12
    assert LinearClassifier(tol=1.0, random_state=0).fit(X, y > 140).n_iter_ <= 12


def test_a_batch_grows_with_the_rows() -> None:
    for rows, steps in [(50, 1), (640, 10), (12_800, 100), (200_000, 196)]:
        made = LinearRegressor(max_iter=1).fit(np.arange(rows)[:, np.newaxis] / rows, np.arange(rows) % 2.0)
        assert made.optimizer_.steps == steps


#: Held-out accuracy of logistic regression on scaled features is 0.97, 0.97, 0.97 and 1.0.
CLASSES = {load_digits: 0.95, load_breast_cancer: 0.94, load_iris: 0.95, load_wine: 0.97}


@pytest.mark.parametrize("load", list(CLASSES), ids=lambda f: f.__name__)
@pytest.mark.parametrize("prepare", [lambda X: X, scale], ids=["raw", "scaled"])
def test_a_classifier_comes_near_to_logistic_regression(load: Any, prepare: Any) -> None:
    X, y = load(return_X_y=True)
    X, held_out, y, answers = train_test_split(prepare(X), y, random_state=0)
    assert LinearClassifier(random_state=0).fit(X, y).score(held_out, answers) >= CLASSES[load]


def test_the_minimum_is_that_of_the_loss_as_it_is_written() -> None:
    X, y = diabetes(lambda X: X * np.arange(1, 11))
    made = LinearRegressor(alpha=0.01, batch_size=len(y), tol=0, max_iter=3000, random_state=0).fit(X, y)
    ridge = Ridge(alpha=0.01 * len(y)).fit(X, y)
    np.testing.assert_allclose(made.coef_, ridge.coef_, rtol=1e-3, atol=1e-2)
    loss = 0.5 * np.mean((ridge.predict(X) - y) ** 2) + 0.005 * ridge.coef_ @ ridge.coef_
    assert made.loss_ == pytest.approx(loss, rel=1e-5)


@pytest.mark.parametrize("cls", LINEAR)
def test_the_units_of_the_data_change_nothing_but_the_coefficients(cls: Any) -> None:
    X, y = data(cls)
    size, shift = 10.0 ** np.arange(-3, 3), 3.0
    plain, other = (estimator(cls, alpha=0.0).fit(x, y) for x in (X, X * size + shift))
    np.testing.assert_allclose(other.coef_ * size, plain.coef_, rtol=1e-6)
    np.testing.assert_allclose(other.loss_curve_, plain.loss_curve_, rtol=1e-6)


@pytest.mark.parametrize("cls", LINEAR)
def test_sparse_data_are_as_dense_ones(cls: Any) -> None:
    X, y = data(cls)
    X[np.abs(X) < 0.5] = 0
    thin, dense = (estimator(cls).fit(x, y) for x in (sparse.csr_matrix(X), X))
    assert_close(thin, dense, 1e-9)


@pytest.mark.parametrize("cls", LINEAR)
def test_passes_and_warm_starts_go_on_in_the_units_of_the_first(cls: Any) -> None:
    X, y = data(cls)
    classes = {"classes": [0, 1, 2]} if "Classifier" in cls.__name__ else {}
    whole = estimator(cls, shuffle=False, max_iter=6).fit(X, y)
    passes, halves = estimator(cls, shuffle=False), estimator(cls, shuffle=False, max_iter=3, warm_start=True)
    for _ in range(6):
        passes.partial_fit(X, y, **classes)
    halves.fit(X, y).fit(X, y)
    for made in (passes, halves):
        assert_close(made, whole, 1e-12)
        assert made.optimizer_.steps == whole.optimizer_.steps


@pytest.mark.parametrize("cls", LINEAR)
def test_another_optimizer_takes_over_the_coefficients_and_not_the_memory_of_other_units(cls: Any) -> None:
    X, y = data(cls)
    made = estimator(cls, warm_start=True).fit(1e3 * X, y)
    before = [w.copy() for w in weights(made)]
    made.set_params(optimizer=Adam(learning_rate=1e-12)).fit(1e3 * X, y)
    assert_close(made, before_like(before), 1e-6)
    assert made.optimizer_.steps == 5 * 3
    made.set_params(optimizer=None).fit(1e3 * X, y)
    assert made.loss_curve_[-1] < made.loss_curve_[4]


def before_like(arrays: list[np.ndarray]) -> Any:
    return type("Fitted", (), {"coef_": arrays[0], "intercept_": arrays[1]})()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_column_that_never_varies_and_one_row_at_first_do_no_harm(dtype: Any) -> None:
    X, y = diabetes()
    X = np.c_[X, np.full(len(X), 7.0), np.zeros(len(X))].astype(dtype)
    made = LinearRegressor(random_state=0).fit(X, y)
    assert made.coef_.dtype == dtype
    np.testing.assert_allclose(made.coef_[-2:], 0.0, atol=1e-3)
    alone = LinearRegressor(random_state=0).partial_fit(X[:1], y[:1])
    assert alone.predict(X[:1])[0] == pytest.approx(y[0])
    for _ in range(300):
        alone.partial_fit(X, y)
    assert alone.score(X, y) > 0.3
