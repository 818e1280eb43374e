"""scikit-learn's own contract beyond its checks: attributes, routing, representations, estimators around ours."""

import inspect
from typing import Any

import numpy as np
import pytest
import sklearn
from sklearn.datasets import load_iris
from sklearn.ensemble import BaggingClassifier, VotingClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import cross_validate
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline

from scirs2_adapters.sklearn import SGD, AdamW, LinearClassifier, LinearRegressor, Lion, MLPClassifier, with_optimizer
from tests.adapters.sklearn_support import ESTIMATORS, LINEAR, data, estimator

quiet = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
each_estimator = pytest.mark.parametrize("cls", ESTIMATORS)
CLASSIFIERS = [estimator(LinearClassifier, optimizer=AdamW()), estimator(MLPClassifier, optimizer="lion")]
each_classifier = pytest.mark.parametrize("classifier", CLASSIFIERS, ids=["linear", "network"])


@quiet
@pytest.mark.parametrize(
    ("labels", "coef", "intercept", "decision"),
    [(2, (1, 4), (1,), (150,)), (3, (3, 4), (3,), (150, 3))],
)
def test_a_linear_classifier_has_scikit_learns_shapes(labels: int, coef: Any, intercept: Any, decision: Any) -> None:
    X, y = load_iris(return_X_y=True)
    made = estimator(LinearClassifier).fit(X, np.minimum(y, labels - 1))
    assert (made.coef_.shape, made.intercept_.shape) == (coef, intercept)
    assert made.decision_function(X).shape == decision
    proba = made.predict_proba(X)
    assert proba.shape == (150, labels)
    np.testing.assert_allclose(proba.sum(axis=1), 1)
    np.testing.assert_allclose(np.log(proba), made.predict_log_proba(X))
    np.testing.assert_array_equal(made.classes_[proba.argmax(axis=1)], made.predict(X))


@quiet
def test_a_linear_regressor_has_scikit_learns_shapes() -> None:
    X, y = data(LinearRegressor)
    one, two = estimator(LinearRegressor).fit(X, y), estimator(LinearRegressor).fit(X, np.c_[y, -y])
    assert (one.coef_.shape, one.intercept_.shape, one.predict(X).shape) == ((6,), (1,), (90,))
    assert (two.coef_.shape, two.intercept_.shape, two.predict(X).shape) == ((2, 6), (2,), (90, 2))
    np.testing.assert_allclose(two.predict(X)[:, 0], one.predict(X), atol=1e-12)


@quiet
def test_labels_can_be_words() -> None:
    X, y = load_iris(return_X_y=True, as_frame=False)
    words = np.array(["setosa", "versicolor", "virginica"])[y]
    made = estimator(LinearClassifier, max_iter=60).fit(X, words)
    assert set(made.predict(X)) <= set(words)
    assert made.score(X, words) > 0.8


@quiet
@each_estimator
def test_a_fitted_estimator_tells_what_it_did(cls: Any) -> None:
    X, y = data(cls)
    made = estimator(cls, optimizer=AdamW()).fit(X, y)
    assert made.n_iter_ == len(made.loss_curve_) == 5
    assert made.t_ == 5 * len(y)
    assert made.n_features_in_ == 6
    assert made.loss_curve_[-1] == made.loss_ < made.loss_curve_[0]
    assert made.optimizer_.steps == 15
    assert made.optimizer_.rule == AdamW()


@each_estimator
def test_too_few_epochs_are_a_convergence_warning(cls: Any) -> None:
    X, y = data(cls)
    with pytest.warns(ConvergenceWarning):
        estimator(cls, optimizer=AdamW()).fit(X, y)


@pytest.mark.parametrize("cls", LINEAR)
def test_no_progress_by_tol_ends_the_training(cls: Any) -> None:
    X, y = data(cls)
    made = estimator(cls, optimizer=AdamW(), max_iter=50, tol=1e9, n_iter_no_change=3).fit(X, y)
    assert made.n_iter_ == 5  # the first is progress; then more than three are not
    with pytest.warns(ConvergenceWarning):
        assert made.set_params(tol=None).fit(X, y).n_iter_ == 50


@pytest.mark.parametrize("cls", LINEAR)
def test_coefficients_that_are_not_finite_are_an_error(cls: Any) -> None:
    X, y = data(cls)
    with pytest.raises(ValueError, match="coefficients that are not finite"), np.errstate(all="ignore"):
        estimator(cls, optimizer=SGD(learning_rate=1e300)).fit(X, y)


@pytest.mark.parametrize("cls", LINEAR)
@pytest.mark.parametrize("wrong", [-1.0, 0.0])
def test_weights_that_are_negative_or_nothing_are_an_error(cls: Any, wrong: float) -> None:
    X, y = data(cls)
    with pytest.raises(ValueError, match=r"[Ss]ample.weight"):
        cls().fit(X, y, sample_weight=np.full(len(y), wrong))


def test_a_single_class_is_an_error() -> None:
    with pytest.raises(ValueError, match="more than one class"):
        LinearClassifier().fit([[0.0], [1.0]], [1, 1])


REFUSED: dict[str, tuple[dict[str, Any], Any]] = {
    "an optimizer": ({"optimizer": "adamv"}, lambda X, y: (X, y)),
    "an averaging optimizer": ({"optimizer": "schedulefreeadamw", "average": True}, lambda X, y: (X, y)),
    "a penalty": ({"optimizer": "lamb", "penalty": "l1"}, lambda X, y: (X, y)),
    "a learning rate": ({"learning_rate": lambda t: -1.0}, lambda X, y: (X, y)),
    "fewer columns that are not finite": ({}, lambda X, y: (X[:, :2] * np.nan, y)),
    "fewer columns of more rows": ({}, lambda X, y: (X[:, :2], y[1:])),
    "negative weights": ({}, lambda X, y: (X[:, :2], y, -np.ones(len(y)))),
    "another dtype of memory": ({"warm_start": True, "state_dtype": "int8"}, lambda X, y: (X, y)),
    "class weights": ({"class_weight": {0: -1.0}}, lambda X, y: (X[:, :2], (y > 0).astype(int))),
    "no intercept, and a bad rate": (
        {"warm_start": True, "fit_intercept": False, "learning_rate": lambda t: -1.0}, lambda X, y: (X, y),
    ),
}  # fmt: skip


#: A regressor has no weights of classes.
CASES = [(cls, what) for cls in LINEAR for what in REFUSED if REFUSED[what][0].keys() <= cls().get_params().keys()]


@quiet
@pytest.mark.parametrize(("cls", "what"), CASES)
def test_what_refuses_a_fit_remains_as_it_was(cls: Any, what: str) -> None:
    params, spoiled = REFUSED[what]
    X, y = data(cls)
    made = estimator(cls, optimizer="adamw").fit(X, y)
    made.set_params(**params)
    before, predicted = dict(vars(made)), made.predict(X)
    with pytest.raises((ValueError, TypeError)):
        made.fit(*spoiled(X, y))
    assert vars(made) == before
    np.testing.assert_array_equal(made.predict(X), predicted, strict=True)


def test_the_classes_of_a_refused_pass_are_not_remembered() -> None:
    X, y = data(LinearClassifier)
    made = estimator(LinearClassifier)
    with pytest.raises(ValueError, match="NaN"):
        made.partial_fit(X * np.nan, y, classes=[0, 1, 2, 3])
    assert made.partial_fit(X, y, classes=[0, 1, 2]).classes_.tolist() == [0, 1, 2]


@quiet
def test_another_number_of_targets_in_a_later_pass_is_an_error() -> None:
    X, y = data(LinearRegressor)
    made = estimator(LinearRegressor).partial_fit(X, y)
    with pytest.raises(ValueError, match="targets of the last fit"):
        made.partial_fit(X, np.c_[y, y])


@quiet
def test_an_unknown_class_in_a_later_pass_is_an_error() -> None:
    X, y = data(LinearClassifier)
    made = estimator(LinearClassifier).partial_fit(X, y, classes=[0, 1, 2])
    with pytest.raises(ValueError, match=r"classes that were not there before: \[3\]"):
        made.partial_fit(X, y + 1)


@quiet
@each_estimator
def test_sample_weights_are_routed(cls: Any) -> None:
    X, y = data(cls)
    with sklearn.config_context(enable_metadata_routing=True):
        made = estimator(cls, optimizer=AdamW())
        if "sample_weight" not in inspect.signature(cls.fit).parameters:
            assert cls not in LINEAR  # the networks of scikit-learn 1.6 take no weights
            return
        made = made.set_fit_request(sample_weight=True).set_score_request(sample_weight=False)
        params = {"sample_weight": np.linspace(0, 1, len(y))}
        weighed = cross_validate(made, X, y, params=params, cv=2, return_estimator=True)["estimator"][0]
        unweighed = estimator(cls, optimizer=AdamW())
        # scikit-learn 1.6.0 takes no `params=None` there, its own default
        plain = cross_validate(unweighed, X, y, params={}, cv=2, return_estimator=True)["estimator"][0]
    assert weighed.loss_ != plain.loss_


def test_with_optimizer_keeps_the_request_for_weights() -> None:
    with sklearn.config_context(enable_metadata_routing=True):
        made = with_optimizer(MLPClassifier().set_partial_fit_request(classes=True), "lion")
        assert made.get_metadata_routing().partial_fit.requests["classes"] is True


@quiet
@each_estimator
def test_text_and_html_show_the_optimizer(cls: Any) -> None:
    made = cls(optimizer=Lion(learning_rate=0.5))
    assert "optimizer=Lion(learning_rate=0.5" in repr(made)
    assert repr(cls()) == f"{cls.__name__}()"
    X, y = data(cls)
    assert "Lion" in made.set_params(max_iter=2).fit(X, y)._repr_html_()
    assert "after 2 steps" in repr(estimator(cls, optimizer="lion", max_iter=2, batch_size=90).fit(X, y).optimizer_)


@quiet
@each_classifier
def test_other_estimators_take_ours(classifier: Any) -> None:
    X, y = load_iris(return_X_y=True)
    around = [
        BaggingClassifier(classifier, n_estimators=2, random_state=0),
        OneVsRestClassifier(classifier),
        VotingClassifier([("a", classifier), ("b", classifier)], voting="soft"),
        make_pipeline(classifier),
    ]
    for each in around:
        assert each.fit(X, y).predict(X).shape == y.shape
