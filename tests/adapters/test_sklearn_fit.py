"""Training with an optimizer: memory over calls, early stopping, inputs, weights, and that it learns."""

from typing import Any

import numpy as np
import pytest
from scipy import sparse
from sklearn.datasets import load_diabetes, load_digits
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import train_test_split

import scirs2_adapters as s2
from scirs2_adapters.sklearn import SGD, Adam, AdamW, LinearClassifier, LinearRegressor, Lion, MLPClassifier
from tests.adapters.sklearn_support import (
    ESTIMATORS,
    LINEAR,
    assert_close,
    assert_same_bits,
    data,
    estimator,
    memory,
    weights,
)

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
each_estimator = pytest.mark.parametrize("cls", ESTIMATORS)
each_name = pytest.mark.parametrize("name", s2.names())


def classes(cls: Any) -> dict[str, Any]:
    return {"classes": [0, 1, 2]} if "Classifier" in cls.__name__ else {}


@each_estimator
def test_five_passes_equal_one_fit_of_five_epochs(cls: Any) -> None:
    X, y = data(cls)
    whole = estimator(cls, optimizer=AdamW(), shuffle=False).fit(X, y)
    passes = estimator(cls, optimizer=AdamW(), shuffle=False)
    for _ in range(5):
        passes.partial_fit(X, y, **classes(cls))
    assert_same_bits(passes, whole)
    assert passes.t_ == whole.t_ == 5 * len(y)
    assert passes.n_iter_ == 1


@each_estimator
@each_name
def test_a_warm_start_goes_on_with_the_memory(cls: Any, name: str) -> None:
    X, y = data(cls)
    whole = estimator(cls, optimizer=name, shuffle=False, max_iter=6).fit(X, y)
    halves = estimator(cls, optimizer=name, shuffle=False, max_iter=3, warm_start=True).fit(X, y).fit(X, y)
    assert_same_bits(halves, whole)
    assert len(halves.loss_curve_) == 6


@each_estimator
def test_a_second_fit_starts_afresh(cls: Any) -> None:
    X, y = data(cls)
    once, twice = (estimator(cls, optimizer=AdamW()) for _ in range(2))
    assert_same_bits(twice.fit(X, y).fit(X, y), once.fit(X, y))


@each_estimator
def test_a_changed_rate_holds_from_the_next_pass_on_and_keeps_the_memory(cls: Any) -> None:
    X, y = data(cls)
    made = estimator(cls, optimizer=AdamW()).partial_fit(X, y, **classes(cls))
    before, steps = memory(made), made.optimizer_.steps
    made.set_params(optimizer__learning_rate=0.0, optimizer__weight_decay=0.0)
    kept = [w.copy() for w in weights(made)]
    made.partial_fit(X, y)
    assert all(np.array_equal(a, b) for a, b in zip(kept, weights(made), strict=True))
    assert made.optimizer_.steps == 2 * steps
    assert memory(made).keys() == before.keys()


@each_estimator
def test_another_optimizer_at_a_warm_start_begins_with_a_memory_of_its_own(cls: Any) -> None:
    X, y = data(cls)
    made = estimator(cls, optimizer=AdamW(), warm_start=True).fit(X, y)
    made.set_params(optimizer=Lion()).fit(X, y)
    assert isinstance(made.optimizer_.rule, Lion)
    assert {name.split("/")[1] for name in memory(made)} == {"exp_avg"}


@each_estimator
def test_early_stopping_scores_every_epoch_and_stops(cls: Any) -> None:
    X, y = data(cls, rows=200)
    optimizer = Adam(learning_rate=0.05)
    made = estimator(cls, optimizer=optimizer, early_stopping=True, max_iter=300, n_iter_no_change=3, tol=1e-3)
    made.fit(X, y)
    assert len(made.validation_scores_) == made.n_iter_ < 300
    assert made.score(X, y) > 0.5


@pytest.mark.parametrize("cls", LINEAR)
def test_a_warm_start_can_begin_to_stop_early(cls: Any) -> None:
    X, y = data(cls)
    made = estimator(cls, optimizer="adamw", warm_start=True).fit(X, y)
    assert made.validation_scores_ is None
    made.set_params(early_stopping=True).fit(X, y)
    assert len(made.validation_scores_) == 5
    assert len(made.loss_curve_) == 10


@pytest.mark.parametrize("cls", LINEAR)
def test_training_that_explodes_ends_early_with_an_error(cls: Any) -> None:
    X, y = data(cls)
    made = estimator(cls, optimizer=SGD(learning_rate=1e200), early_stopping=True, n_iter_no_change=2, batch_size=100)
    with np.errstate(all="ignore"), pytest.raises(ValueError, match="not finite"):
        made.fit(1e150 * X, y)
    assert len(made.validation_scores_) == 3


@pytest.mark.parametrize("cls", LINEAR)
def test_a_validation_set_of_one_row_is_an_error(cls: Any) -> None:
    X, y = data(cls)
    with pytest.raises(ValueError, match=r"validation|test_size"):
        estimator(cls, early_stopping=True, validation_fraction=0.01).fit(X, y)


@each_estimator
def test_partial_fit_refuses_early_stopping(cls: Any) -> None:
    X, y = data(cls)
    with pytest.raises(ValueError, match="partial_fit does not support early_stopping=True"):
        estimator(cls, optimizer="adamw", early_stopping=True).partial_fit(X, y, **classes(cls))


@each_estimator
@pytest.mark.parametrize("kind", [sparse.csr_matrix, sparse.csc_matrix, sparse.csr_array, sparse.csc_array])
def test_sparse_input_equals_dense(cls: Any, kind: Any) -> None:
    X, y = data(cls)
    X[np.abs(X) < 0.5] = 0
    dense, thin = (estimator(cls, optimizer=AdamW()).fit(x, y) for x in (X, kind(X)))
    assert_close(thin, dense, 1e-6)
    np.testing.assert_allclose(thin.predict(kind(X)), dense.predict(X), rtol=1e-6, atol=1e-6)


@each_estimator
@each_name
def test_float32_input_gives_float32_parameters(cls: Any, name: str) -> None:
    X, y = data(cls, dtype=np.float32)
    made = estimator(cls, optimizer=name, max_iter=2).fit(X, y)
    assert {w.dtype for w in weights(made)} == {np.dtype(np.float32)}


@pytest.mark.parametrize("cls", LINEAR)
@pytest.mark.parametrize("optimizer", [AdamW(learning_rate=0.1), SGD(learning_rate=0.1, momentum=0.9)], ids=str)
def test_integer_weights_equal_repeated_rows(cls: Any, optimizer: Any) -> None:
    X, y = data(cls)
    times = np.random.default_rng(0).integers(0, 4, len(y))
    weighed = estimator(cls, optimizer=optimizer, batch_size=len(y)).fit(X, y, sample_weight=times)
    repeated = estimator(cls, optimizer=optimizer, batch_size=times.sum())
    assert_close(weighed, repeated.fit(X.repeat(times, axis=0), y.repeat(times)), 1e-5)


@pytest.mark.parametrize("cls", LINEAR)
def test_a_batch_that_weighs_nothing_teaches_nothing(cls: Any) -> None:
    X, y = data(cls)
    weight = np.r_[np.ones(64), np.zeros(len(y) - 64)]
    made = estimator(cls, optimizer="adamw", shuffle=False, max_iter=1).fit(X, y, sample_weight=weight)
    assert made.optimizer_.steps == 2


@each_estimator
def test_the_same_seed_gives_the_same_bits(cls: Any) -> None:
    X, y = data(cls)
    assert_same_bits(*(estimator(cls, optimizer=AdamW(), random_state=3).fit(X, y) for _ in range(2)))


@each_estimator
def test_decay_is_decoupled_and_acts_on_every_parameter_but_a_linear_intercept(cls: Any) -> None:
    """With a learning rate of 0.1 and a decay of 10, whatever a step adds, nothing of the parameter is left."""
    X, y = data(cls)
    y = y + 100.0 if cls is LinearRegressor else y
    made = estimator(cls, optimizer=AdamW(learning_rate=0.1, weight_decay=10.0), batch_size=len(y))
    decayed = weights(made.set_params(max_iter=3 if cls in LINEAR else 1).fit(X, y))
    if cls in LINEAR:
        assert np.abs(decayed.pop()).max() > (0.25 if cls is LinearRegressor else 0.01)
    assert all(np.abs(w).max() <= 0.1 * (1 + 1e-6) for w in decayed)


def test_a_linear_regressor_reaches_least_squares() -> None:
    X, y = load_diabetes(return_X_y=True)
    best = LinearRegression().fit(X, y).score(X, y)
    made = LinearRegressor(Adam(learning_rate=1.0), alpha=0.0, max_iter=500, random_state=0).fit(X, y)
    assert best - made.score(X, y) < 0.01


@pytest.fixture(scope="module")
def digits() -> list[np.ndarray]:
    X, y = load_digits(return_X_y=True)
    return train_test_split(X / 16, y, random_state=0)


def test_a_linear_classifier_reads_digits(digits: list[np.ndarray]) -> None:
    X, held_out, y, answers = digits
    assert LinearClassifier(max_iter=50, random_state=0).fit(X, y).score(held_out, answers) > 0.9


@pytest.mark.slow
@each_name
def test_every_name_reads_digits_at_some_learning_rate(name: str, digits: list[np.ndarray]) -> None:
    X, held_out, y, answers = digits
    # Pixels that are nearly always 0 have deviations of 0, by which ACProp divides; its default eps is the authors'.
    optimizer = s2.get(name)(eps=1e-4) if name == "acprop" else name
    shared = {"hidden_layer_sizes": (32,), "batch_size": 64, "max_iter": 20, "random_state": 0}
    for rate in (None, 1e-2, 1e-1, 1.0, 1e-3, 0.5):
        made = MLPClassifier(optimizer=optimizer, learning_rate_init=rate, **shared).fit(X, y)
        if made.score(held_out, answers) > 0.85:  # as a tenth would be by chance
            return
    pytest.fail(f"{name} reads digits at none of the learning rates")
