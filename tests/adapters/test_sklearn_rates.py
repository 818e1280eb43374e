"""How an estimator's learning rate changes: scikit-learn's words, a cosine, schedules and functions, a warm-up."""

import math
import pickle
import re
from typing import Any

import numpy as np
import pytest
from sklearn import neural_network
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV

from scirs2_adapters.core import schedules
from scirs2_adapters.core.numpy_repeated import RepeatedStep
from scirs2_adapters.sklearn import SGD, AdamW, MLPClassifier, MLPRegressor
from tests.adapters.sklearn_support import (
    ESTIMATORS,
    NETWORKS,
    assert_close,
    assert_same_bits,
    data,
    estimator,
    weights,
)

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
each_estimator = pytest.mark.parametrize("cls", ESTIMATORS)
each_network = pytest.mark.parametrize("cls", NETWORKS)
THEIRS = {MLPClassifier: neural_network.MLPClassifier, MLPRegressor: neural_network.MLPRegressor}
WORDS = ["constant", "invscaling", "adaptive", "cosine"]
COSINE = schedules.Cosine(0.01, steps=20)
#: What needs no number of all steps, with a warm-up of 4 steps.
PARTIAL = [*WORDS[:3], COSINE, schedules.ReduceOnPlateau(0.01, factor=0.5, patience=0, threshold=0.2)]


def falling(count: int) -> float:
    return 0.01 / (1 + count)


def classes(cls: Any) -> dict[str, Any]:
    return {"classes": [0, 1, 2]} if "Classifier" in cls.__name__ else {}


def watched(made: Any, monkeypatch: Any) -> list[float]:
    """The learning rates of the steps to come."""
    rates, step = [], RepeatedStep.step

    def seen(self: Any, *arguments: Any) -> None:
        rates.append(self.optimizer.rule.learning_rate)
        step(self, *arguments)

    monkeypatch.setattr(RepeatedStep, "step", seen)
    return rates


@each_network
@pytest.mark.parametrize("word", WORDS[:3])
@pytest.mark.parametrize("early_stopping", [False, True])
def test_a_word_means_what_it_means_to_scikit_learns_sgd(cls: Any, word: str, early_stopping: bool) -> None:
    X, y = data(cls)
    shared = {"learning_rate": word, "max_iter": 60, "n_iter_no_change": 2, "tol": 1e-2, "power_t": 0.4}
    shared |= {"hidden_layer_sizes": (7,), "random_state": 0, "batch_size": 32, "early_stopping": early_stopping}
    if word != "invscaling":
        del shared["power_t"]
    theirs = THEIRS[cls](solver="sgd", learning_rate_init=0.1, momentum=0, nesterovs_momentum=False, **shared).fit(X, y)
    ours = cls(optimizer=SGD(learning_rate=0.1, momentum=0), **shared).fit(X, y)
    assert ours.n_iter_ == theirs.n_iter_
    assert ours.optimizer_.learning_rate == pytest.approx(theirs._optimizer.learning_rate, rel=1e-12)
    assert_close(ours, theirs, 1e-9)


@each_estimator
def test_an_adaptive_rate_falls_until_it_is_too_small(cls: Any) -> None:
    X, y = data(cls)
    made = estimator(cls, optimizer=AdamW(learning_rate=1e-3), learning_rate="adaptive", max_iter=99)
    made.set_params(n_iter_no_change=2, tol=1e9).fit(X, y)
    assert made.optimizer_.learning_rate == pytest.approx(1e-3 / 5**5)
    assert 15 <= made.n_iter_ < 99


@each_estimator
@pytest.mark.parametrize("warmup", [0, 3, 0.2])
def test_a_cosine_reaches_0_at_the_last_step(cls: Any, warmup: Any, monkeypatch: Any) -> None:
    X, y = data(cls)
    made = estimator(cls, optimizer=AdamW(learning_rate=0.1), learning_rate="cosine", warmup=warmup, warm_start=True)
    rates = watched(made, monkeypatch)
    made.fit(X, y).fit(X, y)
    steps = 3
    expected = [0.1 * (t + 1) / (steps + 1) for t in range(steps)] if warmup else []
    left = 15 - len(expected)
    expected += [0.05 * (1 + math.cos(math.pi * t / left)) for t in range(left)]
    np.testing.assert_allclose(rates, 2 * expected, rtol=1e-12)
    assert made.optimizer_.learning_rate == 0.0


@each_estimator
def test_the_steps_of_a_cosine_are_those_of_the_rows_that_are_left(cls: Any) -> None:
    X, y = data(cls, rows=101)
    made = estimator(cls, optimizer="adamw", learning_rate="cosine", early_stopping=True, validation_fraction=0.3)
    assert made.fit(X, y).optimizer_.learning_rate == 0.0
    assert made.optimizer_.steps == 5 * math.ceil((101 - 31) / 32)


@each_estimator
@pytest.mark.filterwarnings("error::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("early_stopping", [False, True])
def test_a_cosine_that_has_come_to_its_end_warns_of_none(cls: Any, early_stopping: bool) -> None:
    X, y = data(cls)
    made = estimator(cls, optimizer="adamw", learning_rate="cosine", early_stopping=early_stopping).fit(X, y)
    assert made.n_iter_ == len(made.loss_curve_) == 5
    with pytest.warns(ConvergenceWarning):
        made.set_params(learning_rate="constant").fit(X, y)


@each_estimator
@pytest.mark.parametrize("rate", [COSINE, falling], ids=["schedule", "function"])
def test_a_function_gives_the_rate_of_each_step(cls: Any, rate: Any, monkeypatch: Any) -> None:
    X, y = data(cls)
    made = estimator(cls, optimizer=AdamW(), learning_rate=rate, warm_start=True, max_iter=2)
    rates = watched(made, monkeypatch)
    made.fit(X, y).fit(X, y)
    np.testing.assert_allclose(rates, [rate(t) for t in range(12)], rtol=1e-15)


@each_estimator
@pytest.mark.parametrize("early_stopping", [False, True])
def test_a_rate_falls_where_the_loss_of_an_epoch_does_not(cls: Any, early_stopping: bool) -> None:
    """That of the rows set apart, if there are any. What the user gave stays as it was."""
    X, y = data(cls)
    plateau = schedules.ReduceOnPlateau(0.01, factor=0.5, patience=1, threshold=0.9)
    arguments = {"learning_rate": plateau, "early_stopping": early_stopping, "max_iter": 12}
    made = estimator(cls, optimizer="adamw", **arguments).fit(X, y)
    rate: Any = plateau
    for loss in made.validation_loss_curve_ if early_stopping else made.loss_curve_:
        rate = rate.after(loss)
    assert made.optimizer_.learning_rate == rate(0) < plateau(0)
    assert made.learning_rate == plateau == plateau.begun()


@each_estimator
def test_a_plateau_must_look_for_the_least(cls: Any) -> None:
    X, y = data(cls)
    with pytest.raises(ValueError, match=r"learning_rate.*must have the mode 'min'"):
        estimator(cls, optimizer="adamw", learning_rate=schedules.ReduceOnPlateau(0.1, mode="max")).fit(X, y)


@each_estimator
@pytest.mark.parametrize("word", PARTIAL, ids=str)
def test_passes_warm_starts_and_pickles_go_on(cls: Any, word: Any) -> None:
    X, y = data(cls)
    arguments: dict[str, Any] = {"optimizer": AdamW(learning_rate=0.01), "learning_rate": word, "warmup": 4}
    arguments |= {"shuffle": False, "n_iter_no_change": 2, "tol": 1e-2}
    whole = estimator(cls, **arguments, max_iter=4).fit(X, y)
    passes = estimator(cls, **arguments)
    halves = estimator(cls, **arguments, max_iter=2, warm_start=True).fit(X, y)
    for _ in range(4):
        passes = pickle.loads(pickle.dumps(passes)).partial_fit(X, y, **classes(cls))
    for made in (passes, halves.fit(X, y)):
        assert_same_bits(made, whole)
        assert made.optimizer_.learning_rate == whole.optimizer_.learning_rate
    copied = clone(whole)
    assert copied.learning_rate == word
    assert_same_bits(copied.fit(X, y), whole)


@each_estimator
def test_a_constant_rate_without_a_warm_up_is_the_optimizers(cls: Any) -> None:
    X, y = data(cls)
    plain, same = estimator(cls, optimizer="adamw"), estimator(cls, optimizer="adamw")
    same.set_params(learning_rate=schedules.Constant(1e-3))
    assert_same_bits(plain.fit(X, y), same.fit(X, y))


@each_estimator
@pytest.mark.parametrize("arguments", [{"learning_rate": "cosine"}, {"warmup": 0.5}], ids=str)
def test_a_pass_does_not_know_the_number_of_all_steps(cls: Any, arguments: dict[str, Any]) -> None:
    X, y = data(cls)
    made = estimator(cls, optimizer="adamw", **arguments)
    name = next(iter(arguments))
    words = f"`{cls.__name__}({name}=...)` must not need the number of all steps"
    with pytest.raises(ValueError, match=re.escape(words) + ".*Cosine"):
        made.partial_fit(X, y, **classes(cls))
    assert not hasattr(made, "optimizer_")


@each_estimator
@pytest.mark.parametrize(
    "arguments",
    [{"learning_rate": "cosin"}, {"warmup": -1}, {"warmup": 1.0}, {"power_t": -1}],
    ids=str,
)
def test_another_word_is_refused(cls: Any, arguments: dict[str, Any]) -> None:
    X, y = data(cls)
    with pytest.raises(ValueError, match=f"The '{next(iter(arguments))}' parameter of {cls.__name__} must be"):
        estimator(cls, optimizer="adamw", **arguments).fit(X, y)


@each_estimator
def test_a_bad_rate_is_refused_before_anything_is_fitted(cls: Any) -> None:
    X, y = data(cls)
    made = estimator(cls, optimizer="adamw", learning_rate=lambda t: -1.0)
    with pytest.raises(ValueError, match=rf"{cls.__name__}\(learning_rate=.*at step count 0"):
        made.fit(X, y)
    assert not hasattr(made, "optimizer_")


@each_network
@pytest.mark.parametrize(
    "arguments",
    [
        {"learning_rate": "cosine"},
        {"learning_rate": COSINE},
        {"warmup": 3},
        {"decay_biases": False},
        {"learning_rate_by_layer": 0.5},
    ],
    ids=lambda arguments: next(iter(arguments)),
)
def test_scikit_learns_own_solvers_know_none_of_it(cls: Any, arguments: dict[str, Any]) -> None:
    X, y = data(cls)
    words = rf"`{cls.__name__}\({next(iter(arguments))}=.*optimizer=None`.*Give an optimizer"
    with pytest.raises(ValueError, match=words):
        cls(**arguments).fit(X, y)


@each_network
def test_a_rate_beside_a_schedule_is_two_answers(cls: Any) -> None:
    X, y = data(cls)
    with pytest.raises(ValueError, match=r"learning_rate_init=.*must be None beside a schedule"):
        cls(optimizer="adamw", learning_rate_init=0.1, learning_rate=COSINE).fit(X, y)


@each_estimator
def test_a_grid_searches_rates(cls: Any) -> None:
    X, y = data(cls)
    grid = {"learning_rate": ["constant", "cosine", COSINE], "warmup": [0, 0.1]}
    searched = GridSearchCV(estimator(cls, optimizer="adamw"), grid, cv=2, error_score="raise").fit(X, y)
    assert len(searched.cv_results_["params"]) == 6


# -- layers and biases of networks


@each_network
def test_biases_need_not_decay(cls: Any) -> None:
    X, y = data(cls)
    rule = SGD(learning_rate=0.1, momentum=0, weight_decay=0.5)
    first, decayed, spared = (estimator(cls, optimizer=rule, max_iter=1, batch_size=90) for _ in range(3))
    free = estimator(cls, optimizer=rule.replace(weight_decay=0.0), max_iter=1, batch_size=90).fit(X, y)
    decayed.fit(X, y), spared.set_params(decay_biases=False).fit(X, y)
    first.set_params(optimizer=rule.replace(learning_rate=0.0)).fit(X, y)
    for i in range(2):
        np.testing.assert_array_equal(spared.coefs_[i], decayed.coefs_[i])
        np.testing.assert_array_equal(spared.intercepts_[i], free.intercepts_[i])
        np.testing.assert_allclose(decayed.intercepts_[i], free.intercepts_[i] - 0.05 * first.intercepts_[i])


@each_network
def test_a_layer_has_a_learning_rate_of_its_own(cls: Any) -> None:
    X, y = data(cls)
    rule = SGD(learning_rate=0.1, momentum=0)
    start = estimator(cls, optimizer=rule.replace(learning_rate=0.0), max_iter=1, batch_size=90).fit(X, y)
    whole = estimator(cls, optimizer=rule, max_iter=1, batch_size=90).fit(X, y)
    for by_layer, factors in ((0.5, [0.5, 1.0]), ([0.0, 2.0], [0.0, 2.0]), (np.array([1.0, 0.25]), [1.0, 0.25])):
        made = estimator(cls, optimizer=rule, max_iter=1, batch_size=90, learning_rate_by_layer=by_layer).fit(X, y)
        for i, (after, all_of_it, before) in enumerate(zip(*map(weights, (made, whole, start)), strict=True)):
            np.testing.assert_allclose(after, before + factors[i % 2] * (all_of_it - before), atol=1e-12)


@each_network
def test_groups_go_on_and_can_be_searched(cls: Any) -> None:
    X, y = data(cls)
    arguments: dict[str, Any] = {
        "optimizer": "adamw",
        "decay_biases": False,
        "learning_rate_by_layer": 0.5,
        "shuffle": False,
    }
    whole = estimator(cls, **arguments, max_iter=4, learning_rate=COSINE).fit(X, y)
    passes = estimator(cls, **arguments, learning_rate=COSINE)
    for _ in range(4):
        passes = pickle.loads(pickle.dumps(passes)).partial_fit(X, y, **classes(cls))
    assert_same_bits(passes, whole)
    assert_same_bits(clone(whole).fit(X, y), whole)
    grid = {"decay_biases": [True, False], "learning_rate_by_layer": [None, 0.5, [1.0, 0.1]]}
    searched = GridSearchCV(estimator(cls, optimizer="adamw"), grid, cv=2, error_score="raise").fit(X, y)
    assert len(searched.cv_results_["params"]) == 6


@each_network
@pytest.mark.parametrize("wrong", [-0.5, [1.0], [1.0, -1.0], "fast", ["a", "b"], [1.0, float("nan")], True], ids=str)
def test_a_rate_by_layer_must_fit(cls: Any, wrong: Any) -> None:
    X, y = data(cls)
    made = estimator(cls, optimizer="adamw", learning_rate_by_layer=wrong)
    with pytest.raises(ValueError, match=r"learning_rate_by_layer=.*each of the 2 layers"):
        made.fit(X, y)
    assert not hasattr(made, "optimizer_")
