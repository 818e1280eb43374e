"""What is the user's stays his: rules that two estimators share, memory that is read-only, steps that are left out."""

import contextlib
import itertools
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from scirs2_adapters.adapters.sklearn.state import Stepper
from scirs2_adapters.sklearn import SGD, AdamW, Muon
from tests.adapters.sklearn_support import ESTIMATORS, LINEAR, NETWORKS, assert_same_bits, data, estimator, weights
from tests.unit.test_host_arrays import WAYS

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
each_estimator = pytest.mark.parametrize("cls", ESTIMATORS)


def classes(cls: Any) -> dict[str, Any]:
    return {"classes": [0, 1, 2]} if "Classifier" in cls.__name__ else {}


@each_estimator
def test_a_parameter_set_on_one_estimator_is_not_set_on_another_with_the_same_optimizer(cls: Any) -> None:
    shared = AdamW(learning_rate=0.01)
    held = {shared: "found"}
    one, other = cls(optimizer=shared), make_pipeline(StandardScaler(), cls(optimizer=shared))
    one.set_params(optimizer__learning_rate=0.5)
    other.set_params(**{f"{cls.__name__.lower()}__optimizer__beta1": 0.5})
    assert one.optimizer == AdamW(learning_rate=0.5)
    assert other[-1].optimizer == AdamW(learning_rate=0.01, beta1=0.5)
    assert shared == AdamW(learning_rate=0.01)
    assert held[AdamW(learning_rate=0.01)] == held[shared] == "found"


@each_estimator
def test_a_search_leaves_the_optimizer_as_it_was(cls: Any) -> None:
    X, y = data(cls)
    shared = AdamW(learning_rate=0.3)
    search = GridSearchCV(estimator(cls, optimizer=shared), {"optimizer__learning_rate": [1e-5, 0.1]}, cv=2)
    assert search.fit(X, y).best_estimator_.optimizer == AdamW(learning_rate=0.1)
    assert search.estimator.optimizer is shared
    assert shared == AdamW(learning_rate=0.3)


@each_estimator
@pytest.mark.parametrize("way", WAYS.values(), ids=list(WAYS))
@pytest.mark.parametrize("optimizer", [None, AdamW(), Muon()], ids=str)
def test_a_fitted_estimator_out_of_read_only_memory_goes_on(cls: Any, way: Any, optimizer: Any, tmp_path: Path) -> None:
    if optimizer is None and cls in NETWORKS:
        optimizer = "adamw"  # scikit-learn's own cannot
    X, y = data(cls)
    made = estimator(cls, optimizer=optimizer, shuffle=False, warm_start=True).fit(X, y)
    copied = way(made, tmp_path)
    np.testing.assert_array_equal(copied.predict(X), made.predict(X))
    for each in (made, copied):
        each.partial_fit(X, y, **classes(cls)).fit(X, y)
    assert_same_bits(copied, made)


def continued(made: Any, X: np.ndarray, y: np.ndarray) -> Any:
    return made.partial_fit(X, y)


def test_workers_go_on_with_estimators_that_came_as_memory_maps() -> None:
    fitted = []
    for cls in ESTIMATORS:
        X, y = data(cls)
        made = estimator(cls, optimizer=AdamW(), shuffle=False).partial_fit(X, y, **classes(cls))
        fitted.append((made, X, y))
    run: Callable[..., Any] = joblib.Parallel(n_jobs=2, max_nbytes=10, mmap_mode="r")
    copies = run(joblib.delayed(continued)(*each) for each in fitted)
    for copied, (made, X, y) in zip(copies, fitted, strict=True):
        assert_same_bits(copied, made.partial_fit(X, y))


@pytest.fixture
def overflows(monkeypatch: pytest.MonkeyPatch) -> None:
    """The gradient of the first of every three batches has no value."""
    calls, step = itertools.count(), Stepper.step

    def broken(self: Stepper, params: Any, grads: Any, *layout: Any, **options: Any) -> None:
        with np.errstate(all="ignore"):
            wrong = {k: g * np.inf for k, g in grads.items()}
        step(self, params, grads if next(calls) % 3 else wrong, *layout, **options)

    monkeypatch.setattr(Stepper, "step", broken)


@pytest.mark.usefixtures("overflows")
@each_estimator
def test_a_step_without_a_value_is_left_out_and_counted(cls: Any) -> None:
    X, y = data(cls)
    made = estimator(cls, optimizer=AdamW(), skip_nonfinite=True, max_iter=3).fit(X, y)
    assert made.optimizer_.skipped_steps == 3
    assert made.optimizer_.steps == 6
    assert all(np.isfinite(w).all() for w in weights(made))
    assert pickle.loads(pickle.dumps(made)).optimizer_.skipped_steps == 3


@pytest.mark.usefixtures("overflows")
@pytest.mark.parametrize("cls", LINEAR)
def test_batches_that_were_left_out_are_left_out_of_the_loss(cls: Any) -> None:
    X, y = data(cls)
    options = {"optimizer": SGD(learning_rate=0.01), "shuffle": False, "skip_nonfinite": True}
    made = estimator(cls, **options).fit(X, y)
    weight = np.r_[np.zeros(32), np.ones(len(y) - 32)]
    judged = estimator(cls, **{**options, "optimizer": SGD(learning_rate=0.0)}).fit(X, y)
    expected = judged._loss(np.zeros((len(y), judged.intercept_.size)), judged._targets(y, float, False)[0])[0]
    assert judged.loss_ == pytest.approx(np.sum(expected.T @ weight) / weight.sum())
    assert made.loss_ < judged.loss_


@pytest.mark.usefixtures("overflows")
@each_estimator
def test_the_option_can_be_set_on_the_way(cls: Any) -> None:
    X, y = data(cls)
    made = estimator(cls, optimizer="sgd", skip_nonfinite=True).partial_fit(X, y, **classes(cls))
    assert (made.optimizer_.steps, made.optimizer_.skipped_steps) == (2, 1)
    made.set_params(skip_nonfinite=False)
    with np.errstate(all="ignore"), contextlib.suppress(ValueError):
        made.partial_fit(X, y)
    assert (made.optimizer_.steps, made.optimizer_.skipped_steps) == (5, 1)


@pytest.mark.parametrize("cls", NETWORKS)
def test_scikit_learns_own_solvers_skip_nothing(cls: Any) -> None:
    X, y = data(cls)
    words = r"`MLP\w+\(skip_nonfinite=...\)` must be False with `optimizer=None`.*Give an optimizer"
    with pytest.raises(ValueError, match=words):
        estimator(cls, skip_nonfinite=True).fit(X, y)
    with pytest.raises(ValueError, match="'skip_nonfinite' parameter"):
        estimator(cls, optimizer="adam", skip_nonfinite="yes").fit(X, y)
