"""The four estimators, and the function that turns scikit-learn's networks into ours."""

from __future__ import annotations

import copy

from sklearn import neural_network
from sklearn.base import BaseEstimator, clone

from scirs2_adapters.core import Rule
from scirs2_adapters.core.errors import bad_type

from .argument_names import LEARNING_RATE_INIT, PUBLIC, explains_parameters
from .linear_classifier import LinearClassifier as LinearClassifier
from .linear_regressor import LinearRegressor as LinearRegressor
from .network import CONSTRAINTS, Network, constructor


@explains_parameters
class MLPClassifier(Network, neural_network.MLPClassifier):
    """scikit-learn's `MLPClassifier`, trained by any optimizer.

    Arguments:
      optimizer: None is scikit-learn's `solver`, bit for bit; else a name, or an optimizer such as `AdamW(1e-3)`.
      learning_rate_init: of an optimizer given by name; None is its default, and 0.001 with `optimizer=None`.
      learning_rate: beside an optimizer, how its learning rate changes: "constant", "invscaling" and "adaptive" as with
        scikit-learn's `solver="sgd"`, "cosine" to 0 at the end of `max_iter` epochs, or a function of the number of
        steps taken before, such as one of `scirs2_adapters.core.schedules`, which gives the learning rate itself.
      warmup: a number of first steps, or a fraction of all in [0, 1), in which the learning rate rises.
      decay_biases: whether the optimizer's `weight_decay` acts on biases.
      learning_rate_by_layer: factors of the learning rate, one for each layer from the input on, or a number: the last
        layer has the whole rate, and each layer before it that much of the next one's.
      skip_nonfinite: leave out and count, in `optimizer_.skipped_steps`, a step whose gradient is not finite.
      state_dtype: how the optimizer's memory is stored: None as the weights are, "bfloat16", "int8", or names by slot.
      All others are scikit-learn's; those of its own solvers are refused beside an optimizer. `alpha` is L2 decay
      inside the loss; an optimizer's `weight_decay` is its own. `validation_loss_curve_` stands beside
      `validation_scores_`, and scikit-learn's callbacks are called where it has them.

    Example:
      >>> from scirs2_adapters.sklearn import MLPClassifier, Lion
      >>> clf = MLPClassifier(optimizer=Lion(learning_rate=3e-4), max_iter=20)
    """

    __module__ = PUBLIC
    _parameter_constraints = {**neural_network.MLPClassifier._parameter_constraints, **CONSTRAINTS}
    __init__ = constructor(neural_network.MLPClassifier)


@explains_parameters
class MLPRegressor(Network, neural_network.MLPRegressor):
    """scikit-learn's `MLPRegressor`, trained by any optimizer. Arguments as in `MLPClassifier`.

    Example:
      >>> from scirs2_adapters.sklearn import MLPRegressor
      >>> reg = MLPRegressor(optimizer="adamw", learning_rate_init=1e-2)
    """

    __module__ = PUBLIC
    _parameter_constraints = {**neural_network.MLPRegressor._parameter_constraints, **CONSTRAINTS}
    __init__ = constructor(neural_network.MLPRegressor)


def with_optimizer(estimator: BaseEstimator, optimizer: Rule | str | None) -> MLPClassifier | MLPRegressor:
    """An unfitted network with the parameters of `estimator` and another optimizer; `estimator` is not changed.

    scikit-learn's default step size of 0.001 counts as not set, so that the optimizer's default holds.

    >>> from sklearn.neural_network import MLPClassifier
    >>> from scirs2_adapters.sklearn import with_optimizer
    >>> with_optimizer(MLPClassifier(max_iter=20), "lion")
    MLPClassifier(max_iter=20, optimizer='lion')
    """
    counterparts = {neural_network.MLPClassifier: MLPClassifier, neural_network.MLPRegressor: MLPRegressor}
    cls = counterparts.get(type(estimator), type(estimator))
    if cls not in counterparts.values():
        worded = "must be an MLPClassifier(...) or MLPRegressor(...) object, scikit-learn's or ours"
        linear = next((n for n in ("Classifier", "Regressor") if type(estimator).__name__ == f"SGD{n}"), None)
        way_out = f"Use `Linear{linear}(optimizer=...)`, which takes its arguments." if linear else ""
        raise bad_type("with_optimizer", "estimator", worded, estimator, way_out)
    params = {name: clone(value, safe=False) for name, value in estimator.get_params(deep=False).items()}
    if type(estimator) in counterparts and params["learning_rate_init"] == LEARNING_RATE_INIT:
        params["learning_rate_init"] = None
    network: MLPClassifier | MLPRegressor = cls(**{**params, "optimizer": optimizer})
    if hasattr(estimator, "_skl_callbacks"):
        network.set_callbacks(*estimator._skl_callbacks)
    if hasattr(estimator, "_metadata_request"):
        network._metadata_request = copy.deepcopy(estimator._metadata_request)
    return network
