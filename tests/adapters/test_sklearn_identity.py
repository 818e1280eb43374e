"""`optimizer=None` is scikit-learn, bit for bit; SGD without momentum is its `solver="sgd"`."""

from typing import Any

import numpy as np
import pytest
from scipy import sparse
from sklearn import neural_network

from scirs2_adapters.adapters.sklearn.argument_names import NETWORK_OPTIONS
from scirs2_adapters.sklearn import SGD, MLPClassifier, MLPRegressor, with_optimizer
from tests.adapters.sklearn_support import NETWORKS, assert_close, data, estimator, weights

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    # scikit-learn before 1.8 asks SciPy for output in a way that SciPy has come to deprecate.
    pytest.mark.filterwarnings("ignore:scipy.optimize. The `disp` and `iprint`:DeprecationWarning"),
]

THEIRS = {MLPClassifier: neural_network.MLPClassifier, MLPRegressor: neural_network.MLPRegressor}
SETTINGS: dict[str, dict[str, Any]] = {
    "adam": {},
    "sgd": {"solver": "sgd", "learning_rate_init": 0.05},
    "adaptive": {"solver": "sgd", "learning_rate": "adaptive", "n_iter_no_change": 2, "max_iter": 12},
    "lbfgs": {"solver": "lbfgs", "max_iter": 15},
    "early stopping": {"early_stopping": True, "n_iter_no_change": 2, "max_iter": 12},
    "warm start": {"warm_start": True},
    "rate": {"learning_rate_init": 0.01},
}
each_network = pytest.mark.parametrize("cls", NETWORKS)


def assert_identical(ours: Any, theirs: Any, X: Any) -> None:
    for a, b in zip(weights(ours), weights(theirs), strict=True):
        np.testing.assert_array_equal(a, b, strict=True)
    assert getattr(ours, "loss_curve_", None) == getattr(theirs, "loss_curve_", None)
    assert ours.n_iter_ == theirs.n_iter_
    np.testing.assert_array_equal(ours.predict(X), theirs.predict(X), strict=True)


OURS = ("optimizer", "learning_rate_init", *NETWORK_OPTIONS)


def pair(cls: Any, **params: Any) -> tuple[Any, Any]:
    ours = estimator(cls, **params)
    named = {k: v for k, v in ours.get_params().items() if k not in OURS}
    rate = {"learning_rate_init": ours.learning_rate_init} if ours.learning_rate_init is not None else {}
    return ours, THEIRS[cls](**named, **rate)


@each_network
@pytest.mark.parametrize("setting", SETTINGS)
def test_without_an_optimizer_a_fit_is_scikit_learns(cls: Any, setting: str) -> None:
    X, y = data(cls)
    ours, theirs = pair(cls, **SETTINGS[setting])
    for _ in range(2 if ours.warm_start else 1):
        assert_identical(ours.fit(X, y), theirs.fit(X, y), X)
    assert ours.learning_rate_init == SETTINGS[setting].get("learning_rate_init")


@each_network
def test_without_an_optimizer_partial_fit_is_scikit_learns(cls: Any) -> None:
    X, y = data(cls)
    classes = {"classes": [0, 1, 2]} if cls is MLPClassifier else {}
    ours, theirs = pair(cls)
    for _ in range(3):
        assert_identical(ours.partial_fit(X, y, **classes), theirs.partial_fit(X, y, **classes), X)


@each_network
@pytest.mark.parametrize("kind", [sparse.csr_matrix, sparse.csc_matrix, sparse.csr_array, np.float32])
def test_without_an_optimizer_other_inputs_are_scikit_learns(cls: Any, kind: Any) -> None:
    X, y = data(cls)
    X = kind(X)
    ours, theirs = pair(cls)
    assert_identical(ours.fit(X, y), theirs.fit(X, y), X)


def test_without_an_optimizer_several_labels_and_targets_are_scikit_learns() -> None:
    X, y = data(MLPRegressor)
    for cls, many in ((MLPClassifier, np.c_[y > 0, y > 1].astype(int)), (MLPRegressor, np.c_[y, -2 * y])):
        ours, theirs = pair(cls)
        assert_identical(ours.fit(X, many), theirs.fit(X, many), X)


@each_network
def test_without_an_optimizer_sample_weights_are_scikit_learns(cls: Any) -> None:
    X, y = data(cls)
    ours, theirs = pair(cls)
    weight = np.linspace(0.5, 2, len(y))
    try:
        theirs.fit(X, y, sample_weight=weight)
    except TypeError:  # scikit-learn 1.6 has none for its networks, so neither have ours
        with pytest.raises(TypeError, match="sample_weight"):
            ours.fit(X, y, sample_weight=weight)
    else:
        assert_identical(ours.fit(X, y, sample_weight=weight), theirs, X)


@each_network
def test_plain_sgd_is_scikit_learns_solver(cls: Any) -> None:
    X, y = data(cls)
    ours = estimator(cls, optimizer=SGD(learning_rate=0.1, momentum=0), max_iter=20).fit(X, y)
    _, theirs = pair(cls, solver="sgd", learning_rate_init=0.1, momentum=0, nesterovs_momentum=False, max_iter=20)
    assert_close(ours, theirs.fit(X, y), 1e-9)
    np.testing.assert_allclose(ours.loss_curve_, theirs.loss_curve_, rtol=1e-9)


@each_network
def test_with_optimizer_keeps_the_parameters_and_the_argument(cls: Any) -> None:
    X, y = data(cls)
    theirs = THEIRS[cls](hidden_layer_sizes=(7,), max_iter=5, random_state=0, alpha=0.01).fit(X, y)
    before, fitted = theirs.get_params(), [w.copy() for w in weights(theirs)]
    ours = with_optimizer(theirs, "lion")
    assert isinstance(ours, cls)
    assert not hasattr(ours, "coefs_")
    assert ours.get_params() == {
        **before,
        "learning_rate_init": None,
        "optimizer": "lion",
        **NETWORK_OPTIONS,
    }
    assert_identical(with_optimizer(theirs, None).fit(X, y), theirs, X)
    ours.fit(X, y)
    assert theirs.get_params() == before
    assert all(np.array_equal(a, b) for a, b in zip(fitted, weights(theirs), strict=True))


@each_network
def test_with_optimizer_keeps_a_step_size_that_was_chosen(cls: Any) -> None:
    assert with_optimizer(THEIRS[cls](learning_rate_init=0.02), "lion").learning_rate_init == 0.02
    assert with_optimizer(cls(learning_rate_init=0.001), "lion").learning_rate_init == 0.001
