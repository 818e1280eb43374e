"""The losses of the linear estimators are those that their names stand for in scikit-learn."""

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sklearn._loss.loss import HalfMultinomialLoss, HalfPoissonLoss, HuberLoss, PinballLoss
from sklearn.datasets import load_diabetes, make_classification
from sklearn.linear_model import PoissonRegressor, QuantileRegressor, SGDClassifier, SGDRegressor
from sklearn.preprocessing import scale

from scirs2_adapters.adapters.sklearn.losses import CLASSIFIER_LOSSES, REGRESSOR_LOSSES
from scirs2_adapters.sklearn import SGD, LinearClassifier, LinearRegressor
from tests.adapters.sklearn_support import LINEAR, data, estimator

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

EPSILON, QUANTILE = 0.7, 0.3


def insensitive(r: float) -> float:
    return max(0.0, abs(r) - EPSILON)


#: Each loss again, for one number, as it stands in the docstrings.
OF_MARGIN: dict[str, Callable[[float], float]] = {
    "hinge": lambda z: max(0.0, 1 - z),
    "squared_hinge": lambda z: max(0.0, 1 - z) ** 2,
    "modified_huber": lambda z: max(0.0, 1 - z) ** 2 if z >= -1 else -4 * z,
    "log_loss": lambda z: math.log1p(math.exp(-z)),
}
OF_TARGET: dict[str, Callable[[float, float], float]] = {
    "squared_error": lambda s, y: (s - y) ** 2 / 2,
    "huber": lambda s, y: (s - y) ** 2 / 2 if abs(s - y) <= EPSILON else EPSILON * abs(s - y) - EPSILON**2 / 2,
    "epsilon_insensitive": lambda s, y: insensitive(s - y),
    "squared_epsilon_insensitive": lambda s, y: insensitive(s - y) ** 2,
    "quantile": lambda s, y: (1 - QUANTILE) * (s - y) if s >= y else QUANTILE * (y - s),
    "poisson": lambda s, y: math.exp(s) - y * s,
}


def made(loss: str, **params: Any) -> Any:
    if loss in CLASSIFIER_LOSSES:
        return estimator(LinearClassifier, loss=loss, **params)
    return estimator(LinearRegressor, loss=loss, epsilon=EPSILON, quantile=QUANTILE, **params)


def scores(outputs: int) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 1.5, (200, outputs))


def targets(loss: str, outputs: int) -> np.ndarray:
    rng = np.random.default_rng(1)
    if loss in CLASSIFIER_LOSSES:
        return rng.integers(max(2, outputs), size=200)
    return rng.poisson(2.0, (200, outputs)).astype(float)


def test_every_loss_is_written_again_here() -> None:
    assert CLASSIFIER_LOSSES.keys() == OF_MARGIN.keys()
    assert REGRESSOR_LOSSES.keys() == OF_TARGET.keys()


@pytest.mark.parametrize("loss", OF_MARGIN)
def test_a_loss_of_two_classes_is_what_its_formula_says(loss: str) -> None:
    s, y = scores(1), targets(loss, 1)
    expected = [OF_MARGIN[loss](z) for z in (s[:, 0] * (2 * y - 1)).tolist()]
    np.testing.assert_allclose(made(loss)._loss(s, y)[0][:, 0], expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("loss", OF_TARGET)
def test_a_loss_of_numbers_is_what_its_formula_says(loss: str) -> None:
    s, y = scores(2), targets(loss, 2)
    expected = [OF_TARGET[loss](a, b) for a, b in zip(s.ravel().tolist(), y.ravel().tolist(), strict=True)]
    np.testing.assert_allclose(made(loss)._loss(s, y)[0].ravel(), expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("loss", sorted({*OF_MARGIN} - {"log_loss"}))
def test_a_margin_of_several_classes_tells_each_from_the_others(loss: str) -> None:
    s, y = scores(4), targets(loss, 4)
    losses, slopes = made(loss)._loss(s, y)
    for k in range(4):
        alone = made(loss)._loss(s[:, [k]], (y == k).astype(int))
        np.testing.assert_array_equal(losses[:, [k]], alone[0])
        np.testing.assert_array_equal(slopes[:, [k]], alone[1])


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("loss", [*OF_MARGIN, *OF_TARGET])
def test_the_derivative_is_that_of_the_loss(loss: str, outputs: int) -> None:
    """Central differences; the random scores are further from the kinks than the step."""
    model, s, y, h = made(loss), scores(outputs), targets(loss, outputs), 1e-6
    slopes = model._loss(s, y)[1]
    for k in range(outputs):
        change = h * np.eye(outputs)[k]
        ahead, behind = (model._loss(s + c, y)[0].sum(axis=1) for c in (change, -change))
        np.testing.assert_allclose(slopes[:, k], (ahead - behind) / (2 * h), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("loss", "theirs"),
    [
        ("huber", HuberLoss(quantile=0.9, delta=EPSILON)),
        ("quantile", PinballLoss(quantile=QUANTILE)),
        ("poisson", HalfPoissonLoss()),
    ],
)
def test_a_loss_of_numbers_is_scikit_learns(loss: str, theirs: Any) -> None:
    s, y = scores(1)[:, 0], targets(loss, 1)[:, 0]
    losses, slopes = made(loss)._loss(s[:, np.newaxis], y[:, np.newaxis])
    expected = theirs.loss_gradient(y, s)
    np.testing.assert_allclose(losses[:, 0], expected[0], rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(slopes[:, 0], expected[1], rtol=1e-12, atol=1e-12)


def test_the_log_loss_of_several_classes_is_scikit_learns() -> None:
    s, y = scores(4), targets("log_loss", 4)
    losses, slopes = made("log_loss")._loss(s, y)
    expected = HalfMultinomialLoss(n_classes=4).loss_gradient(y.astype(float), np.ascontiguousarray(s))
    np.testing.assert_allclose(losses[:, 0], expected[0], rtol=1e-12)
    np.testing.assert_allclose(slopes, expected[1], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("average", [False, True, 40])
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("loss", sorted({*OF_MARGIN, *OF_TARGET} - {"quantile", "poisson"}))
def test_gradient_descent_by_single_rows_is_scikit_learns(loss: str, fit_intercept: bool, average: Any) -> None:
    """The same steps in the same order: one row at a time, at a constant rate, with its l2 penalty."""
    options = {"loss": loss, "alpha": 0.01, "shuffle": False, "fit_intercept": fit_intercept, "average": average}
    options |= {"max_iter": 2, "tol": None}
    classifies = loss in CLASSIFIER_LOSSES
    theirs: Any = SGDClassifier if classifies else SGDRegressor
    if not classifies:
        options["epsilon"] = EPSILON
    X, y = data(LinearClassifier if classifies else LinearRegressor, rows=60)
    y = y == 1 if classifies else y
    ours: Any = LinearClassifier if classifies else LinearRegressor
    if classifies:
        options["class_weight"] = {False: 0.5, True: 3.0}
    a = ours(SGD(learning_rate=0.02), batch_size=1, **options).fit(X, y)
    b = theirs(learning_rate="constant", eta0=0.02, **options).fit(X, y)
    np.testing.assert_allclose(a.coef_.ravel(), b.coef_.ravel(), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(a.intercept_, b.intercept_, rtol=1e-9, atol=1e-12)
    assert fit_intercept or not a.intercept_.any()


@pytest.mark.parametrize("classes", [2, 3])
def test_probabilities_are_scikit_learns_where_it_has_some(classes: int) -> None:
    X, y = make_classification(200, 6, n_informative=4, n_classes=classes, random_state=0)
    ours = LinearClassifier(loss="modified_huber", max_iter=3).fit(X, y)
    theirs = SGDClassifier(loss="modified_huber").fit(X, y)
    theirs.coef_, theirs.intercept_ = 3 * ours.coef_, 3 * ours.intercept_ - 1  # so that some rows have no class at all
    ours.coef_, ours.intercept_ = theirs.coef_.copy(), theirs.intercept_.copy()
    np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), rtol=1e-12)
    with np.errstate(divide="ignore"):
        np.testing.assert_allclose(ours.predict_log_proba(X), theirs.predict_log_proba(X), rtol=1e-12)
    np.testing.assert_array_equal(ours.predict(X), theirs.predict(X))


@pytest.mark.parametrize("loss", OF_MARGIN)
def test_probabilities_are_there_where_scikit_learn_has_them(loss: str) -> None:
    ours, theirs = LinearClassifier(loss=loss), SGDClassifier(loss=loss)
    for method in ("predict_proba", "predict_log_proba"):
        assert hasattr(ours, method) == hasattr(theirs, method)
    if loss == "hinge":
        with pytest.raises(AttributeError) as raised:
            ours.predict_proba  # noqa: B018
        assert "not for loss='hinge'" in str(raised.value.__cause__)


@pytest.mark.parametrize("loss", OF_MARGIN)
@pytest.mark.parametrize("classes", [2, 3])
def test_the_default_learns_every_loss_of_classes(loss: str, classes: int) -> None:
    X, y = make_classification(400, 6, n_informative=4, n_classes=classes, class_sep=2.0, random_state=0)
    X = 100 * X + 7
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        best = SGDClassifier(loss=loss, random_state=0).fit(scale(X), y).score(scale(X), y)
    assert LinearClassifier(loss=loss, random_state=0).fit(X, y).score(X, y) > best - 0.03


def diabetes() -> tuple[np.ndarray, np.ndarray]:
    return load_diabetes(return_X_y=True)


@pytest.mark.parametrize("epsilon", [0.1, 50.0])
@pytest.mark.parametrize("loss", [name for name, loss in REGRESSOR_LOSSES.items() if loss.parameter == "epsilon"])
def test_the_default_learns_every_loss_of_numbers_in_their_own_units(loss: str, epsilon: float) -> None:
    X, y = diabetes()
    options: dict[str, Any] = {"loss": loss, "alpha": 0.0, "random_state": 0}
    assert LinearRegressor(epsilon=epsilon, **options).fit(X, y).score(X, y) > 0.48
    # A few steps: at a kink of the loss the last bit decides on a whole step.
    fitted = LinearRegressor(epsilon=epsilon, max_iter=20, **options).fit(X, y)
    again = LinearRegressor(epsilon=epsilon / 1e4, max_iter=20, **options).fit(X, y / 1e4)
    np.testing.assert_allclose(again.coef_ * 1e4, fitted.coef_, rtol=1e-6)
    assert again.n_iter_ == fitted.n_iter_


def test_the_default_comes_near_to_the_quantile() -> None:
    X, y = diabetes()
    ours = LinearRegressor(loss="quantile", quantile=0.8, alpha=0.0, random_state=0).fit(X, y)
    best = QuantileRegressor(quantile=0.8, alpha=0.0).fit(X, y)
    losses = [np.mean(np.where(r < 0, -0.8, 0.2) * r) for r in (ours.predict(X) - y, best.predict(X) - y)]
    assert losses[0] < 1.02 * losses[1]
    assert np.mean(y <= ours.predict(X)) == pytest.approx(0.8, abs=0.03)


def counts() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(800, 5))
    return X, rng.poisson(np.exp(X @ [0.5, -0.3, 0.2, 0.0, 0.1] + 3.0))


@pytest.mark.parametrize("fit_intercept", [True, False])
def test_the_default_comes_near_to_poisson_regression_and_predicts_means(fit_intercept: bool) -> None:
    X, y = counts()
    ours = LinearRegressor(loss="poisson", alpha=0.0, random_state=0, fit_intercept=fit_intercept).fit(X, y)
    best = PoissonRegressor(alpha=0.0, fit_intercept=fit_intercept, max_iter=1000).fit(X, y)
    assert best.score(X, y) - PoissonRegressor.score(Scored(ours), X, y) < 0.01  # type: ignore[arg-type]
    np.testing.assert_allclose(ours.predict(X), np.exp(X @ ours.coef_ + ours.intercept_[0]))
    early = LinearRegressor(loss="poisson", early_stopping=True, max_iter=20, random_state=0).fit(X, y)
    assert early.validation_scores_[-1] > 0.5


class Scored:
    """What `PoissonRegressor.score` reads of a model, of another one."""

    _base_loss = HalfPoissonLoss()

    def __init__(self, model: Any) -> None:
        self._linear_predictor = lambda X: X @ model.coef_ + model.intercept_
        self.__sklearn_tags__ = model.__sklearn_tags__
        self.n_features_in_ = model.n_features_in_


def test_poisson_takes_zeros_and_refuses_what_is_below() -> None:
    X, y = counts()
    assert np.isfinite(LinearRegressor(loss="poisson", max_iter=3).fit(X, 0 * y).predict(X)).all()
    assert LinearRegressor(loss="poisson").__sklearn_tags__().target_tags.positive_only
    with pytest.raises(ValueError, match=r"`LinearRegressor.fit\(y=...\)` must not be below 0 with loss='poisson'"):
        LinearRegressor(loss="poisson").fit(X, y - y.max())


@pytest.mark.parametrize("cls", LINEAR)
def test_an_unknown_loss_is_refused_by_fit(cls: Any) -> None:
    with pytest.raises(ValueError, match="The 'loss' parameter"):
        cls(loss="log").fit(*data(cls))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("penalty", ["elasticnet", None])
@pytest.mark.parametrize("optimizer", [None, SGD(learning_rate=0.01)], ids=["default", "SGD"])
@pytest.mark.parametrize("loss", [*OF_MARGIN, *OF_TARGET])
def test_the_dtype_of_the_data_is_kept(loss: str, optimizer: Any, penalty: Any, dtype: Any) -> None:
    model = made(loss, optimizer=optimizer, penalty=penalty, average=True, max_iter=2)
    X, y = data(model, dtype=dtype)
    model.fit(X, np.abs(y))
    slopes = model._loss(np.zeros((len(y), model.intercept_.size), dtype), model._targets(np.abs(y), dtype, True)[0])
    assert {model.coef_.dtype, model.intercept_.dtype, *(x.dtype for x in slopes)} == {np.dtype(dtype)}
