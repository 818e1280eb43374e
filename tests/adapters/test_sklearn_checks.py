"""scikit-learn's own conformance checks, on all four estimators; none of them is excused from any."""

from typing import Any

import pytest
from sklearn.utils.estimator_checks import check_estimator

from scirs2_adapters.sklearn import AdamW, Lion
from tests.adapters.sklearn_support import ESTIMATORS

OPTIMIZERS = [None, "adamw", AdamW(learning_rate=0.03), Lion(learning_rate=0.01)]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the checks provoke warnings, and look at those they ask for
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=["default", "name", "AdamW", "Lion"])
@pytest.mark.parametrize("cls", ESTIMATORS)
def test_all_checks_pass(cls: type, optimizer: Any) -> None:
    params = {} if optimizer is None else {"optimizer": optimizer, "max_iter": 200}
    check_estimator(cls(**params), on_skip=None)
