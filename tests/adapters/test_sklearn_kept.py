"""What a fitted estimator keeps: coefficients and memory, and none of the data that it was fitted to."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import numpy as np
import pytest

from scirs2_adapters import get, names
from scirs2_adapters.core import SGD

from .sklearn_support import ESTIMATORS, LINEAR, data, estimator

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.usefixtures("frozen_heap"),
]
RULES = [name for name in names() if not get(name).needs_closure and get(name).sparse != "rows"]
OPTIONS: list[dict[str, Any]] = [{}, {"early_stopping": True}, {"warm_start": True}, {"optimizer": None}]
#: Every rule, and every option with one that sums over the model and one that does not.
CASES = [(name, options) for options in OPTIONS for name in (RULES if not options else ("adamw", "prodigy"))]


def arrays_of(x: object, seen: set[int]) -> list[np.ndarray]:
    """All arrays that can be reached from an object of this package or of scikit-learn, and the memory behind views."""
    if id(x) in seen or isinstance(x, (str, bytes, type)) or callable(x):
        return []
    seen.add(id(x))
    if isinstance(x, np.ndarray):
        return [x, *arrays_of(x.base, seen)]
    inside = x.values() if isinstance(x, dict) else x if isinstance(x, (list, tuple, set)) else ()
    arrays = [array for member in inside for array in arrays_of(member, seen)]
    ours = type(x).__module__.startswith(("scirs2_adapters", "sklearn"))  # a compiled kernel is of LLVM
    inner = getattr(x, "__dict__", {}) if ours else {}
    return arrays + [array for member in inner.values() for array in arrays_of(member, seen)]


@pytest.mark.parametrize(("name", "options"), CASES, ids=str)
@pytest.mark.parametrize("cls", ESTIMATORS)
def test_no_data_and_no_gradient_outlive_a_fit(name: str, cls: type, options: dict[str, Any]) -> None:
    if options.get("optimizer", name) is None and cls not in LINEAR:
        return  # scikit-learn's own solvers
    fitted = estimator(cls, **{"optimizer": name} | options)
    for partial in (False, False, True) if not options.get("early_stopping") else (False, False):
        X, y = data(cls)
        weights = {"sample_weight": np.ones(len(y))} if cls in LINEAR else {}
        refs = [weakref.ref(x) for x in (X, y, *weights.values())]
        (fitted.partial_fit if partial else fitted.fit)(X, y, **weights)
        rows = len(y)
        del X, y, weights
        gc.collect()
        assert [ref() for ref in refs] == [None] * len(refs)
        kept = arrays_of(fitted, set())
        assert len(kept) >= 2
        assert max(x.nbytes for x in kept) < rows * 8  # 90 numbers; the largest array of a parameter has 42


@pytest.mark.parametrize("cls", LINEAR)
def test_nor_a_fit_that_ends_with_an_error(cls: type) -> None:
    fitted = estimator(cls, optimizer=SGD(learning_rate=1e300))
    X, y = data(cls)
    refs = [weakref.ref(x) for x in (X, y)]
    try:
        with np.errstate(all="ignore"):
            fitted.fit(X * 1e200, y)
    except ValueError as error:
        message = str(error)
    assert "not finite" in message
    del X, y
    gc.collect()
    assert [ref() for ref in refs] == [None, None]
