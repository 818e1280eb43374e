"""Rows that have several labels: each label of a linear classifier is learned as by a classifier of its own."""

import pickle
from typing import Any

import numpy as np
import pytest
from scipy.sparse import csr_array
from sklearn.base import clone
from sklearn.datasets import make_multilabel_classification
from sklearn.metrics import log_loss
from sklearn.multiclass import OneVsRestClassifier
from sklearn.multioutput import MultiOutputClassifier

from scirs2_adapters.adapters.sklearn.losses import CLASSIFIER_LOSSES, LABEL_LOSSES
from scirs2_adapters.sklearn import SGD, Adagrad, LinearClassifier
from tests.adapters.sklearn_support import assert_close, assert_same_bits, estimator

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
LABELS = 4


def rows(dtype: Any = np.float64) -> tuple[np.ndarray, np.ndarray]:
    X, y = make_multilabel_classification(120, 6, n_classes=LABELS, random_state=0)
    return X.astype(dtype), y


def made(**params: Any) -> LinearClassifier:
    model: LinearClassifier = estimator(LinearClassifier, **params)
    return model


def test_every_loss_is_there_for_labels() -> None:
    assert LABEL_LOSSES.keys() == CLASSIFIER_LOSSES.keys()


@pytest.mark.parametrize("penalty", ["l2", "elasticnet"])
@pytest.mark.parametrize("optimizer", [None, SGD(learning_rate=0.01), "adamw"], ids=["default", "SGD", "adamw"])
@pytest.mark.parametrize("loss", LABEL_LOSSES)
def test_a_label_is_learned_as_by_a_classifier_of_its_own(loss: str, optimizer: Any, penalty: str) -> None:
    X, y = rows()
    ours = made(optimizer=optimizer, loss=loss, penalty=penalty, tol=None).fit(X, y)
    each = OneVsRestClassifier(clone(ours)).fit(X, y)
    np.testing.assert_allclose(ours.decision_function(X), each.decision_function(X), rtol=1e-9, atol=1e-9)
    np.testing.assert_array_equal(ours.predict(X), each.predict(X), strict=True)
    if hasattr(ours, "predict_proba"):
        np.testing.assert_allclose(ours.predict_proba(X), each.predict_proba(X), rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(np.exp(ours.predict_log_proba(X)), ours.predict_proba(X), rtol=1e-9)


def test_the_loss_is_the_sum_over_labels() -> None:
    X, y = rows()
    ours = made(alpha=0.0, max_iter=1).fit(X, y)
    before = sum(log_loss(y[:, k], np.full(len(y), 0.5)) for k in range(LABELS))
    assert ours.loss_ < before
    losses = ours._loss(ours.decision_function(X), y)[0]
    expected = [log_loss(y[:, k], ours.predict_proba(X)[:, k]) for k in range(LABELS)]
    np.testing.assert_allclose(losses.mean(axis=0), expected, rtol=1e-12)


def test_labels_have_scikit_learns_shapes() -> None:
    X, y = rows()
    for labels in (2, 3):
        ours = made().fit(X, y[:, :labels])
        assert (ours.coef_.shape, ours.intercept_.shape) == ((labels, X.shape[1]), (labels,))
        assert ours.multilabel_
        assert ours.classes_.tolist() == list(range(labels))
        assert ours.decision_function(X).shape == ours.predict_proba(X).shape == ours.predict(X).shape
    assert not made().fit(X, y[:, 0]).multilabel_


@pytest.mark.parametrize("form", [csr_array, np.ndarray.tolist, lambda y: y.astype(bool), lambda y: y.astype(float)])
def test_zeros_and_ones_may_come_in_any_form(form: Any) -> None:
    X, y = rows()
    ours, same = made().fit(X, form(y)), made().fit(X, y)
    assert_same_bits(ours, same)
    np.testing.assert_array_equal(ours.predict(X), same.predict(X), strict=True)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("loss", LABEL_LOSSES)
def test_the_dtype_of_the_data_is_kept(loss: str, dtype: Any) -> None:
    X, y = rows(dtype)
    ours = made(loss=loss).fit(X, y)
    slopes = ours._loss(ours.decision_function(X), y)
    assert {ours.coef_.dtype, ours.decision_function(X).dtype, *(x.dtype for x in slopes)} == {np.dtype(dtype)}


def test_passes_and_pickles_go_on() -> None:
    X, y = rows()
    passes = made(optimizer="adamw", shuffle=False)
    for i in range(5):
        passes.partial_fit(X, y, classes=range(LABELS) if i == 0 else None)
        passes = pickle.loads(pickle.dumps(passes))
    assert_close(passes, made(optimizer="adamw", shuffle=False).fit(X, y), 1e-12)
    np.testing.assert_array_equal(passes.predict(X), (passes.decision_function(X) > 0).astype(int), strict=True)


def test_sparse_rows_cost_their_non_zeros_and_give_the_same() -> None:
    X, y = rows()
    adagrad = {"optimizer": Adagrad(learning_rate=0.1), "penalty": None}
    assert_close(made(**adagrad).fit(csr_array(X), y), made(**adagrad).fit(X, y), 1e-9)


def test_rows_are_set_apart_and_a_label_that_none_or_all_have_is_learned() -> None:
    X, y = rows()
    y[:, 0], y[:, 1] = 0, 1
    ours = made(early_stopping=True, max_iter=100).fit(X, y)
    assert len(ours.validation_scores_) == len(ours.validation_loss_curve_) > 0
    assert (ours.predict(X)[:, :2] == [0, 1]).all()


@pytest.mark.parametrize(
    ("options", "spoiled", "words"),
    [
        ({}, lambda y: 2 * y - 1, r"fit\(y=\.\.\.\)` must hold 0 and 1 alone.*-1.*MultiOutputClassifier"),
        ({}, lambda y: y.astype(str), "must hold 0 and 1 alone.*'"),
        ({"class_weight": "balanced"}, lambda y: y, "class_weight.*must be None.*OneVsRestClassifier"),
        ({"warm_start": True}, lambda y: y[:, 0], r"must be of shape \(rows, 4\), as in the last fit"),
        ({"warm_start": True}, lambda y: y[:, :3], r"a column for each label: \[0, 1, 2, 3\]. Received: 3 columns"),
    ],
    ids=["signs", "text", "class weights", "classes", "fewer labels"],
)
def test_what_is_refused_changes_nothing(options: dict[str, Any], spoiled: Any, words: str) -> None:
    X, y = rows()
    ours = made().fit(X, y).set_params(**options)
    before = dict(vars(ours))
    with pytest.raises(ValueError, match=words):
        ours.fit(X, spoiled(y))
    assert vars(ours) == before


def test_labels_do_not_follow_on_classes_and_the_names_of_labels_are_counted() -> None:
    X, y = rows()
    with pytest.raises(ValueError, match="must be the class of each row, as in the last fit"):
        made(warm_start=True).fit(X, y[:, 0]).fit(X, y)
    with pytest.raises(ValueError, match=r"a column for each label: .*'b'.* Received: 4 columns"):
        made().partial_fit(X, y, classes=["a", "b"])


def test_columns_of_several_classes_have_a_way_out() -> None:
    X, y = rows()
    y[:, 0] += y[:, 1]
    np.testing.assert_array_equal(MultiOutputClassifier(made()).fit(X, y).predict(X).shape, y.shape)
