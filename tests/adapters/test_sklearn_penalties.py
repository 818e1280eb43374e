"""Penalties, intercepts, class weights and averages of the linear estimators."""

import pickle
from inspect import signature
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import make_regression
from sklearn.linear_model import ElasticNet, Lasso, LogisticRegression, Ridge

from scirs2_adapters import get, names
from scirs2_adapters.adapters.sklearn.penalties import Strengths, strengths
from scirs2_adapters.core import HostOptimizer, Rule
from scirs2_adapters.core.program.recorded import record
from scirs2_adapters.core.slots import Leaf
from scirs2_adapters.sklearn import SGD, Adagrad, Adam, AdamW, LinearClassifier, LinearRegressor, ScheduleFreeAdamW
from tests.adapters.sklearn_support import LINEAR, assert_close, assert_same_bits, data, estimator, weights

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
each_estimator = pytest.mark.parametrize("cls", LINEAR)

RATES = {"acprop": 5e-3, "adadelta": 1.0, "adagrad": 0.2, "rprop": 0.01, "muon": 0.2, "normuon": 0.2, "sm3": 0.2}
RATES |= dict.fromkeys(
    ("adabound", "lion", "rmsprop", "signsgd", "signum", "simplifiedademamix", "sophiag", "tiger"), 1e-3
)
#: A sum of a hundred gradients swings about the end for longer than the test.
OPTIONS = {"simplifiedademamix": {"beta1": 0.9}}


def sparse_truth(targets: int = 1) -> tuple[np.ndarray, np.ndarray]:
    X, y = make_regression(120, 10, n_informative=4, n_targets=targets, noise=5.0, random_state=0)
    return X, y / y.std()


def test_strengths_are_those_of_scikit_learn() -> None:
    assert strengths("l2", 0.1, 0.3) == (0.1, 0.0)
    assert strengths("l1", 0.1, 0.3) == (0.0, 0.1)
    assert strengths(None, 0.1, 0.3) == (0.0, 0.0)
    np.testing.assert_allclose(strengths("elasticnet", 0.1, 0.3), (0.07, 0.03))
    np.testing.assert_allclose(Strengths(2.0, 3.0).of(np.array([[1.0, -2.0], [0.0, 0.5]])), [14.0, 1.75])


def ends(rule: Rule, start: tuple[float, float], growth: float) -> tuple[float, dict[str, np.ndarray]]:
    """The first of two numbers after three steps, and all memory; `growth` is that of the second one's gradients."""
    optimizer = HostOptimizer(rule, {"w": np.array(start)}, kernel="traced")
    for t in range(3):
        optimizer.step({"w": np.array([0.3 * 10.0**t, growth ** (t + 1)])})
    return float(optimizer.params["w"][0]), optimizer.state["w"]


def holds_zeros(rule: Rule) -> bool:
    """Whether each number is stepped by itself, and memory is the same wherever parameters are: what l1 needs."""
    (one, memory), (same, _) = ends(rule, (0.5, 1.0), 0.4), ends(rule, (0.5, 3.0), -2.0)
    elsewhere = ends(rule, (0.7, 1.5), 0.4)[1]
    leaf = Leaf((2,))
    if record(rule.route(leaf), leaf).levels:  # a sum over the tensor, which may make no difference in a few steps
        return False
    return one == same and all(np.array_equal(held, elsewhere[slot]) for slot, held in memory.items())


@pytest.mark.parametrize("name", names())
def test_l1_ends_at_the_lasso_or_is_refused(name: str) -> None:
    """The same coefficients are exactly 0, and the others are those of coordinate descent."""
    X, y = sparse_truth()
    rule = get(name)(learning_rate=RATES.get(name, 0.02), weight_decay=0.0, **OPTIONS.get(name, {}))
    made = LinearRegressor(rule, penalty="l1", alpha=0.1, batch_size=len(y), max_iter=1000, tol=None)
    if not holds_zeros(rule):
        with pytest.raises(ValueError, match=r"`LinearRegressor\(optimizer=...\)` must be a rule that"):
            made.fit(X, y)
        assert not hasattr(made, "coef_")
        return
    best = Lasso(alpha=0.1, tol=1e-10).fit(X, y)
    made.fit(X, y)
    assert (made.coef_ == 0).tolist() == (best.coef_ == 0).tolist()
    assert 0 < np.count_nonzero(best.coef_) < 10
    np.testing.assert_allclose(made.coef_, best.coef_, atol=5e-3)
    np.testing.assert_allclose(made.intercept_, best.intercept_, atol=5e-3)


@pytest.mark.parametrize(("penalty", "ratio", "size"), [("l1", 1.0, 1.0), ("l1", 1.0, 1e3), ("elasticnet", 0.5, 1.0)])
def test_the_default_ends_there_in_the_units_of_the_data(penalty: str, ratio: float, size: float) -> None:
    X, y = sparse_truth()
    X, y, alpha = X * np.arange(1, 11) / size, size * y, 0.1
    best = ElasticNet(alpha=alpha, l1_ratio=ratio, tol=1e-10, max_iter=100_000).fit(X, y)
    made = LinearRegressor(penalty=penalty, l1_ratio=ratio, alpha=alpha, batch_size=len(y), max_iter=3000, tol=None)
    made.fit(X, y)
    assert (made.coef_ == 0).tolist() == (best.coef_ == 0).tolist()
    np.testing.assert_allclose(made.coef_, best.coef_, rtol=2e-2, atol=1e-2 * np.abs(best.coef_).max())
    residual = best.predict(X) - y
    penalised = alpha * (ratio * np.abs(best.coef_).sum() + (1 - ratio) / 2 * np.sum(best.coef_**2))
    assert made.loss_ == pytest.approx(np.mean(residual**2) / 2 + penalised, rel=1e-3)


def test_gradient_descent_is_followed_by_soft_thresholding() -> None:
    X, y = sparse_truth()
    lr, alpha = 0.3, 0.2
    made = LinearRegressor(SGD(learning_rate=lr), penalty="l1", alpha=alpha, batch_size=len(y), max_iter=2, tol=None)
    made.fit(X, y)
    w, b = np.zeros(10), 0.0
    for _ in range(2):
        r = X @ w + b - y
        w, b = w - lr * X.T @ r / len(y), b - lr * r.mean()
        w = np.sign(w) * np.maximum(np.abs(w) - lr * alpha, 0)
    np.testing.assert_allclose(made.coef_, w, rtol=1e-12, atol=1e-15)
    assert not np.signbit(made.coef_[made.coef_ == 0]).any()


#: What scikit-learn calls l1: until version 1.7, and since.
BY_NAME = signature(LogisticRegression).parameters["penalty"].default == "l2"
LASSO: dict[str, Any] = {"penalty": "l1"} if BY_NAME else {"l1_ratio": 1.0}


@pytest.mark.parametrize("optimizer", [None, SGD(learning_rate=0.05), Adagrad(learning_rate=0.3)], ids=str)
def test_classes_and_several_targets_are_made_sparse_too(optimizer: Any) -> None:
    X, y = data(LinearClassifier)
    X = np.c_[X, np.random.default_rng(0).normal(size=(len(y), 3))]
    sparse = LinearClassifier(optimizer, penalty="l1", alpha=0.1, batch_size=len(y), max_iter=1500, tol=None).fit(X, y)
    options = {"C": 1 / (0.1 * len(y)), "solver": "saga", "max_iter": 5000, "tol": 1e-8}
    best = LogisticRegression(**LASSO, **options).fit(X, y)
    assert (sparse.coef_ == 0).tolist() == (best.coef_ == 0).tolist()
    X, targets = sparse_truth(2)
    two = LinearRegressor(optimizer, penalty="l1", alpha=0.1, batch_size=120, max_iter=1500, tol=None).fit(X, targets)
    for row, target in zip(two.coef_, targets.T, strict=True):
        alone = Lasso(alpha=0.1, tol=1e-10).fit(X, target)
        assert (row == 0).tolist() == (alone.coef_ == 0).tolist()


def test_a_step_that_is_left_out_sets_nothing_to_zero() -> None:
    X, y = sparse_truth()
    options = {"penalty": "l1", "alpha": 10.0, "skip_nonfinite": True, "batch_size": 120, "warm_start": True}
    made = LinearRegressor(SGD(learning_rate=0.1), max_iter=1, **{**options, "alpha": 0.0}).fit(X, y)
    before = made.coef_.copy()
    with np.errstate(all="ignore"):
        made.set_params(alpha=10.0).partial_fit(np.full_like(X, 1e200), np.full_like(y, 1e200))
    assert made.optimizer_.skipped_steps == 1
    np.testing.assert_array_equal(made.coef_, before)


@each_estimator
@pytest.mark.parametrize("name", names())
def test_weight_decay_leaves_the_intercept_alone(cls: Any, name: str) -> None:
    """With features of 0 only the intercept has a gradient: whatever the decay is, it goes the same way."""
    X, y = data(cls)
    ways = []
    for decay in (0.0, 0.1):
        rule = get(name)(weight_decay=decay)
        made = estimator(cls, optimizer=rule, penalty=None, max_iter=3).fit(0 * X, y + 1)
        ways.append(made.intercept_)
    if not rule.model_slots():  # which measures how far all parameters have come together
        np.testing.assert_array_equal(*ways)
    assert ways[0].any()


@each_estimator
@pytest.mark.parametrize("optimizer", [None, AdamW(learning_rate=0.1), "muon"], ids=str)
def test_no_intercept_is_no_intercept(cls: Any, optimizer: Any) -> None:
    X, y = data(cls)
    made = estimator(cls, optimizer=optimizer, fit_intercept=False, average=True).fit(X + 1, y + 1)
    assert not made.intercept_.any()
    assert made.coef_.any()


def test_the_default_without_an_intercept_is_ridge_without_one() -> None:
    X, y = sparse_truth()
    X, y = 50 * X + 20, 10 * y + 40
    made = LinearRegressor(fit_intercept=False, alpha=1.0, batch_size=len(y), max_iter=4000, tol=None).fit(X, y)
    best = Ridge(fit_intercept=False, alpha=1.0 * len(y)).fit(X, y)
    np.testing.assert_allclose(made.coef_, best.coef_, rtol=1e-2, atol=1e-3 * np.abs(best.coef_).max())


@each_estimator
@pytest.mark.parametrize("optimizer", [None, AdamW(learning_rate=0.1)], ids=str)
def test_an_intercept_can_be_given_up_on_the_way(cls: Any, optimizer: Any) -> None:
    X, y = data(cls)
    made = estimator(cls, optimizer=optimizer, warm_start=True).fit(X + 1, y)
    made.set_params(fit_intercept=False).fit(X + 1, y)
    assert not made.intercept_.any()
    made.set_params(fit_intercept=True).fit(X + 1, y)
    assert made.intercept_.any()


def uneven() -> tuple[np.ndarray, np.ndarray]:
    X, y = data(LinearClassifier, rows=200)
    kept = (y != 2) | (np.arange(200) % 8 == 0)
    return X[kept], np.array(["a", "b", "c"])[y[kept]]


@pytest.mark.parametrize("optimizer", [None, Adam(learning_rate=0.1)], ids=str)
def test_balanced_is_the_dict_that_scikit_learn_makes_of_it(optimizer: Any) -> None:
    X, y = uneven()
    classes, counts = np.unique(y, return_counts=True)
    by_hand = dict(zip(classes.tolist(), (len(y) / (3 * counts)).tolist(), strict=True))
    a, b = (estimator(LinearClassifier, optimizer=optimizer, class_weight=w).fit(X, y) for w in ("balanced", by_hand))
    c = estimator(LinearClassifier, optimizer=optimizer).fit(X, y, np.array([by_hand[k] for k in y]))
    assert_close(a, b, 1e-12)
    assert_close(a, c, 1e-9)
    plain = estimator(LinearClassifier, optimizer=optimizer).fit(X, y)
    assert np.mean(a.predict(X) == "c") > np.mean(plain.predict(X) == "c")


def test_balanced_counts_rows_by_their_weights() -> None:
    X, y = uneven()
    times = 1 + np.arange(len(y)) % 3
    options: dict[str, Any] = {"class_weight": "balanced", "batch_size": 1000}
    weighted = estimator(LinearClassifier, optimizer="adam", **options).fit(X, y, times)
    repeated = estimator(LinearClassifier, optimizer="adam", **options).fit(X.repeat(times, axis=0), y.repeat(times))
    assert_close(weighted, repeated, 1e-9)


@pytest.mark.parametrize("weight", [{"a": -1.0}, {"a": 0.0, "b": 0.0, "c": 0.0}], ids=str)
def test_class_weights_that_mean_nothing_are_refused(weight: Any) -> None:
    X, y = uneven()
    with pytest.raises(ValueError, match=r"`LinearClassifier\(class_weight=...\)` must be at least 0"):
        LinearClassifier(class_weight=weight).fit(X, y)


def test_a_dict_goes_with_partial_fit_and_balanced_does_not() -> None:
    X, y = uneven()
    made = LinearClassifier(class_weight={"c": 9.0}).partial_fit(X[y != "b"], y[y != "b"], classes=["a", "b", "c"])
    assert made.optimizer_.steps > 0
    with pytest.raises(ValueError, match=r"must be a dict for `partial_fit`.*compute_class_weight"):
        LinearClassifier(class_weight="balanced").partial_fit(X, y, classes=["a", "b", "c"])


@each_estimator
@pytest.mark.parametrize("optimizer", [None, SGD(learning_rate=0.01), "adamw"], ids=str)
@pytest.mark.parametrize("average", [True, 150])
def test_coefficients_are_the_mean_over_steps_and_training_goes_on_from_the_last(
    cls: Any, optimizer: Any, average: Any
) -> None:
    """Batches of 30 rows of 90: from row 150 on, the mean is over all steps but the first four."""
    X, y = data(cls)
    classes = {"classes": [0, 1, 2]} if "Classifier" in cls.__name__ else {}
    options: dict[str, Any] = {"optimizer": optimizer, "batch_size": 30, "shuffle": False}
    averaged = estimator(cls, average=average, max_iter=3, **options).fit(X, y)
    plain, ways = estimator(cls, **{**options, "batch_size": 90}), []
    if optimizer is None:  # whose units are of all rows
        plain = estimator(cls, **options)
        learn = plain._learn
        plain._learn = lambda *rows: (learn(*rows), ways.append([w.copy() for w in weights(plain)]))[0]
        for _ in range(3):
            plain.partial_fit(X, y, **classes)
    else:
        for i in [0, 30, 60] * 3:
            plain.partial_fit(X[i : i + 30], y[i : i + 30], **classes)
            ways.append([w.copy() for w in weights(plain)])
    first = 0 if average is True else 4
    assert len(ways) == 9
    for mean, *steps in zip(weights(averaged), *ways[first:], strict=True):
        np.testing.assert_allclose(mean, np.mean(steps, axis=0), rtol=1e-9, atol=1e-12)


@each_estimator
@pytest.mark.parametrize("optimizer", [None, "adamw"], ids=str)
def test_averages_go_on_after_a_pickle_and_a_warm_start(cls: Any, optimizer: Any) -> None:
    X, y = data(cls)
    options: dict[str, Any] = {"optimizer": optimizer, "average": True, "shuffle": False}
    whole = estimator(cls, max_iter=6, **options).fit(X, y)
    half = estimator(cls, max_iter=3, warm_start=True, **options).fit(X, y)
    copied = pickle.loads(pickle.dumps(half))
    for each in (half, copied):
        assert_close(each.fit(X, y), whole, 1e-12)
    assert_same_bits(copied, half)
    assert_close(clone(half).fit(X, y), estimator(cls, max_iter=3, **options).fit(X, y), 0.0)
    last = estimator(cls, max_iter=6, **{**options, "average": False}).fit(X, y)
    half.set_params(average=False, max_iter=1).fit(X, y)
    last.set_params(max_iter=1, warm_start=True).fit(X, y)
    np.testing.assert_allclose(half.loss_curve_, last.loss_curve_, rtol=1e-12)  # of what is trained
    if last._averages is None:
        assert_close(half, last, 1e-12)


def test_a_rule_with_averages_of_its_own_is_not_averaged_again() -> None:
    X, y = sparse_truth()
    with pytest.raises(ValueError, match=r"`LinearRegressor\(average=...\)` must be False beside"):
        LinearRegressor(ScheduleFreeAdamW(), average=True).fit(X, y)


@each_estimator
@pytest.mark.parametrize("optimizer", [None, "adamw"], ids=str)
def test_a_pickle_from_before_these_arguments_loads_and_goes_on(cls: Any, optimizer: Any) -> None:
    X, y = data(cls)
    made = estimator(cls, optimizer=optimizer, warm_start=True, batch_size=len(y)).fit(X, y)
    old = pickle.loads(pickle.dumps(made))
    for name in ("loss", "penalty", "l1_ratio", "fit_intercept", "average", "class_weight", "epsilon", "quantile"):
        vars(old).pop(name, None)
    vars(old).pop("_averages")
    if old._units is not None:
        del old._units.loss_scale, old._units.form
    loaded = pickle.loads(pickle.dumps(old))
    assert loaded.get_params() == made.get_params()
    assert_same_bits(loaded.fit(X, y), made.fit(X, y))
