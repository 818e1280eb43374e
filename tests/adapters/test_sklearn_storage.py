"""Memory of fewer bits under scikit-learn's estimators."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning

from scirs2_adapters.core import AdamW
from scirs2_adapters.sklearn import LinearClassifier, MLPClassifier

pytestmark = pytest.mark.filterwarnings(f"ignore::{ConvergenceWarning.__module__}.ConvergenceWarning")
X, Y = (a[:600] for a in load_digits(return_X_y=True))
X = (X / 16).astype(np.float32)
NETWORK: dict[str, Any] = {"hidden_layer_sizes": (128,), "max_iter": 8, "random_state": 0, "optimizer": AdamW(3e-3)}


def test_a_network_learns_with_8_bits_as_with_32() -> None:
    usual, narrow = (MLPClassifier(**NETWORK, state_dtype=s).fit(X, Y) for s in (None, "int8"))
    memory = narrow.optimizer_.memory()
    assert memory.state["exp_avg"] == {"int8": 64 * 128, "float32": 4 * (128 + 128 * 10 + 10)}
    assert usual.optimizer_.memory().state["exp_avg"] == {"float32": 4 * usual.optimizer_.memory().numbers}
    assert narrow.loss_ == pytest.approx(usual.loss_, rel=0.05)
    assert not np.array_equal(narrow.coefs_[0], usual.coefs_[0])


@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
def test_training_goes_on_bit_for_bit_after_a_pickle(dtype: str) -> None:
    one = MLPClassifier(**NETWORK, state_dtype=dtype).partial_fit(X, Y, classes=np.unique(Y))
    other = pickle.loads(pickle.dumps(one))
    for network in (one, other):
        network.partial_fit(X, Y)
    for a, b in zip(one.coefs_, other.coefs_, strict=True):
        np.testing.assert_array_equal(a, b)
    assert clone(one).state_dtype == dtype


def test_linear_estimators_have_it_with_their_default_too() -> None:
    fitted = LinearClassifier(state_dtype="bfloat16", max_iter=5).fit(X, Y)
    assert set(fitted.optimizer_.memory().state["exp_avg"]) == {"bfloat16"}
    assert fitted.score(X, Y) > 0.8


@pytest.mark.parametrize("cls", [MLPClassifier, LinearClassifier])
def test_what_cannot_be_is_refused(cls: Any) -> None:
    with pytest.raises(ValueError, match=rf"`{cls.__name__}\(state_dtype=...\)` must be None, one of .*'int4'"):
        cls(optimizer="adam", state_dtype="int4").fit(X, Y)
    with pytest.raises(ValueError, match=r"state_dtype=.*none of \['exp_avg'"):
        cls(optimizer="lion", state_dtype={"exp_avgs": "int8"}).fit(X, Y)
    made = cls(optimizer="lion", state_dtype="bfloat16").partial_fit(X, Y, classes=np.unique(Y))
    before = pickle.dumps(made.optimizer_.state_dict())
    made.set_params(state_dtype=None)
    with pytest.raises(ValueError, match=rf"`{cls.__name__}\(state_dtype=...\)` must stay 'bfloat16'.*from the beg"):
        made.partial_fit(X, Y)
    assert pickle.dumps(made.optimizer_.state_dict()) == before


def test_scikit_learns_own_solvers_refuse_it() -> None:
    with pytest.raises(ValueError, match=r"`MLPClassifier\(state_dtype=...\)` must be None with `optimizer=None`"):
        MLPClassifier(state_dtype="int8").fit(X, Y)
