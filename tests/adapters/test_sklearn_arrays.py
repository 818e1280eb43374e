"""Arrays of other frameworks as data: what scikit-learn does with them, ours do too."""

from typing import Any

import numpy as np
import pytest
from sklearn import neural_network
from sklearn.utils import check_array

from scirs2_adapters.sklearn import MLPClassifier, MLPRegressor
from tests.adapters.sklearn_support import ESTIMATORS, NETWORKS, assert_same_bits, data, estimator, weights
from tests.boundaries.support import fresh

torch = pytest.importorskip("torch", reason="its tensors are the data")
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
THEIRS = {MLPClassifier: neural_network.MLPClassifier, MLPRegressor: neural_network.MLPRegressor}
each_dtype = pytest.mark.parametrize("dtype", ["float32", "float64", "int64"])


@pytest.mark.parametrize("cls", ESTIMATORS)
@each_dtype
def test_a_tensor_is_the_array_that_scikit_learn_makes_of_it(cls: Any, dtype: str) -> None:
    X, y = data(cls)
    tensor = torch.as_tensor((4 * X).astype(dtype))
    array = check_array(tensor, dtype=(np.float64, np.float32))
    ours, same = (estimator(cls, optimizer="adamw").fit(x, y) for x in (tensor, array))
    assert_same_bits(ours, same)
    assert {w.dtype for w in weights(ours)} == {array.dtype}
    np.testing.assert_array_equal(ours.predict(tensor), same.predict(array), strict=True)


@pytest.mark.parametrize("cls", NETWORKS)
@each_dtype
def test_scikit_learns_own_network_takes_the_same(cls: Any, dtype: str) -> None:
    X, y = data(cls)
    tensor = torch.as_tensor((4 * X).astype(dtype))
    theirs = THEIRS[cls](hidden_layer_sizes=(7,), max_iter=2, random_state=0).fit(tensor, y)
    ours = cls(hidden_layer_sizes=(7,), max_iter=2, random_state=0).fit(tensor, y)
    stepped = estimator(cls, optimizer="adamw").fit(tensor, y)
    for a, b, c in zip(*map(weights, (ours, theirs, stepped)), strict=True):
        np.testing.assert_array_equal(a, b, strict=True)
        assert a.dtype == c.dtype
    np.testing.assert_array_equal(ours.predict(tensor), theirs.predict(tensor), strict=True)


@pytest.mark.parametrize("cls", ESTIMATORS)
@pytest.mark.parametrize("dtype", ["float32", "int32"])
def test_an_array_of_jax_is_the_array_that_scikit_learn_makes_of_it(cls: Any, dtype: str) -> None:
    jnp = pytest.importorskip("jax.numpy", reason="its arrays are the data")
    X, y = data(cls)
    scaled = (4 * X).astype(dtype)
    kept = np.float32 if dtype == "float32" else np.float64  # as of numpy's own integers
    ours, same = (estimator(cls, optimizer="adamw").fit(x, y) for x in (jnp.asarray(scaled), scaled))
    assert_same_bits(ours, same)
    assert {w.dtype for w in weights(ours)} == {np.dtype(kept)}
    np.testing.assert_array_equal(ours.predict(jnp.asarray(scaled)), same.predict(scaled), strict=True)


LINEAR_UNDER_DISPATCH = """
import jax.numpy as jnp, numpy as np, sklearn, torch
from sklearn.linear_model import SGDClassifier
from scirs2_adapters.sklearn import LinearClassifier, LinearRegressor
X, y, weights = np.eye(8, dtype="float32"), np.arange(8, dtype="int32") % 2, np.arange(8, dtype="float32")
for ours in (LinearClassifier(max_iter=3), LinearRegressor(max_iter=3), LinearClassifier("adamw", max_iter=3)):
    same = sklearn.clone(ours).fit(X, y, sample_weight=weights)
    with sklearn.config_context(array_api_dispatch=True):
        errors = []
        for estimator in (SGDClassifier(), ours):
            try:
                estimator.fit(torch.as_tensor(X), y)
            except TypeError as error:
                errors.append(str(error))
        assert len(errors) == 2 and errors[0] == errors[1] and not hasattr(ours, "coef_"), errors
        x, targets = jnp.asarray(X), jnp.asarray(y)
        for arrays in ((x, y, weights), (x, targets, jnp.asarray(weights)), (X, y, jnp.asarray(weights))):
            fitted = sklearn.clone(ours).fit(*arrays)
            assert type(fitted.coef_) is np.ndarray and fitted.coef_.dtype == "float32"
            np.testing.assert_array_equal(fitted.coef_, same.coef_)
            np.testing.assert_array_equal(fitted.predict(x), same.predict(X), strict=True)
            assert fitted.score(x, y) == same.score(X, y)
"""


def test_under_dispatch_linear_estimators_take_arrays_of_jax_and_refuse_tensors_as_sgd_classifier_does() -> None:
    """Arrays of JAX become numpy's, of the same dtype, wherever an estimator is given them: rows, targets, weights."""
    pytest.importorskip("jax", reason="its arrays are the data")
    fresh(LINEAR_UNDER_DISPATCH, SCIPY_ARRAY_API="1")


UNDER_DISPATCH = """
import importlib, os, sklearn
from sklearn import neural_network
from scirs2_adapters.sklearn import MLPClassifier, MLPRegressor
X, y = importlib.import_module(os.environ["ARRAYS"]).eye(8), [0, 1] * 4
for ours in (MLPClassifier, MLPRegressor):
    errors = []
    with sklearn.config_context(array_api_dispatch=True):
        for made in (getattr(neural_network, ours.__name__)(max_iter=2), ours(max_iter=2), ours(optimizer="adamw")):
            try:
                made.fit(X, y)
            except (TypeError, ValueError) as error:
                errors.append((type(error), str(error)))
    assert len(errors) == 3 and errors == errors[:1] * 3, errors
"""


@pytest.mark.parametrize("arrays", ["torch", "jax.numpy"])
def test_under_dispatch_ours_refuse_what_scikit_learns_refuse(arrays: str) -> None:
    """Its networks know nothing of other arrays; what they raise, ours raise. SciPy asks for it before it is loaded."""
    pytest.importorskip(arrays, reason="its arrays are the data")
    fresh(UNDER_DISPATCH, SCIPY_ARRAY_API="1", ARRAYS=arrays)
