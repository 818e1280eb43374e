"""Sample weights are shares of the loss: counts, rows of no weight, units of weight, held-out scores."""

from typing import Any

import numpy as np
import pytest
from scipy import sparse
from sklearn.datasets import load_breast_cancer
from sklearn.metrics import accuracy_score, r2_score

import scirs2_adapters as s2
from scirs2_adapters.sklearn import AdamW, LinearClassifier
from tests.adapters.sklearn_support import LINEAR, assert_close, assert_same_bits, data, estimator, weights

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
each_estimator = pytest.mark.parametrize("cls", LINEAR)
each_optimizer = pytest.mark.parametrize("name", [None, *s2.names()])
STOPS: dict[str, Any] = {"max_iter": 300, "tol": 1e-3, "n_iter_no_change": 5}


#: Rules by which a last bit of a gradient may become a whole step: by signs, or by one root for many numbers.
UNSTEADY = ("lion", "rprop", "adafactor")


def room(name: str | None) -> float:
    """How much further rounding may lead: eigenvectors of a matrix that has not its full rank, as the gradients of
    probabilities have it not, follow the last bits.
    """
    return 1000.0 if name is not None and any(slot.side for slot in s2.get(name)().all_slots()) else 1.0


@each_estimator
@each_optimizer
def test_rows_of_no_weight_are_as_if_they_were_not_there(cls: Any, name: str | None) -> None:
    X, y = data(cls)
    weight = np.random.default_rng(0).integers(0, 3, len(y)).astype(float)
    kept = weight > 0
    weighted, removed = (estimator(cls, optimizer=name, max_iter=3) for _ in range(2))
    weighted.fit(X, y, sample_weight=weight)
    removed.fit(X[kept], y[kept], sample_weight=weight[kept])
    assert_same_bits(weighted, removed)
    assert weighted.loss_curve_ == removed.loss_curve_
    assert weighted.t_ == removed.t_


@each_estimator
@each_optimizer
def test_counts_are_repeated_rows_in_loss_and_in_when_it_stops(cls: Any, name: str | None) -> None:
    X, y = data(cls)
    times = np.random.default_rng(0).integers(0, 4, len(y))
    weighed = estimator(cls, optimizer=name, batch_size=len(y), **STOPS).fit(X, y, sample_weight=times)
    repeated = estimator(cls, optimizer=name, batch_size=int(times.sum()), **STOPS)
    repeated.fit(X.repeat(times, axis=0), y.repeat(times))
    assert abs(weighed.n_iter_ - repeated.n_iter_) <= (2 if name in UNSTEADY or room(name) > 1 else 0)
    together = min(weighed.n_iter_, repeated.n_iter_)
    np.testing.assert_allclose(
        weighed.loss_curve_[:together], repeated.loss_curve_[:together], rtol=min(1e-3 * room(name), 1e-2)
    )
    first = 3 if room(name) == 1 else 2
    np.testing.assert_allclose(weighed.loss_curve_[:first], repeated.loss_curve_[:first], rtol=1e-9)


@each_estimator
@each_optimizer
@pytest.mark.parametrize("unit", [1e-6, 3.0, 1e9])
def test_the_unit_of_weights_changes_nothing(cls: Any, name: str | None, unit: float) -> None:
    X, y = data(cls)
    weight = np.random.default_rng(0).uniform(0.5, 2.0, len(y))
    one, other = (estimator(cls, optimizer=name).fit(X, y, sample_weight=w) for w in (weight, unit * weight))
    np.testing.assert_allclose(one.loss_curve_, other.loss_curve_, rtol=1e-6 * room(name))
    assert_close(one, other, 5e-2 if room(name) > 1 else 1e-5)


def test_many_rows_of_no_weight_end_no_training_early() -> None:
    X, y = load_breast_cancer(return_X_y=True)
    X = (X - X.mean(0)) / X.std(0)
    padded, labels = np.vstack([X, X, X]), np.r_[y, 1 - y, 1 - y]
    weight = np.r_[np.ones(len(y)), np.zeros(2 * len(y))]
    full, plain = (LinearClassifier(AdamW(0.01), batch_size=n, random_state=0) for n in (len(labels), len(y)))
    full.fit(padded, labels, sample_weight=weight)
    plain.fit(X, y)
    assert full.n_iter_ == plain.n_iter_
    assert full.loss_ == plain.loss_


@each_estimator
def test_passes_take_weights_too(cls: Any) -> None:
    X, y = data(cls)
    weight = np.random.default_rng(0).integers(0, 3, len(y)).astype(float)
    kept, classes = weight > 0, {"classes": [0, 1, 2]} if "Classifier" in cls.__name__ else {}
    weighted, removed = (estimator(cls, optimizer="adamw", shuffle=False) for _ in range(2))
    for _ in range(3):
        weighted.partial_fit(X, y, sample_weight=weight, **classes)
        removed.partial_fit(X[kept], y[kept], sample_weight=weight[kept], **classes)
    assert_same_bits(weighted, removed)
    assert weighted.loss_ == removed.loss_


@each_estimator
def test_held_out_rows_are_scored_by_their_weights(cls: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = data(cls, rows=120)
    weight = np.random.default_rng(0).uniform(0.1, 5.0, len(y))
    seen: list[tuple[float, float]] = []
    score = cls._score

    def looked(self: Any, scores: np.ndarray, y: np.ndarray, w: np.ndarray) -> float:
        picked = np.argmax(scores, axis=1) if "Classifier" in cls.__name__ else scores
        measure = accuracy_score if "Classifier" in cls.__name__ else r2_score
        relative = w * (weight.mean() if cls in LINEAR else 1.0)  # linear estimators divide weights by their mean
        assert np.isclose(relative[:, np.newaxis], weight).any(axis=1).all()
        seen.append((score(self, scores, y, w), measure(y, picked, sample_weight=w)))
        return seen[-1][0]

    monkeypatch.setattr(cls, "_score", looked)
    made = estimator(cls, optimizer="adamw", early_stopping=True).fit(X, y, sample_weight=weight)
    assert made.validation_scores_ == [a for a, _ in seen]
    np.testing.assert_allclose(*zip(*seen, strict=True))


@each_estimator
def test_sparse_rows_of_no_weight_are_left_out_too(cls: Any) -> None:
    X, y = data(cls)
    weight = np.arange(len(y)) % 3.0
    thin, dense = (estimator(cls).fit(x, y, sample_weight=weight) for x in (sparse.csr_matrix(X), X))
    for a, b in zip(weights(thin), weights(dense), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-8)
