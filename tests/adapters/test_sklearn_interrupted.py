"""A fit that Ctrl-C or an error ends leaves what a shorter one leaves, and training can go on from there."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import sklearn
from sklearn.base import clone

from tests.adapters.sklearn_support import ESTIMATORS, LINEAR, NETWORKS, assert_same_bits, data, estimator, weights

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
STEPS = 3  # in an epoch of 90 rows; with early stopping, of 81
EPOCHS = 2
#: With one that shows averages, ones that keep the best coefficients, and one that steps in other units.
OPTIONS: list[dict[str, Any]] = [
    {"optimizer": "adamw"},
    {"optimizer": "schedulefreeadamw"},
    {"optimizer": "adamw", "early_stopping": True},
    {"optimizer": "schedulefreeadamw", "early_stopping": True},
]
OF_LINEAR: list[dict[str, Any]] = [{"optimizer": None}, {"optimizer": "sgd", "average": True}]


class Interrupt:
    """A callback that raises at the end of an epoch."""

    def __init__(self, error: type[BaseException], epochs: int) -> None:
        self.error, self.epochs = error, epochs

    def setup(self, estimator: Any, context: Any) -> None: ...

    def teardown(self, estimator: Any, context: Any) -> None: ...

    def on_fit_task_begin(self, estimator: Any, context: Any) -> None: ...

    def on_fit_task_end(self, estimator: Any, context: Any) -> None:
        if context.task_name == "epoch" and context.task_id + 1 == self.epochs:
            raise self.error


def rate_until(step: int, error: type[BaseException]) -> Callable[[int], float]:
    """A learning rate that raises in place of one step."""

    def rate(t: int) -> float:
        if t >= step:
            raise error
        return 0.01

    return rate


def assert_left_alike(cut: Any, whole: Any) -> None:
    """Two fits left the same: nothing of a fit in progress, the same numbers, and the same number of epochs."""
    assert vars(cut).keys() - {"_skl_callbacks"} == vars(whole).keys()
    assert_same_bits(cut, whole)
    assert (cut.n_iter_, cut.t_, cut.loss_curve_) == (whole.n_iter_, whole.t_, whole.loss_curve_)


@pytest.mark.parametrize("options", OPTIONS + OF_LINEAR, ids=str)
@pytest.mark.parametrize("cls", LINEAR)
def test_a_linear_fit_raises_and_leaves_what_a_shorter_one_leaves(cls: Any, options: Any) -> None:
    X, y = data(cls)
    cut = estimator(cls, learning_rate=rate_until(EPOCHS * STEPS, KeyboardInterrupt), **options)
    with pytest.raises(KeyboardInterrupt):
        cut.fit(X, y)
    whole = clone(cut).set_params(max_iter=EPOCHS).fit(X, y)
    assert_left_alike(cut, whole)
    for made in (cut, whole):
        made.set_params(learning_rate=lambda t: 0.01, warm_start=True, max_iter=1).fit(X, y)
    assert_left_alike(cut, whole)
    assert cut.optimizer_.steps == (EPOCHS + 1) * STEPS


@pytest.mark.parametrize("step", [1, STEPS + 1])
@pytest.mark.parametrize("options", OPTIONS + OF_LINEAR, ids=str)
@pytest.mark.parametrize("cls", LINEAR)
def test_a_linear_fit_may_fail_at_any_step(cls: Any, options: Any, step: int) -> None:
    X, y = data(cls)
    cut = estimator(cls, learning_rate=rate_until(step, RuntimeError), **options)
    with pytest.raises(RuntimeError):
        cut.fit(X, y)
    assert not hasattr(cut, "_params")
    assert cut.n_iter_ == step // STEPS
    cut.predict(X)
    again = cut.set_params(learning_rate="constant").fit(X, y)
    assert_same_bits(again, clone(again).fit(X, y))


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("cls", NETWORKS)
def test_a_network_warns_and_ends_as_scikit_learns_does(cls: Any, options: Any) -> None:
    X, y = data(cls)
    cut = estimator(cls, learning_rate=rate_until(EPOCHS * STEPS, KeyboardInterrupt), **options)
    with pytest.warns(UserWarning, match=r"Training interrupted by user\."):
        cut.fit(X, y)
    assert "_epochs" not in vars(cut)
    whole = clone(cut).set_params(max_iter=EPOCHS).fit(X, y)
    for mine, theirs in zip(weights(cut), weights(whole), strict=True):
        np.testing.assert_array_equal(mine, theirs)


@pytest.mark.skipif(
    tuple(map(int, sklearn.__version__.split(".")[:2])) < (1, 9),
    reason="scikit-learn has callbacks from version 1.9 on",
)
@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("optimizer", [None, "adamw", "schedulefreeadamw"])
@pytest.mark.parametrize("cls", ESTIMATORS)
def test_a_callback_may_interrupt_a_fit(cls: Any, optimizer: Any, early_stopping: bool) -> None:
    X, y = data(cls)
    options = {"optimizer": optimizer, "early_stopping": early_stopping}
    cut = estimator(cls, **options).set_callbacks(Interrupt(KeyboardInterrupt, EPOCHS))
    if cls in NETWORKS:
        with pytest.warns(UserWarning, match=r"Training interrupted by user\."):
            cut.fit(X, y)
    else:
        with pytest.raises(KeyboardInterrupt):
            cut.fit(X, y)
    whole = estimator(cls, **options, max_iter=EPOCHS).fit(X, y)
    assert vars(cut).keys() - {"_skl_callbacks"} == vars(whole).keys()
    for mine, theirs in zip(weights(cut), weights(whole), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert cut.n_iter_ == EPOCHS
