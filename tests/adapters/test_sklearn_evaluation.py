"""A fitted estimator has the weights to evaluate; training goes on from those that are trained."""

import pickle
from typing import Any

import numpy as np
import pytest
from sklearn.base import is_classifier

from scirs2_adapters import get, names
from scirs2_adapters.core.ops import HOST_SCALARS
from scirs2_adapters.core.step.reference import NUMPY
from tests.adapters.sklearn_support import ESTIMATORS, assert_same_bits, data, estimator, memory, weights

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
each_estimator = pytest.mark.parametrize("cls", ESTIMATORS)
AVERAGING = [name for name in names() if get(name).evaluation is not None]
each_averaging = pytest.mark.parametrize("name", AVERAGING)


def begun(made: Any, X: np.ndarray, y: np.ndarray) -> Any:
    """After the first `partial_fit`."""
    return made.partial_fit(X, y, **({"classes": np.unique(y)} if is_classifier(made) else {}))


@each_estimator
def test_what_is_shown_is_the_mean_of_all_plain_steps(cls: type) -> None:
    """Where all steps weigh alike; with one batch in an epoch, memory shows each of them."""
    X, y = data(cls)
    rule = get("schedulefreeadamw")(0.05, weight_lr_power=0.0)
    made, steps = begun(estimator(cls, optimizer=rule, batch_size=len(y)), X, y), []
    for _ in range(4):
        steps.append([np.copy(x) for name, x in memory(made).items() if name.endswith("/z")])
        for shown, plain in zip(weights(made), zip(*steps, strict=True), strict=True):
            np.testing.assert_allclose(shown, np.mean(plain, axis=0), rtol=1e-10, atol=1e-12)
        made.partial_fit(X, y)
    assert not np.allclose(steps[0][0], steps[-1][0])


@each_estimator
@each_averaging
@pytest.mark.parametrize("early_stopping", [False, True])
def test_a_fit_ends_with_what_is_to_be_evaluated(cls: type, name: str, early_stopping: bool) -> None:
    X, y = data(cls)
    rule = get(name)(learning_rate=0.05)
    made = estimator(cls, optimizer=rule, max_iter=1, batch_size=4, early_stopping=early_stopping).fit(X, y)
    names = [slot.name for slot in rule.roles("evaluation")[0]]
    columns = [[x for slot, x in memory(made).items() if slot.endswith(f"/{name}")] for name in names]
    for shown, trained, *held in zip(weights(made), made.optimizer_._trained, *columns, strict=True):
        assert np.any(shown != trained)
        slots = dict(zip(names, held, strict=True))
        averaged = rule.evaluated(NUMPY, trained, slots, rule.scalars(HOST_SCALARS, 1))
        np.testing.assert_allclose(shown, averaged, rtol=1e-10, atol=1e-12)


@each_estimator
@each_averaging
def test_training_goes_on_from_what_is_trained(cls: type, name: str) -> None:
    """Epochs by one fit, by `partial_fit`, by fits that go on, and by way of a pickle are the same epochs."""
    X, y = data(cls)
    arguments: dict[str, Any] = {"optimizer": get(name)(learning_rate=0.05), "shuffle": False}
    whole = estimator(cls, max_iter=3, **arguments).fit(X, y)
    parts, warm = begun(estimator(cls, **arguments), X, y), estimator(cls, max_iter=1, warm_start=True, **arguments)
    for _ in range(2):
        parts = pickle.loads(pickle.dumps(parts)).partial_fit(X, y)
    for _ in range(3):
        warm.fit(X, y)
    assert_same_bits(parts, whole)
    assert_same_bits(warm, whole)


@each_estimator
@each_averaging
def test_another_optimizer_starts_from_what_was_shown(cls: type, name: str) -> None:
    X, y = data(cls)
    made = begun(estimator(cls, optimizer=get(name)(learning_rate=0.05)), X, y)
    before = [np.copy(x) for x in weights(made)]
    made.set_params(optimizer=get("sgd")(0.0)).partial_fit(X, y)
    for x, old in zip(weights(made), before, strict=True):
        np.testing.assert_array_equal(x, old)


def test_there_is_something_to_evaluate() -> None:
    assert "schedulefreeadamw" in AVERAGING
