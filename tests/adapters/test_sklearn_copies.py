"""Copies and workers: pickles continue bit for bit, workers give the same scores and start no threads."""

import copy
import io
import pickle
import threading
from collections.abc import Callable
from typing import Any

import joblib
import numpy as np
import pytest
from sklearn.model_selection import cross_val_score

from scirs2_adapters.adapters.sklearn.state import Stepper, threads
from scirs2_adapters.sklearn import AdamW, Lookahead, Muon, Prodigy
from tests.adapters.sklearn_support import ESTIMATORS, assert_same_bits, data, estimator

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
each_estimator = pytest.mark.parametrize("cls", ESTIMATORS)


def joblib_copy(made: Any) -> Any:
    file = io.BytesIO()
    joblib.dump(made, file)
    file.seek(0)
    return joblib.load(file)


def pickled(made: Any) -> Any:
    return pickle.loads(pickle.dumps(made))


COPIES = {"pickle": pickled, "joblib": joblib_copy, "deepcopy": copy.deepcopy}


@each_estimator
@pytest.mark.parametrize("how", COPIES.values(), ids=list(COPIES))
@pytest.mark.parametrize("optimizer", [AdamW(), Muon(), Prodigy(), Lookahead("lion")], ids=lambda o: o.name)
def test_a_copy_in_mid_training_goes_on_bit_for_bit(cls: Any, how: Callable[[Any], Any], optimizer: Any) -> None:
    X, y = data(cls)
    classes = {"classes": [0, 1, 2]} if "Classifier" in cls.__name__ else {}
    made = estimator(cls, optimizer=optimizer, shuffle=False)
    for _ in range(2):
        made.partial_fit(X, y, **classes)
    copied = how(made)
    for each in (made, copied, made, copied):
        each.partial_fit(X, y)
    assert_same_bits(copied, made)


@each_estimator
def test_an_unfitted_estimator_can_be_pickled(cls: Any) -> None:
    X, y = data(cls)
    made = estimator(cls, optimizer=AdamW())
    assert_same_bits(pickled(made).fit(X, y), made.fit(X, y))


@each_estimator
def test_a_pickle_holds_arrays_and_no_kernel(cls: Any) -> None:
    X, y = data(cls)
    text = pickle.dumps(estimator(cls, optimizer=AdamW()).fit(X, y))
    assert b"HostOptimizer" not in text
    assert b"execute" not in text
    assert b"ctypes" not in text


def test_memory_left_by_other_arrays_is_taken_over() -> None:
    params, grads = [np.ones((3, 2)), np.ones(2)], [np.ones((3, 2)), np.ones(2)]
    one, two = Stepper(AdamW()), Stepper(AdamW())
    others = [p.copy() for p in params]
    for _ in range(2):
        one.update_params(params, grads)
        others = [p.copy() for p in others]
        two.update_params(others, grads)
    assert one.steps == two.steps == 2
    for a, b in zip(params, others, strict=True):
        np.testing.assert_array_equal(a, b)


@each_estimator
def test_workers_give_the_same_scores(cls: Any) -> None:
    X, y = data(cls)
    made = estimator(cls, optimizer=AdamW(learning_rate=0.01))
    alone = cross_val_score(made, X, y, cv=3, n_jobs=1)
    for backend in ("loky", "threading"):
        with joblib.parallel_backend(backend, n_jobs=2):
            np.testing.assert_array_equal(cross_val_score(made, X, y, cv=3), alone)


def test_a_worker_steps_with_one_thread_and_the_main_program_as_it_is_granted() -> None:
    assert threads() is None
    for backend in ("loky", "threading"):
        granted = joblib.Parallel(n_jobs=2, backend=backend)(joblib.delayed(threads)() for _ in range(4))
        assert granted == [1] * 4


def test_an_estimator_that_moves_into_a_thread_keeps_its_memory() -> None:
    X, y = data(ESTIMATORS[0])
    stayed, moved = (estimator(ESTIMATORS[0], optimizer=AdamW()).partial_fit(X, y, classes=[0, 1, 2]) for _ in range(2))
    worker = threading.Thread(target=moved.partial_fit, args=(X, y))
    worker.start()
    worker.join()
    assert moved.optimizer_._host.threads == 1
    assert_same_bits(moved, stayed.partial_fit(X, y))
