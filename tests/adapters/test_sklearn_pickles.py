"""Pickles name the module that users import from, and those that version 0.1 wrote still load."""

import importlib
import pickle
import pickletools
import re
import sys

import pytest
from sklearn.base import BaseEstimator, clone

from scirs2_adapters.adapters._names import OLD_MODULES
from scirs2_adapters.sklearn import LinearClassifier, LinearRegressor, MLPClassifier, MLPRegressor
from tests.adapters.sklearn_support import ESTIMATORS, LINEAR, assert_same_bits, data, estimator
from tests.boundaries.support import fresh

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def fitted(cls: type[BaseEstimator]) -> BaseEstimator:
    return cls(max_iter=3).fit([[0.0], [1.0]] * 20, [0, 1] * 20)


def modules_named_in(pickled: bytes) -> set[str]:
    texts = [str(argument).split(" ")[0] for _, argument, _ in pickletools.genops(pickled) if argument]
    return {text for text in texts if re.fullmatch(r"scirs2_adapters[\w.]*", text)}


@pytest.mark.parametrize("cls", [LinearClassifier, LinearRegressor, MLPClassifier, MLPRegressor])
def test_a_pickle_names_the_public_module(cls: type[BaseEstimator]) -> None:
    modules = modules_named_in(pickle.dumps(fitted(cls)))
    assert {module for module in modules if ".core" not in module} == {"scirs2_adapters.sklearn"}


@pytest.mark.parametrize("cls", ESTIMATORS)
@pytest.mark.parametrize("early_stopping", [False, True])
def test_what_an_earlier_version_pickled_goes_on(cls: type[BaseEstimator], early_stopping: bool) -> None:
    """Without the parameters, and without the state of the optimizer, that were not there then."""
    X, y = data(cls)
    made = estimator(cls, optimizer="adamw", early_stopping=early_stopping, warm_start=True).fit(X, y)
    old, state = pickle.loads(pickle.dumps(made)), made.optimizer_.__getstate__()
    for name in ("warmup", "decay_biases", "learning_rate_by_layer", "validation_loss_curve_", "state_dtype"):
        vars(old).pop(name, None)
    if cls in LINEAR:
        del old.learning_rate, old.power_t
    del state["pace"], state["options"], state["_saved"]["step_count"]
    old.optimizer_.__setstate__(state)
    loaded = pickle.loads(pickle.dumps(old))
    assert loaded.get_params() == made.get_params()
    assert_same_bits(loaded.fit(X, y), made.fit(X, y))
    assert loaded.optimizer_._host.step_count == made.optimizer_._host.step_count
    assert clone(loaded).get_params() == made.get_params()


@pytest.mark.parametrize(("old", "new"), OLD_MODULES["sklearn"].items())
def test_an_old_name_finds_the_new_module(old: str, new: str) -> None:
    package = "scirs2_adapters.adapters.sklearn"
    assert importlib.import_module(f"{package}.{old}") is sys.modules[f"{package}.{new}"]


def test_what_version_0_1_pickled_loads_in_a_fresh_process() -> None:
    """The pickle names the old modules; the process that loads it has imported nothing."""
    old, adapter = pickle.dumps(fitted(LinearRegressor), protocol=0), b"cscirs2_adapters.adapters.sklearn."
    for name, module in {b"LinearRegressor": b"native", b"Units": b"paths.units", b"Stepper": b"state"}.items():
        old = old.replace(b"cscirs2_adapters.sklearn\n" + name, adapter + module + b"\n" + name)
    assert {name.rpartition("sklearn.")[2] for name in modules_named_in(old)} >= {"native", "paths.units", "state"}
    code = f"import pickle; print(type(pickle.loads({old!r})).__module__)"
    assert fresh(code).stdout.strip() == "scirs2_adapters.sklearn"
