"""Sparse rows cost their non-zeros where the rule leaves alone what has no gradient, and give what dense rows give."""

import pickle
import tracemalloc
from typing import Any

import numpy as np
import pytest
from scipy import sparse

from scirs2_adapters import get, names
from scirs2_adapters.adapters.sklearn.state import Stepper
from scirs2_adapters.core import HostOptimizer
from scirs2_adapters.core.numpy_columns import can_step_columns, step_columns
from scirs2_adapters.core.slots import Leaf
from scirs2_adapters.sklearn import SGD, Adagrad, LinearClassifier, LinearRegressor
from tests.adapters.sklearn_support import LINEAR, assert_close, assert_same_bits, data, estimator

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

LEAF = Leaf((2, 6), "float64", "w")
ABLE = [name for name in names() if can_step_columns(get(name)(weight_decay=0.0), LEAF)]


def test_the_rules_are_those_whose_step_is_a_function_of_present_and_past_gradients_alone() -> None:
    assert ABLE == ["adagrad", "sgd", "signsgd"]
    assert not can_step_columns(SGD(momentum=0.9), LEAF)
    assert not can_step_columns(SGD(weight_decay=0.1), LEAF)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ABLE)
def test_a_step_of_columns_is_that_of_a_gradient_with_zeros(name: str, dtype: Any) -> None:
    rng = np.random.default_rng(0)
    start = rng.normal(size=(2, 6)).astype(dtype)
    some, whole = (HostOptimizer(get(name)(learning_rate=0.1), {"w": start.copy()}) for _ in range(2))
    for columns in ([1, 4], [0], [1, 2, 3], []):
        gradient = np.zeros((2, 6), dtype)
        gradient[:, columns] = rng.normal(size=(2, len(columns)))
        step_columns(some, "w", np.array(columns, int), gradient[:, columns])
        whole.step({"w": gradient})
        np.testing.assert_allclose(some.params["w"], whole.params["w"], rtol=4 * np.finfo(dtype).eps)
    assert some.steps == whole.steps
    for slot, x in whole.state["w"].items():
        np.testing.assert_allclose(some.state["w"][slot], x, rtol=4 * np.finfo(dtype).eps)


def thin(cls: Any) -> tuple[Any, np.ndarray]:
    X, y = data(cls)
    X[np.abs(X) < 1.0] = 0
    X = np.c_[X, np.zeros(len(X)), X[:, :2] * (np.arange(len(X)) % 30 == 0)[:, np.newaxis]]
    return X, y


@pytest.fixture
def by_columns(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many columns each step of columns had."""
    seen: list[int] = []
    step = Stepper.step_columns
    monkeypatch.setattr(
        Stepper, "step_columns", lambda self, p, columns, g: (seen.append(len(columns)), step(self, p, columns, g))[1]
    )
    return seen


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("optimizer", [SGD(learning_rate=0.02), Adagrad(learning_rate=0.1)], ids=["SGD", "Adagrad"])
@pytest.mark.parametrize("loss", ["log_loss", "hinge", "squared_error", "poisson"])
def test_sparse_rows_give_what_dense_ones_give(
    loss: str, optimizer: Any, fit_intercept: bool, by_columns: list[int]
) -> None:
    cls: Any = LinearClassifier if loss in ("log_loss", "hinge") else LinearRegressor
    X, y = thin(cls)
    y = np.abs(y) if loss == "poisson" else y
    options: dict[str, Any] = {"optimizer": optimizer, "loss": loss, "penalty": None, "fit_intercept": fit_intercept}
    options |= {"learning_rate": "cosine", "warmup": 3}
    dense = estimator(cls, **options).fit(X, y)
    assert not by_columns
    made = estimator(cls, **options).fit(sparse.csr_array(X), y)
    assert len(by_columns) == 15
    assert max(by_columns) <= 8
    assert_close(made, dense, 1e-12)
    assert made.loss_ == pytest.approx(dense.loss_)
    assert made.optimizer_.steps == dense.optimizer_.steps == 15


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("alpha", [0.01, 2.0, 49.0])
@pytest.mark.parametrize("penalty", ["l2", "l1", "elasticnet"])
@pytest.mark.parametrize("cls", LINEAR)
def test_gradient_descent_takes_a_penalty_late(
    cls: Any, penalty: str, alpha: float, dtype: Any, by_columns: list[int]
) -> None:
    """Of 49, each step leaves a fiftieth of a coefficient; the rate rises to its value, and falls again."""
    X, y = thin(cls)
    options = {"optimizer": SGD(learning_rate=0.02), "penalty": penalty, "alpha": alpha, "l1_ratio": 0.4}
    options |= {"learning_rate": "cosine", "warmup": 3}
    dense = estimator(cls, **options).fit(X.astype(dtype), y.astype(dtype))
    made = estimator(cls, **options).fit(sparse.csr_array(X.astype(dtype)), y.astype(dtype))
    assert len(by_columns) == 15
    assert max(by_columns) <= 8
    assert_close(made, dense, 1e-12 if dtype is np.float64 else 1e-5)
    assert made.coef_.dtype == dtype
    if penalty == "l1" and alpha == 2.0:
        assert (made.coef_ == 0).any()
    np.testing.assert_array_equal(made.coef_ == 0, dense.coef_ == 0)


def test_a_penalty_of_many_steps_leaves_no_coefficient_that_is_not_finite() -> None:
    """Each step leaves half of a coefficient: after a thousand steps that is no number any more."""
    rng = np.random.default_rng(0)
    X = sparse.csr_array(np.eye(4)[rng.integers(4, size=1500)])
    options = {"optimizer": SGD(learning_rate=0.5), "alpha": 1.0, "batch_size": 1, "shuffle": False}
    made, dense = (LinearRegressor(**options).partial_fit(x, rows := np.arange(1500.0)) for x in (X, X.toarray()))
    assert_close(made, dense, 1e-12)
    assert abs(rows @ X).min() > 0


@pytest.mark.parametrize("cls", LINEAR)
def test_training_goes_on_between_sparse_and_dense_and_after_a_pickle(cls: Any) -> None:
    X, y = thin(cls)
    classes = {"classes": [0, 1, 2]} if cls is LinearClassifier else {}
    options: dict[str, Any] = {"optimizer": Adagrad(learning_rate=0.1), "alpha": 0.0, "shuffle": False}
    dense, mixed, thinner = (estimator(cls, **options) for _ in range(3))
    for i in range(4):
        dense.partial_fit(X, y, **classes)
        mixed.partial_fit(sparse.csr_matrix(X) if i % 2 else X, y, **classes)
        thinner.partial_fit(sparse.csr_matrix(X), y, **classes)
        copied = pickle.loads(pickle.dumps(thinner))
        assert_same_bits(copied, thinner)
        thinner = copied
    assert_close(mixed, dense, 1e-12)
    assert_close(thinner, dense, 1e-12)


@pytest.mark.parametrize(
    "options",
    [
        {"alpha": 0.1},
        {"alpha": 0.1, "optimizer": SGD(momentum=0.9)},
        {"alpha": 60.0, "optimizer": SGD(learning_rate=0.02)},
        {"optimizer": "adam"},
        {"optimizer": None},
        {"optimizer": SGD(weight_decay=0.1)},
        {"average": True},
        {"penalty": "l1", "alpha": 0.1},
        {"state_dtype": "bfloat16"},
    ],
    ids=str,
)
def test_what_moves_every_coefficient_steps_every_coefficient(options: dict[str, Any], by_columns: list[int]) -> None:
    X, y = thin(LinearRegressor)
    arguments = {"optimizer": Adagrad(learning_rate=0.1), "alpha": 0.0, **options}
    estimator(LinearRegressor, **arguments).fit(sparse.csr_matrix(X), y)
    assert not by_columns


def test_a_step_that_is_skipped_changes_nothing() -> None:
    X, y = thin(LinearRegressor)
    made = estimator(LinearRegressor, optimizer=Adagrad(), penalty=None, skip_nonfinite=True, batch_size=90).fit(X, y)
    before = made.coef_.copy()
    with np.errstate(all="ignore"):
        made.partial_fit(sparse.csr_matrix(X * 1e200), y * 1e200)
    assert made.optimizer_.skipped_steps == 1
    np.testing.assert_array_equal(made.coef_, before)


def test_a_pass_over_few_rows_of_many_features_makes_no_array_of_that_size() -> None:
    features, rng = 300_000, np.random.default_rng(0)
    X = sparse.random_array((128, features), density=1e-4, format="csr", rng=rng)
    y = rng.integers(2, size=128)
    made = LinearClassifier(Adagrad(), penalty=None).partial_fit(X, y, classes=[0, 1])
    tracemalloc.start()
    made._params = made.coef_, made.intercept_
    made._epoch((X, y, np.ones(128)), np.random.RandomState(0))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < features * 8 / 2
