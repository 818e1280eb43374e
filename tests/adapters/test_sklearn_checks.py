"""scikit-learn's own conformance checks, on all four estimators; none of them is excused from any with its defaults."""

from typing import Any

import pytest
from sklearn.utils.estimator_checks import check_estimator

from scirs2_adapters.adapters.sklearn.losses import CLASSIFIER_LOSSES, REGRESSOR_LOSSES
from scirs2_adapters.adapters.sklearn.penalties import PENALTIES
from scirs2_adapters.sklearn import AdamW, LinearClassifier, LinearRegressor, Lion
from tests.adapters.sklearn_support import ESTIMATORS

OPTIMIZERS = [None, "adamw", AdamW(learning_rate=0.03), Lion(learning_rate=0.01)]


@pytest.mark.one_of_each("cls")
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the checks provoke warnings, and look at those they ask for
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=["default", "name", "AdamW", "Lion"])
@pytest.mark.parametrize("cls", ESTIMATORS)
def test_all_checks_pass(cls: type, optimizer: Any) -> None:
    params = {} if optimizer is None else {"optimizer": optimizer, "max_iter": 200}
    if optimizer == "adamw" and cls is LinearClassifier:  # 1000 steps of 0.001 are too few for class weights
        params["optimizer"] = "rprop"
    check_estimator(cls(**params), on_skip=None)


#: Each loss and each penalty at least once, with the other arguments spread over them.
COMBINATIONS = [
    LinearClassifier(loss="hinge", penalty="elasticnet", average=True, max_iter=200),
    LinearClassifier(loss="squared_hinge", penalty=None, max_iter=200),
    LinearClassifier(AdamW(learning_rate=0.03), loss="modified_huber", penalty="l1", average=True, max_iter=200),
    LinearRegressor(loss="huber", penalty="l1", epsilon=1.0, max_iter=200),
    LinearRegressor(loss="epsilon_insensitive", penalty=None, fit_intercept=False, max_iter=200),
    LinearRegressor(loss="squared_epsilon_insensitive", penalty="elasticnet", average=True, max_iter=200),
    LinearRegressor(AdamW(learning_rate=0.03), loss="quantile", penalty="elasticnet", max_iter=200),
    LinearRegressor(loss="poisson", penalty="l1", max_iter=200),
]
#: What a loss fails, and why.
EXCUSED = {
    "poisson": {"check_regressor_multioutput": "gives targets below 0, whatever the tags say"},
    "modified_huber": {
        "check_classifiers_multilabel_output_format_predict_proba": "its probabilities of labels can be 0 and 1"
    },
}


@pytest.mark.one_of_each
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("estimator", COMBINATIONS, ids=lambda estimator: estimator.loss)
def test_all_checks_pass_with_other_losses_and_penalties(estimator: Any) -> None:
    check_estimator(estimator, on_skip=None, expected_failed_checks=EXCUSED.get(estimator.loss, {}))


def test_every_loss_and_penalty_is_among_them() -> None:
    assert {e.loss for e in COMBINATIONS} == {*CLASSIFIER_LOSSES, *REGRESSOR_LOSSES} - {"log_loss", "squared_error"}
    assert {e.penalty for e in COMBINATIONS} == {*PENALTIES, None} - {"l2"}
