"""`estimator.optimizer_.memory()`: what it says is what is there."""

import pickle
from typing import Any

import pytest
from sklearn.base import clone

from scirs2_adapters import names
from scirs2_adapters.sklearn import LinearClassifier, LinearRegressor, MLPClassifier, MLPRegressor
from tests.adapters.sklearn_support import data, estimator, weights

ESTIMATORS = [LinearClassifier, LinearRegressor, MLPClassifier, MLPRegressor]


def held(fitted: Any) -> int:
    saved = fitted.optimizer_.state_dict()["state"]
    return sum(x.nbytes for slots in saved.values() for x in slots.values())


def in_state(fitted: Any) -> int:
    return sum(sum(by_dtype.values()) for by_dtype in fitted.optimizer_.memory().state.values())


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("name", names())
@pytest.mark.parametrize("cls", ESTIMATORS)
def test_the_report_is_what_is_allocated(cls: type, name: str) -> None:
    fitted = estimator(cls, optimizer=name, max_iter=2)
    fitted.fit(*data(fitted))
    memory = fitted.optimizer_.memory()
    assert in_state(fitted) == held(fitted)
    assert memory.parameters == sum(x.nbytes for x in weights(fitted))
    assert memory.numbers == sum(x.size for x in weights(fitted))
    again = pickle.loads(pickle.dumps(fitted))
    assert again.optimizer_.memory().state == memory.state
    assert not hasattr(clone(fitted), "optimizer_")
